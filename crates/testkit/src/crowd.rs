//! Many cheap processes, and processes that come and go fast.

use crate::cgroup::CgroupDir;
use crate::hostile::{Compiled, Helper};
use crate::procfs;
use std::collections::BTreeSet;

/// Processes made by one small program (`c/crowd.c`, which lists the words of a wish). All of them die
/// with this value, and with the thread that made it, however it ends.
#[derive(Debug)]
pub struct Crowd {
    helper: Helper,
}

impl Crowd {
    /// Starts the program, with no process yet.
    #[must_use]
    pub fn start() -> Crowd {
        let program = Compiled::with("crowd", include_str!("../c/crowd.c"), &["-static"]);
        Crowd { helper: Helper::start(program, ["room-for-a-mark"]) }
    }

    /// Its own PID, the parent of all leaders.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Makes a leader in these cgroups, and what it is to have; its PID.
    ///
    /// # Panics
    /// When it can't, with what the program says.
    #[track_caller]
    pub fn make(&mut self, words: &str, cgroups: &[&CgroupDir]) -> u32 {
        self.try_make("make", words, cgroups).unwrap_or_else(|e| panic!("make {words}: {e}"))
    }

    /// Makes a leader whose processes end soon, some with PIDs that others had a moment ago; its PID.
    ///
    /// # Panics
    /// When it can't, with what the program says.
    #[track_caller]
    pub fn storm(&mut self, words: &str, cgroups: &[&CgroupDir]) -> u32 {
        self.try_make("storm", words, cgroups).unwrap_or_else(|e| panic!("storm {words}: {e}"))
    }

    /// Makes a process whose threads execute its program anew for ever, named `changes-always-`; its
    /// PID, which stays.
    ///
    /// # Panics
    /// When it can't, with what the program says.
    #[track_caller]
    pub fn change(&mut self, cgroups: &[&CgroupDir]) -> u32 {
        self.try_make("change", "", cgroups).unwrap_or_else(|e| panic!("change: {e}"))
    }

    /// As [`Crowd::make`], for any verb.
    ///
    /// # Errors
    /// What the program says.
    pub fn try_make(
        &mut self,
        verb: &str,
        words: &str,
        cgroups: &[&CgroupDir],
    ) -> Result<u32, String> {
        let mut line = format!("{verb} {words}");
        for dir in cgroups {
            line.push_str(&format!(" cgroup={}/cgroup.procs", dir.path().display()));
        }
        number(&self.helper.ask(&line)?)
    }

    /// How many processes all storms have made.
    ///
    /// # Panics
    /// When the program does not answer.
    pub fn storms(&mut self) -> u32 {
        self.helper.ask("count").and_then(|line| number(&line)).expect("the number of processes")
    }

    /// Kills a leader and waits for it; what is below it dies as well.
    ///
    /// # Panics
    /// When there is no such leader.
    pub fn end(&mut self, pid: u32) {
        let ended = self.helper.ask(&format!("end {pid}")).and_then(|line| number(&line));
        ended.unwrap_or_else(|e| panic!("ending {pid}: {e}"));
    }
}

fn number(line: &str) -> Result<u32, String> {
    let number = line.strip_prefix("ok ").and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| line.to_owned())
}

/// A process and all below it that are there now.
#[must_use]
pub fn family(pid: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> =
        procfs::pids().into_iter().filter_map(|p| Some((p, procfs::ppid(p)?))).collect();
    let mut all = BTreeSet::from([pid]);
    loop {
        let more: Vec<u32> = (parents.iter())
            .filter(|(p, parent)| all.contains(parent) && !all.contains(p))
            .map(|(p, _)| *p)
            .collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Runs a program for which `bpf(2)` fails: words for [`crate::harness::Whose::via`].
#[derive(Debug)]
pub struct Refuse(Compiled);

impl Refuse {
    /// Compiles the program that does it (`c/refuse.c`).
    #[must_use]
    pub fn new() -> Refuse {
        Refuse(Compiled::with("refuse", include_str!("../c/refuse.c"), &["-static"]))
    }

    /// With this `errno`, for this command of `bpf(2)` or for all.
    #[must_use]
    pub fn words(&self, errno: i32, command: Option<u32>) -> [String; 3] {
        let command = command.map_or("-1".to_owned(), |command| command.to_string());
        [self.0.path.to_string_lossy().into_owned(), errno.to_string(), command]
    }
}

impl Default for Refuse {
    fn default() -> Self {
        Refuse::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Crowd, family};
    use crate::{procfs, require};
    use std::time::Duration;

    #[test]
    fn a_crowd_is_as_wished_and_goes() {
        if !require(&["root", "cc"]) {
            return;
        }
        let mut crowd = Crowd::start();
        let words = "count=3 threads=2 ns=pid,mnt nice=4 uid=4321 comm=61ff62 depth=2";
        let top = crowd.make(words, &[]);
        let all = family(top);
        assert_eq!(all.len(), 4, "a leader, and one below with two more: {all:?}");
        for pid in all.iter().filter(|pid| **pid != top) {
            assert_eq!(procfs::comm(*pid).as_deref(), Some("a\u{fffd}b"));
            assert_eq!(procfs::uid(*pid), Some(4321));
            assert_eq!(procfs::nspid(*pid).unwrap().len(), 3);
            let fields = procfs::stat_fields(*pid).unwrap();
            assert_eq!((&*fields[16], &*fields[17]), ("4", "2"), "nice, threads");
        }
        let stopped = crowd.make("stop tty", &[]);
        procfs::wait_for("a stopped process", Duration::from_secs(10), || {
            (procfs::state(stopped) == Some('T')).then_some(())
        });
        assert_ne!(procfs::stat_fields(stopped).unwrap()[4], "0", "its terminal");
        let dead = crowd.make("count=2 dead", &[]);
        procfs::wait_for("a zombie", Duration::from_secs(10), || {
            family(dead).into_iter().find(|pid| procfs::state(*pid) == Some('Z'))
        });
        assert!(crowd.try_make("make", "no-such-word", &[]).is_err());
        let pool = procfs::free_pid();
        crowd.storm(&format!("mark=a rate=1000 uid=4322 pool={pool}"), &[]);
        let changing = crowd.change(&[]);
        procfs::wait_for("a storm", Duration::from_secs(20), || {
            (crowd.storms() > 200 && procfs::alive(changing)).then_some(())
        });
        crowd.end(stopped);
        assert!(!procfs::alive(stopped));
        let (pid, left) = (crowd.pid(), &all | &family(dead));
        drop(crowd);
        assert!(!procfs::alive(pid));
        for pid in left {
            assert!(!procfs::alive(pid), "{pid} lives on");
        }
    }
}
