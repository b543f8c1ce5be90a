//! What stat(2) and statx(2) tell of a file, without reading it.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;

/// What identifies and describes a file, from the kernel's cache: a FUSE server is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// `st_dev`, major and minor. An overlay's or btrfs's own, which mountinfo need not show.
    pub device: (u32, u32),
    /// Inode number. On an overlay it does not identify the layer's file.
    pub ino: u64,
    /// `st_mode`.
    pub mode: u32,
    /// Names it has.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime: i128,
    /// Device number of a device file.
    pub rdev: (u32, u32),
    /// Mount id as in mountinfo (kernel 5.8); `None` before, and where it was not asked for.
    pub mount: Option<u64>,
}

impl Look {
    /// Looks at an open file, and does not tell the mount. Not by fstat(2), which asks a FUSE server.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let x = rustix::fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS)?;
        Ok(Self::told(&x, None))
    }

    /// What statx(2) told, and the mount if it told that too.
    pub(crate) fn told(x: &Statx, mount: Option<u64>) -> Self {
        let mtime = i128::from(x.stx_mtime.tv_sec) * 1_000_000_000;
        Self {
            device: (x.stx_dev_major, x.stx_dev_minor),
            ino: x.stx_ino,
            mode: x.stx_mode.into(),
            nlink: x.stx_nlink,
            uid: x.stx_uid,
            gid: x.stx_gid,
            size: x.stx_size,
            mtime: mtime + i128::from(x.stx_mtime.tv_nsec),
            rdev: (x.stx_rdev_major, x.stx_rdev_minor),
            mount,
        }
    }

    /// What kind of file it is.
    #[must_use]
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Whether it is a socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.file_type() == FileType::Socket
    }

    /// Whether it is an overlay's whiteout: a character device 0/0.
    #[must_use]
    pub fn is_whiteout(&self) -> bool {
        self.file_type() == FileType::CharacterDevice && self.rdev == (0, 0)
    }

    /// Whether both are one file.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.device, self.ino) == (other.device, other.ino)
    }
}

/// Whether this user may write to what a path leads to: to connect to a socket, say (unix(7)).
#[must_use]
pub fn may_write(path: &str) -> bool {
    use rustix::fs::{Access, CWD, accessat};
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}
