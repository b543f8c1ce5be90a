//! Counting what was planned.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use whose_kernel::root::Root;
use whose_kernel::usage::{self, Problem, Progress, Tree};
use whose_kernel::{Class, ReadError};

use super::super::Index;
use super::{Base, DiskPlan, Planned};
use crate::model::gap::what;
use crate::model::{Gap, Occupied, Usage, UsageKind, UsagePart};

const SIZES: &str = "figures are allocated bytes, as du has them, directories and all; engines add up the \
sizes of files, which are in the column disk_apparent";
const COPIES: &str = "vfs and native keep all files of an image in each layer, which count in full; engines \
tell what a container changed";
const EXTENTS: &str = "on btrfs layers keep all files of those below them and share their extents, which count \
in full for each, as du has them; what is exclusive is told by `btrfs filesystem du`";

/// What takes room on disks.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// The rows, the largest first.
    pub rows: Vec<Usage>,
    /// What could not be counted.
    pub gaps: Vec<Gap>,
    /// What the figures mean, where engines' own differ from them.
    pub notes: Vec<Cow<'static, str>>,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

impl Index<'_> {
    /// Counts what was planned. `go_on` is asked ten times a second; when it says no, or the time is over,
    /// what was counted by then is the answer, and a gap says so.
    pub fn count_disk(
        &self,
        mut plan: DiskPlan,
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> DiskUsage {
        // What several trees have is the container's, and of those the first one's.
        plan.planned.sort_by_key(|p| (plan.rows[p.row].kind, p.row, p.part));
        let DiskPlan { mut rows, mut gaps, planned, own, drivers, .. } = plan;
        let mut trees: Vec<Tree<'_>> = Vec::new();
        let mut of: Vec<&Planned> = Vec::new();
        for one in &planned {
            match self.tree_of(one, &own) {
                Ok(tree) => {
                    trees.push(tree);
                    of.push(one);
                }
                Err(e) if e.class == Class::Gone => {} // removed meanwhile
                Err(e) => {
                    let unread = Occupied::unread(one.part, one.path.clone(), e.class);
                    rows[one.row].parts.push(unread);
                    gaps.push(Gap::from_read(what::DISK, &e));
                }
            }
        }
        let host = self.host;
        let counted = usage::count(&trees, &mut |at| !host.out_of_time() && go_on(at));
        let mut parts: Vec<Occupied> = of
            .iter()
            .zip(&counted.sums)
            .map(|(one, sum)| Occupied {
                part: one.part,
                path: one.path.clone(),
                bytes: sum.bytes,
                apparent: sum.apparent,
                inodes: sum.inodes,
                is_complete: sum.is_whole,
                unread: None,
            })
            .collect();
        for problem in &counted.problems {
            let part = &mut parts[problem.tree];
            gaps.extend(told(problem, part.part));
            if !problem.is_elsewhere {
                part.is_complete = false;
                let is_root = problem.error.path == trees[problem.tree].shown();
                part.unread = is_root.then_some(problem.error.class).or(part.unread);
            }
        }
        let undone = counted.sums.iter().filter(|sum| !sum.is_whole).count();
        let mut seen = HashSet::new();
        gaps.retain(|gap| seen.insert(gap.clone()));
        let is_stopped = undone > 0 || host.out_of_time();
        if is_stopped {
            gaps.push(self.stopped(undone, parts.len()));
        }
        for (one, part) in of.iter().zip(parts) {
            rows[one.row].parts.push(part);
        }
        rows.sort_by_cached_key(|row| {
            let known = row.parts.iter().map(|p| p.bytes).sum::<u64>();
            (Reverse(known), row.kind, row.name.clone())
        });
        rows.iter_mut()
            .for_each(|row| row.parts.sort_by(|a, b| (a.part, &a.path).cmp(&(b.part, &b.path))));
        let mut notes = notes(&rows, &drivers);
        notes.extend(twice(&counted.again));
        DiskUsage { rows, gaps, notes, is_stopped }
    }

    /// A tree, if what it lies on answers by itself.
    fn tree_of<'t>(&'t self, one: &Planned, own: &'t [Root]) -> Result<Tree<'t>, ReadError> {
        self.host.guard(&one.path)?;
        let root = match one.base {
            Base::Engine(number) => self.roots.get(number).map(|(_, state)| &state.root),
            Base::Host => Some(self.host.root()),
            Base::Own(number) => own.get(number),
        };
        let gone = || ReadError::new(one.path.clone(), Class::Gone, "its root is not known");
        let root = root.ok_or_else(gone)?;
        let tree = root.tree(&one.rel)?;
        // Mounted there, or swapped for it since it was looked at.
        if tree.is(&self.host.root().tree(b"")?) {
            let why = "the host's own root directory, which is not counted as a part of it";
            return Err(ReadError::new(one.path.clone(), Class::Unsupported, why));
        }
        if one.is_mount && tree.is_on(&root.tree(b"")?) {
            let why = "a file system of its own that is not mounted, so that its size is not seen";
            return Err(ReadError::new(one.path.clone(), Class::Unsupported, why));
        }
        Ok(tree)
    }

    fn stopped(&self, undone: usize, all: usize) -> Gap {
        let (why, remedy) = if self.host.out_of_time() {
            ("no time left", Some("try again with a longer --timeout"))
        } else {
            ("interrupted", None)
        };
        let why = format!("{why}: of {all} directories {undone} were not counted to their end");
        Gap::new(what::DISK, Class::TimedOut, self.host.shown(b""), why, remedy)
    }
}

/// How the figures differ from those of engines, if they do.
fn notes(rows: &[Usage], drivers: &[&str]) -> Vec<Cow<'static, str>> {
    let differs = |row: &Usage| {
        let is_told = matches!(row.kind, UsageKind::Container | UsageKind::Volume);
        is_told && row.parts.iter().any(|part| part.bytes != part.apparent)
    };
    let has = |names: &[&str]| drivers.iter().any(|driver| names.contains(driver));
    let all = [
        (rows.iter().any(differs), SIZES),
        (has(&["vfs", "native"]), COPIES),
        (has(&["btrfs"]), EXTENTS),
    ];
    all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.into()).collect()
}

/// What may have counted once more than it should, if anything may.
fn twice(again: &usage::Sum) -> Option<Cow<'static, str>> {
    let (inodes, bytes) = (again.inodes, again.bytes);
    let note = format!(
        "{inodes} files with several names were changed while they were counted, perhaps by another name: at most \
         {bytes} bytes count twice"
    );
    (inodes > 0).then(|| note.into())
}

/// The gap that a problem leaves. What is mounted in an engine's directory is its containers' own view,
/// and where it is a volume it counts by itself.
fn told(problem: &Problem, part: UsagePart) -> Option<Gap> {
    if problem.is_elsewhere && matches!(part, UsagePart::Directory | UsagePart::Driver) {
        return None;
    }
    let mut error = problem.error.clone();
    if problem.count > 1 {
        error.cause = format!("{}, and {} more", error.cause, problem.count - 1).into();
    }
    Some(Gap::from_read(what::DISK, &error))
}
