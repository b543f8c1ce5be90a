//! Requests to the worker about one process's memory and about files that may not answer.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::begun::Ticket;
use super::pages::Found;
use super::wire::{self, Op, PAYLOAD, Request};
use super::{Reply, Verdict, Worker};
use crate::error::{Class, ReadError};
use crate::host::Host;
use crate::object::Object;
use crate::parse::handle::Handle;

/// How a path is looked up; the numbers go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Way {
    /// Beneath the directory as if it were the root, no link followed, a last one not either.
    Plain = 0,
    /// Beneath the directory as if it were the root, links followed within it.
    Links = 1,
    /// From the directory, `..` leading out of it.
    Up = 2,
}

impl Way {
    pub(super) fn of(number: u64) -> Option<Self> {
        [Self::Plain, Self::Links, Self::Up].into_iter().find(|way| *way as u64 == number)
    }

    /// What openat2(2) is told.
    pub(super) fn flags(self) -> (OFlags, ResolveFlags) {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let plain = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match self {
            Self::Plain => (flags | OFlags::NOFOLLOW, plain | ResolveFlags::IN_ROOT),
            Self::Links => (flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS),
            Self::Up => (flags, plain),
        }
    }
}

impl Worker {
    /// One request, its answer's content handed to `take`.
    fn call(
        &mut self,
        request: &Request<'_>,
        fd: Option<BorrowedFd<'_>>,
        until: Instant,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Reply, Errno> {
        let slot = if request.op.is_readers() { &mut self.reader } else { &mut self.aside };
        slot.settle(until);
        slot.send(request, fd, until)?;
        slot.answer(request.pid, until, take)
    }
}

impl Worker {
    /// Has both end that are idle.
    fn end(&mut self) {
        self.reader.end();
        self.aside.end();
    }

    /// The same, and waits for it.
    fn close(&mut self) {
        self.reader.close();
        self.aside.close();
    }
}

impl Host {
    fn until(&self) -> Instant {
        let until = Instant::now() + self.patience();
        self.deadline().map_or(until, |d| d.min(until))
    }

    fn ask(
        &self,
        request: &Request<'_>,
        object: Option<&Object>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Reply, Errno> {
        let fd = object.map(std::os::fd::AsFd::as_fd);
        self.worker().borrow_mut().call(request, fd, self.until(), take)
    }

    fn fetch(&self, ticket: Ticket, take: &mut dyn FnMut(&[u8])) -> Result<Reply, Errno> {
        self.worker().borrow_mut().fetch(ticket, self.until(), take)
    }

    /// Says that after the next look at a process nothing is left to do for the worker: it then ends
    /// meanwhile, and the command need not wait for that. Should there be something after all,
    /// another one is started.
    pub fn part_from_worker(&self) {
        self.worker().borrow_mut().parting = true;
    }

    /// Ends the workers: what is left to be done before the program ends, if the host itself is forgotten.
    pub fn close(&self) {
        self.worker().borrow_mut().close();
    }

    /// Opens a file by its handle on the file system that `dir` lies on.
    ///
    /// # Errors
    /// `ESTALE` when it has no such file, `EPERM` without `CAP_DAC_READ_SEARCH` in the initial user
    /// namespace, `ETIMEDOUT`.
    pub fn open_handle(&self, dir: &Object, handle: &Handle) -> Result<Object, Errno> {
        if self.is_near(dir) {
            return crate::seam::handle::open_on(dir.as_fd(), handle.kind, &handle.bytes)
                .map(Object::new);
        }
        let kind = u64::from(handle.kind.unsigned_abs());
        let request = Request { op: Op::OpenHandle, pid: 0, a: kind, b: 0, payload: &handle.bytes };
        let reply = self.ask(&request, Some(dir), &mut |_| {})?;
        reply.fd.map(Object::new).ok_or(Errno::PROTO)
    }

    /// Opens a path as `O_PATH`, of any length.
    ///
    /// # Errors
    /// The kernel's; `ELOOP` for a link where none is followed, `ETIMEDOUT`.
    pub fn lookup(&self, dir: &Object, path: &BStr, way: Way) -> Result<Object, Errno> {
        let mut at: Option<Object> = None;
        let mut rest = path.trim_start_with(|c| c == '/');
        if rest.len() < PAYLOAD
            && let Some(known) = self.known(dir, rest, way)
        {
            return known;
        }
        loop {
            let (part, more) = head(rest)?;
            let rule = way as u64;
            let part = if part.is_empty() { b"." } else { part };
            let request = Request { op: Op::Lookup, pid: 0, a: rule, b: 0, payload: part };
            let reply = self.ask(&request, Some(at.as_ref().unwrap_or(dir)), &mut |_| {})?;
            let found = reply.fd.map(Object::new).ok_or(Errno::PROTO)?;
            if more.is_empty() {
                return Ok(found);
            }
            at = Some(found);
            rest = more;
        }
    }

    /// What can be said of a path without a worker: by a walk in the kernel's cache of names
    /// (`RESOLVE_CACHED`, kernel 5.12), which waits for no server and for no automount and gives up
    /// where it would have to; by a walk that leaves no mount that is near. `None` where neither
    /// comes to an end, and where a file system may ask its server all the same.
    fn known(&self, dir: &Object, path: &[u8], way: Way) -> Option<Result<Object, Errno>> {
        let here = path.is_empty() || path == b".";
        let (flags, resolve) = way.flags();
        if self.trusts_cached_names() {
            if here {
                return Some(dir.again());
            }
            let resolve = resolve | ResolveFlags::CACHED;
            match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INVAL) => {}
                other => return Some(other.map(Object::new)),
            }
        }
        if here || !self.is_near(dir) {
            return None;
        }
        let resolve = resolve | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::XDEV) => None,
            other => Some(other.map(Object::new)),
        }
    }

    /// Reads from a regular file, `length` bytes from `offset` at most, part by part, within `time`;
    /// the whole command's without.
    ///
    /// # Errors
    /// The kernel's, `ETIMEDOUT`.
    pub fn content(
        &self,
        file: &Object,
        offset: u64,
        length: u64,
        time: Option<Duration>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        let request = Request { op: Op::Content, pid: 0, a: offset, b: length, payload: b"" };
        let whole = self.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        let until = time.map_or(whole, |time| whole.min(Instant::now() + time));
        let fd = Some(std::os::fd::AsFd::as_fd(file));
        self.worker().borrow_mut().call(&request, fd, until, take).map(|_| ())
    }

    /// An extended attribute of at most 4 KiB. `trusted.*` needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// `ENODATA` when it has none of this name, `ETIMEDOUT`.
    pub fn attribute(&self, file: &Object, name: &str) -> Result<Vec<u8>, Errno> {
        if self.is_near(file) {
            return file.attribute(name);
        }
        let payload = name.as_bytes();
        let request = Request { op: Op::Attribute, pid: 0, a: 0, b: 0, payload };
        let mut value = Vec::new();
        self.ask(&request, Some(file), &mut |part| value.extend_from_slice(part))?;
        Ok(value)
    }

    /// Begins to look at a process's memory. `start_ticks` says which process is meant.
    ///
    /// # Errors
    /// `gone`, `forbidden` without ptrace read access, `timed-out`.
    pub fn exam(&self, pid: u32, start_ticks: u64) -> Result<Exam<'_>, ReadError> {
        self.begin_exam(pid, start_ticks).wait()
    }

    /// As [`Host::exam`], without waiting for it: the memory is read while other things are.
    pub fn begin_exam(&self, pid: u32, start_ticks: u64) -> Beginning<'_> {
        self.before_read(pid, "maps");
        let request = Request { op: Op::Hold, pid, a: start_ticks, b: 0, payload: b"" };
        let ticket = self.worker().borrow_mut().begin(&request, self.until());
        Beginning { host: self, pid, start_ticks, ticket: Some(ticket) }
    }
}

/// A look at a process's memory that has begun.
#[derive(Debug)]
#[must_use]
pub struct Beginning<'h> {
    host: &'h Host,
    pid: u32,
    start_ticks: u64,
    /// What is waited for; `None` once it was.
    ticket: Option<Ticket>,
}

impl<'h> Beginning<'h> {
    /// Waits for what is mapped.
    ///
    /// # Errors
    /// As of [`Host::exam`].
    pub fn wait(mut self) -> Result<Exam<'h>, ReadError> {
        let (host, pid) = (self.host, self.pid);
        let mut exam = Exam {
            host,
            pid,
            bytes: Vec::new(),
            maps: 0,
            asked: RefCell::default(),
            relied: RefCell::default(),
        };
        let mut bytes = Vec::new();
        let ticket = self.ticket.take().unwrap_or_default();
        match host.fetch(ticket, &mut |part| bytes.extend_from_slice(part)) {
            Ok(reply) if reply.value == self.start_ticks => {}
            Ok(_) => return Err(exam.error("maps", Errno::SRCH)),
            Err(errno) => return Err(exam.error("maps", errno)),
        }
        let auxv = usize::try_from(wire::word64(&bytes, 0)).ok();
        exam.maps = auxv
            .and_then(|length| length.checked_add(8))
            .filter(|end| *end <= bytes.len())
            .ok_or_else(|| exam.error("auxv", Errno::PROTO))?;
        exam.bytes = bytes;
        Ok(exam)
    }
}

impl Drop for Beginning<'_> {
    /// Nobody may hear its answer in place of another.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let _ = self.host.fetch(ticket, &mut |_| {});
        }
    }
}

/// Ranges of addresses in one request.
const RANGES: usize = PAYLOAD / 16;
/// Mappings in one.
const MAPPINGS: usize = PAYLOAD / 24;

fn payload_of(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges.iter().flat_map(|(from, to)| [*from, *to]).flat_map(u64::to_ne_bytes).collect()
}

/// Cuts a path where the kernel would find it too long.
fn head(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    if path.len() < PAYLOAD {
        return Ok((path, b""));
    }
    let cut = path[..PAYLOAD - 1].rfind_byte(b'/').ok_or(Errno::NAMETOOLONG)?;
    Ok((&path[..cut], path[cut..].trim_start_with(|c| c == '/')))
}

/// One process's memory, as its `maps`, `auxv` and `pagemap` tell of it: opened once, so that all
/// tell of the same program.
#[derive(Debug)]
pub struct Exam<'h> {
    host: &'h Host,
    pid: u32,
    /// A length, `auxv`, and from `maps` on the other file.
    bytes: Vec<u8>,
    maps: usize,
    asked: RefCell<Asked>,
    /// Pages that something was compared with: they have to be where they were at the end.
    relied: RefCell<Vec<PageAt>>,
}

/// Where pages are being looked for.
#[derive(Debug, Default)]
struct Asked {
    ranges: Vec<(u64, u64)>,
    most: usize,
    /// For the first of them.
    ticket: Ticket,
}

/// A page of a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAt {
    /// Its address.
    pub address: u64,
    /// Its page frame when it was found.
    frame: u64,
}

impl Exam<'_> {
    fn request(
        &self,
        op: Op,
        a: u64,
        b: u64,
        object: Option<&Object>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Reply, Errno> {
        let request = Request { op, pid: self.pid, a, b, payload: b"" };
        self.host.ask(&request, object, take)
    }

    fn error(&self, name: &str, errno: Errno) -> ReadError {
        let path: BString = self.host.shown(format!("proc/{}/{name}", self.pid).as_bytes());
        if errno == Errno::TIMEDOUT {
            return ReadError::new(path, Class::TimedOut, "did not answer in time");
        }
        ReadError::from_errno(path, errno)
    }

    /// `maps`; empty for a kernel thread, a zombie, and after an exec.
    #[must_use]
    pub fn maps(&self) -> &[u8] {
        &self.bytes[self.maps..]
    }

    /// `auxv`.
    #[must_use]
    pub fn auxv(&self) -> &[u8] {
        &self.bytes[8..self.maps]
    }

    /// The file that is mapped from one address to another, as `maps` has them: the very file and mount,
    /// whatever has its name by now.
    ///
    /// # Errors
    /// `forbidden` without `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`; `gone` when nothing is mapped so,
    /// `timed-out`.
    pub fn mapped(&self, from: u64, to: u64) -> Result<Object, ReadError> {
        let name = || format!("map_files/{from:x}-{to:x}");
        let reply = self.request(Op::Mapped, from, to, None, &mut |_| {});
        let fd = reply.and_then(|reply| reply.fd.ok_or(Errno::PROTO));
        fd.map(Object::new).map_err(|errno| self.error(&name(), errno))
    }

    /// Has the first page of each range of addresses looked for that is in memory and a file's, until
    /// there are `most` of them. [`Exam::pages`] tells of them.
    pub fn look_for_pages(&self, ranges: Vec<(u64, u64)>, most: usize) {
        let Some(first) = ranges.chunks(RANGES).next() else { return };
        let payload = payload_of(first);
        let request = self.find_pages(most, &payload);
        let ticket = self.host.worker().borrow_mut().begin(&request, self.host.until());
        *self.asked.borrow_mut() = Asked { ranges, most, ticket };
    }

    fn find_pages<'p>(&self, most: usize, payload: &'p [u8]) -> Request<'p> {
        Request { op: Op::FindPages, pid: self.pid, a: most as u64, b: 0, payload }
    }

    /// The pages that were looked for, each with the number of its range; nothing when they were told.
    /// An error comes with those before it.
    ///
    /// # Errors
    /// `forbidden` where the kernel shows no frame numbers: without `CAP_SYS_ADMIN`.
    pub fn pages(&self) -> (Vec<(usize, PageAt)>, Result<(), ReadError>) {
        let Asked { ranges, most, ticket } = self.asked.take();
        let mut found = Vec::new();
        for (batch, ranges) in ranges.chunks(RANGES).enumerate() {
            let mut bytes = Vec::new();
            let mut take = |part: &[u8]| bytes.extend_from_slice(part);
            let reply = if batch == 0 {
                self.host.fetch(ticket, &mut take)
            } else {
                let payload = payload_of(ranges);
                self.host.ask(&self.find_pages(most - found.len(), &payload), None, &mut take)
            };
            let page = |b: &[u8]| PageAt { address: wire::word64(b, 0), frame: wire::word64(b, 8) };
            let pages = bytes.chunks_exact(16).map(page).enumerate();
            let first = batch * RANGES;
            let pages = pages.filter(|(_, page)| page.address != 0);
            found.extend(pages.map(|(at, page)| (first + at, page)));
            if let Err(errno) = reply {
                return (found, Err(self.error("pagemap", errno)));
            }
            if found.len() >= most {
                break;
            }
        }
        (found, Ok(()))
    }

    /// Whether `file`, which lies on this machine's disks, has a page that the process maps, by the first
    /// that is in memory of these mappings: the first address of each, its end and its offset in the file.
    /// Where that says yes the process had the page before and after the file's was looked at, so that
    /// [`Exam::finish`] has nothing to add. It says no, too, where nothing can be told.
    #[must_use]
    pub fn shares_page(&self, file: &Object, mappings: &[(u64, u64, u64)]) -> bool {
        if !self.host.is_near(file) {
            return false;
        }
        let last = u64::from(self.host.worker().borrow().parting);
        let words = mappings.iter().take(MAPPINGS).flat_map(|(from, to, at)| [*from, *to, *at]);
        let payload: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let request = Request { op: Op::Match, pid: self.pid, a: last, b: 0, payload: &payload };
        let same = self.host.ask(&request, Some(file), &mut |_| {}).is_ok_and(|r| r.value == 1);
        if same && last == 1 {
            self.host.worker().borrow_mut().end();
        }
        same
    }

    /// Whether the page is that of `file` at `offset`: one inode owns a page of the page cache, so
    /// equal frames are one inode. It is told as long as [`Exam::finish`] says that the process had
    /// the page all the time.
    ///
    /// # Errors
    /// The kernel's: the file could not be opened or mapped; `ETIMEDOUT`.
    pub fn same_page(&self, file: &Object, page: PageAt, offset: u64) -> Result<Verdict, Errno> {
        self.page_of(file, self.host.is_near(file), page, offset)
    }

    /// The same of a file that is known to lie on this machine's disks.
    ///
    /// # Errors
    /// As [`Exam::same_page`].
    pub fn same_page_near(
        &self,
        file: &Object,
        page: PageAt,
        offset: u64,
    ) -> Result<Verdict, Errno> {
        self.page_of(file, true, page, offset)
    }

    fn page_of(
        &self,
        file: &Object,
        near: bool,
        page: PageAt,
        offset: u64,
    ) -> Result<Verdict, Errno> {
        let op = if near { Op::NearFrameOf } else { Op::FrameOf };
        let reply = self.request(op, offset, 0, Some(file), &mut |_| {})?;
        Ok(self.compare(page, Found::of(reply.value)))
    }

    fn compare(&self, page: PageAt, found: Found) -> Verdict {
        let frame = match found {
            Found::Frame(frame) => frame,
            Found::Beyond => return Verdict::Differs,
            Found::NotCached => return Verdict::NotCached,
            Found::Taken => return Verdict::Changing,
        };
        let mut relied = self.relied.borrow_mut();
        if !relied.contains(&page) {
            relied.push(page);
        }
        if frame == page.frame { Verdict::Same } else { Verdict::Differs }
    }

    /// Ends it. False when the process has run another program since, or a page that was compared is
    /// not where it was. A worker that was lost on the way took the answer with it: where no page
    /// hangs on it, nothing speaks against what was found.
    #[must_use]
    pub fn finish(self) -> bool {
        let last = u64::from(self.host.worker().borrow().parting);
        let relied = self.relied.borrow();
        let words = relied.iter().flat_map(|page| [page.address, page.frame]);
        let payload: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let request = Request { op: Op::Release, pid: self.pid, a: last, b: 0, payload: &payload };
        let same = self.host.ask(&request, None, &mut |_| {});
        if last == 1 {
            self.host.worker().borrow_mut().end();
        }
        same.map_or(relied.is_empty(), |reply| reply.value == 1)
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::Way;
    use crate::host::{Host, Options};
    use crate::parse;

    #[test]
    fn a_page_is_shared_with_the_file_that_is_mapped_alone() {
        let host = Host::open(Options::default()).unwrap();
        let own = std::process::id();
        let stat = parse::stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let exam = host.exam(own, stat.start_ticks).unwrap();
        let maps = parse::maps::parse(exam.maps()).unwrap();
        let exe = host.process(own).unwrap().object("exe").unwrap();
        let ino = exe.look().unwrap().ino;
        let code =
            maps.iter().find(|m| m.inode == ino && m.offset > 0 && !m.is_writable()).unwrap();
        let at = (code.start, code.end, code.offset);
        exam.look_for_pages(vec![(code.start, code.end)], 1);
        // Who may not see frames proves nothing, nor does a file that may lie elsewhere.
        let can = exam.pages().1.is_ok() && host.is_near(&exe);
        assert_eq!(exam.shares_page(&exe, &[at]), can);
        assert_eq!(exam.shares_page(&exe, &[(0, 4096, 0), at]), can, "nothing is in the first");
        assert!(!exam.shares_page(&exe, &[]));
        assert!(!exam.shares_page(&exe, &[(at.0, at.1, at.2 + 4096)]), "another page of the file");
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy("/proc/self/exe", copy.path()).unwrap();
        let path = copy.path().to_str().unwrap();
        let copied =
            host.lookup(&host.root_object().unwrap(), BStr::new(path), Way::Plain).unwrap();
        assert_eq!(copied.look().unwrap().size, exe.look().unwrap().size);
        assert!(!exam.shares_page(&copied, &[at]), "the same content");
        assert!(exam.finish());
        let exam = host.exam(own, stat.start_ticks).unwrap();
        host.part_from_worker();
        assert!(
            !exam.shares_page(&copied, &[at]),
            "it ends when there is an answer, and not before"
        );
        assert_eq!(exam.shares_page(&exe, &[at]), can);
        host.close();
        assert!(!host.exam(own, stat.start_ticks).unwrap().maps().is_empty());
    }
}
