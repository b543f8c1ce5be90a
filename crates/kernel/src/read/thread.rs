//! A thread of a process whose main thread has ended.
//!
//! Such a process is a zombie by its `stat`, while its other threads run. Of the main thread the kernel
//! has no memory, no namespaces and no root any more, and of v1 hierarchies no cgroup
//! (`proc_cgroup_show` of kernel/cgroup/cgroup.c); of the others it has all.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::drain::{for_each_entry, read_whole};
use crate::parse;

/// Threads that are looked at.
const MOST: usize = 256;
/// Cap of `stat`, bytes.
const STAT: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) start_ticks: u64,
    /// `/proc/PID/task/TID`.
    pub(super) dir: OwnedFd,
}

impl Thread {
    /// The first that runs of the process whose directory this is.
    pub(super) fn living(process: &OwnedFd, pid: u32) -> Option<Self> {
        let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let task = rustix::fs::openat(process, "task", list, Mode::empty()).ok()?;
        let mut tids = Vec::new();
        let mut note =
            |name: &[u8], _, _| tids.extend(parse::decimal32(name).filter(|n| *n != pid));
        for_each_entry(task.as_fd(), &mut note).ok()?;
        tids.into_iter().take(MOST).find_map(|tid| Self::open(&task, tid))
    }

    fn open(task: &OwnedFd, tid: u32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(task, tid.to_string(), flags, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, "stat", flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        read_whole(file.as_fd(), &mut bytes, STAT).ok()?;
        let stat = parse::stat::parse(&bytes).ok()?;
        let runs = !stat.is_dead() && !stat.goes_on();
        runs.then_some(Self { tid, start_ticks: stat.start_ticks, dir })
    }
}
