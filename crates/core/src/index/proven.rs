//! Which processes are root's monitors: what one is called it can choose itself.

use std::rc::Rc;

use bstr::ByteSlice;
use whose_kernel::parse::status::Status;
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::Runtime;
use crate::runtime::segment::names_an_id;

impl Index<'_> {
    /// Whether a process is a monitor of this runtime's that root started. To whom that is not shown
    /// it stays unknown what the engine has.
    pub(super) fn is_proven(
        &mut self,
        dir: &ProcDir<'_>,
        status: &Status,
        runtime: &dyn Runtime,
    ) -> bool {
        let Some(name) = runtime.monitor() else { return false };
        is_roots(dir, status, name).unwrap_or_else(|e| {
            let gap = (runtime.engine(), Gap::from_read(what::CONTAINERS, &e));
            if e.class == Class::Forbidden && !self.roots.gaps.contains(&gap) {
                self.roots.gaps.push(gap);
            }
            false
        })
    }

    /// As [`is_hosts`], of a process whose cgroup may bear any name.
    pub(super) fn is_outside(&mut self, dir: &ProcDir<'_>, status: &Status) -> bool {
        let outermost = status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
        let lines = dir.cgroup().map(Rc::new);
        outermost && lines.is_ok_and(|lines| !self.names_a_container(dir.pid(), &lines))
    }
}

/// Whether root's process is the host's own, and in no container.
pub(super) fn is_hosts(dir: &ProcDir<'_>, status: &Status) -> bool {
    let outermost = status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
    outermost && dir.cgroup().is_ok_and(|lines| !names_an_id(&lines))
}

/// Whether root started a process, and of a file whose name begins so. Its name and arguments are for
/// whoever starts a setuid program to choose.
///
/// # Errors
/// When its file can't be read: then that is not shown.
fn is_roots(dir: &ProcDir<'_>, status: &Status, name: &str) -> Result<bool, ReadError> {
    if (status.ruid, status.euid) != (0, 0) {
        return Ok(false);
    }
    let exe = dir.link_text("exe")?;
    Ok(exe.rsplit_str("/").next().is_some_and(|file| file.starts_with(name.as_bytes())))
}
