//! Podman in a container that gives its containers no cgroup.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, DockerContainer, FixtureHost, PodmanContainer, fake_id,
};

use crate::support::{answer, ask};

const STORE: &str = "var/lib/containers/storage";
/// What of a process is written: its root is a directory here.
const PARTS: [&str; 8] =
    ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "uid_map", "ns"];
/// The first process of the outer container; those of the others follow.
const OUTER: u32 = 6000;

/// The monitor and the first process of the container at a level.
fn pids(level: u32) -> [u32; 2] {
    [OUTER + 2 * level - 1, OUTER + 2 * level]
}

/// Its PIDs, so many namespaces deep.
fn nspid(pid: u32, depth: u32) -> Vec<u32> {
    let inner = (1..depth).map(|n| pid + 1000 * n);
    std::iter::once(pid).chain(inner).collect()
}

struct Lab {
    host: FixtureHost,
    outer: DockerContainer,
    cgroup: String,
}

impl Lab {
    fn new() -> Lab {
        let host = FixtureHost::with_layout(CgroupLayout::V2);
        host.boot();
        let outer = DockerContainer::named("outer").running(OUTER);
        host.docker_container(&outer);
        let cgroup = format!("/docker/{}", outer.id());
        let lab = Lab { host, outer, cgroup };
        lab.process(OUTER, 1, "init", 0, &[]);
        lab
    }

    /// A process that sees the mounts of the container at a level; the outer one is 0.
    fn process(&self, pid: u32, ppid: u32, comm: &str, level: u32, args: &[&str]) {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let process = self.host.process(pid).ppid(ppid).comm(comm).cmdline(&args);
        let process = process.nspid(&nspid(pid, level + 2)).ns("mnt", 9000 + u64::from(level));
        process.in_cgroup(&self.cgroup).only(&PARTS).write();
    }

    fn monitor(&self, pid: u32, ppid: u32, level: u32, id: &str, store: &str) {
        let bundle = format!("/{store}/overlay-containers/{id}/userdata");
        let args = ["/usr/bin/conmon", "--api-version", "1", "-c", id, "-u", id, "-b", &bundle];
        self.process(pid, ppid, "conmon", level, &args);
    }

    /// A container at a level, in that which is one level above.
    fn container(&self, level: u32) -> PodmanContainer {
        let [monitor, init] = pids(level);
        let above = if level == 1 { OUTER } else { pids(level - 1)[1] };
        let inner = init + 1000 * level;
        let container = PodmanContainer::named(&format!("level{level}"));
        let container = container.running(inner).cgroups("cgroupfs", "disabled", "");
        let store = format!("/proc/{monitor}/root/{STORE}");
        self.host.podman_containers(&store, std::slice::from_ref(&container));
        self.monitor(monitor, above, level - 1, container.id(), STORE);
        self.process(init, monitor, "app", level, &["app"]);
        container
    }

    fn members(&self, last: u32) {
        let all: Vec<u32> = (OUTER..=last).collect();
        self.host.cgroup_dirs(&self.cgroup, &all);
    }
}

fn names(told: &Value) -> Vec<String> {
    let chain = told["chain"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    chain.iter().map(|o| o["name"].as_str().unwrap_or("?").to_owned()).collect()
}

fn listed(host: &FixtureHost, args: &[&str]) -> Vec<u32> {
    ask(host, &[&["pids"][..], args].concat()).expect_code(0).pids()
}

#[test]
fn every_level_of_twenty_is_told() {
    let lab = Lab::new();
    let depth = 20;
    let all: Vec<PodmanContainer> = (1..=depth).map(|level| lab.container(level)).collect();
    let last = pids(depth)[1];
    lab.members(last);
    let wanted: Vec<String> = std::iter::once("outer".to_owned())
        .chain((1..=depth).map(|level| format!("level{level}")))
        .collect();
    let every = ask(&lab.host, &["ps", "--json", "-o", "pid,owner"]).expect_code(0).json();
    for level in 1..=depth {
        let [monitor, init] = pids(level);
        let levels = usize::try_from(level).unwrap();
        for (pid, levels) in [(init, levels + 1), (monitor, levels)] {
            assert_eq!(names(&answer(&lab.host, &pid.to_string())), wanted[..levels], "{pid}");
            let rows = every["rows"].as_array().unwrap();
            let row = rows.iter().find(|row| row["process"]["pid"] == pid).unwrap();
            assert_eq!(names(row), wanted[..levels], "{pid} in the list");
        }
        let told = answer(&lab.host, &init.to_string());
        assert_eq!(told["owner"]["id"], all[levels - 1].id(), "{told:#}");
        assert_eq!(told["owner"]["init_pid"], init, "{told:#}");
        let within: Vec<u32> = (init..=last).collect();
        assert_eq!(listed(&lab.host, &[&format!("level{level}")]), within, "{level}");
        let own: Vec<u32> = (init..=last.min(init + 1)).collect();
        assert_eq!(listed(&lab.host, &["--direct", &format!("level{level}")]), own, "{level}");
    }
    let outer = listed(&lab.host, &[lab.outer.id()]);
    assert_eq!(outer, (OUTER..=last).collect::<Vec<u32>>());
    assert_eq!(listed(&lab.host, &["--direct", "outer"]), [OUTER, OUTER + 1]);
    let list = ask(&lab.host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"].as_array().unwrap().len(), wanted.len(), "{list:#}");
}

/// What can't be read leaves the container without a name, and says why.
#[test]
fn a_store_that_can_not_be_read_is_a_gap() {
    let lab = Lab::new();
    let container = lab.container(1);
    let [monitor, init] = pids(1);
    lab.members(init);
    let path = format!("/proc/{monitor}/root/{STORE}/db.sql");
    lab.host.file(&path, "no database");
    let told = answer(&lab.host, &init.to_string());
    assert_eq!(names(&told), ["outer", "?"], "{told:#}");
    let owner = &told["owner"];
    assert_eq!((&owner["runtime"], &owner["id"]), (&json!("podman"), &json!(container.id())));
    let gaps = told["gaps"].as_array().unwrap();
    let is_it = |gap: &Value| gap["path"].as_str().is_some_and(|shown| shown.ends_with(&path));
    assert!(gaps.iter().any(is_it), "{told:#}");
}

/// Who calls himself a monitor names nobody's container: the engine around him has to have it, and what he
/// watches over mounts of its own.
#[test]
fn a_monitor_by_name_alone_is_none() {
    let lab = Lab::new();
    let container = lab.container(1);
    let [_, init] = pids(1);
    let another = PodmanContainer::named("roots").running(4000);
    lab.host.podman_containers(&format!("/{STORE}"), std::slice::from_ref(&another));
    let (false_one, child, same, mate) = (init + 1, init + 2, init + 3, init + 4);
    // The host's container, and nobody's.
    lab.monitor(false_one, OUTER, 0, another.id(), STORE);
    lab.process(child, false_one, "sh", 7, &["sh"]);
    // One that is there, and a child with the monitor's own mounts.
    lab.monitor(same, OUTER, 0, container.id(), STORE);
    lab.process(mate, same, "sh", 0, &["sh"]);
    let store = format!("/proc/{same}/root/{STORE}");
    lab.host.podman_containers(&store, std::slice::from_ref(&container));
    lab.host.dir(format!("/proc/{false_one}/root/{STORE}"));
    lab.members(mate);
    for pid in [child, mate] {
        assert_eq!(names(&answer(&lab.host, &pid.to_string())), ["outer"], "{pid}");
    }
    assert_eq!(listed(&lab.host, &["level1"]), [init]);
}

/// Parents that go round in circles are gone through once.
#[test]
fn parents_in_a_circle_end() {
    let lab = Lab::new();
    lab.process(OUTER + 1, OUTER + 2, "a", 1, &["a"]);
    lab.process(OUTER + 2, OUTER + 1, "b", 2, &["b"]);
    let id = fake_id("circle");
    for (pid, parent, level) in [(OUTER + 3, OUTER + 4, 0), (OUTER + 4, OUTER + 3, 1)] {
        lab.monitor(pid, parent, level, &id, STORE);
        lab.host.dir(format!("/proc/{pid}/root"));
    }
    lab.process(OUTER + 5, OUTER + 4, "c", 3, &["c"]);
    lab.members(OUTER + 5);
    for pid in OUTER + 1..=OUTER + 5 {
        assert_eq!(names(&answer(&lab.host, &pid.to_string())), ["outer"], "{pid}");
    }
    let every = ask(&lab.host, &["ps", "--no-headers", "-o", "owner"]).expect_code(0);
    let outers = every.stdout_str().lines().filter(|line| line.trim() == "outer").count();
    assert_eq!(outers, 6, "{}", every.stdout_str());
}
