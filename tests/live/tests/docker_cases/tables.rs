//! `whose ps` about the containers of the lab.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use whose_live_tests::lab::{Kind, Lab};
use whose_live_tests::{pid_of, whose};
use whose_testkit::facts::Facts;

fn by_pid(json: &Value) -> BTreeMap<u32, Value> {
    let rows = json["rows"].as_array().cloned().unwrap_or_default();
    rows.into_iter().filter_map(|r| Some((pid_of(&r["process"]["pid"])?, r))).collect()
}

/// Every process of every container has its row, with that owner.
pub(crate) fn rows(lab: &Lab) {
    let json = whose()
        .args(["ps", "-o", "pid,ppid,role,owner,comm", "--json"])
        .run()
        .expect_code(0)
        .json();
    assert_eq!(json["schema"], "whose/1");
    let rows = by_pid(&json);
    let mut facts = Facts::about("ps");
    for variant in lab.of_kind(Kind::Steady) {
        for pid in lab.pids(variant) {
            let row = rows.get(&pid).cloned().unwrap_or_default();
            let owner = &row["owner"];
            facts.same(variant.what, owner["id"].as_str(), Some(variant.id.as_str()));
            facts.same(variant.what, owner["name"].as_str(), Some(variant.name.as_str()));
            facts.same(variant.what, owner["kind"].as_str(), Some("container"));
        }
        let shim = lab.shim(variant);
        let row = rows.get(&shim).cloned().unwrap_or_default();
        facts.same("the shim's role", row["process"]["role"].as_str(), Some("plumbing"));
        facts.holds("the shim's owner", row["owner"]["kind"] != "container", &row["owner"]);
    }
    let me = rows.get(&std::process::id()).cloned().unwrap_or_default();
    facts.same("this test", pid_of(&me["process"]["pid"]), Some(std::process::id()));
    facts.holds("and no kernel threads", rows.keys().all(|pid| *pid != 2), "pid 2 is listed");
    facts.finish(600);
}

fn listed(args: &[&str]) -> BTreeSet<u32> {
    let json = whose().arg("ps").args(args).args(["-o", "pid,owner", "--json"]).run();
    by_pid(&json.expect_code(0).json()).into_keys().collect()
}

pub(crate) fn filters(lab: &Lab) {
    let mut facts = Facts::about("ps filters");
    let steady: Vec<_> = lab.of_kind(Kind::Steady).collect();
    for variant in &steady {
        let wanted = lab.pids(variant);
        let target = Lab::target(variant);
        if target == variant.name {
            facts.same(variant.what, listed(&["-c", &target]), wanted.clone());
            facts.same(variant.what, listed(&[&target]), wanted);
        }
    }
    let all: BTreeSet<u32> = steady.iter().flat_map(|v| lab.pids(v)).collect();
    let contained = listed(&["--containers-only"]);
    let host = listed(&["--host-only"]);
    facts.same("all are in containers", all.difference(&contained).next(), None);
    facts.same("none is the host's", all.intersection(&host).next(), None);
    facts.same("nothing is both", contained.intersection(&host).next(), None);
    facts.holds(
        "this test is the host's, or in none of them",
        !all.contains(&std::process::id()),
        (),
    );
    let user = listed(&["-u", "1000"]);
    let users = lab.pids(lab.variant("user"));
    facts.same("-u", users.difference(&user).next(), None);
    facts.finish(25);
}

pub(crate) fn formats(lab: &Lab) {
    let many = lab.variant("many");
    let wanted = lab.pids(many);
    let run = whose().args(["ps", "-q", "-c", &many.name]).run().expect_code(0);
    assert_eq!(BTreeSet::from_iter(run.pids()), wanted);
    let lines = whose()
        .args(["ps", "-c", &many.name, "-o", "pid,owner", "--format", "ndjson"])
        .run()
        .expect_code(0)
        .ndjson();
    assert_eq!(lines[0]["schema"], "whose/1");
    let rows = lines.iter().filter_map(|l| pid_of(&l["process"]["pid"]));
    assert_eq!(rows.collect::<BTreeSet<_>>(), wanted);
    let run = whose().args(["ps", "-c", &many.name, "-o", "pid,owner", "--format", "csv"]).run();
    let csv = run.expect_code(0).stdout_str();
    assert_eq!(csv.lines().count(), wanted.len() + 1, "{csv}");
    let run = whose()
        .args(["ps", "-c", &many.name, "-o", "pid,owner", "--no-headers", "--sort", "pid"])
        .run();
    let table = run.expect_code(0).stdout_str();
    let first = table.lines().filter_map(|l| l.split_ascii_whitespace().next()?.parse().ok());
    assert_eq!(first.collect::<Vec<u32>>(), Vec::from_iter(wanted), "{table}");
    assert!(table.lines().all(|l| l.contains(&many.name)), "{table}");
}
