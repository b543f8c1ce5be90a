//! A podman of its own: private roots, of the host or of an ordinary user.
//!
//! ```no_run
//! use whose_testkit::podman::Podman;
//!
//! let podman = Podman::options().start().expect("podman");
//! podman.layered_image_with("localhost/lab:1", 3, |_, _| ());
//! let id = podman.run(&["--name", "web", "localhost/lab:1", "/bin/sleep", "1000"]);
//! assert_eq!(podman.inspect(&id)["Name"], "web");
//! // Dropping it removes the containers, the roots and the user.
//! ```
//!
//! There is no daemon: each command does its work itself, and leaves a conmon with a container.

use crate::call::{ended, said, waited};
use crate::cgroup::{dirs_named, remove_new, subtree_pids, tops};
use crate::docker::{View, layered_archive};
use crate::procfs;
use crate::users::LabUser;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);

/// Runs as root before a user's podman: the node of FUSE may be root's alone.
const AS_USER: &str = r#"
set -e
mount --bind "$FUSE" /dev/fuse
cd "$HOME"
exec setpriv --reuid "$USER" --regid "$USER" --init-groups --inh-caps=-all "$@"
"#;

/// How a podman is to be set up.
#[derive(Debug, Clone)]
#[must_use]
pub struct PodmanOptions {
    driver: String,
    mount_program: Option<PathBuf>,
    graph_root: Option<PathBuf>,
    further: Option<PathBuf>,
    rootless: bool,
}

impl PodmanOptions {
    /// The storage driver; `overlay` unless told.
    pub fn driver(mut self, driver: impl Into<String>) -> Self {
        self.driver = driver.into();
        self
    }

    /// Overlays are mounted by this program, e.g. fuse-overlayfs.
    pub fn mount_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.mount_program = Some(program.into());
        self
    }

    /// Where layers and containers are, a directory that stays.
    pub fn graph_root(mut self, dir: impl Into<PathBuf>) -> Self {
        self.graph_root = Some(dir.into());
        self
    }

    /// Images of this other store, a graph root, are had too.
    pub fn further_store(mut self, graph_root: impl Into<PathBuf>) -> Self {
        self.further = Some(graph_root.into());
        self
    }

    /// Of an ordinary user, made for it, with the roots in that home.
    pub fn rootless(mut self) -> Self {
        self.rootless = true;
        self
    }

    /// Sets it up, and sees that it answers.
    ///
    /// # Errors
    /// What it said.
    pub fn start(self) -> Result<Podman, String> {
        let dir = tempfile::Builder::new().prefix("whose-podman-").tempdir();
        let dir = dir.map_err(|e| format!("a directory for podman: {e}"))?;
        let open = std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755));
        open.map_err(|e| format!("{}: {e}", dir.path().display()))?;
        let user = if self.rootless { Some(LabUser::new()?) } else { None };
        let state = user.as_ref().map_or(dir.path().to_owned(), LabUser::runtime_dir);
        let at_home = |user: &LabUser| user.home().join(".local/share/containers/storage");
        let of_root = || user.as_ref().map_or_else(|| dir.path().join("root"), at_home);
        let graph_root = self.graph_root.clone().unwrap_or_else(of_root);
        let podman = Podman {
            run_root: state.join("containers"),
            old_cgroups: tops().into_iter().collect(),
            graph_root,
            user,
            dir: Some(dir),
        };
        podman.configure(&self, &state)?;
        podman.try_cli(&["info"])?;
        Ok(podman)
    }
}

/// An engine that keeps everything in its own roots. What is left of it goes when this is dropped,
/// also after a panic.
#[derive(Debug)]
pub struct Podman {
    graph_root: PathBuf,
    run_root: PathBuf,
    user: Option<LabUser>,
    /// The top cgroup directories that were there before.
    old_cgroups: BTreeSet<PathBuf>,
    dir: Option<tempfile::TempDir>,
}

impl Podman {
    /// To be set up with more options.
    pub fn options() -> PodmanOptions {
        PodmanOptions {
            driver: "overlay".into(),
            mount_program: None,
            graph_root: None,
            further: None,
            rootless: false,
        }
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it lives until dropped").path()
    }

    /// Its layers, containers and volumes.
    #[must_use]
    pub fn graph_root(&self) -> &Path {
        &self.graph_root
    }

    /// The file that says where its store is.
    #[must_use]
    pub fn storage_conf(&self) -> PathBuf {
        self.dir().join("storage.conf")
    }

    /// The user whose engine it is; `None` for root's.
    #[must_use]
    pub fn user(&self) -> Option<&LabUser> {
        self.user.as_ref()
    }

    /// Writes the two configuration files that all commands are pointed to.
    fn configure(&self, options: &PodmanOptions, state: &Path) -> Result<(), String> {
        // The ulimits: podman's own are above what a machine without CAP_SYS_RESOURCE may set.
        let mut containers = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \
             \"nproc=4096:4096\"]\n[engine]\nruntime = \"runc\"\n\
             cgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n"
            .to_owned();
        // A user's is in the runtime directory anyway.
        if self.user.is_none() {
            let line = format!("tmp_dir = \"{}\"\n", state.join("libpod").display());
            containers.push_str(&line);
        }
        let mut storage = format!(
            "[storage]\ndriver = \"{}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            options.driver,
            self.graph_root.display(),
            self.run_root.display()
        );
        if let Some(further) = &options.further {
            let line = format!("additionalimagestores = [\"{}\"]\n", further.display());
            storage.push_str("[storage.options]\n");
            storage.push_str(&line);
        }
        if let Some(program) = &options.mount_program {
            let line = format!("mount_program = \"{}\"\n", program.display());
            storage.push_str("[storage.options.overlay]\n");
            storage.push_str(&line);
        }
        for (name, text) in [("containers.conf", containers), ("storage.conf", storage)] {
            let file = self.dir().join(name);
            std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        if self.user.is_some() {
            let mut mknod = Command::new("mknod");
            mknod.args(["-m", "666"]).arg(self.fuse()).args(["c", "10", "229"]);
            said(&mut mknod, CALL)?;
        }
        Ok(())
    }

    /// A node of FUSE that everybody may open.
    fn fuse(&self) -> PathBuf {
        self.dir().join("fuse")
    }

    /// The command for `PROGRAM ARGS` with this engine's configuration, as its user.
    fn configured(&self, program: &str) -> Command {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("unshare");
                command.args(["-m", "--propagation", "slave", "sh", "-c", AS_USER, "sh", program]);
                command.env_clear().env("FUSE", self.fuse()).env("USER", user.name());
                command.env("XDG_RUNTIME_DIR", user.runtime_dir()).env("HOME", user.home());
                return self.with_files(command);
            }
        };
        command.env_clear().env("HOME", self.dir());
        self.with_files(command)
    }

    fn with_files(&self, mut command: Command) -> Command {
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CONTAINERS_CONF", self.dir().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.dir().join("storage.conf"));
        command
    }

    /// The command `podman ARGS`, not yet started.
    #[must_use]
    pub fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = self.configured("podman");
        command.args(args.iter().map(AsRef::as_ref));
        command
    }

    /// The command `buildah ARGS` on the same store, not yet started.
    #[must_use]
    pub fn buildah<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = self.configured("buildah");
        command.args(args.iter().map(AsRef::as_ref));
        command
    }

    /// Runs `podman ARGS`; stdout without its last newline.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn cli<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.try_cli(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs `buildah ARGS` on the same store; stdout without its last newline.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn buildah_cli<S: AsRef<str>>(&self, args: &[S]) -> String {
        said(&mut self.buildah(args), CALL).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`Podman::cli`].
    ///
    /// # Errors
    /// What it said on stderr, when it fails.
    pub fn try_cli<S: AsRef<str>>(&self, args: &[S]) -> Result<String, String> {
        said(&mut self.command(args), CALL)
    }

    /// As [`Podman::try_cli`], with one kind of cgroups alone: crun refuses a hybrid host. Of root's only.
    ///
    /// # Errors
    /// What it said on stderr, when it fails.
    pub fn try_in_view<S: AsRef<str>>(&self, view: View, args: &[S]) -> Result<String, String> {
        let hide = match view {
            View::Hybrid => "",
            View::V1 => {
                "! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified"
            }
            View::V2 => "mount -t cgroup2 none /sys/fs/cgroup",
        };
        let script = format!("set -e\n{hide}\nexec podman \"$@\"");
        let mut command = Command::new("unshare");
        command.env_clear().env("HOME", self.dir());
        command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.args(args.iter().map(AsRef::as_ref));
        said(&mut self.with_files(command), CALL)
    }

    /// Makes an image with that many layers, see [`layered_archive`]; `fill` puts more into the
    /// directory of each, 0 being the lowest.
    ///
    /// # Panics
    /// When it can't.
    pub fn layered_image_with(
        &self,
        name: &str,
        layers: usize,
        mut fill: impl FnMut(usize, &Path),
    ) {
        let work = self.dir().join("image");
        let archive = layered_archive(&work, name, layers, &mut fill);
        self.cli(&["load", "-q", "-i", archive.to_str().expect("text")]);
        drop(std::fs::remove_dir_all(&work));
    }

    /// `podman run -d ARGS`, with `--network none`; the full id.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.try_run(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`Podman::run`].
    ///
    /// # Errors
    /// What it said, when it fails.
    pub fn try_run<S: AsRef<str>>(&self, args: &[S]) -> Result<String, String> {
        let mut words = vec!["run", "-d", "--network", "none"];
        words.extend(args.iter().map(AsRef::as_ref));
        let out = self.try_cli(&words)?;
        Ok(out.lines().last().unwrap_or_default().to_owned())
    }

    /// `podman inspect` of one container.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.cli(&["inspect", "--type", "container", name]);
        let all: Value = serde_json::from_str(&text).expect("podman inspect prints JSON");
        all[0].clone()
    }

    /// The PID of its init, 0 when it does not run.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    #[track_caller]
    pub fn init_pid(&self, name: &str) -> u32 {
        let inspect = self.inspect(name);
        inspect["State"]["Pid"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("State.Pid")
    }

    /// The ids of all containers, from the store's own file.
    fn known_ids(&self) -> BTreeSet<String> {
        let stores = std::fs::read_dir(&self.graph_root).into_iter().flatten().flatten();
        let files = stores.map(|e| e.path().join("containers.json"));
        let texts = files.filter_map(|file| std::fs::read(file).ok());
        texts
            .filter_map(|text| serde_json::from_slice::<Value>(&text).ok())
            .flat_map(|all| all.as_array().cloned().unwrap_or_default())
            .filter_map(|one| one["id"].as_str().map(str::to_owned))
            .collect()
    }

    fn clean_up(&mut self) {
        let ids = self.known_ids();
        if !ids.is_empty()
            && let Err(why) = self.try_cli(&["rm", "-f", "-a", "-t", "0"])
        {
            eprintln!("cleaning up after podman: {why}");
        }
        for id in &ids {
            let dirs = dirs_named(&format!("libpod-{id}"));
            let members = || dirs.iter().flat_map(|dir| subtree_pids(dir)).collect();
            if !ended(members) {
                eprintln!("cleaning up after podman: container {id} does not die");
            }
        }
        // A user's goes with the user, and what was mounted in that user's namespaces with it.
        drop(self.user.take());
        self.end_helpers();
        self.unmount();
        remove_new(&self.old_cgroups, |name| {
            name == "libpod_parent" || name.starts_with("buildah-")
        });
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_owned();
            if let Err(why) = dir.close() {
                eprintln!("cleaning up after podman: {}: {why}", path.display());
            }
        }
    }

    /// Monitors, file servers and the commands that monitors end with, which mount the store again:
    /// known by this engine's roots in their arguments. The commands may end by themselves.
    fn end_helpers(&self) {
        let root = self.graph_root.to_string_lossy();
        let mine = |names: &[&str]| -> Vec<u32> {
            // Only their arguments are read: some other test's may be a trap.
            let fits = |pid: &u32| {
                procfs::comm(*pid).is_some_and(|comm| names.contains(&comm.as_str()))
                    && procfs::args(*pid)
                        .is_some_and(|args| args.iter().any(|a| a.contains(&*root)))
            };
            procfs::pids().into_iter().filter(fits).collect()
        };
        waited(Duration::from_secs(10), || mine(&["podman", "conmon"]).is_empty());
        if !ended(|| mine(&["podman", "conmon", "fuse-overlayfs"])) {
            eprintln!("cleaning up after podman: a helper does not die");
        }
    }

    fn unmount(&self) {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in text.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(&self.graph_root) {
                drop(Command::new("umount").arg("-l").arg(point).status());
            }
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clean_up()));
        if let Err(panic) = clean {
            eprintln!("cleaning up after podman: {}", crate::cases::message(panic.as_ref()));
        }
    }
}
