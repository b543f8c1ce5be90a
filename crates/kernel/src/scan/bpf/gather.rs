//! From the iterator's records to a scan.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{KERNEL_THREAD, Scan, Task, Unavailable, Wanted};
use crate::host::Host;
use crate::parse::task_record::{Memory, SPAN, TaskRecord};
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
    /// How many tasks there were before, and the newest one's PID.
    before: Option<(u64, u32)>,
    /// The clock tick before the iterator ran.
    since: Option<u64>,
    /// Threads with ids after the newest one's.
    threads: Vec<u32>,
    /// How many tasks the iterator met.
    met: Option<u64>,
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
}

impl Gathering {
    /// `before` is how many tasks there are, and the PID that was given last.
    pub(super) fn new(host: &Host, wanted: Wanted, before: Option<(u64, u32)>) -> Self {
        let tasks = before.and_then(|(tasks, _)| usize::try_from(tasks).ok());
        let expected = tasks.unwrap_or(0).min(RESERVED);
        Self {
            wanted,
            page: host.live().page_size().unwrap_or(4096).max(1),
            tick: (1_000_000_000 / host.ticks_per_second().max(1)).max(1),
            tasks: Vec::with_capacity(expected),
            details: Vec::new(),
            missed: Vec::new(),
            before,
            since: host.uptime_ticks().ok(),
            threads: Vec::new(),
            met: None,
            groups: HashMap::default(),
        }
    }

    /// Takes what a record tells.
    pub(super) fn add(&mut self, r: &TaskRecord) {
        let (Some(pids), false) = (&r.pids, r.has_changed) else {
            return self.missed.push(Missed { pid: r.pid, ppid: r.ppid });
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

    /// Takes the id of a thread that may be new.
    pub(super) fn add_thread(&mut self, id: u32) {
        self.threads.push(id);
    }

    /// Takes how many tasks the iterator has met, as it ends.
    pub(super) fn end(&mut self, met: u64) {
        self.met = Some(met);
    }

    /// The scan: with usage, checked, and complete. `after` is as `before`, by now.
    pub(super) fn finish(
        mut self,
        host: &Host,
        usages: Vec<TaskUsage>,
        after: Option<(u64, u32)>,
    ) -> Result<Scan, Unavailable> {
        self.sort();
        self.add_usage(usages);
        self.add_rss(host);
        drop(std::mem::take(&mut self.details));
        self.agrees(host)?;
        let unseen = self.unseen(host, after)?;
        let mut missed: Vec<u32> = self.missed.iter().map(|missed| missed.pid).collect();
        missed.extend(unseen);
        // Another that started in the same tick can't be told from it by what /proc says later.
        let since = self.since;
        let is_new = |task: &Task| since.is_none_or(|since| task.start_ticks + 1 >= since);
        missed.extend(self.tasks.iter().filter(|task| is_new(task)).map(|task| task.pid));
        self.tasks.retain(|task| !is_new(task));
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
                missed.push(Missed { pid: task.pid, ppid: task.ppid });
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

    /// Finds those that were not told of: the kernel keeps them from programs. The number of tasks tells
    /// whether there are any: each that there was before was met, or has ended before its turn came, or
    /// was not told of. When parents that were not told of make up the difference, they are all, and
    /// else /proc has to be listed.
    fn unseen(&self, host: &Host, after: Option<(u64, u32)>) -> Result<Vec<u32>, Unavailable> {
        let is_unseen = |pid: &u32| {
            place(&self.tasks, *pid).is_none()
                && self.missed.binary_search_by_key(pid, |missed| missed.pid).is_err()
        };
        let mut parents: Vec<u32> = self.tasks.iter().map(|task| task.ppid).collect();
        parents.extend(self.missed.iter().map(|missed| missed.ppid));
        parents.dedup(); // children of one parent are often side by side
        parents.sort_unstable();
        parents.dedup();
        parents.retain(|pid| *pid > 0 && is_unseen(pid));
        let hidden: Vec<(u32, u64)> =
            parents.iter().map(|pid| (*pid, threads_of(host, *pid))).collect();
        if self.is_all(after, &hidden) {
            return Ok(parents);
        }
        let mut pids = host.pids().map_err(|e| Unavailable::NoList(e.class))?;
        pids.retain(is_unseen);
        Ok(pids)
    }

    /// Whether there are no tasks but those that were met and these processes with their threads.
    fn is_all(&self, after: Option<(u64, u32)>, hidden: &[(u32, u64)]) -> bool {
        let (Some(met), Some(before), Some(after)) = (self.met, self.before, after) else {
            return false;
        };
        let ids = self.tasks.iter().map(|task| task.pid);
        let ids = ids.chain(self.missed.iter().map(|missed| missed.pid));
        let ids = ids.chain(self.threads.iter().copied());
        adds_up(before, after, (met, ids), hidden)
    }
}

/// Whether those that were met, with the ids of them that may be new, and those that were not told of
/// make up the number of tasks before. `before` and `after` go with the id that was given last.
fn adds_up(
    before: (u64, u32),
    after: (u64, u32),
    (met, ids): (u64, impl Iterator<Item = u32>),
    hidden: &[(u32, u64)],
) -> bool {
    let threads: u64 = hidden.iter().map(|(_, threads)| threads).sum();
    if before.0 == after.0 && before.0 == met.saturating_add(threads) {
        return true;
    }
    // Ids are given in ascending order until they begin anew.
    if after.1 < before.1 || after.1 - before.1 > SPAN {
        return false;
    }
    let is_new = |id: u32| id > before.1 && id <= after.1;
    let met_new = u64::try_from(ids.filter(|id| is_new(*id)).count()).unwrap_or(u64::MAX);
    let old = hidden.iter().filter(|(pid, _)| !is_new(*pid));
    let threads: u64 = old.map(|(_, threads)| threads).sum();
    met.checked_sub(met_new).map(|met| met.saturating_add(threads)) == Some(before.0)
}

/// How many threads a process has; none if it has ended.
fn threads_of(host: &Host, pid: u32) -> u64 {
    host.process(pid).and_then(|dir| dir.stat()).map_or(0, |stat| stat.threads)
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

#[cfg(test)]
mod tests {
    use super::{SPAN, adds_up};

    #[test]
    fn nobody_is_left_out() {
        let ids = || [1, 2, 50, 103, 900].into_iter();
        // Nothing has changed meanwhile, or as many have come as have gone.
        assert!(adds_up((5, 100), (5, 100), (5, ids()), &[]));
        assert!(adds_up((6, 100), (6, 104), (5, ids()), &[(7, 1)]));
        assert!(!adds_up((6, 100), (6, 104), (5, ids()), &[]));
        // One has come, and was met; one more, and was not.
        assert!(adds_up((4, 100), (6, 104), (5, ids()), &[]));
        assert!(adds_up((6, 100), (8, 104), (5, ids()), &[(7, 2)]));
        assert!(!adds_up((6, 100), (8, 104), (5, ids()), &[(7, 1)]));
        // A parent that has come meanwhile was not there before.
        assert!(adds_up((4, 100), (6, 104), (5, ids()), &[(102, 1)]));
        // Some have gone after they were met; or perhaps before, and then it can't be known.
        assert!(adds_up((4, 100), (2, 104), (5, ids()), &[]));
        assert!(!adds_up((7, 100), (6, 104), (5, ids()), &[]));
        // Ids have begun anew, or more have come than are told of.
        assert!(!adds_up((4, 100), (5, 99), (5, ids()), &[]));
        assert!(!adds_up((4, 100), (5, 101 + SPAN), (5, ids()), &[]));
    }
}
