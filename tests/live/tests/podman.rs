//! A real podman: of root, with a pod and an exec, and of an ordinary user; answers compared with
//! `podman inspect`. Nothing of podman runs beside its containers.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::chown;

use serde_json::{Value, json};
use whose_live_tests::podman::{Asking, IMAGE, NEEDS, listed, sleeping, start};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::podman::Podman;
use whose_testkit::require;
use whose_testkit::sqlite::{self, Cell, Entry};

/// All that is said of a container, to root: by its name, by its id, by its init.
fn check(podman: &Podman, name: &str, label: &str) -> usize {
    Asking::root(&[name], label).check(podman, &podman.inspect(name))
}

fn pids(target: &str) -> BTreeSet<u32> {
    Asking::root(&[], "").pids(target)
}

fn all() -> Vec<Value> {
    listed(&whose())
}

#[test]
fn of_root_with_a_pod_and_an_exec() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options());
    let (web, pod, inside) = (unique("web"), unique("pod"), unique("inpod"));
    let words = ["--label", "tier=front", "--label", "odd=\u{e9} =,x", "--env", "PASS=secret"];
    let sleep = |seconds: &'static str| [IMAGE, "/bin/busybox", "sleep", seconds];
    podman.run(&[&["--name", &web][..], &words, &sleep("97001")].concat());
    podman.cli(&["pod", "create", "--name", &pod, "--network", "none"]);
    let in_pod = ["run", "-d", "--pod", &pod, "--name", &inside];
    podman.cli(&[&in_pod[..], &sleep("97002")].concat());
    podman.cli(&[&["exec", "-d", &web][..], &sleep("97003")[1..]].concat());
    let infra = podman.cli(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod]);
    let infra = podman.inspect(&infra)["Name"].as_str().unwrap().to_owned();

    let mut compared = 0;
    for name in [&web, &inside, &infra] {
        compared += check(&podman, name, name);
    }
    assert!(compared >= 60, "{compared}");
    eprintln!("{compared} facts of three containers of root's podman");

    // What was exec'd is in the container, below a monitor of its own.
    let exec = sleeping("97003");
    let told = answer(&exec.to_string());
    assert_eq!(told["owner"]["name"], web.as_str(), "{told:#}");
    assert_eq!(told["process"]["role"], "exec", "{told:#}");
    assert_eq!(pids(&web), BTreeSet::from([podman.init_pid(&web), exec]));
    // The chain has the pod with its name.
    let told = answer(&podman.init_pid(&inside).to_string());
    let chain = told["chain"].as_array().unwrap();
    let of_pod = chain.iter().find(|o| o["kind"] == "pod").unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((&of_pod["name"], &of_pod["id"]), (&json!(pod), &told["owner"]["pod"]["uid"]));
    // Stopped, it is known from the files alone.
    podman.cli(&["stop", "-t", "0", &web]);
    let told = answer(&web);
    assert_eq!(told["owner"]["state"], "exited", "{told:#}");
    let names: Vec<Value> = all().into_iter().map(|o| o["name"].clone()).collect();
    for name in [&web, &inside, &infra] {
        assert_eq!(names.iter().filter(|n| *n == name.as_str()).count(), 1, "{name} {names:?}");
    }
}

#[test]
fn of_a_user_who_cannot_speak_for_others() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let root = start(Podman::options());
    let victim = unique("victim");
    let id = root.run(&["--name", &victim, IMAGE, "/bin/busybox", "sleep", "97011"]);
    let podman = start(Podman::options().rootless().driver("vfs"));
    let user = podman.user().unwrap();
    let web = unique("web");
    podman.run(&["--name", &web, "--label", "a=b", IMAGE, "/bin/busybox", "sleep", "97012"]);
    let label = format!("{}@{web}", user.name());
    let compared = check(&podman, &web, &label);
    assert!(compared >= 20, "{compared}");
    eprintln!("{compared} facts of a container of a user's podman");
    let init = podman.init_pid(&web);
    assert_eq!(pids(&web), BTreeSet::from([init]));
    let mine = all().into_iter().find(|o| o["name"] == web.as_str()).unwrap();
    assert_eq!((&mine["user"], &mine["pids"]), (&json!(user.name()), &json!([init])));

    // A database of the user's own that claims root's container, its PID and its cgroup.
    let evil = json!({"id": id, "name": "evil", "rootfsImageName": "evil:1", "cgroupManager":
        "cgroupfs", "cgroupsMode": "enabled", "cgroupParent": "/libpod_parent"});
    let pid = root.init_pid(&victim);
    let state = json!({"state": 3, "pid": pid, "startedTime": "2026-01-02T03:04:05Z"});
    let text = |value: &str| Cell::Text(value.to_owned());
    let row = [text(&id), text("evil"), Cell::Null, text(&evil.to_string())];
    let config = Entry::table("ContainerConfig", "ID, Name, PodID, JSON").row(row);
    let row = [text(&id), Cell::Int(3), Cell::Null, text(&state.to_string())];
    let state = Entry::table("ContainerState", "ID, State, ExitCode, JSON").row(row);
    let file = podman.graph_root().join("db.sql");
    std::fs::write(&file, sqlite::file(&[config, state], sqlite::Layout::default())).unwrap();
    chown(&file, Some(user.uid()), None).unwrap();
    for target in [pid.to_string(), id.clone()] {
        let told = answer(&target);
        let owner = &told["owner"];
        assert_eq!((&owner["name"], &owner["user"]), (&json!(victim), &Value::Null), "{told:#}");
    }
    assert_eq!(pids(&id), BTreeSet::from([pid]));
    let claimed: Vec<Value> = all().into_iter().filter(|o| o["id"] == id.as_str()).collect();
    let with_pids: Vec<&Value> = claimed.iter().filter(|o| o["pids"] != json!([])).collect();
    assert!(with_pids.len() == 1 && with_pids[0]["name"] == victim.as_str(), "{claimed:#?}");
    assert_eq!(with_pids[0]["pids"], json!([pid]));
    let run = whose().args(["pids", "evil"]).run();
    assert!(!run.stdout_str().contains(&pid.to_string()), "{}", run.story());
    // A link in the database's place is not followed, and no other database is asked instead.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", &file).unwrap();
    let run = whose().args(["--json", &init.to_string()]).run().expect_code(3);
    let told = &run.json()["answers"][0];
    assert_eq!(told["owner"]["kind"], "unknown", "{told:#}");
    assert!(told["gaps"].to_string().contains(file.to_str().unwrap()), "{told:#}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(answer(&init.to_string())["owner"]["name"], web.as_str());
}
