//! A process that ended and is not reaped.

use super::{Compiled, Helper, numbers};
use std::ffi::OsString;
use std::path::Path;

/// A zombie, reaped when this value is dropped.
#[derive(Debug)]
pub struct Zombie {
    pid: u32,
    helper: Helper,
}

impl Zombie {
    /// Makes a zombie that ended in these cgroup directories; with `remove` they are removed
    /// before this returns.
    ///
    /// # Errors
    /// When the helper can't do it; the reason is on stderr.
    pub fn start(cgroups: &[&Path], remove: bool) -> Result<Zombie, String> {
        let program = Compiled::new("zombie", include_str!("../../c/zombie.c"));
        let mut args: Vec<OsString> = Vec::new();
        for dir in cgroups {
            args.push("--cgroup".into());
            args.push(dir.into());
        }
        if remove {
            args.push("--remove".into());
        }
        let helper = Helper::start(program, args);
        let line = helper.line()?;
        let (pid, _) = numbers(&line).ok_or_else(|| format!("odd answer {line:?}"))?;
        Ok(Zombie { pid, helper })
    }

    /// The zombie.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The parent that does not reap it.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.helper.pid()
    }
}

#[cfg(test)]
mod tests {
    use super::Zombie;
    use crate::{procfs, require};

    #[test]
    fn it_is_one_and_is_reaped() {
        if !require(&["cc"]) {
            return;
        }
        let zombie = Zombie::start(&[], false).unwrap();
        let pid = zombie.pid();
        assert_eq!(procfs::state(pid), Some('Z'));
        assert_eq!(procfs::ppid(pid), Some(zombie.parent()));
        assert_eq!(procfs::comm(pid).as_deref(), Some("undead"));
        drop(zombie);
        assert_eq!(procfs::state(pid), None);
    }
}
