//! The state that runsc keeps of a container: `<id>_sandbox:<sandbox id>.state` (gvisor
//! runsc/container/state_file.go, container.go, runsc/sandbox/sandbox.go).

use serde::Deserialize;

use super::json;

/// A state file, as far as it is used.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// The container.
    pub id: String,
    /// PID of the process that serves its files; 0 when there is none.
    pub gofer_pid: i64,
    /// The sandbox that runs it; null once that ended.
    pub sandbox: Option<Sandbox>,
}

/// The `sandbox` object.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// The id of the first container in it.
    pub id: String,
    /// PID of the sentry, the kernel of the containers in it.
    pub pid: i64,
}

/// Parses a state file.
///
/// # Errors
/// What is wrong with it.
pub fn parse_state(bytes: &[u8]) -> Result<State, String> {
    json::parse(bytes)
}

/// Whether a file of this name is the state of the container.
#[must_use]
pub fn is_state_of(name: &[u8], id: &[u8]) -> bool {
    let rest = name.strip_prefix(id).and_then(|rest| rest.strip_prefix(b"_sandbox:"));
    !id.is_empty() && rest.is_some_and(|r| r.len() > 6 && r.ends_with(b".state"))
}

#[cfg(test)]
mod tests {
    use super::{Sandbox, State, is_state_of, parse_state};

    #[test]
    fn a_state_as_runsc_writes_it() {
        let text = br#"{"id":"ab","spec":{"ociVersion":"1.0.2"},"status":"running","goferPid":7,
            "sandbox":{"id":"cd","pid":8,"uid":65534,"cgroup":{"cgroupv1":null}},"saver":{}}"#;
        let sandbox = Some(Sandbox { id: "cd".into(), pid: 8 });
        assert_eq!(parse_state(text).unwrap(), State { id: "ab".into(), gofer_pid: 7, sandbox });
        assert_eq!(parse_state(br#"{"sandbox":null}"#).unwrap().sandbox, None);
        assert!(parse_state(b"{").is_err());
    }

    #[test]
    fn names_are_whole() {
        assert!(is_state_of(b"ab_sandbox:cd.state", b"ab"));
        for other in ["abc_sandbox:cd.state", "ab_sandbox:cd.lock", "ab_sandbox:.state", "ab.state"]
        {
            assert!(!is_state_of(other.as_bytes(), b"ab"), "{other}");
        }
        assert!(!is_state_of(b"_sandbox:cd.state", b""));
    }
}
