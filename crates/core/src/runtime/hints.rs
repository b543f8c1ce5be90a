//! Where the state of a daemon may be, for runtimes that ask in the same ways: the arguments of what runs in a
//! unit of its, a configuration file a setting, and binds in a container.

use bstr::{BStr, BString};
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::parse::status::Status;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Host, parse};

/// Largest list of processes, bytes.
const CAP: usize = 64 * 1024;
/// Where systemd has its units' cgroups.
const SLICES: [&str; 2] = ["sys/fs/cgroup/system.slice", "sys/fs/cgroup/systemd/system.slice"];

/// The arguments of the processes in these units that the kernel calls so.
pub(super) fn in_units(host: &Host, units: &[&str], comms: &[&str]) -> Vec<Vec<BString>> {
    let asks = daemons(host, units, comms, Slow::Cmdline);
    host.slow_reads(&asks).into_iter().flatten().map(|b| parse::cmdline::parse(&b)).collect()
}

/// What a variable in the environments of such processes says, if it is a path.
pub(super) fn moved(host: &Host, units: &[&str], comm: &str, variable: &str) -> Vec<BString> {
    let asks = daemons(host, units, &[comm], Slow::Environ);
    let environments = asks.iter().filter_map(|ask| variable_of(host, ask, variable));
    environments.collect()
}

/// The path that a variable of a process's environment is. Of an environment nothing else is told; while a capture
/// is made none is read, since it would be written down.
pub(crate) fn variable_of(host: &Host, ask: &Ask, variable: &str) -> Option<BString> {
    if host.recorder().is_some() {
        return None;
    }
    let bytes = host.slow_reads(&[Ask { file: Slow::Environ, ..*ask }]).pop()?.ok()?;
    let value = |line: &[u8]| {
        let path = line.strip_prefix(variable.as_bytes())?.strip_prefix(b"=")?;
        path.starts_with(b"/").then(|| BString::from(path))
    };
    bytes.split(|b| *b == 0).find_map(value)
}

/// Root's processes in these units that the kernel calls so, and what is asked of them. What a daemon has started may be
/// in its unit too, as Nomad's tasks without a cgroup and a machine's emulator are, and may call itself as it likes.
fn daemons(host: &Host, units: &[&str], comms: &[&str], file: Slow) -> Vec<Ask> {
    let mut pids: Vec<u32> = Vec::new();
    for (slice, unit) in SLICES.iter().flat_map(|s| units.iter().map(move |unit| (s, unit))) {
        let path = format!("{slice}/{unit}.service/cgroup.procs");
        let Ok(bytes) = host.root().read(path.as_bytes(), CAP) else { continue };
        pids.extend(bytes.split(|b| *b == b'\n').filter_map(|l| parse::decimal32(l.trim_ascii())));
    }
    pids.sort_unstable();
    pids.dedup();
    let daemon = |pid: &u32| {
        let process = host.process(*pid).ok()?;
        let stat =
            process.stat().ok().filter(|stat| comms.iter().any(|comm| stat.comm == *comm))?;
        let is_roots = |status: Status| (status.ruid, status.euid) == (0, 0);
        // A tree that was put together by hand may lack it.
        if !process.status().map_or(host.is_loose(), is_roots) {
            return None;
        }
        let ask = Ask { file, pid: *pid, start_ticks: stat.start_ticks };
        Some(ask)
    };
    pids.iter().filter_map(daemon).collect()
}

/// The paths that a directory of a bind's file system has on the host. The root field counts from the top of
/// the file system, which may be mounted anywhere.
pub(super) fn on_host(host: &Host, bind: &Mount, inside: &[u8]) -> Vec<BString> {
    let mut paths: Vec<BString> = Vec::new();
    for mount in host.mounts().unwrap_or_default().iter().filter(|m| m.device == bind.device) {
        if let Some(rest) = strip(&mount.root, inside) {
            let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
            let path: BString = [point, rest].concat().into();
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

/// The path that a file of one setting has, as packages of Mesos keep their flags.
pub(super) fn in_file(host: &Host, path: &str) -> Option<BString> {
    let bytes = host.root().read(path.as_bytes(), 4096).ok()?;
    let text = BStr::new(bytes.trim_ascii());
    (text.starts_with(b"/") && !text.contains(&b'\n')).then(|| text.into())
}
