//! A real containerd of its own: private root, state, socket, network and mount namespace.
//!
//! Or in a machine with systemd, see [`ContainerdOptions::systemd`].
//!
//! The namespaces are held by a process of their own, so that a containerd that was killed can be
//! started again where its mounts are. runc's state is the one thing elsewhere: the shim keeps it in
//! `/run/containerd/runc/NAMESPACE/ID` whatever containerd's state directory is, so ids must be
//! unique on the machine.
//!
//! ```no_run
//! use whose_testkit::containerd::{Containerd, IMAGE};
//!
//! let containerd = Containerd::options().start().expect("a containerd");
//! containerd.image("default", "overlayfs");
//! containerd.run("default", &["--label", "tier=front"], &[IMAGE, "web-1", "sleep", "1000"]);
//! assert!(containerd.pids("default", "web-1").contains(&containerd.init_pid("default", "web-1")));
//! // Dropping it ends the containers, shims and containerd, and deletes its directory.
//! ```

mod machine;
mod start;

pub use start::ContainerdOptions;

use crate::call::{output, said};
use crate::docker::{archive, busybox_rootfs, layered_archive};
use crate::janitor::Janitor;
use crate::procfs;
use crate::program;
use crate::require::which;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// The image that [`Containerd::image`] makes: a static busybox and its links.
pub const IMAGE: &str = "docker.io/library/lab-busybox:1";
/// The image that [`Containerd::pause_image`] makes.
pub const PAUSE: &str = "registry.k8s.io/pause:lab";
/// How long one call of a client may take.
const CALL: Duration = Duration::from_secs(60);

/// A running containerd; everything of it goes when this is dropped, and also when the test is
/// killed.
#[derive(Debug)]
pub struct Containerd {
    dir: Option<tempfile::TempDir>,
    holder: Child,
    daemon: Option<Child>,
    janitor: Option<Janitor>,
}

/// A task as `ctr tasks list` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The PID of its init, on the host.
    pub pid: u32,
    /// containerd's word: `RUNNING`, `PAUSED`, `STOPPED`.
    pub status: String,
}

impl Containerd {
    /// To be started with options.
    pub fn options() -> ContainerdOptions {
        ContainerdOptions::default()
    }

    /// The directory of all that is its own.
    ///
    /// # Panics
    /// Never: it lives until this is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it lives until dropped").path()
    }

    /// `root` of its configuration.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// `state` of its configuration.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir().join("socket")
    }

    /// The bundle of a task.
    #[must_use]
    pub fn bundle(&self, namespace: &str, id: &str) -> PathBuf {
        self.state().join("io.containerd.runtime.v2.task").join(namespace).join(id)
    }

    /// The PID of the daemon, while it runs.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// A process that is in its mount and network namespace.
    #[must_use]
    pub fn holder_pid(&self) -> u32 {
        self.holder.id()
    }

    /// The words before a command that is to run in the machine of
    /// [`ContainerdOptions::systemd`], as someone logged in there would.
    ///
    /// # Panics
    /// When the machine does not run.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        let init = procfs::children(self.holder.id()).into_iter().next().expect("a machine's init");
        let words = ["nsenter", "-t", &init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--"];
        words.map(str::to_owned).to_vec()
    }

    /// What its processes and containers have in their environment.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("WHOSE_LAB={}", self.dir().display())
    }

    /// The command `ctr -n NAMESPACE WORDS`, not yet started.
    #[must_use]
    pub fn ctr<S: AsRef<str>>(&self, namespace: &str, words: &[S]) -> Command {
        let mut command = Command::new("ctr");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("-a");
        command.arg(self.socket()).args(["-n", namespace]);
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Runs `ctr -n NAMESPACE WORDS`; stdout without its last newline.
    ///
    /// # Panics
    /// When it fails, with what it said and the end of the daemon's log.
    #[track_caller]
    pub fn cli<S: AsRef<str>>(&self, namespace: &str, words: &[S]) -> String {
        self.try_cli(namespace, words).unwrap_or_else(|e| panic!("{e}\n{}", self.log_tail()))
    }

    /// As [`Containerd::cli`].
    ///
    /// # Errors
    /// What it said on stderr, when it fails.
    pub fn try_cli<S: AsRef<str>>(&self, namespace: &str, words: &[S]) -> Result<String, String> {
        said(&mut self.ctr(namespace, words), CALL)
    }

    /// Makes [`IMAGE`] in a namespace, unpacked for a snapshotter.
    ///
    /// # Panics
    /// When it can't.
    pub fn image(&self, namespace: &str, snapshotter: &str) {
        let work = self.dir().join("image");
        let root = busybox_rootfs(&work);
        let config = json!({
            "Env": ["PATH=/bin", self.mark()],
            "Cmd": ["sh"],
            "Labels": {"org.example.lab": "busybox"}
        });
        self.import(namespace, snapshotter, &archive(&work, IMAGE, &[root], &config));
        drop(std::fs::remove_dir_all(&work));
    }

    /// Makes [`PAUSE`], the image of pods' sandboxes, where CRI looks for it.
    ///
    /// # Panics
    /// When it can't.
    pub fn pause_image(&self) {
        let work = self.dir().join("image");
        let root = work.join("rootfs");
        std::fs::create_dir_all(&root).expect("a directory of the image");
        let catatonit = which("catatonit").expect("catatonit is installed");
        program::copy(catatonit, root.join("pause"));
        let config = json!({"Env": [self.mark()], "Entrypoint": ["/pause", "-P"]});
        self.import("k8s.io", "overlayfs", &archive(&work, PAUSE, &[root], &config));
        drop(std::fs::remove_dir_all(&work));
    }

    /// Makes an image of that many layers, see [`layered_archive`]; `fill` puts more into the
    /// directory of each, 0 being the lowest.
    ///
    /// # Panics
    /// When it can't.
    pub fn layered_image_with(
        &self,
        (namespace, snapshotter): (&str, &str),
        name: &str,
        layers: usize,
        mut fill: impl FnMut(usize, &Path),
    ) {
        let work = self.dir().join("image");
        let archive = layered_archive(&work, name, layers, &mut fill);
        self.import(namespace, snapshotter, &archive);
        drop(std::fs::remove_dir_all(&work));
    }

    fn import(&self, namespace: &str, snapshotter: &str, archive: &Path) {
        let archive = archive.to_str().expect("text");
        self.cli(namespace, &["images", "import", "--snapshotter", snapshotter, archive]);
    }

    /// `ctr run -d OPTIONS WORDS`; the words are image, or directory with `--rootfs`, id and command.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, namespace: &str, options: &[&str], words: &[&str]) {
        let mark = self.mark();
        // ctr would set shares where no controller is.
        let run = ["run", "-d", "--null-io", "--cpu-shares", "0", "--env", &mark];
        self.cli(namespace, &[&run[..], options, words].concat());
    }

    /// `ctr task exec -d`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn exec(&self, namespace: &str, id: &str, exec_id: &str, words: &[&str]) {
        let fifos = self.dir().join("fifo");
        let fifos = fifos.to_str().expect("text");
        let exec = ["task", "exec", "-d", "--fifo-dir", fifos, "--exec-id", exec_id, id];
        self.cli(namespace, &[&exec[..], words].concat());
    }

    /// `ctr containers info`.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    #[track_caller]
    pub fn info(&self, namespace: &str, id: &str) -> Value {
        let text = self.cli(namespace, &["containers", "info", id]);
        serde_json::from_str(&text).expect("ctr containers info prints JSON")
    }

    /// The tasks of a namespace by their ids.
    ///
    /// # Panics
    /// When ctr prints something else.
    #[must_use]
    #[track_caller]
    pub fn tasks(&self, namespace: &str) -> BTreeMap<String, Task> {
        let text = self.cli(namespace, &["tasks", "list"]);
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [id, pid, status] = words[..] else { panic!("ctr tasks list printed {line:?}") };
            let pid = pid.parse().unwrap_or_else(|_| panic!("ctr tasks list printed {line:?}"));
            (id.to_owned(), Task { pid, status: status.to_owned() })
        };
        text.lines().skip(1).map(of_line).collect()
    }

    /// The PID of a container's init.
    ///
    /// # Panics
    /// When it has no task.
    #[must_use]
    #[track_caller]
    pub fn init_pid(&self, namespace: &str, id: &str) -> u32 {
        let tasks = self.tasks(namespace);
        tasks.get(id).unwrap_or_else(|| panic!("no task {id} in {namespace}: {tasks:?}")).pid
    }

    /// The PIDs that `ctr tasks ps` lists.
    ///
    /// # Panics
    /// When the container has no task.
    #[must_use]
    #[track_caller]
    pub fn pids(&self, namespace: &str, id: &str) -> BTreeSet<u32> {
        let text = self.cli(namespace, &["tasks", "ps", id]);
        let of_line = |line: &str| {
            let pid = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            pid.unwrap_or_else(|| panic!("ctr tasks ps printed {line:?}"))
        };
        text.lines().skip(1).map(of_line).collect()
    }

    /// The digest of what an image's name points to, as `ctr images list` tells it.
    ///
    /// # Panics
    /// When there is no such image.
    #[must_use]
    #[track_caller]
    pub fn image_digest(&self, namespace: &str, image: &str) -> String {
        let text = self.cli(namespace, &["images", "list", &format!("name=={image}")]);
        let line = text.lines().nth(1).unwrap_or_else(|| panic!("no image {image}: {text}"));
        let digest = line.split_ascii_whitespace().find(|word| word.starts_with("sha256:"));
        digest.unwrap_or_else(|| panic!("ctr images list printed {line:?}")).to_owned()
    }

    /// Kills the task and removes the container.
    ///
    /// # Panics
    /// When it can't.
    #[track_caller]
    pub fn remove(&self, namespace: &str, id: &str) {
        self.cli(namespace, &["tasks", "delete", "-f", id]);
        self.cli(namespace, &["containers", "delete", id]);
    }

    /// A link that somebody else makes on a real host, e.g. one of the kubelet's in
    /// `/var/log/containers`; it goes with this engine.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn link(&self, link: &Path, target: &Path) {
        use std::io::Write;
        let list = std::fs::OpenOptions::new().append(true).open(self.dir().join("links"));
        writeln!(list.expect("the list of links"), "{}", link.display()).expect("a line");
        std::fs::create_dir_all(link.parent().expect("a directory")).expect("mkdir");
        std::os::unix::fs::symlink(target, link).expect("a link");
    }

    /// Kills the daemon with SIGKILL. Containers and shims live on.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            procfs::signal(daemon.id(), rustix::process::Signal::KILL);
            drop(daemon.wait());
        }
    }

    /// Stops the daemon with SIGTERM. Containers and shims live on.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        procfs::signal(daemon.id(), rustix::process::Signal::TERM);
        procfs::wait_for("containerd's end", Duration::from_secs(20), || {
            daemon.try_wait().ok().flatten()
        });
    }

    /// The end of the daemon's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.dir().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(25);
        format!("--- the end of containerd's log\n{}", lines[from..].join("\n"))
    }

    fn answers(&self) -> bool {
        let mut version = self.ctr("default", &["version"]);
        output(&mut version, Duration::from_secs(10)).is_ok_and(|o| o.status.success())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Ours have to be waited for, or they would be left as zombies.
        self.kill9();
        drop(self.holder.kill());
        drop(self.holder.wait());
        drop(self.janitor.take());
        // Nothing of it is left, but the directory's owner can't know that.
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_owned();
            if path.exists()
                && let Err(why) = dir.close()
            {
                eprintln!("cleaning up after containerd: {}: {why}", path.display());
            }
        }
    }
}
