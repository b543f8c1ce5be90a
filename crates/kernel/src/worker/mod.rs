//! Reads that can block on another process, with a deadline.
//!
//! `/proc/PID/cmdline` copies from the target's memory: a page of it may lie on a FUSE file whose
//! server never answers, or its memory lock may be held for ever. A thread stuck there would keep
//! this process from ending, so such reads are done by a child. It is forked before any thread
//! starts, closes every inherited descriptor but its socket, and makes raw system calls only. When
//! it does not answer in time it is abandoned, unreaped, and replaced once; after that every read
//! of the class is `timed-out`.

mod child;
pub mod exam;
mod pages;
mod wire;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bstr::BString;
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::seam::fork;
use wire::{FRAME, HEAD, Link, MESSAGE, Op, Request};

/// The files of a process whose reading can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slow {
    /// `cmdline`.
    Cmdline = 0,
    /// `environ`; needs ptrace read access.
    Environ = 1,
    /// `io`; needs ptrace read access. It waits for an exec of the target to end, which itself
    /// waits for files that the exec closes.
    Io = 2,
}

impl Slow {
    fn op(self) -> Op {
        match self {
            Self::Cmdline => Op::Cmdline,
            Self::Environ => Op::Environ,
            Self::Io => Op::Io,
        }
    }

    /// The file's name, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cmdline => "cmdline",
            Self::Environ => "environ",
            Self::Io => "io",
        }
    }
}

/// One read to be done: a file of the process (PID, start ticks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which file.
    pub file: Slow,
    /// The process.
    pub pid: u32,
    /// Field 22 of its `stat`; an answer from a successor with the same PID counts as gone.
    pub start_ticks: u64,
}

/// Requests in flight at once: 40 bytes each, so that they are one message.
const BATCH: usize = 256;
/// Longest file taken, bytes: the kernel's default limit for arguments and environment together.
const CAP: usize = 2 * 1024 * 1024;
/// Workers a run may lose before the class is given up: the first and its one replacement.
const LIVES: u32 = 2;

/// The worker, started at its first use.
#[derive(Debug)]
pub struct Worker {
    proc_path: BString,
    /// The running child: our end of its socket, and its PID.
    child: Option<(Link, u32)>,
    lost: u32,
    /// PIDs of children that were told to end.
    ending: Vec<u32>,
    /// Whether the look at a process that comes next is the last use.
    parting: bool,
    /// How long one read may take.
    patience: Duration,
}

impl Worker {
    /// A worker for the procfs at `proc_path`, waiting `patience` for each read.
    #[must_use]
    pub fn new(proc_path: BString, patience: Duration) -> Self {
        Self { proc_path, child: None, lost: 0, ending: Vec::new(), parting: false, patience }
    }

    /// Does the reads, in order; one result each. `deadline` bounds them together.
    pub fn read(
        &mut self,
        asks: &[Ask],
        deadline: Option<Instant>,
    ) -> Vec<Result<Vec<u8>, ReadError>> {
        let mut results = Vec::with_capacity(asks.len());
        while results.len() < asks.len() {
            let rest = &asks[results.len()..];
            let batch = &rest[..rest.len().min(BATCH)];
            let before = results.len();
            if let Err(why) = self.batch(batch, deadline, &mut results) {
                // The read at which it stuck or died is lost; the rest goes to the replacement.
                let ask = asks[results.len()];
                results.push(Err(self.error(ask, why.0, why.1)));
                if why.0 == Class::TimedOut && !why.2 {
                    self.child = None; // stuck: not waited for
                    self.lost += 1;
                }
            }
            debug_assert!(results.len() > before);
        }
        results
    }

    fn error(&self, ask: Ask, class: Class, why: &'static str) -> ReadError {
        let file = ask.file.name();
        let path = format!("{}/{}/{file}", self.proc_path, ask.pid);
        ReadError::new(path, class, why)
    }

    /// One batch; the error says why it stopped, and whether no worker was even asked.
    fn batch(
        &mut self,
        asks: &[Ask],
        deadline: Option<Instant>,
        results: &mut Vec<Result<Vec<u8>, ReadError>>,
    ) -> Result<(), (Class, &'static str, bool)> {
        if self.lost >= LIVES {
            return Err((Class::TimedOut, "reads of this kind did not answer before", true));
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return Err((Class::TimedOut, "no time left", true));
        }
        self.start()
            .map_err(|_| (Class::Unsupported, "no process could be started for it", true))?;
        let mut wire = Vec::with_capacity(asks.len() * wire::ASK);
        for ask in asks {
            let (op, a) = (ask.file.op(), ask.start_ticks);
            let request = Request { op, pid: ask.pid, a, b: 0, payload: b"" };
            request.put(&mut wire);
        }
        let died = (Class::TimedOut, "the reader ended early", false);
        self.link().ok_or(died)?.send(&wire, None).map_err(|_| died)?;
        for ask in asks {
            let until = Instant::now() + self.patience;
            let until = deadline.map_or(until, |d| d.min(until));
            let mut bytes = Vec::new();
            let link = self.link().ok_or(died)?;
            let reply = reply(link, ask.pid, until, &mut |part| bytes.extend_from_slice(part));
            let answer = reply.map_err(|e| match e {
                Errno::TIMEDOUT => (Class::TimedOut, "did not answer in time", false),
                _ => died,
            })?;
            // Another process may have the PID now.
            let answer = answer.and_then(|reply| {
                if reply.value == ask.start_ticks { Ok(bytes) } else { Err(Errno::SRCH) }
            });
            results.push(answer.map_err(|errno| match errno {
                Errno::FBIG => self.error(*ask, Class::Malformed, "more than 2 MiB"),
                errno => {
                    let path = self.error(*ask, Class::Gone, "").path;
                    ReadError::from_errno(path, errno)
                }
            }));
        }
        Ok(())
    }

    fn link(&mut self) -> Option<&mut Link> {
        self.child.as_mut().map(|(link, _)| link)
    }

    fn start(&mut self) -> Result<(), Errno> {
        if self.child.is_some() {
            return Ok(());
        }
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        let proc_path = [self.proc_path.as_slice(), b"\0"].concat();
        let mut buffers = (wire::untouched(MESSAGE), wire::untouched(HEAD + FRAME));
        let page_size = rustix::param::page_size() as u64;
        let pid = fork::fork_into(theirs, move |socket| {
            child::serve(&socket, &proc_path, (&mut buffers.0, &mut buffers.1), page_size);
            // What it was given is not let go of piece by piece: each would be copied for that.
            fork::exit();
        })?;
        self.child = Some((Link::new(ours), pid));
        Ok(())
    }
}

impl Worker {
    /// Has an idle child end: it does when its socket closes.
    fn end(&mut self) {
        self.ending.extend(self.child.take().map(|(_, pid)| pid));
    }
}

impl Drop for Worker {
    /// Idle children are reaped. A stuck one is not here any more.
    fn drop(&mut self) {
        self.end();
        for pid in &self.ending {
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
        }
    }
}

/// What an answer has besides its content.
struct Reply {
    value: u64,
    fd: Option<OwnedFd>,
}

/// One answer, its content handed to `take` part by part: the outer error is the worker's, the
/// inner one the answer.
fn reply(
    link: &mut Link,
    pid: u32,
    until: Instant,
    take: &mut dyn FnMut(&[u8]),
) -> Result<Result<Reply, Errno>, Errno> {
    let mut fd = None;
    loop {
        let (frame, content) = link.frame(until, &mut fd)?;
        if frame.pid != pid {
            return Err(Errno::PROTO);
        }
        take(content);
        if !frame.last {
            continue;
        }
        if frame.errno != 0 {
            let raw = i32::try_from(frame.errno).unwrap_or(libc::EIO);
            return Ok(Err(Errno::from_raw_os_error(raw)));
        }
        return Ok(Ok(Reply { value: frame.value, fd }));
    }
}

/// What comparing two pages came to; the numbers go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Verdict {
    /// One page: one inode.
    Same = 0,
    /// Two pages: two inodes.
    Differs = 1,
    /// The process has no such page in memory (any more).
    NoPage = 2,
    /// The file's page is not in the page cache, where the process's is.
    NotCached = 3,
    /// The process's page changed as often as it was looked at.
    Changing = 4,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Ask, Slow, Worker};
    use crate::error::Class;
    use crate::parse;

    fn own() -> (u32, u64) {
        let stat = parse::stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        (stat.pid, stat.start_ticks)
    }

    #[test]
    fn reads_in_order_and_knows_a_successor() {
        let (pid, start_ticks) = own();
        let mut worker = Worker::new("/proc".into(), Duration::from_secs(20));
        let mine = Ask { file: Slow::Cmdline, pid, start_ticks };
        let mut asks = vec![mine; 600];
        asks[7].start_ticks += 1;
        asks[8].pid = 4_194_304;
        let results = worker.read(&asks, None);
        let expected = std::fs::read("/proc/self/cmdline").unwrap();
        for (i, result) in results.into_iter().enumerate() {
            match (i, result) {
                (7 | 8, Err(e)) => assert_eq!(e.class, Class::Gone),
                (_, Ok(bytes)) => assert_eq!(bytes, expected),
                (i, e) => panic!("{i}: {e:?}"),
            }
        }
    }

    #[test]
    fn a_passed_deadline_reads_nothing() {
        let (pid, start_ticks) = own();
        let mut worker = Worker::new("/proc".into(), Duration::from_secs(20));
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        let results = worker.read(&[ask; 3], Some(Instant::now()));
        assert!(results.iter().all(|r| r.as_ref().unwrap_err().class == Class::TimedOut));
        assert!(worker.child.is_none());
    }
}
