//! The worker's own side: system calls and buffers it was given, nothing that allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::CAP;
use super::exam::Way;
use super::pages::{
    self, Found, c_decimal, c_range, frame_at, magic, own_pagemap, page_entry, reopen,
};
use super::wire::{ASK, FRAME, Frame, HEAD, Op, PAYLOAD, receive, word32, word64};
use crate::parse;
use crate::seam::{fork, handle};

/// Largest `maps` taken, bytes: 65,530 mappings with long names.
const MAPS: usize = 64 << 20;
/// Longest extended attribute taken, bytes: a path.
const ATTRIBUTE: usize = 4096;
/// Entries of `pagemap` read at once.
const ENTRIES: usize = 512;

/// Files of one process that are kept open from one request to the next, so that all of them tell
/// of the same program: after an exec they read empty.
struct Held {
    maps: OwnedFd,
    auxv: OwnedFd,
    pagemap: OwnedFd,
}

impl Held {
    fn open(dir: &OwnedFd) -> Result<Self, Errno> {
        let open = |name| open_in(dir, name);
        Ok(Self { maps: open(c"maps")?, auxv: open(c"auxv")?, pagemap: open(c"pagemap")? })
    }
}

/// What an answer has besides its content.
#[derive(Default)]
struct Done {
    value: u64,
    fd: Option<OwnedFd>,
}

struct Child<'c> {
    socket: BorrowedFd<'c>,
    proc_path: &'c [u8],
    /// A frame that is being made: its head, and so much of its content.
    buffer: &'c mut [u8],
    filled: usize,
    page_size: u64,
    held: Option<Held>,
    /// The directory of the process asked about last, and its start ticks: one process is asked
    /// about several times. It names the process, which may be gone, and never another.
    last: Option<(u32, OwnedFd, u64)>,
    /// Whether nothing more will be asked.
    parted: bool,
}

/// What a worker is given.
#[derive(Debug)]
pub(super) struct Job {
    /// Where its procfs is; ends with a NUL.
    pub(super) proc_path: Vec<u8>,
    /// Room for a message of requests.
    pub(super) message: Vec<u8>,
    /// Room for a frame.
    pub(super) frame: Vec<u8>,
    pub(super) page_size: u64,
}

/// Answers requests until the socket closes.
pub(super) fn serve(socket: BorrowedFd<'_>, job: &mut Job) {
    let own = u32::try_from(socket.as_raw_fd()).unwrap_or(0);
    fork::close_range(0, own.saturating_sub(1));
    fork::close_range(own + 1, u32::MAX);
    // An abandoned worker should not outlive the command for longer than its read lasts.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut child = Child {
        socket,
        proc_path: &job.proc_path,
        buffer: &mut job.frame,
        filled: 0,
        page_size: job.page_size,
        held: None,
        last: None,
        parted: false,
    };
    while child.next(&mut job.message).is_ok() {}
    // The kernel closes what is open.
    std::mem::forget(child);
}

impl Child<'_> {
    /// Answers the requests of one message.
    fn next(&mut self, message: &mut [u8]) -> Result<(), Errno> {
        let mut sent = None;
        let length = receive(self.socket, message, &mut sent)?;
        let mut rest = message.get_mut(..length).ok_or(Errno::PROTO)?;
        let mut payload = [0_u8; PAYLOAD + 1];
        while !rest.is_empty() {
            let (ask, more) = rest.split_at_mut_checked(ASK).ok_or(Errno::PROTO)?;
            let length = word32(ask, 8) as usize;
            if length > PAYLOAD {
                return Err(Errno::PROTO);
            }
            let (text, more) = more.split_at_mut_checked(length).ok_or(Errno::PROTO)?;
            payload[..length].copy_from_slice(text);
            payload[length] = 0;
            self.answer(ask, &payload[..=length], sent.as_ref())?;
            if self.parted {
                return Err(Errno::PIPE);
            }
            rest = more;
        }
        Ok(())
    }

    fn answer(&mut self, ask: &[u8], payload: &[u8], sent: Option<&OwnedFd>) -> Result<(), Errno> {
        let pid = word32(ask, 4);
        let (a, b) = (word64(ask, 16), word64(ask, 24));
        let op = Op::of(word32(ask, 0)).ok_or(Errno::PROTO)?;
        self.filled = 0;
        let mut frame = Frame { pid, last: true, ..Frame::default() };
        let done = match self.run(op, pid, (a, b), payload, sent)? {
            Ok(done) => done,
            Err(errno) => {
                frame.errno = errno.raw_os_error().unsigned_abs();
                Done::default()
            }
        };
        // What was read last goes with what else there is to say.
        frame.value = done.value;
        frame.length = u32::try_from(self.filled).map_err(|_| Errno::OVERFLOW)?;
        frame.send(self.socket, self.buffer, done.fd.as_ref().map(AsFd::as_fd))
    }

    /// The outer error is the socket's, the inner one the answer.
    fn run(
        &mut self,
        op: Op,
        pid: u32,
        (a, b): (u64, u64),
        payload: &[u8],
        sent: Option<&OwnedFd>,
    ) -> Result<Result<Done, Errno>, Errno> {
        let value = |value: u64| Done { value, fd: None };
        Ok(match op {
            Op::Cmdline => return self.whole((pid, a), c"cmdline"),
            Op::Environ => return self.whole((pid, a), c"environ"),
            Op::Io => return self.whole((pid, a), c"io"),
            Op::Hold => return self.hold((pid, a)),
            Op::Match => self.matches(sent, payload).map(|same| {
                self.parted = same && a == 1;
                value(u64::from(same))
            }),
            Op::FindPages => self.find_pages(a, payload).map(value),
            Op::FrameOf | Op::NearFrameOf => self.frame_of(sent, a).map(value),
            Op::OpenHandle => open_handle(sent, a, payload),
            Op::Lookup => lookup(sent, a, payload),
            Op::Content => return self.content(pid, sent, a, b),
            Op::Attribute => self.attribute(sent, payload),
            Op::Mapped => self.mapped(pid, (a, b)),
            Op::Release => {
                self.parted = a == 1;
                self.release(payload).map(|same| value(u64::from(same)))
            }
        })
    }

    /// Opens something of the process that is meant, or has the PID now: its start ticks too.
    fn of_process<T>(
        &mut self,
        (pid, meant): (u32, u64),
        open: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<(T, u64), Errno> {
        if let Some((last, dir, ticks)) = &self.last
            && (*last, *ticks) == (pid, meant)
            // Should that one have ended, its successor may have started in the same tick.
            && let Ok(opened) = open(dir)
        {
            return Ok((opened, meant));
        }
        self.last = None;
        let flags = OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::PATH;
        let base = CStr::from_bytes_with_nul(self.proc_path).map_err(|_| Errno::INVAL)?;
        let base = rustix::fs::open(base, flags, Mode::empty())?;
        let mut digits = [0_u8; 12];
        let name = c_decimal(b"", pid, &mut digits)?;
        let dir = rustix::fs::openat(&base, name, flags, Mode::empty())?;
        let stat = open_in(&dir, c"stat")?;
        let n = rustix::io::read(&stat, &mut self.buffer[..4096])?;
        let ticks = parse::stat::start_ticks(&self.buffer[..n]).ok_or(Errno::IO)?;
        let opened = open(&dir)?;
        self.last = Some((pid, dir, ticks));
        Ok((opened, ticks))
    }

    /// A file of a process, whole; the value is the start ticks of the process it is of.
    fn whole(&mut self, whose: (u32, u64), name: &CStr) -> Result<Result<Done, Errno>, Errno> {
        let (fd, ticks) = match self.of_process(whose, |dir| open_in(dir, name)) {
            Ok(opened) => opened,
            Err(errno) => return Ok(Err(errno)),
        };
        let streamed = self.stream(whose.0, fd.as_fd(), CAP)?;
        Ok(streamed.map(|()| Done { value: ticks, fd: None }))
    }

    /// Sends a file from its beginning, in frames that are not the last; what does not fill one
    /// stays in the buffer.
    fn stream(
        &mut self,
        pid: u32,
        fd: BorrowedFd<'_>,
        cap: usize,
    ) -> Result<Result<(), Errno>, Errno> {
        let mut at = 0_usize;
        loop {
            if self.filled == FRAME {
                self.flush(pid)?;
            }
            let room = &mut self.buffer[HEAD + self.filled..HEAD + FRAME];
            match rustix::io::pread(fd, room, at as u64) {
                Err(Errno::INTR) => {}
                Err(errno) => return Ok(Err(errno)),
                Ok(0) => return Ok(Ok(())),
                Ok(_) if at > cap => return Ok(Err(Errno::FBIG)),
                Ok(n) => (at, self.filled) = (at + n, self.filled + n),
            }
        }
    }

    /// Sends what is in the buffer as a frame that is not the last.
    fn flush(&mut self, pid: u32) -> Result<(), Errno> {
        let length = u32::try_from(self.filled).map_err(|_| Errno::OVERFLOW)?;
        let frame = Frame { pid, length, ..Frame::default() };
        self.filled = 0;
        frame.send(self.socket, self.buffer, None)
    }

    fn hold(&mut self, whose: (u32, u64)) -> Result<Result<Done, Errno>, Errno> {
        self.held = None;
        let (held, ticks) = match self.of_process(whose, Held::open) {
            Ok(opened) => opened,
            Err(errno) => return Ok(Err(errno)),
        };
        let length =
            match rustix::io::pread(&held.auxv, &mut self.buffer[HEAD + 8..HEAD + FRAME], 0) {
                Ok(length) => length,
                Err(errno) => return Ok(Err(errno)),
            };
        self.buffer[HEAD..HEAD + 8].copy_from_slice(&(length as u64).to_ne_bytes());
        self.filled = 8 + length;
        let streamed = self.stream(whose.0, held.maps.as_fd(), MAPS)?;
        self.held = Some(held);
        Ok(streamed.map(|()| Done { value: ticks, fd: None }))
    }

    /// Whether the same program runs still, and has the pages in the payload where it had them.
    fn release(&mut self, payload: &[u8]) -> Result<bool, Errno> {
        let held = self.held.take().ok_or(Errno::BADF)?;
        for page in payload.chunks_exact(16) {
            let index = word64(page, 0) / self.page_size;
            if frame_at(&held.pagemap, index)? != Some(word64(page, 8)) {
                return Ok(false);
            }
        }
        Ok(rustix::io::pread(&held.maps, &mut self.buffer[..64], 0)? > 0)
    }

    /// The file behind a mapping of the process that is held. Its link is followed and nothing is asked
    /// of its file system; the kernel takes the lock of the process's memory, and wants
    /// `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE` (`proc_map_files_get_link` of fs/proc/base.c).
    fn mapped(&self, pid: u32, range: (u64, u64)) -> Result<Done, Errno> {
        let (_, dir, _) = self
            .last
            .as_ref()
            .filter(|(last, ..)| *last == pid && self.held.is_some())
            .ok_or(Errno::BADF)?;
        let mut space = [0_u8; 48];
        let name = c_range(b"map_files/", range, &mut space)?;
        let fd = rustix::fs::openat(dir, name, OFlags::CLOEXEC | OFlags::PATH, Mode::empty())?;
        Ok(Done { value: 0, fd: Some(fd) })
    }

    /// Puts address and frame of the first page of each range that is in memory and a file's into the
    /// buffer, until there are `most` such pages. Those before an error are there too.
    fn find_pages(&mut self, most: u64, payload: &[u8]) -> Result<u64, Errno> {
        let mut found = 0;
        for range in payload.chunks_exact(16) {
            let (page, frame) = self.find_page(word64(range, 0), word64(range, 8))?;
            for word in [page, frame] {
                let at = HEAD + self.filled;
                let slot = self.buffer.get_mut(at..at + 8).ok_or(Errno::PROTO)?;
                slot.copy_from_slice(&word.to_ne_bytes());
                self.filled += 8;
            }
            found += u64::from(page != 0);
            if found >= most {
                break;
            }
        }
        Ok(found)
    }

    /// Address and frame of the first page in the range that is in memory and a file's; zeroes for
    /// none. Without `CAP_SYS_ADMIN` the kernel shows no frame numbers.
    fn find_page(&mut self, from: u64, to: u64) -> Result<(u64, u64), Errno> {
        let held = self.held.as_ref().ok_or(Errno::BADF)?;
        let mut hidden = false;
        let (mut at, end) = (from / self.page_size, to.div_ceil(self.page_size));
        let mut entries = [0_u8; 8 * ENTRIES];
        while at < end {
            let most = (end - at).min(ENTRIES as u64);
            let room = usize::try_from(most * 8).map_err(|_| Errno::OVERFLOW)?;
            let n = rustix::io::pread(&held.pagemap, &mut entries[..room], at * 8)?;
            if n < 8 {
                break; // the process has let go of its memory
            }
            for entry in entries[..n].chunks_exact(8) {
                match page_entry(word64(entry, 0)) {
                    Some(0) => hidden = true,
                    Some(frame) => return Ok((at * self.page_size, frame)),
                    None => {}
                }
                at += 1;
            }
        }
        if hidden { Err(Errno::PERM) } else { Ok((0, 0)) }
    }

    /// Whether the first page in memory of the mappings in the payload is the file's.
    fn matches(&mut self, sent: Option<&OwnedFd>, payload: &[u8]) -> Result<bool, Errno> {
        let file = reopen(sent.ok_or(Errno::BADF)?.as_fd())?;
        for mapping in payload.chunks_exact(24) {
            let (from, to, offset) = (word64(mapping, 0), word64(mapping, 8), word64(mapping, 16));
            let (page, frame) = self.find_page(from, to)?;
            if page == 0 {
                continue;
            }
            let at = offset.checked_add(page - from).ok_or(Errno::OVERFLOW)?;
            let found = pages::frame_of(&file, at, self.page_size, &own_pagemap()?)?;
            return Ok(found == Found::Frame(frame) && self.has_still(page, frame)?);
        }
        Ok(false)
    }

    /// Whether the same program runs still, and has the page where it had it.
    fn has_still(&mut self, page: u64, frame: u64) -> Result<bool, Errno> {
        let held = self.held.as_ref().ok_or(Errno::BADF)?;
        Ok(frame_at(&held.pagemap, page / self.page_size)? == Some(frame)
            && rustix::io::pread(&held.maps, &mut self.buffer[..64], 0)? > 0)
    }

    fn frame_of(&self, sent: Option<&OwnedFd>, offset: u64) -> Result<u64, Errno> {
        let file = reopen(sent.ok_or(Errno::BADF)?.as_fd())?;
        pages::frame_of(&file, offset, self.page_size, &own_pagemap()?).map(Found::word)
    }

    fn attribute(&mut self, sent: Option<&OwnedFd>, payload: &[u8]) -> Result<Done, Errno> {
        let fd = sent.ok_or(Errno::BADF)?;
        let name = CStr::from_bytes_with_nul(payload).map_err(|_| Errno::INVAL)?;
        let mut path = [0_u8; 32];
        let path = magic(fd.as_fd(), &mut path)?;
        let room = &mut self.buffer[HEAD..HEAD + ATTRIBUTE];
        self.filled = rustix::fs::getxattr(path, name, room)?;
        Ok(Done::default())
    }

    fn content(
        &mut self,
        pid: u32,
        sent: Option<&OwnedFd>,
        from: u64,
        length: u64,
    ) -> Result<Result<Done, Errno>, Errno> {
        let file = match sent.ok_or(Errno::BADF).and_then(|fd| reopen(fd.as_fd())) {
            Ok(file) => file,
            Err(errno) => return Ok(Err(errno)),
        };
        let end = from.saturating_add(length);
        let mut at = from;
        while at < end {
            if self.filled == FRAME {
                self.flush(pid)?;
            }
            let room = FRAME - self.filled;
            let most = usize::try_from((end - at).min(room as u64)).unwrap_or(room);
            let from = HEAD + self.filled;
            match rustix::io::pread(&file, &mut self.buffer[from..from + most], at) {
                Err(Errno::INTR) => {}
                Err(errno) => return Ok(Err(errno)),
                Ok(0) => break,
                Ok(n) => (at, self.filled) = (at + n as u64, self.filled + n),
            }
        }
        Ok(Ok(Done::default()))
    }
}

fn open_in(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
}

fn open_handle(dir: Option<&OwnedFd>, kind: u64, payload: &[u8]) -> Result<Done, Errno> {
    let dir = dir.ok_or(Errno::BADF)?;
    let kind = i32::try_from(kind).map_err(|_| Errno::INVAL)?;
    let bytes = payload.split_last().map_or(&b""[..], |(_, bytes)| bytes);
    // The call wants a descriptor that was opened for reading, and opening one can be held up by
    // who watches opens; the working directory will do, and can be set from an O_PATH descriptor.
    rustix::process::fchdir(dir)?;
    let opened = handle::open_here(kind, bytes);
    let _ = rustix::process::chdir(c"/");
    opened.map(|fd| Done { value: 0, fd: Some(fd) })
}

fn lookup(dir: Option<&OwnedFd>, rule: u64, payload: &[u8]) -> Result<Done, Errno> {
    let dir = dir.ok_or(Errno::BADF)?;
    let path = CStr::from_bytes_with_nul(payload).map_err(|_| Errno::INVAL)?;
    let (flags, resolve) = Way::of(rule).ok_or(Errno::PROTO)?.flags();
    for _ in 0..8 {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other.map(|fd| Done { value: 0, fd: Some(fd) }),
        }
    }
    Err(Errno::TIMEDOUT)
}
