//! The few facts of `/proc` that tests compare with, read on their own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn read(pid: u32, file: &str) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/{file}")).ok()
}

/// The fields of `/proc/PID/stat` after the name; the first is field 3, the state.
#[must_use]
pub fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let bytes = read(pid, "stat")?;
    let end = bytes.iter().rposition(|b| *b == b')')?;
    let rest = String::from_utf8_lossy(&bytes[end + 1..]).into_owned();
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Field 22 of `/proc/PID/stat`.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// The parent.
#[must_use]
pub fn ppid(pid: u32) -> Option<u32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// The kernel's letter.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    stat_fields(pid)?.first()?.chars().next()
}

/// There is such a process, and it is no zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|s| !matches!(s, 'Z' | 'X'))
}

/// `/proc/PID/comm`.
#[must_use]
pub fn comm(pid: u32) -> Option<String> {
    let bytes = read(pid, "comm")?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

/// The arguments, lossily. Never asked of a process whose arguments may be on FUSE.
#[must_use]
pub fn args(pid: u32) -> Option<Vec<String>> {
    let bytes = read(pid, "cmdline")?;
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Some(text.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect())
}

/// The PIDs of the `NSpid` line, outermost first.
#[must_use]
pub fn nspid(pid: u32) -> Option<Vec<u32>> {
    let status = String::from_utf8_lossy(&read(pid, "status")?).into_owned();
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().map(|n| n.parse().ok()).collect()
}

/// The effective uid.
#[must_use]
pub fn uid(pid: u32) -> Option<u32> {
    let status = String::from_utf8_lossy(&read(pid, "status")?).into_owned();
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `/proc/PID/cgroup`.
#[must_use]
pub fn cgroup(pid: u32) -> Option<String> {
    Some(String::from_utf8_lossy(&read(pid, "cgroup")?).into_owned())
}

/// Every PID there is.
#[must_use]
pub fn pids() -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process that are there now.
#[must_use]
pub fn children(pid: u32) -> BTreeSet<u32> {
    pids().into_iter().filter(|p| ppid(*p) == Some(pid)).collect()
}

/// A PID nobody has, far ahead of those the kernel hands out next.
///
/// # Panics
/// When `/proc` can't be read.
#[must_use]
pub fn free_pid() -> u32 {
    let number = |text: String, field: usize| -> Option<u32> {
        text.split_ascii_whitespace().nth(field)?.parse().ok()
    };
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let last = std::fs::read_to_string("/proc/loadavg").ok();
    let max = max.and_then(|t| number(t, 0)).expect("pid_max");
    let last = last.and_then(|t| number(t, 4)).expect("the last pid");
    let low = 1000;
    let begin = last + (max - low) / 2;
    (begin..begin + max)
        .map(|p| if p >= max { low + (p - max) % (max - low) } else { p })
        .find(|p| !std::path::Path::new(&format!("/proc/{p}")).exists())
        .expect("a free PID")
}

/// Sends a signal to one process, by its PID; false if it is gone.
pub fn signal(pid: u32, signal: rustix::process::Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// Asks again and again until `ready` gives something, for at most `limit`.
///
/// # Panics
/// When it never does, naming `what`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::{alive, args, children, comm, free_pid, nspid, ppid, start_ticks, state};

    #[test]
    fn reads_itself() {
        let me = std::process::id();
        assert!(alive(me) && start_ticks(me).unwrap() > 0 && ppid(me).unwrap() > 0);
        assert!(!comm(me).unwrap().is_empty() && !args(me).unwrap().is_empty());
        assert!(nspid(me).unwrap().contains(&me));
        assert!(children(ppid(me).unwrap()).contains(&me));
        assert_eq!(state(free_pid()), None);
    }
}
