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
use std::time::Duration;

use serde_json::{Value, json};
use whose_core::state::docker::time;
use whose_live_tests::{alone, answer, pid_of, unique, whose};
use whose_testkit::facts::Facts;
use whose_testkit::podman::Podman;
use whose_testkit::sqlite::{self, Cell, Entry};
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &["root", "podman", "conmon", "runc", "busybox", "mount-namespace"];
const IMAGE: &str = "localhost/whose-lab:1";

fn start(rootless: bool) -> Podman {
    let options = Podman::options();
    let options = if rootless { options.rootless().driver("vfs") } else { options };
    let podman = options.start().unwrap_or_else(|e| panic!("{e}"));
    podman.layered_image_with(IMAGE, 2, |_, _| ());
    podman
}

/// Milliseconds of a time, however it is written.
fn ms(value: &Value) -> Option<i64> {
    time(value.as_str()?)
}

/// An owner by what podman says of the container.
fn same(facts: &mut Facts, owner: &Value, inspected: &Value, podman: &Podman) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sandbox = inspected["IsInfra"] == true;
    facts.same("kind", owner["kind"].clone(), json!(if sandbox { "sandbox" } else { "container" }));
    facts.same("runtime", owner["runtime"].clone(), json!("podman"));
    facts.same("id", owner["id"].clone(), inspected["Id"].clone());
    facts.same("name", owner["name"].clone(), inspected["Name"].clone());
    facts.same("image", owner["image"].clone(), inspected["ImageName"].clone());
    let image_id = format!("sha256:{}", text(&inspected["Image"]));
    facts.same("image_id", owner["image_id"].clone(), json!(image_id));
    let labels = inspected["Config"]["Labels"].as_object().cloned().unwrap_or_default();
    let told = owner["labels"].as_object().cloned().unwrap_or_default();
    facts.same("labels", told, labels);
    facts.same("state", owner["state"].clone(), json!("running"));
    facts.same("engine_state", owner["engine_state"].clone(), inspected["State"]["Status"].clone());
    facts.holds("created", ms(&owner["created"]).is_some(), &owner["created"]);
    facts.same("created", ms(&owner["created"]), ms(&inspected["Created"]));
    facts.same("started", ms(&owner["started"]), ms(&inspected["State"]["StartedAt"]));
    facts.same("init_pid", owner["init_pid"].clone(), inspected["State"]["Pid"].clone());
    facts.same("log", owner["log"].clone(), inspected["HostConfig"]["LogConfig"]["Path"].clone());
    let user = podman.user().map_or(Value::Null, |user| json!(user.name()));
    facts.same("user", owner["user"].clone(), user);
    let pod = inspected["Pod"].as_str().filter(|pod| !pod.is_empty());
    facts.same("pod.uid", owner["pod"]["uid"].as_str(), pod);
    if let Some(pod) = pod {
        let name = podman.cli(&["pod", "inspect", "--format", "{{.Name}}", pod]);
        facts.same("pod.name", owner["pod"]["name"].clone(), json!(name));
    }
}

/// All that is said of a container: by its name, by its id, by its init.
fn check(podman: &Podman, name: &str, label: &str) -> usize {
    let inspected = podman.inspect(name);
    let id = inspected["Id"].as_str().unwrap();
    let init = pid_of(&inspected["State"]["Pid"]).filter(|pid| *pid > 0).unwrap();
    let mut facts = Facts::about(format!("podman's {label}"));
    let told = answer(&init.to_string());
    same(&mut facts, &told["owner"], &inspected, podman);
    let role = if inspected["IsInfra"] == true { "sandbox" } else { "init" };
    facts.same("role", told["process"]["role"].clone(), json!(role));
    facts.same("gaps", told["gaps"].clone(), json!([]));
    for target in [name, id, &id[..20]] {
        let by_name = answer(target);
        facts.same(target, by_name["owner"].clone(), told["owner"].clone());
    }
    let table = whose().args(["ps", "--no-headers", "-o", "owner", &init.to_string()]).run();
    facts.same("OWNER", table.expect_code(0).stdout_str().trim(), label);
    facts.finish(12)
}

fn pids(target: &str) -> BTreeSet<u32> {
    let run = whose().args(["pids", target]).run().expect_code(0);
    run.stdout_str().lines().map(|line| line.parse().unwrap()).collect()
}

/// What runs in a container, by the arguments that only it has.
fn running(seconds: &str) -> u32 {
    let is_it = |pid: &u32| procfs::args(*pid).is_some_and(|a| a.ends_with(&[seconds.into()]));
    let sleeps = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "busybox");
    procfs::wait_for(seconds, Duration::from_secs(20), || {
        procfs::pids().into_iter().find(|pid| sleeps(pid) && is_it(pid))
    })
}

fn listed() -> Vec<Value> {
    let list = whose().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    list["containers"].as_array().unwrap().clone()
}

#[test]
fn of_root_with_a_pod_and_an_exec() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let podman = start(false);
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
    let exec = running("97003");
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
    let names: Vec<Value> = listed().into_iter().map(|o| o["name"].clone()).collect();
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
    let root = start(false);
    let victim = unique("victim");
    let id = root.run(&["--name", &victim, IMAGE, "/bin/busybox", "sleep", "97011"]);
    let podman = start(true);
    let user = podman.user().unwrap();
    let web = unique("web");
    podman.run(&["--name", &web, "--label", "a=b", IMAGE, "/bin/busybox", "sleep", "97012"]);
    let label = format!("{}@{web}", user.name());
    let compared = check(&podman, &web, &label);
    assert!(compared >= 20, "{compared}");
    eprintln!("{compared} facts of a container of a user's podman");
    let init = podman.init_pid(&web);
    assert_eq!(pids(&web), BTreeSet::from([init]));
    let mine = listed().into_iter().find(|o| o["name"] == web.as_str()).unwrap();
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
    let claimed: Vec<Value> = listed().into_iter().filter(|o| o["id"] == id.as_str()).collect();
    let with_pids: Vec<&Value> = claimed.iter().filter(|o| o["pids"] != json!([])).collect();
    assert!(with_pids.len() == 1 && with_pids[0]["name"] == victim.as_str(), "{claimed:#?}");
    assert_eq!(with_pids[0]["pids"], json!([pid]));
    let run = whose().args(["pids", "evil"]).run();
    assert!(!run.stdout_str().contains(&pid.to_string()), "{}", run.story());
    // A link in the database's place is not followed, and no other database is asked instead.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", &file).unwrap();
    let told = answer(&init.to_string());
    assert_eq!(told["owner"]["kind"], "unknown", "{told:#}");
    assert!(told["gaps"].to_string().contains(file.to_str().unwrap()), "{told:#}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(answer(&init.to_string())["owner"]["name"], web.as_str());
}
