//! Pods in a real containerd, driven over CRI as the kubelet does; answers compared with CRI's own.
//!
//! `WHOSE_CASE=WORD` runs only some of the cases.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::{alone, answer, bundle, compare, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::{Containerd, IMAGE, PAUSE};
use whose_testkit::cri::{Cri, Driver, Namespaces, Pod, Qos};
use whose_testkit::facts::Facts;
use whose_testkit::harness::Whose;
use whose_testkit::{procfs, require};

const NEEDS: &[&str] = &["root", "cri", "cgroup-hybrid", "mount-namespace", "strace"];
/// CRI's namespace of containerd.
const NAMESPACE: &str = "k8s.io";
/// The namespace of Kubernetes.
const SHOP: &str = "shop";

/// What a container of a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    what: &'static str,
    pod: usize,
    id: String,
    /// The container's name in its pod, none for the sandbox.
    name: Option<&'static str>,
    processes: usize,
}

struct Lab {
    containerd: Containerd,
    pods: Vec<Pod>,
    containers: Vec<Container>,
    /// The container that was there before the restarted one.
    first_try: String,
}

/// A uid no other run has; the kubelet's of a static pod is 32 hex digits.
fn uid(number: u32) -> String {
    format!("3d4e5f60-{number:04x}-4555-8666-{:012x}", std::process::id())
}

impl Lab {
    fn start() -> Lab {
        let containerd = Containerd::options().cri().start().unwrap_or_else(|e| panic!("{e}"));
        containerd.pause_image();
        containerd.image(NAMESPACE, "overlayfs");
        let mut lab =
            Lab { containerd, pods: Vec::new(), containers: Vec::new(), first_try: String::new() };
        let demo = lab.pod("burstable", Pod::new(SHOP, &unique("demo"), &uid(1)));
        lab.run(
            demo,
            "two-processes",
            "web",
            0,
            2,
            &["sh", "-c", "sleep 10001 & exec sleep 10000"],
        );
        lab.run(demo, "first-try", "side", 0, 1, &["sleep", "10002"]);
        // A restart is a new container in the same pod.
        let old = lab.containers.pop().expect("it was added");
        lab.cri().stop(&old.id);
        lab.first_try = old.id;
        lab.run(demo, "restarted", "side", 1, 1, &["sleep", "10003"]);
        let mut pod = Pod::new("kube-system", &unique("agent"), &uid(2));
        pod.qos = Qos::Guaranteed;
        pod.namespaces = Namespaces { host_network: true, shared_pids: false };
        let agent = lab.pod("guaranteed", pod);
        lab.run(agent, "host-network", "agent", 0, 1, &["sleep", "10004"]);
        let mut pod = Pod::new(SHOP, &unique("batch"), &uid(3));
        pod.qos = Qos::BestEffort;
        pod.namespaces = Namespaces { host_network: false, shared_pids: true };
        let batch = lab.pod("besteffort", pod);
        lab.run(batch, "shared-pids", "job", 0, 1, &["sleep", "10005"]);
        let fixed = format!("{:032x}", 0xfeed_u64 << 32 | u64::from(std::process::id()));
        let node = lab.pod("static", Pod::new("kube-system", &unique("etcd"), &fixed));
        lab.run(node, "of-a-static-pod", "etcd", 0, 1, &["sleep", "10006"]);
        let web = lab.find("two-processes").id.clone();
        lab.containerd.exec(NAMESPACE, &web, "e1", &["sleep", "20001"]);
        lab.settle();
        lab
    }

    fn cri(&self) -> Cri<'_> {
        Cri::of(&self.containerd)
    }

    /// Adds a pod, and its sandbox to the containers.
    fn pod(&mut self, what: &'static str, pod: Pod) -> usize {
        let id = self.cri().run_pod(&pod).unwrap_or_else(|e| panic!("{e}"));
        let number = self.pods.len();
        self.pods.push(pod);
        self.containers.push(Container { what, pod: number, id, name: None, processes: 1 });
        number
    }

    fn run(
        &mut self,
        pod: usize,
        what: &'static str,
        name: &'static str,
        attempt: u32,
        processes: usize,
        words: &[&str],
    ) {
        let sandbox = self.sandbox(pod).id.clone();
        let id = self.cri().run(&self.pods[pod], &sandbox, name, attempt, words);
        self.containers.push(Container { what, pod, id, name: Some(name), processes });
    }

    fn sandbox(&self, pod: usize) -> &Container {
        let mut found = self.containers.iter();
        found.find(|one| one.pod == pod && one.name.is_none()).expect("a pod has a sandbox")
    }

    fn find(&self, what: &str) -> &Container {
        self.containers.iter().find(|one| one.what == what).expect("there is one")
    }

    /// The first process of each.
    fn inits(&self) -> impl Iterator<Item = u32> {
        self.containers.iter().map(|one| self.init(one))
    }

    fn init(&self, one: &Container) -> u32 {
        self.containerd.init_pid(NAMESPACE, &one.id)
    }

    /// Waits until no process is a shell or the runtime any more.
    fn settle(&self) {
        for one in &self.containers {
            let count = one.processes + usize::from(one.what == "two-processes");
            let comm = if one.name.is_some() { "sleep" } else { "pause" };
            procfs::wait_for(one.what, Duration::from_secs(20), || {
                let pids = self.containerd.pids(NAMESPACE, &one.id);
                let settled = |pid: &u32| procfs::comm(*pid).is_some_and(|told| told == comm);
                (pids.len() == count && pids.iter().all(settled)).then_some(())
            });
        }
    }
}

#[test]
fn pods_with_the_cgroupfs_driver() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let mut lab = Lab::start();
    let mut cases = Cases::of("kubernetes");
    for one in &lab.containers {
        cases.case(one.what, || described(&lab, one));
    }
    cases.case("the kubelet's cgroups", || cgroups(&lab));
    cases.case("exec", || exec(&lab));
    cases.case("pods", || pods(&lab));
    cases.case("the first try of a restarted container", || first_try(&lab));
    let pids: Vec<String> = lab.inits().map(|pid| pid.to_string()).collect();
    cases.case("strace", || bundle::only_examined(&pids));
    cases.case("captured", || bundle::captured(&pids, "debian-12-kubernetes-hybrid"));
    cases.case("daemon killed, and started again", || killed(&mut lab));
    drop(lab);
    cases.finish();
}

/// Everything of one container, or sandbox.
fn described(lab: &Lab, one: &Container) {
    let pod = &lab.pods[one.pod];
    let cgroup = pod.cgroup_of(&one.id);
    let mut facts = Facts::about(one.what);
    let told = bundle::task(&mut facts, &lab.containerd, (NAMESPACE, &one.id), &cgroup);
    let owner = &told["owner"];
    match one.name {
        Some(name) => by_container_status(&mut facts, lab, one, name, owner),
        None => by_sandbox_status(&mut facts, lab, one, owner),
    }
    in_its_pod(&mut facts, pod, one.name, &told);
    let role = if one.name.is_some() { "init" } else { "sandbox" };
    facts.same("role", told["process"]["role"].as_str(), Some(role));
    let init = lab.init(one);
    let pids = whose().args(["pids", &one.id]).run().expect_code(0).pids();
    let wanted = lab.containerd.pids(NAMESPACE, &one.id);
    facts.same("pids", BTreeSet::from_iter(pids), wanted);
    // One shim a pod.
    bundle::shim(&mut facts, init, &lab.sandbox(one.pod).id);
    bundle::exe(&mut facts, init, &lab.containerd.root());
    if one.what == "shared-pids" {
        let inside = pid_of(&told["process"]["inside_pid"]);
        facts.holds("not the first of the pod", inside.is_some_and(|pid| pid > 1), inside);
    }
    facts.finish(35);
}

/// What `ContainerStatus` says.
fn by_container_status(facts: &mut Facts, lab: &Lab, one: &Container, name: &str, owner: &Value) {
    let status = lab.cri().container(&one.id);
    facts.same("CRI: running", status["state"].as_u64(), Some(1));
    facts.same("kind", owner["kind"].as_str(), Some("container"));
    facts.same("id", &owner["id"], &status["id"]);
    facts.same("name", owner["name"].as_str(), Some(name));
    facts.same("pod.container", &owner["pod"]["container"], &status["metadata"]["name"]);
    facts.same("image", &owner["image"], &status["image"]["image"]);
    facts.same("image_id", &owner["image_id"], &status["image_ref"]);
    facts.same(
        "created",
        owner["created"].as_str(),
        bundle::time(&status["created_at"]).as_deref(),
    );
    facts.same(
        "started",
        owner["started"].as_str(),
        bundle::time(&status["started_at"]).as_deref(),
    );
    facts.same("init_pid", pid_of(&owner["init_pid"]), pid_of(&status["info"]["pid"]));
    facts.same("log", &owner["log"], &status["log_path"]);
    labels(facts, owner, &status["labels"]);
}

/// What `PodSandboxStatus` says.
fn by_sandbox_status(facts: &mut Facts, lab: &Lab, one: &Container, owner: &Value) {
    let status = lab.cri().sandbox(&one.id);
    facts.same("CRI: ready", status["state"].as_u64(), Some(0));
    facts.same("kind", owner["kind"].as_str(), Some("sandbox"));
    facts.same("id", &owner["id"], &status["id"]);
    facts.same("image", owner["image"].as_str(), Some(PAUSE));
    facts.same(
        "created",
        owner["created"].as_str(),
        bundle::time(&status["created_at"]).as_deref(),
    );
    facts.same("init_pid", pid_of(&owner["init_pid"]), pid_of(&status["info"]["pid"]));
    facts.same("name", &owner["name"], &status["metadata"]["name"]);
    facts.same("pod.name", &owner["pod"]["name"], &status["metadata"]["name"]);
    facts.same("pod.container", &owner["pod"]["container"], &Value::Null);
    labels(facts, owner, &status["labels"]);
}

/// CRI leaves out those of the image and its own; the others must be there.
fn labels(facts: &mut Facts, owner: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().expect("labels") {
        facts.same(key, &owner["labels"][key], value);
    }
}

/// The pod of an owner, and as its place in the chain.
fn in_its_pod(facts: &mut Facts, pod: &Pod, container: Option<&str>, told: &Value) {
    let chain = told["chain"].as_array().cloned().unwrap_or_default();
    let above = chain.len().checked_sub(2).map(|at| chain[at].clone()).unwrap_or_default();
    facts.same("chain: pod", above["kind"].as_str(), Some("pod"));
    facts.same("chain: id", above["id"].as_str(), Some(pod.uid.as_str()));
    for (what, owner) in [("pod", &told["owner"]), ("chain: pod", &above)] {
        let told = &owner["pod"];
        facts.same(&format!("{what}.uid"), told["uid"].as_str(), Some(pod.uid.as_str()));
        facts.same(&format!("{what}.name"), told["name"].as_str(), Some(pod.name.as_str()));
        let namespace = Some(pod.namespace.as_str());
        facts.same(&format!("{what}.namespace"), told["namespace"].as_str(), namespace);
    }
    facts.same("pod.container", told["owner"]["pod"]["container"].as_str(), container);
}

/// Where the kubelet wants them is where they are.
fn cgroups(lab: &Lab) {
    let mut facts = Facts::about("cgroups");
    for one in &lab.containers {
        let text = procfs::cgroup(lab.init(one)).unwrap_or_default();
        let wanted = format!(":{}\n", lab.pods[one.pod].cgroup_of(&one.id));
        facts.holds(one.what, text.contains(&wanted), text);
    }
    facts.finish(9);
}

fn exec(lab: &Lab) {
    let one = lab.find("two-processes");
    let file = lab.containerd.bundle(NAMESPACE, &one.id).join("e1.pid");
    let pid: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let told = answer(&pid.to_string());
    let mut facts = Facts::about("an exec'd process");
    compare::process(&mut facts, &told, pid, &one.id);
    facts.same("role", told["process"]["role"].as_str(), Some("exec"));
    facts.same("parent", pid_of(&told["process"]["ppid"]), procfs::ppid(lab.init(one)));
    facts.same("init_pid", pid_of(&told["owner"]["init_pid"]), Some(lab.init(one)));
    in_its_pod(&mut facts, &lab.pods[one.pod], one.name, &told);
    facts.finish(20);
}

/// Pods as targets: by name, by uid, with a container.
fn pods(lab: &Lab) {
    let mut facts = Facts::about("pods as targets");
    for (number, pod) in lab.pods.iter().enumerate() {
        let members = lab.containers.iter().filter(|one| one.pod == number);
        let wanted: BTreeSet<u32> =
            members.clone().flat_map(|one| lab.containerd.pids(NAMESPACE, &one.id)).collect();
        let named = format!("pod:{}/{}", pod.namespace, pod.name);
        for target in [named.as_str(), &format!("pod:{}", pod.uid)] {
            let told = answer(target);
            facts.same("kind", told["kind"].as_str(), Some("pod"));
            facts.same(target, told["owner"]["pod"]["uid"].as_str(), Some(pod.uid.as_str()));
            let pids = whose().args(["pids", target]).run().expect_code(0).pids();
            facts.same(target, BTreeSet::from_iter(pids), wanted.clone());
        }
        for one in members.filter(|one| one.name.is_some()) {
            let target = format!("{named}/{}", one.name.unwrap_or_default());
            let told = answer(&target);
            facts.same(&target, told["owner"]["id"].as_str(), Some(one.id.as_str()));
            let pids = whose().args(["pids", &target]).run().expect_code(0).pids();
            let wanted = lab.containerd.pids(NAMESPACE, &one.id);
            facts.same(&target, BTreeSet::from_iter(pids), wanted);
        }
    }
    facts.finish(4 * 6 + 5 * 2);
}

/// It has ended: its record is there, its bundle is gone.
fn first_try(lab: &Lab) {
    let pod = &lab.pods[lab.find("restarted").pod];
    let told = answer(&lab.first_try);
    let owner = &told["owner"];
    let status = lab.cri().container(&lab.first_try);
    let mut facts = Facts::about("the first try");
    facts.same("CRI: exited", status["state"].as_u64(), Some(2));
    facts.same("id", owner["id"].as_str(), Some(lab.first_try.as_str()));
    facts.same("state", owner["state"].as_str(), Some("exited"));
    facts.same("pod.name", owner["pod"]["name"].as_str(), Some(pod.name.as_str()));
    facts.same("pod.container", owner["pod"]["container"].as_str(), Some("side"));
    facts.same(
        "created",
        owner["created"].as_str(),
        bundle::time(&status["created_at"]).as_deref(),
    );
    let run = whose().args(["pids", &lab.first_try]).run();
    facts.same("pids: exit status", run.code, Some(1));
    // Of one image and in one pod they have these files in common.
    for path in ["/bin/busybox", "/etc/hostname"] {
        let of = |id: &str| answer(&format!("{id}:{path}"))["file"].clone();
        let (ended, runs) = (of(&lab.first_try), of(&lab.find("restarted").id));
        facts.same(path, ended["host"].as_str(), runs["host"].as_str());
        facts.same("verified", ended["verified"].as_str(), Some("layers"));
        let back = answer(ended["host"].as_str().unwrap());
        let all: Vec<&Value> = back["owners"].as_array().unwrap().iter().collect();
        let of_it = all.iter().any(|owner| owner["id"] == lab.first_try.as_str());
        let of_pod = all.iter().all(|owner| owner["kind"] == "sandbox");
        facts.same("back", (of_it, of_pod), (path == "/bin/busybox", path != "/bin/busybox"));
    }
    facts.finish(13);
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
    let again = lab.cri().containers();
    compare(&mut facts, "started again");
    for (one, pid) in lab.containers.iter().zip(&inits) {
        facts.same("still its init", lab.init(one), *pid);
    }
    facts.holds("CRI has them all", again.len() == 6, again);
    facts.finish(5 * 9 + 1);
}

/// The whole answer for a process, without what may change by itself.
fn told(pid: u32) -> Value {
    let mut told = answer(&pid.to_string());
    compare::without_volatile(&mut told);
    told
}

/// The host sees a sandbox of gVisor's, and never what runs in it.
#[test]
fn a_pod_in_gvisor() {
    if !require(NEEDS) || !require(&["runsc"]) {
        return;
    }
    let _alone = alone();
    let options = Containerd::options().cri().gvisor();
    let containerd = options.start().unwrap_or_else(|e| panic!("{e}"));
    containerd.pause_image();
    containerd.image(NAMESPACE, "overlayfs");
    let cri = Cri::of(&containerd);
    let mut pod = Pod::new(SHOP, &unique("boxed"), &uid(9));
    pod.handler = "runsc".to_owned();
    let sandbox = cri.run_pod(&pod).unwrap_or_else(|e| panic!("{e}\n{}", containerd.log_tail()));
    let id = cri.run(&pod, &sandbox, "web", 0, &["sleep", "10000"]);
    let init = containerd.init_pid(NAMESPACE, &sandbox);
    let mut facts = Facts::about("a pod in gVisor");
    // The container's task has no process of its own: it is in the sandbox.
    facts.same("CRI: the container's PID", containerd.init_pid(NAMESPACE, &id), init);
    let shim = procfs::ppid(init).expect("a shim");
    let cgroup = pod.cgroup_of(&sandbox);
    let serving = procfs::children(shim);
    facts.holds("a sandbox and a file server each", serving.len() == 3, &serving);
    for pid in serving {
        let told = answer(&pid.to_string());
        compare::process(&mut facts, &told, pid, &sandbox);
        let process = &told["process"];
        facts.same("cgroup", process["cgroup"].as_str(), Some(cgroup.as_str()));
        facts.same("kind", told["owner"]["kind"].as_str(), Some("sandbox"));
        in_its_pod(&mut facts, &pod, None, &told);
        let role = process["role"].as_str();
        facts.holds("no workload", matches!(role, Some("sandbox" | "plumbing")), role);
    }
    bundle::shim(&mut facts, init, &sandbox);
    facts.finish(50);
    drop(containerd);
}

/// Slices and scopes of systemd's, in a machine of its own on cgroup v2; asked from inside, where it
/// is a host.
#[test]
fn pods_with_the_systemd_driver() {
    let systemd = ["systemd-nspawn", "/lib/systemd/systemd", "nsenter"];
    if !require(NEEDS) || !require(&systemd) {
        return;
    }
    let _alone = alone();
    let containerd = Containerd::options().systemd().start().unwrap_or_else(|e| panic!("{e}"));
    containerd.pause_image();
    containerd.image(NAMESPACE, "overlayfs");
    let program = containerd.dir().join("whose");
    whose_testkit::program::copy(whose().bin(), &program);
    let cri = Cri::of(&containerd);
    let mut cases = Cases::of("kubernetes-systemd");
    for (number, qos) in [(1, Qos::Burstable), (2, Qos::BestEffort), (3, Qos::Guaranteed)] {
        let mut pod = Pod::new(SHOP, &unique(&format!("slice-{number}")), &uid(number));
        (pod.qos, pod.driver) = (qos, Driver::Systemd);
        let sandbox = cri.run_pod(&pod).unwrap_or_else(|e| panic!("{e}"));
        let web = cri.run(&pod, &sandbox, "web", 0, &["sleep", "10000"]);
        let inside = |args: &[&str]| {
            let run = Whose::new(&program).via(containerd.inside()).args(args).run();
            run.expect_code(0)
        };
        for (id, comm) in [(&sandbox, "pause"), (&web, "sleep")] {
            cases.case(&format!("{qos:?}: {comm}"), || {
                let init = containerd.init_pid(NAMESPACE, id);
                let told = procfs::wait_for(comm, Duration::from_secs(20), || {
                    let told = inside(&["--json", &init.to_string()]).json()["answers"][0].clone();
                    (told["process"]["comm"] == comm).then_some(told)
                });
                let mut facts = Facts::about(comm);
                let container = (comm != "pause").then_some("web");
                in_a_slice(&mut facts, (&pod, container), (id, init), &told);
                let shim = told["process"]["ppid"].to_string();
                let shim = inside(&["--json", &shim]).json()["answers"][0]["process"].clone();
                facts.same("shim's role", shim["role"].as_str(), Some("plumbing"));
                facts.same("shim serves", shim["serves"].as_str(), Some(sandbox.as_str()));
                seen_from_outside(&mut facts, &containerd, &pod, (id, comm), init);
                facts.finish(38);
            });
        }
    }
    cases.case("captured", || captured_inside(&containerd, &program));
    drop(containerd);
    cases.finish();
}

/// Of the machine's PIDs the host sees its own, and the same pod beneath the machine's cgroup.
fn seen_from_outside(
    facts: &mut Facts,
    machine: &Containerd,
    pod: &Pod,
    (id, comm): (&str, &str),
    init: u32,
) {
    let seen = procfs::pids().into_iter().find(|pid| {
        let inside = procfs::nspid(*pid).is_some_and(|pids| pids[1..] == [init, 1]);
        inside && procfs::cgroup(*pid).is_some_and(|text| text.contains(id))
    });
    let told = answer(&seen.expect("the host sees it").to_string());
    let pids: Vec<_> = told["process"]["inside_pids"].as_array().into_iter().flatten().collect();
    facts.same(
        "outside: PIDs",
        pids.iter().filter_map(|p| pid_of(p)).skip(1).collect::<Vec<_>>(),
        [init, 1],
    );
    let cgroup = format!("/payload{}", pod.cgroup_of(id));
    facts.same("outside: cgroup", told["process"]["cgroup"].as_str(), Some(cgroup.as_str()));
    facts.same("outside: id", told["owner"]["id"].as_str(), Some(id));
    let uid = told["owner"]["pod"]["uid"].as_str();
    facts.same("outside: pod.uid", uid, Some(pod.uid.as_str()));
    // The engine in the machine is asked, and the machine's supervisor.
    let name = machine.dir().file_name().and_then(|name| name.to_str()).unwrap();
    let outermost = &told["chain"][0];
    facts.same("outside: machine", outermost["kind"].as_str(), Some("machine"));
    facts.same("outside: machine's name", outermost["name"].as_str(), Some(name));
    facts.same("outside: levels", told["chain"].as_array().map(Vec::len), Some(3));
    let known = &told["owner"]["pod"];
    facts.same("outside: pod.name", known["name"].as_str(), Some(pod.name.as_str()));
    facts.same("outside: pod.namespace", known["namespace"].as_str(), Some(SHOP));
    let container = (comm != "pause").then_some("web");
    facts.same("outside: pod.container", known["container"].as_str(), container);
    let owner = &told["owner"];
    facts.same("outside: name", owner["name"].as_str(), container.or(Some(&pod.name)));
    facts.same("outside: init_pid", pid_of(&owner["init_pid"]), seen);
    facts.same("outside: gaps", &told["gaps"], &Value::Array(Vec::new()));
}

/// A capture made in the machine answers as whose does there.
fn captured_inside(containerd: &Containerd, program: &Path) {
    let to = containerd.dir().join("captured/tree");
    std::fs::create_dir(containerd.dir().join("captured")).unwrap();
    let inside = || Whose::new(program).via(containerd.inside());
    let pids: Vec<String> =
        containerd.tasks(NAMESPACE).values().map(|task| task.pid.to_string()).collect();
    inside().arg("capture").arg(&to).args(&pids).run().expect_code(0);
    let mut facts = Facts::about("a capture of the machine");
    for pid in &pids {
        let live = inside().args(["--json", pid]).run().expect_code(0).json();
        let told = whose().root(&to).args(["--json", pid]).run().expect_code(0).json();
        let (live, told) = (&live["answers"][0], &told["answers"][0]);
        facts.same("owner", &told["owner"], &live["owner"]);
        facts.same("chain", &told["chain"], &live["chain"]);
        facts.same("cgroup", &told["process"]["cgroup"], &live["process"]["cgroup"]);
    }
    facts.finish(3 * 6);
    let Some(fixtures) = std::env::var_os("WHOSE_FIXTURES") else { return };
    let fixture = Path::new(&fixtures).join("debian-12-kubernetes-systemd");
    std::fs::create_dir_all(&fixture).unwrap();
    let copied = Command::new("cp").arg("-a").arg(&to).arg(&fixture).status().unwrap();
    assert!(copied.success());
}

fn in_a_slice(
    facts: &mut Facts,
    (pod, container): (&Pod, Option<&str>),
    (id, init): (&str, u32),
    told: &Value,
) {
    let (process, owner) = (&told["process"], &told["owner"]);
    facts.same("status", told["status"].as_str(), Some("found"));
    facts.same("pid", pid_of(&process["pid"]), Some(init));
    facts.same("inside_pid", pid_of(&process["inside_pid"]), Some(1));
    facts.same("cgroup", process["cgroup"].as_str(), Some(pod.cgroup_of(id).as_str()));
    facts.same("runtime", owner["runtime"].as_str(), Some("containerd"));
    facts.same("id", owner["id"].as_str(), Some(id));
    facts.same("state", owner["state"].as_str(), Some("running"));
    let last = told["chain"].as_array().and_then(|chain| chain.last());
    facts.same("chain.last", last, Some(owner));
    let count = told["chain"].as_array().map(Vec::len);
    facts.same("chain: pod and container", count, Some(2));
    in_its_pod(facts, pod, container, told);
    let (kind, role) =
        if container.is_some() { ("container", "init") } else { ("sandbox", "sandbox") };
    facts.same("kind", owner["kind"].as_str(), Some(kind));
    facts.same("role", process["role"].as_str(), Some(role));
    let image = if container.is_some() { IMAGE } else { PAUSE };
    facts.same("image", owner["image"].as_str(), Some(image));
    facts.same("init_pid", pid_of(&owner["init_pid"]), Some(init));
    let name = container.unwrap_or(&pod.name);
    facts.same("name", owner["name"].as_str(), Some(name));
}
