//! A real dockerd with a container of every kind; answers compared with docker's own.
//!
//! One engine a view of cgroups, many cases each; `WHOSE_CASE=WORD` runs only some.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

mod docker_cases;

use docker_cases::{lookups, plumbing, restore, tables, variants};
use whose_live_tests::lab::{Kind, Lab};
use whose_live_tests::{alone, answer, trace, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::{procfs, require};

const NEEDS: &[&str] =
    &["root", "docker", "cgroup-v2", "mount-namespace", "strace", "sha256sum", "nsenter"];

#[test]
fn docker_on_hybrid_cgroups() {
    if require(NEEDS) && require(&["cgroup-hybrid"]) {
        suite(View::Hybrid);
    }
}

#[test]
fn docker_on_cgroup_v2() {
    if require(NEEDS) {
        suite(View::V2);
    }
}

/// crun makes v1 cgroups only where it sees no cgroup2.
#[test]
fn docker_on_v1_cgroups_with_crun() {
    if !require(NEEDS) || !require(&["cgroup-hybrid", "crun"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::start(View::V1);
    let mut cases = Cases::of("docker-v1");
    for variant in &lab.variants {
        cases.case(variant.what, || variants::steady(&lab, variant));
    }
    cases.case("0:: says nothing", || {
        let crun = lab.variant("crun");
        let text = procfs::cgroup(lab.docker.init_pid(&crun.name)).unwrap_or_default();
        assert!(text.contains(&format!("pids:/docker/{}", crun.id)), "{text}");
        assert!(text.ends_with("0::/\n"), "{text}");
    });
    cases.case("shims", || {
        let shim = lab.shim(lab.variant("crun"));
        let told = answer(&shim.to_string());
        assert_eq!(told["process"]["serves"], lab.variant("crun").id.as_str(), "{told:#}");
    });
    drop(lab);
    cases.finish();
}

fn suite(view: View) {
    let _alone = alone();
    let mut lab = Lab::start(view);
    let mut cases = Cases::of(format!("docker-{}", view.name()));
    for variant in lab.variants.clone() {
        cases.case(variant.what, || match variant.kind {
            Kind::Steady => variants::steady(&lab, &variant),
            Kind::Stopped => variants::stopped(&lab, &variant),
            Kind::Loop => variants::looping(&lab, &variant),
        });
    }
    cases.case("exec", || variants::exec(&lab));
    cases.case("nested-cgroup", || variants::nested_cgroup(&lab));
    cases.case("zombie-process", || variants::zombie(&lab));
    cases.case("docker-compose", || variants::compose(&lab));
    cases.case("shims", || plumbing::shims(&lab));
    cases.case("daemons", || plumbing::daemons(&lab));
    cases.case("prefix-and-id", || lookups::prefix_and_id(&lab));
    cases.case("ambiguous-prefix", || lookups::ambiguous_prefix(&lab));
    cases.case("not-there", lookups::not_there);
    cases.case("odd-names", || lookups::odd_names(&lab));
    cases.case("plain-forms", || lookups::plain_forms(&lab));
    cases.case("in-container", || lookups::in_container(&lab));
    cases.case("ordinary-user", || lookups::ordinary_user(&lab));
    cases.case("mount-namespace", || lookups::in_the_engines_mount_namespace(&lab));
    cases.case("ps-rows", || tables::rows(&lab));
    cases.case("ps-filters", || tables::filters(&lab));
    cases.case("ps-formats", || tables::formats(&lab));
    traces(&mut cases, &lab);
    // The last: there is no daemon afterwards.
    cases.case("live-restore", || restore::killed_daemon(&mut lab));
    drop(lab);
    cases.finish();
}

/// Every subcommand under strace, on the live host.
fn traces(cases: &mut Cases, lab: &Lab) {
    let web = lab.variant("plain").name.clone();
    let pid = lab.docker.init_pid(&web).to_string();
    let (web, pid) = (web.as_str(), pid.as_str());
    let commands: &[(&[&str], i32)] = &[
        (&[pid], 0),
        (&[web], 0),
        (&["--json", pid, web], 0),
        (&["--why", pid], 0),
        (&["--format", "ndjson", pid], 0),
        (&["--format", "csv", pid], 0),
        (&["-o", "pid,owner", pid], 0),
        (&["-q", web], 0),
        (&["--in-container", pid], 0),
        (&["ps"], 0),
        (&["ps", "--json"], 0),
        (&["ps", "-c", web], 0),
        (&["ps", "--sort", "-rss", "--containers-only"], 0),
        (&["pids", web], 0),
        (&["--help"], 0),
        (&["whose-no-such-container"], 1),
    ];
    for (args, code) in commands {
        cases.case(&format!("strace: whose {}", args.join(" ")), || {
            trace::only_examines(args, &[*code], None)
        });
    }
}

/// Two engines may each have a container of one name.
#[test]
fn a_name_in_two_engines_is_ambiguous() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let view = if require_hybrid() { View::Hybrid } else { View::V2 };
    let name = unique("twin");
    let engines = [0, 1].map(|_| Docker::options(view).start().unwrap_or_else(|e| panic!("{e}")));
    let ids = engines.each_ref().map(|docker| {
        docker.image();
        docker.run(&["--name", &name, IMAGE, "sleep", "10000"])
    });
    for (docker, id) in engines.iter().zip(&ids) {
        let by_pid = answer(&docker.init_pid(&name).to_string());
        assert_eq!(by_pid["owner"]["id"], id.as_str(), "{by_pid:#}");
        assert_eq!(by_pid["owner"]["name"], name.as_str(), "{by_pid:#}");
        let by_id = answer(id);
        let log = by_id["owner"]["log"].as_str().unwrap_or_default();
        assert!(log.starts_with(docker.data_root().to_str().unwrap()), "{by_id:#}");
    }
    let run = whose().args(["--json", &name]).run().expect_code(4);
    let told = run.json()["answers"][0].clone();
    assert_eq!(told["status"], "ambiguous", "{told:#}");
    let candidates: Vec<_> = told["candidates"].as_array().unwrap().clone();
    assert_eq!(candidates.len(), 2, "{told:#}");
    let mut found: Vec<_> = candidates
        .iter()
        .map(|c| answer(c.as_str().unwrap())["owner"]["id"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut wanted = ids.to_vec();
    wanted.sort();
    assert_eq!(found, wanted, "each candidate resolves to exactly one");
    let run = whose().args(["pids", &name]).run().expect_code(4);
    assert!(run.stdout.is_empty(), "{}", run.story());
}

fn require_hybrid() -> bool {
    whose_testkit::Needs("cgroup-hybrid").missing().is_none()
}
