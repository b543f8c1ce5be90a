//! Requests to the worker about one process's memory and about files that may not answer.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use rustix::io::Errno;

use super::wire::{self, Op, PAYLOAD, Request};
use super::{LIVES, Reply, Verdict, Worker, reply};
use crate::error::{Class, ReadError};
use crate::host::Host;
use crate::object::Object;
use crate::parse::handle::Handle;

/// How a path is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Beneath the directory as if it were the root, no link followed, a last one not either.
    Plain,
    /// Beneath the directory as if it were the root, links followed within it.
    Links,
    /// From the directory, `..` leading out of it.
    Up,
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
        if self.lost >= LIVES || until <= Instant::now() {
            return Err(Errno::TIMEDOUT);
        }
        self.start()?;
        let (socket, _) = self.child.as_ref().ok_or(Errno::AGAIN)?;
        let socket = std::os::fd::AsFd::as_fd(socket);
        let mut bytes = Vec::with_capacity(wire::ASK + request.payload.len());
        request.put(&mut bytes);
        let answer =
            wire::send(socket, &bytes, fd).and_then(|()| reply(socket, request.pid, until, take));
        answer.unwrap_or_else(|lost| {
            self.child = None; // stuck or dead: not waited for
            self.lost += 1;
            Err(if lost == Errno::TIMEDOUT { lost } else { Errno::IO })
        })
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

    /// Opens a file by its handle on the file system that `dir` lies on.
    ///
    /// # Errors
    /// `ESTALE` when it has no such file, `EPERM` without `CAP_DAC_READ_SEARCH` in the initial user
    /// namespace, `ETIMEDOUT`.
    pub fn open_handle(&self, dir: &Object, handle: &Handle) -> Result<Object, Errno> {
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
        loop {
            let (part, more) = head(rest)?;
            let rule = match way {
                Way::Plain => 0,
                Way::Links => 1,
                Way::Up => 2,
            };
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
        self.before_read(pid, "maps");
        let exam = Exam { host: self, pid };
        match exam.request(Op::Hold, 0, 0, None, &mut |_| {}) {
            Ok(reply) if reply.value == start_ticks => Ok(exam),
            Ok(_) => Err(exam.error("maps", Errno::SRCH)),
            Err(errno) => Err(exam.error("maps", errno)),
        }
    }
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

    fn bytes(&self, op: Op, name: &str) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.request(op, 0, 0, None, &mut |part| bytes.extend_from_slice(part))
            .map_err(|e| self.error(name, e))?;
        Ok(bytes)
    }

    /// `maps`; empty for a kernel thread, a zombie, and after an exec.
    ///
    /// # Errors
    /// As [`Host::exam`].
    pub fn maps(&self) -> Result<Vec<u8>, ReadError> {
        self.bytes(Op::Maps, "maps")
    }

    /// `auxv`.
    ///
    /// # Errors
    /// As [`Host::exam`].
    pub fn auxv(&self) -> Result<Vec<u8>, ReadError> {
        self.bytes(Op::Auxv, "auxv")
    }

    /// The first page between two addresses that is in memory and a file's.
    ///
    /// # Errors
    /// `forbidden` where the kernel shows no frame numbers: without `CAP_SYS_ADMIN`.
    pub fn page_in(&self, from: u64, to: u64) -> Result<Option<u64>, ReadError> {
        let reply = self.request(Op::FindPage, from, to, None, &mut |_| {});
        let reply = reply.map_err(|e| self.error("pagemap", e))?;
        Ok((reply.value != 0).then_some(reply.value))
    }

    /// Whether the page at `address` is that of `file` at `offset`.
    ///
    /// # Errors
    /// The kernel's: the file could not be opened or mapped; `ETIMEDOUT`.
    pub fn same_page(&self, file: &Object, address: u64, offset: u64) -> Result<Verdict, Errno> {
        let reply = self.request(Op::SamePage, address, offset, Some(file), &mut |_| {})?;
        let all = [
            Verdict::Same,
            Verdict::Differs,
            Verdict::NoPage,
            Verdict::NotCached,
            Verdict::Changing,
        ];
        all.into_iter().find(|v| *v as u64 == reply.value).ok_or(Errno::PROTO)
    }

    /// Ends it. False when the process has run another program since. A worker that was lost on the
    /// way took the answer with it: then nothing speaks against it.
    #[must_use]
    pub fn finish(self) -> bool {
        self.request(Op::Release, 0, 0, None, &mut |_| {}).map_or(true, |reply| reply.value == 1)
    }
}
