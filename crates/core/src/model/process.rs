//! One process and what was read of it.

use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::io::Io;
use whose_kernel::parse::stat::Stat;
use whose_kernel::parse::status::Status;

use super::Fact;

/// What a process is to its owner; the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the container is for.
    Workload,
    /// The container's first process.
    Init,
    /// Started in the container from outside (docker exec, a health check).
    Exec,
    /// A pod's pause process or a virtual machine monitor.
    Sandbox,
    /// Shim, monitor, proxy, daemon.
    Plumbing,
    /// A process of the host.
    Host,
    /// A kernel thread.
    Kernel,
}

impl Role {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Init => "init",
            Self::Exec => "exec",
            Self::Sandbox => "sandbox",
            Self::Plumbing => "plumbing",
            Self::Host => "host",
            Self::Kernel => "kernel",
        }
    }
}

/// A process: (boot id, PID, start ticks). Facts nobody asked for are [`Fact::Unasked`].
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// PID in the reader's PID namespace.
    pub pid: u32,
    /// `stat`.
    pub stat: Fact<Stat>,
    /// `comm`, where nothing else of `stat` is needed.
    pub name: Option<BString>,
    /// `status`.
    pub status: Fact<Status>,
    /// `cgroup`.
    pub cgroup: Fact<Rc<Vec<Line>>>,
    /// Arguments; empty for kernel threads and zombies.
    pub args: Fact<Vec<BString>>,
    /// Kernel function it sleeps in.
    pub wchan: Fact<BString>,
    /// Storage I/O.
    pub io: Fact<Io>,
    /// Number of open descriptors.
    pub fds: Fact<u64>,
    /// PID namespace inode.
    pub pidns: Fact<u64>,
    /// Effective uid inside its user namespace.
    pub inside_uid: Fact<u32>,
    /// Text of `exe`: the path of the binary as the process's own mounts name it.
    pub exe: Fact<BString>,
    /// Text of `cwd`.
    pub cwd: Fact<BString>,
    /// User name of the effective uid, when it has one.
    pub user: Option<BString>,
    /// Start, milliseconds since 1970.
    pub start_time: Fact<i64>,
    /// Ticks since the start.
    pub age: Fact<u64>,
    /// Ticks a second of [`Stat`]'s times and of the age.
    pub hz: u64,
    /// What it is to its owner.
    pub role: Fact<Role>,
    /// The container that plumbing works for.
    pub serves: Fact<BString>,
    /// The cgroup path the claim used, else the v2 line's.
    pub cgroup_path: Fact<Rc<BString>>,
    /// The thread by which its memory is read once its main thread has ended: number and start ticks.
    pub thread: Option<(u32, u64)>,
}

impl Process {
    /// Start ticks; 0 when unknown, as in a saved tree without `stat`.
    #[must_use]
    pub fn start_ticks(&self) -> u64 {
        self.stat.known().map_or(0, |s| s.start_ticks)
    }

    /// The kernel's name for it, empty when unknown.
    #[must_use]
    pub fn comm(&self) -> &[u8] {
        let name = self.stat.known().map(|s| &s.comm).or(self.name.as_ref());
        name.map_or(&b""[..], |name| name.as_bytes())
    }

    /// PIDs in nested namespaces, outermost first.
    #[must_use]
    pub fn nspid(&self) -> Option<&[u32]> {
        self.status.known().and_then(|s| s.nspid.as_deref())
    }

    /// Effective uid.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.status.known().map(|s| s.euid)
    }

    /// Seconds since the start, if known.
    #[must_use]
    pub fn elapsed(&self) -> Option<u64> {
        self.age.known().map(|ticks| ticks / self.hz.max(1))
    }

    /// By what its memory is read: PID and start ticks, or those of a thread of it.
    #[must_use]
    pub fn reader(&self) -> (u32, u64) {
        self.thread.unwrap_or((self.pid, self.start_ticks()))
    }

    /// Whether it has exited.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.stat.known().is_some_and(Stat::is_dead)
    }

    /// Whether it is a kernel thread.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        self.stat.known().is_some_and(Stat::is_kernel_thread)
    }
}
