//! A user's own Docker and containerd: named with the user, seen by root and by the user alone, with
//! processes, layers and the files that run.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use whose_core::state::docker::time;
use whose_live_tests::inner::{Rootless, RootlessContainerd, busybox_archive};
use whose_live_tests::{alone, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::layered_archive;
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require, skip};

const NEEDS: &[&str] = &["root", "rootlesskit", "newuidmap", "useradd", "su", "runc", "busybox"];

/// Root, and the user alone.
fn askers(user: &LabUser) -> [(&'static str, Whose); 2] {
    [("root", whose()), ("the user", whose().as_user(user.uid(), user.uid()))]
}

fn first(whose: &Whose, target: &str) -> Value {
    let run = whose.clone().args(["--json", target]).run().expect_code(0);
    run.json()["answers"][0].clone()
}

fn running(seconds: &str) -> u32 {
    let is_it = |pid: &u32| procfs::args(*pid).is_some_and(|args| args == ["sleep", seconds]);
    procfs::wait_for(seconds, Duration::from_secs(20), || procfs::pids().into_iter().find(is_it))
}

/// What both ways to it say of a container, and the lists.
fn everywhere(whose: &Whose, names: &[&str], pids: [u32; 2], owner: &Value, facts: &mut Facts) {
    let [init, exec] = pids;
    for target in names {
        facts.same(target, first(whose, target)["owner"].clone(), owner.clone());
        let run = whose.clone().args(["pids", target]).run().expect_code(0);
        let listed: BTreeSet<u32> = run.pids().into_iter().collect();
        facts.same("pids", listed, BTreeSet::from(pids));
    }
    let told = first(whose, &exec.to_string());
    facts.same("owner of what was exec'd", told["owner"]["id"].clone(), owner["id"].clone());
    facts.same("role of what was exec'd", told["process"]["role"].clone(), json!("exec"));
    let label = format!("{}@{}", owner["user"].as_str().unwrap(), owner["name"].as_str().unwrap());
    let table = whose.clone().args(["ps", "--no-headers", "-o", "owner", &init.to_string()]).run();
    facts.same("OWNER", table.expect_code(0).stdout_str().trim(), &label[..]);
    let list = whose.clone().args(["ls", "--json"]).run().expect_code(0).json();
    let is_it = |o: &&Value| o["id"] == owner["id"] && o["user"] == owner["user"];
    let rows: Vec<&Value> = list["containers"].as_array().unwrap().iter().filter(is_it).collect();
    facts.same("rows", rows.len(), 1);
    facts.same("row", rows[0]["pids"].clone(), json!(BTreeSet::from(pids)));
}

/// The file that a process runs is one of the user's store, proven, and its layer is the container's.
fn binary(pid: u32, store: &str, id: &str, facts: &mut Facts) {
    let told = first(&whose(), &pid.to_string());
    let binary = &told["binary"];
    facts.same("verified", binary["verified"].clone(), json!("page"));
    let host = binary["host"].as_str().unwrap_or_default();
    facts.holds("host", host.starts_with(store), &told);
    let owners = binary["layer"]["owners"].clone();
    facts.holds("layer", owners.as_array().is_some_and(|o| o.contains(&json!(id))), &told);
    let by_path = first(&whose(), host);
    facts.same("by path", by_path["file"]["layer"]["id"].clone(), binary["layer"]["id"].clone());
    let owners = by_path["owners"].as_array().cloned().unwrap_or_default();
    facts.holds("owner by path", owners.iter().any(|o| o["id"] == id), &by_path);
}

#[test]
fn docker() {
    if !require(NEEDS) || !require(&["docker"]) {
        return;
    }
    let _alone = alone();
    let rootless = match Rootless::start() {
        Ok(rootless) => rootless,
        Err(why) => return skip("rootless docker", &why),
    };
    let work = tempfile::tempdir().unwrap();
    let archive = busybox_archive(work.path());
    let _ =
        rootless.cli(&["import", "--change", "ENV PATH=/bin", archive.to_str().unwrap(), "lab:1"]);
    let (name, volume) = (unique("mine"), unique("volume"));
    let mount = format!("{volume}:/data");
    let words = ["run", "-d", "--network=none", "--label", "tier=front", "-v", &mount, "--name"];
    let id = rootless.cli(&[&words[..], &[&name, "lab:1", "sleep", "97401"]].concat());
    let _ = rootless.cli(&["exec", "-d", &name, "sleep", "97402"]);
    let inspect: Value = serde_json::from_str(&rootless.cli(&["inspect", &id])).unwrap();
    let inspected = &inspect[0];
    let init = pid_of(&inspected["State"]["Pid"]).unwrap();
    assert_eq!(running("97401"), init);
    let exec = running("97402");
    let ms = |value: &Value| time(value.as_str().unwrap_or_default());
    let mut cases = Cases::of("rootless-docker");
    for (who, whose) in askers(rootless.lab_user()) {
        cases.case(who, || {
            let mut facts = Facts::about(format!("a user's docker, asked by {who}"));
            let told = first(&whose, &init.to_string());
            let owner = &told["owner"];
            facts.same("kind", owner["kind"].clone(), json!("container"));
            facts.same("runtime", owner["runtime"].clone(), json!("docker"));
            facts.same("id", owner["id"].clone(), inspected["Id"].clone());
            facts.same("name", owner["name"].clone(), json!(name));
            facts.same("image", owner["image"].clone(), inspected["Config"]["Image"].clone());
            facts.same("image_id", owner["image_id"].clone(), inspected["Image"].clone());
            facts.same("labels", owner["labels"].clone(), inspected["Config"]["Labels"].clone());
            facts.same("state", owner["state"].clone(), json!("running"));
            facts.same("user", owner["user"].clone(), json!(rootless.user()));
            facts.same("created", ms(&owner["created"]), ms(&inspected["Created"]));
            facts.same("started", ms(&owner["started"]), ms(&inspected["State"]["StartedAt"]));
            facts.same("init_pid", owner["init_pid"].clone(), json!(init));
            facts.same("log", owner["log"].clone(), inspected["LogPath"].clone());
            facts.same("role", told["process"]["role"].clone(), json!("init"));
            everywhere(&whose, &[&name, &id, &id[..20]], [init, exec], owner, &mut facts);
            facts.finish(25);
        });
    }
    cases.case("storage", || {
        let mut facts = Facts::about("a user's docker's store");
        let root = rootless.cli(&["info", "-f", "{{.DockerRootDir}}"]);
        binary(init, &root, &id, &mut facts);
        let point = rootless.cli(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
        for target in [&point, &format!("volume:{volume}")] {
            let told = first(&whose(), target);
            let owners = told["owners"].as_array().unwrap();
            facts.same("users of the volume", owners.len(), 1);
            facts.same("user of the volume", owners[0]["id"].clone(), json!(id));
            facts.same("whose", owners[0]["user"].clone(), json!(rootless.user()));
        }
        facts.finish(11);
    });
    drop(rootless);
    cases.finish();
}

#[test]
fn containerd() {
    if !require(NEEDS) || !require(&["containerd", "ctr", "nsenter", "overlay"]) {
        return;
    }
    let _alone = alone();
    let rootless = match RootlessContainerd::start() {
        Ok(rootless) => rootless,
        Err(why) => return skip("rootless containerd", &why),
    };
    let work = tempfile::Builder::new().prefix("whose-rootless-").tempdir_in("/var/tmp").unwrap();
    let image = "docker.io/library/lab-mine:1";
    let archive = layered_archive(work.path(), image, 2, &mut |_, _| ());
    let open = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(work.path()).status();
    assert!(open.unwrap().success());
    rootless.ctr(&["images", "import", archive.to_str().unwrap()]);
    let name = unique("mine");
    // Without a cgroup of the user's own nothing can be limited.
    let words = ["run", "-d", "--cgroup", "", "--cpu-shares", "0", "--label", "tier=front", image];
    rootless.ctr(&[&words[..], &[&name, "/bin/busybox", "sleep", "97403"]].concat());
    rootless.ctr(&["task", "exec", "-d", "--exec-id", "e", &name, "/bin/sleep", "97404"]);
    let pid_with = |seconds: &str| {
        let is_it = |pid: &u32| procfs::args(*pid).is_some_and(|a| a.ends_with(&[seconds.into()]));
        procfs::wait_for(seconds, Duration::from_secs(20), || {
            let mut all = procfs::pids().into_iter().filter(is_it);
            all.find(|pid| procfs::nspid(*pid).is_some_and(|nspid| nspid.len() == 2))
        })
    };
    let (init, exec) = (pid_with("97403"), pid_with("97404"));
    let info: Value = serde_json::from_str(&rootless.ctr(&["containers", "info", &name])).unwrap();
    let mut cases = Cases::of("rootless-containerd");
    for (who, whose) in askers(rootless.user()) {
        cases.case(who, || {
            let mut facts = Facts::about(format!("a user's containerd, asked by {who}"));
            let told = first(&whose, &init.to_string());
            let owner = &told["owner"];
            facts.same("kind", owner["kind"].clone(), json!("container"));
            facts.same("runtime", owner["runtime"].clone(), json!("containerd"));
            facts.same("id", owner["id"].clone(), info["ID"].clone());
            facts.same("name", owner["name"].clone(), json!(name));
            facts.same("image", owner["image"].clone(), json!(image));
            facts.same("label", owner["labels"]["tier"].clone(), json!("front"));
            facts.same("state", owner["state"].clone(), json!("running"));
            facts.same("user", owner["user"].clone(), json!(rootless.user().name()));
            let ms = |value: &Value| time(value.as_str().unwrap_or_default());
            facts.same("created", ms(&owner["created"]), ms(&info["CreatedAt"]));
            facts.same("init_pid", owner["init_pid"].clone(), json!(init));
            facts.same("role", told["process"]["role"].clone(), json!("init"));
            everywhere(&whose, &[&name], [init, exec], owner, &mut facts);
            facts.finish(18);
        });
    }
    cases.case("storage", || {
        let mut facts = Facts::about("a user's containerd's store");
        let store = rootless.user().home().join(".local/share/containerd");
        binary(init, store.to_str().unwrap(), &name, &mut facts);
        facts.finish(5);
    });
    drop(rootless);
    cases.finish();
}
