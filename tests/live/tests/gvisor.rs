//! A container that gVisor runs for a real dockerd: the host sees what runs its sandbox, and none of
//! its own processes.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is their report"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &["root", "docker", "runsc", "cgroup-hybrid", "mount-namespace"];

/// No KVM and no network of its own, so that it runs in any machine.
const RUNSC: &str = "#!/bin/sh\nexec runsc --platform=ptrace --network=none \"$@\"\n";

fn gap(told: &Value) -> &Value {
    let gaps = told["gaps"].as_array().unwrap();
    let found = gaps.iter().find(|g| g["what"] == "processes in a sandbox");
    found.unwrap_or_else(|| panic!("{told:#}"))
}

#[test]
fn gvisor_under_docker() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let runsc = dir.path().join("runsc");
    std::fs::write(&runsc, RUNSC).unwrap();
    std::fs::set_permissions(&runsc, PermissionsExt::from_mode(0o755)).unwrap();
    let options = Docker::options(View::Hybrid).runtime("runsc", &runsc);
    let docker = options.start().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let (name, plain) = (unique("gvisor"), unique("beside"));
    let words =
        ["--runtime", "runsc", "--network", "none", "--name", &name, IMAGE, "sleep", "98761"];
    let id = docker.run(&words);
    docker.run(&["--name", &plain, IMAGE, "sleep", "98762"]);
    let inspected = docker.inspect(&name);
    let sentry = docker.init_pid(&name);

    // Nothing on the host is the workload.
    let workload = |pid: &u32| procfs::args(*pid).is_some_and(|a| a.ends_with(&["98761".into()]));
    let inside: Vec<u32> = procfs::pids().into_iter().filter(workload).collect();
    assert!(inside.is_empty(), "{inside:?}");

    let told = answer(&name);
    let owner = &told["owner"];
    let facts = [
        ("kind", json!("container")),
        ("runtime", json!("docker")),
        ("id", json!(id)),
        ("name", json!(name)),
        ("image", json!(IMAGE)),
        ("image_id", inspected["Image"].clone()),
        ("state", json!("running")),
        ("init_pid", json!(sentry)),
    ];
    for (field, expected) in facts {
        assert_eq!(owner[field], expected, "{field} {told:#}");
    }
    let state = format!("{id}_sandbox:{id}.state");
    assert!(gap(&told)["path"].as_str().unwrap().ends_with(&state), "{told:#}");

    let members: BTreeSet<u32> = procfs::pids()
        .into_iter()
        .filter(|pid| procfs::cgroup(*pid).is_some_and(|text| text.contains(&id)))
        .collect();
    assert!(members.len() >= 2 && members.contains(&sentry), "{members:?}");
    let mut roles = Vec::new();
    for pid in &members {
        let told = answer(&pid.to_string());
        assert_eq!(told["owner"]["id"], id.as_str(), "{told:#}");
        gap(&told);
        let gofer = procfs::args(*pid).is_some_and(|a| a[0] == "runsc-gofer");
        let role = if gofer { "plumbing" } else { "sandbox" };
        assert_eq!(told["process"]["role"], role, "{told:#}");
        roles.push(role);
    }
    assert!(roles.contains(&"plumbing") && roles.contains(&"sandbox"), "{roles:?}");

    let pids = whose().args(["pids", &name]).run().expect_code(0);
    let printed: BTreeSet<u32> = pids.stdout_str().lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(printed, members);
    assert!(pids.stderr_str().contains("gVisor runs them"), "{}", pids.story());
    let card = whose().arg(&name).run().expect_code(0).stdout_str();
    assert!(card.contains("its own processes can't be seen from the host"), "{card}");

    // What runc runs beside it is seen as ever.
    let told = answer(&docker.init_pid(&plain).to_string());
    assert_eq!((&told["process"]["role"], &told["gaps"]), (&json!("init"), &json!([])));
    let pids = whose().args(["pids", &plain]).run().expect_code(0);
    assert_eq!(pids.stderr_str(), "", "{}", pids.story());
}
