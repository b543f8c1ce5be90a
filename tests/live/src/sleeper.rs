//! A process that sleeps, whatever is between it and the test: found by how long it sleeps.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use whose_testkit::procfs;

/// How long one may take to be there.
const START: Duration = Duration::from_secs(30);

/// Seconds that nobody else sleeps.
#[must_use]
pub fn seconds() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    (1_000_000_000 + std::process::id() % 900_000 * 1000 + count).to_string()
}

/// The process that sleeps so long, once there is one.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn sleeping(seconds: &str) -> u32 {
    procfs::wait_for(&format!("a sleep of {seconds}"), START, || all(seconds).first().copied())
}

fn all(seconds: &str) -> Vec<u32> {
    let sleeps = |pid: &u32| {
        procfs::args(*pid).is_some_and(|args| {
            let [program, last] = args.as_slice() else { return false };
            program.rsplit('/').next() == Some("sleep") && last == seconds
        })
    };
    procfs::pids().into_iter().filter(sleeps).collect()
}

/// A command whose last descendant sleeps. Both end when this is dropped.
#[derive(Debug)]
pub struct Sleeper {
    child: Child,
    seconds: String,
    pid: u32,
}

impl Sleeper {
    /// Starts a command; `words` are given the seconds to sleep.
    ///
    /// # Panics
    /// When nothing sleeps in the end.
    #[track_caller]
    pub fn start(make: impl FnOnce(&str) -> Command) -> Sleeper {
        let seconds = seconds();
        let mut command = make(&seconds);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut sleeper = Sleeper { child, seconds, pid: 0 };
        sleeper.pid = sleeping(&sleeper.seconds);
        sleeper
    }

    /// The sleeping process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process that was started: the outermost above it.
    #[must_use]
    pub fn above(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        for pid in all(&self.seconds) {
            procfs::signal(pid, rustix::process::Signal::KILL);
        }
        // What waits for it ends by itself.
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
