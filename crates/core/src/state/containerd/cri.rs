//! What containerd's CRI plugin keeps outside the database:
//! `<root>/io.containerd.grpc.v1.cri/containers/<id>/status`, replaced atomically, and a directory for
//! each sandbox.
//!
//! Source: containerd internal/cri/store/container/status.go.

use bstr::BString;
use serde::Deserialize;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use crate::model::ContainerState;
use crate::state::json;

const DIR: &str = "io.containerd.grpc.v1.cri";
/// Containers or sandboxes that are taken.
const MOST: usize = 200_000;

/// The `status` file, as far as it is used. Times are nanoseconds since 1970, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// Init's host PID, 0 when there is none.
    pub pid: u32,
    /// Creation.
    pub created_at: i64,
    /// Start.
    pub started_at: i64,
    /// End.
    pub finished_at: i64,
}

impl Status {
    /// CRI's word for the state, and ours; as the plugin works it out of the times.
    #[must_use]
    pub fn words(&self) -> (&'static str, ContainerState) {
        match (self.created_at, self.started_at, self.finished_at) {
            (_, _, end) if end != 0 => ("CONTAINER_EXITED", ContainerState::Exited),
            (_, start, _) if start != 0 => ("CONTAINER_RUNNING", ContainerState::Running),
            (created, ..) if created != 0 => ("CONTAINER_CREATED", ContainerState::Created),
            _ => ("CONTAINER_UNKNOWN", ContainerState::Unknown),
        }
    }
}

/// Parses the `status` file.
///
/// # Errors
/// What is wrong with it.
pub fn parse_status(bytes: &[u8]) -> Result<Status, String> {
    json::parse(bytes)
}

/// Nanoseconds since 1970 in milliseconds, cut down; `None` for never.
#[must_use]
pub fn time(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != 0).then(|| nanoseconds.div_euclid(1_000_000))
}

/// The path of a container's status beneath the tree of what lasts.
#[must_use]
pub fn status_file(id: &[u8]) -> Vec<u8> {
    [DIR.as_bytes(), b"/containers/", id, b"/status"].concat()
}

/// A container's status.
///
/// # Errors
/// `gone` when there is no such container; the read's.
pub fn status(root: &Root, id: &[u8]) -> Result<Status, ReadError> {
    json::read(root, &status_file(id))
}

/// Whether there is a sandbox with this id, running or not.
#[must_use]
pub fn has_sandbox(root: &Root, id: &[u8]) -> bool {
    root.has_dir(&sandbox_dir(id))
}

/// The path of a sandbox's directory beneath the tree of what lasts.
#[must_use]
pub fn sandbox_dir(id: &[u8]) -> Vec<u8> {
    [DIR.as_bytes(), b"/sandboxes/", id].concat()
}

/// The ids of all containers and sandboxes, running or not.
///
/// # Errors
/// When they can't be listed.
pub fn ids(root: &Root) -> Result<Vec<BString>, ReadError> {
    let mut ids = Vec::new();
    for kind in ["containers", "sandboxes"] {
        match root.list(format!("{DIR}/{kind}").as_bytes(), MOST) {
            Ok(entries) => ids.extend(entries.into_iter().map(|e| e.name)),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => return Err(e),
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::{parse_status, time};
    use crate::model::ContainerState;

    #[test]
    fn states_are_told_by_the_times() {
        let words = |times: &str| {
            parse_status(format!(r#"{{"Version":"v1","Pid":7,{times}}}"#).as_bytes())
                .unwrap()
                .words()
        };
        let running = words(r#""CreatedAt":1,"StartedAt":2,"FinishedAt":0,"Resources":null"#);
        assert_eq!(running, ("CONTAINER_RUNNING", ContainerState::Running));
        let exited = words(r#""CreatedAt":1,"StartedAt":2,"FinishedAt":3,"ExitCode":137"#);
        assert_eq!(exited, ("CONTAINER_EXITED", ContainerState::Exited));
        assert_eq!(words(r#""CreatedAt":1"#).1, ContainerState::Created);
        assert_eq!(words(r#""New":{"a":[]}"#).1, ContainerState::Unknown);
    }

    #[test]
    fn damage_is_named_and_times_are_cut() {
        assert_eq!(parse_status(b"").unwrap_err(), "empty");
        assert!(parse_status(br#"{"Pid":-1}"#).unwrap_err().contains("another shape"));
        assert!(parse_status(br#"{"Pid":1"#).unwrap_err().starts_with("JSON cut short"));
        assert_eq!(time(1_767_323_045_678_912_345), Some(1_767_323_045_678));
        assert_eq!([time(0), time(-1)], [None, Some(-1)]);
    }
}
