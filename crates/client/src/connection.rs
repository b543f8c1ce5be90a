//! One request on one connection, with an end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bstr::{BStr, ByteSlice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, sockopt,
};
use whose_core::model::daemon::Peer;
use whose_core::model::gap::{Class, ReadError};

use crate::http::{Reader, Response};

/// Largest body, bytes: some kilobytes a container.
const CAP: usize = 32 << 20;
/// Bytes taken at once.
const CHUNK: usize = 64 << 10;
/// How often a full queue of the other end is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// Asks for `path`, and waits for the whole answer until then.
///
/// # Errors
/// `timed-out`; `forbidden` for a socket that may not be connected to, or where someone else than the
/// peer is; `malformed` for what is no answer; `gone` where nobody listens.
pub(crate) fn get(
    at: &BStr,
    peer: &Peer,
    path: &str,
    until: Instant,
) -> Result<Response, ReadError> {
    let stream = open(at, until)?;
    check(at, &stream, peer)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: whose\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n"
    );
    say(at, &stream, request.as_bytes(), until)?;
    let mut reader = Reader::new(CAP);
    let malformed = |why: String| ReadError::new(at, Class::Malformed, why);
    let mut buffer = vec![0; CHUNK];
    loop {
        wait(at, &stream, PollFlags::IN, until)?;
        let got = match recv(&stream, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((got, _)) => got,
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(Errno::CONNRESET) => 0,
            Err(e) => return Err(ReadError::from_errno(at, e)),
        };
        if got == 0 || reader.take(&buffer[..got]).map_err(malformed)? {
            return reader.end().map_err(malformed);
        }
    }
}

/// Connects; a queue that is full is waited for, since the kernel would wait without an end.
fn open(at: &BStr, until: Instant) -> Result<OwnedFd, ReadError> {
    let failed = |e: Errno| match e {
        Errno::CONNREFUSED => ReadError::new(at, Class::Gone, "nobody listens"),
        e => ReadError::from_errno(at, e),
    };
    let address = SocketAddrUnix::new(at.as_bytes()).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let stream = stream.map_err(failed)?;
        match connect(&stream, &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::AGAIN) if Instant::now() + AGAIN < until => std::thread::sleep(AGAIN),
            Err(Errno::AGAIN) => return Err(late(at)),
            Err(Errno::INTR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Whether the peer is whom it has to be: who listens there, by what the kernel wrote down when that
/// began (unix(7), `SO_PEERCRED`).
fn check(at: &BStr, stream: &OwnedFd, peer: &Peer) -> Result<(), ReadError> {
    let told = sockopt::socket_peercred(stream).map_err(|e| ReadError::from_errno(at, e))?;
    let forbidden = |why: String| Err(ReadError::new(at, Class::Forbidden, why));
    if told.uid.as_raw() != peer.uid {
        return forbidden(format!("uid {} listens there, not {}", told.uid.as_raw(), peer.uid));
    }
    let pid = told.pid.as_raw_nonzero().get();
    let is_it = peer.pids.iter().any(|own| Ok(*own) == u32::try_from(pid));
    if !is_it && !peer.is_handed {
        let own: Vec<String> = peer.pids.iter().map(u32::to_string).collect();
        return forbidden(format!("process {pid} listens there, not {}", own.join(" or ")));
    }
    Ok(())
}

fn say(at: &BStr, stream: &OwnedFd, mut bytes: &[u8], until: Instant) -> Result<(), ReadError> {
    while !bytes.is_empty() {
        wait(at, stream, PollFlags::OUT, until)?;
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => {
                return Err(ReadError::new(at, Class::Malformed, "it closes without an answer"));
            }
            Err(e) => return Err(ReadError::from_errno(at, e)),
        }
    }
    Ok(())
}

fn wait(at: &BStr, stream: &OwnedFd, flags: PollFlags, until: Instant) -> Result<(), ReadError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(at));
        }
        let timeout = Timespec::try_from(left).map_err(|_| late(at))?;
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(ReadError::from_errno(at, e)),
        }
    }
}

fn late(at: &BStr) -> ReadError {
    ReadError::new(at, Class::TimedOut, "it does not answer in time")
}
