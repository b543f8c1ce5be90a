//! One worker at a time, and what became of those before it.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::begun::Begun;
use super::child::{self, Job};
use super::wire::{self, FRAME, HEAD, Link, MESSAGE};
use crate::seam::fork::{Child, Memory};

/// Time for an answer that nobody waits for any more.
const AT_THE_END: Duration = Duration::from_millis(20);
/// Workers that a run may lose in a slot before it is given up: the first and its one replacement.
const LIVES: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Slot {
    memory: Memory,
    /// Where the procfs is; ends with a NUL.
    proc_path: Vec<u8>,
    /// Our end of the worker's socket, and the worker.
    pub(super) running: Option<(Link, Child)>,
    /// What it was asked and has not been heard on.
    pub(super) begun: Begun,
    lost: u32,
    /// Workers that were told to end, and room for their answers: to give it back while they end takes
    /// longer than they do.
    ending: Vec<(Vec<u8>, Child)>,
}

impl Slot {
    pub(super) fn new(memory: Memory, proc_path: &[u8]) -> Self {
        let proc_path = [proc_path, b"\0"].concat();
        Self {
            memory,
            proc_path,
            running: None,
            begun: Begun::default(),
            lost: 0,
            ending: Vec::new(),
        }
    }

    /// Whether too many were lost to start another.
    pub(super) fn is_given_up(&self) -> bool {
        self.lost >= LIVES
    }

    /// The socket of a worker, which is started if none runs.
    pub(super) fn link(&mut self) -> Result<&mut Link, Errno> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        Ok(&mut self.running.insert(running).0)
    }

    fn start(&self) -> Result<(Link, Child), Errno> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        let job = Job {
            proc_path: self.proc_path.clone(),
            message: wire::untouched(MESSAGE),
            frame: wire::untouched(HEAD + FRAME),
            page_size: rustix::param::page_size() as u64,
        };
        let child = Child::start(self.memory, theirs, job, child::serve)?;
        Ok((Link::new(ours), child))
    }

    /// Gives up the one that runs, which is stuck or dead: it is not waited for.
    pub(super) fn lose(&mut self) {
        self.running = None;
        self.lost += 1;
    }

    /// Has an idle one end: it does when its socket closes. One that is busy still with what nobody
    /// waits for any more may be stuck.
    pub(super) fn end(&mut self) {
        self.settle(Instant::now() + AT_THE_END);
        self.ending.extend(self.running.take().map(|(link, child)| (link.close(), child)));
    }

    /// The same, and waits for those that end. What they used is kept: it is given back with all there
    /// is when the program ends, which is next.
    pub(super) fn close(&mut self) {
        self.end();
        for (buffer, mut child) in self.ending.drain(..) {
            child.wait();
            std::mem::forget(buffer);
        }
    }
}

impl Drop for Slot {
    /// Idle workers are reaped. A stuck one is not here any more.
    fn drop(&mut self) {
        self.end();
        self.ending.drain(..).for_each(|(_, child)| child.reap());
    }
}
