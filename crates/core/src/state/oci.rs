//! What runc, crun and youki keep of a container that they run: `<root>/<id>/state.json` (runc
//! libcontainer/container.go, container_linux.go; youki crates/libcontainer/src/container/state.rs) and
//! `<root>/<id>/status` (crun src/libcrun/status.c). youki has the cgroup in a file of its own,
//! `youki_config.json` (crates/libcontainer/src/config.rs).

use std::collections::BTreeMap;

use bstr::BString;
use serde::Deserialize;

use super::docker::time;
use super::json;

/// What the three have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, where the file has it.
    pub id: Option<BString>,
    /// PID of its init process; 0 when there is none.
    pub pid: u32,
    /// When that began, ticks since boot.
    pub pid_start: Option<u64>,
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// The directory of its root.
    pub rootfs: Option<BString>,
    /// Annotations of its configuration.
    pub annotations: Vec<(BString, BString)>,
    /// Its cgroups, each a path from its hierarchy's root on.
    pub cgroups: Vec<BString>,
    /// The runtime's own word for its state.
    pub status: Option<&'static str>,
    /// Whether systemd makes its cgroup, where the file says so.
    pub by_systemd: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runc {
    id: String,
    init_process_pid: u32,
    init_process_start: u64,
    created: String,
    cgroup_paths: BTreeMap<String, String>,
    config: RuncConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuncConfig {
    rootfs: String,
    labels: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Crun {
    pid: u32,
    process_start_time: u64,
    cgroup_path: String,
    rootfs: String,
    bundle: String,
    created: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Youki {
    #[serde(rename = "useSystemd")]
    by_systemd: Option<bool>,
    id: String,
    status: String,
    pid: Option<u32>,
    created: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The words that youki has for a container's state (crates/libcontainer/src/container/state.rs).
const WORDS: [&str; 5] = ["creating", "created", "running", "stopped", "paused"];
/// Where the hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

fn text(text: String) -> Option<BString> {
    Some(BString::from(text)).filter(|t| !t.is_empty())
}

/// Parses runc's state.
///
/// # Errors
/// What is wrong with it.
pub fn runc(bytes: &[u8]) -> Result<Container, String> {
    let read: Runc = json::parse(bytes)?;
    let label = |label: &String| {
        let (key, value) = label.split_once('=')?;
        (key != "bundle").then(|| (key.into(), value.into()))
    };
    let mut cgroups: Vec<BString> =
        read.cgroup_paths.iter().filter_map(|(key, path)| below(key, path)).collect();
    cgroups.sort();
    cgroups.dedup();
    Ok(Container {
        id: text(read.id),
        pid: read.init_process_pid,
        pid_start: Some(read.init_process_start).filter(|start| *start > 0),
        created: time(&read.created),
        rootfs: text(read.config.rootfs),
        annotations: read.config.labels.iter().flatten().filter_map(label).collect(),
        cgroups,
        ..Container::default()
    })
}

/// The path in its hierarchy; `key` is a controller of v1, or empty.
fn below(key: &str, path: &str) -> Option<BString> {
    let rest = path.strip_prefix(CGROUPS).filter(|rest| rest.starts_with('/'))?;
    let first = match key {
        // Beside v1's, v2 has a directory of its own.
        "" => rest.strip_prefix("/unified").filter(|r| r.starts_with('/')).unwrap_or(rest),
        _ => rest[1..].find('/').map_or("", |at| &rest[at + 1..]),
    };
    Some(first.into()).filter(|path: &BString| path.len() > 1)
}

/// Parses crun's status.
///
/// # Errors
/// What is wrong with it.
pub fn crun(bytes: &[u8]) -> Result<Container, String> {
    let read: Crun = json::parse(bytes)?;
    let rootfs = match (read.rootfs.starts_with('/'), read.bundle.starts_with('/')) {
        (true, _) => text(read.rootfs),
        (false, true) => text(format!("{}/{}", read.bundle, read.rootfs)),
        (false, false) => None,
    };
    // In the scope that systemd made there is a cgroup for the container.
    let own = BString::from(read.cgroup_path);
    let scope = own.strip_suffix(b"/container").filter(|s| s.ends_with(b".scope"));
    let mut cgroups: Vec<BString> = scope.map(BString::from).into_iter().collect();
    cgroups.push(own);
    cgroups.retain(|path| path.starts_with(b"/") && path.len() > 1);
    Ok(Container {
        pid: read.pid,
        pid_start: Some(read.process_start_time).filter(|start| *start > 0),
        created: time(&read.created),
        rootfs,
        cgroups,
        ..Container::default()
    })
}

/// Parses youki's state.
///
/// # Errors
/// What is wrong with it.
pub fn youki(bytes: &[u8]) -> Result<Container, String> {
    let read: Youki = json::parse(bytes)?;
    let word = read.status.to_ascii_lowercase();
    let own = text(read.id);
    let cgroup = own.as_ref().map(|id| [b"/:youki:", id.as_slice()].concat().into());
    Ok(Container {
        pid: read.pid.unwrap_or_default(),
        created: read.created.as_deref().and_then(time),
        annotations: (read.annotations.into_iter().flatten())
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        cgroups: cgroup.into_iter().collect(),
        status: WORDS.into_iter().find(|known| *known == word),
        by_systemd: read.by_systemd,
        id: own,
        ..Container::default()
    })
}

/// Parses youki's configuration of a container: the cgroup that was asked for, a path or `slice:prefix:name`.
///
/// # Errors
/// What is wrong with it.
pub fn youki_cgroup(bytes: &[u8]) -> Result<BString, String> {
    #[derive(Deserialize)]
    struct Config {
        cgroup_path: String,
    }
    json::parse(bytes).map(|read: Config| read.cgroup_path.into())
}

#[cfg(test)]
mod tests {
    use super::{crun, runc, youki, youki_cgroup};

    #[test]
    fn what_runc_writes() {
        let read = runc(
            br#"{"id":"web","init_process_pid":736,"init_process_start":3670243,
                "created":"2026-11-26T01:38:05.065105731Z","cgroup_paths":
                {"":"/sys/fs/cgroup/unified/web","cpu":"/sys/fs/cgroup/cpu/web",
                 "memory":"/sys/fs/cgroup/memory/a/web"},
                "config":{"rootfs":"/b/rootfs","labels":["a=b","bundle=/b"]}}"#,
        )
        .unwrap();
        assert_eq!((read.pid, read.pid_start), (736, Some(3_670_243)));
        assert_eq!(read.cgroups, ["/a/web", "/web"]);
        assert_eq!(read.annotations, [("a".into(), "b".into())]);
        assert_eq!(read.rootfs.unwrap(), "/b/rootfs");
        let v2 = runc(br#"{"id":"x","cgroup_paths":{"":"/sys/fs/cgroup/user.slice/x"}}"#).unwrap();
        assert_eq!(v2.cgroups, ["/user.slice/x"]);
        let odd = runc(br#"{"cgroup_paths":{"":"/sys/fs/cgroupx","a":"/sys/fs/cgroup/cpu"}}"#);
        assert!(odd.unwrap().cgroups.is_empty());
        assert!(runc(b"{").is_err());
    }

    #[test]
    fn what_crun_writes() {
        let read = crun(
            br#"{"pid":2118,"process-start-time":3767610,"cgroup-path":"/web","scope":"",
                "rootfs":"rootfs","bundle":"/b","created":"2026-11-26T01:54:18.753480Z"}"#,
        )
        .unwrap();
        assert_eq!((read.pid, read.pid_start), (2118, Some(3_767_610)));
        assert_eq!(read.rootfs.unwrap(), "/b/rootfs");
        assert_eq!(read.cgroups, ["/web"]);
        let scope = br#"{"cgroup-path":"/system.slice/crun-web.scope/container"}"#;
        let own = "/system.slice/crun-web.scope";
        assert_eq!(crun(scope).unwrap().cgroups, [own, &format!("{own}/container")]);
        assert!(crun(br#"{"cgroup-path":"/"}"#).unwrap().cgroups.is_empty());
        let odd = crun(br#"{"cgroup-path":"a.slice/crun-web.scope/container"}"#);
        assert!(odd.unwrap().cgroups.is_empty());
    }

    #[test]
    fn what_youki_writes() {
        let read = youki(
            br#"{"ociVersion":"v1.0.2","id":"web","status":"Running","pid":7,"bundle":"/b",
                "annotations":{"a":"b"},"created":"2026-01-02T03:04:05Z","creator":0}"#,
        )
        .unwrap();
        assert_eq!((read.pid, read.status), (7, Some("running")));
        assert_eq!((read.cgroups, read.by_systemd), (vec!["/:youki:web".into()], None));
        assert_eq!(youki(br#"{"id":"a","useSystemd":true}"#).unwrap().by_systemd, Some(true));
        let config = br#"{"hooks":null,"cgroup_path":":youki:web"}"#;
        assert_eq!(youki_cgroup(config).unwrap(), ":youki:web");
        assert!(youki_cgroup(b"{}").is_err());
        assert_eq!(youki(br#"{"id":"a","status":"odd","pid":null}"#).unwrap().status, None);
    }
}
