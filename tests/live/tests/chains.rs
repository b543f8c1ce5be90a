//! Containers in containers: every level with its name, and its image where there is one.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::path::Path;
use whose_live_tests::inner::{engine_in_a_container, inside};
use whose_live_tests::node::{Kind, Node};
use whose_live_tests::sleeper::{Sleeper, seconds, sleeping};
use whose_live_tests::{alone, answer, compare, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::{IMAGE, PAUSE};
use whose_testkit::cri::{Namespaces, Pod};
use whose_testkit::docker::{Docker, View, busybox_rootfs};
use whose_testkit::facts::Facts;
use whose_testkit::lxc::Lxc;
use whose_testkit::{procfs, require};

#[test]
fn chains() {
    if !require(&["root", "busybox", "docker", "lxc-start", "systemd-nspawn", "cgroup-v2"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("chains");
    cases.case("docker in docker", || docker_in_docker(View::Hybrid));
    cases.case("nspawn in lxc", nspawn_in_lxc);
    cases.finish();
}

#[test]
fn nodes() {
    if !require(&["root", "cri", "docker", "cgroup-v2", "cgroup-hybrid"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("nodes");
    let kind = Kind {
        image: "kindest/node:lab",
        labels: &[("io.x-k8s.kind.cluster", "lab"), ("io.x-k8s.kind.role", "control-plane")],
        root: "/var/lib/containerd",
        state: "/run/containerd",
    };
    cases.case("kind", || pod_on_a_node("kind", kind, "/kubelet", "lab-control-plane"));
    let k3d = Kind {
        image: "rancher/k3s:lab",
        labels: &[("app", "k3d"), ("k3d.cluster", "lab"), ("k3d.role", "server")],
        root: "/var/lib/rancher/k3s/agent/containerd",
        state: "/run/k3s/containerd",
    };
    cases.case("k3d", || pod_on_a_node("k3d", k3d, "", "k3d-lab-server-0"));
    cases.finish();
}

/// A pod of one container on a node, seen from the host: both levels by their own engines' words.
fn pod_on_a_node(tool: &str, kind: Kind<'_>, root: &str, name: &str) {
    let docker = Docker::options(View::Hybrid).start().unwrap_or_else(|e| panic!("{e}"));
    let work = tempfile::tempdir().unwrap();
    let (outer, app, time) = (unique(name), unique("web"), seconds());
    let node = Node::start(&docker, work.path(), &outer, kind);
    let uid = format!("3d4e5f60-4444-4555-8666-{:012x}", std::process::id());
    let mut pod = Pod::new("shop", &app, &uid);
    pod.namespaces = Namespaces { host_network: true, shared_pids: false };
    root.clone_into(&mut pod.root);
    let [sandbox, id] = node.pod(&pod, "app", &["sleep", &time]);
    let pid = sleeping(&time);
    let status = node.status(&id);
    let mut facts = Facts::about(tool);
    let told = answer(&pid.to_string());
    compare::kernel(&mut facts, &told, pid);
    let level = |words: [&str; 4]| words.map(str::to_owned);
    let of_node = level(["container", "docker", &outer, kind.image]);
    let of_pod = level(["pod", "kubernetes", &app, ""]);
    let of_app = level(["container", "containerd", "app", IMAGE]);
    let wanted = vec![of_node.clone(), of_pod.clone(), of_app];
    facts.same("levels", levels(&told), wanted.clone());
    facts.same("the node's id", told["chain"][0]["id"].as_str(), Some(node.id.as_str()));
    for (key, value) in kind.labels {
        facts.same(key, told["chain"][0]["labels"][key].as_str(), Some(*value));
    }
    let owner = &told["owner"];
    facts.same("id", owner["id"].as_str(), Some(id.as_str()));
    let its = [("name", app.as_str()), ("namespace", "shop"), ("uid", &uid), ("container", "app")];
    for (key, value) in its {
        facts.same(key, owner["pod"][key].as_str(), Some(value));
    }
    facts.same("image_id", owner["image_id"].as_str(), status["image_ref"].as_str());
    let label = "io.kubernetes.container.name";
    facts.same("label", owner["labels"][label].as_str(), status["labels"][label].as_str());
    facts.same("state", owner["state"].as_str(), Some("running"));
    facts.same("init_pid", pid_of(&owner["init_pid"]), Some(pid));
    facts.same("log", owner["log"].as_str(), None);
    let cgroup = format!("{}/{id}", pod.cgroup());
    let path = told["process"]["cgroup"].as_str().unwrap_or_default();
    facts.holds("cgroup", path.ends_with(&cgroup) && path.contains(&node.id), path);
    let exe = whose().args(["exe", &pid.to_string()]).run().expect_code(0).stdout_str();
    let data = work.path().join("data").display().to_string();
    let layer = exe.starts_with(&data) && exe.trim_end().ends_with("/fs/bin/busybox");
    facts.holds("its binary is in the node's store on the host", layer, &exe);
    let found = answer(&format!("pod:shop/{app}/app"));
    facts.same("by the pod's name", levels(&found), wanted);
    let pids = |target: &str| whose().args(["pids", target]).run().expect_code(0).pids();
    facts.same("pids", pids(&id), vec![pid]);
    facts.holds("the pod's", pids(&format!("pod:shop/{app}")).contains(&pid), &app);
    facts.holds("the node's", pids(&outer).contains(&pid), &outer);
    let pause = pids(&sandbox).first().copied().unwrap_or_default();
    let told = answer(&pause.to_string());
    let of_pause = level(["sandbox", "containerd", &app, PAUSE]);
    facts.same("the pause process", levels(&told), vec![of_node.clone(), of_pod, of_pause]);
    facts.same("its role", told["process"]["role"].as_str(), Some("sandbox"));
    let shim = answer(&procfs::ppid(pid).unwrap().to_string());
    facts.same("the shim", levels(&shim), vec![of_node]);
    compared(&format!("{tool}, a pod on a node"), facts.finish(30));
}

/// Kind, runtime, name and image of each level that contains.
fn levels(told: &Value) -> Vec<[String; 4]> {
    let chain = told["chain"].as_array().into_iter().flatten();
    let text = |level: &Value, key: &str| level[key].as_str().unwrap_or_default().to_owned();
    let contains = |level: &&Value| !["unit", "session", "host"].contains(&&*text(level, "kind"));
    let keys = ["kind", "runtime", "name", "image"];
    chain.filter(contains).map(|level| keys.map(|key| text(level, key))).collect()
}

fn docker_in_docker(view: View) {
    let docker = Docker::options(view).start().unwrap_or_else(|e| panic!("{e}"));
    let work = tempfile::tempdir().unwrap();
    let (outer, inner, time) = (unique("outer"), unique("inner"), seconds());
    let _ = engine_in_a_container(&docker, work.path(), &outer, None);
    let run = ["run", "-d", "--network", "none", "--name", &inner, "lab-inner:1"];
    let id = inside(&docker, &outer, &[&run[..], &["sleep", &time]].concat());
    let pid = sleeping(&time);
    let mut facts = Facts::about("docker in docker");
    let told = answer(&pid.to_string());
    compare::kernel(&mut facts, &told, pid);
    let level = |name: &str, image: &str| ["container", "docker", name, image].map(str::to_owned);
    let wanted = vec![level(&outer, "lab-dind:1"), level(&inner, "lab-inner:1")];
    facts.same("levels", levels(&told), wanted.clone());
    facts.same("id", told["owner"]["id"].as_str(), Some(id.as_str()));
    let found = answer(&inner);
    facts.same("by name", levels(&found), wanted);
    let pids = whose().args(["pids", &inner]).run().expect_code(0).pids();
    facts.same("pids", pids, vec![pid]);
    let of_outer = whose().args(["pids", &outer]).run().expect_code(0).pids();
    facts.holds("the outer one's, too", of_outer.contains(&pid), &of_outer);
    compared("docker in docker", facts.finish(12));
}

/// A root with the host's own `/usr`.
fn prepare(root: &Path) {
    for dir in ["usr", "etc", "proc", "sys", "dev", "tmp", "run", "root", "var/lib"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
    }
    for file in ["etc/passwd", "etc/group"] {
        std::fs::copy(Path::new("/").join(file), root.join(file)).unwrap();
    }
    let inner = busybox_rootfs(&root.join("lab"));
    std::fs::write(inner.join("etc/os-release"), "ID=lab\n").unwrap();
}

fn nspawn_in_lxc() {
    let (mut lxc, outer, inner) = (Lxc::new(), unique("outer"), unique("whose-inner"));
    let root = lxc.path().join("full");
    prepare(&root);
    let more = [
        "lxc.mount.auto =",
        "lxc.mount.auto = proc:rw sys:rw cgroup:rw:force",
        "lxc.mount.entry = /usr usr none bind,ro 0 0",
    ];
    let rootfs = format!("dir:{}", root.display());
    let init = lxc.start(&outer, &rootfs, "/bin/sleep 10000", &more.map(str::to_owned));
    let init = init.unwrap_or_else(|e| panic!("{e}"));
    let machine = format!("--machine={inner}");
    let words = ["/usr/bin/systemd-nspawn", "-q", "--register=no", "--keep-unit", "--console=pipe"];
    let quiet = ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "-D", "/lab/rootfs"];
    let sleeper = Sleeper::start(|n| {
        let last = [&machine, "/bin/sleep", n];
        lxc.attach(&outer, &[&words[..], &quiet, &last].concat())
    });
    let mut facts = Facts::about("nspawn in lxc");
    let told = answer(&sleeper.pid().to_string());
    compare::kernel(&mut facts, &told, sleeper.pid());
    let level = |runtime: &str, name: &str| ["machine", runtime, name, ""].map(str::to_owned);
    let wanted = vec![level("lxc", &outer), level("systemd-nspawn", &inner)];
    facts.same("levels", levels(&told), wanted);
    facts.same("the outer one", levels(&answer(&init.to_string())), vec![level("lxc", &outer)]);
    let supervisor = procfs::ppid(sleeper.pid()).unwrap();
    let between = levels(&answer(&supervisor.to_string()));
    facts.same("the supervisor", between, vec![level("lxc", &outer)]);
    compared("nspawn in lxc", facts.finish(10));
}
