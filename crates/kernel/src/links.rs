//! Network interfaces of this program's own net namespace, and where their other ends are, by
//! rtnetlink(7). It asks and changes nothing, and needs no permission.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::host::{Host, Mode};
use crate::parse::{self, rtnetlink};

/// Room for answers. That about a link is the longest; what there is of others goes into one call each.
const ROOM: usize = 1 << 15;
/// PIDs that are asked for at once: the answers wait in the socket.
const BATCH: usize = 64;

/// A connection to the kernel's rtnetlink.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
}

impl Links {
    /// One for this host; `None` where its processes are not those that the kernel would tell of: a saved
    /// tree, or the /proc of another PID namespace than this program's.
    #[must_use]
    pub fn of(host: &Host) -> Option<Self> {
        if host.mode() != Mode::Live {
            return None;
        }
        let status = parse::status::parse(&host.own_file_now("status").ok()?).ok()?;
        // One number, and no other inside: this /proc is that of our PID namespace.
        let [_] = status.nspid.as_deref()? else { return None };
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // Its first protocol is rtnetlink.
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).ok()?;
        Some(Self { socket })
    }

    /// The interface of this name; `None` when there is none.
    #[must_use]
    pub fn link(&self, name: &[u8]) -> Option<rtnetlink::Link> {
        let mut link = None;
        self.ask(&rtnetlink::ask_link(name)?, &mut |answer| {
            link = rtnetlink::link(answer).or(link.take());
        })?;
        link
    }

    /// The numbers that this net namespace has for those of processes; who is in none of them is left
    /// out. `None` when the kernel does not answer.
    #[must_use]
    pub fn namespaces(&self, pids: &[u32]) -> Option<Vec<(u32, u32)>> {
        let mut numbers = Vec::new();
        for some in pids.chunks(BATCH) {
            let requests: Vec<u8> = some.iter().flat_map(|p| rtnetlink::ask_number(*p)).collect();
            self.ask(&requests, &mut |answer| numbers.extend(rtnetlink::numbers(answer)))?;
        }
        Some(numbers)
    }

    /// Answers are there when the request has been sent: the kernel works it off within the call.
    fn ask(&self, request: &[u8], take: &mut dyn FnMut(&[u8])) -> Option<()> {
        rustix::net::send(self.socket.as_fd(), request, SendFlags::empty()).ok()?;
        let mut room = vec![0; ROOM];
        loop {
            match rustix::net::recv(self.socket.as_fd(), &mut room[..], RecvFlags::DONTWAIT) {
                Ok((length, whole)) if length == whole => take(&room[..length]),
                // A part of an answer is none.
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Some(()),
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Links;
    use crate::{Host, Options};

    #[test]
    fn the_loopback_leads_nowhere() {
        let host = Host::open(Options::default()).unwrap();
        let links = Links::of(&host).unwrap();
        let link = links.link(b"lo").unwrap();
        assert_eq!((link.kind, link.namespace), (None, None));
        assert_eq!(links.link(b"nosuchlink"), None);
        let own = std::process::id();
        // Our own namespace has a number for itself only when somebody asked for one.
        assert!(links.namespaces(&[own, u32::MAX]).unwrap().iter().all(|(pid, _)| *pid == own));
        assert_eq!(links.namespaces(&[u32::MAX; 1000]).unwrap(), []);
    }
}
