//! LXC containers in a directory of their own.
//!
//! Each has a monitor, `[lxc monitor] DIR NAME`; there is no daemon.

use crate::call::{ended, said, waited};
use crate::cgroup::{dirs_named, remove_new, subtree_pids, tops};
use crate::procfs;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);

/// The host's id of root in a container with ids of its own.
pub const MAPPED: u32 = 5_000_000;

/// Runs with ids that only this command sees.
const START: &str = r#"
mount --bind "$SUBIDS" /etc/subuid
mount --bind "$SUBIDS" /etc/subgid
exec lxc-start "$@"
"#;

/// A directory of containers. All of it goes when this is dropped, also after a panic.
#[derive(Debug)]
pub struct Lxc {
    dir: tempfile::TempDir,
    names: Vec<String>,
    /// The top cgroup directories that were there before.
    old_cgroups: BTreeSet<PathBuf>,
}

impl Lxc {
    /// Makes an empty one.
    ///
    /// # Panics
    /// When it can't be written.
    #[must_use]
    pub fn new() -> Lxc {
        let dir = tempfile::Builder::new().prefix("whose-lxc-").tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        let ids = format!("root:{MAPPED}:65536\n");
        std::fs::write(dir.path().join("subids"), ids).expect("a file of ids");
        Lxc { dir, names: Vec::new(), old_cgroups: tops().into_iter().collect() }
    }

    /// The directory, LXC's `lxcpath`: what containers have is below it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a container: its name, `lxc.rootfs.path` as LXC writes it, e.g. `dir:/some/where`,
    /// the program that is its init, and more lines for its configuration. The PID of its init.
    ///
    /// # Errors
    /// LXC's log, when it does not run.
    pub fn start(
        &mut self,
        name: &str,
        rootfs: &str,
        init: &str,
        more: &[String],
    ) -> Result<u32, String> {
        let dir = self.path().join(name);
        let mut config = format!(
            "lxc.uts.name = lab\nlxc.rootfs.path = {rootfs}\nlxc.init.cmd = {init}\n\
             lxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\n\
             lxc.mount.auto = proc:mixed\n"
        );
        for line in more {
            config.push_str(line);
            config.push('\n');
        }
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("config"), config))
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        self.names.push(name.to_owned());
        let log = dir.join("log");
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "slave", "sh", "-ec", START, "sh", "-P"]);
        command.arg(self.path()).args(["-n", name, "-l", "INFO", "-o"]).arg(&log);
        command.env("SUBIDS", self.path().join("subids"));
        let begun = said(&mut command, CALL);
        begun.map_err(|e| format!("{e}\n{}", std::fs::read_to_string(&log).unwrap_or_default()))?;
        said(self.tool("lxc-wait", name).args(["-s", "RUNNING", "-t", "20"]), CALL)?;
        let pid = said(self.tool("lxc-info", name).args(["-p", "-H"]), CALL)?;
        pid.parse().map_err(|e| format!("lxc-info says {pid:?}: {e}"))
    }

    /// The command `lxc-attach`, not yet started, that runs these words in a container.
    #[must_use]
    pub fn attach(&self, name: &str, words: &[&str]) -> Command {
        let mut command = self.tool("lxc-attach", name);
        command.arg("--").args(words);
        command
    }

    fn tool(&self, tool: &str, name: &str) -> Command {
        let mut command = Command::new(tool);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("-P").arg(self.path()).args(["-n", name]);
        command
    }

    /// Kills a container, and waits until its monitor has ended too.
    pub fn stop(&self, name: &str) {
        // It may have ended by itself, or never begun.
        drop(said(self.tool("lxc-stop", name).arg("-k"), CALL));
        let payload = dirs_named(&format!("lxc.payload.{name}"));
        if !ended(|| payload.iter().flat_map(|dir| subtree_pids(dir)).collect()) {
            eprintln!("cleaning up after lxc: container {name} does not die");
        }
        let path = self.path().display().to_string();
        // It calls itself `[lxc monitor] PATH NAME`, where the kernel lets it.
        let monitor = |pid: &u32| {
            procfs::comm(*pid).is_some_and(|comm| comm == "lxc-start")
                && procfs::args(*pid).is_some_and(|args| {
                    let words = args.join(" ");
                    words.contains(&path) && words.contains(name)
                })
        };
        let gone = || !procfs::pids().iter().any(monitor);
        if !waited(Duration::from_secs(10), gone) {
            eprintln!("cleaning up after lxc: the monitor of {name} does not end");
        }
    }
}

impl Default for Lxc {
    fn default() -> Self {
        Lxc::new()
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        for name in &self.names {
            self.stop(name);
        }
        remove_new(&self.old_cgroups, |name| {
            let parts = ["lxc.payload.", "lxc.monitor."];
            let of = parts.iter().find_map(|part| name.strip_prefix(part));
            name == "lxc.pivot" || of.is_some_and(|of| self.names.iter().any(|own| own == of))
        });
    }
}
