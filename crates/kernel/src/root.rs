//! One directory tree that reads stay beneath.
//!
//! A [`Root`] is an `O_PATH` directory with the path to show for it. Names beneath it are resolved
//! by openat2(2) (kernel 5.6), which never leaves it. What is read must be a regular file: it is
//! looked at through `O_PATH` first, so a FIFO, socket or device is never opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::look::Look;

/// How links beneath a root are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Links are followed, an absolute one from the root itself: a host's file system, whose
    /// administrator may link `/var/lib/docker` elsewhere.
    Within,
    /// No link is followed: an engine's state, where a link is an attack or damage.
    Never,
}

/// A directory tree; see the module.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    shown: BString,
    links: Links,
    /// The only uid whose files are trusted; `None` trusts any (a saved tree keeps no owners).
    owner: Option<u32>,
    /// Nothing mounted beneath it is entered: what it lies on is known, what is mounted there is not.
    one_mount: bool,
}

/// What a directory entry is, as `getdents64` says (no further call).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File name.
    pub name: BString,
    /// Whether it is a directory, as far as the file system tells without asking.
    pub is_dir: bool,
}

impl Root {
    /// Opens a directory of the machine itself by path.
    ///
    /// # Errors
    /// When it is no directory or may not be searched.
    pub fn open(path: &BStr, links: Links) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path.as_bytes(), flags, Mode::empty())
            .map_err(|e| ReadError::from_errno(path, e))?;
        Ok(Self { dir, shown: path.into(), links, owner: None, one_mount: false })
    }

    /// The directory `rel` beneath this one as a root of its own. `owner` restricts trust.
    ///
    /// # Errors
    /// When it is no directory, may not be searched, or lies outside.
    pub fn descend(&self, rel: &[u8], links: Links, owner: Option<u32>) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = self.openat(rel, flags)?;
        Ok(Self { dir, shown: self.join(rel), links, owner, one_mount: self.one_mount })
    }

    /// A directory that is open already, of which no link and no mount beneath is followed.
    pub(crate) fn confined(dir: OwnedFd, shown: BString, owner: u32) -> Self {
        Self { dir, shown, links: Links::Never, owner: Some(owner), one_mount: true }
    }

    /// The path to show people.
    #[must_use]
    pub fn shown(&self) -> &BStr {
        self.shown.as_ref()
    }

    /// The path to show for a name beneath.
    #[must_use]
    pub fn join(&self, rel: &[u8]) -> BString {
        let mut path = self.shown.trim_end_with(|c| c == '/').to_vec();
        let rel = rel.strip_prefix(b"/").unwrap_or(rel);
        if !rel.is_empty() || path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(rel);
        path.into()
    }

    fn openat(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, ReadError> {
        let resolve = ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::Within => ResolveFlags::IN_ROOT,
                Links::Never => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            }
            | if self.one_mount { ResolveFlags::NO_XDEV } else { ResolveFlags::empty() };
        let name = rel.strip_prefix(b"/").unwrap_or(rel);
        let name = if name.is_empty() { &b"."[..] } else { name };
        // EAGAIN: a rename raced with the walk; the manual says to try again.
        for _ in 0..8 {
            match rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                Ok(fd) => return Ok(fd),
                Err(errno) => return Err(ReadError::from_errno(self.join(rel), errno)),
            }
        }
        Err(ReadError::new(self.join(rel), Class::TimedOut, "renamed all the time"))
    }

    /// Opens a directory beneath, for listing or as a base.
    ///
    /// # Errors
    /// When it is no directory or lies outside.
    pub(crate) fn open_dir(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, ReadError> {
        self.openat(rel, flags)
    }

    /// Looks at a name without opening it: its type, owner and size.
    ///
    /// # Errors
    /// When it is not there or may not be reached.
    pub fn look(&self, rel: &[u8]) -> Result<Look, ReadError> {
        let fd = self.openat(rel, OFlags::PATH | OFlags::CLOEXEC)?;
        Look::of(fd.as_fd()).map_err(|e| ReadError::from_errno(self.join(rel), e))
    }

    /// Whether there is a directory of this name.
    #[must_use]
    pub fn has_dir(&self, rel: &[u8]) -> bool {
        self.look(rel).is_ok_and(|l| l.is_dir())
    }

    /// Reads a regular file of at most `cap` bytes.
    ///
    /// # Errors
    /// `malformed` for anything but a regular file, one of another owner, or a larger one.
    pub fn read(&self, rel: &[u8], cap: usize) -> Result<Vec<u8>, ReadError> {
        let refuse = |why: String| ReadError::new(self.join(rel), Class::Malformed, why);
        let look = self.look(rel)?;
        match look.file_type() {
            FileType::RegularFile => {}
            FileType::Symlink => {
                return Err(refuse("a symbolic link where none is allowed".into()));
            }
            _ => return Err(refuse("not a regular file".into())),
        }
        if let Some(owner) = self.owner.filter(|o| *o != look.uid) {
            return Err(refuse(format!("owned by uid {}, not {owner}", look.uid)));
        }
        if look.size > cap as u64 {
            return Err(refuse(format!("{} bytes, more than {cap}", look.size)));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self.openat(rel, flags)?;
        let errno = |e| ReadError::from_errno(self.join(rel), e);
        let open = Look::of(fd.as_fd()).map_err(errno)?;
        // Replaced between two calls: engines do that; one more try sees the new file.
        if !open.is(&look) && (!open.is_file() || self.owner.is_some_and(|o| o != open.uid)) {
            return Err(refuse("changed while it was opened".into()));
        }
        let hint = usize::try_from(open.size).unwrap_or(0).min(cap);
        let mut bytes = Vec::with_capacity(hint + 1);
        read_to_end(fd.as_fd(), &mut bytes, cap).map_err(errno)?;
        if bytes.len() > cap {
            return Err(refuse(format!("more than {cap} bytes")));
        }
        Ok(bytes)
    }

    /// A link's text, not followed. No link on the way is followed either unless the root allows.
    ///
    /// # Errors
    /// When it is no link or may not be read.
    pub fn read_link(&self, rel: &[u8]) -> Result<BString, ReadError> {
        let fd = self.openat(rel, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        rustix::fs::readlinkat(&fd, c"", Vec::with_capacity(256))
            .map(|text| text.into_bytes().into())
            .map_err(|e| ReadError::from_errno(self.join(rel), e))
    }

    /// The entries of a directory, without `.` and `..`, at most `most`.
    ///
    /// # Errors
    /// When it is no directory, may not be read, or holds more.
    pub fn list(&self, rel: &[u8], most: usize) -> Result<Vec<Entry>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = self.openat(rel, flags)?;
        let mut entries = Vec::new();
        for_each_entry(fd.as_fd(), &mut |name, kind| {
            if entries.len() <= most {
                entries.push(Entry { name: name.into(), is_dir: kind == FileType::Directory });
            }
        })
        .map_err(|e| ReadError::from_errno(self.join(rel), e))?;
        if entries.len() > most {
            let why = format!("more than {most} entries");
            return Err(ReadError::new(self.join(rel), Class::Malformed, why));
        }
        Ok(entries)
    }

    /// The file system's magic number, as fstatfs(2) gives it.
    ///
    /// # Errors
    /// As [`Root::look`].
    pub fn fs_magic(&self, rel: &[u8]) -> Result<i64, ReadError> {
        let fd = self.openat(rel, OFlags::PATH | OFlags::CLOEXEC)?;
        let errno = |e| ReadError::from_errno(self.join(rel), e);
        #[allow(clippy::useless_conversion, reason = "f_type is narrower on some architectures")]
        rustix::fs::fstatfs(&fd).map(|s| i64::from(s.f_type)).map_err(errno)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Reads from the descriptor's position to its end, or until more than `cap` bytes are there.
///
/// # Errors
/// The kernel's.
pub fn read_to_end(fd: BorrowedFd<'_>, into: &mut Vec<u8>, cap: usize) -> Result<(), Errno> {
    let mut chunk = [0_u8; 16 * 1024];
    while into.len() <= cap {
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => into.extend_from_slice(&chunk[..n]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Calls `each` for every entry of an open directory but `.` and `..`.
///
/// # Errors
/// The kernel's.
pub fn for_each_entry(
    fd: BorrowedFd<'_>,
    each: &mut dyn FnMut(&[u8], FileType),
) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut dir = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name, entry.file_type());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use bstr::BStr;

    use super::{Links, Root};
    use crate::error::Class;

    fn tree() -> (tempfile::TempDir, Root, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        std::fs::write(dir.path().join("in/file"), "yes").unwrap();
        symlink("../secret", dir.path().join("in/up")).unwrap();
        symlink("/file", dir.path().join("in/abs")).unwrap();
        let path = dir.path().join("in");
        let path = path.to_str().unwrap();
        let never = Root::open(BStr::new(path), Links::Never).unwrap();
        let within = Root::open(BStr::new(path), Links::Within).unwrap();
        (dir, never, within)
    }

    #[test]
    fn links_stay_inside_or_are_refused() {
        let (_dir, never, within) = tree();
        assert_eq!(never.read(b"file", 10).unwrap(), b"yes");
        assert_eq!(within.read(b"abs", 10).unwrap(), b"yes");
        assert_eq!(within.read(b"up", 10).unwrap_err().class, Class::Gone);
        for name in [&b"up"[..], b"abs", b"../secret"] {
            assert_eq!(never.read(name, 10).unwrap_err().class, Class::Malformed, "{name:?}");
        }
    }

    #[test]
    fn only_regular_files_of_the_owner_and_size() {
        let (dir, never, _) = tree();
        let fifo = dir.path().join("in/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(never.read(b"fifo", 10).unwrap_err().class, Class::Malformed);
        assert_eq!(never.read(b"file", 2).unwrap_err().class, Class::Malformed);
        let uid = rustix::process::getuid().as_raw();
        let other = never.descend(b"", Links::Never, Some(uid + 1)).unwrap();
        assert_eq!(other.read(b"file", 10).unwrap_err().class, Class::Malformed);
        assert_eq!(never.read(b"none", 10).unwrap_err().class, Class::Gone);
    }

    #[test]
    fn lists_and_joins() {
        let (_dir, never, _) = tree();
        assert_eq!(never.list(b"", 9).unwrap().len(), 3);
        assert_eq!(never.list(b"", 2).unwrap_err().class, Class::Malformed);
        assert_eq!(never.read_link(b"up").unwrap(), "../secret");
        let root = Root::open(BStr::new("/"), Links::Within).unwrap();
        assert_eq!(root.join(b"/a/b"), "/a/b");
        assert_eq!(root.join(b""), "/");
    }
}
