//! Named skips: what a test needs and the machine may not have.

use std::path::{Path, PathBuf};

/// What a test can ask for by name.
///
/// `root`, `cc`, `fuse`, `strace`, `docker`, `cri` for what [`crate::cri`] needs, `cgroup-hybrid`,
/// `cgroup-v2`, `mount-namespace`, `overlay`, `btrfs`, `loop`, `kernel-btf`, `linux-6.1` for a kernel
/// of that release or later; a path for what must be there; any other name is taken for a program
/// that must be on the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs<'a>(pub &'a str);

impl Needs<'_> {
    /// Why it is missing, or `None` when it is there.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self.0 {
            "root" => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            "fuse" => {
                // The node may be there without the module; opening it tells.
                std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/fuse")
                    .err()
                    .map(|e| format!("/dev/fuse: {e}"))
            }
            "docker" => ["dockerd", "containerd", "runc", "busybox"]
                .iter()
                .find_map(|program| Needs(program).missing()),
            "cri" => crate::cri::missing(),
            "cgroup-hybrid" => (!Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists()
                && !Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists())
            .then(|| "no cgroup v1 hierarchy is mounted".to_owned()),
            "cgroup-v2" => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                (!known.contains("cgroup2")).then(|| "the kernel has no cgroup2".to_owned())
            }
            "overlay" | "btrfs" => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                (!known.split_ascii_whitespace().any(|word| word == self.0))
                    .then(|| format!("the kernel has no {}", self.0))
            }
            "loop" => (!Path::new("/dev/loop-control").exists())
                .then(|| "there are no loop devices".to_owned()),
            "kernel-btf" => (!Path::new("/sys/kernel/btf/vmlinux").exists())
                .then(|| "the kernel does not describe its types".to_owned()),
            "mount-namespace" => Needs("unshare").missing().or_else(|| {
                (!Path::new("/proc/self/ns/mnt").exists())
                    .then(|| "the kernel has no mount namespaces".to_owned())
            }),
            release if release.starts_with("linux-") => {
                let wanted = parse_release(&release["linux-".len()..]);
                let own = kernel();
                (own < wanted).then(|| format!("the kernel is {}.{}", own.0, own.1))
            }
            path if path.starts_with('/') => {
                (!Path::new(path).exists()).then(|| format!("there is no {path}"))
            }
            program => which(program).is_none().then(|| format!("`{program}` is not installed")),
        }
    }
}

/// The release of the running kernel, e.g. `(6, 1)`.
#[must_use]
pub fn kernel() -> (u32, u32) {
    parse_release(&rustix::system::uname().release().to_string_lossy())
}

fn parse_release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Finds a program on the usual path of root.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
}

/// Says whether everything in `names` is there.
///
/// When something is missing it prints `skipped: NAME: reason` and returns false, so that a test
/// can return early; with `WHOSE_CI=1` in the environment a missing thing is a failure instead.
///
/// # Panics
/// With `WHOSE_CI=1`, when something is missing.
#[must_use]
pub fn require(names: &[&str]) -> bool {
    for name in names {
        if let Some(reason) = Needs(name).missing() {
            skip(name, &reason);
            return false;
        }
    }
    true
}

/// Prints `skipped: NAME: reason`.
///
/// # Panics
/// With `WHOSE_CI=1`: what a developer's machine may lack, the CI's may not.
pub fn skip(name: &str, reason: &str) {
    if std::env::var_os("WHOSE_CI").is_some_and(|v| v == "1") {
        panic!("skipped: {name}: {reason} (WHOSE_CI=1 makes that a failure)");
    }
    eprintln!("skipped: {name}: {reason}");
}

#[cfg(test)]
mod tests {
    use super::{Needs, kernel, parse_release, which};

    #[test]
    fn a_missing_program_is_named() {
        let why = Needs("no-such-program-anywhere").missing().unwrap();
        assert!(why.contains("no-such-program-anywhere"), "{why}");
        assert_eq!(Needs("sh").missing(), None);
        assert_eq!(Needs("linux-3.0").missing(), None);
        let (major, minor) = kernel();
        let why = Needs("linux-999.0").missing().unwrap();
        assert_eq!(why, format!("the kernel is {major}.{minor}"));
        assert!(parse_release("5.10.0-46-amd64") < parse_release("5.11"));
        assert!(parse_release("6.9.1") < parse_release("6.10"));
        assert!(which("sh").unwrap().is_absolute());
    }
}
