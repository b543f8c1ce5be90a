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

use std::time::Duration;

use serde_json::Value;
use whose_live_tests::{alone, answer, bundle, compare, pid_of, unique};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::Containerd;
use whose_testkit::cri::{Cri, Namespaces, Pod, Qos};
use whose_testkit::facts::Facts;
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
        let mut lab = Lab { containerd, pods: Vec::new(), containers: Vec::new() };
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
    let cgroup = format!("{}/{}", pod.cgroup(), one.id);
    let mut facts = Facts::about(one.what);
    let told = bundle::kernel(&mut facts, &lab.containerd, (NAMESPACE, &one.id), &cgroup);
    let owner = &told["owner"];
    facts.same("state", owner["state"].as_str(), Some("running"));
    match one.name {
        Some(name) => {
            let status = lab.cri().container(&one.id);
            facts.same("CRI: running", status["state"].as_u64(), Some(1));
            facts.same("CRI: name", status["metadata"]["name"].as_str(), Some(name));
            facts.same("kind", owner["kind"].as_str(), Some("container"));
            facts.same("id", &owner["id"], &status["id"]);
            facts.same("CRI: pid", pid_of(&status["info"]["pid"]), Some(lab.init(one)));
        }
        None => {
            let status = lab.cri().sandbox(&one.id);
            facts.same("CRI: ready", status["state"].as_u64(), Some(0));
            facts.same("id", &owner["id"], &status["id"]);
            let wanted = &status["metadata"]["uid"];
            facts.same("pod.uid", &owner["pod"]["uid"], wanted);
            facts.same("CRI: pid", pid_of(&status["info"]["pid"]), Some(lab.init(one)));
        }
    }
    for pid in lab.containerd.pids(NAMESPACE, &one.id) {
        compare::process(&mut facts, &answer(&pid.to_string()), pid, &one.id);
    }
    in_its_pod(&mut facts, pod, &told);
    let init = lab.init(one);
    // One shim a pod.
    bundle::shim(&mut facts, init, &lab.sandbox(one.pod).id);
    bundle::exe(&mut facts, init, &lab.containerd.root());
    if one.what == "shared-pids" {
        let inside = pid_of(&told["process"]["inside_pid"]);
        facts.holds("not the first of the pod", inside.is_some_and(|pid| pid > 1), inside);
    }
    facts.finish(30);
}

/// The pod of an owner, and as its place in the chain.
fn in_its_pod(facts: &mut Facts, pod: &Pod, told: &Value) {
    let chain = told["chain"].as_array().cloned().unwrap_or_default();
    let above = chain.len().checked_sub(2).map(|at| chain[at].clone()).unwrap_or_default();
    facts.same("chain: pod", above["kind"].as_str(), Some("pod"));
    facts.same("chain: id", above["id"].as_str(), Some(pod.uid.as_str()));
    for (what, owner) in [("pod.uid", &told["owner"]), ("chain: pod.uid", &above)] {
        facts.same(what, owner["pod"]["uid"].as_str(), Some(pod.uid.as_str()));
    }
}

/// Where the kubelet wants them is where they are.
fn cgroups(lab: &Lab) {
    let mut facts = Facts::about("cgroups");
    for one in &lab.containers {
        let text = procfs::cgroup(lab.init(one)).unwrap_or_default();
        let wanted = format!(":{}/{}\n", lab.pods[one.pod].cgroup(), one.id);
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
    facts.same("parent", pid_of(&told["process"]["ppid"]), procfs::ppid(lab.init(one)));
    in_its_pod(&mut facts, &lab.pods[one.pod], &told);
    facts.finish(14);
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
    let cgroup = format!("{}/{sandbox}", pod.cgroup());
    let serving = procfs::children(shim);
    facts.holds("a sandbox and a file server each", serving.len() == 3, &serving);
    for pid in serving {
        let told = answer(&pid.to_string());
        compare::process(&mut facts, &told, pid, &sandbox);
        facts.same("cgroup", told["process"]["cgroup"].as_str(), Some(cgroup.as_str()));
        in_its_pod(&mut facts, &pod, &told);
    }
    bundle::shim(&mut facts, init, &sandbox);
    facts.finish(40);
    drop(containerd);
}
