//! Reads that can block on another process, with a deadline.
//!
//! `/proc/PID/cmdline` copies from the target's memory: a page of it may lie on a FUSE file whose
//! server never answers, or its memory lock may be held for ever. A thread stuck there would keep
//! this process from ending, so such reads are done by a child. It is forked before any thread
//! starts, closes every inherited descriptor but its socket, and makes raw system calls only. When
//! it does not answer in time it is abandoned, unreaped, and replaced once; after that every read
//! of the class is `timed-out`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bstr::BString;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::parse;
use crate::seam::fork;

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
    fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Environ,
            2 => Self::Io,
            _ => Self::Cmdline,
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

/// Requests in flight at once: 8 bytes each, so that they always fit the socket's buffer.
const BATCH: usize = 256;
/// Longest file taken, bytes: the kernel's default limit for arguments and environment together.
const CAP: usize = 2 * 1024 * 1024;
/// Bytes of file content a frame carries at most.
const FRAME: usize = 32 * 1024;
/// Frame head: pid u32, errno u32 (0 none), length u32, last u32, start ticks u64.
const HEAD: usize = 24;
/// Workers a run may lose before the class is given up: the first and its one replacement.
const LIVES: u32 = 2;

/// The worker, started at its first use.
#[derive(Debug)]
pub struct Worker {
    proc_path: BString,
    /// The running child: our end of its socket, and its PID.
    child: Option<(OwnedFd, u32)>,
    lost: u32,
    /// How long one read may take.
    patience: Duration,
}

impl Worker {
    /// A worker for the procfs at `proc_path`, waiting `patience` for each read.
    #[must_use]
    pub fn new(proc_path: BString, patience: Duration) -> Self {
        Self { proc_path, child: None, lost: 0, patience }
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
        let mut wire = Vec::with_capacity(asks.len() * 8);
        for ask in asks {
            wire.extend_from_slice(&ask.pid.to_ne_bytes());
            wire.extend_from_slice(&(ask.file as u32).to_ne_bytes());
        }
        let died = (Class::TimedOut, "the reader ended early", false);
        let (socket, _) = self.child.as_ref().ok_or(died)?;
        send_all(socket.as_fd(), &wire).map_err(|_| died)?;
        for ask in asks {
            let until = Instant::now() + self.patience;
            let until = deadline.map_or(until, |d| d.min(until));
            let answer = receive(socket.as_fd(), *ask, until).map_err(|e| match e {
                Errno::TIMEDOUT => (Class::TimedOut, "did not answer in time", false),
                _ => died,
            })?;
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

    fn start(&mut self) -> Result<(), Errno> {
        if self.child.is_some() {
            return Ok(());
        }
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        let proc_path = [self.proc_path.as_slice(), b"\0"].concat();
        let mut buffer = vec![0_u8; HEAD + FRAME];
        let pid = fork::fork_into(theirs, move |socket| serve(&socket, &proc_path, &mut buffer))?;
        self.child = Some((ours, pid));
        Ok(())
    }
}

impl Drop for Worker {
    /// An idle child ends when its socket closes, and is reaped. A stuck one is not here any more.
    fn drop(&mut self) {
        let Some((socket, pid)) = self.child.take() else { return };
        drop(socket);
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    }
}

fn send_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::net::send(fd, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Fills `into`, waiting no longer than `until`.
fn receive_exact(fd: BorrowedFd<'_>, into: &mut [u8], until: Instant) -> Result<(), Errno> {
    let mut at = 0;
    while at < into.len() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&timeout)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        match rustix::io::read(fd, &mut into[at..]) {
            Ok(0) => return Err(Errno::PIPE),
            Ok(n) => at += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// One answer: the outer error is the worker's, the inner one the file's.
fn receive(fd: BorrowedFd<'_>, ask: Ask, until: Instant) -> Result<Result<Vec<u8>, Errno>, Errno> {
    let mut bytes = Vec::new();
    loop {
        let mut head = [0_u8; HEAD];
        receive_exact(fd, &mut head, until)?;
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (pid, errno, length, last) = (word(0), word(4), word(8) as usize, word(12) != 0);
        let ticks = u64::from(word(16)) | (u64::from(word(20)) << 32);
        if pid != ask.pid || length > FRAME {
            return Err(Errno::PROTO);
        }
        let at = bytes.len();
        bytes.resize(at + length, 0);
        receive_exact(fd, &mut bytes[at..], until)?;
        if !last {
            continue;
        }
        if errno != 0 {
            let raw = i32::try_from(errno).unwrap_or(libc::EIO);
            return Ok(Err(Errno::from_raw_os_error(raw)));
        }
        // Another process has the PID now.
        return Ok(if ticks == ask.start_ticks { Ok(bytes) } else { Err(Errno::SRCH) });
    }
}

// ---- the child: system calls and its own buffer only ----

fn serve(socket: &OwnedFd, proc_path: &[u8], buffer: &mut [u8]) {
    let own = u32::try_from(socket.as_raw_fd()).unwrap_or(0);
    fork::close_range(0, own.saturating_sub(1));
    fork::close_range(own + 1, u32::MAX);
    // An abandoned worker should not outlive the command for longer than its read lasts.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    loop {
        let mut ask = [0_u8; 8];
        let mut at = 0;
        while at < ask.len() {
            match rustix::io::read(socket, &mut ask[at..]) {
                Ok(0) => return,
                Ok(n) => at += n,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let pid = u32::from_ne_bytes([ask[0], ask[1], ask[2], ask[3]]);
        if answer(socket, proc_path, pid, Slow::of(ask[4]), buffer).is_err() {
            return;
        }
    }
}

fn answer(
    socket: &OwnedFd,
    proc_path: &[u8],
    pid: u32,
    file: Slow,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let mut frame = Frame { pid, errno: 0, length: 0, last: true, ticks: 0 };
    match open_pair(proc_path, pid, file, buffer) {
        Err(errno) => frame.errno = errno.raw_os_error().unsigned_abs(),
        Ok((fd, ticks)) => {
            frame.ticks = ticks;
            let mut total = 0;
            loop {
                match rustix::io::read(&fd, &mut buffer[HEAD..]) {
                    Err(Errno::INTR) => {}
                    Err(errno) => {
                        frame.errno = errno.raw_os_error().unsigned_abs();
                        break;
                    }
                    Ok(0) => break,
                    Ok(_) if total > CAP => {
                        frame.errno = Errno::FBIG.raw_os_error().unsigned_abs();
                        break;
                    }
                    Ok(n) => {
                        total += n;
                        frame.send(socket, buffer, n, false)?;
                    }
                }
            }
        }
    }
    frame.send(socket, buffer, 0, true)
}

struct Frame {
    pid: u32,
    errno: u32,
    length: u32,
    last: bool,
    ticks: u64,
}

impl Frame {
    fn send(
        &mut self,
        socket: &OwnedFd,
        buffer: &mut [u8],
        length: usize,
        last: bool,
    ) -> Result<(), Errno> {
        self.length = u32::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        self.last = last;
        let words = [self.pid, self.errno, self.length, u32::from(self.last)];
        for (slot, word) in buffer.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        buffer[16..20].copy_from_slice(&low(self.ticks).to_ne_bytes());
        buffer[20..24].copy_from_slice(&low(self.ticks >> 32).to_ne_bytes());
        send_all(socket.as_fd(), &buffer[..HEAD + length])
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(n: u64) -> u32 {
    n as u32
}

/// Opens the file of a process, and tells which process it is: both through one directory.
fn open_pair(
    proc_path: &[u8],
    pid: u32,
    file: Slow,
    buffer: &mut [u8],
) -> Result<(OwnedFd, u64), Errno> {
    let flags = OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::PATH;
    let base = std::ffi::CStr::from_bytes_with_nul(proc_path).map_err(|_| Errno::INVAL)?;
    let base = rustix::fs::open(base, flags, Mode::empty())?;
    let mut digits = [0_u8; 12];
    let name = c_decimal(pid, &mut digits)?;
    let dir = rustix::fs::openat(&base, name, flags, Mode::empty())?;
    let flags = OFlags::CLOEXEC | OFlags::RDONLY;
    let stat = rustix::fs::openat(&dir, c"stat", flags, Mode::empty())?;
    let n = rustix::io::read(&stat, &mut buffer[..4096])?;
    let ticks = parse::stat::start_ticks(&buffer[..n]).ok_or(Errno::IO)?;
    let name = match file {
        Slow::Cmdline => c"cmdline",
        Slow::Environ => c"environ",
        Slow::Io => c"io",
    };
    Ok((rustix::fs::openat(&dir, name, flags, Mode::empty())?, ticks))
}

fn c_decimal(mut n: u32, digits: &mut [u8; 12]) -> Result<&std::ffi::CStr, Errno> {
    let mut at = digits.len() - 1; // the last byte stays NUL
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).map_err(|_| Errno::INVAL)?;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    std::ffi::CStr::from_bytes_with_nul(&digits[at..]).map_err(|_| Errno::INVAL)
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
