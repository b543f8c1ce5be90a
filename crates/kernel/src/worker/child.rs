//! The worker's own side: system calls and buffers it was given, nothing that allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::wire::{ASK, FRAME, Frame, HEAD, Op, PAYLOAD, receive, word32, word64};
use super::{CAP, Verdict, page_entry};
use crate::parse;
use crate::seam::{fork, handle, page};

/// Largest `maps` taken, bytes: 65,530 mappings with long names.
const MAPS: usize = 64 << 20;
/// Longest extended attribute taken, bytes: a path.
const ATTRIBUTE: usize = 4096;
/// Tries of the page check while the target's page comes and goes.
const TRIES: u32 = 3;

/// Files of one process that are kept open from one request to the next, so that all of them tell
/// of the same program: after an exec they read empty.
struct Held {
    maps: OwnedFd,
    auxv: OwnedFd,
    pagemap: OwnedFd,
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
    buffer: &'c mut [u8],
    page_size: u64,
    held: Option<Held>,
}

/// Answers requests until the socket closes.
pub(super) fn serve(socket: &OwnedFd, proc_path: &[u8], buffer: &mut [u8], page_size: u64) {
    let own = u32::try_from(socket.as_raw_fd()).unwrap_or(0);
    fork::close_range(0, own.saturating_sub(1));
    fork::close_range(own + 1, u32::MAX);
    // An abandoned worker should not outlive the command for longer than its read lasts.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut child = Child { socket: socket.as_fd(), proc_path, buffer, page_size, held: None };
    let mut payload = [0_u8; PAYLOAD + 1];
    while child.next(&mut payload).is_ok() {}
}

impl Child<'_> {
    fn next(&mut self, payload: &mut [u8; PAYLOAD + 1]) -> Result<(), Errno> {
        let mut ask = [0_u8; ASK];
        let mut sent = None;
        receive(self.socket, &mut ask, None, &mut sent)?;
        let length = word32(&ask, 8) as usize;
        if length > PAYLOAD {
            return Err(Errno::PROTO);
        }
        receive(self.socket, &mut payload[..length], None, &mut sent)?;
        payload[length] = 0;
        let pid = word32(&ask, 4);
        let (a, b) = (word64(&ask, 16), word64(&ask, 24));
        let op = Op::of(word32(&ask, 0)).ok_or(Errno::PROTO)?;
        let done = self.run(op, pid, (a, b), &payload[..=length], sent.as_ref())?;
        let mut frame = Frame { pid, last: true, ..Frame::default() };
        match done {
            Ok(done) => {
                frame.value = done.value;
                let fd = done.fd.as_ref().map(AsFd::as_fd);
                frame.send(self.socket, self.buffer, fd)
            }
            Err(errno) => {
                frame.errno = errno.raw_os_error().unsigned_abs();
                frame.send(self.socket, self.buffer, None)
            }
        }
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
            Op::Cmdline => return self.whole(pid, c"cmdline"),
            Op::Environ => return self.whole(pid, c"environ"),
            Op::Io => return self.whole(pid, c"io"),
            Op::Hold => self.hold(pid).map(value),
            Op::Maps | Op::Auxv => {
                let Some(held) = self.held.take() else { return Ok(Err(Errno::BADF)) };
                let fd = if op == Op::Maps { &held.maps } else { &held.auxv };
                let result = self.stream(pid, fd.as_fd(), MAPS);
                self.held = Some(held);
                return Ok(result?.map(|()| Done::default()));
            }
            Op::FindPage => self.find_page(a, b).map(value),
            Op::SamePage => match (&self.held, sent) {
                (Some(held), Some(file)) => {
                    same_page(&held.pagemap, file, a, b, self.page_size).map(|v| value(v as u64))
                }
                _ => Err(Errno::BADF),
            },
            Op::OpenHandle => open_handle(sent, a, payload),
            Op::Lookup => lookup(sent, a, payload),
            Op::Content => return self.content(pid, sent, a, b),
            Op::Attribute => return self.attribute(pid, sent, payload),
            Op::Release => self.release().map(|alive| value(u64::from(alive))),
        })
    }

    fn open_process(&mut self, pid: u32) -> Result<(OwnedFd, u64), Errno> {
        let flags = OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::PATH;
        let base = CStr::from_bytes_with_nul(self.proc_path).map_err(|_| Errno::INVAL)?;
        let base = rustix::fs::open(base, flags, Mode::empty())?;
        let mut digits = [0_u8; 12];
        let name = c_decimal(b"", pid, &mut digits)?;
        let dir = rustix::fs::openat(&base, name, flags, Mode::empty())?;
        let flags = OFlags::CLOEXEC | OFlags::RDONLY;
        let stat = rustix::fs::openat(&dir, c"stat", flags, Mode::empty())?;
        let n = rustix::io::read(&stat, &mut self.buffer[..4096])?;
        let ticks = parse::stat::start_ticks(&self.buffer[..n]).ok_or(Errno::IO)?;
        Ok((dir, ticks))
    }

    /// A file of a process, whole; the value is the start ticks of the process it is of.
    fn whole(&mut self, pid: u32, name: &CStr) -> Result<Result<Done, Errno>, Errno> {
        let opened = self.open_process(pid).and_then(|(dir, ticks)| {
            let flags = OFlags::CLOEXEC | OFlags::RDONLY;
            Ok((rustix::fs::openat(&dir, name, flags, Mode::empty())?, ticks))
        });
        let (fd, ticks) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Ok(Err(errno)),
        };
        let streamed = self.stream(pid, fd.as_fd(), CAP)?;
        Ok(streamed.map(|()| Done { value: ticks, fd: None }))
    }

    /// Sends a file from its beginning, in frames that are not the last.
    fn stream(
        &mut self,
        pid: u32,
        fd: BorrowedFd<'_>,
        cap: usize,
    ) -> Result<Result<(), Errno>, Errno> {
        let mut at = 0_usize;
        loop {
            match rustix::io::pread(fd, &mut self.buffer[HEAD..], at as u64) {
                Err(Errno::INTR) => {}
                Err(errno) => return Ok(Err(errno)),
                Ok(0) => return Ok(Ok(())),
                Ok(_) if at > cap => return Ok(Err(Errno::FBIG)),
                Ok(n) => {
                    at += n;
                    self.frame(pid, n)?;
                }
            }
        }
    }

    fn frame(&mut self, pid: u32, n: usize) -> Result<(), Errno> {
        let length = u32::try_from(n).map_err(|_| Errno::OVERFLOW)?;
        let frame = Frame { pid, length, ..Frame::default() };
        frame.send(self.socket, self.buffer, None)
    }

    fn hold(&mut self, pid: u32) -> Result<u64, Errno> {
        self.held = None;
        let (dir, ticks) = self.open_process(pid)?;
        let flags = OFlags::CLOEXEC | OFlags::RDONLY;
        let open = |name: &CStr| rustix::fs::openat(&dir, name, flags, Mode::empty());
        let held = Held { maps: open(c"maps")?, auxv: open(c"auxv")?, pagemap: open(c"pagemap")? };
        self.held = Some(held);
        Ok(ticks)
    }

    fn release(&mut self) -> Result<bool, Errno> {
        let held = self.held.take().ok_or(Errno::BADF)?;
        Ok(rustix::io::pread(&held.maps, &mut self.buffer[..64], 0)? > 0)
    }

    /// The address of the first page in the range that is in memory and a file's. Without
    /// `CAP_SYS_ADMIN` the kernel shows no frame numbers.
    fn find_page(&mut self, from: u64, to: u64) -> Result<u64, Errno> {
        let held = self.held.as_ref().ok_or(Errno::BADF)?;
        let mut hidden = false;
        let (mut at, end) = (from / self.page_size, to.div_ceil(self.page_size));
        while at < end {
            let most = (end - at).min(FRAME as u64 / 8);
            let room = usize::try_from(most * 8).map_err(|_| Errno::OVERFLOW)?;
            let n = rustix::io::pread(&held.pagemap, &mut self.buffer[..room], at * 8)?;
            if n < 8 {
                break; // the process has let go of its memory
            }
            for entry in self.buffer[..n].chunks_exact(8) {
                match page_entry(word64(entry, 0)) {
                    Some(0) => hidden = true,
                    Some(_) => return Ok(at * self.page_size),
                    None => {}
                }
                at += 1;
            }
        }
        if hidden { Err(Errno::PERM) } else { Ok(0) }
    }

    fn attribute(
        &mut self,
        pid: u32,
        sent: Option<&OwnedFd>,
        payload: &[u8],
    ) -> Result<Result<Done, Errno>, Errno> {
        let read = sent.ok_or(Errno::BADF).and_then(|fd| {
            let name = CStr::from_bytes_with_nul(payload).map_err(|_| Errno::INVAL)?;
            let mut path = [0_u8; 32];
            let path = magic(fd, &mut path)?;
            rustix::fs::getxattr(path, name, &mut self.buffer[HEAD..HEAD + ATTRIBUTE])
        });
        match read {
            Ok(n) => {
                self.frame(pid, n)?;
                Ok(Ok(Done::default()))
            }
            Err(errno) => Ok(Err(errno)),
        }
    }

    fn content(
        &mut self,
        pid: u32,
        sent: Option<&OwnedFd>,
        from: u64,
        length: u64,
    ) -> Result<Result<Done, Errno>, Errno> {
        let file = match sent.ok_or(Errno::BADF).and_then(reopen) {
            Ok(file) => file,
            Err(errno) => return Ok(Err(errno)),
        };
        let end = from.saturating_add(length);
        let mut at = from;
        while at < end {
            let most = usize::try_from((end - at).min(FRAME as u64)).unwrap_or(FRAME);
            match rustix::io::pread(&file, &mut self.buffer[HEAD..HEAD + most], at) {
                Err(Errno::INTR) => {}
                Err(errno) => return Ok(Err(errno)),
                Ok(0) => break,
                Ok(n) => {
                    at += n as u64;
                    self.frame(pid, n)?;
                }
            }
        }
        Ok(Ok(Done::default()))
    }
}

/// The magic link of a descriptor.
fn magic<'s>(fd: &OwnedFd, space: &'s mut [u8]) -> Result<&'s CStr, Errno> {
    let number = u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    c_decimal(b"/proc/self/fd/", number, space)
}

/// Opens for reading what is held as `O_PATH` and known to be a regular file.
fn reopen(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut name = [0_u8; 32];
    let name = magic(fd, &mut name)?;
    let flags = OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(name, flags, Mode::empty()),
        other => other,
    }
}

/// Whether the target's page at `address` is the page of `file` at `offset`: one inode owns a page
/// of the page cache, so equal frames are one inode.
fn same_page(
    pagemap: &OwnedFd,
    file: &OwnedFd,
    address: u64,
    offset: u64,
    page_size: u64,
) -> Result<Verdict, Errno> {
    let file = reopen(file)?;
    let size = usize::try_from(page_size).map_err(|_| Errno::INVAL)?;
    for _ in 0..TRIES {
        let Some(theirs) = frame_at(pagemap, address / page_size)? else {
            return Ok(Verdict::NoPage);
        };
        if theirs == 0 {
            return Err(Errno::PERM);
        }
        // The target's page is in the cache, so the right file's is: no disk is waited for.
        let mut byte = [0_u8; 1];
        let mut into = [std::io::IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(&file, &mut into, offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Ok(Verdict::Differs), // shorter than the page
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(Errno::AGAIN) => return Ok(Verdict::NotCached),
            Err(errno) => return Err(errno),
        }
        let mine = page::Page::map(file.as_fd(), offset, size)?;
        mine.populate()?;
        let own = rustix::fs::open(
            c"/proc/self/pagemap",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let ours = frame_at(&own, mine.address() / page_size)?;
        if frame_at(pagemap, address / page_size)? == Some(theirs) && ours.is_some() {
            let same = ours == Some(theirs);
            return Ok(if same { Verdict::Same } else { Verdict::Differs });
        }
    }
    Ok(Verdict::Changing)
}

fn frame_at(pagemap: &OwnedFd, index: u64) -> Result<Option<u64>, Errno> {
    let mut entry = [0_u8; 8];
    let n = rustix::io::pread(pagemap, &mut entry, index * 8)?;
    Ok(if n == 8 { page_entry(u64::from_ne_bytes(entry)) } else { None })
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

/// Rule 0: beneath the directory, no link followed; 1: links followed as from that root; 2: one
/// step, `..` too, from the directory.
fn lookup(dir: Option<&OwnedFd>, rule: u64, payload: &[u8]) -> Result<Done, Errno> {
    let dir = dir.ok_or(Errno::BADF)?;
    let path = CStr::from_bytes_with_nul(payload).map_err(|_| Errno::INVAL)?;
    let resolve = match rule {
        0 => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        1 => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        _ => ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    };
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if rule == 0 {
        flags |= OFlags::NOFOLLOW;
    }
    for _ in 0..8 {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other.map(|fd| Done { value: 0, fd: Some(fd) }),
        }
    }
    Err(Errno::TIMEDOUT)
}

/// A number in decimal after `prefix`, as a C string in `space`.
fn c_decimal<'s>(prefix: &[u8], n: u32, space: &'s mut [u8]) -> Result<&'s CStr, Errno> {
    let (mut digits, mut count, mut rest) = ([0_u8; 10], 0, n);
    loop {
        digits[count] = b'0' + u8::try_from(rest % 10).map_err(|_| Errno::INVAL)?;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let length = prefix.len() + count;
    if space.len() <= length {
        return Err(Errno::INVAL);
    }
    space[..prefix.len()].copy_from_slice(prefix);
    for (slot, digit) in space[prefix.len()..].iter_mut().zip(digits[..count].iter().rev()) {
        *slot = *digit;
    }
    space[length] = 0;
    CStr::from_bytes_with_nul(&space[..=length]).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::c_decimal;

    #[test]
    fn numbers_as_c_strings() {
        let mut space = [0xff; 16];
        assert_eq!(c_decimal(b"", 0, &mut space).unwrap(), c"0");
        assert_eq!(c_decimal(b"a/", 4_194_304, &mut space).unwrap(), c"a/4194304");
        assert!(c_decimal(b"0123456789", 4_294_967, &mut space[..12]).is_err());
    }
}
