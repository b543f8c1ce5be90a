//! `--root`: saved trees with much or little in them.

use whose_testkit::fixture::{FixtureHost, fake_id};

use crate::support::{answer, ask, host, whose};

#[test]
fn a_tree_with_nothing_but_a_cgroup_file() {
    let host = FixtureHost::new();
    let id = fake_id("alone");
    host.process(77).in_cgroup(&format!("/docker/{id}")).only_cgroup().write();
    let answer = answer(&host, "77");
    assert_eq!(answer["status"], "found");
    assert_eq!(
        (answer["owner"]["runtime"].as_str(), answer["owner"]["id"].as_str()),
        (Some("docker"), Some(id.as_str()))
    );
    assert!(answer["owner"]["name"].is_null());
    assert_eq!(answer["process"]["pid"], 77);
    let missing: Vec<&str> =
        answer["gaps"].as_array().unwrap().iter().map(|g| g["what"].as_str().unwrap()).collect();
    assert!(
        missing.contains(&"process") && missing.contains(&"container description"),
        "{missing:?}"
    );
    ask(&host, &["77"]).expect_code(0);
    assert!(ask(&host, &["ps"]).expect_code(0).stdout_str().contains(&id[..12]));
}

#[test]
fn a_tree_with_only_the_root_cgroup() {
    let host = FixtureHost::new();
    host.process(77).cgroup("0::/\n").only_cgroup().write();
    let run = ask(&host, &["--json", "77"]).expect_code(3);
    let answer = &run.json()["answers"][0];
    assert!(answer["owner"].is_null());
    let gaps = answer["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|g| g["what"] == "membership"), "{answer:#}");
}

#[test]
fn no_such_tree_or_no_proc_in_it() {
    let run = whose().args(["--root", "/nonexistent/tree", "1"]).run().expect_code(6);
    assert_eq!(run.stderr_str().lines().count(), 1);
    let empty = tempfile::tempdir().unwrap();
    whose().root(empty.path()).args(["1"]).run().expect_code(6);
    whose().args(["--root", "/etc/passwd", "1"]).run().expect_code(6);
}

#[test]
fn links_in_a_saved_tree_stay_in_it() {
    let host = host();
    // The state directory is a link within the tree, absolute and relative.
    let web = whose_testkit::fixture::DockerContainer::named("web");
    let old = host.at("var/lib/docker");
    host.dir("srv");
    std::fs::rename(&old, host.at("srv/docker")).unwrap();
    host.symlink("var/lib/docker", "/srv/docker");
    assert_eq!(answer(&host, "4761")["owner"]["name"], "web");
    host.symlink("var/lib/docker", "../../srv/docker");
    assert_eq!(answer(&host, "web")["owner"]["id"], web.id());
    // A process directory that leads out is not followed.
    host.symlink("proc/12345", "/proc/1");
    let run = ask(&host, &["12345"]);
    assert_ne!(run.code, Some(0), "{}", run.story());
}

#[test]
fn the_running_host_through_another_mount_of_its_proc() {
    // DIR/proc is a procfs only where someone mounted it: / itself will do.
    let own = std::process::id().to_string();
    let json = whose().root("/").args(["--json", &own]).run().json();
    assert_eq!(json["source"], "mounted");
    assert_eq!(json["answers"][0]["process"]["pid"], std::process::id());
    let live = whose().args(["--json", &own]).run().json();
    assert_eq!(live["source"], "live");
    for key in ["start_ticks", "start_time", "comm", "ppid"] {
        assert_eq!(live["answers"][0]["process"][key], json["answers"][0]["process"][key], "{key}");
    }
    assert_eq!(live["answers"][0]["owner"], json["answers"][0]["owner"]);
}

#[test]
fn threads_lead_to_their_process() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let (tid_sender, tid) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tid_sender.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
        let _ = receiver.recv();
    });
    let tid = tid.recv().unwrap().to_string();
    let answer = whose().args(["--json", &tid]).run().json()["answers"][0].clone();
    drop(sender);
    thread.join().unwrap();
    assert_eq!(answer["kind"], "thread");
    assert_eq!(answer["process"]["pid"], std::process::id());
}
