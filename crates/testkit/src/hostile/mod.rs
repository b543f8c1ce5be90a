//! Small C programs that do to `/proc` what a hostile container, or bad luck, can.
//!
//! Their source is in `crates/testkit/c`; `cc` compiles each on first use. Every wrapper ends what
//! it started, by PID, when it is dropped.

mod argv;
mod headless;
mod mapper;
mod reuse;
mod zombie;

pub use argv::ArgvOnFuse;
pub use headless::Headless;
pub use mapper::{Mapper, write_mapper};
pub use reuse::ReusePid;
pub use zombie::Zombie;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a helper may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a helper may take to end once its stdin is closed.
const END: Duration = Duration::from_secs(10);

/// The compiled helper of this name, and the directory it lives in until dropped.
pub(crate) struct Compiled {
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Compiled {
    /// Compiles `c/NAME.c`.
    pub(crate) fn new(name: &str, source: &str) -> Compiled {
        Compiled::with(name, source, &[])
    }

    /// Compiles `c/NAME.c` with more words for the compiler.
    pub(crate) fn with(name: &str, source: &str, words: &[&str]) -> Compiled {
        // One compiler at a time is enough for a test machine.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let dir = tempfile::Builder::new()
            .prefix("whose-hostile-")
            .tempdir()
            .expect("a directory for a helper");
        let code = dir.path().join(format!("{name}.c"));
        let path = dir.path().join(name);
        std::fs::write(&code, source).expect("writing a helper's source");
        let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(&cc)
            .args(["-O1", "-Wall"])
            .args(words)
            .arg("-o")
            .arg(&path)
            .arg(&code)
            .output()
            .unwrap_or_else(|e| panic!("running {}: {e}", Path::new(&cc).display()));
        assert!(
            built.status.success(),
            "{name}.c does not compile:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        Compiled { path, _dir: dir }
    }

    /// A directory that lives as long as the helper.
    pub(crate) fn subdir(&self, name: &str) -> PathBuf {
        let dir = self.path.with_file_name(name);
        std::fs::create_dir_all(&dir).expect("a directory below a helper's");
        dir
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

/// A running helper that is spoken to by lines.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    _program: Option<Compiled>,
}

impl Helper {
    pub(crate) fn start<I>(program: Compiled, args: I) -> Helper
    where
        I: IntoIterator,
        I::Item: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(&program.path);
        command.args(args);
        let mut helper = Helper::spawn(command);
        helper._program = Some(program);
        helper
    }

    /// Starts what is not compiled for this one helper.
    pub(crate) fn spawn(mut command: Command) -> Helper {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("a pipe was asked for");
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        Helper { child, stdin, lines, _program: None }
    }

    /// The next line it prints.
    pub(crate) fn line(&self) -> Result<String, String> {
        self.lines.recv_timeout(ANSWER).map_err(|e| format!("the helper says nothing: {e}"))
    }

    /// Sends a line and returns its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, String> {
        let stdin = self.stdin.as_mut().ok_or("the helper has ended")?;
        writeln!(stdin, "{line}").map_err(|e| format!("the helper is gone: {e}"))?;
        self.line()
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let until = Instant::now() + END;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        eprintln!("helper {} does not end by itself; killed", self.child.id());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first two numbers of a line.
fn numbers(line: &str) -> Option<(u32, Option<u32>)> {
    let mut words = line.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next().and_then(Result::ok)))
}
