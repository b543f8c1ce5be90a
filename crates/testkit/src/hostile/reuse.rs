//! One PID, one process after another.

use super::{Compiled, Helper};
use std::path::Path;

/// Makes children with a chosen PID (`clone3` with `set_tid`; root is needed).
///
/// A child's marker is its `comm` (so 15 bytes at most) and its argument zero and two:
/// `MARKER --sleep MARKER`. For an instant before its exec a child shows the name `reuse_pid` and
/// this helper's arguments. All die with this value.
#[derive(Debug)]
pub struct ReusePid {
    helper: Helper,
}

impl ReusePid {
    /// Starts the helper, with no child yet.
    #[must_use]
    pub fn start() -> ReusePid {
        let program = Compiled::new("reuse_pid", include_str!("../../c/reuse_pid.c"));
        let links = program.subdir("links");
        ReusePid { helper: Helper::start(program, [links]) }
    }

    /// The helper's own PID, the parent of the children.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Makes a child with this PID in these cgroup directories; returns its start ticks.
    ///
    /// # Errors
    /// What the helper says, e.g. that the PID is taken.
    pub fn spawn(&mut self, pid: u32, marker: &str, cgroups: &[&Path]) -> Result<u64, String> {
        self.ask("spawn", pid, marker, cgroups)
    }

    /// Kills and reaps the child with this PID, then makes the next one.
    ///
    /// # Errors
    /// What the helper says.
    pub fn swap(&mut self, pid: u32, marker: &str, cgroups: &[&Path]) -> Result<u64, String> {
        self.ask("swap", pid, marker, cgroups)
    }

    /// Kills and reaps the child with this PID.
    ///
    /// # Errors
    /// What the helper says.
    pub fn kill(&mut self, pid: u32) -> Result<(), String> {
        ok(&self.helper.ask(&format!("kill {pid}"))?).map(drop)
    }

    fn ask(
        &mut self,
        verb: &str,
        pid: u32,
        marker: &str,
        cgroups: &[&Path],
    ) -> Result<u64, String> {
        assert!(marker.len() <= 15 && !marker.contains([' ', '/']), "odd marker {marker:?}");
        let mut line = format!("{verb} {pid} {marker}");
        for dir in cgroups {
            line.push(' ');
            line.push_str(dir.to_str().expect("a cgroup path is text"));
        }
        ok(&self.helper.ask(&line)?)
    }
}

fn ok(answer: &str) -> Result<u64, String> {
    answer.strip_prefix("ok ").and_then(|n| n.parse().ok()).ok_or_else(|| answer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::ReusePid;
    use crate::{procfs, require};

    #[test]
    fn the_same_pid_is_another_process() {
        if !require(&["root", "cc"]) {
            return;
        }
        let mut helper = ReusePid::start();
        let pid = procfs::free_pid();
        let first = helper.spawn(pid, "tk-first", &[]).unwrap();
        assert_eq!(procfs::start_ticks(pid), Some(first));
        assert_eq!(procfs::comm(pid).as_deref(), Some("tk-first"));
        assert!(helper.spawn(pid, "tk-none", &[]).unwrap_err().starts_with("err spawn"));
        std::thread::sleep(std::time::Duration::from_millis(30));
        let second = helper.swap(pid, "tk-second", &[]).unwrap();
        assert!(second > first);
        assert_eq!(procfs::args(pid).unwrap(), ["tk-second", "--sleep", "tk-second"]);
        helper.kill(pid).unwrap();
        assert_eq!(procfs::state(pid), None);
        helper.spawn(pid, "tk-third", &[]).unwrap();
        drop(helper);
        assert_eq!(procfs::state(pid), None);
    }
}
