//! Many processes, and what is asked of one of them costs the same: no host is scanned for that.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test: a panic is its report, stderr its log"
)]

use std::collections::{BTreeMap, BTreeSet};

use whose_live_tests::rows::{listed, same};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, v1_mount, v2_mount};
use whose_testkit::crowd::{Crowd, family};
use whose_testkit::docker::{Docker, IMAGE};
use whose_testkit::fixture::fake_id;
use whose_testkit::janitor::Janitor;
use whose_testkit::{procfs, require};

/// Memory of a process that does nothing, kB, and of a thread.
const PROCESS: u64 = 200;
const THREAD: u64 = 40;
/// Containers, and how many processes each has at first: a name that no engine's usual place knows is
/// sought in the mounts of a few processes of each, which is as many as have to be there from the start.
const CONTAINERS: u64 = 25;
const FEW: u64 = 4;

/// Processes in cgroups as Docker's containers have them; dropped in this order.
struct Many {
    crowd: Crowd,
    dirs: Vec<CgroupDir>,
    janitor: Janitor,
}

impl Many {
    fn start() -> Many {
        Many { crowd: Crowd::start(), dirs: Vec::new(), janitor: Janitor::start() }
    }

    /// One more container.
    fn add(&mut self, words: &str) -> u32 {
        let mount = v2_mount().or_else(|| v1_mount("pids")).expect("a hierarchy");
        let id = fake_id(unique(&format!("flat {}", self.dirs.len())));
        let dir = CgroupDir::make(&mount, &format!("docker/{id}"));
        self.janitor.remove(&dir);
        let leader = self.crowd.make(words, &[&dir]);
        self.dirs.push(dir);
        leader
    }
}

/// What strace adds up, and what the allocator asks for as it likes.
const IGNORED: [&str; 6] = ["total", "brk", "mmap", "munmap", "mremap", "madvise"];

/// How often each system call is made.
type Count = BTreeMap<String, usize>;

/// The system calls of `whose ARGS`, each as often as in the run that made the fewest of it: how often
/// one waits for another is a matter of luck.
fn count(args: &[&str]) -> Count {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("counts");
    let run = |_| -> Count {
        let strace = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o"];
        let whose = whose().via(strace).via([&file]).args(["--timeout", "50"]).args(args);
        drop(whose.run().expect_code(0));
        let text = std::fs::read_to_string(&file).unwrap();
        let number = |line: &str| -> Option<(String, usize)> {
            let (calls, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), calls.parse().ok()?))
        };
        text.lines().filter_map(number).filter(|(name, _)| !IGNORED.contains(&&**name)).collect()
    };
    let mut fewest: Count = run(0);
    for again in (1..5).map(run) {
        fewest.retain(|name, n| {
            *n = (*n).min(again.get(name).copied().unwrap_or(0));
            *n > 0
        });
    }
    fewest
}

#[test]
fn what_is_asked_of_one_costs_the_same() {
    if !require(&["root", "cc", "strace", "docker"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let name = unique("flat-web");
    let id = docker.run(&["--name", &name, IMAGE, "sleep", "10000"]);
    let inside = docker.init_pid(&id).to_string();
    let mut many = Many::start();
    let outside = many.crowd.make("", &[]).to_string();
    let questions: Vec<Vec<&str>> = vec![
        vec![&outside],
        vec![&inside],
        vec!["--json", &inside],
        vec!["--in-container", &inside],
        vec![&name],
        vec![&id[..12]],
        vec!["pids", &name],
        vec!["pids", &id],
        vec!["pids", &inside],
        vec!["exe", &outside],
        vec!["exe", &inside],
        vec!["ps", &name],
    ];
    let all = || -> Vec<Count> { questions.iter().map(|args| count(args)).collect() };
    for _ in 0..CONTAINERS {
        many.add(&format!("count={FEW} ns=pid,mnt"));
    }
    let first = all();
    let room = many.janitor.room(10_000, 0, PROCESS);
    let each = room / CONTAINERS;
    let words = format!("count={each} ns=pid,mnt");
    let leaders: Vec<u32> = many.dirs.iter().map(|dir| many.crowd.make(&words, &[dir])).collect();
    let made = (each + FEW) * CONTAINERS;
    eprintln!("        {made} processes in {CONTAINERS} containers");
    assert!(made >= 5000, "there is room for {room} processes only");
    let then = all();
    let scan = count(&["ps", "--source", "proc", "-q"]).values().sum::<usize>();
    let mut last = then.clone();
    if first != then {
        // Engines of others may have come or gone meanwhile; not if it is as before again.
        leaders.into_iter().for_each(|leader| many.crowd.end(leader));
        last = all();
    }
    let mut cases = Cases::of("flat");
    for (at, args) in questions.iter().enumerate() {
        cases.case(&args.join(" "), || {
            let (first, then, last) = (&first[at], &then[at], &last[at]);
            let total: usize = then.values().sum();
            eprintln!("        {total} system calls");
            let differs = |other: &Count| -> Vec<String> {
                let names: BTreeSet<&String> = other.keys().chain(then.keys()).collect();
                let differing =
                    names.into_iter().filter(|name| other.get(*name) != then.get(*name));
                differing.map(|n| format!("{n}: {:?}, {:?}", other.get(n), then.get(n))).collect()
            };
            let (few, again) = (differs(first), differs(last));
            assert!(
                few.is_empty() || again.is_empty(),
                "few and many, many and few: {few:?}, {again:?}"
            );
        });
    }
    cases.case("a scan costs more", || assert!(scan > usize::try_from(made).unwrap(), "{scan}"));
    cases.finish();
}

#[test]
fn a_hundred_thousand_tasks() {
    if !require(&["root", "kernel-btf", "cc"]) {
        return;
    }
    let _alone = alone();
    let mut many = Many::start();
    let room = many.janitor.room(100_000, 4_194_304, THREAD);
    let (each, threads) = (10, 1000);
    let mut own = BTreeSet::new();
    let mut tasks = 0;
    while tasks + each * threads <= room {
        let leader = many.add(&format!("count={each} threads={threads}"));
        own.extend(family(leader));
        tasks += each * threads;
    }
    eprintln!("        {tasks} tasks of {} processes", own.len());
    assert!(tasks >= 10_000, "there is room for {room} tasks only");
    let mut cases = Cases::of("tasks");
    for columns in ["pid,threads,owner,comm", "pid,cpu_time,io_write,rss,vsz,state"] {
        cases.case(columns, || same(&["ps", "-o", columns], &own));
    }
    cases.case("their threads", || {
        for source in ["proc", "bpf", "auto"] {
            let list = listed(source, &["ps", "-o", "pid,threads"]);
            for pid in &own {
                assert_eq!(list.row(*pid)["process"]["threads"], threads, "{source} {pid}");
            }
        }
    });
    cases.case("PIDs of seven digits", || wide(&mut many));
    cases.finish();
}

/// Processes with the highest numbers that there are, and those where a digit more is needed.
fn wide(many: &mut Many) {
    let highest = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let highest: u32 = highest.trim().parse().unwrap();
    let mut own = BTreeSet::new();
    for begin in [99_990, 999_990, highest - 10] {
        if begin < highest {
            std::fs::write("/proc/sys/kernel/ns_last_pid", begin.to_string()).expect("ns_last_pid");
            own.extend(family(many.add("count=15 ns=pid")));
        }
    }
    let last = own.last().copied().unwrap();
    eprintln!("        from {} to {last}, the highest is {highest}", own.first().unwrap());
    assert!(last > 32_768, "no high PID: {own:?}");
    same(&["ps", "-o", "pid,ppid,owner,comm,inside_pids"], &own);
    for source in ["proc", "bpf"] {
        let run = whose().args(["ps", "--source", source, "-o", "pid,ppid,comm"]).run();
        let text = run.expect_code(0).stdout_str();
        let ends = |line: &str| {
            let line = line.as_bytes();
            let first = line.iter().position(|b| *b != b' ').unwrap();
            first + line[first..].iter().position(|b| *b == b' ').unwrap()
        };
        let wanted = ends(text.lines().next().unwrap());
        let bent: Vec<_> = text.lines().filter(|line| ends(line) != wanted).take(5).collect();
        assert!(bent.is_empty(), "{source}: not under PID: {bent:?}");
    }
    let told = answer(&last.to_string());
    assert_eq!(told["process"]["pid"], last);
    assert_eq!(told["owner"]["kind"], "container");
    assert_eq!(procfs::nspid(last).unwrap()[0], last);
}
