//! A PID that changes hands between any two reads of one answer: 1,000 rounds, none mixed.
//!
//! The library's probe is called before every read of a process. In round N the process is replaced
//! by another with the same PID, another name, other arguments and another cgroup, at one of those
//! calls; the answer must be all of one process, or that it is gone.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bstr::ByteSlice;
use whose_core::index::Index;
use whose_core::index::plan::Plan;
use whose_core::model::Row;
use whose_fields::{FieldId, Needs};
use whose_kernel::scan::Source;
use whose_kernel::{Host, Options};
use whose_testkit::cgroup::{CgroupDir, v2_mount};
use whose_testkit::fixture::fake_id;
use whose_testkit::hostile::ReusePid;
use whose_testkit::{procfs, require};

const ROUNDS: usize = 1000;
/// The same for lists, each of which reads all processes.
const LISTS: usize = 200;
/// Processes beside that one: with so many it is worth it to read who is in which cgroup.
const OTHERS: usize = 400;

/// Everything that is read of a process through its directory.
const NEEDS: Needs = Needs::STAT
    .and(Needs::STATUS)
    .and(Needs::CMDLINE)
    .and(Needs::WCHAN)
    .and(Needs::IO)
    .and(Needs::PIDNS)
    .and(Needs::IDMAP)
    .and(Needs::LINKS)
    .and(Needs::OWNER);

/// The process with the PID, and which round's it is.
struct Stage {
    helper: ReusePid,
    pid: u32,
    dirs: [CgroupDir; 2],
    generation: usize,
}

impl Stage {
    fn marker(generation: usize) -> String {
        format!("gen-{generation}")
    }

    fn swap(&mut self) {
        self.generation += 1;
        let dir = self.dirs[self.generation % 2].path();
        let marker = Self::marker(self.generation);
        self.helper.swap(self.pid, &marker, &[dir]).unwrap();
    }
}

/// The generations that the parts of a row belong to.
fn generations(row: &Row, ids: &[String; 2]) -> Vec<usize> {
    let mut seen = Vec::new();
    let of = |text: &[u8]| {
        text.strip_prefix(b"gen-").and_then(|n| n.to_str().ok()?.parse::<usize>().ok())
    };
    seen.extend(of(row.process.comm()));
    let args = row.process.args.known().cloned().unwrap_or_default();
    seen.extend([args.first(), args.get(2)].into_iter().flatten().filter_map(|a| of(a)));
    if let (Some(owner), Some(last)) = (row.owner(), seen.first().copied()) {
        // The cgroup tells only odd from even.
        let at = ids.iter().position(|id| owner.id == *id).expect("one of the two cgroups");
        seen.push(if last % 2 == at { last } else { usize::MAX });
    }
    seen
}

#[test]
fn no_answer_mixes_two_processes() {
    if !require(&["root", "cc"]) {
        return;
    }
    let Some(mount) = v2_mount() else {
        whose_testkit::skip("no_answer_mixes_two_processes", "no cgroup2 is mounted");
        return;
    };
    let ids = [fake_id("reuse-even"), fake_id("reuse-odd")];
    let dirs = ids.each_ref().map(|id| CgroupDir::make(&mount, &format!("docker/{id}")));
    let mut helper = ReusePid::start();
    let pid = procfs::free_pid();
    helper.spawn(pid, &Stage::marker(0), &[dirs[0].path()]).unwrap();
    let stage = Rc::new(RefCell::new(Stage { helper, pid, dirs, generation: 0 }));
    let (calls, at) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(usize::MAX)));
    let probe = {
        let (stage, calls, at) = (Rc::clone(&stage), Rc::clone(&calls), Rc::clone(&at));
        move |asked: u32, _: &str| {
            if asked == pid {
                calls.set(calls.get() + 1);
                if calls.get() == at.get() {
                    stage.borrow_mut().swap();
                }
            }
        }
    };
    let options = Options { probe: Some(Box::new(probe)), ..Options::default() };
    let host = Host::open(options).unwrap();
    // Dry runs tell how many reads there are to come between; a process that runs at that moment may
    // be read of more.
    let dry_run = |_| {
        calls.set(0);
        Index::new(&host).row(pid, NEEDS).unwrap().expect("the first process");
        calls.get()
    };
    let reads = (0..10).map(dry_run).min().expect("ten runs");
    assert!(reads >= 10, "only {reads} reads");
    let (mut whole, mut gone, mut fresh, mut unswapped) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let before = stage.borrow().generation;
        calls.set(0);
        at.set(1 + round % reads);
        let row = Index::new(&host).row(pid, NEEDS).unwrap();
        unswapped += usize::from(stage.borrow().generation == before);
        let Some(row) = row else {
            gone += 1;
            continue;
        };
        let seen = generations(&row, &ids);
        assert!(seen.len() == 4, "round {round}: {seen:?}");
        assert!(seen.iter().all(|g| *g == seen[0]), "round {round}: mixed {seen:?}\n{row:?}");
        whole += 1;
        fresh += usize::from(seen[0] == before + 1);
    }
    eprintln!(
        "{ROUNDS} rounds over {reads} reads: {whole} whole ({fresh} the successor's), {gone} gone, \
         {unswapped} with no swap"
    );
    assert!(unswapped * 50 < ROUNDS, "{unswapped} rounds had fewer than {reads} reads");
    assert!(gone > 0 && fresh > 0, "the swaps did not come between reads");
    at.set(usize::MAX);
}

/// A list of names and owners by /proc, where the name is all that is read of a process in a container:
/// the process is exchanged before its name is read, or while the cgroups are walked.
#[test]
fn no_list_of_names_mixes_two_processes() {
    if !require(&["root", "cc"]) {
        return;
    }
    let Some(mount) = v2_mount() else {
        whose_testkit::skip("no_list_of_names_mixes_two_processes", "no cgroup2 is mounted");
        return;
    };
    let ids = [fake_id("names-even"), fake_id("names-odd")];
    let dirs = ids.each_ref().map(|id| CgroupDir::make(&mount, &format!("docker/{id}")));
    let mut helper = ReusePid::start();
    let pid = procfs::free_pid();
    helper.spawn(pid, &Stage::marker(0), &[dirs[0].path()]).unwrap();
    let others: Vec<_> = (0..OTHERS).map(|_| Sleeper::start()).collect();
    let stage = Rc::new(RefCell::new(Stage { helper, pid, dirs, generation: 0 }));
    let (calls, at, names) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(usize::MAX)), Rc::default());
    let probe = {
        let (stage, calls, at) = (Rc::clone(&stage), Rc::clone(&calls), Rc::clone(&at));
        let (names, ids): (Rc<Cell<usize>>, _) = (Rc::clone(&names), ids.clone());
        move |asked: u32, file: &str| {
            names.set(names.get() + usize::from(asked == pid && file == "comm"));
            if asked == pid || ids.iter().any(|id| file.ends_with(id)) {
                calls.set(calls.get() + 1);
                if calls.get() == at.get() {
                    stage.borrow_mut().swap();
                }
            }
        }
    };
    let source = Source::Proc;
    let options = Options { probe: Some(Box::new(probe)), source, ..Options::default() };
    let host = Host::open(options).unwrap();
    let columns = vec![FieldId::Pid, FieldId::Comm, FieldId::Owner];
    let plan = Plan { columns, ..Plan::default() };
    let list = || {
        calls.set(0);
        let rows = Index::new(&host).scan(&plan).unwrap().rows;
        rows.into_iter().find(|row| row.process.pid == pid)
    };
    let row = list().expect("the first process");
    let reads = calls.get();
    assert!(row.process.name.is_some() && names.get() == 1, "its name was not enough: {row:?}");
    let (mut whole, mut fresh) = (0, 0);
    for round in 0..LISTS {
        let before = stage.borrow().generation;
        at.set(1 + round % reads);
        let Some(row) = list() else { continue };
        let seen = generations(&row, &ids);
        assert!(seen.len() == 2 && seen[0] == seen[1], "round {round}: mixed {seen:?}\n{row:?}");
        whole += 1;
        fresh += usize::from(seen[0] == before + 1);
    }
    at.set(usize::MAX);
    drop(others);
    eprintln!("{LISTS} lists over {reads} reads: {whole} whole ({fresh} the successor's)");
    assert!(names.get() > LISTS / 2 && fresh > 0, "the swaps did not come between reads");
}

/// A process that does nothing until it is dropped.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start() -> Self {
        let mut sleep = std::process::Command::new("sleep");
        Self(sleep.arg("1000").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
