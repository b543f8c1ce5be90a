//! Task bundles: `<state>/io.containerd.runtime.v2.task/<namespace>/<id>/`, there as long as the task
//! is, whether containerd runs or not.
//!
//! Sources: containerd core/runtime/v2/bundle.go (the directory, `config.json`, `work`; a name that
//! begins with a dot is being deleted), cmd/containerd-shim-runc-v2/process (`init.pid`),
//! pkg/identifiers (what an id may be).

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};
use serde::Deserialize;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError, parse};

use crate::state::json;

/// Where bundles are, beneath both trees; that of what lasts has only working directories.
pub const TASKS: &str = "io.containerd.runtime.v2.task";
/// Namespaces, and bundles of one, that are taken.
const MOST: usize = 200_000;
/// Longest id or namespace.
const LONGEST: usize = 76;

/// `config.json`, the OCI configuration, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// What clients wrote down about it.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What only Linux has.
    pub linux: Option<Linux>,
}

/// The `linux` object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// The cgroup that was asked for: a path, or `slice:prefix:name`.
    pub cgroups_path: Option<String>,
}

impl Spec {
    /// An annotation that says something.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<BString> {
        let text = self.annotations.as_ref()?.get(key)?;
        (!text.is_empty()).then(|| text.as_str().into())
    }

    /// The cgroup that was asked for; empty when none was.
    #[must_use]
    pub fn cgroups_path(&self) -> &[u8] {
        let path = self.linux.as_ref().and_then(|l| l.cgroups_path.as_ref());
        path.map_or(b"", |p| p.as_bytes())
    }
}

/// Parses `config.json`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, String> {
    json::parse(bytes)
}

/// Parses `init.pid`: decimal, of a process there can be.
///
/// # Errors
/// What is wrong with it.
pub fn parse_pid(bytes: &[u8]) -> Result<u32, String> {
    let pid = parse::decimal32(bytes.trim_ascii()).filter(|pid| *pid > 0);
    pid.ok_or_else(|| "not a PID".into())
}

/// Whether the text can be an id or a namespace of containerd's: letters and digits, with single
/// `.`, `_` or `-` between them.
#[must_use]
pub fn is_identifier(text: &[u8]) -> bool {
    let sound = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_alphanumeric);
    text.len() <= LONGEST && text.split(|b| matches!(b, b'.' | b'_' | b'-')).all(sound)
}

/// The state directory that a working directory or link of this text is in: a bundle's path without
/// what follows the state directory, with namespace and id.
#[must_use]
pub fn tree_of(path: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (rest, id) = path.rsplit_once_str("/")?;
    let (rest, namespace) = rest.rsplit_once_str("/")?;
    let tree = rest.strip_suffix(TASKS.as_bytes())?.strip_suffix(b"/")?;
    let sound = is_identifier(id) && is_identifier(namespace) && tree.starts_with(b"/");
    sound.then_some((tree, namespace, id))
}

/// The namespaces that have bundles.
///
/// # Errors
/// When they can't be listed.
pub fn namespaces(run: &Root) -> Result<Vec<BString>, ReadError> {
    let entries = run.list(TASKS.as_bytes(), MOST)?;
    Ok(entries.into_iter().map(|e| e.name).filter(|n| is_identifier(n)).collect())
}

/// The ids of a namespace's bundles.
///
/// # Errors
/// When they can't be listed.
pub fn ids(run: &Root, namespace: &[u8]) -> Result<Vec<BString>, ReadError> {
    let dir = [TASKS.as_bytes(), b"/", namespace].concat();
    let entries = run.list(&dir, MOST)?;
    Ok(entries.into_iter().map(|e| e.name).filter(|n| is_identifier(n)).collect())
}

/// The path of a bundle's file beneath the state directory; of the bundle for an empty name.
#[must_use]
pub fn file(namespace: &[u8], id: &[u8], name: &str) -> Vec<u8> {
    let mut path = [TASKS.as_bytes(), b"/", namespace, b"/", id].concat();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    path
}

/// Whether there is such a bundle.
///
/// # Errors
/// When it can't be looked at.
pub fn is_there(run: &Root, namespace: &[u8], id: &[u8]) -> Result<bool, ReadError> {
    if !is_identifier(namespace) || !is_identifier(id) {
        return Ok(false);
    }
    match run.look(&file(namespace, id, "")) {
        Ok(look) => Ok(look.is_dir()),
        Err(e) if e.class == Class::Gone => Ok(false),
        Err(e) => Err(e),
    }
}

/// The bundle's OCI configuration.
///
/// # Errors
/// `gone` when there is no such bundle, or no more; the read's.
pub fn spec(run: &Root, namespace: &[u8], id: &[u8]) -> Result<Spec, ReadError> {
    let rel = file(namespace, id, "config.json");
    let bytes = run.read_of_admin(&rel, json::CAP)?;
    parse_spec(&bytes).map_err(|why| ReadError::new(run.join(&rel), Class::Malformed, why))
}

/// The PID of the container's first process as its shim wrote it down; `None` when it has written
/// none, or nothing that is one.
#[must_use]
pub fn init_pid(run: &Root, namespace: &[u8], id: &[u8]) -> Option<u32> {
    let bytes = run.read_of_admin(&file(namespace, id, "init.pid"), 64).ok()?;
    parse_pid(&bytes).ok()
}

/// The tree of what lasts, as a bundle's `work` link names it: a text, not followed.
#[must_use]
pub fn root_of(run: &Root) -> Option<BString> {
    for namespace in namespaces(run).unwrap_or_default() {
        let Some(id) = ids(run, &namespace).ok().and_then(|ids| ids.into_iter().next()) else {
            continue;
        };
        let Ok(text) = run.read_link(&file(&namespace, &id, "work")) else { continue };
        if let Some((tree, ..)) = tree_of(&text) {
            return Some(tree.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{is_identifier, parse_pid, parse_spec, tree_of};

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let spec = parse_spec(
            br#"{"ociVersion":"9.9","process":{"args":["x"]},"root":{"path":"rootfs"},"new":[1],
              "annotations":{"io.kubernetes.cri.sandbox-name":"web","e":""},
              "linux":{"cgroupsPath":"/default/x","namespaces":[{"type":"pid"}]}}"#,
        )
        .unwrap();
        assert_eq!(spec.cgroups_path(), b"/default/x");
        assert_eq!(spec.annotation("io.kubernetes.cri.sandbox-name").unwrap(), "web");
        assert_eq!([spec.annotation("e"), spec.annotation("none")], [None, None]);
        let bare = parse_spec(b"{}").unwrap();
        assert_eq!((bare.cgroups_path(), bare.annotation("e")), (&b""[..], None));
        assert_eq!(parse_spec(br#"{"annotations":null,"linux":null}"#).unwrap(), bare);
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(parse_spec(b"").unwrap_err(), "empty");
        assert!(parse_spec(b"{\"linux\":{").unwrap_err().starts_with("JSON cut short"));
        assert!(parse_spec(br#"{"annotations":{"a":1}}"#).unwrap_err().contains("another shape"));
        for none in ["", "0", "-1", "x", "1 2", "99999999999"] {
            assert!(parse_pid(none.as_bytes()).is_err(), "{none}");
        }
        assert_eq!(parse_pid(b"4761\n"), Ok(4761));
    }

    #[test]
    fn identifiers_are_containerds() {
        for good in ["x", "lab-ctr", "k8s.io", "a.b_c-9", &"a".repeat(76)] {
            assert!(is_identifier(good.as_bytes()), "{good}");
        }
        for bad in ["", ".x", "x.", "a--b", "a/b", "a:b", "..", "a b", &"a".repeat(77)] {
            assert!(!is_identifier(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_bundles_path_tells_the_tree() {
        let of = |text: &'static str| tree_of(text.as_bytes());
        assert_eq!(
            of("/run/containerd/io.containerd.runtime.v2.task/default/x"),
            Some((&b"/run/containerd"[..], &b"default"[..], &b"x"[..]))
        );
        for none in [
            "/run/containerd/io.containerd.runtime.v2.task/default/.x",
            "/run/containerd/io.containerd.runtime.v2.task/x",
            "relative/io.containerd.runtime.v2.task/default/x",
            "/xio.containerd.runtime.v2.task/default/x",
            "/",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
