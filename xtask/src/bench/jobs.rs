//! The rows of the table: what one would run otherwise, and `whose`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::docker::Held;
use super::meter::{Line, Meter};
use super::report::{Growth, Report, Row};
use super::rows::{complete, living, owned, parse, throughout};
use super::stats::{Figure, Pairs, Spread};
use super::world::{World, skip};
use crate::rig::Ending;

/// The jobs that can be picked.
pub(super) const JOBS: [&str; 7] = [LISTS, "card", "pids", "exe", FILTER, DISK, GROWTH];
/// The one that needs no dockerd.
pub(super) const LISTS: &str = "ps";
/// The filter over other tools' output.
const FILTER: &str = "annotate";
/// What takes room on disks.
const DISK: &str = "disk";
/// Those that are run a second time, with the caches dropped before each run.
pub(super) const COLD: [&str; 3] = ["card", "exe", DISK];
/// The one that compares hosts.
pub(super) const GROWTH: &str = "growth";

/// How often each is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    /// What lists all processes.
    pub(super) all: usize,
    /// What answers about one.
    pub(super) one: usize,
    /// The same, with the caches dropped before each run.
    pub(super) cold: usize,
}

/// Measures on one world.
#[derive(Debug)]
pub(super) struct Bench<'b> {
    pub(super) meter: &'b Meter,
    pub(super) whose: &'b Path,
    pub(super) world: &'b World,
    pub(super) rounds: Rounds,
    pub(super) ending: &'b Ending,
    pub(super) report: &'b mut Report,
    /// Whether the caches are dropped before each run.
    pub(super) cold: bool,
}

/// What ours and theirs wrote, run by run.
pub(super) type Outputs = Vec<(Vec<u8>, Vec<u8>)>;
/// What is asked of a row: this ratio of ours to theirs at most.
pub(super) type Asked = &'static [(Figure, f64)];

impl Bench<'_> {
    /// Runs one job.
    pub(super) fn run(&mut self, job: &str) -> Result<()> {
        let docker = self.world.docker.as_ref();
        match (job, docker) {
            (LISTS, _) => self.lists(),
            (GROWTH, _) => self.growth(),
            (FILTER, _) => super::filter::run(self),
            (DISK, _) => super::disk::run(self),
            ("card", _) => self.cards(docker),
            ("pids", Some(docker)) => self.pids(docker),
            ("exe", Some(docker)) => self.exe(docker),
            // That docker is missing was said.
            ("pids" | "exe", None) => Ok(()),
            _ => bail!("there is no job {job}: {}", JOBS.join(", ")),
        }
    }

    pub(super) fn ours(&self, words: &[&str]) -> Line {
        Line::new([self.whose.display().to_string()]).and(words.iter().copied())
    }

    fn lists(&mut self) -> Result<()> {
        let words = ["ps", "-k", "-o", "pid,comm,owner"];
        let title = "whose ps -k -o pid,comm,owner";
        self.list(title, &words, &[(Figure::Cpu, 1.0 / 8.0), (Figure::Peak, 1.0)])?;
        let words = ["ps", "--source", "proc", "-k", "-o", "pid,comm,owner"];
        // Clap's status for an option that it does not know.
        let status = Command::new(self.whose)
            .args(["ps", "--source", "proc", "-o", "pid", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("running whose")?;
        if status.code() == Some(2) {
            return skip(&mut self.report.skipped, "whose ps --source proc: whose has no --source");
        }
        let title = "whose ps --source proc -k -o pid,comm,owner";
        self.list(title, &words, &[(Figure::Cpu, 1.0 / 4.0)])
    }

    /// A list of all processes beside that of `ps`: the same rows, and in the rig's containers the
    /// owner that is known.
    fn list(&mut self, title: &str, words: &[&str], asked: Asked) -> Result<()> {
        let mut owners = BTreeMap::new();
        for container in &self.world.rig.containers {
            for pid in self.world.rig.pids(container)? {
                owners.insert(pid, container.name.clone());
            }
        }
        let theirs = Line::new(["ps", "-e", "-o", "pid,comm,cgroup"]);
        let before = living()?;
        let (pairs, outputs) = self.race(&self.ours(words), &theirs, self.rounds.all)?;
        let steady = throughout(&before, &living()?);
        let (mut most, least) = (0, steady.len());
        for (ours, theirs) in &outputs {
            let rows = parse(ours)?;
            owned(&rows, &owners)?;
            most = most.max(complete("our", &rows, &steady)?);
            most = most.max(complete("their", &parse(theirs)?, &steady)?);
        }
        println!("bench: {title}: {least} processes in every list, at most {most} others in one");
        self.row(title, "ps -e -o pid,comm,cgroup", pairs, asked);
        Ok(())
    }

    fn cards(&mut self, docker: Option<&Held>) -> Result<()> {
        let (pid, name) = match (docker, self.world.rig.containers.first()) {
            (Some(docker), _) => docker.asked().map(|(name, pid)| (pid, name.to_owned()))?,
            (None, Some(container)) => (container.init, container.name.clone()),
            (None, None) => bail!("there is no container"),
        };
        let ours = self.ours(&[&pid.to_string()]);
        let nothing = Line::new(["/bin/true"]);
        if let Some(docker) = docker {
            let script = format!("cat /proc/{pid}/cgroup; exec \"$@\"");
            let mut theirs = Line::new(["sh", "-c", &script, "sh"]);
            theirs.words.extend(docker.client.words.clone());
            theirs.env = docker.client.env.clone();
            let theirs = theirs.and(["inspect", &name]);
            let (pairs, outputs) = self.race(&ours, &theirs, self.rounds.one)?;
            for (ours, theirs) in outputs {
                says(&ours, &name)?;
                says(&theirs, &format!("\"/{name}\""))?;
            }
            let asked = &[(Figure::Wall, 1.0 / 4.0)];
            self.row("whose PID", "cat cgroup; docker inspect", pairs, asked);
        }
        let (pairs, outputs) = self.race(&ours, &nothing, self.rounds.one)?;
        for (ours, _) in outputs {
            says(&ours, &name)?;
        }
        self.row("whose PID", "/bin/true", pairs, &[(Figure::Wall, 4.0)]);
        Ok(())
    }

    fn pids(&mut self, docker: &Held) -> Result<()> {
        let (name, _) = docker.asked()?;
        let theirs = docker.client.clone().and(["top", name]);
        let ours = self.ours(&["pids", name]);
        let (pairs, outputs) = self.race(&ours, &theirs, self.rounds.one)?;
        for (ours, theirs) in outputs {
            let (ours, theirs) = (numbers(&ours, "")?, numbers(&theirs, "PID")?);
            ensure!(ours == theirs, "whose pids: {ours:?}, docker top: {theirs:?}");
        }
        self.row("whose pids NAME", "docker top NAME", pairs, &[(Figure::Wall, 1.0 / 10.0)]);
        Ok(())
    }

    fn exe(&mut self, docker: &Held) -> Result<()> {
        let (_, pid) = docker.asked()?;
        // The range without its leading zeros, which map_files does not have.
        let range = "/r-xp/ { sub(/^0+/, \"\"); sub(/-0+/, \"-\"); print $1; exit }";
        let script = format!(
            "readlink /proc/{pid}/exe; r=$(awk '{range}' /proc/{pid}/maps); \
             readlink /proc/{pid}/map_files/$r"
        );
        let theirs = Line::new(["sh", "-c", &script]);
        let ours = self.ours(&["exe", &pid.to_string()]);
        let (pairs, outputs) = self.race(&ours, &theirs, self.rounds.one)?;
        for (ours, theirs) in outputs {
            // Theirs is the path in the container.
            let path = String::from_utf8_lossy(&ours);
            ensure!(Path::new(path.trim_end()).is_file(), "whose exe: {path:?} is no file");
            says(&theirs, "/bin/busybox")?;
        }
        let recipe = "readlink exe; awk maps; readlink map_files";
        self.row("whose exe PID", recipe, pairs, &[(Figure::Wall, 1.0 / 2.0)]);
        Ok(())
    }

    /// What an answer about one costs on this host, to be compared with others.
    fn growth(&mut self) -> Result<()> {
        let (name, pid) = match (&self.world.docker, self.world.rig.containers.first()) {
            (Some(docker), _) => docker.asked().map(|(name, pid)| (name.to_owned(), pid))?,
            (None, Some(container)) => (container.name.clone(), container.init),
            (None, None) => bail!("there is no container"),
        };
        let pid = pid.to_string();
        let asked = [("whose pids NAME", vec!["pids", &name]), ("whose PID", vec![pid.as_str()])];
        for (title, words) in asked {
            let line = self.ours(&words);
            self.meter.run(&line)?;
            let mut samples = Vec::new();
            for _ in 0..self.rounds.one {
                self.ending.check()?;
                samples.push(self.meter.run(&line)?.0);
            }
            let spread = |figure: Figure| Spread::of(samples.iter().map(|s| figure.of(*s)));
            let calls = self.calls(&line)?;
            self.report.growth.push(Growth {
                title: title.to_owned(),
                processes: self.world.processes,
                containers: self.world.containers,
                calls,
                cpu: spread(Figure::Cpu).context("no run")?,
                wall: spread(Figure::Wall).context("no run")?,
            });
        }
        Ok(())
    }

    /// How many system calls a program makes, itself and its children.
    fn calls(&mut self, line: &Line) -> Result<Option<usize>> {
        let Some(strace) = whose_testkit::which("strace") else {
            skip(&mut self.report.skipped, "system calls: strace is not installed")?;
            return Ok(None);
        };
        // With its summary on the standard output's file, behind what the program prints.
        let script = "exec 3>&1; exec \"$@\" >/dev/null";
        let count = ["-f", "-c", "-o", "/dev/fd/3"];
        let strace = Line::new(["sh", "-c", script, "sh", &strace.display().to_string()]);
        let (_, text) = self.meter.run(&strace.and(count).and(line.words.clone()))?;
        total(&String::from_utf8_lossy(&text)).map(Some)
    }

    /// Runs both in turn, so many times unless the caches are dropped, after a run of each that does not
    /// count.
    pub(super) fn race(
        &self,
        ours: &Line,
        theirs: &Line,
        rounds: usize,
    ) -> Result<(Pairs, Outputs)> {
        let run = |line: &Line| {
            self.ending.check()?;
            if self.cold {
                super::drop_caches()?;
            }
            self.meter.run(line)
        };
        let rounds = if self.cold { self.rounds.cold } else { rounds };
        if !self.cold {
            run(ours)?;
            run(theirs)?;
        }
        let (mut pairs, mut outputs) = (Pairs::default(), Outputs::new());
        for _ in 0..rounds {
            let ((our, our_text), (their, their_text)) = (run(ours)?, run(theirs)?);
            pairs.0.push((our, their));
            outputs.push((our_text, their_text));
        }
        Ok((pairs, outputs))
    }

    /// Adds a row; of cold runs nothing is asked.
    pub(super) fn row(&mut self, ours: &str, theirs: &str, pairs: Pairs, asked: Asked) {
        let (processes, containers) = (self.world.processes, self.world.containers);
        let heat = if self.cold { ", cold" } else { "" };
        let (ours, theirs) = (format!("{ours}{heat}"), theirs.to_owned());
        let asked = if self.cold { Vec::new() } else { asked.to_vec() };
        let hierarchies = self.world.hierarchies;
        let row = Row { processes, containers, hierarchies, ours, theirs, pairs, asked };
        self.report.rows.push(row);
    }
}

fn says(output: &[u8], text: &str) -> Result<()> {
    let output = String::from_utf8_lossy(output);
    ensure!(output.contains(text), "{text} is not in {output:?}");
    Ok(())
}

/// The numbers in the column of this heading; without heading, of the first column.
fn numbers(output: &[u8], heading: &str) -> Result<BTreeSet<u32>> {
    let output = String::from_utf8_lossy(output);
    let mut lines = output.lines();
    let column = match heading {
        "" => 0,
        heading => {
            let mut words = lines.next().unwrap_or_default().split_whitespace();
            words.position(|word| word == heading).with_context(|| format!("no {heading}"))?
        }
    };
    let number = |line: &str| {
        let word = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        word.with_context(|| format!("{line:?} has no number"))
    };
    lines.map(number).collect()
}

/// The number of calls in the last line of strace's summary.
fn total(summary: &str) -> Result<usize> {
    let line = summary.lines().rfind(|line| line.ends_with(" total")).context("no summary")?;
    let calls = line.split_whitespace().nth(3).and_then(|word| word.parse().ok());
    calls.with_context(|| format!("{line:?} has no number of calls"))
}

#[cfg(test)]
mod tests {
    use super::{numbers, total};
    use std::collections::BTreeSet;

    #[test]
    fn columns_are_found_by_heading() {
        assert_eq!(numbers(b"7\n12\n", "").unwrap(), BTreeSet::from([7, 12]));
        let top = b"UID    PID   PPID  CMD\nroot   12    1     sh 3\nroot   7     1     x\n";
        assert_eq!(numbers(top, "PID").unwrap(), BTreeSet::from([7, 12]));
        assert!(numbers(top, "TTY").is_err());
        assert!(numbers(b"web is exited\n", "").is_err());
    }

    #[test]
    fn straces_summary_is_read() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000030           3        10         2 openat
 40.00    0.000020           2        10           read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000050           2        20         2 total
";
        assert_eq!(total(summary).unwrap(), 20);
        assert!(total("").is_err());
    }
}
