//! The directories of one hierarchy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::parse::decimal;
use crate::parse::mountinfo::Mount;
use crate::root::Root;
use crate::seam::handle;

/// `FILEID_KERNFS` of the kernel's include/linux/exportfs.h: the handle is the cgroup's id.
const KERNFS: i32 = 0xfe;
/// What one getdents takes.
const LISTING: usize = 32 << 10;
/// Cap of `cgroup.stat`.
const STAT: usize = 4096;
/// Longest path that is told: the kernel tells none of `PATH_MAX`.
const LONGEST: usize = 4000;

/// A hierarchy's mount, at its root cgroup.
#[derive(Debug)]
pub(super) struct Tree {
    top: OwnedFd,
    /// Directories that are no cgroup's parent can be known without reading them.
    counts_children: bool,
    /// Cgroups right below the root.
    children: u64,
}

/// A directory entry that is a cgroup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child<'e> {
    pub(super) name: &'e [u8],
    /// The inode of its directory.
    pub(super) ino: u64,
}

impl Tree {
    /// The tree of a mount of a whole hierarchy; `None` when something else is at its place by now.
    pub(super) fn at(root: &Root, mount: &Mount) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = root.open_dir(&mount.point, flags).ok()?;
        let stat = rustix::fs::fstat(&top).ok()?;
        let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        (device == mount.device).then(|| Self::of(top, stat.st_nlink)).flatten()
    }

    /// The tree below an open directory that has so many links.
    pub(super) fn of(top: OwnedFd, links: u64) -> Option<Self> {
        let mut children = 0;
        each_child(top.as_fd(), &mut |_| children += 1).ok()?;
        let counts_children = links == children + 2;
        Some(Self { top, counts_children, children })
    }

    /// The root cgroup's directory.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// How many v2 cgroups there are below the root (kernel 4.14).
    pub(super) fn descendants(&self) -> Option<u64> {
        let fd = open_beneath(self.top.as_fd(), b"cgroup.stat", OFlags::RDONLY).ok()?;
        let mut text = Vec::new();
        crate::drain::read_to_end(fd.as_fd(), &mut text, STAT).ok()?;
        let mut lines = text.split(|b| *b == b'\n');
        lines.find_map(|line| decimal(line.strip_prefix(b"nr_descendants ")?))
    }

    /// Whether there is only the root cgroup.
    pub(super) fn is_root_only(&self) -> bool {
        self.children == 0
    }

    /// Opens the directory of a cgroup by its path, which begins with a slash.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        open_beneath(self.top.as_fd(), if path == b"/" { b"." } else { &path[1..] }, flags)
    }

    /// Whether a cgroup below this open one may itself have children.
    pub(super) fn has_children(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
        if !self.counts_children {
            return Ok(true);
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(stat.st_nlink != 2)
    }

    /// Whether the kernel's id of a cgroup is the inode that a listing shows: so on 64-bit machines.
    pub(super) fn shows_ids(&self) -> bool {
        let mut first: Option<(Vec<u8>, u64)> = None;
        let listed = self.each_child_of_top(&mut |child| {
            first.get_or_insert_with(|| (child.name.to_owned(), child.ino));
        });
        // One that was removed meanwhile makes this false, which costs time and no truth.
        let (name, ino) = match (listed, first) {
            (Ok(()), Some(first)) => first,
            _ => return false,
        };
        let opened = open_beneath(self.top.as_fd(), &name, OFlags::PATH);
        let handle = opened.and_then(|child| handle::handle_of(child.as_fd()));
        handle.is_ok_and(|h| h.kind == KERNFS && h.bytes == ino.to_ne_bytes())
    }

    /// The root cgroup's own id.
    pub(super) fn root_id(&self) -> Option<u64> {
        rustix::fs::fstat(&self.top).ok().map(|stat| stat.st_ino)
    }

    fn each_child_of_top(&self, each: &mut dyn FnMut(Child<'_>)) -> Result<(), Errno> {
        let dir = self.open(b"/")?;
        each_child(dir.as_fd(), each)
    }
}

/// The path of a child; `None` when /proc would not tell it in this way.
pub(super) fn path_below(parent: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    // No kernel of today makes a cgroup with a line feed in its name; older ones did.
    if name.contains(&b'\n') || parent.len() + name.len() > LONGEST {
        return None;
    }
    let parent = if parent == b"/" { b"" } else { parent };
    Some([parent, b"/", name].concat())
}

/// Opens what lies beneath a cgroup's directory on the same mount, no link followed.
pub(super) fn open_beneath(
    dir: BorrowedFd<'_>,
    rel: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, rel, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Calls `each` for the directories in a directory that was just opened.
pub(super) fn each_child(
    dir: BorrowedFd<'_>,
    each: &mut dyn FnMut(Child<'_>),
) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            each(Child { name, ino: entry.ino() });
        }
    }
    Ok(())
}
