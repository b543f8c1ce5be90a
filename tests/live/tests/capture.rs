//! `whose capture` on real hosts: a capture answers as the live host did.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::time::Duration;

use serde_json::Value;
use whose_live_tests::inner::{Rootless, busybox_archive, engine_in_a_container, inside};
use whose_live_tests::replay::{Capture, keep};
use whose_live_tests::{alone, pid_of, trace, unique};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, require, skip};

const NEEDS: &[&str] = &["root", "docker", "cgroup-v2", "mount-namespace", "strace"];

#[test]
fn docker_captured_on_hybrid_cgroups() {
    if require(NEEDS) && require(&["cgroup-hybrid"]) {
        hosts(View::Hybrid);
    }
}

#[test]
fn docker_captured_on_cgroup_v2() {
    if require(NEEDS) {
        hosts(View::V2);
    }
}

/// A container that runs, one that is paused, one that has ended.
fn populate(docker: &Docker) -> [String; 3] {
    docker.image();
    let run = |name: &str, options: &[&str], command: &[&str]| {
        let name = unique(name);
        docker.run(&[&["--name", &name][..], options, command].concat());
        name
    };
    let labels = ["-l", "tier=front", "-l", "com.docker.compose.project=shop"];
    let secret = ["-e", "PASSWORD=hunter2"];
    let command = [IMAGE, "sh", "-c", "sleep 10001 & exec sleep 10000"];
    let web = run("web", &[&labels[..], &secret].concat(), &command);
    let paused = run("paused", &["--user", "1000"], &[IMAGE, "sleep", "10002"]);
    docker.cli(&["pause", &paused]);
    let gone = run("gone", &[], &[IMAGE, "sh", "-c", "exit 3"]);
    docker.cli(&["wait", &gone]);
    procfs::wait_for("both processes", Duration::from_secs(20), || {
        let ready = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "sleep");
        let pids = docker.top_pids(&web);
        (pids.len() == 2 && pids.iter().all(ready)).then_some(())
    });
    [web, paused, gone]
}

fn hosts(view: View) {
    let _alone = alone();
    let docker = Docker::options(view).start().unwrap_or_else(|e| panic!("{e}"));
    let [web, paused, gone] = populate(&docker);
    let mut cases = Cases::of(format!("capture-{}", view.name()));
    cases.case("the whole host", || whole(&docker, &web, &paused, &gone));
    cases.case("some targets", || some(&docker, &web, &paused, view));
    cases.case("as an ordinary user", || as_a_user(&docker, &web));
    cases.case("a directory of someone else's", || {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
        let run = whose_live_tests::whose().arg("capture").arg(dir.path()).arg("1").run();
        let run = run.expect_code(2);
        assert!(run.stderr_str().contains("someone else's"), "{}", run.story());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    });
    cases.case("no secret is kept", || {
        let capture = Capture::of(&[&web], None, 0);
        let found = std::process::Command::new("grep")
            .args(["-rl", "hunter2"])
            .arg(capture.path())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a password was captured");
        let named = std::process::Command::new("grep")
            .args(["-rl", "PASSWORD=redacted"])
            .arg(capture.path())
            .output()
            .unwrap();
        assert!(named.status.success(), "the variable's name went too");
    });
    for targets in [&[][..], &[web.as_str()]] {
        cases.case(&format!("strace: whose capture DIR {}", targets.join(" ")), || {
            let dir = tempfile::tempdir().unwrap();
            let to = dir.path().join("new");
            let args = [&["capture", to.to_str().unwrap()][..], targets].concat();
            trace::writes_only_to(&to, &args, &[0, 3]);
        });
    }
    cases.case("strace: a capture is never left", || {
        let capture = Capture::of(&[&web], None, 0);
        for args in [&["ps"][..], &["ls", "-a"], &[&web], &["exe", &web], &["--json", &web]] {
            trace::stays_in(&capture.path(), args, 0);
        }
    });
    drop(docker);
    cases.finish();
}

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
        vec!["pids", "--json", name],
        vec!["exe", name],
        vec!["exe", pid],
        vec!["exe", "--json", pid],
        vec!["ps", "--json", "-o", "pid,ppid,user,comm,args,state,owner,image,chain,role", name],
        vec!["-o", "pid,owner,runtime,image", "--no-headers", name],
    ]
}

fn whole(docker: &Docker, web: &str, paused: &str, gone: &str) {
    let capture = Capture::of(&[], None, 0);
    let mut facts = Facts::about("a capture of the whole host");
    for name in [web, paused] {
        let id = docker.inspect(name)["Id"].as_str().unwrap().to_owned();
        let pid = docker.init_pid(name).to_string();
        for args in about(name, &id, &pid) {
            capture.compare(&mut facts, &args);
        }
        let told = capture.ask(&["--json", &pid]).expect_code(0).json();
        facts.same("source", told["source"].as_str(), Some("saved"));
        facts.same("recorded", &told["answers"][0]["binary"]["recorded"], &Value::Bool(true));
        let told = capture.ask(&["exe", "--json", &pid]).expect_code(0).json();
        facts.same("verified", told["answers"][0]["binary"]["verified"].as_str(), Some("page"));
    }
    let data = docker.data_root();
    let layer = std::fs::read_dir(data.join("overlay2")).unwrap().flatten();
    let layers = layer.filter(|e| e.file_name() != "l").map(|e| e.path().display().to_string());
    for layer in layers {
        capture.compare(&mut facts, &["--json", &layer]);
        let name = layer.rsplit('/').next().unwrap_or_default();
        capture.compare(&mut facts, &["--json", &format!("layer:{name}")]);
    }
    for args in [
        vec!["--json", gone],
        vec!["pids", gone],
        vec!["ls", "-q", web, paused],
        vec!["ls", "-o", "chain,runtime,state,image,processes", "--no-headers", web, gone],
        vec!["ps", "--containers-only", "--json", "-o", "pid,owner,args", web, paused],
        vec!["--json", "no-such-container"],
        vec!["--json", "layer:0123456789abcdef"],
        vec!["--json", "4194303"],
    ] {
        capture.compare(&mut facts, &args);
    }
    let listed = ["ls", "-a", "--json", web, paused, gone];
    capture.compare_part(&mut facts, &listed, "/containers");
    facts.finish(1000);
}

fn some(docker: &Docker, web: &str, other: &str, view: View) {
    let capture = Capture::of(&[web], None, 0);
    let id = docker.inspect(web)["Id"].as_str().unwrap().to_owned();
    let pid = docker.init_pid(web).to_string();
    let mut facts = Facts::about("a capture of one container");
    for args in about(web, &id, &pid) {
        // The top-level gap is what tells the two apart.
        if !args.contains(&"--json") {
            capture.compare(&mut facts, &args);
        }
    }
    let live = whose_live_tests::whose().args(["--json", &pid]).run().expect_code(0).json();
    let told = capture.ask(&["--json", &pid]).expect_code(0).json();
    facts.same("owner", &told["answers"][0]["owner"], &live["answers"][0]["owner"]);
    facts.same("gaps", told["gaps"][0]["what"].as_str(), Some("what was not captured"));
    // What it does not have it does not deny.
    for target in ["no-such-container", "4194303", "/etc/hostname", "layer:0123456789ab"] {
        facts.same(target, capture.ask(&["--json", target]).code, Some(3));
    }
    let listed = capture.ask(&["ls", "-a", "--json"]).json()["containers"].clone();
    let listed = listed.as_array().unwrap().iter().find(|c| c["name"] == other).cloned();
    let state = listed.as_ref().map(|c| c["state"].clone());
    facts.holds("the other one is not said to have ended", state != Some("exited".into()), state);
    let rows = capture.ask(&["ps", "--no-headers", "-o", "owner"]).expect_code(0);
    facts.holds("rows", rows.stdout_str().lines().filter(|l| *l == web).count() == 2, rows.story());
    facts.finish(15);
    let shim = procfs::ppid(docker.init_pid(web)).unwrap_or_default().to_string();
    let targets = [web, other, &unique("gone"), &pid, &shim];
    keep(&targets, &format!("debian-12-docker-{}", view.name()));
}

fn as_a_user(docker: &Docker, web: &str) {
    let capture = Capture::of(&[], Some(65534), 0);
    let id = docker.inspect(web)["Id"].as_str().unwrap().to_owned();
    let pid = docker.init_pid(web).to_string();
    let mut facts = Facts::about("a user's capture");
    for args in about(web, &id, &pid) {
        capture.compare(&mut facts, &args);
    }
    capture.compare_part(&mut facts, &["ls", "-a", "--json", &id], "/containers");
    capture.compare(&mut facts, &["ps", "--containers-only", "--json", "-o", "pid,owner", &id]);
    facts.finish(100);
}

/// Engines in containers: their state is captured beneath the outer one's root.
#[test]
fn docker_in_docker_captured() {
    if !require(NEEDS) || !require(&["cgroup-hybrid"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::hybrid().unwrap_or_else(|e| panic!("{e}"));
    let work = tempfile::tempdir().expect("a directory for the engine");
    let data = work.path().join("data");
    std::fs::create_dir(&data).expect("a data root");
    let outer = unique("outer");
    let _ = engine_in_a_container(&docker, work.path(), &outer, Some(&data));
    let run = ["run", "-d", "--network=none", "--name", "inner", "lab-inner:1", "sleep", "25000"];
    let id = inside(&docker, &outer, &run);
    let is_inner = |pid: &u32| {
        procfs::cgroup(*pid).is_some_and(|text| text.contains(&id))
            && procfs::comm(*pid).is_some_and(|comm| comm == "sleep")
    };
    let pid = procfs::wait_for("the inner process", Duration::from_secs(20), || {
        procfs::pids().into_iter().find(is_inner)
    });
    let pid = pid.to_string();
    let mut cases = Cases::of("capture-docker-in-docker");
    cases.case("the whole host", || {
        let capture = Capture::of(&[], None, 0);
        let mut facts = Facts::about("a capture with an engine in a container");
        for args in about("inner", &id, &pid) {
            capture.compare(&mut facts, &args);
        }
        capture.compare_part(&mut facts, &["ls", "-a", "--json", &outer, "inner"], "/containers");
        let chain = capture.ask(&["ps", "--no-headers", "-o", "chain", &pid]).stdout_str();
        facts.same("chain", chain.trim(), &format!("{outer}/inner")[..]);
        facts.finish(150);
    });
    cases.case("one container", || {
        let capture = Capture::of(&[&pid], None, 0);
        let told = capture.ask(&["--json", &pid]).expect_code(0).json();
        assert_eq!(told["answers"][0]["chain"][0]["name"], outer.as_str(), "{told:#}");
        assert_eq!(told["answers"][0]["owner"]["name"], "inner", "{told:#}");
        keep(&[&outer, "inner", &pid], "debian-12-docker-in-docker-hybrid");
    });
    drop(docker);
    cases.finish();
}

/// A user's own engine: its state is captured with its owner.
#[test]
fn a_users_own_docker_captured() {
    if !require(NEEDS) || !require(&["rootlesskit", "newuidmap", "useradd", "su"]) {
        return;
    }
    let _alone = alone();
    let rootless = match Rootless::start() {
        Ok(rootless) => rootless,
        Err(why) => return skip("rootless docker", &why),
    };
    let work = tempfile::tempdir().expect("a directory for the image");
    let archive = busybox_archive(work.path());
    let import = ["import", "--change", "ENV PATH=/bin", archive.to_str().unwrap(), "lab:1"];
    let _ = rootless.cli(&import);
    let name = unique("mine");
    let run = ["run", "-d", "--network=none", "--name", &name, "lab:1", "sleep", "26000"];
    let id = rootless.cli(&run);
    let inspect: Value = serde_json::from_str(&rootless.cli(&["inspect", &id])).unwrap();
    let pid = pid_of(&inspect[0]["State"]["Pid"]).unwrap();
    procfs::wait_for("the process", Duration::from_secs(20), || {
        (procfs::comm(pid)? == "sleep").then_some(())
    });
    let pid = pid.to_string();
    let mut cases = Cases::of("capture-rootless");
    cases.case("the whole host", || {
        let capture = Capture::of(&[], None, 0);
        let mut facts = Facts::about("a capture with a user's engine");
        for args in about(&name, &id, &pid) {
            capture.compare(&mut facts, &args);
        }
        capture.compare_part(&mut facts, &["ls", "-a", "--json", &name], "/containers");
        let owner = capture.ask(&["ps", "--no-headers", "-o", "owner", &pid]).stdout_str();
        facts.same("owner", owner.trim(), &format!("{}@{name}", rootless.user())[..]);
        facts.finish(150);
    });
    cases.case("one process", || {
        let capture = Capture::of(&[&pid], None, 0);
        let told = capture.ask(&["--json", &pid]).expect_code(0).json();
        assert_eq!(told["answers"][0]["owner"]["user"], rootless.user(), "{told:#}");
        keep(&[&name, &pid], "debian-12-docker-rootless");
    });
    drop(rootless);
    cases.finish();
}
