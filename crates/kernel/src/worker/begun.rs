//! A request that the reader works on while something else is done here.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::slot::Slot;
use super::wire::{self, Request};
use super::{Ask, LATE, Reply, Worker, read_of, request_of};
use crate::error::{Class, ReadError};

/// What was asked and not fetched yet; there is one at most.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Its number.
    ticket: Ticket,
    state: State,
}

/// Says which request is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug, Default)]
enum State {
    /// There is nothing.
    #[default]
    None,
    /// Something about this process.
    Sent(u32),
    /// Something else had to be asked, and answers come in the order of the requests: this one, as
    /// it came.
    Come(Vec<u8>, Result<Reply, Errno>),
}

impl Worker {
    /// Sends a request to the reader, and waits for nothing. What keeps it from being asked is its
    /// answer. The one before it has none any more.
    pub(super) fn begin(&mut self, request: &Request<'_>, until: Instant) -> Ticket {
        self.reader.settle(until);
        let state = match self.reader.send(request, None, until) {
            Ok(()) => State::Sent(request.pid),
            Err(errno) => State::Come(Vec::new(), Err(errno)),
        };
        let ticket = Ticket(self.reader.begun.ticket.0 + 1);
        self.reader.begun = Begun { ticket, state };
        ticket
    }

    /// The answer to what was begun, its content handed to `take`; once.
    pub(super) fn fetch(
        &mut self,
        ticket: Ticket,
        until: Instant,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Reply, Errno> {
        let begun = &mut self.reader.begun;
        if begun.ticket != ticket {
            return Err(Errno::PROTO);
        }
        match std::mem::take(&mut begun.state) {
            State::Sent(pid) => self.reader.answer(pid, until, take),
            State::Come(bytes, reply) => {
                take(&bytes);
                reply
            }
            State::None => Err(Errno::PROTO),
        }
    }
}

impl Worker {
    /// Begins a read that will be asked for alone, soon; then it is waited for.
    pub fn prefetch(&mut self, ask: Ask, deadline: Option<Instant>) {
        let until = self.until(deadline);
        if !self.reader.is_given_up() && until > Instant::now() {
            let ticket = self.begin(&request_of(&ask), until);
            self.prefetched = Some((ask, ticket));
        }
    }

    /// The answer to it; `None` when it was not begun, or something else was begun since.
    pub(super) fn prefetched(
        &mut self,
        ask: Ask,
        deadline: Option<Instant>,
    ) -> Option<Result<Vec<u8>, ReadError>> {
        let (_, ticket) = self.prefetched.take_if(|(expected, _)| *expected == ask)?;
        if self.reader.begun.ticket != ticket {
            return None;
        }
        let mut bytes = Vec::new();
        let until = self.until(deadline);
        let reply = self.fetch(ticket, until, &mut |part| bytes.extend_from_slice(part));
        Some(match reply {
            Err(Errno::TIMEDOUT) => Err(self.error(ask, Class::TimedOut, LATE)),
            reply => read_of(&self.proc_path, ask, reply, bytes),
        })
    }
}

impl Slot {
    /// Fetches what is under way, so that the next answer is that of the next request.
    pub(super) fn settle(&mut self, until: Instant) {
        if let State::Sent(pid) = self.begun.state {
            let mut bytes = Vec::new();
            let reply = self.answer(pid, until, &mut |part| bytes.extend_from_slice(part));
            self.begun.state = State::Come(bytes, reply);
        }
    }

    /// The next answer, which is about this process.
    pub(super) fn answer(
        &mut self,
        pid: u32,
        until: Instant,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Reply, Errno> {
        let Some((link, _)) = &mut self.running else { return Err(Errno::IO) };
        super::reply(link, pid, until, take).unwrap_or_else(|why| Err(self.lost(why)))
    }

    /// Sends a request, to a worker that is started if none runs.
    pub(super) fn send(
        &mut self,
        request: &Request<'_>,
        fd: Option<BorrowedFd<'_>>,
        until: Instant,
    ) -> Result<(), Errno> {
        if self.is_given_up() || until <= Instant::now() {
            return Err(Errno::TIMEDOUT);
        }
        let mut bytes = Vec::with_capacity(wire::ASK + request.payload.len());
        request.put(&mut bytes);
        self.link()?.send(&bytes, fd).map_err(|why| self.lost(why))
    }

    /// Gives up the worker, which is stuck or dead; the error to be told.
    fn lost(&mut self, why: Errno) -> Errno {
        self.lose();
        if why == Errno::TIMEDOUT { why } else { Errno::IO }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::io::Errno;

    use crate::error::Class;
    use crate::host::{Host, Options};
    use crate::parse;
    use crate::worker::wire::{Op, Request};
    use crate::worker::{Ask, Slow, Worker};

    /// Another process, which ends with this.
    struct Other(Child);

    impl Other {
        fn start() -> (Self, u32, u64) {
            let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
            let pid = child.id();
            let other = Self(child);
            (other, pid, ticks(pid))
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn ticks(pid: u32) -> u64 {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap();
        parse::stat::parse(&stat).unwrap().start_ticks
    }

    #[test]
    fn what_is_asked_meanwhile_has_its_own_answers() {
        let host = Host::open(Options::default()).unwrap();
        let own = std::process::id();
        let (_other, pid, start) = Other::start();
        let begun = host.begin_exam(pid, start);
        let ask = Ask { file: Slow::Cmdline, pid: own, start_ticks: ticks(own) };
        let cmdline = || host.worker().borrow_mut().read(&[ask], None).remove(0).unwrap();
        assert_eq!(cmdline(), std::fs::read("/proc/self/cmdline").unwrap());
        let exam = begun.wait().unwrap();
        let theirs = std::fs::read(format!("/proc/{pid}/auxv")).unwrap();
        assert_eq!(exam.auxv(), theirs);
        exam.look_for_pages(vec![(0, 4096)], 1);
        assert_eq!(cmdline(), std::fs::read("/proc/self/cmdline").unwrap());
        assert_eq!(exam.pages().0, []);
        assert_eq!(exam.pages().0, [], "told once");
        assert!(exam.finish());
    }

    #[test]
    fn nobody_hears_an_answer_that_was_given_up() {
        let host = Host::open(Options::default()).unwrap();
        let (_other, pid, start) = Other::start();
        drop(host.begin_exam(pid, start));
        let first = host.begin_exam(pid, start);
        let own = std::process::id();
        let second = host.begin_exam(own, ticks(own));
        drop(first);
        let exam = second.wait().unwrap();
        assert_eq!(exam.auxv(), std::fs::read("/proc/self/auxv").unwrap());
        assert!(exam.finish());
    }

    #[test]
    fn a_read_that_is_begun_early_is_done_once() {
        let mut worker = Worker::new("/proc".into(), Duration::from_secs(20));
        let own = std::process::id();
        let ask = Ask { file: Slow::Cmdline, pid: own, start_ticks: ticks(own) };
        let other = Ask { file: Slow::Environ, ..ask };
        let cmdline = std::fs::read("/proc/self/cmdline").unwrap();
        let environ = std::fs::read("/proc/self/environ").unwrap();
        let mut read = |asks: &[Ask], expected: Option<Ask>| {
            expected.into_iter().for_each(|ask| worker.prefetch(ask, None));
            let read: Result<Vec<_>, _> = worker.read(asks, None).into_iter().collect();
            read.unwrap()
        };
        assert_eq!(read(&[ask], Some(ask)), [&cmdline[..]]);
        assert_eq!(read(&[ask], None), [&cmdline[..]]);
        // Others come in between, or it is never asked for.
        assert_eq!(read(&[other], Some(ask)), [&environ[..]]);
        assert_eq!(read(&[ask], None), [&cmdline[..]]);
        assert_eq!(read(&[other, ask], Some(ask)), [&environ[..], &cmdline[..]]);
        assert_eq!(read(&[ask], Some(other)), [&cmdline[..]]);
        // A successor of the process is none.
        let successor = Ask { start_ticks: ask.start_ticks + 1, ..ask };
        worker.prefetch(successor, None);
        assert_eq!(worker.read(&[successor], None).remove(0).unwrap_err().class, Class::Gone);
        worker.prefetch(ask, None);
    }

    #[test]
    fn a_process_that_is_gone_is_told_when_it_is_waited_for() {
        let host = Host::open(Options::default()).unwrap();
        let own = std::process::id();
        let begun = host.begin_exam(own, ticks(own) + 1);
        assert_eq!(begun.wait().unwrap_err().class, Class::Gone);
        let begun = host.begin_exam(4_194_304, 1);
        assert_eq!(begun.wait().unwrap_err().class, Class::Gone);
    }

    #[test]
    fn what_can_not_be_asked_is_no_answer_to_something_else() {
        let mut worker = Worker::new("/proc".into(), Duration::from_secs(20));
        let own = std::process::id();
        let request = Request { op: Op::Hold, pid: own, a: ticks(own), b: 0, payload: b"" };
        let late = worker.begin(&request, Instant::now());
        let soon = || Instant::now() + Duration::from_secs(20);
        let mut fetch = |ticket| worker.fetch(ticket, soon(), &mut |_| {}).unwrap_err();
        assert_eq!(fetch(late), Errno::TIMEDOUT);
        assert_eq!(fetch(late), Errno::PROTO, "told once");
        let ask = Ask { file: Slow::Cmdline, pid: own, start_ticks: ticks(own) };
        let read = worker.read(&[ask], None).remove(0).unwrap();
        assert_eq!(read, std::fs::read("/proc/self/cmdline").unwrap());
    }
}
