//! An LXD of the test's own: a daemon with its directory, a storage pool and an image of one static
//! binary.

use crate::call::{said, waited};
use crate::cgroup::{remove_new, tops};
use crate::docker::busybox_rootfs;
use crate::procfs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);
/// What the pool and the default profile are.
const PRESEED: &str = "storage_pools:\n- {name: default, driver: dir}\nprofiles:\n- name: default\n  \
                       devices:\n    root: {path: /, pool: default, type: disk}\n";
/// What is in the image besides.
const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: lab, description: lab image}\n";
/// Both processes of an instance; the second one is its init.
const INIT: &str = "#!/bin/sh\n/bin/sleep 23000 &\nexec /bin/sleep 23001\n";
/// The group that its socket is for, as Debian's unit has it.
pub const GROUP: &str = "lxd";
/// Ids of containers' users.
const SUBIDS: &str = "root:200000:1000000\n";

/// Runs the daemon with ids that nobody else sees.
const START: &str = r#"
mount --bind "$SUBIDS" /etc/subuid
mount --bind "$SUBIDS" /etc/subgid
exec lxd --group "$LXD_GROUP" --logfile "$LXD_DIR/../log"
"#;

/// The daemon. All of it goes when this is dropped, also after a panic.
#[derive(Debug)]
pub struct Lxd {
    dir: tempfile::TempDir,
    daemon: Child,
    old_cgroups: BTreeSet<PathBuf>,
}

impl Lxd {
    /// Starts one, with an image called `lab`.
    ///
    /// # Errors
    /// What did not work.
    pub fn start() -> Result<Lxd, String> {
        let error = |e: std::io::Error| e.to_string();
        let dir = tempfile::Builder::new().prefix("whose-lxd-").tempdir().map_err(error)?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).map_err(error)?;
        for name in ["var", "conf"] {
            std::fs::create_dir(dir.path().join(name)).map_err(error)?;
        }
        std::fs::write(dir.path().join("subids"), SUBIDS).map_err(error)?;
        let old_cgroups = tops().into_iter().collect();
        let daemon = spawn(dir.path())?;
        let lxd = Lxd { dir, daemon, old_cgroups };
        lxd.wait_ready()?;
        let preseed = format!("printf %s '{PRESEED}' | lxd init --preseed");
        let mut init = Command::new("sh");
        environment(init.args(["-ec", &preseed]), lxd.dir.path());
        said(&mut init, CALL)?;
        lxd.image()?;
        Ok(lxd)
    }

    fn wait_ready(&self) -> Result<(), String> {
        let mut ready = Command::new("lxd");
        environment(ready.args(["waitready", "--timeout", "40"]), self.dir.path());
        said(&mut ready, CALL).map(drop)
    }

    /// Kills the daemon. Its instances go on.
    pub fn kill(&mut self) {
        procfs::signal(self.daemon.id(), rustix::process::Signal::KILL);
        drop(self.daemon.wait());
    }

    /// Starts the daemon again after it was killed.
    ///
    /// # Errors
    /// What did not work.
    pub fn restart(&mut self) -> Result<(), String> {
        self.daemon = spawn(self.dir.path())?;
        self.wait_ready()
    }

    /// The daemon's PID.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Its socket, which is root's and of the group [`GROUP`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("unix.socket")
    }

    fn image(&self) -> Result<(), String> {
        let work = self.dir.path().join("image");
        let error = |e: std::io::Error| e.to_string();
        std::fs::create_dir(&work).map_err(error)?;
        let rootfs = busybox_rootfs(&work);
        for name in ["sbin", "proc", "sys", "dev", "run", "tmp", "etc", "root"] {
            std::fs::create_dir_all(rootfs.join(name)).map_err(error)?;
        }
        std::fs::write(rootfs.join("sbin/init"), INIT).map_err(error)?;
        let mode = Permissions::from_mode(0o755);
        std::fs::set_permissions(rootfs.join("sbin/init"), mode).map_err(error)?;
        std::fs::write(work.join("metadata.yaml"), METADATA).map_err(error)?;
        let archive = self.dir.path().join("image.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&work).arg("-czf").arg(&archive).arg("metadata.yaml");
        let name = rootfs.file_name().unwrap_or_default();
        said(tar.arg(name), CALL)?;
        let archive = archive.display().to_string();
        self.cli(&["image", "import", &archive, "--alias", "lab"]).map(drop)
    }

    /// LXD's directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("var")
    }

    /// Asks its client.
    ///
    /// # Errors
    /// What it said.
    pub fn cli(&self, args: &[&str]) -> Result<String, String> {
        said(&mut self.command(args), CALL)
    }

    /// Its client, not yet started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("lxc");
        environment(command.args(args), self.dir.path());
        command
    }

    /// All instances, as its client lists them.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn instances(&self) -> Vec<Value> {
        let said = self.cli(&["list", "--all-projects", "--format", "json"]);
        let text = said.unwrap_or_else(|e| panic!("{e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// The daemon's process.
fn spawn(dir: &Path) -> Result<Child, String> {
    let error = |e: std::io::Error| e.to_string();
    let output = || std::fs::File::create(dir.join("out")).map(Stdio::from);
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "slave", "sh", "-ec", START]);
    command.env("SUBIDS", dir.join("subids")).env("LXD_GROUP", GROUP);
    environment(&mut command, dir);
    command.stdin(Stdio::null()).stdout(output().map_err(error)?);
    command.stderr(output().map_err(error)?).spawn().map_err(error)
}

fn environment(command: &mut Command, dir: &Path) {
    command.env("LXD_DIR", dir.join("var")).env("LXD_CONF", dir.join("conf"));
    command.env("HOME", dir).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
}

impl Drop for Lxd {
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(Some(_))) {
            // It was killed, and its instances were not.
            drop(self.restart());
        }
        let listed = self.cli(&["list", "--all-projects", "--format", "json"]).unwrap_or_default();
        let all: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
        for instance in &all {
            let text = |key: &str| instance[key].as_str().unwrap_or_default().to_owned();
            let project = text("project");
            drop(self.cli(&["delete", "-f", "--project", &project, &text("name")]));
        }
        let mut shutdown = Command::new("lxd");
        environment(shutdown.args(["shutdown", "--timeout", "20"]), self.dir.path());
        drop(said(&mut shutdown, CALL));
        if !waited(Duration::from_secs(20), || matches!(self.daemon.try_wait(), Ok(Some(_)))) {
            procfs::signal(self.daemon.id(), rustix::process::Signal::KILL);
            drop(self.daemon.wait());
        }
        // What it mounted for itself in the host's own directories.
        let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = format!(" {}", self.dir.path().display());
        let points = text.lines().filter(|l| l.contains(&own));
        let mut points: Vec<&str> = points.filter_map(|l| l.split(' ').nth(1)).collect();
        points.reverse();
        for point in points {
            drop(said(Command::new("umount").args(["-l", point]), CALL));
        }
        remove_new(&self.old_cgroups, |name| {
            name == "lxc.pivot"
                || name.starts_with("lxc.payload.")
                || name.starts_with("lxc.monitor.")
        });
    }
}
