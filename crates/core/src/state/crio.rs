//! CRI-O's own files: `config.json` and `state.json` in a container's `userdata`, `crio.conf`.
//!
//! Keys of the annotations: cri-o internal/annotations/annotations.go; the state:
//! internal/oci/container.go; the configuration: pkg/config/config.go. The files of a container are
//! written by root and replaced at changes of state.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{json, toml};

/// The OCI configuration, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// CRI-O's own and those that the pod and the kubelet asked for.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The part for Linux.
    pub linux: Option<Linux>,
}

/// The `linux` object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// A path, or `slice:prefix:name` for systemd's driver.
    pub cgroups_path: String,
}

impl Spec {
    /// The value of CRI-O's own annotation of this name, if it is there and not empty.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<&str> {
        self.get(&format!("io.kubernetes.cri-o.{name}"))
    }

    /// Whether Podman wrote it, which gives the containers of `kube play` CRI-O's annotations too, and any
    /// that its user asks for (podman libpod/define/annotations.go).
    #[must_use]
    pub fn is_podmans(&self) -> bool {
        let its_own = |key: &String| key.starts_with("io.podman.annotations.");
        self.get("io.container.manager") == Some("libpod")
            || self.annotations.iter().flatten().any(|(key, _)| its_own(key))
    }

    /// The value of an annotation, if it is there and not empty.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }
}

/// `state.json`, as far as it is used: the OCI state and what CRI-O adds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// `created`, `running`, `paused` or `stopped`.
    pub status: String,
    /// Init's PID; 0 once it ended.
    pub pid: i64,
    /// Last start.
    pub started: String,
    /// What its OCI runtime was given: its directory in the run root.
    pub bundle: String,
    /// Init's PID as it was when it began.
    pub init_pid: i64,
    /// When init began: field 22 of its stat as a text; releases before 1.20 wrote a number of seconds.
    pub init_start_time: serde_json::Value,
}

impl State {
    /// When init began, ticks since boot, if it is told in ticks.
    #[must_use]
    pub fn start_ticks(&self) -> Option<u64> {
        self.init_start_time.as_str()?.parse().ok()
    }
}

/// Metadata that CRI-O keeps with a container in the store's table (cri-o
/// internal/storage/runtime.go).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Metadata {
    /// Name of the pod's sandbox.
    pub pod_name: String,
    /// Id of the pod's sandbox.
    pub pod_id: String,
    /// The name by which the CRI knows the container, or the pod.
    pub metadata_name: String,
    /// How many of this name were in the pod before; left out when 0.
    pub attempt: u32,
}

/// `crio.conf`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The only table.
    pub crio: Places,
}

/// The places in [`Config`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Places {
    /// Graph root.
    pub root: Option<String>,
    /// Run root.
    pub runroot: Option<String>,
}

/// Parses `config.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, String> {
    json::parse(bytes)
}

/// Parses `state.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_state(bytes: &[u8]) -> Result<State, String> {
    json::parse(bytes)
}

/// Parses the metadata of a container in the store's table; `None` for what another engine wrote.
#[must_use]
pub fn parse_metadata(text: &str) -> Option<Metadata> {
    let metadata: Metadata = json::parse(text.as_bytes()).ok()?;
    (!metadata.pod_id.is_empty() && !metadata.pod_name.is_empty()).then_some(metadata)
}

/// Parses the labels in an annotation: an object of texts.
///
/// # Errors
/// What is wrong with it.
pub fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let labels: Option<BTreeMap<String, String>> = json::parse(text.as_bytes())?;
    Ok(labels.unwrap_or_default())
}

/// Parses `crio.conf`, or a file of `crio.conf.d`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    toml::parse(bytes)
}

#[cfg(test)]
mod tests {
    use super::{parse_config, parse_labels, parse_metadata, parse_spec, parse_state};

    #[test]
    fn a_container_as_it_is_written() {
        let spec = br#"{"ociVersion":"1.2.0","annotations":{"io.kubernetes.cri-o.Name":"k8s_a",
            "io.kubernetes.cri-o.ImageName":"","x":"\u00e9\n"},
            "linux":{"cgroupsPath":"a.slice:crio:b","resources":{}}}"#;
        let spec = parse_spec(spec).unwrap();
        assert_eq!((spec.own("Name"), spec.own("ImageName")), (Some("k8s_a"), None));
        assert_eq!((spec.get("x"), spec.own("x")), (Some("\u{e9}\n"), None));
        assert_eq!(spec.linux.unwrap().cgroups_path, "a.slice:crio:b");
        assert_eq!(parse_spec(b"{}").unwrap().own("Name"), None);
    }

    #[test]
    fn what_podman_writes_is_none_of_it() {
        let of = |manager: &str, more: &str| {
            let text = format!(
                r#"{{"annotations":{{"io.container.manager":"{manager}",
                "io.kubernetes.cri-o.ContainerType":"container"{more}}}}}"#
            );
            parse_spec(text.as_bytes()).unwrap().is_podmans()
        };
        assert!(of("libpod", "") && of("cri-o", r#","io.podman.annotations.init":"FALSE""#));
        assert!(!of("cri-o", "") && !of("", r#","io.podman.annotations":"x""#));
    }

    #[test]
    fn both_forms_of_the_start_are_read_and_one_is_ticks() {
        let state = br#"{"status":"running","pid":77,"initPid":77,"initStartTime":"98765",
            "started":"2026-01-02T03:04:05Z","exitCode":null}"#;
        let state = parse_state(state).unwrap();
        assert_eq!((state.pid, state.init_pid, state.start_ticks()), (77, 77, Some(98765)));
        let old = parse_state(br#"{"initStartTime":1577934245}"#).unwrap();
        assert_eq!(old.start_ticks(), None);
        assert_eq!(parse_state(b"{}").unwrap().start_ticks(), None);
    }

    #[test]
    fn only_what_crio_wrote_is_its_own() {
        let podman = r#"{"image-name":"app:1","image-id":"cd","name":"web","created-at":1}"#;
        assert!(parse_metadata(podman).is_none() && parse_metadata("").is_none());
        let crio = r#"{"pod-name":"k8s_p_ns_u_0","pod-id":"ab","metadata-name":"app","pod":true}"#;
        let first = parse_metadata(crio).unwrap();
        assert_eq!((first.metadata_name.as_str(), first.attempt), ("app", 0));
        let third = crio.replace("true", r#"false,"attempt":2"#);
        assert_eq!(parse_metadata(&third).unwrap().attempt, 2);
    }

    #[test]
    fn labels_and_places() {
        assert_eq!(parse_labels(r#"{"a":"b"}"#).unwrap()["a"], "b");
        assert!(parse_labels("null").unwrap().is_empty());
        assert!(parse_labels(r#"{"a":1}"#).is_err());
        let config = b"[crio]\nroot = \"/srv/c\"\n[crio.runtime]\ndefault_runtime = \"crun\"\n";
        let crio = parse_config(config).unwrap().crio;
        assert_eq!((crio.root.as_deref(), crio.runroot), (Some("/srv/c"), None));
    }
}
