//! Docker's own files: `containers/<id>/config.v2.json`, `hostconfig.json`, `daemon.json`.
//!
//! Field names are moby's Go field names (daemon/container/container.go, state.go). Both files are
//! replaced atomically at each change of state.

use std::collections::BTreeMap;

use bstr::BString;
use jiff::Timestamp;
use serde::Deserialize;
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::json;

/// `config.v2.json`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Full id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name with a leading slash.
    pub name: String,
    /// Image id, `sha256:...`.
    pub image: String,
    /// Creation.
    pub created: String,
    /// Storage driver.
    pub driver: String,
    /// Log file of the `json-file` and `local` drivers; empty for others.
    pub log_path: String,
    /// What the container was made from.
    pub config: Inner,
    /// Life.
    pub state: State,
    /// Addresses.
    pub network_settings: NetworkSettings,
    /// Place inside to what is mounted there.
    pub mount_points: Option<BTreeMap<String, MountPoint>>,
    /// The host's file for `/etc/hosts`; empty where the container has its own.
    pub hosts_path: String,
    /// The same for `/etc/hostname`.
    pub hostname_path: String,
    /// The same for `/etc/resolv.conf`.
    pub resolv_conf_path: String,
}

/// One value of `MountPoints` (moby daemon/volume/mounts/mounts.go).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// Name of the volume; empty for a bind.
    pub name: String,
    /// The host's directory or file; empty for memory.
    pub source: String,
}

/// The `Config` object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inner {
    /// Image reference as the user gave it.
    pub image: String,
    /// Labels; null when there are none.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The `State` object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "moby's shape")]
pub struct State {
    /// Also true while paused or restarting.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Between two runs.
    pub restarting: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Only ever stored false.
    pub removal_in_progress: bool,
    /// Init's host PID, 0 when there is none.
    pub pid: i64,
    /// Last start.
    pub started_at: String,
}

/// The `NetworkSettings` object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Network name to endpoint.
    pub networks: Option<BTreeMap<String, Endpoint>>,
}

/// One endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// IPv4 address, empty when not connected.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// IPv6 address, empty when none.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
}

/// `hostconfig.json`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `--cgroup-parent`, empty for the default.
    pub cgroup_parent: String,
}

/// `daemon.json`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Daemon {
    /// `data-root`.
    #[serde(rename = "data-root")]
    pub data_root: Option<String>,
    /// The old key for it.
    pub graph: Option<String>,
    /// `exec-root`.
    #[serde(rename = "exec-root")]
    pub exec_root: Option<String>,
}

/// Parses `config.v2.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    json::parse(bytes)
}

/// Parses `hostconfig.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_host_config(bytes: &[u8]) -> Result<HostConfig, String> {
    json::parse(bytes)
}

/// Parses `daemon.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_daemon(bytes: &[u8]) -> Result<Daemon, String> {
    json::parse(bytes)
}

/// The path of a container's file beneath a data root.
#[must_use]
pub fn container_file(id: &[u8], file: &str) -> Vec<u8> {
    [b"containers/", id, b"/", file.as_bytes()].concat()
}

/// Reads the cgroup parent that was asked for, if any.
///
/// # Errors
/// The read's.
pub fn cgroup_parent(root: &Root, id: &[u8]) -> Result<Option<BString>, ReadError> {
    let config: HostConfig = json::read(root, &container_file(id, "hostconfig.json"))?;
    Ok((!config.cgroup_parent.is_empty()).then(|| config.cgroup_parent.into()))
}

/// Milliseconds since 1970, cut down; `None` for Go's zero time and for what is no time.
#[must_use]
pub fn time(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    let ms = i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).ok()?;
    (!text.starts_with("0001-01-01T00:00:00")).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::{parse_config, parse_daemon, parse_host_config, time};

    #[test]
    fn reads_what_docker_writes() {
        let text = br#"{"ID":"ab","Name":"/web","Image":"sha256:cd","Created":"2026-01-02T03:04:05.678912345Z",
          "Driver":"overlay2","LogPath":"/l","Config":{"Image":"app:1","Labels":{"a":"b"}},"RestartCount":0,
          "State":{"Running":true,"Paused":false,"Pid":77,"StartedAt":"0001-01-01T00:00:00Z","Health":null},
          "NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2","IPAMConfig":null}}}}"#;
        let config = parse_config(text).unwrap();
        assert_eq!(
            (config.id.as_str(), config.name.as_str(), config.state.pid),
            ("ab", "/web", 77)
        );
        assert_eq!(config.config.labels.unwrap()["a"], "b");
        assert_eq!(config.network_settings.networks.unwrap()["bridge"].ip_address, "172.17.0.2");
        assert_eq!(time(&config.created), Some(1_767_323_045_678));
        assert_eq!(time(&config.state.started_at), None);
    }

    #[test]
    fn absent_objects_and_null_labels_are_defaults() {
        assert!(parse_config(br#"{"Config":{"Labels":null}}"#).unwrap().config.labels.is_none());
        assert_eq!(parse_host_config(b"{}").unwrap().cgroup_parent, "");
        let daemon = parse_daemon(br#"{"data-root":"/srv/docker","debug":true}"#).unwrap();
        assert_eq!(daemon.data_root.as_deref(), Some("/srv/docker"));
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(parse_config(b"").unwrap_err(), "empty");
        assert!(parse_config(b"{\"ID\":").unwrap_err().starts_with("JSON cut short"));
        assert!(parse_config(b"x").unwrap_err().starts_with("not JSON"));
        assert!(parse_config(b"{\"ID\":\"\xff\"}").is_err());
        assert!(parse_config(br#"{"ID":7}"#).unwrap_err().starts_with("JSON of another shape"));
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(parse_config(&deep).is_err());
    }

    #[test]
    fn times_are_cut_and_not_rounded() {
        assert_eq!(time("1970-01-01T00:00:00.0019Z"), Some(1));
        assert_eq!(time("1969-12-31T23:59:59.9989Z"), Some(-2));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(time("yesterday"), None);
    }
}
