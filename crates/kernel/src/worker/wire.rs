//! What goes between this process and its worker: requests, frames, descriptors.
//!
//! The socket keeps messages apart. One holds requests, one or many; one a frame of an answer.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
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
/// Longest message of requests.
pub(super) const MESSAGE: usize = 16 * 1024;

/// What the worker can do; the numbers go over the wire. Those about a process have the start ticks
/// of the one that is meant in `a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Op {
    /// The whole of `cmdline`.
    Cmdline = 0,
    /// The whole of `environ`.
    Environ = 1,
    /// The whole of `io`.
    Io = 2,
    /// Open `maps`, `auxv` and `pagemap`, and keep them. The value is the start ticks, the content
    /// the length of `auxv` as a u64, `auxv` and `maps`.
    Hold = 3,
    /// Whether the file sent along, one on this machine's disks, has a page that the process which is held
    /// maps. The payload has of each mapping its first address, its end and its offset in the file; the
    /// first page in memory of them all decides. The value is 1 when it is one page, and is where it was
    /// afterwards too; with `a` the worker then ends.
    Match = 5,
    /// The first file page in memory of each range of addresses in the payload, until there are `a`
    /// such pages. The content is their addresses and frames, zeroes where a range has none.
    FindPages = 6,
    /// The frame of the page at offset `a` of the file sent along; see `Found`.
    FrameOf = 7,
    /// The same of a file on this machine's disks, which holds up no mapping.
    NearFrameOf = 4,
    /// Open the handle in the payload, of type `a`, on the file system of the directory sent along.
    OpenHandle = 8,
    /// Open the path in the payload beneath the directory sent along, by the rule `a`.
    Lookup = 9,
    /// The content of the file sent along, `b` bytes from `a`.
    Content = 10,
    /// Close what is held, and with `a` end. The value says whether `maps` still had something to
    /// tell, and the addresses in the payload the frames beside them.
    Release = 11,
    /// The extended attribute named in the payload of the file sent along.
    Attribute = 12,
    /// Open the file that the process which is held maps from address `a` to `b`, as `O_PATH`.
    Mapped = 13,
}

impl Op {
    /// Whether it is for the worker that shares this program's memory: what is about a process, and
    /// about files that are near.
    pub(super) fn is_readers(self) -> bool {
        matches!(
            self,
            Self::Cmdline
                | Self::Environ
                | Self::Io
                | Self::Hold
                | Self::NearFrameOf
                | Self::Match
                | Self::FindPages
                | Self::Mapped
                | Self::Release
        )
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        let all = [
            Self::Cmdline,
            Self::Environ,
            Self::Io,
            Self::Hold,
            Self::Match,
            Self::FindPages,
            Self::FrameOf,
            Self::NearFrameOf,
            Self::OpenHandle,
            Self::Lookup,
            Self::Content,
            Self::Release,
            Self::Attribute,
            Self::Mapped,
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

/// Sends one message, with a descriptor if there is one.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        let one = fd.map(|fd| [fd]);
        if let Some(one) = &one {
            control.push(SendAncillaryMessage::ScmRights(one));
        }
        let parts = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            // The kernel takes a message as a whole or not at all.
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::PROTO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes one message; its length. A descriptor that comes along is kept in `fd`. `EAGAIN` when the
/// socket's own time is over.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    fd: &mut Option<OwnedFd>,
) -> Result<usize, Errno> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut parts, &mut control, flags) {
            Ok(got) if got.bytes == 0 => return Err(Errno::PIPE),
            Ok(got) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = message {
                        *fd = fds.last();
                    }
                }
                let cut = got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
                return if cut { Err(Errno::PROTO) } else { Ok(got.bytes) };
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Zeroes, as many as are said or more: so many that the allocator has them mapped, which touches
/// none. Few of the pages are ever needed, and after a fork each that was touched is copied.
pub(super) fn untouched(bytes: usize) -> Vec<u8> {
    const MAPPED: usize = 256 * 1024;
    vec![0; bytes.max(MAPPED)]
}

/// This process's end of the socket, and how long it waits by itself.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    waits: Duration,
    buffer: Vec<u8>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, waits: Duration::ZERO, buffer: untouched(HEAD + FRAME) }
    }

    /// Closes the socket; its buffer is left.
    pub(super) fn close(self) -> Vec<u8> {
        self.buffer
    }

    pub(super) fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        send(self.socket.as_fd(), bytes, fd)
    }

    /// One frame with its content, waiting no longer than `until`.
    pub(super) fn frame(
        &mut self,
        until: Instant,
        fd: &mut Option<OwnedFd>,
    ) -> Result<(Frame, &[u8]), Errno> {
        let got = loop {
            self.wait_until(until)?;
            match receive(self.socket.as_fd(), &mut self.buffer, fd) {
                Err(Errno::AGAIN) => {}
                other => break other?,
            }
        };
        let head = self.buffer.first_chunk().ok_or(Errno::PROTO)?;
        let frame = Frame::of(head);
        let content = self.buffer.get(HEAD..got).ok_or(Errno::PROTO)?;
        if content.len() == frame.length as usize {
            Ok((frame, content))
        } else {
            Err(Errno::PROTO)
        }
    }

    /// Has the socket wait for no longer than is left. It is told a round time, since telling it is
    /// a system call: most answers then need none.
    fn wait_until(&mut self, until: Instant) -> Result<(), Errno> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::TIMEDOUT);
        }
        if self.waits.is_zero() || self.waits > left {
            // The largest power of two below; the kernel takes microseconds, and none is for ever.
            let micros = u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1);
            self.waits = Duration::from_micros(1 << micros.ilog2());
            set_socket_timeout(&self.socket, Timeout::Recv, Some(self.waits))?;
        }
        Ok(())
    }
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
