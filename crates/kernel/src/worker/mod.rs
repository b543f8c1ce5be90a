//! Reads that can block on another process, with a deadline.
//!
//! `/proc/PID/cmdline` copies from the target's memory: a page of it may lie on a FUSE file whose
//! server never answers, or its memory lock may be held for ever. A thread stuck there would keep
//! this process from ending, so such reads are done by a child, which closes every inherited
//! descriptor but its socket, and makes raw system calls only. When it does not answer in time it is
//! abandoned, unreaped, and replaced once; after that every read of the class is `timed-out`.
//!
//! There are two such children, each started at its first use. One reads of processes and shares
//! this program's memory, which starts it in a third of the time. The other looks at files that may
//! not answer, and maps them: what holds up a mapping holds up all who share the memory, so that
//! one has a copy.

mod begun;
mod child;
pub mod exam;
mod pages;
mod slot;
mod wire;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bstr::BString;
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::seam::fork::Memory;
use begun::Ticket;
use slot::Slot;
use wire::{Link, Op, Request};

/// The files of a process whose reading can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// The workers.
#[derive(Debug)]
pub struct Worker {
    proc_path: BString,
    /// For what is read of processes.
    reader: Slot,
    /// For files.
    aside: Slot,
    /// Whether the look at a process that comes next is the last use.
    parting: bool,
    /// A read that was begun before it was asked for.
    prefetched: Option<(Ask, Ticket)>,
    /// How long one read may take.
    patience: Duration,
}

impl Worker {
    /// Workers for the procfs at `proc_path`, waiting `patience` for each read.
    #[must_use]
    pub fn new(proc_path: BString, patience: Duration) -> Self {
        let reader = Slot::new(Memory::Shared, &proc_path);
        let aside = Slot::new(Memory::Copied, &proc_path);
        Self { proc_path, reader, aside, parting: false, prefetched: None, patience }
    }

    /// Does the reads, in order; one result each. `deadline` bounds them together.
    pub fn read(
        &mut self,
        asks: &[Ask],
        deadline: Option<Instant>,
    ) -> Vec<Result<Vec<u8>, ReadError>> {
        if let [ask] = asks
            && let Some(result) = self.prefetched(*ask, deadline)
        {
            return vec![result];
        }
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
                    self.reader.lose();
                }
            }
            debug_assert!(results.len() > before);
        }
        results
    }

    /// Until when one read may take.
    fn until(&self, deadline: Option<Instant>) -> Instant {
        until_of(self.patience, deadline)
    }

    fn error(&self, ask: Ask, class: Class, why: &'static str) -> ReadError {
        error(&self.proc_path, ask, class, why)
    }

    /// One batch; the error says why it stopped, and whether no worker was even asked.
    fn batch(
        &mut self,
        asks: &[Ask],
        deadline: Option<Instant>,
        results: &mut Vec<Result<Vec<u8>, ReadError>>,
    ) -> Result<(), (Class, &'static str, bool)> {
        let until = self.until(deadline);
        self.reader.settle(until);
        if self.reader.is_given_up() {
            return Err((Class::TimedOut, "reads of this kind did not answer before", true));
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return Err((Class::TimedOut, "no time left", true));
        }
        let mut wire = Vec::with_capacity(asks.len() * wire::ASK);
        for ask in asks {
            request_of(ask).put(&mut wire);
        }
        let died = (Class::TimedOut, "the reader ended early", false);
        let link = self.reader.link();
        let link =
            link.map_err(|_| (Class::Unsupported, "no process could be started for it", true))?;
        link.send(&wire, None).map_err(|_| died)?;
        for ask in asks {
            let until = until_of(self.patience, deadline);
            let mut bytes = Vec::new();
            let reply = reply(link, ask.pid, until, &mut |part| bytes.extend_from_slice(part));
            let answer = reply.map_err(|e| match e {
                Errno::TIMEDOUT => (Class::TimedOut, LATE, false),
                _ => died,
            })?;
            results.push(read_of(&self.proc_path, *ask, answer, bytes));
        }
        Ok(())
    }
}

/// What a read that waits for too long is said to have done.
const LATE: &str = "did not answer in time";

fn until_of(patience: Duration, deadline: Option<Instant>) -> Instant {
    let until = Instant::now() + patience;
    deadline.map_or(until, |d| d.min(until))
}

fn request_of(ask: &Ask) -> Request<'static> {
    Request { op: ask.file.op(), pid: ask.pid, a: ask.start_ticks, b: 0, payload: b"" }
}

/// What an answer says of a read.
fn read_of(
    proc_path: &BString,
    ask: Ask,
    answer: Result<Reply, Errno>,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, ReadError> {
    // Another process may have the PID now.
    let answer =
        answer.and_then(
            |reply| {
                if reply.value == ask.start_ticks { Ok(bytes) } else { Err(Errno::SRCH) }
            },
        );
    answer.map_err(|errno| match errno {
        Errno::FBIG => error(proc_path, ask, Class::Malformed, "more than 2 MiB"),
        errno => ReadError::from_errno(path_of(proc_path, ask), errno),
    })
}

fn path_of(proc_path: &BString, ask: Ask) -> BString {
    format!("{proc_path}/{}/{}", ask.pid, ask.file.name()).into()
}

fn error(proc_path: &BString, ask: Ask, class: Class, why: &'static str) -> ReadError {
    ReadError::new(path_of(proc_path, ask), class, why)
}

/// What an answer has besides its content.
#[derive(Debug)]
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

/// What comparing two pages came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One page: one inode.
    Same,
    /// Two pages: two inodes.
    Differs,
    /// The file's page is not in the page cache, where the process's is.
    NotCached,
    /// The file's page was taken away as it was looked at.
    Changing,
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
        assert!(format!("{:?}", worker.reader).contains("running: None"));
    }
}
