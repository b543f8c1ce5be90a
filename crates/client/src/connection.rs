//! One request on one connection, with an end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bstr::BStr;
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
    let stream = open(at, &peer.at, until)?;
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

/// Connects to the socket that is held; a queue that is full is waited for, since the kernel would wait without an end.
fn open(at: &BStr, node: &[u8], until: Instant) -> Result<OwnedFd, ReadError> {
    let failed = |e: Errno| match e {
        Errno::CONNREFUSED => ReadError::new(at, Class::Gone, "nobody listens"),
        e => ReadError::from_errno(at, e),
    };
    let address = SocketAddrUnix::new(node).map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use bstr::{BStr, BString, ByteSlice};
    use whose_core::model::daemon::Peer;
    use whose_core::model::gap::{Class, ReadError};

    use super::get;
    use crate::http::Response;

    /// Asks somebody who listens in this process, as if that were to be this peer; what he heard.
    fn ask(peer: &Peer) -> (Result<Response, ReadError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            let mut byte = [0];
            while !heard.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                heard.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
            String::from_utf8(heard).unwrap()
        });
        let until = Instant::now() + Duration::from_secs(20);
        let path = path.to_str().unwrap();
        let peer = Peer { at: path.into(), ..peer.clone() };
        let answer = get(BStr::new(path), &peer, "/containers/json?all=1", until);
        (answer, server.join().unwrap())
    }

    #[test]
    fn only_the_right_peer_is_spoken_to() {
        let pid = std::process::id();
        let uid = rustix::process::geteuid().as_raw();
        let peer = |pids: &[u32], uid, is_handed| {
            let at = BString::default();
            Peer { pids: pids.into(), uid, is_handed, at }
        };
        for right in [peer(&[1, pid], uid, false), peer(&[1], uid, true)] {
            let (answer, heard) = ask(&right);
            assert_eq!(answer.unwrap().body, b"[]");
            assert!(heard.starts_with("GET /containers/json?all=1 HTTP/1.1\r\nHost: "), "{heard}");
        }
        for wrong in [peer(&[1], uid, false), peer(&[pid], uid + 1, true), peer(&[], uid, false)] {
            let (answer, heard) = ask(&wrong);
            assert_eq!(answer.unwrap_err().class, Class::Forbidden);
            assert_eq!(heard, "", "{wrong:?}");
        }
    }

    #[test]
    fn where_nobody_listens_nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        let class = |path: &[u8]| {
            let peer = Peer { pids: vec![1], uid: 0, is_handed: false, at: path.into() };
            get(path.as_bstr(), &peer, "/", until).unwrap_err().class
        };
        assert_eq!(class(path.to_str().unwrap().as_bytes()), Class::Gone);
        assert_eq!(class(dir.path().join("none").to_str().unwrap().as_bytes()), Class::Gone);
        assert_eq!(class(&[b'x'; 200]), Class::Malformed);
    }
}
