//! The cgroup file systems: which hierarchies are mounted, who is in a cgroup, its state.

use bstr::{BString, ByteSlice};

use crate::error::{Class, NOT_SUPPORTED, ReadError};
use crate::host::{Host, Mode};
use crate::parse;
use crate::parse::cgroup::Line;
use crate::parse::mountinfo::{Mount, strip};

/// Directories a subtree may hold before the walk stops with an error: whoever is given a cgroup
/// may make as many as he likes below it.
const MOST_CGROUPS: usize = 50_000;
/// Cap of `cgroup.procs`: 4 million PIDs of 8 bytes.
const PROCS: usize = 32 << 20;

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Whether it is cgroup v2.
    pub v2: bool,
    /// Its v1 controllers and `name=`.
    pub controllers: Vec<BString>,
    /// Where it is mounted.
    pub point: BString,
    /// Which cgroup is mounted there; `/` but in a cgroup namespace.
    pub root: BString,
}

impl Hierarchy {
    /// Whether a line of `/proc/PID/cgroup` is about this hierarchy.
    #[must_use]
    pub fn holds(&self, line: &Line) -> bool {
        if line.is_v2() {
            return self.v2;
        }
        !self.v2 && self.controllers.iter().any(|c| line.has_controller(c))
    }

    /// The directory of a cgroup path, if the mount reaches it.
    #[must_use]
    pub fn dir(&self, path: &[u8]) -> Option<BString> {
        // `/..` leads out of the reader's cgroup namespace, or is someone's idea of a joke.
        if path.split(|b| *b == b'/').any(|s| s == b".." || s == b".") {
            return None;
        }
        let rest = strip(&self.root, path)?;
        let point = self.point.strip_suffix(b"/").unwrap_or(&self.point);
        Some([point, rest.trim_end_with(|c| c == '/').as_bytes()].concat().into())
    }
}

/// The mounted hierarchies, cgroup v2 first. A saved tree without a mount table is judged by what
/// lies in `sys/fs/cgroup`.
///
/// # Errors
/// When neither can be read.
pub fn hierarchies(host: &Host) -> Result<Vec<Hierarchy>, ReadError> {
    let mut found = match host.mounts() {
        Ok(mounts) => from_mounts(mounts),
        Err(e) if host.mode() != Mode::Saved => return Err(e),
        Err(_) => Vec::new(),
    };
    if found.is_empty() && host.mode() == Mode::Saved {
        found = from_folders(host)?;
    }
    found.sort_by_key(|h| !h.v2);
    Ok(found)
}

fn from_mounts(mounts: &[Mount]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts {
        let v2 = mount.fs_type == "cgroup2";
        if !v2 && mount.fs_type != "cgroup" {
            continue;
        }
        let words = mount.super_options.split(|b| *b == b',').map(BString::from);
        let controllers: Vec<BString> = if v2 { Vec::new() } else { words.collect() };
        let same = |h: &&mut Hierarchy| h.v2 == v2 && h.controllers == controllers;
        let (point, root) = (mount.point.clone(), mount.root.clone());
        match found.iter_mut().find(same) {
            // Mounted more than once: the one that shows the most.
            Some(known) if root.len() < known.root.len() => {
                (known.point, known.root) = (point, root)
            }
            Some(_) => {}
            None => found.push(Hierarchy { v2, controllers, point, root }),
        }
    }
    found
}

fn from_folders(host: &Host) -> Result<Vec<Hierarchy>, ReadError> {
    let top = "/sys/fs/cgroup";
    let v2 = |point: &str| Hierarchy {
        v2: true,
        controllers: Vec::new(),
        point: point.into(),
        root: "/".into(),
    };
    let root = host.root();
    let is_v2 = |at: &str| {
        ["cgroup.controllers", "cgroup.procs"]
            .iter()
            .any(|f| root.look(format!("{at}/{f}").as_bytes()).is_ok())
    };
    if is_v2(top) {
        return Ok(vec![v2(top)]);
    }
    let mut found = Vec::new();
    for entry in root.list(top.as_bytes(), 1000)? {
        let point = format!("{top}/{}", entry.name);
        if entry.name == "unified" {
            found.push(v2(&point));
        } else if entry.is_dir {
            let name =
                if entry.name == "systemd" { "name=systemd".into() } else { entry.name.clone() };
            let controllers = name.split(|b| *b == b',').map(BString::from).collect();
            found.push(Hierarchy { v2: false, controllers, point: point.into(), root: "/".into() });
        }
    }
    Ok(found)
}

/// The members of one cgroup, its children not counted.
///
/// # Errors
/// `gone` when there is no such cgroup; [`is_threaded`] for a threaded one, whose members the domain
/// above it lists; `unsupported` when a member is outside the reader's PID
/// namespace and so has no number here.
pub fn members(host: &Host, dir: &[u8]) -> Result<Vec<u32>, ReadError> {
    let file = [dir, b"/cgroup.procs"].concat();
    let bytes = host.root().read(&file, PROCS)?;
    let mut pids = Vec::new();
    for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let bad = |why| ReadError::new(host.shown(&file), Class::Malformed, why);
        match parse::decimal32(line) {
            Some(0) => {
                let why = "a member has no PID in this PID namespace";
                return Err(ReadError::new(host.shown(&file), Class::Unsupported, why));
            }
            Some(pid) => pids.push(pid),
            None => return Err(bad("not a list of PIDs")),
        }
    }
    Ok(pids)
}

/// One of the members, if there is one that has a number here: however many there are, one read.
#[must_use]
pub fn any_member(host: &Host, dir: &[u8]) -> Option<u32> {
    if host.mode() == Mode::Saved || host.recorder().is_some() {
        return members(host, dir).ok()?.first().copied();
    }
    let held = host.root().hold(&[dir, b"/cgroup.procs"].concat(), 64).ok()?;
    let mut line = [0; 16];
    let length = held.read_at(0, &mut line).ok()?;
    let end = line[..length].iter().position(|b| *b == b'\n')?;
    parse::decimal32(&line[..end]).filter(|pid| *pid > 0)
}

/// Whether reading the members failed because the cgroup is threaded (cgroup v2).
#[must_use]
pub fn is_threaded(error: &ReadError) -> bool {
    error.cause == NOT_SUPPORTED
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// The directory and all below it, parents first.
    pub dirs: Vec<BString>,
    /// What could not be walked: with it, `dirs` is not all there is.
    pub problem: Option<ReadError>,
}

/// The directory and all below it. A child that is removed during the walk is left out; one that
/// can't be read, too many of them, or the end of the time is the walk's problem.
///
/// # Errors
/// When the first directory can't be read; `gone` when it is not there.
pub fn subtree(host: &Host, dir: &[u8]) -> Result<Walk, ReadError> {
    let mut walk = Walk { dirs: vec![dir.into()], problem: None };
    let mut at = 0;
    while let Some(next) = walk.dirs.get(at).cloned() {
        let entries = match host.root().list(&next, MOST_CGROUPS * 4) {
            Ok(entries) => entries,
            Err(e) if at == 0 => return Err(e),
            Err(e) if e.class == Class::Gone => Vec::new(),
            Err(e) => {
                walk.problem.get_or_insert(e);
                Vec::new()
            }
        };
        for entry in entries.into_iter().filter(|e| e.is_dir) {
            walk.dirs.push([next.as_slice(), b"/", &entry.name].concat().into());
        }
        let stop = |class, why: &'static str| Some(ReadError::new(host.shown(dir), class, why));
        if walk.dirs.len() > MOST_CGROUPS {
            walk.problem = stop(Class::Malformed, "more than 50,000 cgroups");
            break;
        }
        if host.out_of_time() {
            walk.problem = stop(Class::TimedOut, "too many cgroups for the time");
            break;
        }
        at += 1;
    }
    Ok(walk)
}

/// Whether the processes of a cgroup are frozen, by v2's `cgroup.events` or the v1 freezer.
///
/// # Errors
/// `gone` when there is no such cgroup or it is the root, which can't be frozen.
pub fn is_frozen(host: &Host, hierarchy: &Hierarchy, path: &[u8]) -> Result<bool, ReadError> {
    let Some(dir) = hierarchy.dir(path) else {
        return Err(ReadError::new(path, Class::Unsupported, "outside the mounted cgroups"));
    };
    let (file, frozen): (&[u8], &[u8]) = if hierarchy.v2 {
        (b"/cgroup.events", b"frozen 1")
    } else {
        (b"/freezer.state", b"FROZEN")
    };
    let bytes = host.root().read(&[&dir, file].concat(), 4096)?;
    Ok(bytes.split(|b| *b == b'\n').any(|l| l.trim_ascii() == frozen))
}
