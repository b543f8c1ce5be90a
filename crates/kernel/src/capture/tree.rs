//! Writing a new directory tree, and nothing outside it.
//!
//! Names come from what is captured, so they are hostile: every file is made beneath the directory
//! with openat2(2), no link on the way is followed, and nothing that is there is opened.

use std::os::fd::{AsFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::look::Look;

/// A directory that was empty when it was taken.
#[derive(Debug)]
pub(super) struct Tree {
    dir: OwnedFd,
    shown: BString,
    /// The directory last written to: files of one come together.
    last: Option<(BString, OwnedFd)>,
}

const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Tree {
    /// Makes the directory, which nobody else may read, or takes an empty one.
    pub(super) fn create(path: &BStr) -> Result<Self, ReadError> {
        let errno = |e| ReadError::from_errno(path, e);
        match rustix::fs::mkdir(path.as_bytes(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(errno(e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path.as_bytes(), flags, Mode::empty()).map_err(errno)?;
        let refuse = |why: &'static str| Err(ReadError::new(path, Class::Malformed, why));
        if Look::of(dir.as_fd()).map_err(errno)?.uid != rustix::process::geteuid().as_raw() {
            return refuse("someone else's; name a new directory");
        }
        let mut buffer = Vec::with_capacity(4096);
        let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(errno)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return refuse("not empty; name a new directory");
            }
        }
        Ok(Self { dir, shown: path.into(), last: None })
    }

    /// The directory of a path in the tree, made if it is not there.
    fn directory(&mut self, key: &[u8]) -> Result<&OwnedFd, Errno> {
        if self.last.as_ref().is_none_or(|(at, _)| at != key) {
            let mut here = rustix::fs::openat(&self.dir, ".", SEARCH, Mode::empty())?;
            for part in key.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
                here = match step(&here, part) {
                    Err(Errno::NOENT) => {
                        rustix::fs::mkdirat(&here, part, Mode::RWXU)?;
                        step(&here, part)?
                    }
                    other => other?,
                };
            }
            self.last = Some((key.into(), here));
        }
        self.last.as_ref().map(|(_, dir)| dir).ok_or(Errno::NOENT)
    }

    fn parent<'k>(&mut self, key: &'k [u8]) -> Result<(&OwnedFd, &'k [u8]), Errno> {
        let (dir, name) = match key.rfind_byte(b'/') {
            Some(at) => (&key[..at], &key[at + 1..]),
            None => (&b""[..], key),
        };
        if name.is_empty() || name == b".." {
            return Err(Errno::INVAL);
        }
        Ok((self.directory(dir)?, name))
    }

    /// The error of a write that failed.
    pub(super) fn failed(&self, key: &[u8], errno: Errno) -> ReadError {
        let path = [self.shown.trim_end_with(|c| c == '/'), b"/", key].concat();
        ReadError::from_errno(path, errno)
    }

    /// Makes a directory and those above it.
    pub(super) fn put_directory(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.directory(key).map(drop)
    }

    /// Writes a new file that only its owner may read.
    pub(super) fn put_file(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Errno> {
        let (dir, name) = self.parent(key)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, mode)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(file.as_fd(), rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes a link of this text, which is never followed here.
    pub(super) fn put_link(&mut self, key: &[u8], text: &[u8]) -> Result<(), Errno> {
        let (dir, name) = self.parent(key)?;
        rustix::fs::symlinkat(text, dir, name)
    }

    /// Takes a link away again.
    pub(super) fn remove_link(&mut self, key: &[u8]) -> Result<(), Errno> {
        let (dir, name) = self.parent(key)?;
        rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty())
    }
}

fn step(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(dir, name, SEARCH, Mode::empty(), RESOLVE)
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::Tree;
    use crate::error::Class;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let tree = Tree::create(BStr::new(path.as_os_str().as_encoded_bytes())).unwrap();
        (dir, tree)
    }

    #[test]
    fn files_links_and_directories() {
        let (dir, mut tree) = tree();
        tree.put_file(b"proc/7/comm", b"x\n").unwrap();
        tree.put_link(b"proc/7/exe", b"/bin/x\n").unwrap();
        tree.put_directory(b"var/lib/empty").unwrap();
        tree.put_file(b"top", b"").unwrap();
        let at = |rel: &str| dir.path().join("new").join(rel);
        assert_eq!(std::fs::read(at("proc/7/comm")).unwrap(), b"x\n");
        assert_eq!(std::fs::read_link(at("proc/7/exe")).unwrap().to_str(), Some("/bin/x\n"));
        assert!(at("var/lib/empty").is_dir() && at("top").is_file());
        tree.put_file(b"top", b"twice").unwrap_err();
    }

    #[test]
    fn nothing_is_written_outside() {
        let (dir, mut tree) = tree();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        tree.put_link(b"way", b"../out").unwrap();
        for key in [&b"way/file"[..], b"../out/file", b"a/../../out/file", b"..", b"a/.."] {
            tree.put_file(key, b"no").unwrap_err();
        }
        tree.put_file(b"way", b"no").unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 0);
    }

    #[test]
    fn only_an_empty_directory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = BStr::new(dir.path().as_os_str().as_encoded_bytes());
        drop(Tree::create(path).unwrap());
        std::fs::write(dir.path().join("mine"), "x").unwrap();
        assert_eq!(Tree::create(path).unwrap_err().class, Class::Malformed);
    }
}
