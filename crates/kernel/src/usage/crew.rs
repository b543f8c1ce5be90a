//! The threads that count, and how they share the work.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bstr::BString;
use rustix::fs::StatxTimestamp;

use super::linked::Linked;
use super::walk::{Tally, Walker};
use super::{Counted, Id, Problem, Progress, Tree, Why};

/// Directories that wait for a thread, each with a descriptor.
const MOST_JOBS: usize = 16;

/// Something to be counted by one thread.
pub(super) enum Job {
    /// A tree from its root on.
    Tree(usize),
    /// A directory of a tree, with its path below the tree's root.
    Dir(usize, OwnedFd, BString),
}

impl Job {
    fn tree(&self) -> usize {
        match self {
            Self::Tree(tree) | Self::Dir(tree, ..) => *tree,
        }
    }
}

struct Jobs {
    queue: VecDeque<Job>,
    /// The first tree that nobody has begun.
    next: usize,
    idle: usize,
}

/// What the threads have in common.
pub(super) struct Crew<'w> {
    pub(super) trees: &'w [Tree<'w>],
    /// The trees by their roots, each the first of those with the same.
    pub(super) roots: HashMap<Id, usize>,
    /// Whether some of them are files.
    pub(super) has_files: bool,
    pub(super) linked: Linked,
    pub(super) threads: usize,
    jobs: Mutex<Jobs>,
    ready: Condvar,
    idle: AtomicUsize,
    queued: AtomicUsize,
    stop: AtomicBool,
    inodes: AtomicU64,
    bytes: AtomicU64,
    /// Jobs of each tree that are not done: one more before it was begun.
    open: Vec<AtomicUsize>,
    /// When it began, in seconds and nanoseconds of the clock that inodes have their times from.
    began: (i64, i64),
}

fn now() -> (i64, i64) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec)
}

impl<'w> Crew<'w> {
    /// `most` inodes with several names are kept in mind.
    pub(super) fn new(trees: &'w [Tree<'w>], threads: usize, most: usize) -> Self {
        let mut roots = HashMap::new();
        for (number, tree) in trees.iter().enumerate() {
            roots.entry(tree.id).or_insert(number);
        }
        Self {
            trees,
            roots,
            has_files: trees.iter().any(|t| !t.is_dir),
            linked: Linked::new(trees, most),
            threads: threads.max(1),
            jobs: Mutex::new(Jobs { queue: VecDeque::new(), next: 0, idle: 0 }),
            ready: Condvar::new(),
            idle: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            inodes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            open: trees.iter().map(|_| AtomicUsize::new(1)).collect(),
            began: now(),
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a change of an inode came after the count began: a name that was added changes it too (inode(7)). Of
    /// file systems whose times are whole seconds the second tells.
    pub(super) fn is_since(&self, changed: &StatxTimestamp) -> bool {
        let (seconds, nanoseconds) = (changed.tv_sec, i64::from(changed.tv_nsec));
        let began = if nanoseconds == 0 { (self.began.0, 0) } else { self.began };
        (seconds, nanoseconds) >= began
    }

    /// Counts until nothing is left to be counted.
    pub(super) fn work(&self) -> Tally {
        let mut walker = Walker::new(self);
        while let Some(job) = self.next() {
            let tree = job.tree();
            if walker.run(job) {
                self.open[tree].fetch_sub(1, Ordering::AcqRel);
            }
        }
        walker.into_tally()
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(job) = jobs.queue.pop_front() {
                self.queued.store(jobs.queue.len(), Ordering::Relaxed);
                return Some(job);
            }
            if jobs.next < self.trees.len() {
                jobs.next += 1;
                return Some(Job::Tree(jobs.next - 1));
            }
            jobs.idle += 1;
            self.idle.store(jobs.idle, Ordering::Relaxed);
            // Whoever works may leave work to others; when all wait there is none.
            if jobs.idle < self.threads {
                jobs = self.ready.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            }
            if jobs.idle == self.threads {
                self.ready.notify_all();
                return None;
            }
            jobs.idle -= 1;
            self.idle.store(jobs.idle, Ordering::Relaxed);
        }
    }

    /// Whether a thread has nothing to do, and nothing was left to it yet.
    pub(super) fn is_hungry(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > self.queued.load(Ordering::Relaxed)
    }

    /// Leaves a directory to another thread; it comes back when there are enough.
    pub(super) fn give(&self, job: Job) -> Option<Job> {
        let mut jobs = self.jobs();
        if jobs.queue.len() >= MOST_JOBS {
            return Some(job);
        }
        self.open[job.tree()].fetch_add(1, Ordering::AcqRel);
        jobs.queue.push_back(job);
        self.queued.store(jobs.queue.len(), Ordering::Relaxed);
        self.ready.notify_one();
        None
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        let _jobs = self.jobs();
        self.stop.store(true, Ordering::Relaxed);
        self.ready.notify_all();
    }

    pub(super) fn count(&self, inodes: u64, bytes: u64) {
        self.inodes.fetch_add(inodes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            inodes: self.inodes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// The answer.
    pub(super) fn conclude(&self, tally: Tally) -> Counted {
        let Tally { mut sums, moved, problems, again } = tally;
        for (tree, moved) in moved {
            sums[tree].take(&moved);
        }
        for (sum, open) in sums.iter_mut().zip(&self.open) {
            sum.is_whole = open.load(Ordering::Acquire) == 0;
        }
        let problem = |((tree, why), (count, path)): ((usize, Why), (u64, BString))| {
            let shown = match self.trees[tree].shown() {
                top if path.is_empty() => top.into(),
                top => crate::root::join(top, &path),
            };
            Problem::new(tree, why, count, shown)
        };
        Counted { sums, problems: problems.into_iter().map(problem).collect(), again }
    }
}
