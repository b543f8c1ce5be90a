//! A containerd without CRI in private directories, for what it writes to its databases: no container
//! of it runs.

use crate::call::{said, waited};
use crate::docker::layered_archive;
use crate::procfs;
use crate::require::which;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The writer's program.
const WRITER: &str = include_str!("containerd_db.py");
/// How long one call of the client may take.
const CALL: Duration = Duration::from_secs(60);

/// A running containerd; dropping it ends it and removes its files.
#[derive(Debug)]
pub struct ContainerdDb {
    dir: tempfile::TempDir,
    daemon: Child,
}

/// A process that writes containers all the time.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl ContainerdDb {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// With its log, when it does not within 30 s.
    pub fn start() -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("whose-containerd-db-").tempdir();
        let dir = dir.map_err(|e| format!("a directory for containerd: {e}"))?;
        let at = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{at}/sock\"\n"
        );
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config).map_err(|e| format!("{}: {e}", path.display()))?;
        let log = std::fs::File::create(dir.path().join("log")).map_err(|e| format!("log: {e}"))?;
        let daemon = Command::new(which("containerd").ok_or("containerd is not installed")?)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| format!("log: {e}"))?)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("starting containerd: {e}"))?;
        let mut started = Self { dir, daemon };
        let answers = || started.ctr("default", &["containers", "ls", "-q"]).is_ok();
        if !waited(Duration::from_secs(30), answers) {
            let log = std::fs::read_to_string(started.dir.path().join("log")).unwrap_or_default();
            started.stop();
            return Err(format!("containerd does not answer:\n{log}"));
        }
        Ok(started)
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A directory that goes with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `ctr` prints.
    ///
    /// # Errors
    /// What it said.
    pub fn ctr(&self, namespace: &str, words: &[&str]) -> Result<String, String> {
        let socket = self.dir.path().join("sock");
        said(Command::new("ctr").arg("-a").arg(socket).args(["-n", namespace]).args(words), CALL)
    }

    /// Imports an image of so many layers under a name.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn import(&self, namespace: &str, name: &str, layers: usize) -> Result<(), String> {
        let work = self.dir.path().join(format!("image-{namespace}-{layers}"));
        std::fs::create_dir(&work).map_err(|e| format!("{}: {e}", work.display()))?;
        let archive = layered_archive(&work, name, layers, &mut |_, _| {});
        self.ctr(namespace, &["images", "import", &archive.display().to_string()]).map(drop)
    }

    /// Starts a process that writes containers all the time; see `containerd_db.py`.
    ///
    /// # Errors
    /// When it can't be started or does not get ready.
    pub fn writer(&self, namespace: &str, first: usize, count: usize) -> Result<Writer, String> {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", WRITER])
            .arg(self.dir.path().join("sock"))
            .args([namespace, &first.to_string(), &count.to_string(), "5"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("starting python3: {e}"))?;
        let told = child.stdout.take().ok_or("no standard output")?;
        let mut writer = Writer { child, told: BufReader::new(told) };
        let mut line = String::new();
        writer.told.read_line(&mut line).map_err(|e| format!("the writer: {e}"))?;
        if line == "ready\n" { Ok(writer) } else { Err(format!("the writer said {line:?}")) }
    }

    /// Ends it, by a signal to it.
    pub fn stop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(None)) {
            procfs::signal(self.daemon.id(), Signal::TERM);
        }
        let daemon = &mut self.daemon;
        if !waited(Duration::from_secs(20), || !matches!(daemon.try_wait(), Ok(None))) {
            drop(self.daemon.kill());
            drop(self.daemon.wait());
        }
    }
}

impl Drop for ContainerdDb {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Writer {
    /// Ends it: how many times it wrote.
    ///
    /// # Errors
    /// When it failed.
    pub fn end(mut self) -> Result<u64, String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.told.read_to_string(&mut said).map_err(|e| format!("the writer: {e}"))?;
        said.trim().parse().map_err(|e| format!("the writer said {said:?}: {e}"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
