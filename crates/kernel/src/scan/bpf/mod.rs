//! Scanning all processes: the BPF task iterator (kernel 5.8), which tells of all in one read.
//!
//! Each time the program is loaded, run once, and gone with its descriptors; nothing is pinned. It
//! needs kernel BTF, the initial PID namespace and `CAP_BPF` with `CAP_PERFMON`, which the kernel only
//! counts in the initial user namespace: so users' ids are what /proc would tell. It knows no
//! `hidepid`. What it says of a process is what /proc says, or the process is `missed`; so is one
//! that the kernel keeps from programs, which is known by the number of tasks.

mod cgroups;
mod gather;
mod load;
mod unavailable;

use std::os::fd::AsFd;

use rustix::io::Errno;

pub use cgroups::{Cgroups, cgroups};
pub use unavailable::Unavailable;

use crate::host::{Host, Mode};
use crate::parse::io::Io;
use crate::parse::task_record::{self, Comm, Exe, Namespaces, Pids, Told};
use crate::parse::task_usage::{self, TaskUsage};
use gather::Gathering;
use load::{Loader, Name};

/// What one read takes; the kernel gives half of it at most.
const BUFFER: usize = 64 << 10;
/// Reads in a row that may bring nothing: each passes over a million threads (`MAX_ITER_OBJECTS`).
const EMPTY_READS: u32 = 16;
/// `PF_KTHREAD` of the kernel's include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What is asked for beyond the rest, since it costs more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Resident memory: from 6.2 on it is summed up over all CPUs.
    pub rss: bool,
    /// CPU time and storage I/O: a second pass, over all threads.
    pub usage: bool,
}

/// All processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// In ascending order of their PIDs.
    pub tasks: Vec<Task>,
    /// PIDs of which it can't be said what /proc would say: they have to be read there. Ascending.
    pub missed: Vec<u32>,
}

/// One process, in the units of /proc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its process id.
    pub pid: u32,
    /// Its parent's; 0 for the first process and the first kernel thread.
    pub ppid: u32,
    /// Its session's leader.
    pub session: u32,
    /// The kernel's state letter.
    pub state: u8,
    /// The kernel's task flags.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Number of threads.
    pub threads: u64,
    /// Start after boot in clock ticks; with the PID it identifies a process.
    pub start_ticks: u64,
    /// Its name. `None` for a kernel thread: /proc shows a longer one, made up when it is read.
    pub comm: Option<Comm>,
    /// Real user id.
    pub ruid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// The controlling terminal's device number, 0 for none.
    pub tty_nr: i32,
    /// Its process id in each PID namespace, outermost first: `NSpid`.
    pub pids: Pids,
    /// Inode of its PID namespace.
    pub pid_ns: u64,
    /// Inode of its user namespace.
    pub user_ns: u64,
    /// Inodes of the others; none after it has exited.
    pub namespaces: Option<Namespaces>,
    /// Bytes of address space; 0 without one.
    pub vsize: u64,
    /// Bytes of resident memory (`VmRSS`); none without an address space, or when not asked for.
    pub rss: Option<u64>,
    /// The file that it runs: the same numbers need not be the same file. None of kernel threads and
    /// after it has exited.
    pub exe: Option<Exe>,
    /// The id of its v2 cgroup, which is the inode of the cgroup's directory.
    pub cgroup_id: u64,
    /// Processes with the same number are in the same cgroup of every hierarchy, in this scan.
    pub group: u32,
    /// User and system time in clock ticks; none when not asked for, or not known.
    pub cpu: Option<(u64, u64)>,
    /// Storage I/O; none when not asked for, or not known.
    pub io: Option<Io>,
}

impl Task {
    /// Whether it is a kernel thread.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & u64::from(KERNEL_THREAD) != 0
    }
}

/// Asks the kernel for all processes.
///
/// # Errors
/// [`Unavailable`] says why it can't be asked; then /proc tells the same.
pub fn tasks(host: &Host, wanted: Wanted) -> Result<Scan, Unavailable> {
    tasks_by(host, wanted, load::BTF)
}

/// The same with the kernel's BTF at another path beneath the root.
///
/// # Errors
/// As [`tasks`].
pub fn tasks_by(host: &Host, wanted: Wanted, btf: &[u8]) -> Result<Scan, Unavailable> {
    check(host)?;
    let mut loader = Loader::new(host, btf)?;
    let before = host.task_count_and_newest().ok();
    let name = match (wanted.rss, loader.counts_per_cpu) {
        (false, _) => Name::Processes { rss: false },
        (true, false) => Name::Processes { rss: true },
        (true, true) => Name::ProcessesRssSum,
    };
    let mut gathering = Gathering::new(host, wanted, before);
    let past = before.map_or(0, |(_, newest)| newest);
    read(host, &mut loader, (name, past), task_record::LENGTH, &mut |bytes| {
        match task_record::parse(bytes).map_err(|_| Unavailable::Disagrees)? {
            Told::Process(record) => gathering.add(&record),
            Told::Thread(id) => gathering.add_thread(id),
            Told::End(tasks) => gathering.end(tasks),
        }
        Ok(())
    })?;
    let after = host.task_count_and_newest().ok();
    let mut usages: Vec<TaskUsage> = Vec::new();
    if wanted.usage {
        read(host, &mut loader, (Name::Usages, past), task_usage::LENGTH, &mut |bytes| {
            usages.push(task_usage::parse(bytes).map_err(|_| Unavailable::Disagrees)?);
            Ok(())
        })?;
    }
    drop(loader);
    gathering.finish(host, usages, after)
}

/// What can be known before anything is loaded.
fn check(host: &Host) -> Result<(), Unavailable> {
    if host.mode() != Mode::Live {
        return Err(Unavailable::Mode(host.mode()));
    }
    if host.recorder().is_some() {
        return Err(Unavailable::Recorded);
    }
    if cfg!(not(all(target_endian = "little", target_pointer_width = "64"))) {
        return Err(Unavailable::Machine);
    }
    if host.is_outermost() != Some(true) {
        return Err(Unavailable::Namespace);
    }
    let has = |capabilities: u64, bit: u32| capabilities >> bit & 1 != 0;
    let may = host
        .own_capabilities()
        .is_ok_and(|own| has(own, CAP_SYS_ADMIN) || (has(own, CAP_BPF) && has(own, CAP_PERFMON)));
    if !may {
        return Err(Unavailable::Forbidden);
    }
    if load::is_locked_down(host) { Err(Unavailable::Lockdown) } else { Ok(()) }
}

/// Runs one program, as [`Loader::start`] does, and passes its records on.
fn read(
    host: &Host,
    loader: &mut Loader,
    (name, newest): (Name, u32),
    length: usize,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Unavailable>,
) -> Result<(), Unavailable> {
    let iterator = loader.start(name, newest)?;
    let mut buffer = vec![0; BUFFER];
    let (mut kept, mut empty) = (0, 0);
    loop {
        if host.out_of_time() {
            return Err(Unavailable::TimedOut);
        }
        match rustix::io::read(iterator.as_fd(), &mut buffer[kept..]) {
            Ok(0) if kept == 0 => return Ok(()),
            Ok(0) => return Err(Unavailable::Disagrees),
            Ok(more) => {
                let filled = kept + more;
                let whole = filled - filled % length;
                for record in buffer[..whole].chunks_exact(length) {
                    each(record)?;
                }
                buffer.copy_within(whole..filled, 0);
                kept = filled - whole;
                empty = 0;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if empty < EMPTY_READS => empty += 1,
            Err(errno) => return Err(Unavailable::Unreadable(errno)),
        }
    }
}
