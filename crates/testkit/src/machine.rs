//! A machine of systemd-nspawn with systemd in it, which has the host's own `/usr`: whatever is installed
//! here runs there too. Nothing registers it.

use crate::call::{ended, said};
use crate::cgroup::{remove_new, subtree_pids, tops};
use crate::procfs;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long it may take to boot, and one call.
const START: Duration = Duration::from_secs(60);
/// What it starts.
const TARGET: &str = "[Unit]\nWants=dbus.service\nAfter=dbus.service\n";

/// The machine. All of it goes when this is dropped.
#[derive(Debug)]
pub struct Machine {
    dir: tempfile::TempDir,
    name: String,
    supervisor: Child,
    init: u32,
    old_cgroups: BTreeSet<PathBuf>,
}

impl Machine {
    /// Boots one whose root `fill` may add to first.
    ///
    /// # Errors
    /// What did not work, with what it said.
    pub fn boot(name: &str, fill: impl FnOnce(&Path)) -> Result<Machine, String> {
        let error = |e: std::io::Error| e.to_string();
        let dir = tempfile::Builder::new().prefix("whose-machine-").tempdir().map_err(error)?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).map_err(error)?;
        let root = dir.path().join("root");
        prepare(&root).map_err(error)?;
        fill(&root);
        let old_cgroups = tops().into_iter().collect();
        let log = std::fs::File::create(dir.path().join("log")).map_err(error)?;
        let mut command = Command::new("systemd-nspawn");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .args(["--quiet", "--register=no", "--keep-unit", "--boot", "--private-network"])
            .args(["--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .args(["--capability=all", "--system-call-filter=@raw-io @mount @keyring bpf"])
            .arg(format!("--machine={name}"))
            .arg(format!("--directory={}", root.display()))
            .args(["--bind-ro=/usr", "--bind-ro=/etc/alternatives", "--", "--unit=lab.target"])
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().map_err(error)?))
            .stderr(Stdio::from(log));
        let supervisor = command.spawn().map_err(error)?;
        let name = name.to_owned();
        let mut machine = Machine { dir, name, supervisor, init: 0, old_cgroups };
        let until = std::time::Instant::now() + START;
        while machine.init == 0 {
            machine.init = machine.booted().unwrap_or_default();
            if std::time::Instant::now() > until {
                let log = std::fs::read_to_string(machine.dir.path().join("log"));
                return Err(format!("the machine does not boot: {}", log.unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(machine)
    }

    /// Its systemd, once that answers.
    fn booted(&self) -> Option<u32> {
        let first = |pid: &u32| procfs::nspid(*pid).is_some_and(|pids| pids.last() == Some(&1));
        let init = procfs::children(self.supervisor.id()).into_iter().find(first)?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--"]);
        said(command.args(["systemctl", "is-active", "dbus.service"]), START).ok().map(|_| init)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// PID of its systemd.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// PID of what runs it.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Its root as the host has it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The words before a command that make it run in the machine.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        let init = self.init.to_string();
        let words = ["nsenter", "-t", &init, "-m", "-u", "-i", "-n", "-p", "-C", "--"];
        words.map(str::to_owned).to_vec()
    }

    /// Runs a command in it.
    ///
    /// # Errors
    /// What it said.
    pub fn run(&self, words: &[&str]) -> Result<String, String> {
        let inside = self.inside();
        let mut command = Command::new(&inside[0]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        said(command.args(&inside[1..]).args(words), START)
    }
}

/// Makes the machine's root.
fn prepare(root: &Path) -> std::io::Result<()> {
    let dirs = ["usr", "proc", "sys", "dev", "tmp", "run", "root", "var/lib", "etc/systemd/system"];
    for name in dirs {
        std::fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    symlink("../run", root.join("var/run"))?;
    for name in ["passwd", "group", "shadow"] {
        std::fs::copy(Path::new("/etc").join(name), root.join("etc").join(name))?;
    }
    let files =
        [("os-release", "ID=lab\n"), ("machine-id", ""), ("hosts", ""), ("resolv.conf", "")];
    for (name, text) in files {
        std::fs::write(root.join("etc").join(name), text)?;
    }
    std::fs::write(root.join("etc/systemd/system/lab.target"), TARGET)
}

impl Drop for Machine {
    fn drop(&mut self) {
        let payload = |dir: &PathBuf| dir.ends_with("payload");
        let own = |pid: &u32| {
            let mut at = *pid;
            for _ in 0..32 {
                if at == self.supervisor.id() {
                    return true;
                }
                at = procfs::ppid(at).unwrap_or_default();
            }
            false
        };
        if !ended(|| {
            let dirs: Vec<PathBuf> = tops().into_iter().filter(payload).collect();
            dirs.iter().flat_map(|dir| subtree_pids(dir)).filter(own).collect()
        }) {
            eprintln!("cleaning up after machine {}: it does not die", self.name);
        }
        drop(self.supervisor.wait());
        remove_new(&self.old_cgroups, |name| name == "payload" || name == "supervisor");
        drop(std::fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&self.name)));
    }
}
