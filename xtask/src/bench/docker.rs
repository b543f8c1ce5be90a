//! A dockerd for the rows that need one, held by a program of its own: when the bench is killed,
//! that one still clears it away.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use whose_testkit::docker::{Docker, IMAGE, View};

use super::meter::Line;
use crate::rig::{Hierarchies, mounted};

/// The word by which this program is the one that holds it.
pub(super) const HOLD: &str = "--hold-docker";
/// The names of the containers; the first is asked about.
const NAMES: [&str; 3] = ["web", "db", "cache"];
/// What runs in each.
const SCRIPT: &str = "sleep 1000000 & sleep 1000000 & exec sleep 1000000";

/// Starts one, tells of it in a line, and ends it when the input ends.
pub(super) fn hold(data_root: &Path) -> Result<()> {
    std::fs::create_dir(data_root).with_context(|| format!("making {}", data_root.display()))?;
    // Dropped last, also when the test kit panics.
    let _data_root = DataRoot(data_root.to_owned());
    serve(data_root)
}

/// Is removed when dropped.
struct DataRoot(PathBuf);

impl Drop for DataRoot {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("bench: {}: {error}", self.0.display());
        }
    }
}

/// Cgroups above its containers' that dockerd makes and leaves: those that were not there before are
/// removed when this is dropped, if nobody has made others below them.
struct Parents(Vec<PathBuf>);

impl Parents {
    fn absent() -> Result<Self> {
        let parents = mounted(Hierarchies::All)?.into_iter().map(|top| top.join("docker"));
        Ok(Self(parents.filter(|parent| !parent.exists()).collect()))
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for parent in &self.0 {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

fn serve(data_root: &Path) -> Result<()> {
    let whole = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let view = if whole { View::V2 } else { View::Hybrid };
    let _parents = Parents::absent()?;
    let docker = Docker::options(view).data_root(data_root).start().map_err(anyhow::Error::msg)?;
    docker.image();
    let mut pids = Vec::new();
    for name in NAMES {
        docker.try_run(&["--name", name, IMAGE, "sh", "-c", SCRIPT]).map_err(anyhow::Error::msg)?;
        pids.push(docker.init_pid(name));
    }
    let command = docker.command::<&str>(&[]);
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let words: Vec<String> =
        [command.get_program()].into_iter().chain(command.get_args()).map(text).collect();
    let env: Vec<(String, String)> =
        command.get_envs().filter_map(|(key, value)| Some((text(key), text(value?)))).collect();
    let version = docker.cli(&["version", "--format", "{{.Client.Version}} {{.Server.Version}}"]);
    let told = json!({ "words": words, "env": env, "pids": pids, "version": version });
    // A bench that is gone hears nothing.
    writeln!(std::io::stdout(), "{told}").context("telling of dockerd")?;
    // Until the bench has ended, whichever way.
    std::io::stdin().read_to_end(&mut Vec::new()).context("waiting")?;
    drop(docker);
    Ok(())
}

/// A running dockerd; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// The client's words, to be followed by a command.
    pub(super) client: Line,
    /// Versions of the client and of the daemon.
    pub(super) version: String,
    /// The first process of each container.
    pids: Vec<u32>,
    pub(super) data_root: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Held {
    /// Starts it in a directory of its own.
    pub(crate) fn start() -> Result<Self> {
        let data_root =
            std::env::temp_dir().join(format!("whose-bench-docker-{}", std::process::id()));
        let own = std::env::current_exe().context("the path of xtask")?;
        let mut child = Command::new(own)
            .args(["bench", HOLD])
            .arg(&data_root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the bench, which then ends this one.
            .process_group(0)
            .spawn()
            .context("starting the holder of dockerd")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the holder has no stdout")?;
        let (client, version, pids) = (Line::default(), String::new(), Vec::new());
        // From here on dropping it ends it.
        let mut held = Self { client, version, pids, data_root, child, stdin };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("reading of the holder")?;
        ensure!(!line.is_empty(), "dockerd does not start");
        held.learn(&serde_json::from_str(&line).context("the holder's line")?)?;
        Ok(held)
    }

    fn learn(&mut self, told: &Value) -> Result<()> {
        let field = |name: &str| told.get(name).cloned().with_context(|| format!("no {name}"));
        self.client.words = serde_json::from_value(field("words")?).context("words")?;
        self.client.env = serde_json::from_value(field("env")?).context("env")?;
        self.pids = serde_json::from_value(field("pids")?).context("pids")?;
        self.version = serde_json::from_value(field("version")?).context("version")?;
        Ok(())
    }

    /// The container that is asked about: its name, and the PID of its first process.
    pub(crate) fn asked(&self) -> Result<(&'static str, u32)> {
        Ok((NAMES[0], *self.pids.first().context("no container runs")?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}
