//! One thread's way through a tree.
//!
//! Each directory is opened beneath the one before by its name alone, so that a directory which is swapped
//! for a link leads nowhere. Of a deep path the upper directories are closed and opened again on the way
//! back: by `..` if that is still the same, else by the names from the top.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bstr::{BString, ByteSlice};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxAttributes, StatxFlags, makedev,
};
use rustix::io::Errno;

use super::crew::{Crew, Job};
use super::linked::Name;
use super::{Id, Sum, Why};

/// How a directory is opened.
const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// How far a name leads: to what lies there, and not to what is mounted on it.
const NEXT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);
/// What is asked of a file.
const ASKED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::NLINK)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::BLOCKS);
/// Bytes of directory entries that are read at once.
const BUFFER: usize = 128 * 1024;
/// Names that are looked at together, in the order of their inodes.
const BATCH: usize = 16 * 1024;
/// Directories of one path that are open at once, besides the first.
const MOST_OPEN: usize = 48;
/// How often a path is gone through from the top after something was moved.
const MOST_RETURNS: usize = 64;

/// What one thread has counted.
pub(super) struct Tally {
    pub(super) sums: Vec<Sum>,
    /// What counted for a tree first, and then for one before it.
    pub(super) moved: BTreeMap<usize, Sum>,
    /// How many, and the first by name.
    pub(super) problems: BTreeMap<(usize, Why), (u64, BString)>,
    /// What may have counted before, under a name that was its only one then.
    pub(super) again: Sum,
}

impl Tally {
    pub(super) fn new(trees: usize) -> Self {
        let sums = vec![Sum::default(); trees];
        let again = Sum::default();
        Self { sums, moved: BTreeMap::new(), problems: BTreeMap::new(), again }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(more);
        }
        for (tree, sum) in &other.moved {
            self.moved.entry(*tree).or_default().merge(sum);
        }
        self.again.merge(&other.again);
        for ((tree, why), (count, path)) in other.problems {
            self.problem(tree, why, count, path);
        }
    }

    fn problem(&mut self, tree: usize, why: Why, count: u64, path: BString) {
        let known = self.problems.entry((tree, why)).or_insert_with(|| (0, path.clone()));
        known.0 += count;
        if path < known.1 {
            known.1 = path;
        }
    }
}

/// A directory on the way.
struct Frame {
    /// Closed when too many are open.
    fd: Option<OwnedFd>,
    id: Id,
    name: BString,
    /// Names of directories in it that are still to be counted, each ended by a NUL.
    pending: Vec<u8>,
}

/// One thread at work.
pub(super) struct Walker<'c> {
    crew: &'c Crew<'c>,
    tally: Tally,
    buffer: Vec<u8>,
    /// Names of a directory, each ended by a NUL.
    names: Vec<u8>,
    /// Inode of each, and where its name begins.
    entries: Vec<(u64, usize)>,
    // Of the job that is done.
    tree: usize,
    path: BString,
    frames: Vec<Frame>,
    /// The first frame but the lowest that is open.
    first_open: usize,
    returns: usize,
}

impl<'c> Walker<'c> {
    pub(super) fn new(crew: &'c Crew<'c>) -> Self {
        Self {
            crew,
            tally: Tally::new(crew.trees.len()),
            buffer: Vec::with_capacity(BUFFER),
            names: Vec::new(),
            entries: Vec::new(),
            tree: 0,
            path: BString::default(),
            frames: Vec::new(),
            first_open: 1,
            returns: 0,
        }
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Does a job; false when it was stopped before its end.
    pub(super) fn run(&mut self, job: Job) -> bool {
        self.frames.clear();
        (self.first_open, self.returns) = (1, 0);
        let opened = match job {
            Job::Tree(number) => {
                (self.tree, self.path) = (number, BString::default());
                self.root().map(|fd| (fd, true))
            }
            Job::Dir(tree, fd, path) => {
                (self.tree, self.path) = (tree, path);
                Some((fd, false))
            }
        };
        let first = opened.and_then(|(fd, is_root)| self.enter(fd, BString::default(), is_root));
        self.frames.extend(first);
        while !self.frames.is_empty() {
            if self.crew.is_stopped() {
                return false;
            }
            self.share();
            self.step();
        }
        !self.crew.is_stopped()
    }

    /// The root of a tree, if it is a directory; a file is counted at once.
    fn root(&mut self) -> Option<OwnedFd> {
        let tree = &self.crew.trees[self.tree];
        if self.crew.roots.get(&tree.id) != Some(&self.tree) {
            return None; // it counts for another one
        }
        let open = |flags| {
            let rel = tree.rel.as_slice();
            rustix::fs::openat2(tree.base, rel, flags, Mode::empty(), tree.resolve)
        };
        let flags = if tree.is_dir { OPEN } else { OFlags::PATH | OFlags::NOFOLLOW };
        let opened = open(flags | OFlags::CLOEXEC).and_then(|fd| {
            let stat = rustix::fs::fstat(&fd)?;
            Ok(((stat.st_dev, stat.st_ino) == tree.id).then_some(fd))
        });
        match opened {
            Ok(Some(fd)) if tree.is_dir => return Some(fd),
            Ok(Some(fd)) => self.file(fd.as_fd(), b""),
            Ok(None) => self.failed(Why::Changed, b""),
            Err(e) => {
                self.failed(Why::Errno(e.raw_os_error()), b"");
                // Who may not look into it may still look at it.
                if let Ok(fd) = open(OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
                    self.file(fd.as_fd(), b"");
                }
            }
        }
        None
    }

    /// Goes one directory down, or back up.
    fn step(&mut self) {
        let Some(top) = self.frames.last_mut() else { return };
        let (Some(name), Some(fd)) = (pop_name(&mut top.pending), &top.fd) else {
            let done = self.frames.pop();
            return self.come_back(done.and_then(|frame| frame.fd));
        };
        match open_in(fd.as_fd(), &name) {
            Ok(child) => {
                let Some(frame) = self.enter(child, name, false) else { return };
                self.frames.push(frame);
                if self.frames.len() - self.first_open > MOST_OPEN {
                    self.frames[self.first_open].fd = None;
                    self.first_open += 1;
                }
            }
            Err(e) => self.not_opened(e, &name),
        }
    }

    fn not_opened(&mut self, errno: Errno, name: &[u8]) {
        match errno {
            // Removed, or no directory any more.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {}
            Errno::XDEV => self.failed(Why::Elsewhere, name),
            errno => {
                self.failed(Why::Errno(errno.raw_os_error()), name);
                // It takes room itself, whatever is in it.
                self.look(name);
            }
        }
    }

    /// Opens the directory above again, by way of the one that is done.
    fn come_back(&mut self, mut below: Option<OwnedFd>) {
        while let Some(at) = self.frames.len().checked_sub(1) {
            if self.frames[at].fd.is_some() {
                return;
            }
            let id = self.frames[at].id;
            let above =
                below.take().and_then(|fd| rustix::fs::openat(fd, "..", OPEN, Mode::empty()).ok());
            let found = above.filter(|fd| id_of(fd.as_fd()) == Some(id)).or_else(|| self.again(at));
            if let Some(fd) = found {
                self.frames[at].fd = Some(fd);
                self.first_open = at;
                return;
            }
            if !self.frames[at].pending.is_empty() {
                self.failed(Why::Changed, b"");
            }
            self.frames.pop();
        }
    }

    /// A directory on the way by the names of those above.
    fn again(&mut self, at: usize) -> Option<OwnedFd> {
        self.returns += 1;
        if self.returns > MOST_RETURNS {
            return None;
        }
        let mut fd: Option<OwnedFd> = None;
        for frame in &self.frames[1..=at] {
            let above = fd.as_ref().or(self.frames[0].fd.as_ref())?;
            fd = Some(open_in(above.as_fd(), &frame.name).ok()?);
        }
        fd.filter(|fd| id_of(fd.as_fd()) == Some(self.frames[at].id))
    }

    /// Leaves a directory to a thread that has nothing to do: the uppermost, which may hold most.
    fn share(&mut self) {
        if !self.crew.is_hungry() {
            return;
        }
        let has_some = |frame: &Frame| frame.fd.is_some() && !frame.pending.is_empty();
        let Some(at) = self.frames.iter().position(has_some) else { return };
        // The last one is ours to do.
        let is_last = at + 1 == self.frames.len();
        if is_last && self.frames[at].pending.iter().filter(|b| **b == 0).nth(1).is_none() {
            return;
        }
        let frame = &mut self.frames[at];
        let (Some(name), Some(fd)) = (pop_name(&mut frame.pending), &frame.fd) else { return };
        let opened = open_in(fd.as_fd(), &name);
        let back = match opened {
            Ok(child) => {
                let path = self.path_of(at, &name);
                self.crew.give(Job::Dir(self.tree, child, path)).is_some()
            }
            Err(_) => true,
        };
        if back {
            // Whatever there is to be said of it is said in its turn.
            let pending = &mut self.frames[at].pending;
            pending.extend_from_slice(&name);
            pending.push(0);
        }
    }

    /// Counts a directory and the files in it; `None` when there is nothing below.
    fn enter(&mut self, fd: OwnedFd, name: BString, is_root: bool) -> Option<Frame> {
        let stat = match rustix::fs::fstat(&fd) {
            Ok(stat) => stat,
            Err(e) => {
                self.failed(Why::Errno(e.raw_os_error()), &name);
                return None;
            }
        };
        let id = (stat.st_dev, stat.st_ino);
        if id.0 != self.crew.trees[self.tree].id.0 {
            self.failed(Why::Elsewhere, &name);
            return None;
        }
        if !is_root && self.crew.roots.contains_key(&id) {
            return None; // it counts by itself
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        self.tally.sums[self.tree].add(bytes, 0);
        self.crew.count(1, bytes);
        let mut frame = Frame { fd: None, id, name, pending: Vec::new() };
        if let Err(e) = self.read(fd.as_fd(), &mut frame)
            && e != Errno::NOENT
        {
            let name = std::mem::take(&mut frame.name);
            self.failed(Why::Errno(e.raw_os_error()), &name);
            frame.name = name;
        }
        frame.fd = Some(fd);
        Some(frame)
    }

    /// Reads a directory: its files are counted, its directories noted.
    fn read(&mut self, fd: BorrowedFd<'_>, frame: &mut Frame) -> Result<(), Errno> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut dir = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut result = Ok(());
        while let Some(entry) = dir.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            match entry.file_type() {
                FileType::Directory if name == b"." || name == b".." => {}
                FileType::Directory => note(&mut frame.pending, name),
                FileType::Unknown if name == b"." || name == b".." => {}
                _ => {
                    self.entries.push((entry.ino(), self.names.len()));
                    note(&mut self.names, name);
                }
            }
            if self.entries.len() >= BATCH {
                self.files(fd, frame);
                if self.crew.is_stopped() {
                    break;
                }
            }
        }
        self.files(fd, frame);
        self.buffer = buffer;
        result
    }

    /// Counts the files that were noted, as they lie on the disk.
    fn files(&mut self, fd: BorrowedFd<'_>, frame: &mut Frame) {
        let mut entries = std::mem::take(&mut self.entries);
        let names = std::mem::take(&mut self.names);
        if entries.len() > 1 {
            entries.sort_unstable();
        }
        for (at, (_, start)) in entries.iter().enumerate() {
            if at % 1024 == 1023 && self.crew.is_stopped() {
                break;
            }
            let rest = &names[*start..];
            let name = &rest[..rest.find_byte(0).unwrap_or(rest.len())];
            if self.count(fd, name, Some(&frame.name)) {
                note(&mut frame.pending, name);
            }
        }
        (self.entries, self.names) = (entries, names);
        self.entries.clear();
        self.names.clear();
    }

    /// Counts what is held.
    fn file(&mut self, fd: BorrowedFd<'_>, name: &[u8]) {
        self.count(fd, name, None);
    }

    /// Counts what has a name in the last directory, and nothing in it.
    fn look(&mut self, name: &[u8]) {
        let fd = self.frames.last_mut().and_then(|frame| frame.fd.take());
        if let Some(fd) = fd {
            let seen = statx(fd.as_fd(), name);
            if let Some(frame) = self.frames.last_mut() {
                frame.fd = Some(fd);
            }
            if let Ok(seen) = seen
                && !self.is_elsewhere(&seen)
                && !self.crew.roots.contains_key(&id(&seen))
            {
                self.add(&seen);
            }
        }
    }

    fn is_elsewhere(&self, seen: &rustix::fs::Statx) -> bool {
        id(seen).0 != self.crew.trees[self.tree].id.0
    }

    /// Counts a file by its name in a directory, or itself; true for what is a directory after all.
    fn count(&mut self, dir: BorrowedFd<'_>, name: &[u8], of: Option<&BString>) -> bool {
        let seen = match statx(dir, name) {
            Ok(seen) => seen,
            Err(Errno::NOENT) => return false,
            Err(e) => {
                self.failed_in(Why::Errno(e.raw_os_error()), of, name);
                return false;
            }
        };
        let kind = FileType::from_raw_mode(seen.stx_mode.into());
        if kind == FileType::Directory && of.is_some() {
            return true;
        }
        let is_mounted = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        if self.is_elsewhere(&seen) || (of.is_some() && is_mounted) {
            self.failed_in(Why::Elsewhere, of, name);
            return false;
        }
        let is_listed = of.is_some() && self.crew.has_files;
        let is_tree = is_listed && self.crew.roots.contains_key(&id(&seen));
        if !is_tree && self.add(&seen) == Name::Untold {
            self.failed_in(Why::Linked, of, name);
        }
        false
    }

    /// Counts an inode, unless another name of it did.
    fn add(&mut self, seen: &rustix::fs::Statx) -> Name {
        let bytes = seen.stx_blocks.saturating_mul(512);
        let is_dir = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory;
        let apparent = if is_dir { 0 } else { seen.stx_size };
        let name = match seen.stx_nlink {
            names if names > 1 && !is_dir => self.crew.linked.meet(id(seen), names, self.tree),
            _ => Name::First,
        };
        if name == Name::First
            && seen.stx_nlink > 1
            && !is_dir
            && self.crew.is_since(&seen.stx_ctime)
        {
            self.tally.again.add(bytes, apparent);
        }
        if name == Name::Other {
            return name;
        }
        self.tally.sums[self.tree].add(bytes, apparent);
        match name {
            Name::Before(other) => self.tally.moved.entry(other).or_default().add(bytes, apparent),
            _ => self.crew.count(1, bytes),
        }
        name
    }

    /// Something in the last directory could not be counted.
    fn failed(&mut self, why: Why, name: &[u8]) {
        let path = match self.frames.len() {
            0 => crate::capture::joined(&self.path, name),
            len => self.path_of(len - 1, name),
        };
        self.tally.problem(self.tree, why, 1, path);
    }

    /// As [`Walker::failed`], in a directory that is being entered.
    fn failed_in(&mut self, why: Why, dir: Option<&BString>, name: &[u8]) {
        match dir {
            Some(dir) if !dir.is_empty() => {
                let below = [dir.as_slice(), b"/", name].concat();
                self.failed(why, &below);
            }
            _ => self.failed(why, name),
        }
    }

    /// The path of a name in a directory on the way, from the root of the tree.
    fn path_of(&self, at: usize, name: &[u8]) -> BString {
        let above = self.frames[..=at].iter().map(|frame| frame.name.as_slice());
        let parts = std::iter::once(self.path.as_slice()).chain(above).chain([name]);
        let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
        bstr::join(b"/", parts).into()
    }
}

fn note(names: &mut Vec<u8>, name: &[u8]) {
    names.extend_from_slice(name);
    names.push(0);
}

/// The last of the names, taken away.
fn pop_name(names: &mut Vec<u8>) -> Option<BString> {
    names.pop()?;
    let start = names.rfind_byte(0).map_or(0, |at| at + 1);
    let name = BString::from(&names[start..]);
    names.truncate(start);
    Some(name)
}

fn open_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    // EAGAIN: something was renamed meanwhile, the manual says to try again.
    for _ in 0..8 {
        match rustix::fs::openat2(dir, name, OPEN, Mode::empty(), NEXT) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

fn id(seen: &rustix::fs::Statx) -> Id {
    (makedev(seen.stx_dev_major, seen.stx_dev_minor), seen.stx_ino)
}

fn id_of(fd: BorrowedFd<'_>) -> Option<Id> {
    rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// What the kernel has of a file; without a name of what is held. No server is asked.
fn statx(dir: BorrowedFd<'_>, name: &[u8]) -> Result<rustix::fs::Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let flags = if name.is_empty() { flags | AtFlags::EMPTY_PATH } else { flags };
    rustix::fs::statx(dir, name, flags, ASKED)
}
