//! `whose tree` against the parents that /proc tells, on this host and of a real engine's containers.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::{alone, pid_of, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, require};

/// A process in a tree: the process above it, and the owner row that both are below.
#[derive(Debug)]
struct Place {
    above: Option<u32>,
    owner: Value,
    start_ticks: u64,
}

fn places(document: &Value) -> BTreeMap<u32, Place> {
    let mut found = BTreeMap::new();
    let rows = document["rows"].as_array().unwrap();
    let mut stack: Vec<(&Value, Option<u32>, &Value)> =
        rows.iter().map(|row| (row, None, &Value::Null)).collect();
    while let Some((row, above, owner)) = stack.pop() {
        let pid = pid_of(&row["process"]["pid"]);
        let owner = if pid.is_some() { owner } else { &row["owner"] };
        if let Some(pid) = pid {
            assert_eq!(&row["owner"], owner, "{pid}");
            let start_ticks = row["process"]["start_ticks"].as_u64().unwrap();
            let place = Place { above, owner: owner.clone(), start_ticks };
            assert!(found.insert(pid, place).is_none(), "{pid} twice");
        }
        stack.extend(row["children"].as_array().unwrap().iter().map(|row| (row, pid, owner)));
    }
    found
}

/// What /proc tells of all processes.
fn parents() -> BTreeMap<u32, (u64, u32)> {
    let fact = |pid: u32| Some((pid, (procfs::start_ticks(pid)?, procfs::ppid(pid)?)));
    procfs::pids().into_iter().filter_map(fact).collect()
}

/// Those of a tree that were there, with the same parent, before and after it was asked for.
fn steady(before: &BTreeMap<u32, (u64, u32)>) -> BTreeMap<u32, u32> {
    let after = parents();
    let same = before.iter().filter(|(pid, fact)| after.get(pid) == Some(fact));
    same.map(|(pid, (_, ppid))| (*pid, *ppid)).collect()
}

fn told(args: &[&str]) -> BTreeMap<u32, Place> {
    let run = whose().args(["tree", "--json", "-o", "pid"]).args(args).run().expect_code(0);
    places(&run.json())
}

fn pids(told: &BTreeMap<u32, Place>) -> BTreeSet<u32> {
    told.keys().copied().collect()
}

fn compare(facts: &mut Facts, told: &BTreeMap<u32, Place>, steady: &BTreeMap<u32, u32>) {
    for (pid, ppid) in steady {
        let Some(place) = told.get(pid) else { continue };
        let parent = told.get(ppid).filter(|parent| {
            parent.owner == place.owner && parent.start_ticks <= place.start_ticks
        });
        facts.same(&format!("parent of {pid}"), place.above, parent.map(|_| *ppid));
    }
}

#[test]
fn the_running_host() {
    if !require(&["root", "strace"]) {
        return;
    }
    let before = parents();
    let all = told(&["-k"]);
    let steady = steady(&before);
    let mut facts = Facts::about("tree -k");
    let missing: Vec<&u32> = steady.keys().filter(|pid| !all.contains_key(*pid)).collect();
    facts.holds("every process", missing.is_empty(), &missing);
    compare(&mut facts, &all, &steady);
    facts.finish(steady.len());
    let me = std::process::id();
    let mine = told(&[&me.to_string()]);
    assert!(mine.contains_key(&me) && mine.len() < all.len(), "{mine:?}");
    let mut cases = Cases::of("tree-host");
    cases.case("strace: whose tree", || trace::only_reads(&["tree"], 0));
    cases.finish();
}

#[test]
fn containers_of_an_engine() {
    let needs = ["root", "docker", "cgroup-v2", "mount-namespace", "strace"];
    if !require(&needs) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let (web, db) = (unique("web"), unique("db"));
    let script = "sh -c 'sleep 10002 & exec sleep 10001' & exec sleep 10000";
    docker.run(&["--name", &web, IMAGE, "sh", "-c", script]);
    docker.run(&["--name", &db, IMAGE, "sleep", "10000"]);
    docker.cli(&["exec", "-d", &web, "sleep", "20001"]);
    procfs::wait_for("all processes", Duration::from_secs(20), || {
        let pids = docker.top_pids(&web);
        let ready = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "sleep");
        (pids.len() == 4 && pids.iter().all(ready)).then_some(())
    });
    let mut cases = Cases::of("tree-docker");
    cases.case("a container", || {
        let before = parents();
        let tree = told(&[&web]);
        let mut facts = Facts::about("tree of a container");
        facts.same("its processes", pids(&tree), docker.top_pids(&web));
        compare(&mut facts, &tree, &steady(&before));
        let roots = tree.values().filter(|place| place.above.is_none()).count();
        facts.same("init, and what was exec'd", roots, 2);
        for place in tree.values() {
            facts.same("owner", place.owner["name"].as_str(), Some(web.as_str()));
        }
        facts.finish(8);
    });
    cases.case("what an engine's shim started", || {
        let shim = procfs::ppid(docker.init_pid(&web)).expect("init has a parent");
        let tree = told(&[&shim.to_string()]);
        let mut facts = Facts::about("tree of a shim");
        let mut wanted = docker.top_pids(&web);
        wanted.insert(shim);
        facts.same("processes", pids(&tree), wanted);
        facts.holds("another owner", tree[&shim].owner["name"] != web.as_str(), &tree);
        facts.finish(2);
    });
    cases.case("both below their owners", || {
        let text = whose().args(["tree", &web, &db, "-o", "pid,comm", "--no-headers"]).run();
        let text = text.expect_code(0).stdout_str();
        let heads: Vec<&str> = text.lines().filter(|l| l.contains("   docker   ")).collect();
        assert_eq!(heads.len(), 2, "{text}");
        assert!(heads[0].trim_start().starts_with(&db) && heads[1].contains(&web), "{text}");
        assert_eq!(text.lines().count(), 7, "{text}");
    });
    cases.case("strace: whose tree", || trace::only_reads(&["tree", &web], 0));
    drop(docker);
    cases.finish();
}
