//! From a descriptor through the filter to standard output: a line goes out when it has come in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use whose_annotate::{Engine, HostNames};

use super::child::{Watch, Woken};

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
    /// When this command has ended, and what it wrote was read.
    Ended { watch: &'f Watch<'f>, on_terminal: bool },
}

/// What failed.
pub(super) enum Failed {
    /// The input.
    Read(io::Error),
    /// Standard output.
    Write(io::Error),
    /// Nothing: this signal came, and there is no command any more that it is for.
    Signalled(i32),
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
        // What a read would wait for may never come.
        let is_command = matches!(until, Until::Ended { .. });
        if is_command && !self.wait(from, until)? {
            return Ok(());
        }
        loop {
            match rustix::io::read(from, self.engine.room()) {
                Ok(0) => break,
                Ok(count) => {
                    let is_full = self.engine.filled(count);
                    if is_full {
                        self.flush(until)?;
                    }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                // A terminal nobody has open any more.
                Err(Errno::IO) if is_command => break,
                Err(e) => {
                    self.flush(until)?;
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
            self.flush(until)?;
            if !self.wait(from, until)? {
                break;
            }
        }
        self.flush(until)
    }

    /// Waits for more; false when there will be none.
    fn wait(&mut self, from: BorrowedFd<'_>, until: &Until<'_>) -> Result<bool, Failed> {
        let Until::Ended { watch, on_terminal } = until else {
            return is_ready(from, None).map(|_| true);
        };
        if *on_terminal && self.engine.has_partial() && !is_ready(from, Some(PROMPT))? {
            self.engine.flush_partial(&mut self.out);
            self.write(until)?;
        }
        if watch.is_over() {
            return is_ready(from, Some(Duration::ZERO));
        }
        match watch.wait(Some((from, PollFlags::IN)), None)? {
            Woken::Ready => Ok(true),
            // It may have written something in between.
            Woken::Ended | Woken::Late => is_ready(from, Some(Duration::ZERO)),
        }
    }

    fn flush(&mut self, until: &Until<'_>) -> Result<(), Failed> {
        self.engine.flush(&mut self.out);
        self.write(until)
    }

    /// Writes what is left when no input is.
    pub(super) fn finish(&mut self, until: &Until<'_>) -> Result<(), Failed> {
        self.engine.finish(&mut self.out);
        self.write(until)
    }

    fn write(&mut self, until: &Until<'_>) -> Result<(), Failed> {
        let stdout = io::stdout();
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            let piece = match until {
                Until::End => rest,
                Until::Ended { watch, .. } => &rest[..rest.len().min(watch.wait_to_write()?)],
            };
            match rustix::io::write(&stdout, piece) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                // Somebody else may have made it so.
                Err(Errno::AGAIN) => {
                    if let Until::End = until {
                        let mut fd = [PollFd::new(&stdout, PollFlags::OUT)];
                        let _ = rustix::event::poll(&mut fd, None);
                    }
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
