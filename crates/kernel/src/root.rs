//! One directory tree that reads stay beneath.
//!
//! A [`Root`] is an `O_PATH` directory with the path to show for it. Names beneath it are resolved
//! by openat2(2) (kernel 5.6), which never leaves it. What is read must be a regular file: it is
//! looked at through `O_PATH` first, so a FIFO, socket or device is never opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::capture::{Place, Recorder, Tape, joined};
use crate::drain::{for_each_entry, read_regular};
use crate::error::{Class, ReadError};
use crate::look::Look;
use crate::sift::Twin;

/// How links beneath a root are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Links are followed, an absolute one from the root itself: a host's file system, whose
    /// administrator may link `/var/lib/docker` elsewhere.
    Within,
    /// No link is followed: an engine's state, where a link is an attack or damage.
    Never,
}

/// How a file is opened to be read: a FIFO that is there all the same is waited for by nobody.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// Links followed on one way, as in the kernel's own walk.
const MOST_LINKS: usize = 40;

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
    /// The administrator named it, and it is root's; see [`Root::read_of_admin`].
    of_admin: bool,
    /// Its place in a capture that is being made, or was.
    place: Option<Place>,
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
        let shown = path.into();
        Ok(Self { dir, shown, links, owner: None, one_mount: false, of_admin: false, place: None })
    }

    /// The directory `rel` beneath this one as a root of its own. `owner` restricts trust.
    ///
    /// # Errors
    /// When it is no directory, may not be searched, or lies outside.
    pub fn descend(&self, rel: &[u8], links: Links, owner: Option<u32>) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = self.openat(rel, flags);
        let place = self.place_of(rel);
        let dir = self.told(opened, place.as_ref(), |recorder, key, dir| {
            recorder.directory(key, Look::of(dir.as_fd()).ok().as_ref());
        })?;
        let (shown, one_mount) = (self.join(rel), self.one_mount);
        Ok(Self { dir, shown, links, owner, one_mount, of_admin: false, place })
    }

    /// A directory that is open already, of which no link and no mount beneath is followed.
    pub(crate) fn confined(dir: OwnedFd, shown: BString, owner: u32, place: Option<Place>) -> Self {
        let owner = Some(owner);
        Self { dir, shown, links: Links::Never, owner, one_mount: true, of_admin: false, place }
    }

    /// The same root under a descriptor of its own.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn again(&self) -> Result<Self, ReadError> {
        let dir = rustix::io::fcntl_dupfd_cloexec(&self.dir, 0);
        let dir = dir.map_err(|e| ReadError::from_errno(self.shown.clone(), e))?;
        let (shown, place) = (self.shown.clone(), self.place.clone());
        Ok(Self { dir, shown, place, ..*self })
    }

    /// The same root, where it is root's: the administrator named it, or it is where an engine's
    /// state is by default, so that nobody else makes names in it.
    #[must_use]
    pub fn of_admin(mut self) -> Self {
        self.of_admin = self.owner == Some(0) && self.links == Links::Never && !self.one_mount;
        self
    }

    /// What another thread needs to read the same files; only of a root that is [`Root::of_admin`] and
    /// no part of a capture.
    pub(crate) fn twin(&self) -> Option<Twin<'_>> {
        let plain = self.of_admin && self.place.is_none();
        plain.then(|| Twin { dir: self.dir.as_fd(), shown: &self.shown })
    }

    /// The root that [`Root::twin`] is of.
    pub(crate) fn twin_of(dir: OwnedFd, shown: BString) -> Self {
        let (links, owner) = (Links::Never, Some(0));
        Self { dir, shown, links, owner, one_mount: false, of_admin: true, place: None }
    }

    /// The same root, with what goes with every read beneath it.
    pub(crate) fn with(mut self, tape: Tape) -> Self {
        self.place = Some(Place { tape, at: BString::default() });
        self
    }

    /// The place in the capture of a name beneath, links on the way followed and written down.
    pub(crate) fn place_of(&self, rel: &[u8]) -> Option<Place> {
        let place = self.place.as_ref()?;
        let at = |key| Some(Place { tape: place.tape.clone(), at: key });
        if self.links == Links::Never {
            return at(place.beneath(rel));
        }
        let parts = |path: &[u8]| -> Vec<BString> {
            let parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
            parts.rev().map(BString::from).collect()
        };
        let mut rest = parts(rel);
        let mut way: Vec<BString> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                way.pop();
                continue;
            }
            way.push(part);
            let here: BString = way.join(&b'/').into();
            let read = || self.link_text(&here).ok();
            let text = match place.recorder() {
                Some(recorder) => recorder.link_at(&place.beneath(&here), read),
                None => read(),
            };
            let Some(text) = text else { continue };
            links += 1;
            if links > MOST_LINKS {
                break; // the read itself says so
            }
            way.pop();
            if text.starts_with(b"/") {
                way.clear();
            }
            rest.extend(parts(&text));
        }
        at(joined(&place.at, &way.join(&b'/')))
    }

    /// What was read, written down; or, where nothing was, what was met there when a capture was
    /// made.
    pub(crate) fn told<T>(
        &self,
        read: Result<T, ReadError>,
        place: Option<&Place>,
        write: impl FnOnce(&Recorder, &BString, &T),
    ) -> Result<T, ReadError> {
        match (place.map(|p| (&p.tape, &p.at)), read) {
            (Some((Tape::Recording(recorder), key)), Ok(read)) => {
                write(recorder, key, &read);
                Ok(read)
            }
            (Some((Tape::Recording(recorder), key)), Err(e)) => {
                recorder.failed(key, &e, false);
                Err(e)
            }
            (Some((Tape::Recorded(recorded), key)), Err(e)) => Err(recorded.explain(key, e)),
            (_, read) => read,
        }
    }

    /// The error that was met here when the capture was made.
    pub(crate) fn met(&self, place: Option<&Place>, rel: &[u8]) -> Result<(), ReadError> {
        let recorded = place.and_then(|p| Some((p.recorded()?, &p.at)));
        let failure = recorded.and_then(|(r, key)| r.failure(key, || self.join(rel)));
        failure.map_or(Ok(()), Err)
    }

    /// Whom a directory or file belonged to when it was captured; `None` where no capture tells.
    #[must_use]
    pub fn recorded_owner(&self, rel: &[u8]) -> Option<u32> {
        let place = self.place_of(rel)?;
        // What is not in the manifest is root's.
        Some(place.recorded()?.look(&place.at).map_or(0, |l| l.uid))
    }

    /// The path to show people.
    #[must_use]
    pub fn shown(&self) -> &BStr {
        self.shown.as_ref()
    }

    /// The path to show for a name beneath.
    #[must_use]
    pub fn join(&self, rel: &[u8]) -> BString {
        join(self.shown.as_ref(), rel)
    }

    /// How names beneath are resolved.
    pub(crate) fn resolve(&self) -> ResolveFlags {
        ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::Within => ResolveFlags::IN_ROOT,
                Links::Never => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            }
            | if self.one_mount { ResolveFlags::NO_XDEV } else { ResolveFlags::empty() }
    }

    fn openat(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, ReadError> {
        let name = rel.strip_prefix(b"/").unwrap_or(rel);
        let name = if name.is_empty() { &b"."[..] } else { name };
        let mut resolve = self.resolve();
        // Without links such a name leads nowhere else, and to have the kernel prove it costs a lock that
        // all processors share.
        if self.links == Links::Never && leads_down(name) {
            resolve.remove(ResolveFlags::BENEATH);
        }
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
        let place = self.place_of(rel);
        if rel.is_empty() && place.is_none() {
            return Look::of(self.as_fd()).map_err(|e| ReadError::from_errno(self.join(rel), e));
        }
        let seen = self.openat(rel, OFlags::PATH | OFlags::CLOEXEC).and_then(|fd| {
            let look = Look::of(fd.as_fd());
            let look = look.map_err(|e| ReadError::from_errno(self.join(rel), e))?;
            Ok((look, fd))
        });
        if let Some(look) = place.as_ref().and_then(|p| p.recorded()?.look(&p.at)) {
            return Ok(look);
        }
        let seen = self.told(seen, place.as_ref(), |recorder, key, (look, fd)| {
            recorder.there(key, look.is_dir(), Some(look));
            recorder.attributes(key, crate::object::overlay_attributes(fd.as_fd()));
        });
        seen.map(|(look, _)| look)
    }

    /// Holds what has a name without opening it, and looks at it: a socket, say. Not for a tree that is
    /// captured.
    ///
    /// # Errors
    /// When it is not there or may not be reached.
    pub fn node(&self, rel: &[u8]) -> Result<(Look, OwnedFd), ReadError> {
        let fd = self.openat(rel, OFlags::PATH | OFlags::CLOEXEC)?;
        let look = Look::of(fd.as_fd());
        Ok((look.map_err(|e| ReadError::from_errno(self.join(rel), e))?, fd))
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
        let place = self.place_of(rel);
        self.met(place.as_ref(), rel)?;
        let read = self.read_file(rel, cap);
        let read = self.told(read, place.as_ref(), |recorder, key, (bytes, look)| {
            recorder.content(key, bytes, Some(look));
        });
        read.map(|(bytes, _)| bytes)
    }

    /// As [`Root::read`], of a file in a directory of the engine's own, where root alone makes names
    /// if the root is such a one ([`Root::of_admin`]): it is opened at once, in half the calls, since
    /// nobody else could have put a device in its place. What containers write is not read so.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn read_of_admin(&self, rel: &[u8], cap: usize) -> Result<Vec<u8>, ReadError> {
        if !self.of_admin || self.place.is_some() {
            return self.read(rel, cap);
        }
        let (fd, look) = self.open_of_admin(rel, cap)?;
        self.content(rel, fd.as_fd(), &look, cap)
    }

    /// As [`Root::open_file`], at once where root alone makes names.
    pub(crate) fn open_of_admin(
        &self,
        rel: &[u8],
        cap: usize,
    ) -> Result<(OwnedFd, Look), ReadError> {
        if !self.of_admin {
            return self.open_file(rel, cap);
        }
        let fd = self.openat(rel, READ)?;
        let look = Look::of(fd.as_fd()).map_err(|e| ReadError::from_errno(self.join(rel), e))?;
        self.admit(rel, &look, cap)?;
        Ok((fd, look))
    }

    fn read_file(&self, rel: &[u8], cap: usize) -> Result<(Vec<u8>, Look), ReadError> {
        let (fd, open) = self.open_file(rel, cap)?;
        Ok((self.content(rel, fd.as_fd(), &open, cap)?, open))
    }

    /// Opens a regular file for reading, on the terms of [`Root::read`].
    pub(crate) fn open_file(&self, rel: &[u8], cap: usize) -> Result<(OwnedFd, Look), ReadError> {
        let errno = |e| ReadError::from_errno(self.join(rel), e);
        let fd = self.openat(rel, OFlags::PATH | OFlags::CLOEXEC)?;
        let look = Look::of(fd.as_fd()).map_err(errno)?;
        self.admit(rel, &look, cap)?;
        let fd = self.openat(rel, READ)?;
        let open = Look::of(fd.as_fd()).map_err(errno)?;
        // Replaced between two calls: engines do that; one more try sees the new file.
        if !open.is(&look) && (!open.is_file() || self.owner.is_some_and(|o| o != open.uid)) {
            return Err(self.refusal(rel, "changed while it was opened".into()));
        }
        Ok((fd, open))
    }

    /// Whether a file counts in this tree, by whose it is.
    #[must_use]
    pub fn trusts(&self, look: &Look) -> bool {
        self.owner.is_none_or(|owner| owner == look.uid)
    }

    /// Refuses what is no regular file of the owner and of such a size.
    fn admit(&self, rel: &[u8], look: &Look, cap: usize) -> Result<(), ReadError> {
        match look.file_type() {
            FileType::RegularFile => {}
            FileType::Symlink => {
                return Err(self.refusal(rel, "a symbolic link where none is allowed".into()));
            }
            _ => return Err(self.refusal(rel, "not a regular file".into())),
        }
        if let Some(owner) = self.owner.filter(|o| *o != look.uid) {
            return Err(self.refusal(rel, format!("owned by uid {}, not {owner}", look.uid)));
        }
        if look.size > cap as u64 {
            return Err(self.refusal(rel, format!("{} bytes, more than {cap}", look.size)));
        }
        Ok(())
    }

    fn content(
        &self,
        rel: &[u8],
        fd: BorrowedFd<'_>,
        open: &Look,
        cap: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let size = usize::try_from(open.size).unwrap_or(usize::MAX);
        read_regular(fd, &mut bytes, size, cap)
            .map_err(|e| ReadError::from_errno(self.join(rel), e))?;
        if bytes.len() > cap {
            return Err(self.refusal(rel, format!("more than {cap} bytes")));
        }
        Ok(bytes)
    }

    fn refusal(&self, rel: &[u8], why: String) -> ReadError {
        ReadError::new(self.join(rel), Class::Malformed, why)
    }

    /// A link's text, not followed. No link on the way is followed either unless the root allows.
    ///
    /// # Errors
    /// When it is no link or may not be read.
    pub fn read_link(&self, rel: &[u8]) -> Result<BString, ReadError> {
        let read = self.link_text(rel);
        let Some(place) = self.link_place(rel) else { return read };
        self.met(Some(&place), rel)?;
        if let (Err(_), Some(recorder)) = (&read, place.recorder())
            && let Ok(fd) = self.openat(rel, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
            && let Ok(look) = Look::of(fd.as_fd())
        {
            // No link, but something.
            recorder.there(&place.at, look.is_dir(), None);
            return read;
        }
        self.told(read, Some(&place), |recorder, key, text| recorder.link(key, text))
    }

    /// The place of a link itself: that of the directory it is in, and its name.
    fn link_place(&self, rel: &[u8]) -> Option<Place> {
        let rel = rel.trim_end_with(|c| c == '/');
        let (dir, name) = rel.rsplit_once_str("/").unwrap_or((b"", rel));
        let place = self.place_of(dir)?;
        let at = place.beneath(name);
        Some(Place { at, ..place })
    }

    fn link_text(&self, rel: &[u8]) -> Result<BString, ReadError> {
        let fd = self.openat(rel, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        rustix::fs::readlinkat(&fd, c"", Vec::with_capacity(256))
            .map(|text| text.into_bytes().into())
            .map_err(|e| ReadError::from_errno(self.join(rel), e))
    }

    /// The entries of a directory by name, without `.` and `..`, at most `most`.
    ///
    /// # Errors
    /// When it is no directory, may not be read, or holds more.
    pub fn list(&self, rel: &[u8], most: usize) -> Result<Vec<Entry>, ReadError> {
        let place = self.place_of(rel);
        self.met(place.as_ref(), rel)?;
        let read = self.entries(rel, most);
        self.told(read, place.as_ref(), |recorder, key, entries| {
            recorder.directory(key, None);
            // The kernel's own directories are full of files that nobody asks for.
            let all = !key.starts_with(b"sys/") && !key.starts_with(b"proc/");
            for entry in entries.iter().filter(|e| all || e.is_dir) {
                recorder.there(&joined(key, &entry.name), entry.is_dir, None);
            }
        })
    }

    fn entries(&self, rel: &[u8], most: usize) -> Result<Vec<Entry>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = self.openat(rel, flags)?;
        let mut entries = Vec::new();
        for_each_entry(fd.as_fd(), &mut |name, kind, _| {
            if entries.len() <= most {
                entries.push(Entry { name: name.into(), is_dir: kind == FileType::Directory });
            }
        })
        .map_err(|e| ReadError::from_errno(self.join(rel), e))?;
        if entries.len() > most {
            let why = format!("more than {most} entries");
            return Err(ReadError::new(self.join(rel), Class::Malformed, why));
        }
        // File systems have an order of their own, and answers must not depend on it.
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
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

/// The path to show for a name beneath the directory that is shown so.
#[must_use]
pub fn join(shown: &BStr, rel: &[u8]) -> BString {
    let mut path = shown.trim_end_with(|c| c == '/').to_vec();
    let rel = rel.strip_prefix(b"/").unwrap_or(rel);
    if !rel.is_empty() || path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(rel);
    path.into()
}

/// Whether a name is relative and has no way up in it.
fn leads_down(name: &[u8]) -> bool {
    !name.starts_with(b"/") && name.split(|b| *b == b'/').all(|part| part != b"..")
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
    fn a_name_without_a_way_up_leads_down() {
        for name in [&b"a"[..], b".", b"a/b", b"..a/b..", b"a//b"] {
            assert!(super::leads_down(name), "{name:?}");
        }
        for name in [&b".."[..], b"../a", b"a/../b", b"a/..", b"/a", b"/"] {
            assert!(!super::leads_down(name), "{name:?}");
        }
        let (_dir, _, never) = tree();
        assert!(
            never.read(b"../outside", 9).is_err() && never.read(b"//etc/passwd", 1 << 20).is_err()
        );
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
