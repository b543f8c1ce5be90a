//! A command whose output is filtered: on a pseudo-terminal where ours is a terminal, so that it behaves as
//! without the filter.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use super::pump::{Failed, Pump, Until};
use crate::exit::say;

/// The command can't be run, and there is none (as a shell has it).
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended it.
const SIGNALLED: i32 = 128;

/// What was asked of this program that is meant for the command.
struct Signals {
    /// Readable when one came.
    wake: UnixStream,
    winch: Arc<AtomicBool>,
    /// Passed on: they were sent to this program alone.
    passed: [(i32, Arc<AtomicBool>); 2],
}

impl Signals {
    /// From now on they end the command and not this program. Those of the keyboard reach the command
    /// anyway, since it is in the same process group. A program that is run has none of these handlers.
    fn listen() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let flag = |signal| -> io::Result<Arc<AtomicBool>> {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            Ok(flag)
        };
        for signal in [SIGINT, SIGQUIT] {
            flag(signal)?;
        }
        let (term, hup) = (flag(SIGTERM)?, flag(SIGHUP)?);
        Ok(Self { wake, winch: flag(SIGWINCH)?, passed: [(SIGTERM, term), (SIGHUP, hup)] })
    }

    fn look(&self, child: Pid, terminal: Option<&OwnedFd>) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.wake, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
        if self.winch.swap(false, Ordering::Relaxed)
            && let Some(terminal) = terminal
            && let Ok(size) = tcgetwinsize(io::stdout())
            && tcsetwinsize(terminal, size).is_ok()
        {
            // The one that came with ours may have come too early.
            let _ = rustix::process::kill_process(child, Signal::WINCH);
        }
        for (number, flag) in &self.passed {
            if flag.swap(false, Ordering::Relaxed) {
                let signal = if *number == SIGTERM { Signal::TERM } else { Signal::HUP };
                let _ = rustix::process::kill_process(child, signal);
            }
        }
    }
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
    let pumped = pump_all(pump, &child, &output, &signals, on_terminal);
    // With nobody to read, it is told so by its next write.
    drop(output);
    let status = child.wait().context("waiting for the command")?;
    match pumped {
        Err(Failed::Write(e)) if !super::closed(&e) => return Err(e).context("standard output"),
        Err(Failed::Read(e)) => return Err(e).context("the command's output"),
        _ => {}
    }
    match pump.finish() {
        Err(e) if !super::closed(&e) => Err(e).context("standard output"),
        _ => Ok(code(status)),
    }
}

fn pump_all(
    pump: &mut Pump<'_>,
    child: &Child,
    output: &OwnedFd,
    signals: &Signals,
    on_terminal: bool,
) -> Result<(), Failed> {
    let pid = Pid::from_child(child);
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| Failed::Read(e.into()))?;
    let look = || signals.look(pid, on_terminal.then_some(output));
    let until = Until::Ended {
        process: process.as_fd(),
        signals: signals.wake.as_fd(),
        look: &look,
        on_terminal,
    };
    pump.run(output.as_fd(), &until)
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
    let number = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    number.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}
