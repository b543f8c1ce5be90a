//! `whose ls --disk` of users' own engines: root is told of all with their users, each user of his own.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::{Value, json};
use whose_live_tests::inner::{Rootless, busybox_archive};
use whose_live_tests::podman::{IMAGE, NEEDS, start};
use whose_live_tests::usage::{
    as_du_says, below, du, of_container, parts, rows, usage, usage_of, wait_for,
};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, IMAGE as DOCKER_IMAGE, View};
use whose_testkit::harness::Whose;
use whose_testkit::podman::Podman;
use whose_testkit::users::LabUser;
use whose_testkit::{require, skip};

/// Bytes that a container writes.
const LAYER: u64 = 2_000_000;
const VOLUME: u64 = 700_000;

fn user(podman: &Podman) -> &LabUser {
    podman.user().expect("a user's")
}

fn as_user(user: &LabUser) -> Whose {
    whose().as_user(user.uid(), user.uid())
}

struct His {
    podman: Podman,
    id: String,
    volume: String,
}

impl His {
    fn start(driver: &str, name: &str) -> His {
        let podman = start(Podman::options().rootless().driver(driver));
        let volume = unique("mine");
        podman.cli(&["volume", "create", &volume]);
        let script = format!(
            "busybox head -c {LAYER} /dev/urandom > /big; \
             busybox head -c {VOLUME} /dev/urandom > /data/file; busybox sync; \
             busybox touch /data/ready; exec busybox sleep 97601"
        );
        let mount = format!("{volume}:/data");
        let words = ["--name", name, "-v", &mount, IMAGE, "/bin/busybox", "sh", "-c", &script];
        let id = podman.run(&words);
        let data = podman.graph_root().join("volumes").join(&volume).join("_data");
        wait_for(&data.join("ready"));
        rustix::fs::sync();
        His { podman, id, volume }
    }

    fn check(&self, document: &Value) {
        let row = of_container(document, &self.id);
        as_du_says(row);
        let name = user(&self.podman).name();
        assert_eq!((row["user"].as_str(), &row["owner"]["user"]), (Some(name), &json!(name)));
        let label = row["name"].as_str().unwrap();
        assert!(label.starts_with(&format!("{name}@")), "{row:#}");
        let [volume] = parts(row, "volume")[..] else { panic!("{row:#}") };
        assert!(volume["path"].as_str().unwrap().contains(&self.volume));
        assert_eq!(volume["apparent"], VOLUME);
        assert!(row["apparent"].as_u64() >= Some(LAYER + VOLUME), "{row:#}");
        let graph = self.podman.graph_root();
        assert_eq!(below(document, graph), du(&[graph]), "{document:#}");
        let engine = rows(document).iter().find(|r| r["kind"] == "engine" && r["user"] == name);
        assert!(engine.is_some(), "{document:#}");
    }
}

#[test]
fn podmans_of_two_users() {
    if !require(NEEDS) || !require(&["overlay"]) {
        return;
    }
    let _alone = alone();
    let name = unique("db");
    let all = [His::start("overlay", &name), His::start("vfs", &name)];
    let mut cases = Cases::of("disk-podman-users");
    cases.case("root is told of all", || {
        let document = usage();
        all.iter().for_each(|his| his.check(&document));
    });
    cases.case("as podman says", || {
        let his = &all[0];
        let text = his.podman.cli(&["ps", "-a", "-s", "--format", "json"]);
        let listed: Value = serde_json::from_str(&text).unwrap();
        let said = listed.as_array().unwrap().iter().find(|c| c["Id"] == his.id.as_str()).unwrap();
        let document = usage();
        let [layer] = parts(of_container(&document, &his.id), "layer")[..] else { panic!() };
        assert_eq!(layer["apparent"], said["Size"]["rwSize"], "{layer:#}");
    });
    cases.case("each of his own, and of no other", || {
        for (his, other) in [(&all[0], &all[1]), (&all[1], &all[0])] {
            let run = as_user(user(&his.podman)).args(["ls", "--disk", "--json"]).run();
            let document = run.expect_code(0).json();
            let mine = of_container(&document, &his.id);
            let by_root = usage();
            let told = of_container(&by_root, &his.id);
            for part in mine["parts"].as_array().unwrap() {
                let same =
                    told["parts"].as_array().unwrap().iter().find(|p| p["path"] == part["path"]);
                let same = same.unwrap_or_else(|| panic!("{part:#} {told:#}"));
                // Ids that are not his own keep him out of some directories, and then he is told.
                if part["complete"] == true {
                    assert_eq!(part, same);
                } else {
                    assert!(document["gaps"].to_string().contains("forbidden"), "{document:#}");
                }
            }
            let home = user(&other.podman).home().to_str().unwrap();
            assert!(
                rows(&document).iter().all(|r| !r.to_string().contains(home)
                    && r["owner"]["id"] != other.id.as_str()),
                "{document:#}"
            );
        }
    });
    drop(all);
    cases.finish();
}

#[test]
fn docker_of_a_user() {
    if !require(&["root", "rootlesskit", "newuidmap", "useradd", "su", "docker"]) {
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
    let script = format!(
        "busybox head -c {LAYER} /dev/urandom > /big; busybox seq 1 20000; busybox sync; \
         busybox touch /data/ready; exec busybox sleep 97602"
    );
    let words = ["run", "-d", "--network=none", "-v", &mount, "--name", &name, "lab:1"];
    let id = rootless.cli(&[&words[..], &["busybox", "sh", "-c", &script]].concat());
    let user = rootless.lab_user();
    let data = user.home().join(".local/share/docker");
    wait_for(&data.join("volumes").join(&volume).join("_data/ready"));
    rustix::fs::sync();
    let mut cases = Cases::of("disk-rootless-docker");
    for (who, asking) in [("root", whose()), ("the user", as_user(user))] {
        cases.case(who, || {
            let document = usage_of(&asking);
            let row = of_container(&document, &id);
            as_du_says(row);
            assert_eq!(row["user"], user.name());
            assert!(row["log"].as_u64() > Some(100_000), "{row:#}");
            assert!(row["apparent"].as_u64() > Some(LAYER), "{row:#}");
            if who == "root" {
                assert_eq!(below(&document, &data), du(&[&data]));
            }
        });
    }
    drop(rootless);
    cases.finish();
}

/// An ordinary user is not told that there is nothing where he may not look.
#[test]
fn an_ordinary_user() {
    if !require(&["root", "docker", "cgroup-v2", "mount-namespace", "useradd"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
    docker.image();
    let id = docker.run(&["--name", &unique("closed"), DOCKER_IMAGE, "sleep", "97603"]);
    let user = LabUser::new().unwrap();
    let mut cases = Cases::of("disk-ordinary-user");
    cases.case("what he may not read is unread", || {
        let document = usage_of(&as_user(&user));
        let row = of_container(&document, &id);
        for key in ["bytes", "layer", "log", "volumes", "deleted"] {
            assert_eq!(row[key], Value::Null, "{key}: {row:#}");
        }
        assert_eq!(row["complete"], false, "{row:#}");
        assert!(document["gaps"].to_string().contains("forbidden"), "{document:#}");
        let run = as_user(&user).args(["ls", "--disk"]).run().expect_code(0);
        assert!(run.stderr_str().contains("not read"), "{}", run.story());
        let _ = as_user(&user).args(["ls", "--disk", "--strict"]).run().expect_code(3);
    });
    drop((docker, user));
    cases.finish();
}
