//! A real dockerd of its own: private roots, socket, network and mount namespace.
//!
//! ```no_run
//! use whose_testkit::docker::{Docker, IMAGE};
//!
//! let docker = Docker::hybrid().expect("a dockerd");
//! docker.image();
//! let id = docker.run(&["--name", "web", IMAGE, "sleep", "1000"]);
//! assert!(docker.top_pids(&id).contains(&docker.init_pid(&id)));
//! // Dropping it removes the containers, stops the daemon and deletes its roots.
//! ```

mod build;
mod cleanup;
mod image;
mod start;

pub use build::Builder;
pub use image::{archive, busybox_rootfs, layered_archive};
pub use start::DockerOptions;

use crate::call::output;
use crate::{cases, procfs};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The image that [`Docker::image`] makes: a static busybox and its links.
pub const IMAGE: &str = "lab-busybox:1";
/// How long one call of the client may take.
const CALL: Duration = Duration::from_secs(60);

/// What `/sys/fs/cgroup` holds where the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The machine's own v1 hierarchies.
    Hybrid,
    /// Only cgroup2, mounted in the daemon's mount namespace if the machine's own differs.
    V2,
    /// The machine's own v1 hierarchies without cgroup2, which is hidden in the daemon's mount
    /// namespace: crun refuses a hybrid host. Processes show `0::/` and the id in v1 lines only.
    V1,
}

impl View {
    /// The word for test reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            View::Hybrid => "hybrid",
            View::V2 => "v2",
            View::V1 => "v1",
        }
    }
}

/// A running engine; everything of it goes when this is dropped, also after a panic.
#[derive(Debug)]
pub struct Docker {
    view: View,
    dir: Option<tempfile::TempDir>,
    data_root: PathBuf,
    client: PathBuf,
    daemon: Child,
    containerd: u32,
    /// `--cgroup-parent` of the daemon.
    cgroup_parent: Option<String>,
    /// The top cgroup directories that were there before.
    old_cgroups: BTreeSet<PathBuf>,
    asked: Mutex<Asked>,
}

/// What was asked for: the daemon forgets what it removes.
#[derive(Debug, Default)]
struct Asked {
    /// Containers that were made.
    ids: BTreeSet<String>,
    /// Their `--cgroup-parent`s.
    parents: BTreeSet<String>,
}

impl Docker {
    /// Starts one on the machine's own v1 or hybrid cgroups.
    ///
    /// # Errors
    /// With the daemon's log, when it does not start.
    pub fn hybrid() -> Result<Docker, String> {
        DockerOptions::new(View::Hybrid).start()
    }

    /// Starts one that sees pure cgroup v2.
    ///
    /// # Errors
    /// With the daemon's log, when it does not start.
    pub fn v2() -> Result<Docker, String> {
        DockerOptions::new(View::V2).start()
    }

    /// To be started with more options.
    pub fn options(view: View) -> DockerOptions {
        DockerOptions::new(view)
    }

    /// Its view of cgroups.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it lives until dropped").path()
    }

    /// Its data root.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.data_root.clone()
    }

    /// Its exec root.
    #[must_use]
    pub fn exec_root(&self) -> PathBuf {
        self.dir().join("exec")
    }

    /// Its API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir().join("docker.sock")
    }

    /// The daemon's PID.
    #[must_use]
    pub fn dockerd_pid(&self) -> u32 {
        self.daemon.id()
    }

    /// The PID of the containerd it started.
    #[must_use]
    pub fn containerd_pid(&self) -> u32 {
        self.containerd
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Calls the client; stdout without its last newline.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn cli<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        self.try_cli(args).unwrap_or_else(|e| panic!("{e}\n{}", self.log_tail()))
    }

    /// Calls the client; stdout without its last newline.
    ///
    /// # Errors
    /// What it said on stderr, when it fails.
    pub fn try_cli<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, String> {
        let mut command = self.command(args);
        let out = output(&mut command, CALL)?;
        let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        if out.status.success() {
            return Ok(text);
        }
        let words: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        Err(format!(
            "docker {} failed, {}: {}",
            words.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim_end()
        ))
    }

    /// A call of the client, not yet started.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = client(&self.client, &self.socket());
        command.env("DOCKER_CONFIG", self.dir().join("client")).args(args);
        let words: Vec<_> = args.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        for (at, word) in words.iter().enumerate() {
            let parent = match word.strip_prefix("--cgroup-parent") {
                Some("") => words.get(at + 1).map(AsRef::as_ref),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            self.asked().parents.extend(parent.map(str::to_owned));
        }
        command
    }

    /// An option of `run`: a cgroup to be put below that no other engine uses. What another one has in it at
    /// the same time would keep it from being removed.
    #[must_use]
    pub fn own_cgroup_parent(&self) -> String {
        let root = self.data_root().display().to_string();
        format!("--cgroup-parent=/lab{}", root.replace('/', "-"))
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes [`IMAGE`].
    ///
    /// # Panics
    /// When it can't.
    pub fn image(&self) {
        let work = self.dir().join("image");
        let rootfs = image::busybox_rootfs(&work);
        let tar = work.join("busybox.tar");
        image::tar(&rootfs, &tar);
        let change = ["import", "--change", "ENV PATH=/bin:/sbin:/usr/bin"];
        self.cli(&[&change[..], &[tar.to_str().expect("text"), IMAGE]].concat());
        drop(std::fs::remove_dir_all(&work));
    }

    /// Makes an image of that many layers, the lowest being busybox.
    ///
    /// # Panics
    /// When it can't.
    pub fn layered_image(&self, name: &str, layers: usize) {
        self.layered_image_with(name, layers, |_, _| ());
    }

    /// The same, with more in each layer: `fill` is given its number, 0 the lowest, and directory.
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
        let archive = image::layered_archive(&work, name, layers, &mut fill);
        self.cli(&["load", "-q", "-i", archive.to_str().expect("text")]);
        drop(std::fs::remove_dir_all(&work));
    }

    /// `docker run -d ARGS`, with `--network none` unless a network is named; the full id.
    ///
    /// # Panics
    /// When it fails, with what the client said.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.try_run(args).unwrap_or_else(|e| panic!("{e}\n{}", self.log_tail()))
    }

    /// As [`Docker::run`].
    ///
    /// # Errors
    /// What the client said, when it fails.
    pub fn try_run<S: AsRef<str>>(&self, args: &[S]) -> Result<String, String> {
        self.begin(&["run", "-d"], args)
    }

    /// `docker create ARGS`; the full id.
    ///
    /// # Panics
    /// When it fails, with what the client said.
    #[track_caller]
    pub fn create<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.begin(&["create"], args).unwrap_or_else(|e| panic!("{e}\n{}", self.log_tail()))
    }

    fn begin<S: AsRef<str>>(&self, verb: &[&str], args: &[S]) -> Result<String, String> {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        let mut words = verb.to_vec();
        if !args.iter().any(|a| a.starts_with("--net")) {
            words.extend(["--network", "none"]);
        }
        words.extend(args);
        // Warnings go to stderr; the id is the last line.
        let out = self.try_cli(&words)?;
        let id = out.lines().last().unwrap_or_default().to_owned();
        self.asked().ids.extend(Some(&id).filter(|id| !id.is_empty()).cloned());
        Ok(id)
    }

    /// `docker inspect` of one container.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.cli(&["inspect", "--type", "container", name]);
        let all: Value = serde_json::from_str(&text).expect("docker inspect prints JSON");
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

    /// The PIDs that `docker top` lists.
    ///
    /// # Panics
    /// When the container does not run.
    #[must_use]
    #[track_caller]
    pub fn top_pids(&self, name: &str) -> BTreeSet<u32> {
        let text = self.cli(&["top", name, "-eo", "pid,comm"]);
        text.lines()
            .skip(1)
            .map(|l| {
                let pid = l.split_ascii_whitespace().next().and_then(|w| w.parse().ok());
                pid.unwrap_or_else(|| panic!("docker top printed {l:?}"))
            })
            .collect()
    }

    /// The ids of all containers, running or not.
    ///
    /// # Panics
    /// When the client fails.
    #[must_use]
    #[track_caller]
    pub fn all(&self) -> Vec<String> {
        self.cli(&["ps", "-aq", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// The ids of the running containers, paused ones included.
    ///
    /// # Panics
    /// When the client fails.
    #[must_use]
    #[track_caller]
    pub fn running(&self) -> Vec<String> {
        self.cli(&["ps", "-q", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// Kills the daemon and its containerd with SIGKILL, and waits until they are gone. Containers
    /// and shims live on.
    ///
    /// # Panics
    /// When they don't go.
    pub fn kill9(&mut self) {
        procfs::signal(self.daemon.id(), rustix::process::Signal::KILL);
        procfs::signal(self.containerd, rustix::process::Signal::KILL);
        drop(self.daemon.wait());
        let containerd = self.containerd;
        procfs::wait_for("containerd is gone", Duration::from_secs(10), || {
            (!procfs::alive(containerd)).then_some(())
        });
    }

    /// The end of the daemon's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clean_up()));
        if let Err(panic) = clean {
            eprintln!("cleaning up after docker: {}", cases::message(panic.as_ref()));
        }
    }
}

/// A client's command for a daemon's socket, in a clean environment.
fn client(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .arg("-H")
        .arg(format!("unix://{}", socket.display()));
    command
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(25);
    format!("--- the end of the daemon's log\n{}", lines[from..].join("\n"))
}
