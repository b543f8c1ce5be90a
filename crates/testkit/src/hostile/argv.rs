//! A process whose arguments can't be read.

use super::{Compiled, Helper, numbers};

/// A process whose argv lies on a FUSE mapping with a stopped server: while this value lives,
/// whoever reads its `/proc/PID/cmdline` waits. Its `stat`, `status`, `comm` and `cgroup` can be
/// read. Mind that every `ps` and `pgrep -f` of the host waits as well: keep it short.
#[derive(Debug)]
pub struct ArgvOnFuse {
    pid: u32,
    server: u32,
    _helper: Helper,
}

impl ArgvOnFuse {
    /// Starts one with this name (15 bytes at most).
    ///
    /// # Errors
    /// When the machine does not let it: no FUSE, no rights; the reason is on stderr.
    pub fn start(comm: &str) -> Result<ArgvOnFuse, String> {
        let program = Compiled::new("argv_on_fuse", include_str!("../../c/argv_on_fuse.c"));
        let dir = program.subdir("mount");
        let helper = Helper::start(program, [dir.as_os_str(), comm.as_ref()]);
        let line = helper.line()?;
        let (pid, server) = numbers(&line).ok_or_else(|| format!("odd answer {line:?}"))?;
        let server = server.ok_or_else(|| format!("odd answer {line:?}"))?;
        if pid != helper.pid() {
            return Err(format!("the trap is {pid}, not {}", helper.pid()));
        }
        Ok(ArgvOnFuse { pid, server, _helper: helper })
    }

    /// The process that can't be read.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its stopped FUSE server.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        self.server
    }
}

#[cfg(test)]
mod tests {
    use super::ArgvOnFuse;
    use crate::{procfs, require};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn reading_its_arguments_waits_until_it_is_dropped() {
        if !require(&["root", "cc", "fuse", "mount-namespace"]) {
            return;
        }
        let trap = ArgvOnFuse::start("tk-stuck").unwrap();
        let (pid, server) = (trap.pid(), trap.server_pid());
        assert_eq!(procfs::comm(pid).as_deref(), Some("tk-stuck"));
        assert_eq!(procfs::state(server), Some('T'));
        let mut cat = Command::new("cat")
            .arg(format!("/proc/{pid}/cmdline"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(cat.try_wait().unwrap(), None, "the reader did not wait");
        drop(trap);
        procfs::wait_for("the reader ends", Duration::from_secs(5), || cat.try_wait().unwrap());
        assert!(!procfs::alive(pid) && !procfs::alive(server));
    }
}
