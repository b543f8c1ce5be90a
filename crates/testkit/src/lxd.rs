//! An LXD or Incus of the test's own: a daemon with its directory, a storage pool and an image of one static
//! binary.

use crate::call::{said, waited};
use crate::cgroup::{remove_new, tops};
use crate::debian13;
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
pub(crate) const PRESEED: &str = "storage_pools:\n- {name: default, driver: dir}\nprofiles:\n- name: default\n  \
                       devices:\n    root: {path: /, pool: default, type: disk}\n";
/// What is in the image besides.
const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: lab, description: lab image}\n";
/// Both processes of an instance; the second one is its init.
const INIT: &str = "#!/bin/sh\n/bin/sleep 23000 &\nexec /bin/sleep 23001\n";
/// The id of a group that the host has not.
const GID: u32 = 64_999;
/// Ids of containers' users.
const SUBIDS: &str = "root:200000:1000000\n";

/// Runs the daemon with ids and groups that nobody else sees, and the programs of another release where it is of
/// that.
const START: &str = r#"
mount --bind "$1/subids" /etc/subuid
mount --bind "$1/subids" /etc/subgid
mount --bind "$1/group" /etc/group
[ -z "$2" ] || mount --bind "$2" /usr
shift 2
exec "$@"
"#;

/// Runs a command with the programs of another release.
const WITH_USR: &str = "mount --bind \"$1\" /usr\nshift\nexec \"$@\"";

/// Which of the two.
#[derive(Debug, Clone)]
pub struct Kind {
    /// What `whose` calls it.
    pub engine: &'static str,
    /// Its usual directory.
    pub place: &'static str,
    /// The group that its socket is for, as Debian's unit has it.
    pub group: &'static str,
    daemon: &'static str,
    client: &'static str,
    /// The words of its administrator's commands, before each.
    admin: &'static [&'static str],
    /// The variables that name its directory and its client's.
    variables: [&'static str; 2],
    /// What is to be `/usr`, if not the host's own.
    usr: Option<PathBuf>,
}

impl Kind {
    /// The host's own LXD.
    #[must_use]
    pub fn lxd() -> Kind {
        Kind {
            engine: "lxd",
            place: "/var/lib/lxd",
            group: "lxd",
            daemon: "lxd",
            client: "lxc",
            admin: &["lxd"],
            variables: ["LXD_DIR", "LXD_CONF"],
            usr: None,
        }
    }

    /// Incus, with the programs of [`debian13`].
    ///
    /// # Errors
    /// What did not work.
    pub fn incus() -> Result<Kind, String> {
        Ok(Kind {
            engine: "incus",
            place: "/var/lib/incus",
            group: "incus-admin",
            daemon: "/usr/libexec/incus/incusd",
            client: "incus",
            admin: &["incus", "admin"],
            variables: ["INCUS_DIR", "INCUS_CONF"],
            usr: Some(debian13::usr()?),
        })
    }

    /// A command of its programs, not yet started.
    fn command(&self, words: &[&str], dir: &Path) -> Command {
        let mut words = words.to_vec();
        let usr = self.usr.as_ref().map(|usr| usr.display().to_string());
        if let Some(usr) = &usr {
            let before = ["unshare", "-m", "--propagation", "slave", "sh", "-ec", WITH_USR, "sh"];
            words = [&before[..], &[usr], &words].concat();
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        self.environment(&mut command, dir);
        command
    }

    fn environment(&self, command: &mut Command, dir: &Path) {
        let [var, conf] = self.variables;
        command.env(var, dir.join("var")).env(conf, dir.join("conf"));
        command.env("HOME", dir).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    }

    /// The daemon's process.
    fn spawn(&self, dir: &Path) -> Result<Child, String> {
        let error = |e: std::io::Error| e.to_string();
        let output = || std::fs::File::create(dir.join("out")).map(Stdio::from);
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "slave", "sh", "-ec", START, "sh"]).arg(dir);
        command.arg(self.usr.as_deref().unwrap_or(Path::new("")));
        command.args([self.daemon, "--group", self.group, "--logfile"]).arg(dir.join("log"));
        self.environment(&mut command, dir);
        command.stdin(Stdio::null()).stdout(output().map_err(error)?);
        command.stderr(output().map_err(error)?).spawn().map_err(error)
    }
}

/// The daemon. All of it goes when this is dropped, also after a panic.
#[derive(Debug)]
pub struct Lxd {
    kind: Kind,
    dir: tempfile::TempDir,
    daemon: Child,
    old_cgroups: BTreeSet<PathBuf>,
}

impl Lxd {
    /// Starts one, with an image called `lab`.
    ///
    /// # Errors
    /// What did not work.
    ///
    /// # Panics
    /// When the host's groups can't be read.
    pub fn start(kind: Kind) -> Result<Lxd, String> {
        let error = |e: std::io::Error| e.to_string();
        let dir = tempfile::Builder::new().prefix("whose-lxd-").tempdir().map_err(error)?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).map_err(error)?;
        for name in ["var", "conf"] {
            std::fs::create_dir(dir.path().join(name)).map_err(error)?;
        }
        std::fs::write(dir.path().join("subids"), SUBIDS).map_err(error)?;
        let mut groups = std::fs::read_to_string("/etc/group").map_err(error)?;
        if gid_of(&groups, kind.group).is_none() {
            groups += &format!("{}:x:{GID}:\n", kind.group);
        }
        std::fs::write(dir.path().join("group"), groups).map_err(error)?;
        let old_cgroups = tops().into_iter().collect();
        let daemon = kind.spawn(dir.path())?;
        let lxd = Lxd { kind, dir, daemon, old_cgroups };
        lxd.wait_ready()?;
        let admin = lxd.kind.admin.join(" ");
        let preseed = format!("printf %s '{PRESEED}' | {admin} init --preseed");
        said(&mut lxd.kind.command(&["sh", "-ec", &preseed], lxd.dir.path()), CALL)?;
        lxd.image()?;
        Ok(lxd)
    }

    fn wait_ready(&self) -> Result<(), String> {
        let words = [self.kind.daemon, "waitready", "--timeout", "40"];
        said(&mut self.kind.command(&words, self.dir.path()), CALL).map(drop)
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
        self.daemon = self.kind.spawn(self.dir.path())?;
        self.wait_ready()
    }

    /// The daemon's PID.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Which of the two it is.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The id of the group that its socket is for.
    ///
    /// # Panics
    /// When the file of groups is gone.
    #[must_use]
    pub fn gid(&self) -> String {
        let groups = std::fs::read_to_string(self.dir.path().join("group")).expect("groups");
        gid_of(&groups, self.kind.group).expect("its group").to_owned()
    }

    /// Its socket, which is root's and of that group.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("unix.socket")
    }

    fn image(&self) -> Result<(), String> {
        let archive = archive(self.dir.path())?.display().to_string();
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
        self.kind.command(&[&[self.kind.client], args].concat(), self.dir.path())
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

/// Makes the archive of an image, of which both LXD and Incus make instances.
pub(crate) fn archive(dir: &Path) -> Result<PathBuf, String> {
    let work = dir.join("image");
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
    let archive = dir.join("image.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&work).arg("-czf").arg(&archive).arg("metadata.yaml");
    let name = rootfs.file_name().unwrap_or_default();
    said(tar.arg(name), CALL)?;
    Ok(archive)
}

/// The id of a group in the text of a file of groups.
fn gid_of<'t>(groups: &'t str, name: &str) -> Option<&'t str> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(name)).then_some(())?;
        parts.nth(1)
    })
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
        let words = [self.kind.admin, &["shutdown", "--timeout", "20"]].concat();
        drop(said(&mut self.kind.command(&words, self.dir.path()), CALL));
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
