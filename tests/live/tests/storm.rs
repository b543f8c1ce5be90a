//! Lists made while thousands of processes come and go, in recycled PIDs too: no row is about two of
//! them, and nobody who was there all the time is missing.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use whose_live_tests::rows::{Listed, of};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, mounts};
use whose_testkit::crowd::{Crowd, family};
use whose_testkit::fixture::fake_id;
use whose_testkit::harness::Run;
use whose_testkit::janitor::Janitor;
use whose_testkit::{procfs, require};

/// How long it blows for each source.
const BLOWS: Duration = Duration::from_secs(10);
/// Processes a second of each of the two kinds.
const RATE: u32 = 1000;
/// One of these at a time: what is read, and how, depends on the columns.
const COLUMNS: &[&str] = &[
    "pid,ppid,user,uid,state,nice,comm,owner,cgroup,args,start_ticks",
    "pid,comm,owner",
    "pid,user,state,rss,elapsed,owner,args",
    "pid,uid,comm,cpu_time,io_read,role,kind,id,cgroup,ppid",
    "pid,comm,args",
    "pid,uid,pidns,inside_uid,inside_pids,comm,owner",
    "pid,comm,nice,wchan,cgroup",
];

/// One of the two kinds of short-lived processes; all that can be told of one tells which it is.
#[derive(Debug)]
struct Kind {
    /// The second letter of its mark.
    letter: char,
    id: String,
    uid: u32,
    nice: i32,
    /// The parent of all.
    leader: u32,
    dirs: Vec<CgroupDir>,
}

/// The storm, and those who outlive it.
struct Weather {
    crowd: Crowd,
    kinds: Vec<Kind>,
    /// In a container or outside, asleep.
    staying: BTreeMap<u32, Option<String>>,
    _janitor: Janitor,
}

impl Weather {
    fn start() -> Weather {
        let mut crowd = Crowd::start();
        let mut janitor = Janitor::start();
        let mut staying = BTreeMap::new();
        let mut kinds = Vec::new();
        for (letter, uid, nice) in [('a', 2001, 3), ('b', 2002, 5)] {
            let id = fake_id(unique(&format!("storm {letter}")));
            let dirs: Vec<CgroupDir> =
                mounts().iter().map(|m| CgroupDir::make(m, &format!("docker/{id}"))).collect();
            dirs.iter().for_each(|dir| janitor.remove(dir));
            let own: Vec<&CgroupDir> = dirs.iter().collect();
            let inside = crowd.make("count=10 ns=pid", &own);
            staying.extend(family(inside).into_iter().map(|pid| (pid, Some(id.clone()))));
            kinds.push(Kind { letter, id, uid, nice, leader: 0, dirs });
        }
        let outside = crowd.make("count=10", &[]);
        staying.extend(family(outside).into_iter().map(|pid| (pid, None)));
        Weather { crowd, kinds, staying, _janitor: janitor }
    }

    fn begin(&mut self) {
        let pool = procfs::free_pid();
        for Kind { letter, uid, nice, leader, dirs, .. } in &mut self.kinds {
            let words = format!("mark={letter} uid={uid} nice={nice} rate={RATE} pool={pool}");
            *leader = self.crowd.storm(&words, &dirs.iter().collect::<Vec<_>>());
        }
    }

    /// The letters of the kinds that a row tells of.
    fn told(&self, row: &Map<String, Value>) -> BTreeMap<&'static str, char> {
        let process = &row["process"];
        let mut told = BTreeMap::new();
        let comm = process["comm"].as_str().and_then(mark);
        let args = process["args"][1].as_str().and_then(mark);
        if let Some((letter, _)) = comm {
            told.insert("comm", letter);
        }
        if let Some((letter, _)) = args {
            told.insert("args", letter);
        }
        if let (Some((_, one)), Some((_, two))) = (comm, args) {
            // Zero is the parent's, which a new process has until it has its own.
            assert!(one == two || one == 0 || two == 0, "two processes in one row: {row:#?}");
        }
        let owner = row.get("owner").map(Value::to_string).unwrap_or_default();
        let cgroup = process["cgroup"].as_str().unwrap_or_default();
        for kind in &self.kinds {
            let mut says = |what, says: bool| {
                if says {
                    told.insert(what, kind.letter);
                }
            };
            says("uid", process["uid"] == kind.uid);
            says("ppid", process["ppid"] == kind.leader);
            says("cgroup", cgroup.contains(&kind.id));
            says("owner", owner.contains(&kind.id));
        }
        told
    }

    /// Judges one list; how many rows are about short-lived processes.
    fn judge(&self, list: &Listed) -> usize {
        let mut passing = 0;
        for (pid, row) in &list.rows {
            if self.staying.contains_key(pid) {
                continue;
            }
            let told = self.told(row);
            let letters: BTreeSet<&char> = told.values().collect();
            assert!(letters.len() <= 1, "two kinds in one row: {told:?} {row:#?}");
            // Whoever has a mark of his own has the nice value of his kind.
            let nice = row["process"]["nice"].as_i64();
            let kind = self.kinds.iter().find(|kind| letters.contains(&kind.letter));
            if let (Some(kind), Some(nice), Some(_)) = (kind, nice, told.get("comm")) {
                assert_eq!(nice, i64::from(kind.nice), "{row:#?}");
            }
            passing += usize::from(kind.is_some());
        }
        for (pid, id) in &self.staying {
            let row = list.row(*pid);
            if let (Some(owner), Some(id)) = (row.get("owner"), id) {
                assert_eq!(owner["id"], **id, "{row:#?}");
            }
            let args = &row["process"]["args"];
            assert!(args.is_null() || args[1] == "room-for-a-mark", "{row:#?}");
        }
        passing
    }
}

/// What is missing, without numbers: `container description (gone`. Whoever comes and goes is missing
/// nowhere.
fn missing(run: &Run) -> BTreeSet<String> {
    let text = run.stderr_str();
    let list = text.trim_end().split_once("not read: ").map_or(&*text, |(_, list)| list);
    let list = list.split(';').next().unwrap_or_default();
    let each = list.split("), ").filter(|item| !item.is_empty());
    each.map(|item| item.rsplit_once(", ").map_or(item, |(what, _)| what).to_owned()).collect()
}

/// The letter and the number of a mark.
fn mark(text: &str) -> Option<(char, u64)> {
    let mut rest = text.strip_prefix('q')?.chars();
    let letter = rest.next()?;
    Some((letter, rest.as_str().parse().ok()?))
}

#[test]
fn no_row_is_about_two_processes() {
    if !require(&["root", "kernel-btf", "cc"]) {
        return;
    }
    let _alone = alone();
    let mut weather = Weather::start();
    // The containers are none of an engine's, and others on this machine may lack something too.
    let calm = COLUMNS.iter().map(|columns| whose().args(["ps", "-o", columns]).run());
    let calm = calm.chain([whose().arg("ls").run()]);
    let calm: BTreeSet<String> = calm.flat_map(|run| missing(&run.expect_code(0))).collect();
    weather.begin();
    let mut cases = Cases::of("storm");
    for source in ["proc", "bpf"] {
        cases.case(source, || blow(&mut weather, source, &calm));
    }
    cases.finish();
}

fn blow(weather: &mut Weather, source: &str, calm: &BTreeSet<String>) {
    let before = weather.crowd.storms();
    let begun = Instant::now();
    let mut lists = 0;
    let mut passing = 0;
    while begun.elapsed() < BLOWS || lists < 2 * COLUMNS.len() {
        let columns = COLUMNS[lists % COLUMNS.len()];
        let run = whose().args(["ps", "--json", "-o", columns, "--source", source]).run();
        let more: Vec<String> = missing(&run).difference(calm).cloned().collect();
        let list = of(run);
        let lacks = |row: &&Map<String, Value>| row.get("owner").is_some_and(Value::is_null);
        assert!(more.is_empty(), "{more:?}: {:#?}", list.rows.values().find(lacks));
        passing += weather.judge(&list);
        lists += 1;
        // A table, and the containers, have to be whole as well.
        if lists % COLUMNS.len() == 0 {
            for words in ["ps", "ls"] {
                let run = whose().args([words, "--source", source]).run().expect_code(0);
                let more: Vec<String> = missing(&run).difference(calm).cloned().collect();
                assert!(more.is_empty(), "{words}: {more:?}\n{}", run.stderr_str());
            }
        }
    }
    let made = weather.crowd.storms() - before;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "        {made} processes in {seconds:.1} s, {lists} lists with {passing} rows about them"
    );
    for kind in &weather.kinds {
        assert!(procfs::alive(kind.leader), "the storm has died down");
    }
    // How many there are is the machine's affair; that there are many is what makes it a test.
    assert!(made > 2000, "only {made} processes");
    assert!(passing > lists, "only {passing} rows");
}

/// A thread that executes a program gets the PID of the process, and the main thread is gone: for a
/// moment it lies there as a zombie.
#[test]
fn whoever_becomes_another_program_is_in_every_list() {
    if !require(&["root", "kernel-btf", "cc"]) {
        return;
    }
    let _alone = alone();
    let mut crowd = Crowd::start();
    let mut janitor = Janitor::start();
    let id = fake_id(unique("storm change"));
    let dirs: Vec<CgroupDir> =
        mounts().iter().map(|m| CgroupDir::make(m, &format!("docker/{id}"))).collect();
    dirs.iter().for_each(|dir| janitor.remove(dir));
    let inside: Vec<&CgroupDir> = dirs.iter().collect();
    let changing: BTreeMap<u32, bool> =
        (0..6).map(|n| (crowd.change(if n < 3 { &inside } else { &[] }), n < 3)).collect();
    let ticks: BTreeMap<u32, Option<u64>> =
        changing.keys().map(|pid| (*pid, procfs::start_ticks(*pid))).collect();
    let mut cases = Cases::of("change");
    for source in ["proc", "bpf"] {
        cases.case(source, || {
            let mut dead = 0;
            for turn in 0..30 {
                let columns = [
                    "pid,comm,start_ticks,state,owner",
                    "pid,comm,start_ticks,args",
                    "pid,start_ticks,uid,rss,cpu_time,io_read,inside_pids,owner,comm",
                ][turn % 3];
                let list =
                    of(whose().args(["ps", "--json", "--source", source, "-o", columns]).run());
                for (pid, is_inside) in &changing {
                    let row = list.row(*pid);
                    let process = &row["process"];
                    let comm = process["comm"].as_str().unwrap();
                    assert!(["changes-always-", "crowd"].contains(&comm), "another: {row:#?}");
                    assert_eq!(process["start_ticks"].as_u64(), ticks[pid], "{row:#?}");
                    let args = process["args"].as_array().filter(|args| !args.is_empty());
                    assert!(args.is_none_or(|args| args[1] == "changes-always-"), "{row:#?}");
                    let Some(owner) = row.get("owner") else { continue };
                    dead += usize::from(owner.is_null());
                    match (is_inside, owner["kind"].as_str()) {
                        (_, None) => {} // v1 tells nothing of a zombie
                        (true, Some(_)) => assert_eq!(owner["id"], *id, "{row:#?}"),
                        (false, Some(kind)) => assert_eq!(kind, "host", "{row:#?}"),
                    }
                }
            }
            eprintln!("        {dead} rows about a dead main thread");
        });
    }
    cases.finish();
    drop(crowd);
}
