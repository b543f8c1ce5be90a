//! What goes between this process and its worker: requests, frames, descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Bytes of content a frame carries at most.
pub(super) const FRAME: usize = 32 * 1024;
/// Frame head: PID u32, errno u32 (0 none), length u32, last u32, value u64.
pub(super) const HEAD: usize = 24;
/// A request without its payload.
pub(super) const ASK: usize = 40;
/// Longest payload: a path, or a handle.
pub(super) const PAYLOAD: usize = 4096;

/// What the worker can do; the numbers go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Op {
    /// The whole of `cmdline`.
    Cmdline = 0,
    /// The whole of `environ`.
    Environ = 1,
    /// The whole of `io`.
    Io = 2,
    /// Open `maps`, `auxv` and `pagemap`, and keep them. The value is the start ticks.
    Hold = 3,
    /// The whole of the held `maps`.
    Maps = 4,
    /// The whole of the held `auxv`.
    Auxv = 5,
    /// The first file page between the addresses `a` and `b` that is in memory; 0 for none.
    FindPage = 6,
    /// Whether the page at address `a` is the page at offset `b` of the file sent along.
    SamePage = 7,
    /// Open the handle in the payload, of type `a`, on the file system of the directory sent along.
    OpenHandle = 8,
    /// Open the path in the payload beneath the directory sent along, by the rule `a`.
    Lookup = 9,
    /// The content of the file sent along, `b` bytes from `a`.
    Content = 10,
    /// Close what is held. The value says whether `maps` still had something to tell.
    Release = 11,
    /// The extended attribute named in the payload of the file sent along.
    Attribute = 12,
}

impl Op {
    pub(super) fn of(number: u32) -> Option<Self> {
        let all = [
            Self::Cmdline,
            Self::Environ,
            Self::Io,
            Self::Hold,
            Self::Maps,
            Self::Auxv,
            Self::FindPage,
            Self::SamePage,
            Self::OpenHandle,
            Self::Lookup,
            Self::Content,
            Self::Release,
            Self::Attribute,
        ];
        all.into_iter().find(|op| *op as u32 == number)
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'r> {
    pub(super) op: Op,
    pub(super) pid: u32,
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) payload: &'r [u8],
}

impl Request<'_> {
    /// The bytes: op, PID, payload length, spare, a, b, spare; then the payload.
    pub(super) fn put(&self, wire: &mut Vec<u8>) {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        for word in [self.op as u32, self.pid, length, 0] {
            wire.extend_from_slice(&word.to_ne_bytes());
        }
        for word in [self.a, self.b, 0] {
            wire.extend_from_slice(&word.to_ne_bytes());
        }
        wire.extend_from_slice(self.payload);
    }
}

pub(super) fn word32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

pub(super) fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b))
}

/// Sends all of `bytes`, the descriptor with the first of them.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let one = fd.map(|fd| [fd]);
        if let Some(one) = &one {
            control.push(SendAncillaryMessage::ScmRights(one));
        }
        let parts = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Ok(n) => {
                bytes = &bytes[n..];
                fd = None;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Waits for something to read, no longer than `until`.
fn wait(socket: BorrowedFd<'_>, until: Instant) -> Result<(), Errno> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut poll = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&timeout)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Fills `into`, waiting until `until` or for ever; a descriptor that comes along is kept in `fd`.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    until: Option<Instant>,
    fd: &mut Option<OwnedFd>,
) -> Result<(), Errno> {
    let mut at = 0;
    while at < into.len() {
        if let Some(until) = until {
            wait(socket, until)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut into[at..])];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut parts, &mut control, flags) {
            Ok(got) if got.bytes == 0 => return Err(Errno::PIPE),
            Ok(got) => {
                at += got.bytes;
                if got.flags.contains(ReturnFlags::CTRUNC) {
                    return Err(Errno::PROTO);
                }
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = message {
                        *fd = fds.last();
                    }
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// One frame of an answer, before its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    pub(super) pid: u32,
    pub(super) errno: u32,
    pub(super) length: u32,
    pub(super) last: bool,
    pub(super) value: u64,
}

impl Frame {
    /// Reads a head.
    pub(super) fn of(head: &[u8; HEAD]) -> Self {
        Self {
            pid: word32(head, 0),
            errno: word32(head, 4),
            length: word32(head, 8),
            last: word32(head, 12) != 0,
            value: word64(head, 16),
        }
    }

    /// Puts the head before the `length` bytes of content in `buffer`, and sends both.
    pub(super) fn send(
        &self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let words = [self.pid, self.errno, self.length, u32::from(self.last)];
        for (slot, word) in buffer.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        buffer[16..HEAD].copy_from_slice(&self.value.to_ne_bytes());
        send(socket, &buffer[..HEAD + self.length as usize], fd)
    }
}
