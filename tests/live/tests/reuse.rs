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
use whose_core::model::Row;
use whose_fields::Needs;
use whose_kernel::scan::{Memberships, Names};
use whose_kernel::{Host, Options};
use whose_testkit::cgroup::{CgroupDir, v2_mount};
use whose_testkit::fixture::fake_id;
use whose_testkit::hostile::ReusePid;
use whose_testkit::{procfs, require};

const ROUNDS: usize = 1000;
/// The same where all cgroups are walked.
const LOOKS: usize = 400;

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

/// What a list of names and owners by /proc rests on, where the name is all that is read of a process in a
/// container: the process is exchanged before its name is read, or while the cgroups are walked.
#[test]
fn no_name_is_beside_the_cgroup_of_another() {
    if !require(&["root", "cc"]) {
        return;
    }
    let Some(mount) = v2_mount() else {
        whose_testkit::skip("no_name_is_beside_the_cgroup_of_another", "no cgroup2 is mounted");
        return;
    };
    let ids = [fake_id("names-even"), fake_id("names-odd")];
    let dirs = ids.each_ref().map(|id| CgroupDir::make(&mount, &format!("docker/{id}")));
    let mut helper = ReusePid::start();
    let pid = procfs::free_pid();
    helper.spawn(pid, &Stage::marker(0), &[dirs[0].path()]).unwrap();
    let stage = Rc::new(RefCell::new(Stage { helper, pid, dirs, generation: 0 }));
    let (calls, at) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(usize::MAX)));
    let probe = {
        let (stage, calls, at) = (Rc::clone(&stage), Rc::clone(&calls), Rc::clone(&at));
        let ids = ids.clone();
        move |asked: u32, file: &str| {
            if asked == pid || ids.iter().any(|id| file.ends_with(id)) {
                calls.set(calls.get() + 1);
                if calls.get() == at.get() {
                    stage.borrow_mut().swap();
                }
            }
        }
    };
    let host = Host::open(Options { probe: Some(Box::new(probe)), ..Options::default() }).unwrap();
    // The generation of the name, and which of the two cgroups it is told with.
    let look = || {
        calls.set(0);
        let before = host.listed().unwrap();
        let all = Memberships::within(&host, usize::MAX).expect("every cgroup can be walked");
        let names = Names::read(&host, &before, &mut |other| other == pid);
        let names = names.expect("kernel threads are known");
        let (name, _) = names.of(pid)?;
        let lines = all.of_lasting(pid)?;
        let is_in = |id: &String| lines.iter().any(|l| l.path.ends_with(id.as_bytes()));
        let generation = name.strip_prefix(b"gen-").and_then(|n| n.to_str().ok()?.parse().ok());
        Some((generation.unwrap_or(usize::MAX), ids.iter().position(is_in)))
    };
    assert_eq!(look(), Some((0, Some(0))));
    let reads = calls.get();
    assert!(reads >= 3, "only {reads} reads");
    let mut whole = 0;
    for round in 0..LOOKS {
        // In each second round it is exchanged at no read.
        at.set(if round % 2 == 0 { 1 + (round / 2) % reads } else { usize::MAX });
        let before = stage.borrow().generation;
        let Some((generation, cgroup)) = look() else { continue };
        assert_eq!(Some(generation % 2), cgroup, "round {round}: gen-{generation}");
        assert!(generation >= before, "round {round}: gen-{generation} of {before}");
        whole += 1;
    }
    at.set(usize::MAX);
    eprintln!("{LOOKS} looks over {reads} reads: {whole} told");
    // What was not told for sure is read the usual way.
    assert!(whole >= LOOKS / 4, "only {whole} were told");
    assert!(stage.borrow().generation >= LOOKS / 4, "the swaps did not come");
}
