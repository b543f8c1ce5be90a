//! Other programs, and a place for what they make.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

/// The programs that are run, and the packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("busybox", "busybox-static"),
    ("xz", "xz-utils"),
    ("strip", "binutils"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("git", "git"),
];

/// Says by name what is missing.
pub(super) fn check() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "the machines are x86-64, and so must this one be");
    ensure!(rustix::process::geteuid().is_root(), "vm makes a root file system, and must be root");
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    ensure!(missing.is_empty(), "missing: apt-get install {}", missing.join(" "));
    Ok(())
}

/// Where a program is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
}

/// Runs a command that must succeed; what it prints.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", name.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {said}", name.display(), output.status);
    Ok(output.stdout)
}

/// The same, as text.
pub(super) fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// A directory that goes with this value; one that an interrupted run left goes before.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    /// Held locked, so that no two runs share the downloads.
    _lock: File,
}

impl Scratch {
    /// Makes it beside the downloads.
    pub(super) fn make(cache: &Path) -> Result<Self> {
        let lock = File::create(cache.join("lock")).context("the lock of the downloads")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context("another `cargo xtask vm` is at work")?;
        let dir = cache.join("run");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir, _lock: lock })
    }

    /// A directory in it.
    pub(super) fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed by the next run.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
