//! What the CRI plugin keeps of a pod's sandbox or container: a JSON extension of containerd's record.
//!
//! Shapes are those of containerd (internal/cri/store/container/metadata.go, sandbox/metadata.go);
//! `Config` is the kubelet's request (CRI's api.proto, by its JSON names).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::state::json;

/// The extension of a container of a pod.
pub const CONTAINER: &str = "io.cri-containerd.container.metadata";
/// The extension of a pod's sandbox.
pub const SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

/// The version that is understood.
const VERSION: &str = "v1";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<T> {
    version: String,
    metadata: T,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// Full id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The CRI plugin's name, `web_demo-abc_shop_<uid>_0`.
    pub name: String,
    /// Id of the pod's sandbox.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// What was asked for.
    pub config: ContainerConfig,
    /// Id of the image, `sha256:...`.
    pub image_ref: String,
    /// Log file.
    pub log_path: String,
}

/// The request for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Its name in the pod and how often it was tried.
    pub metadata: ContainerName,
    /// The image as it was asked for.
    pub image: Image,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The name of a container in its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerName {
    /// Name.
    pub name: String,
    /// Restarts so far.
    pub attempt: u32,
}

/// An image in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Name or id.
    pub image: String,
    /// The pod's own word for it, where the kubelet gives it.
    pub user_specified_image: String,
}

/// A pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Sandbox {
    /// Full id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The CRI plugin's name, `demo-abc_shop_<uid>_0`.
    pub name: String,
    /// What was asked for.
    pub config: SandboxConfig,
    /// Where the pod's network namespace is mounted; empty on the host's network.
    #[serde(rename = "NetNSPath")]
    pub net_ns_path: String,
    /// Runtime handler; empty for the default.
    pub runtime_handler: String,
}

/// The request for a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// The pod.
    pub metadata: PodName,
    /// Where the logs of its containers are.
    pub log_directory: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The name of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodName {
    /// Name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// Kubernetes' namespace.
    pub namespace: String,
    /// Sandboxes before this one.
    pub attempt: u32,
}

/// Parses a container's extension.
///
/// # Errors
/// What is wrong with it.
pub fn parse_container(bytes: &[u8]) -> Result<Container, String> {
    current(json::parse(bytes)?)
}

/// Parses a sandbox's extension.
///
/// # Errors
/// What is wrong with it.
pub fn parse_sandbox(bytes: &[u8]) -> Result<Sandbox, String> {
    current(json::parse(bytes)?)
}

fn current<T>(read: Versioned<T>) -> Result<T, String> {
    if read.version == VERSION {
        return Ok(read.metadata);
    }
    Err(format!("CRI metadata of version {}, not {VERSION}", read.version))
}

#[cfg(test)]
mod tests {
    use super::{parse_container, parse_sandbox};

    #[test]
    fn reads_what_containerd_writes() {
        let text = br#"{"Version":"v1","Metadata":{"ID":"c1","Name":"web_demo_shop_u1_2","SandboxID":"s1",
          "Config":{"metadata":{"name":"web","attempt":2},"image":{"image":"sha256:aa"},"command":["x"],
          "labels":{"io.kubernetes.container.name":"web"},"annotations":null,"linux":{}},
          "ImageRef":"sha256:aa","LogPath":"/var/log/pods/x/web/2.log","StopSignal":"SIGTERM"}}"#;
        let read = parse_container(text).unwrap();
        assert_eq!((read.id.as_str(), read.sandbox_id.as_str()), ("c1", "s1"));
        assert_eq!((read.config.metadata.name.as_str(), read.config.metadata.attempt), ("web", 2));
        assert_eq!(read.config.labels.unwrap()["io.kubernetes.container.name"], "web");
        assert_eq!(read.image_ref, "sha256:aa");
        assert_eq!(read.log_path, "/var/log/pods/x/web/2.log");
    }

    #[test]
    fn a_sandbox_names_the_pod() {
        let text =
            br#"{"Version":"v1","Metadata":{"ID":"s1","Name":"demo_shop_u1_0","Config":{"metadata":
          {"name":"demo","uid":"u1","namespace":"shop","attempt":1},"log_directory":"/l"},
          "NetNSPath":"/var/run/netns/cni-1","IP":"10.0.0.1","RuntimeHandler":"runsc"}}"#;
        let read = parse_sandbox(text).unwrap();
        let pod = &read.config.metadata;
        assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("demo", "shop"));
        assert_eq!((pod.uid.as_str(), pod.attempt), ("u1", 1));
        assert_eq!(
            (read.net_ns_path.as_str(), read.runtime_handler.as_str()),
            ("/var/run/netns/cni-1", "runsc")
        );
        assert_eq!(read.config.log_directory, "/l");
    }

    #[test]
    fn other_versions_and_damage_are_named() {
        let why = |text: &[u8]| parse_container(text).unwrap_err();
        assert_eq!(why(br#"{"Version":"v2","Metadata":{}}"#), "CRI metadata of version v2, not v1");
        assert!(why(b"{}").starts_with("JSON of another shape"));
        assert_eq!(why(b""), "empty");
    }
}
