//! Instances of an Incus in a machine of Debian 13: asked there by root, and from the host, against what Incus's own
//! list says. What it tells on a host is in `lxc.rs`, with LXD's.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use whose_live_tests::compare::{self, millis};
use whose_live_tests::instances::{machine as owner, stored};
use whose_live_tests::sleeper::Sleeper;
use whose_live_tests::{alone, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::incus::{DIR, Incus};
use whose_testkit::podman_machine::Programs;
use whose_testkit::{require, skip};

const ENGINE: &str = "incus";
const PROGRAM: &str = "/whose";

#[test]
fn incus_in_a_machine() {
    let programs = ["apt-get", "dpkg-deb", "systemd-nspawn", "nsenter", "setpriv"];
    if !require(&[&["root", "busybox"][..], &programs].concat()) {
        return;
    }
    let _alone = alone();
    let programs = match Programs::debian13() {
        Ok(programs) => programs,
        Err(why) => return skip("debian13", &why),
    };
    let lab = Lab::start(&programs);
    let mut cases = Cases::of(ENGINE);
    cases.case("instances, also of a project, in the machine", || inside(&lab));
    cases.case("the same from the host", || from_the_host(&lab));
    drop(lab);
    cases.finish();
}

/// An Incus with four instances: two in the project `default`, one of them privileged, one in another, and one
/// that was never started. Something was run in the first besides.
struct Lab {
    // Ends before the machine does.
    exec: Sleeper,
    names: [String; 4],
    incus: Incus,
}

impl Lab {
    fn start(programs: &Programs) -> Lab {
        let incus = Incus::start(programs).unwrap_or_else(|e| panic!("{e}"));
        let program = incus.machine().root().join(PROGRAM.trim_start_matches('/'));
        std::fs::copy(whose().bin(), program).unwrap();
        let names = ["c1", "c2", "c3", "c4"].map(unique);
        incus.cli(&["launch", "lab", &names[0], "-c", "user.tier=front"]);
        incus.cli(&["launch", "lab", &names[1], "-c", "security.privileged=true"]);
        let plain = ["-c", "features.images=false", "-c", "features.profiles=false"];
        incus.cli(&[&["project", "create", "other"][..], &plain].concat());
        incus.cli(&["launch", "lab", &names[2], "--project", "other"]);
        incus.cli(&["init", "lab", &names[3]]);
        let before = incus.machine().inside();
        let exec = Sleeper::start(|n| {
            let mut command = Command::new(&before[0]);
            command.args(&before[1..]).args(["incus", "exec", &names[0], "--", "/bin/sleep", n]);
            command
        });
        Lab { exec, names, incus }
    }

    /// `whose` in the machine, as root.
    fn inside(&self) -> Whose {
        Whose::new(PROGRAM).via(self.incus.machine().inside())
    }

    /// Those that run, as Incus lists them, with the PIDs of their inits: in the machine and here.
    fn running(&self) -> Vec<(Value, u32, u32)> {
        let all = self.incus.instances();
        assert_eq!(all.len(), 4, "{all:#?}");
        let runs = all.into_iter().filter(|i| i["status"] == "Running");
        let running: Vec<(Value, u32, u32)> = runs
            .map(|instance| {
                let init = pid_of(&instance["state"]["pid"]).unwrap();
                let outer = self.incus.machine().outside(init).expect("the host sees it");
                (instance, init, outer)
            })
            .collect();
        assert_eq!(running.len(), 3);
        running
    }
}

/// Without its root, which from the host leads through one of the machine's processes, not always the same.
fn rootless(owner: &Value) -> Value {
    let mut owner = owner.clone();
    owner.as_object_mut().unwrap().remove("rootfs");
    owner
}

/// The directory that a path leads to.
fn place(path: &Path) -> (u64, u64) {
    let found = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (found.dev(), found.ino())
}

fn told(whose: &Whose, target: &str) -> Value {
    let run = whose.clone().args(["--json", target]).run().expect_code(0);
    run.json()["answers"][0].clone()
}

/// How many are in it: without a controller of PIDs Incus counts its init and what is below that.
fn count(lab: &Lab, instance: &Value) -> u64 {
    let joined = instance["name"] == lab.names[0].as_str();
    instance["state"]["processes"].as_u64().unwrap() + u64::from(joined)
}

/// What is the same wherever one asks, `init` being the PID there.
fn by_pid_and_name(
    facts: &mut Facts,
    (lab, asker): (&Lab, &Whose),
    instance: &Value,
    init: u32,
) -> Value {
    let name = instance["name"].as_str().unwrap();
    let by_pid = told(asker, &init.to_string());
    owner(facts, &by_pid, (ENGINE, name, name));
    let its = &by_pid["owner"];
    facts.same("state", its["state"].as_str(), Some("running"));
    facts.same("init_pid", pid_of(&its["init_pid"]), Some(init));
    facts.same("role", by_pid["process"]["role"].as_str(), Some("init"));
    facts.same("inside", by_pid["process"]["inside_pid"].as_u64(), Some(1));
    let image = instance["config"]["volatile.base_image"].as_str();
    facts.same("image_id", its["image_id"].as_str(), image);
    facts.same("image", its["image"].as_str(), Some("lab image"));
    let created = instance["created_at"].as_str().and_then(millis);
    facts.same("created", its["created"].as_str(), created.as_deref());
    let by_name = told(asker, name);
    facts.same("by name", rootless(&by_name["owner"]), rootless(its));
    let processes = by_name["processes"].as_array().map(Vec::len);
    facts.same("processes", processes.map(|n| n as u64), Some(count(lab, instance)));
    let pids = asker.clone().args(["pids", name]).run().expect_code(0).pids();
    facts.same("pids", pids.len() as u64, count(lab, instance));
    facts.holds("its init", pids.contains(&init), &pids);
    let list = asker.clone().args(["ls", "--json"]).run().expect_code(0).json();
    let rows = list["containers"].as_array().unwrap();
    let rows: Vec<&Value> = rows.iter().filter(|row| row["name"] == name).collect();
    facts.same("listed", rows.len(), 1);
    facts.same("of this engine", rows[0]["runtime"].as_str(), Some(ENGINE));
    let listed: BTreeSet<u32> = set(&rows[0]["pids"]);
    facts.same("its processes in the list", listed, pids.into_iter().collect());
    by_pid
}

fn set(list: &Value) -> BTreeSet<u32> {
    list.as_array().into_iter().flatten().filter_map(pid_of).collect()
}

/// By root in the machine, where it is a host.
fn inside(lab: &Lab) {
    let asker = lab.inside();
    let mut facts = Facts::about("incus in its machine");
    for (instance, init, _) in lab.running() {
        let name = instance["name"].as_str().unwrap();
        let by_pid = by_pid_and_name(&mut facts, (lab, &asker), &instance, init);
        stored(&mut facts, &by_pid["owner"], &instance, Path::new(DIR));
        let exe = asker.clone().args(["exe", &init.to_string()]).run().expect_code(0).stdout_str();
        let root = by_pid["owner"]["rootfs"].as_str().unwrap_or_default();
        facts.same("exe", exe.trim_end(), format!("{root}/bin/busybox").as_str());
        let monitor = told(&asker, &by_pid["process"]["ppid"].to_string());
        facts.same("monitor", monitor["process"]["role"].as_str(), Some("plumbing"));
        facts.same("serves", monitor["process"]["serves"].as_str(), Some(name));
        facts.holds("the monitor is no machine's", monitor["owner"]["kind"] != "machine", &monitor);
    }
    let all = lab.incus.instances();
    let new = all.iter().find(|i| i["name"] == lab.names[3].as_str()).unwrap();
    let list = asker.clone().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    let rows = list["containers"].as_array().unwrap();
    let row = rows.iter().find(|r| r["name"] == new["name"]).cloned().unwrap_or_default();
    facts.same("runtime", row["runtime"].as_str(), Some(ENGINE));
    facts.same("state", row["state"].as_str(), Some("exited"));
    stored(&mut facts, &row, new, Path::new(DIR));
    compared("incus, 4 instances", facts.finish(87));
}

/// By root on the host: the machine is around each.
fn from_the_host(lab: &Lab) {
    let asker = whose();
    let mut facts = Facts::about("incus from outside");
    for (instance, _, outer) in lab.running() {
        let by_pid = by_pid_and_name(&mut facts, (lab, &asker), &instance, outer);
        compare::kernel(&mut facts, &by_pid, outer);
        facts.same("around it", by_pid["chain"][0]["runtime"].as_str(), Some("systemd-nspawn"));
        let exe = asker.clone().args(["exe", &outer.to_string()]).run().expect_code(0).stdout_str();
        let below = exe.trim_end().strip_prefix(&lab.incus.machine().root().display().to_string());
        let is_its =
            below.is_some_and(|path| path.starts_with(DIR) && path.ends_with("/bin/busybox"));
        facts.holds("exe", is_its, &exe);
        let rootfs = Path::new(by_pid["owner"]["rootfs"].as_str().unwrap_or_default());
        let own = Path::new(exe.trim_end()).ancestors().nth(2).unwrap();
        facts.same("rootfs", place(rootfs), place(own));
    }
    let name = &lab.names[0];
    owner(&mut facts, &told(&asker, &lab.exec.pid().to_string()), (ENGINE, name, name));
    compared("incus, 3 instances from the host", facts.finish(92));
}
