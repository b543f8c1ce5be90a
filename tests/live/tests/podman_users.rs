//! Several users with engines of their own at once, each with another storage driver and with containers
//! of the same names: root sees all of them apart, and each user his own.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use whose_live_tests::podman::{Asking, IMAGE, NEEDS, listed, sleeping, start};
use whose_live_tests::{alone, answer, pid_of, unique, whose};
use whose_testkit::harness::Whose;
use whose_testkit::podman::Podman;
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require};

fn user(podman: &Podman) -> &LabUser {
    podman.user().expect("a user's")
}

/// `whose` as that user would run it.
fn as_user(podman: &Podman) -> Whose {
    whose().as_user(user(podman).uid(), user(podman).uid())
}

fn run(podman: &Podman, name: &str, seconds: &str) -> u32 {
    podman.run(&["--name", name, "--label", "a=b", IMAGE, "/bin/busybox", "sleep", seconds]);
    podman.init_pid(name)
}

/// What is called so, runs as this user and works for his engine.
fn helpers(podman: &Podman, comm: &str) -> Vec<u32> {
    let is_it = |pid: &u32| procfs::comm(*pid).is_some_and(|c| c == comm);
    user(podman).processes().into_iter().filter(is_it).collect()
}

/// Each process is plumbing of the user, for that container or for none.
fn are_plumbing(podman: &Podman, pids: &[u32], serves: Option<&str>, name: Option<&str>) {
    for pid in pids {
        let told = answer(&pid.to_string());
        let process = &told["process"];
        assert_eq!(process["role"], "plumbing", "{told:#}");
        assert_eq!(process["user"], user(podman).name(), "{told:#}");
        assert_eq!(process["serves"].as_str(), serves, "{told:#}");
        let card = whose().arg(pid.to_string()).run().expect_code(0);
        let line = name.map(|name| format!("plumbing   serves {name}"));
        assert!(line.is_none_or(|line| card.stdout_str().contains(&line)), "{}", card.story());
    }
}

#[test]
fn all_of_them_apart_and_each_his_own() {
    if !require(&[NEEDS, &["fuse", "fuse-overlayfs", "overlay", "catatonit"]].concat()) {
        return;
    }
    let _alone = alone();
    let options = || Podman::options().rootless();
    let engines = [
        start(options()),
        start(options().mount_program("/usr/bin/fuse-overlayfs")),
        start(options().driver("vfs")),
    ];
    let name = unique("db");
    let seconds = ["97101", "97102", "97103"];
    let inits: Vec<u32> =
        engines.iter().zip(seconds).map(|(podman, s)| run(podman, &name, s)).collect();
    let mut compared = 0;
    for ((podman, init), own) in engines.iter().zip(&inits).zip(seconds) {
        let exact = format!("container:podman@{}/{name}", user(podman).name());
        let label = format!("{}@{name}", user(podman).name());
        let inspected = podman.inspect(&name);
        compared += Asking::root(&[&exact], &label).check(podman, &inspected);
        let his = Asking::with(as_user(podman), &[&exact, &name], &label);
        compared += his.check(podman, &inspected);
        // What was exec'd is his container's too, to root and to himself.
        let more = format!("{own}4");
        podman.cli(&["exec", "-d", &name, "/bin/busybox", "sleep", &more]);
        let both = BTreeSet::from([*init, sleeping(&more)]);
        assert_eq!(Asking::root(&[], "").pids(&exact), both);
        assert_eq!(his.pids(&name), both);
        assert_eq!(his.answer(&sleeping(&more).to_string())["process"]["role"], "exec");
        // All that has to do with it is plumbing of his.
        let id = inspected["Id"].as_str().unwrap();
        let monitors = helpers(podman, "conmon");
        assert_eq!(monitors.len(), 2, "{monitors:?}");
        are_plumbing(podman, &monitors, Some(id), Some(&name));
        let pause = helpers(podman, "catatonit");
        assert_eq!(pause.len(), 1, "{pause:?}");
        are_plumbing(podman, &pause, None, None);
        let servers = helpers(podman, "fuse-overlayfs");
        are_plumbing(podman, &servers, Some(id), Some(&name));
    }
    assert!(!helpers(&engines[1], "fuse-overlayfs").is_empty(), "no file server was judged");
    assert!(compared >= 130, "{compared}");
    eprintln!("{compared} facts of three users' containers, each asked for by root and its user");
    a_name_of_three(&engines, &name, &inits);
    what_is_anothers(&engines, &name, &inits);
}

/// A name that three users have is told as three targets, each of which is one container.
fn a_name_of_three(engines: &[Podman], name: &str, inits: &[u32]) {
    let told = whose().args(["--json", name]).run().expect_code(4).json();
    let candidates = told["answers"][0]["candidates"].as_array().unwrap().clone();
    let of = |target: &Value| {
        let told = answer(target.as_str().unwrap());
        let owner = &told["owner"];
        (owner["user"].clone(), pid_of(&owner["init_pid"]).unwrap())
    };
    let mut found: Vec<(String, u32)> = candidates
        .iter()
        .map(of)
        .map(|(user, init)| (user.as_str().unwrap().to_owned(), init))
        .collect();
    found.sort();
    let named = |(podman, init): (&Podman, &u32)| (user(podman).name().to_owned(), *init);
    let mut wanted: Vec<(String, u32)> = engines.iter().zip(inits).map(named).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    // Each is listed with its user and with no other's processes.
    let list = listed(&whose());
    for (podman, init) in engines.iter().zip(inits) {
        let his = |o: &&Value| o["name"] == name && o["user"] == user(podman).name();
        let rows: Vec<&Value> = list.iter().filter(his).collect();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!(rows[0]["pids"].as_array().map(Vec::len), Some(2), "{rows:#?}");
        assert_eq!(rows[0]["init_pid"], json!(init));
    }
    let nobody = format!("container:podman@whoselab-nobody/{name}");
    let _ = whose().arg(nobody).run().expect_code(1);
}

/// What another user has is not told to be nobody's, nor named.
fn what_is_anothers(engines: &[Podman], name: &str, inits: &[u32]) {
    for (at, podman) in engines.iter().enumerate() {
        let asking = as_user(podman);
        let list = listed(&asking);
        let named: Vec<&Value> = list.iter().filter(|o| o["name"] == name).collect();
        assert_eq!(named.len(), 1, "{named:#?}");
        assert_eq!(named[0]["user"], user(podman).name());
        let (other, init) = (&engines[(at + 1) % 3], inits[(at + 1) % 3]);
        assert!(!list.iter().any(|o| o["init_pid"] == json!(init)), "{list:#?}");
        let home = user(other).home().to_str().unwrap();
        let run = asking.clone().args(["--json", &init.to_string()]).run().expect_code(3);
        let told = &run.json()["answers"][0];
        assert_eq!(told["status"], "partial", "{told:#}");
        assert_eq!(told["owner"]["kind"], "unknown", "{told:#}");
        let closed = |gap: &&Value| gap["path"].as_str().is_some_and(|p| p.starts_with(home));
        let gaps: Vec<Value> =
            told["gaps"].as_array().unwrap().iter().filter(closed).cloned().collect();
        assert!(gaps.iter().any(|gap| gap["class"] == "forbidden"), "{told:#}");
        let exact = format!("container:podman@{}/{name}", user(other).name());
        for words in [vec![exact.as_str()], vec!["pids", &exact]] {
            let run = asking.clone().args(words).run().expect_code(3);
            assert!(run.stderr_str().contains(home), "{}", run.story());
            assert!(run.stdout.is_empty(), "{}", run.story());
        }
    }
}

/// A graph root that only a command line names: nothing on the host tells of it but the monitors.
#[test]
fn moved_graph_roots() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options().rootless().driver("vfs"));
    let home = user(&podman).home().to_owned();
    let mut compared = 0;
    for (at, seconds) in [("one", "97111"), ("two", "97112")] {
        let (graph, run) = (home.join(at), home.join(format!("{at}-run")));
        let place = ["--root", graph.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        let name = unique(at);
        let archive = home.join("image.tar");
        if !archive.exists() {
            podman.cli(&["save", "-q", "-o", archive.to_str().unwrap(), IMAGE]);
        }
        podman.cli(&[&place[..], &["load", "-q", "-i", archive.to_str().unwrap()]].concat());
        let words = ["run", "-d", "--network", "none", "--name", &name, IMAGE];
        let sleep = ["/bin/busybox", "sleep", seconds];
        podman.cli(&[&place[..], &words, &sleep].concat());
        let text = podman.cli(&[&place[..], &["container", "inspect", &name]].concat());
        let inspected: Value = serde_json::from_str::<Value>(&text).unwrap()[0].clone();
        let init = pid_of(&inspected["State"]["Pid"]).unwrap();
        let (own, label) = (user(&podman).name(), format!("{}@{name}", user(&podman).name()));
        let exact = format!("container:podman@{own}/{name}");
        for asking in [whose(), as_user(&podman)] {
            let asking = Asking::with(asking, &[&name, &exact], &label);
            compared += asking.check_at(&inspected, init, Some(own), None);
        }
    }
    assert!(compared >= 80, "{compared}");
    eprintln!("{compared} facts of containers of moved graph roots");
}
