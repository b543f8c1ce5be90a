//! Machines of LXC, LXD and Incus: whose each process is, their names and where they are, against what
//! `lxc-info`, LXD's and Incus's own list and `/proc` say.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use whose_live_tests::compare::{self, millis};
use whose_live_tests::instances::{heard, machine as owner, stored};
use whose_live_tests::sleeper::Sleeper;
use whose_live_tests::{alone, answer, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::facts::Facts;
use whose_testkit::fixture::fake_id;
use whose_testkit::harness::Whose;
use whose_testkit::lxc::Lxc;
use whose_testkit::lxd::{Kind, Lxd};
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, require, skip};

#[test]
fn lxc() {
    if !require(&["root", "lxc-start", "busybox"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("lxc");
    cases.case("a container, its monitor and who was attached", plain);
    cases.case("lxc-execute", execute);
    cases.case("two directories with one name", twice);
    cases.case("a name that looks like Docker's", like_dockers);
    cases.case("frozen, stopped", stopped);
    cases.finish();
}

fn set(list: &Value) -> BTreeSet<u32> {
    list.as_array().into_iter().flatten().filter_map(pid_of).collect()
}

/// Those of the list that have this name and root.
fn listed(args: &[&str], name: &str, rootfs: &str) -> Vec<Value> {
    let document = whose().arg("ls").args(args).arg("--json").run().expect_code(0).json();
    let all = document["containers"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|c| c["name"] == name && c["rootfs"] == rootfs).collect()
}

/// Starts a container that sleeps on a root of its own; its init and the root.
fn start(lxc: &mut Lxc, name: &str) -> (u32, String) {
    let root = busybox_rootfs(&lxc.path().join(name));
    let rootfs = format!("dir:{}", root.display());
    let init = lxc.start(name, &rootfs, "/bin/sleep 10000", &[]).unwrap_or_else(|e| panic!("{e}"));
    (init, root.display().to_string())
}

fn plain() {
    let (mut lxc, name) = (Lxc::new(), unique("web"));
    let (init, root) = start(&mut lxc, &name);
    let attached = Sleeper::start(|n| lxc.attach(&name, &["/bin/sleep", n]));
    let mut facts = Facts::about("lxc");
    for pid in [init, attached.pid()] {
        let told = answer(&pid.to_string());
        compare::kernel(&mut facts, &told, pid);
        owner(&mut facts, &told, ("lxc", &name, &name));
        facts.same("state", told["owner"]["state"].as_str(), Some("running"));
        facts.same("rootfs", told["owner"]["rootfs"].as_str(), Some(root.as_str()));
        facts.same("init_pid", pid_of(&told["owner"]["init_pid"]), Some(init));
        let _ = whose().args(["--in-container", &pid.to_string()]).run().expect_code(0);
    }
    facts.same("init's role", answer(&init.to_string())["process"]["role"].as_str(), Some("init"));
    let monitor = procfs::ppid(init).unwrap();
    let told = answer(&monitor.to_string());
    facts.same("monitor", told["process"]["role"].as_str(), Some("plumbing"));
    facts.same("serves", told["process"]["serves"].as_str(), Some(name.as_str()));
    facts.holds("the monitor is no machine's", told["owner"]["kind"] != "machine", &told["owner"]);
    let wanted = BTreeSet::from([init, attached.pid()]);
    let told = answer(&name);
    owner(&mut facts, &told, ("lxc", &name, &name));
    facts.same("by name", compare::pids(&told["processes"]), wanted.clone());
    let pids: BTreeSet<u32> =
        whose().args(["pids", &name]).run().expect_code(0).pids().into_iter().collect();
    facts.same("pids", pids, wanted.clone());
    let rows = listed(&[], &name, &root);
    facts.same("listed", rows.len(), 1);
    facts.same("its processes", set(&rows[0]["pids"]), wanted);
    compared("lxc, one attached to it", facts.finish(36));
}

/// The monitor is in the foreground then, and has no title of its own.
fn execute() {
    let (mut lxc, name) = (Lxc::new(), unique("exec"));
    // For its configuration; it ends before the other one begins.
    let (_, root) = start(&mut lxc, &name);
    lxc.stop(&name);
    let sleeper = Sleeper::start(|n| {
        let mut command = Command::new("lxc-execute");
        command.arg("-P").arg(lxc.path()).args(["-n", &name, "--", "/bin/sleep", n]);
        command
    });
    let mut facts = Facts::about("lxc-execute");
    let told = answer(&sleeper.pid().to_string());
    owner(&mut facts, &told, ("lxc", &name, &name));
    facts.same("rootfs", told["owner"]["rootfs"].as_str(), Some(root.as_str()));
    let above = answer(&sleeper.above().to_string());
    facts.same("monitor", above["process"]["role"].as_str(), Some("plumbing"));
    facts.same("serves", above["process"]["serves"].as_str(), Some(name.as_str()));
    compared("lxc-execute", facts.finish(8));
}

/// LXC adds a number to the second cgroup; the monitors tell which is whose.
fn twice() {
    let (mut first, mut second, name) = (Lxc::new(), Lxc::new(), unique("twin"));
    let both = [start(&mut first, &name), start(&mut second, &name)];
    let mut facts = Facts::about("twins");
    for (init, root) in &both {
        let told = answer(&init.to_string());
        owner(&mut facts, &told, ("lxc", &name, &name));
        facts.same("rootfs", told["owner"]["rootfs"].as_str(), Some(root.as_str()));
        let rows = listed(&[], &name, root);
        facts.same("listed", rows.len(), 1);
        facts.same("its process", rows.first().map(|r| set(&r["pids"])), Some([*init].into()));
    }
    // Which one is meant can't be told: nothing is printed that a signal could go to.
    let pids = whose().args(["pids", &name]).run();
    facts.holds("no PIDs", pids.stdout.is_empty() && pids.code != Some(0), pids.story());
    compared("two of lxc with one name", facts.finish(15));
}

fn like_dockers() {
    let mut lxc = Lxc::new();
    let name = format!("docker-{}.scope", fake_id(unique("lxc")));
    let (init, root) = start(&mut lxc, &name);
    let mut facts = Facts::about("a name like Docker's");
    let told = answer(&init.to_string());
    owner(&mut facts, &told, ("lxc", &name, &name));
    facts.same("rootfs", told["owner"]["rootfs"].as_str(), Some(root.as_str()));
    let found = answer(&name);
    owner(&mut facts, &found, ("lxc", &name, &name));
    compared("lxc, with a name like Docker's", facts.finish(11));
}

fn stopped() {
    let (mut lxc, name) = (Lxc::new(), unique("halt"));
    let (init, root) = start(&mut lxc, &name);
    let other = unique("other");
    start(&mut lxc, &other);
    let mut facts = Facts::about("states");
    let tool = |tool: &str| {
        let mut command = Command::new(tool);
        let status = command.arg("-P").arg(lxc.path()).args(["-n", &name]).status();
        assert!(status.is_ok_and(|s| s.success()), "{tool}");
    };
    tool("lxc-freeze");
    let told = answer(&init.to_string());
    facts.same("frozen", told["owner"]["state"].as_str(), Some("paused"));
    tool("lxc-unfreeze");
    let told = answer(&init.to_string());
    facts.same("thawed", told["owner"]["state"].as_str(), Some("running"));
    lxc.stop(&name);
    facts.same("not among those that run", listed(&[], &name, &root).len(), 0);
    let rows = listed(&["-a"], &name, &root);
    facts.same("among all", rows.len(), 1);
    facts.same("its state", rows.first().map(|r| r["state"].clone()), Some("exited".into()));
    compared("lxc, frozen and stopped", facts.finish(5));
}

#[test]
fn lxd() {
    if !require(&["root", "lxd", "busybox", "mount-namespace", "setpriv"]) {
        return;
    }
    let _alone = alone();
    of_daemon(Kind::lxd());
}

#[test]
fn incus() {
    if !require(&["root", "busybox", "mount-namespace", "setpriv", "apt-get", "dpkg-deb"]) {
        return;
    }
    let _alone = alone();
    match Kind::incus() {
        Ok(kind) => of_daemon(kind),
        Err(why) => skip("debian13", &why),
    }
}

/// All that is asked of LXD, and of Incus.
fn of_daemon(kind: Kind) {
    let engine = kind.engine;
    let mut lab = LxdLab::start(kind);
    let mut cases = Cases::of(engine);
    cases.case("instances, also of a project", || {
        compared(&format!("{engine}, 4 instances"), instances(&lab).finish(90));
    });
    cases.case("a member of its group asks the daemon", || of_the_group(&lab));
    cases.case("the daemon killed, and started again", || killed(&mut lab));
    cases.case("a directory that only the daemon tells", || by_its_daemon(&lab));
    drop(lab);
    cases.finish();
}

/// An LXD or Incus with four instances: two in the project `default`, one of them privileged, one in another, and
/// one that was never started. Something was run in the first besides.
struct LxdLab {
    // Ends before the daemon does.
    exec: Sleeper,
    names: [String; 4],
    project: String,
    lxd: Lxd,
}

impl LxdLab {
    fn engine(&self) -> &'static str {
        self.lxd.kind().engine
    }

    fn start(kind: Kind) -> LxdLab {
        let lxd = Lxd::start(kind).unwrap_or_else(|e| panic!("{e}"));
        let cli = |args: &[&str]| lxd.cli(args).unwrap_or_else(|e| panic!("{e}"));
        let names = ["c1", "c2", "c3", "c4"].map(unique);
        cli(&["launch", "lab", &names[0], "-c", "user.tier=front"]);
        cli(&["launch", "lab", &names[1], "-c", "security.privileged=true"]);
        let project = format!("p{}", std::process::id());
        let plain = ["-c", "features.images=false", "-c", "features.profiles=false"];
        cli(&[&["project", "create", &project][..], &plain].concat());
        cli(&["launch", "lab", &names[2], "--project", &project]);
        cli(&["init", "lab", &names[3]]);
        let exec = Sleeper::start(|n| lxd.command(&["exec", &names[0], "--", "/bin/sleep", n]));
        LxdLab { exec, names, project, lxd }
    }

    /// `lxc query` of one instance with its state.
    fn query(&self, name: &str) -> Value {
        let project = if name == self.names[2] { &self.project } else { "default" };
        let path = format!("/1.0/instances/{name}?recursion=1&project={project}");
        let text = self.lxd.cli(&["query", &path]).unwrap_or_else(|e| panic!("{e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// Whatever the daemon says of its instances, against what root is told.
fn instances(lab: &LxdLab) -> Facts {
    let mut facts = Facts::about(lab.engine());
    let all = lab.lxd.instances();
    facts.same("instances", all.len(), 4);
    for instance in &all {
        one_instance(&mut facts, lab, instance);
    }
    facts
}

fn one_instance(facts: &mut Facts, lab: &LxdLab, instance: &Value) {
    let text = |key: &str| instance[key].as_str().unwrap_or_default().to_owned();
    let name = text("name");
    let dir = lab.lxd.path();
    let described = |facts: &mut Facts, owner: &Value| stored(facts, owner, instance, &dir);
    if text("status") != "Running" {
        let all = whose().args(["ls", "-a", "--json"]).run().expect_code(0).json();
        let rows = all["containers"].as_array().unwrap();
        let row = rows.iter().find(|r| r["name"] == name.as_str()).cloned().unwrap_or_default();
        facts.same("runtime", row["runtime"].as_str(), Some(lab.engine()));
        facts.same("state", row["state"].as_str(), Some("exited"));
        described(facts, &row);
        return;
    }
    let init = pid_of(&instance["state"]["pid"]).unwrap();
    let told = answer(&init.to_string());
    compare::kernel(facts, &told, init);
    owner(facts, &told, (lab.engine(), &name, &name));
    facts.same("state", told["owner"]["state"].as_str(), Some("running"));
    facts.same("init_pid", pid_of(&told["owner"]["init_pid"]), Some(init));
    described(facts, &told["owner"]);
    let monitor = answer(&procfs::ppid(init).unwrap().to_string());
    facts.same("monitor", monitor["process"]["role"].as_str(), Some("plumbing"));
    facts.same("serves", monitor["process"]["serves"].as_str(), Some(name.as_str()));
    let by_name = answer(&name);
    owner(facts, &by_name, (lab.engine(), &name, &name));
    let count = instance["state"]["processes"].as_u64();
    facts.same("processes", by_name["processes"].as_array().map(|p| p.len() as u64), count);
    let pids = whose().args(["pids", &name]).run().expect_code(0).pids();
    facts.same("pids", pids.len() as u64, count.unwrap_or_default());
    let exe = whose().args(["exe", &init.to_string()]).run().expect_code(0).stdout_str();
    let root = told["owner"]["rootfs"].as_str().unwrap_or_default();
    facts.same("exe", exe.trim_end(), format!("{root}/bin/busybox").as_str());
    if name == lab.names[0] {
        let told = answer(&lab.exec.pid().to_string());
        owner(facts, &told, (lab.engine(), &name, &name));
    }
}

/// As an ordinary user of one group, on a host where the daemon's directory is in its usual place.
fn of_group(lxd: &Lxd, user: &LabUser, group: &str) -> Whose {
    const THERE: &str = "[ -d \"$2\" ] || { mount -t tmpfs -o mode=755 lab /var/lib; mkdir \"$2\"; }\n\
                         mount --bind \"$1\" \"$2\"\nshift 2\nexec setpriv \"$@\"";
    let (var, there) = (lxd.path().display().to_string(), lxd.kind().place);
    let id = user.uid().to_string();
    let unshare = ["unshare", "-m", "--propagation", "private", "sh", "-ec", THERE, "sh"];
    let who = ["--reuid", &id, "--regid", &id, "--groups", group, "--inh-caps=-all", "--"];
    let variable = dir_variable(lxd);
    whose().copied().via(unshare).via([&var, there]).via(who).env(&variable, there)
}

/// Nothing of its directory is for him but its socket.
fn of_the_group(lab: &LxdLab) {
    let user = LabUser::new().unwrap_or_else(|e| panic!("{e}"));
    let his = || of_group(&lab.lxd, &user, &lab.lxd.gid());
    let told = |whose: Whose, target: &str| {
        let document = whose.args(["--json", target]).run().expect_code(0).json();
        document["answers"][0].clone()
    };
    let mut facts = Facts::about(format!("{}, by its daemon", lab.engine()));
    for name in &lab.names[..3] {
        let asked = lab.query(name);
        let init = pid_of(&asked["state"]["pid"]).unwrap();
        let told = told(his(), &init.to_string());
        compare::kernel(&mut facts, &told, init);
        owner(&mut facts, &told, (lab.engine(), name, name));
        let owner = &told["owner"];
        let word = |key: &str| asked["config"][key].as_str();
        facts.same("image", owner["image"].as_str(), word("image.description"));
        facts.same("image_id", owner["image_id"].as_str(), word("volatile.base_image"));
        let created = asked["created_at"].as_str().and_then(millis);
        facts.same("created", owner["created"].as_str(), created.as_deref());
        let started = asked["last_used_at"].as_str().and_then(millis);
        facts.same("started", owner["started"].as_str(), started.as_deref());
        facts.same("state", owner["state"].as_str(), Some("running"));
        facts.same("engine_state", owner["engine_state"].as_str(), Some("running"));
        facts.same("tier", owner["labels"]["user.tier"].as_str(), word("user.tier"));
        let pids = his().args(["pids", name]).run().expect_code(0).pids();
        facts.same("pids", Some(pids.len() as u64), asked["state"]["processes"].as_u64());
        let says = format!("{}'s daemon calls it {name}", lab.engine());
        facts.same("evidence", heard(&told), vec![says]);
    }
    let init = pid_of(&lab.query(&lab.names[0])["state"]["pid"]).unwrap().to_string();
    let stranger = told(of_group(&lab.lxd, &user, "nogroup"), &init);
    facts.same("a stranger hears nothing", heard(&stranger), Vec::<String>::new());
    facts.holds("nor its engine", stranger["owner"]["runtime"] != lab.engine(), &stranger["owner"]);
    facts.same("nor an image", stranger["owner"]["image"].as_str(), None);
    let doctor = his().args(["doctor", "--json"]).run().expect_code(0).json();
    let all = doctor["daemons"].as_array().cloned().unwrap_or_default();
    let daemon = all.iter().find(|d| d["runtime"] == lab.engine()).cloned().unwrap_or_default();
    facts.same("doctor's pid", daemon["pids"].clone(), json!([lab.lxd.daemon_pid()]));
    facts.same("its containers", daemon["containers"].as_u64(), Some(4));
    let what = format!("{}, 3 instances by a member of its group", lab.engine());
    compared(&what, facts.finish(68));
}

/// The variable that says where its directory is.
fn dir_variable(lxd: &Lxd) -> String {
    format!("{}_DIR", lxd.kind().engine.to_uppercase())
}

/// It is in a directory of this test's, which the environment of its daemon says: root may ask the socket there, and
/// finds what is in it when no monitor is left to lead there.
fn by_its_daemon(lab: &LxdLab) {
    let what = format!("{}, by its daemon", lab.engine());
    let mut facts = Facts::about(&what);
    let init = pid_of(&lab.query(&lab.names[0])["state"]["pid"]).unwrap().to_string();
    let variable = dir_variable(&lab.lxd);
    let asks = whose().env(&variable, lab.lxd.path()).args(["--json", "--daemon", &init]);
    let run = asks.run().expect_code(0);
    let told = run.json()["answers"][0].clone();
    let socket = lab.lxd.socket().display().to_string();
    let heard = |e: &&Value| e["source"] == "daemon" && e["path"] == socket.as_str();
    let heard = told["evidence"].as_array().into_iter().flatten().filter(heard).count();
    facts.holds("its daemon is heard", heard == 1, run.story());
    owner(&mut facts, &told, (lab.engine(), &lab.names[0], &lab.names[0]));
    for name in &lab.names[..3] {
        let project = if *name == lab.names[2] { lab.project.as_str() } else { "default" };
        let stop = lab.lxd.cli(&["stop", "--force", name, "--project", project]);
        stop.unwrap_or_else(|e| panic!("{e}"));
    }
    let all = whose().args(["ls", "-a", "--json"]).run().expect_code(0).json();
    let rows = all["containers"].as_array().unwrap();
    for name in &lab.names {
        let row = rows.iter().find(|r| r["name"] == name.as_str()).cloned().unwrap_or_default();
        facts.same(name, row["runtime"].as_str(), Some(lab.engine()));
        facts.same("state", row["state"].as_str(), Some("exited"));
        facts.same("image", row["image"].as_str(), Some("lab image"));
    }
    compared(&what, facts.finish(18));
}

/// What is on disk is told all the same.
fn killed(lab: &mut LxdLab) {
    let targets: Vec<String> = lab.names[..3]
        .iter()
        .map(|name| pid_of(&lab.query(name)["state"]["pid"]).unwrap().to_string())
        .chain([lab.exec.pid().to_string(), lab.names[0].clone()])
        .collect();
    let all = || {
        targets.iter().map(|target| {
            let mut told = answer(target);
            compare::without_volatile(&mut told);
            told
        })
    };
    let before: Vec<Value> = all().collect();
    lab.lxd.kill();
    let mut facts = Facts::about(format!("{}, killed", lab.engine()));
    for ((target, before), told) in targets.iter().zip(&before).zip(all()) {
        facts.same(target, &told, before);
        for key in ["kind", "runtime", "id", "name", "image", "image_id", "state", "created"] {
            facts.holds(key, told["owner"][key].is_string(), &told["owner"]);
        }
    }
    let stopped = whose().args(["pids", &lab.names[3]]).run().expect_code(1).stderr_str();
    let wanted = format!("{} is exited", lab.names[3]);
    facts.holds("what never ran", stopped.contains(&wanted), &stopped);
    lab.lxd.restart().unwrap_or_else(|e| panic!("{e}"));
    let again = instances(lab).finish(90);
    let what = format!("{}, killed, and started again", lab.engine());
    compared(&what, facts.finish(46) + again);
}
