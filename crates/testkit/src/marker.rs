//! Programs that tell which copy of their file runs.
//!
//! Every copy that [`Markers::write`] makes carries a marker of its own, and says the one it has
//! mapped. So a test knows which file a process runs without asking the kernel anything that the
//! product asks.

use crate::hostile::{Compiled, Helper};
use crate::procfs;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::{OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PLACE: &[u8] = b"WHOSE-MARKER-00000000000000000000000000000000";
/// How long a program may take to exist below the one that starts it.
const START: Duration = Duration::from_secs(20);

/// What one copy of the program says, and has in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker(String);

impl Marker {
    /// One that no other copy has, on this machine, for a long time.
    fn fresh() -> Marker {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let micros = since.as_micros() & 0xffff_ffff_ffff;
        Marker(format!("WHOSE-MARKER-{:08x}{micros:016x}{count:08x}", std::process::id()))
    }

    /// These bytes carry it.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.0.len()).any(|window| window == self.0.as_bytes())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The compiled program, of which copies are made, and the tool for set-ups.
#[derive(Debug)]
pub struct Markers {
    program: Compiled,
    tool: Compiled,
    code: Vec<u8>,
    at: usize,
}

impl Markers {
    /// Compiles them.
    ///
    /// # Panics
    /// When the compiler fails.
    #[must_use]
    pub fn new() -> Markers {
        Markers::compiled(&["-static", "-Wl,--build-id"])
    }

    /// As [`Markers::new`], but linked to libraries: run by a loader.
    ///
    /// # Panics
    /// When the compiler fails.
    #[must_use]
    pub fn dynamic() -> Markers {
        Markers::compiled(&["-Wl,--build-id"])
    }

    fn compiled(words: &[&str]) -> Markers {
        let program = Compiled::with("marker", include_str!("../c/marker.c"), words);
        let tool = Compiled::with("act", include_str!("../c/act.c"), &["-static"]);
        let code = std::fs::read(&program.path).expect("the compiled program");
        let mut places = code.windows(PLACE.len()).enumerate().filter(|(_, w)| *w == PLACE);
        let (at, _) = places.next().expect("a place for the marker");
        assert!(places.next().is_none(), "two places for the marker");
        Markers { program, tool, code, at }
    }

    /// The tool for set-ups, `c/act.c`.
    #[must_use]
    pub fn tool(&self) -> &Path {
        &self.tool.path
    }

    /// The program as compiled, without a marker of its own.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program.path
    }

    /// A new file, with its directories: a copy of the program with a marker of its own.
    ///
    /// # Panics
    /// When there is something of that name, or it can't be written. A link is never followed:
    /// those of a root file system for a container lead to the host's own programs.
    pub fn write(&self, path: &Path) -> Marker {
        let marker = Marker::fresh();
        let mut code = self.code.clone();
        code[self.at..self.at + PLACE.len()].copy_from_slice(marker.0.as_bytes());
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
        let mut file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.write_all(&code).expect("writing a copy");
        file.set_permissions(Permissions::from_mode(0o755)).expect("chmod");
        marker
    }

    /// Writes another marker into a copy, in place.
    ///
    /// # Panics
    /// When it can't be written, or is a link, or no copy.
    pub fn patch(&self, path: &Path) -> Marker {
        let marker = Marker::fresh();
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(no_link).open(path);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut old = [0; 13];
        file.read_exact_at(&mut old, self.at as u64).expect("reading a marker");
        assert!(PLACE.starts_with(&old), "{} is no copy", path.display());
        file.write_all_at(marker.0.as_bytes(), self.at as u64).expect("writing a marker");
        marker
    }
}

impl Default for Markers {
    fn default() -> Self {
        Markers::new()
    }
}

/// The whole file, however long the path; no directory on the way may be a link.
///
/// # Errors
/// When it can't be opened or read.
pub fn read_by_parts(path: &Path) -> std::io::Result<Vec<u8>> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = path.as_os_str().as_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty());
    let last = parts.next_back().unwrap_or(b".");
    let mut at = openat(CWD, "/", dir, Mode::empty())?;
    for part in parts {
        at = openat(&at, part, dir, Mode::empty())?;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut all = Vec::new();
    std::fs::File::from(openat(&at, last, flags, Mode::empty())?).read_to_end(&mut all)?;
    Ok(all)
}

/// A running copy. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
    pid: u32,
    marker: Marker,
}

impl Running {
    /// Starts a command that ends in becoming a copy, and waits until that says its marker.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    #[track_caller]
    pub fn start(command: Command) -> Running {
        let helper = Helper::spawn(command);
        let (marker, _) = told(&helper);
        Running { pid: helper.pid(), helper, marker }
    }

    /// As [`Running::start`], for a command that has a copy as its last descendant.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    #[track_caller]
    pub fn start_below(command: Command) -> Running {
        let helper = Helper::spawn(command);
        let (marker, _) = told(&helper);
        let mut pid = helper.pid();
        procfs::wait_for("the last descendant", START, || {
            while let Some(child) = procfs::children(pid).into_iter().next_back() {
                pid = child;
            }
            (pid != helper.pid()).then_some(())
        });
        Running { helper, pid, marker }
    }

    /// As [`Running::start`], for a client that has a container run the copy. It is the process
    /// with the PID it says, in the innermost namespace, whose cgroup file has the word `cgroup`.
    ///
    /// # Panics
    /// When it says nothing, or there is no such process.
    #[must_use]
    #[track_caller]
    pub fn start_contained(command: Command, cgroup: &str) -> Running {
        let helper = Helper::spawn(command);
        let (marker, inside) = told(&helper);
        let fits = |pid: &u32| {
            procfs::nspid(*pid).is_some_and(|pids| pids.len() > 1 && pids.last() == Some(&inside))
                && procfs::cgroup(*pid).is_some_and(|text| text.contains(cgroup))
        };
        let deepest = |pid: &u32| procfs::nspid(*pid).map_or(0, |pids| pids.len());
        let pid = procfs::pids().into_iter().filter(fits).max_by_key(deepest);
        let pid = pid.unwrap_or_else(|| panic!("no process {inside} in {cgroup}"));
        Running { helper, pid, marker }
    }

    /// As [`Running::start_contained`], where no cgroup tells: it is the process with the PID it
    /// says in the PID namespace of `init`.
    ///
    /// # Panics
    /// When it says nothing, or there is no such process.
    #[must_use]
    #[track_caller]
    pub fn start_beside(command: Command, init: u32) -> Running {
        let helper = Helper::spawn(command);
        let (marker, inside) = told(&helper);
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let wanted = namespace(init).unwrap_or_else(|| panic!("{init} has ended"));
        let fits = |pid: &u32| {
            procfs::nspid(*pid).is_some_and(|pids| pids.last() == Some(&inside))
                && namespace(*pid).as_ref() == Some(&wanted)
        };
        let pid = procfs::pids().into_iter().find(fits);
        let pid = pid.unwrap_or_else(|| panic!("no process {inside} beside {init}"));
        Running { helper, pid, marker }
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The marker it has mapped.
    #[must_use]
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Has it look again at what it has mapped; for a program that execs at the first byte, the
    /// next one's marker.
    ///
    /// # Panics
    /// When it says nothing.
    #[track_caller]
    pub fn look_again(&mut self) -> &Marker {
        let line = self.helper.ask("").unwrap_or_else(|e| panic!("{e}"));
        self.marker = parse(&line).0;
        &self.marker
    }
}

#[track_caller]
fn told(helper: &Helper) -> (Marker, u32) {
    let line = helper.line().unwrap_or_else(|e| panic!("{e}"));
    parse(&line)
}

#[track_caller]
fn parse(line: &str) -> (Marker, u32) {
    let mut words = line.split_ascii_whitespace();
    let fits = words.next() == Some("marker");
    let marker = words.next().filter(|_| fits).map(|word| Marker(word.to_owned()));
    let pid = words.next().and_then(|word| word.parse().ok());
    marker.zip(pid).unwrap_or_else(|| panic!("odd answer {line:?}"))
}

/// Something that goes on until this is dropped; it has said that it is ready.
#[derive(Debug)]
pub struct Going {
    helper: Helper,
}

impl Going {
    /// Starts a command and waits for its line `ready`.
    ///
    /// # Panics
    /// When that does not come.
    #[must_use]
    #[track_caller]
    pub fn start(command: Command) -> Going {
        let helper = Helper::spawn(command);
        assert_eq!(helper.line().as_deref(), Ok("ready"));
        Going { helper }
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }
}

/// A private mount namespace with a directory that the host sees too.
///
/// Commands are run in the namespace, in that directory. The namespace, and with it every mount
/// made there, goes when this is dropped.
#[derive(Debug)]
pub struct Lab {
    // First, so that what it holds has ended before the directory is removed.
    holder: Helper,
    dir: tempfile::TempDir,
    tool: PathBuf,
}

impl Lab {
    /// Makes one.
    ///
    /// # Panics
    /// When it can't: root is needed.
    #[must_use]
    pub fn new(markers: &Markers) -> Lab {
        let dir = tempfile::Builder::new().prefix("whose-lab-").tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "cat"]);
        let mut holder = Helper::spawn(command);
        assert_eq!(holder.ask("there").as_deref(), Ok("there"), "no mount namespace");
        Lab { holder, dir, tool: markers.tool().to_owned() }
    }

    /// A path on the host.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A process of the namespace that does nothing.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Runs a shell script in the namespace; what it prints. `$ACT` is the tool, `$LAB` the
    /// directory.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let out = self.command(script).output().expect("running a script");
        assert!(
            out.status.success(),
            "{script}: {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// The command for a script in the namespace, not yet started.
    #[must_use]
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-m", "-t", &self.pid().to_string(), "sh", "-ec"])
            .arg(format!("cd \"$LAB\"; {script}"))
            .env("ACT", &self.tool)
            .env("LAB", self.dir.path());
        command
    }

    /// Runs a script that ends with `exec`ing a copy of the program.
    ///
    /// # Panics
    /// When no marker is said.
    #[must_use]
    #[track_caller]
    pub fn run(&self, script: &str) -> Running {
        Running::start(self.command(script))
    }

    /// Starts an endless act of the tool in the namespace, e.g. `listen l/x`.
    ///
    /// # Panics
    /// When it does not begin.
    #[must_use]
    #[track_caller]
    pub fn keep(&self, act: &str) -> Going {
        Going::start(self.command(&format!("exec \"$ACT\" {act}")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lab, Markers, read_by_parts};
    use crate::require;

    #[test]
    fn a_copy_says_its_own_marker() {
        if !require(&["cc"]) {
            return;
        }
        let (markers, dir) = (Markers::new(), tempfile::tempdir().unwrap());
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let (first, second) = (markers.write(&one), markers.write(&two));
        assert_ne!(first, second);
        assert!(first.is_in(&read_by_parts(&one).unwrap()));
        let running = super::Running::start(std::process::Command::new(&two));
        assert_eq!(running.marker(), &second);
        drop(running);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        for write in [Markers::write, Markers::patch] {
            let followed = std::panic::catch_unwind(|| write(&markers, &link));
            assert!(followed.is_err() && first.is_in(&std::fs::read(&one).unwrap()));
        }
        let third = markers.patch(&one);
        assert!(third.is_in(&std::fs::read(&one).unwrap()) && third != first);
    }

    #[test]
    fn mounts_of_a_lab_are_its_own() {
        if !require(&["root", "cc", "mount-namespace"]) {
            return;
        }
        let markers = Markers::new();
        let lab = Lab::new(&markers);
        let marker = markers.write(&lab.path("a/x"));
        lab.sh("mkdir b; mount --bind a b");
        assert!(!lab.path("b/x").exists());
        let mut running = lab.run("exec b/x");
        assert_eq!(running.look_again(), &marker);
        let exe = std::fs::read_link(format!("/proc/{}/exe", running.pid())).unwrap();
        assert_eq!(exe, lab.path("b/x"));
    }
}
