//! A podman in a machine of systemd-nspawn, where systemd makes the cgroups: root's, and that of a user
//! with a manager of his own and what that delegates.

use crate::call::{ended, said, waited};
use crate::cgroup;
use crate::debian13;
use crate::janitor::Janitor;
use crate::machine_root as machine;
use crate::procfs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the machine may take to boot.
const START: Duration = Duration::from_secs(60);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);
/// What clears up when the test is killed.
const SWEEP: &str = include_str!("containerd/sweep.sh");

/// A user in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// The uid, which nobody on the host has.
    pub uid: u32,
    /// How that user's podman keeps layers: the table of its `storage.conf`.
    storage: &'static str,
    /// The first of the subordinate ids.
    first: u32,
}

/// The users in the machine: one has the kernel's overlay, one has plain copies, one has what puts layers
/// together in a program.
pub const USERS: [User; 3] = [
    User { name: "alice", uid: 47_000, storage: OVERLAY, first: 300_000 },
    User { name: "bob", uid: 47_001, storage: COPIES, first: 400_000 },
    User { name: "carol", uid: 47_002, storage: PROGRAM, first: 500_000 },
];

const OVERLAY: &str = "[storage]\ndriver = \"overlay\"\n";
const COPIES: &str = "[storage]\ndriver = \"vfs\"\n";
const PROGRAM: &str = "[storage]\ndriver = \"overlay\"\n[storage.options.overlay]\n\
                       mount_program = \"/usr/bin/fuse-overlayfs\"\n";

/// Whose programs run in the machine.
#[derive(Debug, Clone)]
pub struct Programs {
    usr: PathBuf,
    runtime: &'static str,
    /// The units besides the users' managers that it is to start.
    units: &'static str,
}

impl Programs {
    /// The host's own, with runc.
    #[must_use]
    pub fn hosts() -> Programs {
        Programs { usr: machine::USR.into(), runtime: "runc", units: "" }
    }

    /// Those of [`debian13`], with crun, which needs the system's bus.
    ///
    /// # Errors
    /// What did not work.
    pub fn debian13() -> Result<Programs, String> {
        Ok(Programs { usr: debian13::usr()?, runtime: "crun", units: "dbus.service" })
    }
}

/// The manager of the user NAME. Neither logind nor a login is needed for it.
const MANAGER: &str = "\
[Unit]
DefaultDependencies=no
[Service]
User=NAME
Type=notify
Environment=XDG_RUNTIME_DIR=/run/user/UID HOME=/home/NAME
Environment=DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/UID/bus
ExecStartPre=+/usr/bin/install -d -m 700 -o NAME -g NAME /run/user/UID
ExecStart=/usr/lib/systemd/systemd --user
Slice=user-UID.slice
Delegate=yes
KillMode=mixed
";

/// The ulimits: podman's own are above what a machine without CAP_SYS_RESOURCE may set; the limit of PIDs:
/// there is no controller while the host has it in a hierarchy of v1.
const CONFIGURATION: &str = "\
[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]
pids_limit = 0
[engine]
runtime = \"RUNTIME\"
cgroup_manager = \"systemd\"
events_logger = \"none\"
lock_type = \"file\"
";

/// A machine that runs; everything of it goes when this is dropped, and also when the test is killed.
#[derive(Debug)]
pub struct PodmanMachine {
    dir: Option<tempfile::TempDir>,
    nspawn: Child,
    janitor: Option<Janitor>,
}

impl PodmanMachine {
    /// Boots it, and waits until the users' managers answer.
    ///
    /// # Errors
    /// What did not work, with what the machine printed.
    pub fn start(programs: &Programs) -> Result<PodmanMachine, String> {
        let dir = tempfile::Builder::new().prefix("whose-machine-").tempdir();
        let dir = dir.map_err(|e| format!("a directory for a machine: {e}"))?;
        let janitor =
            prepare(dir.path(), programs).map_err(|e| format!("preparing a machine: {e}"))?;
        let log = std::fs::File::create(dir.path().join("boot")).map_err(|e| e.to_string())?;
        let errors = log.try_clone().map_err(|e| e.to_string())?;
        let mut command = Command::new("systemd-nspawn");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("WHOSE_LAB", dir.path()).current_dir("/").process_group(0);
        machine::boot(&mut command, dir.path(), &dir.path().join("machine"), &programs.usr);
        machine::unit(&mut command);
        let nspawn = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let nspawn = nspawn.map_err(|e| format!("starting systemd-nspawn: {e}"))?;
        // From here on dropping it cleans up.
        let (dir, janitor) = (Some(dir), Some(janitor));
        let mut machine = PodmanMachine { dir, nspawn, janitor };
        // What is mounted inside is only seen there.
        let asks = |machine: &PodmanMachine| {
            let Some(init) = machine.try_init() else { return false };
            let bus = |user: &User| format!("/proc/{init}/root/run/user/{}/bus", user.uid);
            let systems = format!("/proc/{init}/root/run/dbus/system_bus_socket");
            let is_there = |path: String| Path::new(&path).exists();
            (programs.units.is_empty() || is_there(systems)) && USERS.iter().map(bus).all(is_there)
        };
        let mut over = None;
        let answered = waited(START, || {
            over = machine.nspawn.try_wait().ok().flatten();
            over.is_some() || asks(&machine)
        });
        if answered && over.is_none() {
            // The host's own may be for root alone.
            machine.run(&machine.inside(), &["mknod", "-m", "666", "/dev/fuse", "c", "10", "229"]);
            return Ok(machine);
        }
        let said = std::fs::read_to_string(machine.dir().join("boot")).unwrap_or_default();
        Err(format!("the machine does not boot: {over:?}\n{said}"))
    }

    /// The directory of all that is its own; the machine is called like it.
    ///
    /// # Panics
    /// Never: it lives until this is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it lives until dropped").path()
    }

    /// The machine's root, as the host has it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir().join("machine")
    }

    fn try_init(&self) -> Option<u32> {
        procfs::children(self.nspawn.id()).into_iter().next()
    }

    /// The words before a command that is to run in the machine, as root logged in there.
    ///
    /// # Panics
    /// When the machine does not run.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        let init = self.try_init().expect("a machine's init").to_string();
        let words = ["nsenter", "-t", &init, "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i"];
        let path = ["-C", "/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];
        words.into_iter().chain(path).map(str::to_owned).collect()
    }

    /// As [`PodmanMachine::inside`], as a user.
    ///
    /// # Panics
    /// When the machine does not run.
    #[must_use]
    pub fn as_user(&self, user: User) -> Vec<String> {
        let id = user.uid.to_string();
        let mut words = self.inside();
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{id}");
        let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{id}/bus");
        let dir = format!("/home/{}", user.name);
        let home = format!("HOME={dir}");
        let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "env"];
        let place = ["-C", &dir, &home, &runtime, &bus];
        words.extend(user.into_iter().chain(place).map(str::to_owned));
        words
    }

    /// The words before a command that is to run below a user's manager, which may move it where it
    /// makes cgroups.
    ///
    /// # Panics
    /// When the machine does not run.
    #[must_use]
    pub fn below_manager(&self, user: User) -> Vec<String> {
        let run = ["systemd-run", "--user", "--pipe", "--wait", "--collect", "--quiet"];
        let mut words = self.as_user(user);
        words.extend(run.map(str::to_owned));
        // What podman starts is to outlive it, and in scopes of its own as after a login.
        let keep = ["--property=KillMode=process", "env", "-u", "INVOCATION_ID"];
        words.extend(keep.map(str::to_owned));
        words
    }

    /// Runs `WORDS`, which [`PodmanMachine::inside`] and its like begin; stdout without its last newline.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, before: &[String], words: &[S]) -> String {
        let mut all = before.iter().map(String::as_str).chain(words.iter().map(AsRef::as_ref));
        let mut command = Command::new(all.next().expect("a program"));
        command.args(all).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        said(&mut command, CALL).unwrap_or_else(|e| panic!("{e}"))
    }

    /// `podman inspect` of one container; the PIDs are the machine's.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn inspect(&self, before: &[String], name: &str) -> Value {
        let text = self.run(before, &["podman", "inspect", "--type", "container", name]);
        let all: Value = serde_json::from_str(&text).expect("podman inspect prints JSON");
        all[0].clone()
    }

    /// The PID here of a process that has that one in the machine.
    #[must_use]
    pub fn outside(&self, pid: u32) -> Option<u32> {
        let init = self.try_init()?;
        let depth = procfs::nspid(init)?.len();
        let below = |mut at: u32| loop {
            match procfs::ppid(at) {
                Some(above) if above == init => return true,
                Some(above) if above > 1 => at = above,
                _ => return false,
            }
        };
        let is_it = |outer: &u32| {
            procfs::nspid(*outer).is_some_and(|pids| pids.get(depth - 1) == Some(&pid))
                && (*outer == init || below(*outer))
        };
        procfs::pids().into_iter().find(is_it)
    }

    /// Writes a file in the machine's root.
    ///
    /// # Panics
    /// When it can't.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
}

/// The machine's root, and what the janitor has to know.
fn prepare(dir: &Path, programs: &Programs) -> std::io::Result<Janitor> {
    let root = dir.join("machine");
    let open = || Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, open())?;
    let managers = USERS.map(|user| format!("user@{}.service", user.uid));
    machine::root(&root, &format!("{} {}", managers.join(" "), programs.units))?;
    for dir in [&root.join("var/tmp"), &root.join("etc/containers")] {
        std::fs::create_dir_all(dir)?;
    }
    for dir in ["tmp", "var/tmp"] {
        std::fs::set_permissions(root.join(dir), Permissions::from_mode(0o1777))?;
    }
    let etc = root.join("etc");
    let append = |name: &str, line: String| -> std::io::Result<()> {
        let text = std::fs::read_to_string(etc.join(name)).unwrap_or_default();
        std::fs::write(etc.join(name), text + &line)
    };
    for User { name, uid, storage, first } in USERS {
        let home = root.join("home").join(name);
        let conf = home.join(".config/containers");
        std::fs::create_dir_all(&conf)?;
        std::fs::write(conf.join("storage.conf"), storage)?;
        for dir in [&home, &home.join(".config"), &conf, &conf.join("storage.conf")] {
            chown(dir, Some(uid), Some(uid))?;
        }
        append("passwd", format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n"))?;
        append("group", format!("{name}:x:{uid}:\n"))?;
        append("subuid", format!("{name}:{first}:65536\n"))?;
        append("subgid", format!("{name}:{first}:65536\n"))?;
        let manager = MANAGER.replace("NAME", name).replace("UID", &uid.to_string());
        std::fs::write(etc.join(format!("systemd/system/user@{uid}.service")), manager)?;
    }
    let configuration = CONFIGURATION.replace("RUNTIME", programs.runtime);
    std::fs::write(etc.join("containers/containers.conf"), configuration)?;
    let policy = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n";
    std::fs::write(etc.join("containers/policy.json"), policy)?;
    std::fs::write(dir.join("mark"), format!("WHOSE_LAB={}\n", dir.display()))?;
    std::fs::write(dir.join("place"), format!("{}/\n", dir.display()))?;
    std::fs::write(dir.join("links"), "")?;
    std::fs::write(dir.join("sweep.sh"), SWEEP)?;
    let mut groups = String::new();
    for name in ["payload", "supervisor"] {
        for mount in cgroup::mounts() {
            let group = mount.join(name);
            if !group.exists() {
                writeln!(groups, "{}", group.display()).map_err(std::io::Error::other)?;
            }
        }
    }
    std::fs::write(dir.join("cgroups"), groups)?;
    let mut janitor = Janitor::start();
    janitor.run(&dir.join("sweep.sh"));
    Ok(janitor)
}

impl Drop for PodmanMachine {
    fn drop(&mut self) {
        // With its init all in it dies.
        if !ended(|| self.try_init().into_iter().collect()) {
            eprintln!("cleaning up after a machine: its init does not die");
        }
        drop(self.nspawn.kill());
        drop(self.nspawn.wait());
        // With what is in it the next machine could not be started; an empty one may have been there before.
        let is_its = |name: &str| name == "payload" || name == "supervisor";
        cgroup::remove_new(&BTreeSet::new(), is_its);
        drop(self.janitor.take());
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_owned();
            if path.exists()
                && let Err(why) = dir.close()
            {
                eprintln!("cleaning up after a machine: {}: {why}", path.display());
            }
        }
    }
}
