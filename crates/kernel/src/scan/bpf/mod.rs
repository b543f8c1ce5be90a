//! Scanning all processes: the BPF task iterator (kernel 5.8), which tells of all in one read.
//!
//! Each time the program is loaded, run once, and gone with its descriptors; nothing is pinned. It
//! needs kernel BTF, the initial PID namespace and `CAP_BPF` with `CAP_PERFMON`, which the kernel only
//! counts in the initial user namespace: so users' ids are what /proc would tell. It knows no
//! `hidepid`. What it says of a process is what /proc says, or the process is `missed`; so is one
//! that the kernel keeps from programs, which is known by the number of tasks.

mod cgroups;
mod load;
mod unavailable;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;

use bstr::BString;
use rustix::io::Errno;

pub use cgroups::{Cgroups, cgroups};
pub use unavailable::Unavailable;

use crate::host::{Host, Mode};
use crate::parse::io::Io;
use crate::parse::task_record::{self, Exe, Namespaces, TaskRecord};
use crate::parse::task_usage::{self, TaskUsage};
use load::{Loader, Name};

/// What one read takes; the kernel gives half of it at most.
const BUFFER: usize = 64 << 10;
/// Reads in a row that may bring nothing: each passes over a million threads (`MAX_ITER_OBJECTS`).
const EMPTY_READS: u32 = 16;
/// Processes to find out by which of its two counts of resident pages the kernel shows.
const WITNESSES: usize = 8;
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
    pub comm: Option<BString>,
    /// Real user id.
    pub ruid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// The controlling terminal's device number, 0 for none.
    pub tty_nr: i32,
    /// Its process id in each PID namespace, outermost first: `NSpid`.
    pub pids: Vec<u32>,
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
    let mut records: Vec<TaskRecord> = Vec::new();
    let before = host.task_count().ok();
    let name = match (wanted.rss, loader.counts_per_cpu) {
        (false, _) => Name::Processes { rss: false },
        (true, false) => Name::Processes { rss: true },
        (true, true) => Name::ProcessesRssSum,
    };
    read(host, &mut loader, name, task_record::LENGTH, &mut |bytes| {
        let record = task_record::parse(bytes).ok();
        record.map(|record| records.push(record)).ok_or(Unavailable::Disagrees)
    })?;
    let after = host.task_count().ok();
    let mut usages: Vec<TaskUsage> = Vec::new();
    if wanted.usage {
        read(host, &mut loader, Name::Usages, task_usage::LENGTH, &mut |bytes| {
            let usage = task_usage::parse(bytes).ok();
            usage.map(|usage| usages.push(usage)).ok_or(Unavailable::Disagrees)
        })?;
    }
    // A new main thread may be met twice, under its old number's place and under its new one.
    records.sort_by_key(|record| record.pid);
    records.dedup_by_key(|record| record.pid);
    let shown = Shown::find(host, &records);
    let mut scan = gather(host, &records, shown);
    add_usage(host, &mut scan.tasks, &mut usages, &records);
    agrees(host, &scan)?;
    add_unseen(host, &records, &mut scan, [before, after])?;
    Ok(scan)
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

/// Runs one program and passes its records on.
fn read(
    host: &Host,
    loader: &mut Loader,
    name: Name,
    length: usize,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Unavailable>,
) -> Result<(), Unavailable> {
    let iterator = loader.start(name)?;
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

/// Which of its counts of resident pages the kernel shows in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The one that CPUs add to now and then (before 6.2 there is no other).
    Count,
    /// The exact one (since 6.17, and earlier releases that were given the change).
    Sum,
    /// Only where both are the same.
    Either,
}

impl Shown {
    /// Finds out by processes that sleep and whose counts differ.
    fn find(host: &Host, records: &[TaskRecord]) -> Self {
        if records.iter().all(|r| r.memory.is_none_or(|m| m.rss_sum.is_none())) {
            return Self::Count;
        }
        let page = host.live().page_size().unwrap_or(4096);
        let differing = records.iter().filter_map(|r| {
            let memory = r.memory.filter(|_| r.state == b'S')?;
            let (count, sum) = (memory.rss?, memory.rss_sum?);
            (count != sum).then_some((r.pid, count, sum))
        });
        for (pid, count, sum) in differing.take(WITNESSES) {
            let status = host.process(pid).and_then(|dir| dir.status()).ok();
            match status.and_then(|s| s.rss).map(|bytes| bytes / page.max(1)) {
                Some(pages) if pages == sum => return Self::Sum,
                Some(pages) if pages == count => return Self::Count,
                _ => {}
            }
        }
        Self::Either
    }

    /// The number of pages; an error when it can't be told.
    fn of(self, memory: &task_record::Memory) -> Result<Option<u64>, ()> {
        let (count, sum) = (memory.rss, memory.rss_sum.or(memory.rss));
        match self {
            Self::Count => Ok(count),
            Self::Sum => Ok(sum),
            Self::Either if sum == count => Ok(sum),
            Self::Either => Err(()),
        }
    }
}

fn gather(host: &Host, records: &[TaskRecord], shown: Shown) -> Scan {
    let page = host.live().page_size().unwrap_or(4096);
    let tick = tick(host);
    let mut groups: HashMap<(u64, u64, bool), u32> = HashMap::new();
    let mut scan = Scan::default();
    for r in records {
        let rss = r.memory.as_ref().map_or(Ok(None), |memory| shown.of(memory));
        let (Some(pids), Ok(rss), false) = (&r.pids, rss, r.has_changed) else {
            scan.missed.push(r.pid);
            continue;
        };
        let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        // /proc tells less of one that is on its way out, so that it stands for no other.
        let group = *groups.entry((r.css_set, r.cgroup, r.is_exiting())).or_insert(next);
        scan.tasks.push(Task {
            pid: r.pid,
            ppid: r.ppid,
            session: r.session,
            state: r.state,
            flags: u64::from(r.flags),
            nice: r.nice,
            threads: u64::from(r.threads),
            start_ticks: r.start / tick,
            comm: (r.flags & KERNEL_THREAD == 0).then(|| r.comm.clone()),
            ruid: r.uid,
            euid: r.euid,
            egid: r.egid,
            tty_nr: r.tty_nr,
            pids: pids.clone(),
            pid_ns: u64::from(r.pid_ns),
            user_ns: u64::from(r.user_ns),
            namespaces: r.namespaces,
            vsize: r.memory.map_or(0, |m| m.size.saturating_mul(page)),
            rss: rss.map(|pages| pages.saturating_mul(page)),
            exe: r.exe,
            cgroup_id: r.cgroup,
            group,
            cpu: None,
            io: None,
        });
    }
    scan
}

/// Adds what each process used. The second pass is joined by PID and start.
fn add_usage(host: &Host, tasks: &mut [Task], usages: &mut [TaskUsage], records: &[TaskRecord]) {
    let tick = tick(host);
    usages.sort_by_key(|usage| (usage.pid, usage.tid));
    let starts: HashMap<u32, u64> = records.iter().map(|r| (r.pid, r.start)).collect();
    for threads in usages.chunk_by(|a, b| a.pid == b.pid) {
        let Some(first) = threads.first() else { continue };
        let Ok(at) = tasks.binary_search_by_key(&first.pid, |task| task.pid) else { continue };
        if starts.get(&first.pid) != Some(&first.start) {
            continue;
        }
        if let Some(used) = task_usage::of_process(threads) {
            tasks[at].cpu = used.cpu.map(|(user, system)| (user / tick, system / tick));
            tasks[at].io = used.io;
        }
    }
}

/// Finds those that were not told of: they have come meanwhile, or the kernel keeps them from programs.
/// The number of tasks on the host tells whether there are any; when parents that were not told of
/// make up the difference, they are all, and else /proc has to be listed.
fn add_unseen(
    host: &Host,
    records: &[TaskRecord],
    scan: &mut Scan,
    counts: [Option<u64>; 2],
) -> Result<(), Unavailable> {
    let unseen = |pid: &u32| records.binary_search_by_key(pid, |record| record.pid).is_err();
    let seen: u64 = records.iter().map(|r| u64::from(r.threads)).sum();
    let parents = records.iter().map(|r| r.ppid).filter(|pid| *pid > 0 && unseen(pid));
    let parents: BTreeSet<u32> = parents.collect();
    let threads =
        |pid: &u32| host.process(*pid).and_then(|dir| dir.stat()).map_or(0, |s| s.threads);
    let hidden: u64 = parents.iter().map(threads).sum();
    if counts.iter().all(|count| *count == Some(seen.saturating_add(hidden))) {
        scan.missed.extend(parents);
    } else {
        let pids = host.pids().map_err(|e| Unavailable::NoList(e.class))?;
        scan.missed.extend(pids.into_iter().filter(unseen));
    }
    scan.missed.sort_unstable();
    Ok(())
}

/// Nanoseconds a clock tick.
fn tick(host: &Host) -> u64 {
    (1_000_000_000 / host.ticks_per_second().max(1)).max(1)
}

/// Whether it says of this process what /proc says. A reader in another time namespace is told other
/// start times by /proc.
fn agrees(host: &Host, scan: &Scan) -> Result<(), Unavailable> {
    let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    let stat = host.process(own).and_then(|dir| dir.stat()).ok();
    let task = scan.tasks.iter().find(|task| task.pid == own);
    let same = stat.zip(task).is_some_and(|(stat, task)| {
        stat.start_ticks == task.start_ticks
            && (stat.session, stat.tty_nr, stat.nice) == (task.session, task.tty_nr, task.nice)
            && Some(&stat.comm) == task.comm.as_ref()
    });
    if same { Ok(()) } else { Err(Unavailable::Disagrees) }
}
