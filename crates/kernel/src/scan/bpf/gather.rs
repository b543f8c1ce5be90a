//! From the iterator's records to a scan.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{KERNEL_THREAD, Scan, Task, Unavailable, Wanted};
use crate::host::Host;
use crate::parse::task_record::{Memory, TaskRecord};
use crate::parse::task_usage::{self, TaskUsage};

/// Processes to find out by which of its two counts of resident pages the kernel shows.
const WITNESSES: usize = 8;
/// Processes that room is made for before they are there.
const RESERVED: usize = 1 << 14;

/// Tasks in the making. Records are not kept: what is needed of them later is beside the tasks.
pub(super) struct Gathering {
    wanted: Wanted,
    /// Bytes a page.
    page: u64,
    /// Nanoseconds a clock tick.
    tick: u64,
    tasks: Vec<Task>,
    /// One for each of the tasks, if anything is asked for that needs it.
    details: Vec<Detail>,
    missed: Vec<Missed>,
    groups: HashMap<(u64, u64, bool), u32, BuildHasherDefault<Mixer>>,
}

#[derive(Clone, Copy)]
struct Detail {
    /// Nanoseconds after boot.
    start: u64,
    memory: Option<Memory>,
}

/// One of which it can't be said what /proc would say.
#[derive(Clone, Copy)]
struct Missed {
    pid: u32,
    ppid: u32,
    threads: u64,
}

impl Gathering {
    /// For about as many processes as there are tasks, if that is known.
    pub(super) fn new(host: &Host, wanted: Wanted, tasks: Option<u64>) -> Self {
        let expected = tasks.and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(RESERVED);
        Self {
            wanted,
            page: host.live().page_size().unwrap_or(4096).max(1),
            tick: (1_000_000_000 / host.ticks_per_second().max(1)).max(1),
            tasks: Vec::with_capacity(expected),
            details: Vec::new(),
            missed: Vec::new(),
            groups: HashMap::default(),
        }
    }

    /// Takes what a record tells.
    pub(super) fn add(&mut self, r: &TaskRecord) {
        let (Some(pids), false) = (&r.pids, r.has_changed) else {
            let (pid, ppid, threads) = (r.pid, r.ppid, u64::from(r.threads));
            return self.missed.push(Missed { pid, ppid, threads });
        };
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        // /proc tells less of one that is on its way out, so that it stands for no other.
        let group = *self.groups.entry((r.css_set, r.cgroup, r.is_exiting())).or_insert(next);
        if self.wanted != Wanted::default() {
            self.details.push(Detail { start: r.start, memory: r.memory });
        }
        self.tasks.push(Task {
            pid: r.pid,
            ppid: r.ppid,
            session: r.session,
            state: r.state,
            flags: u64::from(r.flags),
            nice: r.nice,
            threads: u64::from(r.threads),
            start_ticks: r.start / self.tick,
            comm: (r.flags & KERNEL_THREAD == 0).then_some(r.comm),
            ruid: r.uid,
            euid: r.euid,
            egid: r.egid,
            tty_nr: r.tty_nr,
            pids: pids.clone(),
            pid_ns: u64::from(r.pid_ns),
            user_ns: u64::from(r.user_ns),
            namespaces: r.namespaces,
            vsize: r.memory.map_or(0, |m| m.size.saturating_mul(self.page)),
            rss: None,
            exe: r.exe,
            cgroup_id: r.cgroup,
            group,
            cpu: None,
            io: None,
        });
    }

    /// The scan: with usage, checked, and complete. `counts` are the numbers of tasks on the host
    /// before and after.
    pub(super) fn finish(
        mut self,
        host: &Host,
        usages: Vec<TaskUsage>,
        counts: [Option<u64>; 2],
    ) -> Result<Scan, Unavailable> {
        self.sort();
        self.add_usage(usages);
        self.add_rss(host);
        drop(std::mem::take(&mut self.details));
        self.agrees(host)?;
        let unseen = self.unseen(host, counts)?;
        let mut missed: Vec<u32> = self.missed.iter().map(|missed| missed.pid).collect();
        missed.extend(unseen);
        missed.sort_unstable();
        Ok(Scan { tasks: self.tasks, missed })
    }

    /// Into the order of PIDs, which is nearly always theirs already. A new main thread may be met
    /// twice, under its old number's place and under its new one.
    fn sort(&mut self) {
        if !self.tasks.is_sorted_by(|a, b| a.pid < b.pid) {
            let details = self.details.drain(..).map(Some).chain(std::iter::repeat(None));
            let mut both: Vec<(Task, Option<Detail>)> = self.tasks.drain(..).zip(details).collect();
            both.sort_by_key(|(task, _)| task.pid);
            both.dedup_by_key(|(task, _)| task.pid);
            for (task, detail) in both {
                self.tasks.push(task);
                self.details.extend(detail);
            }
        }
        let tasks = &self.tasks;
        self.missed.sort_by_key(|missed| missed.pid);
        self.missed.dedup_by_key(|missed| missed.pid);
        self.missed.retain(|missed| place(tasks, missed.pid).is_none());
    }

    /// Adds what each process used. The second pass is joined by PID and start.
    fn add_usage(&mut self, mut usages: Vec<TaskUsage>) {
        usages.sort_by_key(|usage| (usage.pid, usage.tid));
        for threads in usages.chunk_by(|a, b| a.pid == b.pid) {
            let Some(first) = threads.first() else { continue };
            let Some(at) = place(&self.tasks, first.pid) else { continue };
            if self.details.get(at).is_none_or(|detail| detail.start != first.start) {
                continue;
            }
            if let Some(used) = task_usage::of_process(threads) {
                let tick = self.tick;
                self.tasks[at].cpu = used.cpu.map(|(user, system)| (user / tick, system / tick));
                self.tasks[at].io = used.io;
            }
        }
    }

    /// Adds resident memory; who it can't be told of is missed.
    fn add_rss(&mut self, host: &Host) {
        if !self.wanted.rss {
            return;
        }
        let shown = Shown::find(host, self.page, &self.tasks, &self.details);
        let (page, missed) = (self.page, &mut self.missed);
        let mut details = self.details.iter();
        self.tasks.retain_mut(|task| {
            let memory = details.next().and_then(|detail| detail.memory.as_ref());
            let Ok(pages) = memory.map_or(Ok(None), |memory| shown.of(memory)) else {
                let (pid, ppid, threads) = (task.pid, task.ppid, task.threads);
                missed.push(Missed { pid, ppid, threads });
                return false;
            };
            task.rss = pages.map(|pages| pages.saturating_mul(page));
            true
        });
        missed.sort_by_key(|missed| missed.pid);
    }

    /// Whether it says of this process what /proc says. A reader in another time namespace is told
    /// other start times by /proc.
    fn agrees(&self, host: &Host) -> Result<(), Unavailable> {
        let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        let stat = host.process(own).and_then(|dir| dir.stat()).ok();
        let task = place(&self.tasks, own).map(|at| &self.tasks[at]);
        let same = stat.zip(task).is_some_and(|(stat, task)| {
            stat.start_ticks == task.start_ticks
                && (stat.session, stat.tty_nr, stat.nice) == (task.session, task.tty_nr, task.nice)
                && task.comm.is_some_and(|comm| **comm == *stat.comm)
        });
        if same { Ok(()) } else { Err(Unavailable::Disagrees) }
    }

    /// Finds those that were not told of: they have come meanwhile, or the kernel keeps them from
    /// programs. The number of tasks on the host tells whether there are any; when parents that were
    /// not told of make up the difference, they are all, and else /proc has to be listed.
    fn unseen(&self, host: &Host, counts: [Option<u64>; 2]) -> Result<Vec<u32>, Unavailable> {
        let is_unseen = |pid: &u32| {
            place(&self.tasks, *pid).is_none()
                && self.missed.binary_search_by_key(pid, |missed| missed.pid).is_err()
        };
        let threads = self.tasks.iter().map(|task| task.threads);
        let seen: u64 = threads.chain(self.missed.iter().map(|missed| missed.threads)).sum();
        let mut parents: Vec<u32> = self.tasks.iter().map(|task| task.ppid).collect();
        parents.extend(self.missed.iter().map(|missed| missed.ppid));
        parents.dedup(); // children of one parent are often side by side
        parents.sort_unstable();
        parents.dedup();
        parents.retain(|pid| *pid > 0 && is_unseen(pid));
        let threads =
            |pid: &u32| host.process(*pid).and_then(|dir| dir.stat()).map_or(0, |s| s.threads);
        let hidden: u64 = parents.iter().map(threads).sum();
        if counts.iter().all(|count| *count == Some(seen.saturating_add(hidden))) {
            return Ok(parents);
        }
        let mut pids = host.pids().map_err(|e| Unavailable::NoList(e.class))?;
        pids.retain(is_unseen);
        Ok(pids)
    }
}

/// Where the process is among tasks in the order of their PIDs.
fn place(tasks: &[Task], pid: u32) -> Option<usize> {
    tasks.binary_search_by_key(&pid, |task| task.pid).ok()
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
    fn find(host: &Host, page: u64, tasks: &[Task], details: &[Detail]) -> Self {
        if details.iter().all(|d| d.memory.is_none_or(|m| m.rss_sum.is_none())) {
            return Self::Count;
        }
        let differing = tasks.iter().zip(details).filter_map(|(task, detail)| {
            let memory = detail.memory.filter(|_| task.state == b'S')?;
            let (count, sum) = (memory.rss?, memory.rss_sum?);
            (count != sum).then_some((task.pid, count, sum))
        });
        for (pid, count, sum) in differing.take(WITNESSES) {
            let status = host.process(pid).and_then(|dir| dir.status()).ok();
            match status.and_then(|s| s.rss).map(|bytes| bytes / page) {
                Some(pages) if pages == sum => return Self::Sum,
                Some(pages) if pages == count => return Self::Count,
                _ => {}
            }
        }
        Self::Either
    }

    /// The number of pages; an error when it can't be told.
    fn of(self, memory: &Memory) -> Result<Option<u64>, ()> {
        let (count, sum) = (memory.rss, memory.rss_sum.or(memory.rss));
        match self {
            Self::Count => Ok(count),
            Self::Sum => Ok(sum),
            Self::Either if sum == count => Ok(sum),
            Self::Either => Err(()),
        }
    }
}

/// Mixes numbers that the kernel has chosen, so that nobody else can make them collide.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32 // the low bits choose the place
    }
}
