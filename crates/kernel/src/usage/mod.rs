//! How much room directory trees take on their disks.
//!
//! Bytes are those that are allocated (`st_blocks`), as du(1) counts them. An inode counts once however
//! many names it has, and for the first of the trees that has it, so that the answer does not depend on
//! who was faster. A tree that lies in another one counts by itself and not in that one. No link is
//! followed, no mount entered, and no other device: what is there is told as a [`Problem`].

mod crew;
mod linked;
#[cfg(test)]
mod tests;
mod walk;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bstr::{BStr, BString};
use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::root::Root;

/// What is looked at anew while others count.
const OFTEN: Duration = Duration::from_millis(100);
/// Threads at most: more than a few wait for one another in the kernel.
const MOST_THREADS: usize = 4;

/// Device and inode.
type Id = (u64, u64);

/// A tree that is to be counted: a directory or a file, held by its name beneath a root.
#[derive(Clone, Debug)]
pub struct Tree<'r> {
    base: BorrowedFd<'r>,
    rel: BString,
    resolve: ResolveFlags,
    shown: BString,
    id: Id,
    is_dir: bool,
}

impl Tree<'_> {
    /// Its path, for people.
    #[must_use]
    pub fn shown(&self) -> &BStr {
        self.shown.as_ref()
    }

    /// Whether both are one directory or file.
    #[must_use]
    pub fn is(&self, other: &Tree<'_>) -> bool {
        self.id == other.id
    }

    /// Whether both lie on one device.
    #[must_use]
    pub fn is_on(&self, other: &Tree<'_>) -> bool {
        self.id.0 == other.id.0
    }
}

impl Root {
    /// The tree of this name beneath the root; a link is one by itself. To be asked of what answers by
    /// itself only ([`crate::Host::guard`]).
    ///
    /// # Errors
    /// When it is not there or may not be reached.
    pub fn tree(&self, rel: &[u8]) -> Result<Tree<'_>, ReadError> {
        let error = |e| ReadError::from_errno(self.join(rel), e);
        let fd = self.open_dir(rel, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        let stat = rustix::fs::fstat(&fd).map_err(error)?;
        let name = rel.strip_prefix(b"/").unwrap_or(rel);
        Ok(Tree {
            base: self.as_fd(),
            rel: if name.is_empty() { ".".into() } else { name.into() },
            resolve: self.resolve(),
            shown: self.join(rel),
            id: (stat.st_dev, stat.st_ino),
            is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        })
    }
}

/// What a tree comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes allocated on the disk.
    pub bytes: u64,
    /// Bytes by the sizes of what is no directory: holes count, and what fills up a block does not.
    pub apparent: u64,
    /// Inodes, directories too.
    pub inodes: u64,
    /// Whether it was counted to its end; what could not be read is no matter of that.
    pub is_whole: bool,
}

impl Sum {
    fn add(&mut self, bytes: u64, apparent: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.apparent = self.apparent.saturating_add(apparent);
        self.inodes += 1;
    }

    /// Takes away what counts for another tree after all. It may have grown since.
    fn take(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.apparent = self.apparent.saturating_sub(other.apparent);
        self.inodes = self.inodes.saturating_sub(other.inodes);
    }

    fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.apparent = self.apparent.saturating_add(other.apparent);
        self.inodes += other.inodes;
    }
}

/// Why something was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Errno(i32),
    Elsewhere,
    Changed,
    Linked,
}

/// What was not counted of a tree, alike ones together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the tree.
    pub tree: usize,
    /// Files and directories.
    pub count: u64,
    /// Whether it lies on another file system, or is mounted there.
    pub is_elsewhere: bool,
    /// The first of them by name, and why.
    pub error: ReadError,
}

impl Problem {
    fn new(tree: usize, why: Why, count: u64, path: BString) -> Self {
        let error = match why {
            Why::Errno(raw) => ReadError::from_errno(path, Errno::from_raw_os_error(raw)),
            Why::Elsewhere => {
                let cause = "on another file system, which is not counted";
                ReadError::new(path, Class::Unsupported, cause)
            }
            Why::Changed => ReadError::new(path, Class::TimedOut, "moved while it was counted"),
            Why::Linked => {
                let cause = "counted for each of its names: too many inodes have several";
                ReadError::new(path, Class::Unsupported, cause)
            }
        };
        Self { tree, count, is_elsewhere: why == Why::Elsewhere, error }
    }
}

/// What counting came to.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// A sum a tree, in their order.
    pub sums: Vec<Sum>,
    /// What was not counted, in the order of the trees.
    pub problems: Vec<Problem>,
    /// Of what is in the sums: inodes with several names that were changed since it began. A name may be new, and the
    /// inode have counted under its old one before, so that this is the most that counts twice.
    pub again: Sum,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Inodes that were met.
    pub inodes: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Counts trees. `go_on` is asked ten times a second, on the thread of the caller; when it says no, what
/// was counted by then is the answer.
pub fn count(trees: &[Tree<'_>], go_on: &mut dyn FnMut(Progress) -> bool) -> Counted {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let crew = crew::Crew::new(trees, cores.min(MOST_THREADS), linked::MOST);
    count_with(&crew, go_on)
}

fn count_with(crew: &crew::Crew<'_>, go_on: &mut dyn FnMut(Progress) -> bool) -> Counted {
    let trees = crew.trees;
    if trees.is_empty() {
        return Counted::default();
    }
    let waiting = std::thread::current();
    // A thread that wakes us is not at its end yet by the word of its handle.
    let done = AtomicUsize::new(0);
    let tally = std::thread::scope(|scope| {
        let (waiting, done) = (&waiting, &done);
        let work = || {
            scope.spawn(move || {
                let tally = crew.work();
                done.fetch_add(1, Ordering::Release);
                waiting.unpark();
                tally
            })
        };
        let hands: Vec<_> = (0..crew.threads).map(|_| work()).collect();
        while done.load(Ordering::Acquire) < hands.len() {
            if !go_on(crew.progress()) {
                crew.stop();
                break;
            }
            std::thread::park_timeout(OFTEN);
        }
        let mut whole = walk::Tally::new(trees.len());
        for hand in hands {
            match hand.join() {
                Ok(tally) => whole.merge(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        whole
    });
    crew.conclude(tally)
}
