//! Machines of systemd-nspawn, registered nowhere: each is one command that runs until its first
//! process ends.

use crate::call::ended;
use crate::cgroup::{remove_new, subtree_pids, tops};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Starts machines, and removes what they leave when it is dropped. They are to end before; those
/// whose supervisor was killed are ended then.
#[derive(Debug)]
pub struct Nspawn {
    name: String,
    /// The top cgroup directories that were there before.
    old_cgroups: BTreeSet<PathBuf>,
}

impl Nspawn {
    /// To be made before the first machine.
    #[must_use]
    pub fn new() -> Nspawn {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("whose-lab-{}-{count}", std::process::id());
        Nspawn { name, old_cgroups: tops().into_iter().collect() }
    }

    /// The machine's name: `-M`. There is one machine at a time.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command, not yet started, that runs these words as the first process of a machine; its
    /// standard input and output are the command's. `options` say what its root is.
    #[must_use]
    pub fn command(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("systemd-nspawn");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--quiet", "--register=no", "--keep-unit", "--console=pipe"])
            // Nothing of the host's is to be written into the machine's root.
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .arg(format!("--machine={}", self.name))
            .arg(format!("--setenv=WHOSE_LAB={}", self.name))
            .args(options)
            .args(words);
        command
    }

    /// Processes of machines that lost their supervisor: every nspawn without a unit of its own
    /// uses the same cgroup.
    fn orphans(&self) -> Vec<u32> {
        let mark = format!("WHOSE_LAB={}\0", self.name);
        let mine = |pid: &u32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        let payloads = tops().into_iter().filter(|dir| dir.ends_with("payload"));
        payloads.flat_map(|dir| subtree_pids(&dir)).filter(mine).collect()
    }
}

impl Default for Nspawn {
    fn default() -> Self {
        Nspawn::new()
    }
}

impl Drop for Nspawn {
    fn drop(&mut self) {
        if !ended(|| self.orphans()) {
            eprintln!("cleaning up after nspawn: machine {} does not die", self.name);
        }
        remove_new(&self.old_cgroups, |name| name == "payload" || name == "supervisor");
        // Only goes when it is empty.
        drop(std::fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&self.name)));
    }
}
