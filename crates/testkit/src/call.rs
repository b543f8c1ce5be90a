//! Calling engines' clients and system tools for a limited time.

use crate::procfs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// As `Command::output`, but for a limited time.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("starting {name}: {e}"))?;
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(limit) {
        Ok(out) => out.map_err(|e| format!("waiting for {name}: {e}")),
        Err(_) => {
            procfs::signal(pid, rustix::process::Signal::KILL);
            Err(format!("{name} took longer than {limit:?} and was killed"))
        }
    }
}

/// What a command prints on stdout, without its last newline; what it said on stderr when it fails.
pub(crate) fn said(command: &mut Command, limit: Duration) -> Result<String, String> {
    let out = output(command, limit)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr).trim_end().to_owned();
    let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    let name = command.get_program().to_string_lossy();
    Err(format!("{name} {} failed, {}: {why}", words.join(" "), out.status))
}

/// Waits until `ready`; false when it took longer than `limit`.
pub(crate) fn waited(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while !ready() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Kills these processes, asked for again and again until none is left; false when some don't die.
pub(crate) fn ended(mut pids: impl FnMut() -> Vec<u32>) -> bool {
    waited(Duration::from_secs(10), || {
        let pids = pids();
        for pid in &pids {
            procfs::signal(*pid, rustix::process::Signal::KILL);
        }
        pids.is_empty()
    })
}
