//! A command whose output is filtered: on a pseudo-terminal where ours is a terminal, so that it behaves as
//! without the filter.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use whose_kernel::input;
use whose_kernel::own::ignored_signals;

use super::pump::{Failed, Pump, Until};
use crate::exit::say;

/// The command can't be run, and there is none (as a shell has it).
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended it.
const SIGNALLED: i32 = 128;
/// How long somebody who does not read is waited for, when the command was ended by a signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that a pipe takes at once when it takes any (`PIPE_BUF` of the kernel's include/uapi/linux/limits.h).
const PIECE: usize = 4096;

/// A signal that came.
type Flag = (i32, Arc<AtomicBool>);

/// What was asked of this program that is meant for the command.
struct Signals {
    /// Readable when one came.
    wake: UnixStream,
    winch: Option<Flag>,
    /// Passed on: they were sent to this program alone.
    passed: Vec<Flag>,
    /// Of the keyboard: they reach the command anyway, since it is in the same process group.
    shared: Vec<Flag>,
}

impl Signals {
    /// From now on they end the command and not this program. What this program was told to ignore, as
    /// by nohup, it ignores still, and so will the command. A program that is run has none of these handlers.
    fn listen() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let ignored = ignored_signals();
        let flag = |signal: i32| -> io::Result<Option<Flag>> {
            if ignored & (1 << (signal - 1)) != 0 {
                return Ok(None);
            }
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            Ok(Some((signal, flag)))
        };
        let shared = [flag(SIGINT)?, flag(SIGQUIT)?].into_iter().flatten().collect();
        let passed = [flag(SIGTERM)?, flag(SIGHUP)?].into_iter().flatten().collect();
        Ok(Self { wake, winch: flag(SIGWINCH)?, passed, shared })
    }
}

/// The command that runs, and what is to be passed on to it.
pub(super) struct Watch<'s> {
    signals: &'s Signals,
    process: OwnedFd,
    /// The terminal that it has.
    terminal: RefCell<Option<OwnedFd>>,
    is_over: Cell<bool>,
    /// The last signal that was passed on to it.
    passed: Cell<Option<i32>>,
}

impl<'s> Watch<'s> {
    fn new(child: &Child, signals: &'s Signals, terminal: Option<OwnedFd>) -> Result<Self, Errno> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let (is_over, passed) = (Cell::new(false), Cell::new(None));
        Ok(Self { signals, process, terminal: RefCell::new(terminal), is_over, passed })
    }

    /// Closes its terminal here.
    fn hang_up(&self) {
        self.terminal.take();
    }

    /// Whether the command has ended, as far as that was looked for.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Waits until this is ready, for this time at most, or the command has ended.
    ///
    /// # Errors
    /// What poll(2) says; [`Failed::Signalled`] when a signal came that there is no command for.
    pub(super) fn wait(
        &self,
        fd: Option<(BorrowedFd<'_>, PollFlags)>,
        time: Option<Duration>,
    ) -> Result<Woken, Failed> {
        loop {
            let mut all = vec![PollFd::new(&self.signals.wake, PollFlags::IN)];
            if !self.is_over.get() {
                all.push(PollFd::new(&self.process, PollFlags::IN));
            }
            all.extend(fd.as_ref().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            let limit = time.and_then(|time| Timespec::try_from(time).ok());
            let count = match rustix::event::poll(&mut all, limit.as_ref()) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Failed::Read(e.into())),
            };
            let is_ready = |at: usize| all.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let is_last = fd.is_some() && is_ready(all.len() - 1);
            let has_ended = !self.is_over.get() && is_ready(1);
            if is_ready(0) || has_ended {
                self.look(has_ended)?;
            }
            if is_last {
                return Ok(Woken::Ready);
            }
            if has_ended {
                return Ok(Woken::Ended);
            }
            if count == 0 {
                return Ok(Woken::Late);
            }
        }
    }

    /// Waits until standard output takes something: so many bytes, without a wait in which no signal would be
    /// heard of.
    ///
    /// # Errors
    /// As [`Watch::wait`]; [`Failed::Signalled`] too when nobody reads what a command wrote that was ended.
    pub(super) fn wait_to_write(&self) -> Result<usize, Failed> {
        let stdout = io::stdout();
        loop {
            let signal = self.passed.get().filter(|_| self.is_over.get());
            let fd = Some((stdout.as_fd(), PollFlags::OUT));
            match (self.wait(fd, signal.map(|_| PATIENCE))?, signal) {
                (Woken::Ready, _) => return Ok(room(stdout.as_fd())),
                (Woken::Late, Some(signal)) => return Err(Failed::Signalled(signal)),
                (Woken::Late | Woken::Ended, _) => {}
            }
        }
    }

    /// Passes on what came. When the command has ended it is this program that is meant.
    fn look(&self, has_ended: bool) -> Result<(), Failed> {
        let mut bytes = [0; 64];
        let wake = &self.signals.wake;
        while rustix::io::read(wake, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
        let came = |(signal, flag): &Flag| flag.swap(false, Ordering::Relaxed).then_some(*signal);
        if self.signals.winch.as_ref().and_then(came).is_some()
            && let Some(terminal) = self.terminal.borrow().as_ref()
            && let Ok(size) = tcgetwinsize(io::stdout())
            && tcsetwinsize(terminal, size).is_ok()
        {
            // The one that came with ours may have come too early.
            let _ = pidfd_send_signal(&self.process, Signal::WINCH);
        }
        let was_over = self.is_over.replace(self.is_over.get() || has_ended);
        // One of the keyboard's may be what has ended it.
        let shared: Vec<i32> = self.signals.shared.iter().filter_map(came).collect();
        for signal in self.signals.passed.iter().filter_map(came) {
            if was_over {
                return Err(Failed::Signalled(signal));
            }
            let sent = if signal == SIGTERM { Signal::TERM } else { Signal::HUP };
            self.passed.set(Some(signal));
            let _ = pidfd_send_signal(&self.process, sent);
        }
        match shared.first() {
            Some(signal) if was_over => Err(Failed::Signalled(*signal)),
            _ => Ok(()),
        }
    }

    /// Waits for its end.
    fn wait_for_end(&self) -> Result<(), Failed> {
        while !self.is_over.get() {
            self.wait(None, None)?;
        }
        Ok(())
    }
}

/// How much may be written where something may.
fn room(to: BorrowedFd<'_>) -> usize {
    // A file takes all.
    if input::written(to).is_some() {
        return usize::MAX;
    }
    match (rustix::pipe::fcntl_getpipe_size(to), rustix::io::ioctl_fionread(to)) {
        (Ok(size), Ok(0)) => size,
        _ => PIECE,
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// It is ready.
    Ready,
    /// The command has ended.
    Ended,
    /// The time is over.
    Late,
}

/// Runs it to its end; its status.
///
/// # Errors
/// What keeps the filter from its work.
pub(super) fn run(pump: &mut Pump<'_>, words: &[OsString], with_stderr: bool) -> Result<u8> {
    let Some((program, args)) = words.split_first() else { return Ok(NOT_FOUND) };
    let signals = Signals::listen().context("signals")?;
    let on_terminal = io::stdout().is_terminal();
    let (output, write) =
        if on_terminal { terminal().context("a pseudo-terminal")? } else { pipe()? };
    let mut command = Command::new(program);
    command.args(args);
    if with_stderr {
        command.stderr(Stdio::from(write.try_clone()?));
    }
    command.stdout(Stdio::from(write));
    let spawned = command.spawn();
    // Its ends of the pipe are the command's alone, so that it ends with that.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => {
            say(&format!("{}: {e}", program.to_string_lossy()));
            let is_missing = e.kind() == io::ErrorKind::NotFound;
            return Ok(if is_missing { NOT_FOUND } else { NOT_RUNNABLE });
        }
    };
    let terminal = if on_terminal { Some(output.try_clone()?) } else { None };
    let watch = match Watch::new(&child, &signals, terminal) {
        Ok(watch) => watch,
        Err(e) => {
            // Nobody would end it.
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::from(e)).context("the command's process");
        }
    };
    let until = Until::Ended { watch: &watch, on_terminal };
    let pumped = pump.run(output.as_fd(), &until);
    // With nobody to read, it is told so by its next write.
    drop(output);
    watch.hang_up();
    let ended = watch.wait_for_end();
    let status = child.wait().context("waiting for the command")?;
    match pumped.and(ended).and_then(|()| pump.finish(&until)) {
        Err(Failed::Write(e)) if !super::closed(&e) => Err(e).context("standard output"),
        Err(Failed::Read(e)) => Err(e).context("the command's output"),
        Err(Failed::Signalled(signal)) => Ok(signalled(signal)),
        _ => Ok(code(status)),
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// A terminal as large as ours that leaves the bytes as they are.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if let Ok(size) = tcgetwinsize(io::stdout()) {
        tcsetwinsize(&theirs, size)?;
    }
    let mut modes = tcgetattr(&theirs)?;
    modes.output_modes.remove(OutputModes::OPOST);
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    Ok((ours, theirs))
}

fn code(status: ExitStatus) -> u8 {
    let number = status.code().and_then(|code| u8::try_from(code).ok());
    number.or_else(|| status.signal().map(signalled)).unwrap_or(u8::MAX)
}

fn signalled(signal: i32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}
