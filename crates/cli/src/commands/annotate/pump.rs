//! From a descriptor through the filter to standard output: a line goes out when it has come in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use whose_annotate::{Engine, HostNames};

/// How long the next rows of a table that has just begun are waited for, so that its column fits them;
/// and how long in all.
const ROWS: Duration = Duration::from_millis(30);
const ALL_ROWS: Duration = Duration::from_millis(200);
/// How long the end of a line is waited for that a program on a terminal has begun: it may be a prompt.
const PROMPT: Duration = Duration::from_millis(50);

/// When an input is over.
pub(super) enum Until<'f> {
    /// At its end.
    End,
    /// When this process has ended, and what it wrote was read; `look` is called meanwhile.
    Ended {
        process: BorrowedFd<'f>,
        signals: BorrowedFd<'f>,
        look: &'f dyn Fn(),
        on_terminal: bool,
    },
}

/// What failed.
pub(super) enum Failed {
    /// The input.
    Read(io::Error),
    /// Standard output.
    Write(io::Error),
}

/// The filter and what comes out of it.
pub(super) struct Pump<'h> {
    pub(super) engine: Engine<HostNames<'h>>,
    out: Vec<u8>,
}

impl<'h> Pump<'h> {
    pub(super) fn new(engine: Engine<HostNames<'h>>) -> Self {
        Self { engine, out: Vec::new() }
    }

    /// Reads all of an input.
    pub(super) fn run(&mut self, from: BorrowedFd<'_>, until: &Until<'_>) -> Result<(), Failed> {
        let mut fresh: Option<Instant> = None;
        loop {
            match rustix::io::read(from, self.engine.room()) {
                Ok(0) => break,
                Ok(count) => {
                    let is_full = self.engine.filled(count);
                    if is_full {
                        self.flush()?;
                    }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                // A terminal nobody has open any more.
                Err(Errno::IO) if matches!(until, Until::Ended { .. }) => break,
                Err(e) => {
                    self.flush()?;
                    return Err(Failed::Read(e.into()));
                }
            }
            if is_ready(from, Some(Duration::ZERO))? {
                continue;
            }
            if self.engine.is_fresh() {
                let begun = *fresh.get_or_insert_with(Instant::now);
                let left = ALL_ROWS.saturating_sub(begun.elapsed()).min(ROWS);
                if !left.is_zero() && is_ready(from, Some(left))? {
                    continue;
                }
            }
            fresh = None;
            self.flush()?;
            if !self.wait(from, until)? {
                break;
            }
        }
        self.flush()
    }

    /// Waits for more; false when there will be none.
    fn wait(&mut self, from: BorrowedFd<'_>, until: &Until<'_>) -> Result<bool, Failed> {
        let Until::Ended { process, signals, look, on_terminal } = until else {
            return is_ready(from, None).map(|_| true);
        };
        if *on_terminal && self.engine.has_partial() && !is_ready(from, Some(PROMPT))? {
            self.engine.flush_partial(&mut self.out);
            self.write()?;
        }
        loop {
            let flags = PollFlags::IN;
            let mut all = [
                PollFd::from_borrowed_fd(from, flags),
                PollFd::from_borrowed_fd(*process, flags),
                PollFd::from_borrowed_fd(*signals, flags),
            ];
            match rustix::event::poll(&mut all, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Failed::Read(e.into())),
            }
            let [input, process, signals] = all.map(|fd| !fd.revents().is_empty());
            if signals {
                look();
            }
            if input {
                return Ok(true);
            }
            if process {
                return Ok(false);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failed> {
        self.engine.flush(&mut self.out);
        self.write()
    }

    /// Writes what is left when no input is.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.engine.finish(&mut self.out);
        self.write().map_err(|e| match e {
            Failed::Read(e) | Failed::Write(e) => e,
        })
    }

    fn write(&mut self) -> Result<(), Failed> {
        let stdout = io::stdout();
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&stdout, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                // Somebody else may have made it so.
                Err(Errno::AGAIN) => {
                    let mut fd = [PollFd::new(&stdout, PollFlags::OUT)];
                    let _ = rustix::event::poll(&mut fd, None);
                }
                Err(e) => return Err(Failed::Write(e.into())),
            }
        }
        self.out.clear();
        Ok(())
    }
}

/// Whether a read would not wait, after this time at most.
fn is_ready(fd: impl AsFd, time: Option<Duration>) -> Result<bool, Failed> {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match rustix::event::poll(&mut fds, time.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(Failed::Read(e.into())),
    }
}
