//! The cgroups of all processes, by who is in each cgroup.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::layout::Layout;
use super::tree::Tree;
use super::walk::{Members, Paths, fullest, walk, walk_but};
use crate::host::Host;
use crate::parse::cgroup::Line;

/// `PF_EXITING` of the kernel's include/linux/sched.h.
const EXITING: u64 = 0x4;

/// What `/proc/PID/cgroup` says of all processes, found by reading `cgroup.procs` of every cgroup.
///
/// It answers for a process that was there before and after, and was met once in each hierarchy. A v1
/// hierarchy is walked before and after cgroup v2's: whoever was in the same cgroup of it both times
/// was so in between too, when he was met in the v2 tree. The second time nobody is looked for in the
/// cgroup that most were in: who was there and is met nowhere else has stayed. Hence the answer was true at one
/// moment, unless the process was moved twice in a v1 hierarchy during the walk.
#[derive(Debug)]
pub struct Memberships {
    /// The tick at which the walk began.
    since: u64,
    /// In ascending order of the PIDs.
    members: Vec<(u32, Rc<Vec<Line>>)>,
    /// Where the last one was that was asked for.
    asked: Cell<usize>,
}

impl Memberships {
    /// Reads them all. `None` where directories do not tell what /proc does, or where it would not
    /// cost clearly less than to read a file of each of so many `processes`.
    #[must_use]
    pub fn read(host: &Host, processes: usize) -> Option<Self> {
        let layout = Layout::of(host)?;
        let most = worthwhile(processes, layout.trees().filter(|(_, is_v2)| !is_v2).count());
        Self::of_layout(host, &layout, most)
    }

    /// The same, whatever it costs, if there are no more directories to be read; those of v1 count
    /// twice.
    #[must_use]
    pub fn within(host: &Host, directories: usize) -> Option<Self> {
        Self::of_layout(host, &Layout::of(host)?, directories)
    }

    fn of_layout(host: &Host, layout: &Layout, directories: usize) -> Option<Self> {
        let since = host.uptime_ticks().ok()?;
        let mut left = directories;
        if layout.known_directories() > left {
            return None;
        }
        let trees: Vec<(&Tree, bool)> = layout.trees().collect();
        let mut paths: Vec<Paths> = trees.iter().map(|_| Paths::default()).collect();
        let mut walk_all = |v2: bool| -> Option<Vec<Members>> {
            let each = trees.iter().zip(&mut paths).map(|(tree, paths)| match tree.1 == v2 {
                true => walk(host, *tree, paths, &mut left),
                false => Some(Members::new()),
            });
            each.collect()
        };
        let (before, v2) = (walk_all(false)?, walk_all(true)?);
        let mut steady = v2;
        for (at, before) in before.into_iter().enumerate().filter(|(at, _)| !trees[*at].1) {
            let unread = fullest(&before);
            let after = walk_but(host, trees[at], &mut paths[at], &mut left, unread)?;
            steady[at] = both(before, &after, unread);
        }
        let members = join(layout, &steady, &paths);
        let memberships = Self { since, members, asked: Cell::new(0) };
        memberships.agrees(layout).then_some(memberships)
    }

    /// What `/proc/PID/cgroup` said of this process, whose start and flags were read from its `stat`
    /// after the walk. `None` means that it has to be read there.
    #[must_use]
    pub fn lines(&self, pid: u32, start_ticks: u64, flags: u64) -> Option<Rc<Vec<Line>>> {
        // One that started in the tick before may have come after the walk had begun. One that has
        // exited is in no v1 cgroup any more, for /proc.
        if start_ticks.saturating_add(1) >= self.since || flags & EXITING != 0 {
            return None;
        }
        self.of(pid)
    }

    /// What it most likely said: to be told of nobody, only to plan by.
    #[must_use]
    pub fn likely(&self, pid: u32) -> Option<Rc<Vec<Line>>> {
        self.of(pid)
    }

    /// What it said of a process that was there from before the walk began until now.
    #[must_use]
    pub fn of_lasting(&self, pid: u32) -> Option<Rc<Vec<Line>>> {
        self.of(pid)
    }

    fn of(&self, pid: u32) -> Option<Rc<Vec<Line>>> {
        // Whoever asks for all does so in their order.
        let next = self.asked.get().wrapping_add(1);
        let at = match self.members.get(next) {
            Some((known, _)) if *known == pid => next,
            _ => self.members.binary_search_by_key(&pid, |(pid, _)| *pid).ok()?,
        };
        self.asked.set(at);
        Some(Rc::clone(&self.members[at].1))
    }

    /// Whether it says of this very process what /proc did.
    fn agrees(&self, layout: &Layout) -> bool {
        let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        self.of(own).is_none_or(|lines| *lines == layout.own)
    }
}

/// How many directories cost clearly less to read than a file of each of so many processes. A directory
/// costs as much as one and a half; to list one process costs a twelfth in the v2 tree, and twice that
/// in each hierarchy of v1 that has more than its root, since those are walked twice.
fn worthwhile(processes: usize, v1: usize) -> usize {
    processes / 10 * 4_usize.saturating_sub(v1)
}

/// Those that were in the same place both times: in that alone of those that were read again, or in none
/// of them and before in the one that was not.
fn both(mut before: Members, after: &Members, unread: Option<u32>) -> Members {
    let mut after = after.as_slice();
    before.retain(|(pid, path)| {
        after = &after[after.partition_point(|(other, _)| other < pid)..];
        let met = &after[..after.partition_point(|(other, _)| other == pid)];
        if Some(*path) == unread { met.is_empty() } else { met == [(*pid, *path)] }
    });
    before
}

/// What is told of each process that was met in every hierarchy.
fn join(layout: &Layout, trees: &[Members], paths: &[Paths]) -> Vec<(u32, Rc<Vec<Line>>)> {
    let Some((first, others)) = trees.split_first() else { return Vec::new() };
    let mut others: Vec<_> = others.iter().map(|members| members.iter().peekable()).collect();
    let mut known: HashMap<Vec<u32>, Option<Rc<Vec<Line>>>> = HashMap::new();
    let mut told = Vec::with_capacity(first.len());
    let mut key = Vec::with_capacity(trees.len());
    for (pid, path) in first {
        key.clear();
        key.push(*path);
        for members in &mut others {
            while members.next_if(|(other, _)| other < pid).is_some() {}
            key.extend(members.peek().filter(|(other, _)| other == pid).map(|(_, path)| *path));
        }
        if key.len() != trees.len() {
            continue;
        }
        if !known.contains_key(&key) {
            let texts: Option<Vec<&[u8]>> =
                key.iter().zip(paths).map(|(number, paths)| paths.get(*number)).collect();
            let lines = texts.and_then(|texts| layout.lines(texts.into_iter()));
            known.insert(key.clone(), lines);
        }
        told.extend(known.get(&key).cloned().flatten().map(|lines| (*pid, lines)));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::{both, worthwhile};

    #[test]
    fn few_cgroups_to_many_processes_are_worth_it() {
        assert!(worthwhile(10_000, 0) > 529 && worthwhile(10_000, 1) > 529 + 2 * 75);
        // Containers in every hierarchy of v1.
        assert_eq!((worthwhile(10_000, 8), worthwhile(9, 0)), (0, 0));
    }

    #[test]
    fn only_who_stayed_is_told() {
        let before = vec![(1, 5), (2, 5), (3, 6), (5, 1), (6, 2), (7, 0), (8, 0), (9, 0)];
        let after = vec![(2, 5), (3, 5), (4, 6), (5, 1), (6, 2), (6, 3), (8, 5), (9, 1), (9, 2)];
        assert_eq!(both(before, &after, Some(0)), [(2, 5), (5, 1), (7, 0)]);
        assert_eq!(both(vec![(1, 1)], &Vec::new(), Some(0)), []);
    }
}
