//! Runs the built `whose` and keeps the whole story of a run.

use crate::program;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long the pipes of a process that ended may stay open in some descendant of it.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// How long a killed process may take to die before it is reported as stuck.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// One invocation of the binary, to be built up and [`run`](Whose::run).
///
/// The environment is empty but for `PATH=/usr/bin:/bin`; stdin is `/dev/null`.
#[derive(Debug, Clone)]
pub struct Whose {
    bin: PathBuf,
    via: Vec<OsString>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    user: Option<(u32, u32)>,
    timeout: Duration,
    copy: Option<Arc<tempfile::TempDir>>,
}

impl Whose {
    /// Runs this binary.
    pub fn new(bin: impl Into<PathBuf>) -> Self {
        Whose {
            bin: bin.into(),
            via: Vec::new(),
            args: Vec::new(),
            envs: Vec::new(),
            stdin: None,
            user: None,
            timeout: Duration::from_secs(60),
            copy: None,
        }
    }

    /// Runs the binary cargo built: `WHOSE_BIN`, else the one beside the running test executable.
    ///
    /// # Panics
    /// When there is none, saying how to build it.
    #[must_use]
    pub fn built() -> Self {
        if let Some(bin) = std::env::var_os("WHOSE_BIN") {
            let bin = PathBuf::from(bin);
            assert!(bin.is_file(), "WHOSE_BIN={} is no file", bin.display());
            return Self::new(bin);
        }
        let exe = std::env::current_exe().expect("the path of the test executable");
        let bin = exe.ancestors().nth(2).map(|dir| dir.join("whose"));
        match bin {
            Some(bin) if bin.is_file() => Self::new(bin),
            other => panic!(
                "there is no built `whose` at {}: run `cargo build -p whose` with the same \
                 profile and target folder first, or set WHOSE_BIN",
                other.unwrap_or(exe).display()
            ),
        }
    }

    /// The binary that is run.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Adds `--root DIR`.
    #[must_use]
    pub fn root(self, dir: impl AsRef<Path>) -> Self {
        self.arg("--root").arg(dir.as_ref())
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Runs the binary through another program, e.g. `strace -f -o FILE`; the words go before it.
    #[must_use]
    pub fn via<I>(mut self, words: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.via.extend(words.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Runs the binary in the mount namespace of a process, as someone logged in there would.
    #[must_use]
    pub fn in_mount_namespace_of(self, pid: u32) -> Self {
        self.via(["nsenter", "-m", "-t", &pid.to_string(), "--"])
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Feeds these bytes on stdin, then closes it.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs as another user, without supplementary groups; root is needed. The binary is copied
    /// to where that user can reach it, see [`Whose::copied`].
    ///
    /// # Panics
    /// When the copy can't be made.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self.copied()
    }

    /// Runs a copy of the binary that every user can reach.
    ///
    /// # Panics
    /// When the copy can't be made.
    #[must_use]
    pub fn copied(mut self) -> Self {
        if self.copy.is_none() {
            let dir = tempfile::Builder::new()
                .prefix("whose-bin-")
                .tempdir()
                .expect("a directory for the copied binary");
            let everyone = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(dir.path(), everyone).expect("chmod");
            let to = dir.path().join("whose");
            program::copy(&self.bin, &to);
            self.bin = to;
            self.copy = Some(Arc::new(dir));
        }
        self
    }

    /// Kills the run when it takes longer; 60 s unless told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it can't be started, or exceeds its timeout: then it is killed by its PID first.
    #[must_use]
    pub fn run(&self) -> Run {
        let mut command = self.command();
        let line = describe(&command, self.user);
        let begun = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("can't start {line}: {e}"));
        if let (Some(bytes), Some(mut stdin)) = (self.stdin.clone(), child.stdin.take()) {
            // A thread of its own: the program may end without reading all of it.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        let out = drain(child.stdout.take());
        let err = drain(child.stderr.take());
        let status = wait(&mut child, begun + self.timeout);
        let elapsed = begun.elapsed();
        let Some(status) = status else {
            let died = kill(&mut child);
            panic!(
                "{line}\n  exceeded its timeout of {:?} (pid {}, {})\n{}",
                self.timeout,
                child.id(),
                if died { "killed" } else { "killed, but it does not die: state D?" },
                streams(&out.collect(PIPE_GRACE).0, &err.collect(PIPE_GRACE).0),
            );
        };
        let (stdout, held_out) = out.collect(PIPE_GRACE);
        let (stderr, held_err) = err.collect(PIPE_GRACE);
        Run {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
            elapsed,
            command_line: line,
            pipes_held: held_out || held_err,
        }
    }

    fn command(&self) -> Command {
        let mut words = self
            .via
            .iter()
            .chain([self.bin.as_os_str().to_owned()].iter())
            .cloned()
            .collect::<Vec<_>>();
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.envs.iter().map(|(k, v)| (k, v)))
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// How a run ended, and all it said.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything from stdout.
    pub stdout: Vec<u8>,
    /// Everything from stderr.
    pub stderr: Vec<u8>,
    /// From its start to its end.
    pub elapsed: Duration,
    /// The command as one could type it.
    pub command_line: String,
    /// Some descendant still held stdout or stderr two seconds after it had ended.
    pub pipes_held: bool,
}

impl Run {
    /// Stdout as JSON.
    ///
    /// # Panics
    /// When it is none, with the whole story.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is no JSON: {e}\n{}", self.story()))
    }

    /// Stdout as one JSON value a line.
    ///
    /// # Panics
    /// When a line is none, with the whole story.
    #[must_use]
    pub fn ndjson(&self) -> Vec<serde_json::Value> {
        self.stdout
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line)
                    .unwrap_or_else(|e| panic!("a line is no JSON: {e}\n{}", self.story()))
            })
            .collect()
    }

    /// Stdout as text, lossily.
    #[must_use]
    pub fn stdout_str(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text, lossily.
    #[must_use]
    pub fn stderr_str(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Stdout as one number a line, as `whose pids` prints it.
    ///
    /// # Panics
    /// When a line is no number, with the whole story.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.stdout_str()
            .lines()
            .map(|l| l.parse().unwrap_or_else(|_| panic!("{l:?} is no PID\n{}", self.story())))
            .collect()
    }

    /// Goes on only if the exit code is this one.
    ///
    /// # Panics
    /// When it is not, with command, status, stdout and stderr.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{}", self.story());
        self
    }

    /// Command, status, time, stdout and stderr.
    #[must_use]
    pub fn story(&self) -> String {
        let status = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "unknown status".to_owned(),
        };
        format!(
            "  {}\n  {status} after {:?}{}\n{}",
            self.command_line,
            self.elapsed,
            if self.pipes_held { ", its pipes still held by a descendant" } else { "" },
            streams(&self.stdout, &self.stderr)
        )
    }
}

/// A pipe being read by a thread, so that neither side can block the other.
struct Drain {
    chunks: Option<Receiver<Vec<u8>>>,
}

impl Drain {
    /// All that came until the end of the stream; true if the end did not come in `grace`.
    fn collect(&self, grace: Duration) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let Some(chunks) = &self.chunks else { return (all, false) };
        let until = Instant::now() + grace;
        loop {
            match chunks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(chunk) => all.extend(chunk),
                Err(e) => return (all, e == std::sync::mpsc::RecvTimeoutError::Timeout),
            }
        }
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drain {
    let Some(mut pipe) = pipe else { return Drain { chunks: None } };
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            if tx.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    Drain { chunks: Some(rx) }
}

fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().expect("waiting for the child") {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

fn kill(child: &mut Child) -> bool {
    drop(child.kill());
    wait(child, Instant::now() + KILL_GRACE).is_some()
}

fn describe(command: &Command, user: Option<(u32, u32)>) -> String {
    let mut line = String::new();
    if let Some((uid, gid)) = user {
        let _ = write!(line, "(as {uid}:{gid}) ");
    }
    for (key, value) in command.get_envs() {
        if let Some(value) = value.filter(|_| key != "PATH") {
            let _ = write!(line, "{}={} ", key.to_string_lossy(), quote(value));
        }
    }
    line.push_str(&quote(command.get_program()));
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quote(arg));
    }
    line
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn streams(stdout: &[u8], stderr: &[u8]) -> String {
    let part = |name: &str, bytes: &[u8]| {
        let shown = &bytes[..bytes.len().min(16 * 1024)];
        let cut = if shown.len() < bytes.len() { " (cut)" } else { "" };
        format!("--- {name}, {} bytes{cut}\n{}\n", bytes.len(), String::from_utf8_lossy(shown))
    };
    part("stdout", stdout) + &part("stderr", stderr)
}

#[cfg(test)]
mod tests {
    use super::Whose;
    use std::time::Duration;

    #[test]
    fn a_run_is_told_in_full() {
        let run = Whose::new("/bin/sh")
            .args(["-c", "cat; echo to stderr >&2; echo $FOO $HOME; exit 3"])
            .env("FOO", "bar baz")
            .stdin("in\n")
            .run();
        assert_eq!((run.code, run.signal), (Some(3), None));
        assert_eq!(run.stdout_str(), "in\nbar baz\n");
        assert_eq!(run.stderr_str(), "to stderr\n");
        assert!(run.command_line.starts_with("FOO='bar baz' /bin/sh -c "), "{}", run.command_line);
        let panic = std::panic::catch_unwind(|| run.expect_code(0)).unwrap_err();
        let story = panic.downcast_ref::<String>().unwrap();
        for part in ["expected exit code 0", "exit code 3", "to stderr", "bar baz", "/bin/sh"] {
            assert!(story.contains(part), "{part} is not in {story}");
        }
    }

    #[test]
    fn a_run_that_hangs_is_killed_and_reported() {
        let whose = Whose::new("/bin/sh")
            .args(["-c", "echo begun; exec sleep 1000"])
            .timeout(Duration::from_millis(300));
        let panic = std::panic::catch_unwind(|| drop(whose.run())).unwrap_err();
        let story = panic.downcast_ref::<String>().unwrap();
        assert!(story.contains("exceeded its timeout"), "{story}");
        assert!(story.contains("begun"), "{story}");
    }

    #[test]
    fn a_signal_is_no_exit_code() {
        let run = Whose::new("/bin/sh").args(["-c", "kill -9 $$"]).run();
        assert_eq!((run.code, run.signal), (None, Some(9)));
    }

    #[test]
    fn a_descendant_that_keeps_the_pipe_is_noticed() {
        let run = Whose::new("/bin/sh").args(["-c", "sleep 3 & exit 0"]).run();
        assert!(run.pipes_held);
        assert!(!Whose::new("/bin/true").run().pipes_held);
    }
}
