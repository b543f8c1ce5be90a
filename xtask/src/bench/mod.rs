//! `cargo xtask bench`: `whose` beside what one would run otherwise, on hosts with many processes.
//!
//! Whole processes are measured, ours and theirs in turn, and ratios are those of neighbours: both
//! then had the same machine. Only what was answered is asserted, never how fast.

mod disk;
pub(crate) mod docker;
mod filter;
mod jobs;
mod machine;
mod meter;
mod places;
mod report;
mod rows;
mod stats;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::rig::{Ending, Hierarchies, Janitor};
use jobs::{Bench, COLD, GROWTH, JOBS, LISTS, Rounds};
use machine::Machine;
use meter::Meter;
use report::Report;
use world::World;

/// Where the pages of runs are, in the tree.
const RUNS: &str = "benches/runs";
/// The small host that others are compared with: processes and containers.
const SMALL: (usize, usize) = (100, 5);

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    processes: Vec<usize>,
    quick: bool,
    only: Vec<String>,
    whose: Option<PathBuf>,
}

impl Options {
    fn rounds(&self) -> Rounds {
        if self.quick {
            Rounds { all: 3, one: 5, cold: 2 }
        } else {
            Rounds { all: 11, one: 31, cold: 7 }
        }
    }

    fn wants(&self, job: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == job)
    }

    /// The hosts to measure on, in turn.
    fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = Vec::new();
        let mut add = |size: (usize, usize), hierarchies, jobs: &[&'static str]| {
            let (processes, containers) = size;
            let jobs: Vec<&str> = jobs.iter().copied().filter(|job| self.wants(job)).collect();
            let is_same = |h: &&mut Host| {
                let lists = h.jobs.contains(&LISTS) || jobs.contains(&LISTS);
                let size = (size.0, size.1, hierarchies, false);
                (h.processes, h.containers, h.hierarchies, lists) == size
            };
            match hosts.iter_mut().find(is_same) {
                Some(host) => host.jobs = jobs,
                None => hosts.push(Host { processes, containers, hierarchies, jobs }),
            }
        };
        // First and apart: dockerd makes cgroups in every hierarchy, which the rig does not have.
        for processes in &self.processes {
            let full = (*processes, (processes / 20).max(1));
            add(full, Hierarchies::V2, &[LISTS]);
            // What /proc tells of a process is longer there.
            add(full, Hierarchies::All, &[LISTS]);
        }
        add(SMALL, Hierarchies::V2, &[GROWTH]);
        for processes in &self.processes {
            let full = (*processes, (processes / 20).max(1));
            // More processes, and no more containers.
            add((*processes, SMALL.1), Hierarchies::V2, &[GROWTH]);
            let others = JOBS.into_iter().filter(|job| *job != LISTS);
            add(full, Hierarchies::V2, &others.collect::<Vec<_>>());
        }
        hosts.retain(|host| !host.jobs.is_empty());
        hosts
    }
}

/// A host, and what is measured there.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    processes: usize,
    containers: usize,
    hierarchies: Hierarchies,
    jobs: Vec<&'static str>,
}

/// Runs it; fails when an answer is wrong or a command fails, whatever the figures.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    if let [word, data_root] = words
        && word == docker::HOLD
    {
        return docker::hold(Path::new(data_root)).map(|()| true);
    }
    let options = options(words)?;
    ensure!(rustix::process::geteuid().is_root(), "bench stands a rig, and needs root for it");
    let (whose, built) = build::whose(root, options.whose.as_ref())?;
    let ending = Ending::listen()?;
    let machine = Machine::look(root, &whose, built)?;
    let janitor = Janitor::start("bench", Vec::new())?;
    let mut meter = Meter::build(janitor.dir())?;
    let mut report = Report::default();
    println!("bench: cold rows drop this machine's caches");
    for host in options.hosts() {
        let skipped = &mut report.skipped;
        if let Some(why) = host.hierarchies.missing() {
            world::skip(skipped, &format!("containers in {}: {why}", host.hierarchies.text()))?;
            continue;
        }
        let world = World::stand(&host, &mut meter, &whose, &ending, skipped)?;
        report.docker = world.docker.as_ref().map(|docker| docker.version.clone());
        let rounds = options.rounds();
        let (meter, whose, world) = (&meter, whose.as_path(), &world);
        let (ending, report) = (&ending, &mut report);
        // All programs are then in the caches as on a host that has been up for long: as they were read
        // when they were run, and not as they were written when they were built.
        drop_caches()?;
        let mut bench = Bench { meter, whose, world, rounds, ending, report, cold: false };
        for job in &host.jobs {
            println!("bench: {job}");
            bench.run(job)?;
        }
        // Last: what was measured before is not measured after them.
        bench.cold = true;
        for job in host.jobs.iter().filter(|job| COLD.contains(job)) {
            println!("bench: {job}, cold");
            bench.run(job)?;
        }
    }
    println!("\n{}", report.tables());
    if options.quick || !options.only.is_empty() {
        println!("bench: a part is no record: nothing is written to {RUNS}");
    } else {
        let page = report.page(&machine, &conditions(options.rounds()));
        let path = report::keep(&root.join(RUNS), &machine.run(), &page)?;
        println!("bench: written to {}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    drop(janitor);
    Ok(true)
}

/// Has the kernel forget what it has of files.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")
}

fn conditions(rounds: Rounds) -> String {
    format!(
        "Whole processes, ours and theirs in turn: lists {} times each, answers about one {} times \
         and cold {}\ntimes, with the caches dropped before each run; they are dropped once before all \
         others. Figures are medians with \
         what they lie between, ratios those of\nneighbours. Memory is the largest of a process \
         and its children; what a daemon does for its client is in the\nwall time alone. dockerd's data \
         root is where it is by default, and has the state of the rig's containers too.\n",
        rounds.all, rounds.one, rounds.cold
    )
}

fn options(words: &[String]) -> Result<Options> {
    let mut options =
        Options { processes: vec![10_000], quick: false, only: Vec::new(), whose: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--processes" => {
                let numbers = value()?.split(',').map(str::parse);
                options.processes = numbers.collect::<Result<_, _>>().context("--processes")?;
            }
            "--quick" => options.quick = true,
            "--only" => {
                let job = value()?;
                ensure!(JOBS.contains(&job.as_str()), "jobs are {}", JOBS.join(", "));
                options.only.push(job.clone());
            }
            "--whose" => options.whose = Some(PathBuf::from(value()?)),
            other => bail!("bench has no option {other}"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::Hierarchies::{All, V2};
    use super::{Options, options};

    fn typed(text: &str) -> anyhow::Result<Options> {
        options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_is_meant() {
        let plain = typed("").unwrap();
        assert_eq!((plain.processes, plain.quick, plain.whose), (vec![10_000], false, None));
        let some = typed("--processes 1000,30000 --quick --only ps --only exe --whose a").unwrap();
        assert_eq!(some.processes, [1000, 30_000]);
        assert!(some.quick && some.wants("ps") && some.wants("exe") && !some.wants("card"));
        assert_eq!(some.whose, Some("a".into()));
        assert!(typed("").unwrap().wants("card"));
    }

    #[test]
    fn a_host_stands_once_with_all_its_jobs() {
        let hosts = |text| {
            let hosts = typed(text).unwrap().hosts().into_iter();
            hosts
                .map(|h| (h.processes, h.containers, h.hierarchies, h.jobs.len()))
                .collect::<Vec<_>>()
        };
        let lists = |n, c| [(n, c, V2, 1), (n, c, All, 1)];
        assert_eq!(hosts("--processes 100"), [&lists(100, 5)[..], &[(100, 5, V2, 6)]].concat());
        let others = [(100, 5, V2, 1), (1000, 5, V2, 1), (1000, 50, V2, 6)];
        assert_eq!(hosts("--processes 1000"), [&lists(1000, 50)[..], &others].concat());
        assert_eq!(hosts("--processes 1000 --only ps"), [(1000, 50, V2, 1), (1000, 50, All, 1)]);
        assert_eq!(hosts("--processes 10 --only exe --only pids"), [(10, 1, V2, 2)]);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, why) in [
            ("--fast", "bench has no option --fast"),
            ("--only everything", "jobs are ps, card, pids, exe, annotate, disk, growth"),
            ("--processes", "--processes needs a value"),
            ("--processes 1,,2", "--processes"),
        ] {
            assert_eq!(typed(text).unwrap_err().to_string(), why);
        }
    }
}
