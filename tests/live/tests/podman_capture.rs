//! `whose capture` of hosts with Podman: a capture answers as the live host did, of root's containers in a
//! pod and of a user's that no cgroup names.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use whose_live_tests::podman::{IMAGE, NEEDS, sleeping, start};
use whose_live_tests::replay::{Capture, keep};
use whose_live_tests::{alone, unique};
use whose_testkit::facts::Facts;
use whose_testkit::podman::Podman;
use whose_testkit::{procfs, require};

/// The command lines whose answers are compared, about one container and one of its processes.
fn about<'a>(name: &'a str, id: &'a str, pid: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["--json", name],
        vec!["--json", id],
        vec!["--json", &id[..12]],
        vec!["--json", pid],
        vec!["--json", "--why", pid],
        vec!["-q", pid],
        vec!["--in-container", pid],
        vec!["pids", name],
        vec!["exe", "--json", pid],
        vec!["ps", "--json", "-o", "pid,ppid,user,comm,args,state,owner,image,chain,role", name],
        vec!["-o", "pid,owner,runtime,image", "--no-headers", name],
    ]
}

/// Compares what a capture of the whole host says of these containers, and of the monitor of each.
fn compare(podman: &Podman, names: &[&str]) -> usize {
    let capture = Capture::of(&[], None, 0);
    let mut facts = Facts::about("a capture with podman");
    for name in names {
        let inspected = podman.inspect(name);
        let id = inspected["Id"].as_str().unwrap();
        let init = podman.init_pid(name);
        let pid = init.to_string();
        for args in about(name, id, &pid) {
            capture.compare(&mut facts, &args);
        }
        let monitor = procfs::ppid(init).unwrap().to_string();
        capture.compare(&mut facts, &["--json", &monitor]);
        let told = capture.ask(&["--json", &monitor]).expect_code(0).json();
        let process = &told["answers"][0]["process"];
        facts.same("role of its monitor", process["role"].as_str(), Some("plumbing"));
        facts.same("its monitor serves", process["serves"].as_str(), Some(id));
    }
    capture.compare_part(&mut facts, &[&["ls", "-a", "--json"][..], names].concat(), "/containers");
    facts.finish(150)
}

#[test]
fn roots_podman_captured() {
    if !require(&[NEEDS, &["catatonit"]].concat()) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options());
    let (web, pod, inside) = (unique("web"), unique("pod"), unique("inpod"));
    let words = ["--label", "tier=front", "--env", "PASSWORD=hunter2"];
    let sleep = [IMAGE, "/bin/busybox", "sleep"];
    podman.run(&[&["--name", &web][..], &words, &sleep, &["97401"]].concat());
    podman.cli(&["pod", "create", "--name", &pod, "--network", "none"]);
    let in_pod = ["run", "-d", "--pod", &pod, "--name", &inside];
    podman.cli(&[&in_pod[..], &sleep, &["97402"]].concat());
    podman.cli(&["exec", "-d", &web, "/bin/busybox", "sleep", "97403"]);
    let exec = sleeping("97403");
    let compared = compare(&podman, &[&web, &inside]);
    eprintln!("{compared} facts of a capture with root's podman");
    let pids = [podman.init_pid(&web), exec, podman.init_pid(&inside)].map(|pid| pid.to_string());
    keep(&pids.each_ref().map(String::as_str), "debian-12-podman-hybrid");
}

#[test]
fn a_users_podman_captured() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options().rootless().driver("vfs"));
    let name = unique("mine");
    podman.run(&["--name", &name, "--label", "a=b", IMAGE, "/bin/busybox", "sleep", "97411"]);
    let compared = compare(&podman, &[&name]);
    eprintln!("{compared} facts of a capture with a user's podman");
    let init = podman.init_pid(&name);
    let capture = Capture::of(&[&init.to_string()], None, 0);
    let told = capture.ask(&["--json", &init.to_string()]).expect_code(0).json();
    let owner = &told["answers"][0]["owner"];
    assert_eq!(owner["user"], podman.user().unwrap().name(), "{told:#}");
    assert_eq!(owner["name"], name.as_str(), "{told:#}");
}
