//! A real containerd, driven by `ctr` in two namespaces; answers compared with ctr's own.
//!
//! One engine a view of cgroups, many cases each; `WHOSE_CASE=WORD` runs only some.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::{alone, answer, bundle, compare, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::{Containerd, IMAGE};
use whose_testkit::docker::{View, busybox_rootfs};
use whose_testkit::facts::Facts;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &[
    "root",
    "containerd",
    "ctr",
    "containerd-shim-runc-v2",
    "runc",
    "busybox",
    "cgroup-v2",
    "mount-namespace",
    "strace",
];

/// ctr's namespace when none is named.
const DEFAULT: &str = "default";

#[test]
fn ctr_on_hybrid_cgroups() {
    if require(NEEDS) && require(&["cgroup-hybrid"]) {
        suite(View::Hybrid);
    }
}

#[test]
fn ctr_on_cgroup_v2() {
    if require(NEEDS) {
        suite(View::V2);
    }
}

/// Whoever kills a test with SIGKILL finds nothing of its engine a moment later.
#[test]
fn a_killed_test_leaves_nothing() {
    const CHILD: &str = "WHOSE_TEST_TO_KILL";
    if !require(NEEDS) {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let containerd = Containerd::options().start().unwrap_or_else(|e| panic!("{e}"));
        containerd.image(DEFAULT, "overlayfs");
        let id = unique("left");
        containerd.run(DEFAULT, &[], &[IMAGE, &id, "sleep", "10000"]);
        let init = containerd.init_pid(DEFAULT, &id);
        procfs::wait_for("sleep", Duration::from_secs(20), || {
            procfs::comm(init).filter(|comm| comm == "sleep")
        });
        containerd.cli(DEFAULT, &["tasks", "pause", &id]);
        // The harness's own line has no end yet.
        eprintln!("\nREADY {init} {}", containerd.dir().display());
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let _alone = alone();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["a_killed_test_leaves_nothing", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ready = lines.find_map(|line| line.strip_prefix("READY ").map(str::to_owned));
    child.kill().unwrap();
    child.wait().unwrap();
    let ready = ready.expect("an engine was started");
    let (init, dir) = ready.split_once(' ').unwrap();
    let init: u32 = init.parse().unwrap();
    procfs::wait_for("the engine is gone", Duration::from_secs(30), || {
        (!Path::new(dir).exists() && !procfs::alive(init)).then_some(())
    });
    let marked = |pid: &u32| {
        let shim = procfs::comm(*pid).is_some_and(|comm| comm.starts_with("containerd"));
        shim && procfs::args(*pid).is_some_and(|args| args.iter().any(|arg| arg.contains(dir)))
    };
    let left: Vec<u32> = procfs::pids().into_iter().filter(marked).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A container that runs.
struct Container {
    what: &'static str,
    namespace: String,
    id: String,
    cgroup: String,
    /// Whether its root is a snapshot of the image.
    snapshot: bool,
}

struct Lab {
    containerd: Containerd,
    containers: Vec<Container>,
    /// A second namespace.
    shop: String,
    /// An id that is in both.
    twin: String,
}

impl Lab {
    fn start(view: View) -> Lab {
        let unique = |name: &str| unique(&format!("{name}-{}", view.name()));
        let (shop, elsewhere) = (unique("shop"), unique("anything"));
        let options = Containerd::options().view(view).group(&shop).group(&elsewhere);
        let containerd = options.start().unwrap_or_else(|e| panic!("{e}"));
        let mut lab = Lab { containerd, containers: Vec::new(), shop, twin: unique("twin") };
        lab.containerd.image(DEFAULT, "overlayfs");
        lab.containerd.image(DEFAULT, "native");
        lab.containerd.image(&lab.shop, "overlayfs");
        let (shop, twin) = (lab.shop.clone(), lab.twin.clone());
        let two = ["sh", "-c", "sleep 10001 & exec sleep 10000"];
        let labels = ["--label", "tier=front", "--label", "odd=\u{e9} =,\"x\"\\ y"];
        let web = unique("web");
        lab.add("plain", DEFAULT, &web, &labels, &two);
        lab.containerd.exec(DEFAULT, &web, "e1", &["sleep", "20001"]);
        lab.add("twin", DEFAULT, &twin, &["--label", "side=left"], &["sleep", "10002"]);
        lab.add("twin-elsewhere", &shop, &twin, &["--label", "side=right"], &["sleep", "10003"]);
        let hex =
            format!("{:064x}", (0xfeed_u64 + view as u64) << 32 | u64::from(std::process::id()));
        lab.add("hex-id", &shop, &hex, &[], &["sleep", "10004"]);
        lab.add(
            "native",
            DEFAULT,
            &unique("native"),
            &["--snapshotter", "native"],
            &["sleep", "10005"],
        );
        let elsewhere = format!("/{elsewhere}/x");
        lab.add("cgroup", DEFAULT, &unique("away"), &["--cgroup", &elsewhere], &["sleep", "10006"]);
        lab.containers.last_mut().expect("one was added").cgroup = elsewhere;
        lab.add("paused", DEFAULT, &unique("paused"), &[], &["sleep", "10007"]);
        lab.add_rootfs(&unique("bare"));
        lab.settle();
        lab.containerd.cli(DEFAULT, &["tasks", "pause", &lab.id("paused")]);
        lab
    }

    fn add(
        &mut self,
        what: &'static str,
        namespace: &str,
        id: &str,
        options: &[&str],
        command: &[&str],
    ) {
        self.containerd.run(namespace, options, &[&[IMAGE, id][..], command].concat());
        self.containers.push(Container {
            what,
            namespace: namespace.to_owned(),
            id: id.to_owned(),
            cgroup: format!("/{namespace}/{id}"),
            snapshot: true,
        });
    }

    /// Of a directory, with neither an image nor a snapshot.
    fn add_rootfs(&mut self, id: &str) {
        let root = busybox_rootfs(&self.containerd.dir().join("bare"));
        let root = root.display().to_string();
        self.containerd.run(DEFAULT, &["--rootfs"], &[&root, id, "/bin/sleep", "10008"]);
        self.containers.push(Container {
            what: "rootfs",
            namespace: DEFAULT.to_owned(),
            id: id.to_owned(),
            cgroup: format!("/{DEFAULT}/{id}"),
            snapshot: false,
        });
    }

    /// Waits until no process is a shell or the runtime any more.
    fn settle(&self) {
        for one in &self.containers {
            let count = if one.what == "plain" { 3 } else { 1 };
            procfs::wait_for(one.what, Duration::from_secs(20), || {
                let pids = self.containerd.pids(&one.namespace, &one.id);
                let settled = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "sleep");
                (pids.len() == count && pids.iter().all(settled)).then_some(())
            });
        }
    }

    fn find(&self, what: &str) -> &Container {
        self.containers.iter().find(|one| one.what == what).expect("there is one")
    }

    fn id(&self, what: &str) -> String {
        self.find(what).id.clone()
    }

    /// The first process of each.
    fn inits(&self) -> impl Iterator<Item = u32> {
        self.containers.iter().map(|one| self.init(one.what))
    }

    fn init(&self, what: &str) -> u32 {
        let one = self.find(what);
        self.containerd.init_pid(&one.namespace, &one.id)
    }
}

fn suite(view: View) {
    let _alone = alone();
    let mut lab = Lab::start(view);
    let mut cases = Cases::of(format!("containerd-{}", view.name()));
    for one in &lab.containers {
        cases.case(one.what, || described(&lab, one));
    }
    cases.case("exec", || exec(&lab));
    cases.case("one id in two namespaces", || twins(&lab));
    cases.case("stopped and created", || stopped(&lab));
    cases.case("daemon", || daemon(&lab));
    let pids: Vec<String> = lab.inits().map(|pid| pid.to_string()).collect();
    cases.case("strace", || bundle::only_examined(&pids));
    cases.case("captured", || {
        bundle::captured(&pids, &format!("debian-12-containerd-{}", view.name()))
    });
    cases.case("daemon killed, and started again", || killed(&mut lab));
    drop(lab);
    cases.finish();
}

/// Everything of a container that runs.
fn described(lab: &Lab, one: &Container) {
    let containerd = &lab.containerd;
    let mut facts = Facts::about(one.what);
    let told = bundle::task(&mut facts, containerd, (&one.namespace, &one.id), &one.cgroup);
    let owner = &told["owner"];
    facts.same("kind", owner["kind"].as_str(), Some("container"));
    facts.same("role", told["process"]["role"].as_str(), Some("init"));
    by_ctr(&mut facts, containerd, one, owner);
    let init = lab.init(one.what);
    bundle::shim(&mut facts, init, &one.id);
    let run = whose().args(["pids", &one.id]).run();
    if one.id != lab.twin {
        let wanted = containerd.pids(&one.namespace, &one.id);
        facts.same("pids", BTreeSet::from_iter(run.expect_code(0).pids()), wanted);
    }
    let bare = containerd.dir().join("bare");
    bundle::exe(&mut facts, init, if one.snapshot { containerd.root() } else { bare }.as_path());
    facts.finish(30);
}

/// What `ctr containers info` says of it.
fn by_ctr(facts: &mut Facts, containerd: &Containerd, one: &Container, owner: &Value) {
    let info = containerd.info(&one.namespace, &one.id);
    facts.same("id", &owner["id"], &info["ID"]);
    // An id that someone chose is a name.
    let chosen = (one.what != "hex-id").then_some(one.id.as_str());
    facts.same("name", owner["name"].as_str(), chosen);
    compare::labels(facts, &owner["labels"], &info["Labels"]);
    facts.same("created", owner["created"].as_str(), bundle::time(&info["CreatedAt"]).as_deref());
    let image = info["Image"].as_str().filter(|image| !image.is_empty());
    facts.same("image", owner["image"].as_str(), image);
    let digest = image.map(|image| containerd.image_digest(&one.namespace, image));
    facts.same("image_id", owner["image_id"].as_str(), digest.as_deref());
}

/// A process beside the init: a child of the shim, in the container.
fn exec(lab: &Lab) {
    let (one, init) = (lab.find("plain"), lab.init("plain"));
    let file = lab.containerd.bundle(DEFAULT, &one.id).join("e1.pid");
    let pid: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let told = answer(&pid.to_string());
    let mut facts = Facts::about("an exec'd process");
    compare::process(&mut facts, &told, pid, &one.id);
    facts.same("role", told["process"]["role"].as_str(), Some("exec"));
    facts.same("parent", pid_of(&told["process"]["ppid"]), procfs::ppid(init));
    facts.same("init_pid", pid_of(&told["owner"]["init_pid"]), Some(init));
    facts.finish(12);
}

/// Each is told by its PID, both by the id.
fn twins(lab: &Lab) {
    let mut facts = Facts::about("one id in two namespaces");
    for (what, side) in [("twin", "left"), ("twin-elsewhere", "right")] {
        let told = answer(&lab.init(what).to_string());
        facts.same(what, told["owner"]["id"].as_str(), Some(lab.twin.as_str()));
        facts.same(what, told["owner"]["labels"]["side"].as_str(), Some(side));
    }
    let run = whose().args(["--json", &lab.twin]).run().expect_code(4);
    let told = run.json()["answers"][0].clone();
    facts.same("status", told["status"].as_str(), Some("ambiguous"));
    let candidates = told["candidates"].as_array().cloned().unwrap_or_default();
    let mut each = BTreeSet::new();
    for candidate in candidates.iter().filter_map(Value::as_str) {
        let told = answer(candidate);
        let init = pid_of(&told["owner"]["init_pid"]).expect("a PID");
        let pids = whose().args(["pids", candidate]).run().expect_code(0).pids();
        facts.same(candidate, pids, vec![init]);
        each.insert(init);
    }
    let wanted = ["twin", "twin-elsewhere"].map(|what| lab.init(what));
    facts.same("candidates", each, BTreeSet::from(wanted));
    let run = whose().args(["pids", &lab.twin]).run().expect_code(4);
    facts.holds("no PIDs", run.stdout.is_empty(), run.story());
    facts.finish(9);
}

/// One whose task has ended, and one that never had a task.
fn stopped(lab: &Lab) {
    let (ended, fresh) = (unique("ended"), unique("fresh"));
    lab.containerd.run(DEFAULT, &[], &[IMAGE, &ended, "sh", "-c", "exit 3"]);
    procfs::wait_for("its end", Duration::from_secs(20), || {
        (lab.containerd.tasks(DEFAULT)[&ended].status == "STOPPED").then_some(())
    });
    lab.containerd.cli(DEFAULT, &["containers", "create", IMAGE, &fresh, "sleep", "1"]);
    for (id, state) in [(&ended, "exited"), (&fresh, "created")] {
        let told = answer(id);
        let mut facts = Facts::about(state);
        let info = lab.containerd.info(DEFAULT, id);
        let owner = &told["owner"];
        facts.same("id", owner["id"].as_str(), Some(id.as_str()));
        facts.same("runtime", owner["runtime"].as_str(), Some("containerd"));
        facts.same("state", owner["state"].as_str(), Some(state));
        facts.same("labels", &owner["labels"], &info["Labels"]);
        facts.same("image", &owner["image"], &info["Image"]);
        facts.holds("no processes", compare::pids(&told["processes"]).is_empty(), &told);
        let run = whose().args(["pids", id]).run();
        facts.same("pids: exit status", run.code, Some(1));
        facts.finish(7);
    }
    lab.containerd.remove(DEFAULT, &ended);
    lab.containerd.cli(DEFAULT, &["containers", "delete", &fresh]);
}

fn daemon(lab: &Lab) {
    let pid = lab.containerd.daemon_pid().expect("it runs");
    let told = answer(&pid.to_string());
    assert_eq!(told["process"]["role"], "plumbing", "{told:#}");
    assert_ne!(told["owner"]["kind"], "container", "{told:#}");
}

/// Answers need no daemon.
fn killed(lab: &mut Lab) {
    let inits: Vec<u32> = lab.inits().collect();
    let before: Vec<Value> = inits.iter().map(|pid| told(*pid)).collect();
    let daemon = lab.containerd.daemon_pid().expect("it runs");
    lab.containerd.kill9();
    assert!(!procfs::alive(daemon));
    let mut facts = Facts::about("without a daemon");
    let compare = |facts: &mut Facts, when: &str| {
        for ((one, pid), before) in lab.containers.iter().zip(&inits).zip(&before) {
            facts.holds("alive", procfs::state(*pid).is_some(), pid);
            facts.same(&format!("{} {when}", one.what), &told(*pid), before);
        }
    };
    compare(&mut facts, "killed");
    lab.containerd.start().unwrap_or_else(|e| panic!("{e}"));
    compare(&mut facts, "started again");
    for (one, pid) in lab.containers.iter().zip(&inits) {
        facts.same("still its init", lab.containerd.init_pid(&one.namespace, &one.id), *pid);
    }
    facts.finish(5 * 8);
}

/// The whole answer for a process, without what may change by itself.
fn told(pid: u32) -> Value {
    let mut told = answer(&pid.to_string());
    compare::without_volatile(&mut told);
    told
}
