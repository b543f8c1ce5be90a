//! Podman's containers of every kind: runtimes, namespaces, cgroups and none, engines in containers, and
//! Buildah's steps.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use whose_live_tests::inner::busybox_archive;
use whose_live_tests::podman::{Asking, IMAGE, NEEDS, listed, sleeping, start};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::docker::View;
use whose_testkit::facts::Facts;
use whose_testkit::podman::Podman;
use whose_testkit::users::LabUser;
use whose_testkit::{cgroup, procfs, require};

const SLEEP: [&str; 3] = [IMAGE, "/bin/busybox", "sleep"];

/// Kinds that differ by options alone.
const KINDS: [(&str, &str, &[&str]); 8] = [
    ("plain", "97201", &["--label", "tier=front"]),
    ("pid-host", "97202", &["--pid=host", "--ipc=host"]),
    (
        "host-namespaces",
        "97203",
        &["--pid=host", "--ipc=host", "--uts=host", "--privileged", "-v", "/home:/home"],
    ),
    ("parent", "97204", &["--cgroup-parent=/whose-lab-parent"]),
    ("no-conmon", "97205", &["--cgroups=no-conmon"]),
    ("user-namespace", "97206", &["--uidmap", "0:300000:65536"]),
    ("read-only", "97207", &["--read-only", "--user", "1000"]),
    ("transient", "97208", &["--rm", "--tmpfs", "/x"]),
];

fn asking(name: &str) -> Asking {
    Asking::root(&[name], name)
}

#[test]
fn of_roots_engine() {
    if !require(&[NEEDS, &["crun", "catatonit"]].concat()) {
        return;
    }
    let _alone = alone();
    let _parent = Parent;
    let podman = start(Podman::options());
    let mut compared = 0;
    for (what, seconds, options) in KINDS {
        let name = unique(what);
        podman.run(&[&["--name", &name][..], options, &SLEEP, &[seconds]].concat());
        let more = format!("{seconds}9");
        podman.cli(&["exec", "-d", &name, "/bin/busybox", "sleep", &more]);
        compared += asking(&name).check(&podman, &podman.inspect(&name));
        both(&podman, &name, sleeping(&more));
    }
    compared += with_an_init(&podman);
    compared += of_a_directory(&podman);
    compared += by_crun(&podman);
    checked_for_health(&podman);
    assert!(compared >= 200, "{compared}");
    eprintln!("{compared} facts of root's containers of every kind");
}

/// The cgroup that one of the kinds is put into: it goes when this is dropped, after the engine.
struct Parent;

impl Drop for Parent {
    fn drop(&mut self) {
        let its = |dir: &PathBuf| dir.ends_with("whose-lab-parent");
        cgroup::tops().into_iter().filter(its).for_each(|dir| cgroup::remove_empty(&dir));
    }
}

/// The container has its init and what was exec'd, each with its role.
fn both(podman: &Podman, name: &str, exec: u32) {
    let init = podman.init_pid(name);
    assert_eq!(asking(name).pids(name), BTreeSet::from([init, exec]));
    let told = answer(&exec.to_string());
    assert_eq!(told["owner"]["name"], name, "{told:#}");
    assert_eq!(told["process"]["role"], "exec", "{told:#}");
    // Above each is a monitor that says whom it serves.
    for pid in [init, exec] {
        let monitor = procfs::ppid(pid).unwrap();
        let told = answer(&monitor.to_string());
        let inspected = podman.inspect(name);
        assert_eq!(told["process"]["role"], "plumbing", "{told:#}");
        assert_eq!(told["process"]["serves"], inspected["Id"], "{told:#}");
    }
}

fn with_an_init(podman: &Podman) -> usize {
    let name = unique("init");
    podman.run(&[&["--name", &name, "--init"][..], &SLEEP, &["97211"]].concat());
    let worker = sleeping("97211");
    let init = podman.init_pid(&name);
    procfs::wait_for("the worker below it", Duration::from_secs(20), || {
        (procfs::ppid(worker) == Some(init)).then_some(())
    });
    let told = answer(&worker.to_string());
    assert_eq!(told["process"]["role"], "workload", "{told:#}");
    assert_eq!(asking(&name).pids(&name), BTreeSet::from([init, worker]));
    asking(&name).check(podman, &podman.inspect(&name))
}

/// A directory for a root, without an image.
fn of_a_directory(podman: &Podman) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let archive = busybox_archive(dir.path());
    drop(archive);
    let root = dir.path().join("busybox");
    let name = unique("directory");
    let root = root.to_str().unwrap();
    podman.run(&["--name", &name, "--rootfs", root, "/bin/busybox", "sleep", "97212"]);
    let compared = asking(&name).check(podman, &podman.inspect(&name));
    podman.cli(&["rm", "-f", "-t", "0", &name]);
    compared
}

/// crun in hierarchies of v1 alone, and in none at all: its processes are where podman was started.
fn by_crun(podman: &Podman) -> usize {
    let mut compared = 0;
    for (what, view, mode, seconds) in [
        ("crun-v1", View::V1, "enabled", "97221"),
        ("crun-without", View::V2, "disabled", "97222"),
        ("crun-shared", View::V2, "disabled", "97223"),
    ] {
        let name = unique(what);
        let mode = format!("--cgroups={mode}");
        let words = ["--runtime", "crun", "run", "-d", "--network", "none", &mode, "--name", &name];
        // Without cgroups podman wants a PID namespace of its own for it.
        let more: &[&str] = if what == "crun-shared" { &["--ipc=host", "--uts=host"] } else { &[] };
        let started = [&words[..], more, &SLEEP, &[seconds]].concat();
        podman.try_in_view(view, &started).unwrap_or_else(|e| panic!("{e}"));
        let own = format!("{seconds}9");
        let words = ["--runtime", "crun", "exec", "-d", &name, "/bin/busybox", "sleep", &own];
        podman.try_in_view(view, &words).unwrap_or_else(|e| panic!("{e}"));
        let init = podman.init_pid(&name);
        let named = procfs::cgroup(init).unwrap().contains("libpod-");
        assert_eq!(named, view == View::V1, "{:?}", procfs::cgroup(init));
        compared += asking(&name).check(podman, &podman.inspect(&name));
        both(podman, &name, sleeping(&own));
        // To whom nothing of it may be read it is root's container with that id all the same.
        let run = whose().as_user(65534, 65534).args(["--json", &init.to_string()]).run();
        let told = run.expect_code(0).json()["answers"][0].clone();
        assert_eq!(told["owner"]["id"], podman.inspect(&name)["Id"], "{told:#}");
        assert_eq!(told["owner"]["kind"], "container", "{told:#}");
    }
    compared
}

/// A health check is an exec: its process is the container's.
fn checked_for_health(podman: &Podman) {
    let name = unique("health");
    let check = ["--health-cmd", "exec /bin/busybox sleep 97231", "--health-interval", "disable"];
    podman.run(&[&["--name", &name][..], &check, &SLEEP, &["97232"]].concat());
    let mut command = podman.command(&["healthcheck", "run", &name]);
    let _running = Ended::start(&mut command);
    let process = sleeping("97231");
    // The runtime that started it is above it at first.
    procfs::wait_for("its monitor above it", Duration::from_secs(20), || {
        let above = procfs::ppid(process).and_then(procfs::comm)?;
        (above == "conmon").then_some(())
    });
    let told = answer(&process.to_string());
    assert_eq!(told["owner"]["name"], name.as_str(), "{told:#}");
    assert_eq!(told["process"]["role"], "exec", "{told:#}");
    assert_eq!(asking(&name).pids(&name), BTreeSet::from([podman.init_pid(&name), process]));
    procfs::signal(process, rustix::process::Signal::KILL);
}

/// A command that is over when this is dropped.
struct Ended(Child);

impl Ended {
    fn start(command: &mut Command) -> Ended {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ended(command.spawn().unwrap())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // What it runs is ended first: by then it may be over.
        let over = || self.0.try_wait().ok().flatten();
        let mut over = over;
        for _ in 0..250 {
            if over().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// As toolbox and distrobox start theirs: with the host's namespaces and directories, and the user's own
/// ids.
#[test]
fn with_the_hosts_namespaces_and_the_users_home() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options().rootless().driver("vfs"));
    let user = podman.user().unwrap();
    let name = unique("toolbox");
    let shared = ["--pid=host", "--ipc=host", "--network=host", "--userns=keep-id", "--privileged"];
    let binds = ["-v", "/:/run/host:rslave", "-v", "/tmp:/tmp:rslave", "-v", "/dev:/dev:rslave"];
    let home = format!("{0}:{0}:rslave", user.home().display());
    let label = ["--label", "com.github.containers.toolbox=true", "-v", &home];
    let script = "/bin/busybox sleep 97242 & exec /bin/busybox sleep 97241";
    let words = ["run", "-d", "--name", &name];
    let command = [IMAGE, "/bin/busybox", "sh", "-c", script];
    podman.cli(&[&words[..], &shared, &binds, &label, &command].concat());
    let script = "/bin/busybox sleep 97244 & exec /bin/busybox sleep 97243";
    podman.cli(&["exec", "-d", &name, "/bin/busybox", "sh", "-c", script]);
    let [init, child, exec, grandchild] = ["97241", "97242", "97243", "97244"].map(sleeping);
    assert_eq!(procfs::nspid(init).map(|pids| pids.len()), Some(1));
    let owner = format!("{}@{name}", user.name());
    let asking = Asking::root(&[&name], &owner);
    let compared = asking.check(&podman, &podman.inspect(&name));
    assert_eq!(podman.init_pid(&name), init);
    assert_eq!(asking.pids(&name), BTreeSet::from([init, child, exec, grandchild]));
    for pid in [child, exec, grandchild] {
        let told = answer(&pid.to_string());
        assert_eq!(told["owner"]["name"], name.as_str(), "{told:#}");
        assert_eq!(told["owner"]["user"], user.name(), "{told:#}");
        let run = whose().args(["--in-container", "-q", &pid.to_string()]).run();
        let _ = run.expect_code(0);
    }
    eprintln!("{compared} facts of a container in the host's namespaces");
}

/// A root with the host's programs, for an engine in a container.
fn outer_root(dir: &Path) {
    let dirs = ["usr", "proc", "sys", "dev", "tmp", "run", "root", "var/tmp", "var/lib/containers"];
    for name in dirs.iter().chain(&["etc/containers"]) {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), dir.join(name)).unwrap();
    }
    for name in ["passwd", "group", "containers/policy.json"] {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            std::fs::copy(from, dir.join("etc").join(name)).unwrap();
        }
    }
    let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
                [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n\
                events_logger = \"none\"\nlock_type = \"file\"\n";
    std::fs::write(dir.join("etc/containers/containers.conf"), conf).unwrap();
    drop(busybox_archive(&dir.join("root")));
}

/// Podman in podman: names from the store in the outer container's own root.
#[test]
fn in_a_container_of_podmans() {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("root"), dir.path().join("store"));
    outer_root(&root);
    std::fs::create_dir(&store).unwrap();
    let podman = start(Podman::options());
    let (outer, inner) = (unique("outer"), unique("inner"));
    let store = format!("{}:/var/lib/containers", store.display());
    let options = ["--privileged", "-v", "/usr:/usr:ro", "-v", &store, "--rootfs"];
    let sleep = [root.to_str().unwrap(), "/usr/bin/sleep", "97251"];
    podman.run(&[&["--name", &outer][..], &options, &sleep].concat());
    let inside = |words: &[&str]| podman.cli(&[&["exec", &outer, "podman"][..], words].concat());
    inside(&["import", "-q", "/root/busybox.tar", "lab:1"]);
    let words = ["run", "-d", "--network", "none", "--label", "a=b", "--name", &inner, "lab:1"];
    inside(&[&words[..], &["/bin/sleep", "97252"]].concat());
    let text = inside(&["container", "inspect", &inner]);
    let inspected: Value = serde_json::from_str::<Value>(&text).unwrap()[0].clone();
    let init = sleeping("97252");
    let compared = asking(&inner).nested().check_at(&inspected, init, None, None);
    let told = answer(&init.to_string());
    let chain: Vec<&Value> = told["chain"].as_array().unwrap().iter().map(|o| &o["name"]).collect();
    assert_eq!(chain, [outer.as_str(), inner.as_str()], "{told:#}");
    // The outer one has what runs in it.
    let all = asking(&outer).pids(&outer);
    assert!(all.contains(&init) && all.contains(&podman.init_pid(&outer)), "{all:?}");
    asking(&outer).check(&podman, &podman.inspect(&outer));
    let names: Vec<Value> = listed(&whose()).iter().map(|o| o["name"].clone()).collect();
    assert_eq!(names.iter().filter(|n| **n == inner.as_str()).count(), 1, "{names:?}");
    eprintln!("{compared} facts of a container in a container");
}

/// A step of a build that sleeps that long: what runs it, its process, and the container it works in.
fn step(podman: &Podman, isolation: &str, seconds: &str) -> (Ended, u32, String) {
    let name = format!("{}-{seconds}", unique("build"));
    let mut from = podman.buildah(&["from", "--name", &name, IMAGE]);
    let out = from.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let network: &[&str] = if isolation == "chroot" { &[] } else { &["--network", "none"] };
    let words = ["run", "--isolation", isolation];
    let sleep = [name.as_str(), "--", "/bin/busybox", "sleep", seconds];
    let running = Ended::start(&mut podman.buildah(&[&words[..], network, &sleep].concat()));
    let contained = |pid: &u32| {
        // What runs it has the same arguments, outside.
        procfs::comm(*pid).is_some_and(|comm| comm == "busybox")
            && procfs::args(*pid).is_some_and(|a| a == ["/bin/busybox", "sleep", seconds])
    };
    let pid = procfs::wait_for("the step", Duration::from_secs(30), || {
        procfs::pids().into_iter().find(contained)
    });
    (running, pid, name)
}

/// A step is called after the container that it works in, which its root shows: by Buildah's own words.
fn works_in(podman: &Podman, name: &str, told: &Value, is_found: bool) -> usize {
    let mut facts = Facts::about(format!("the step in {name}"));
    let text = podman.buildah(&["inspect", "--type", "container", name]).output().unwrap();
    let inspected: Value = serde_json::from_slice(&text.stdout).unwrap();
    let owner = &told["owner"];
    facts.same("name", owner["name"].as_str(), Some(name));
    facts.same("image", owner["image"].clone(), inspected["FromImage"].clone());
    let image_id = format!("sha256:{}", inspected["FromImageID"].as_str().unwrap());
    facts.same("image_id", owner["image_id"].as_str(), Some(image_id.as_str()));
    facts.same("state", owner["state"].as_str(), Some("running"));
    facts.same("user", owner["user"].as_str(), podman.user().map(LabUser::name));
    facts.same("created", owner["created"].as_str(), None);
    let evidence = told["evidence"].to_string();
    facts.holds("because", evidence.contains(&format!("buildah calls it {name}")), &evidence);
    if !is_found {
        // Nothing leads to root's own graph root but a cgroup or the configuration.
        return facts.finish(7);
    }
    // By its name it is the container, in which nothing else runs.
    let container = answer(name);
    facts.same("container", container["owner"]["id"].clone(), inspected["ContainerID"].clone());
    facts.same("its image", container["owner"]["image"].clone(), inspected["FromImage"].clone());
    facts.finish(9)
}

/// A step is a job of Buildah's, whether a cgroup names it or nothing but its mounts and who runs it.
#[test]
fn buildahs_steps() {
    if !require(&[NEEDS, &["buildah"]].concat()) {
        return;
    }
    let _alone = alone();
    let root = start(Podman::options());
    let user = start(Podman::options().rootless().driver("vfs"));
    let kinds = [
        (&root, "oci", "97261", true),
        (&root, "chroot", "97262", false),
        (&user, "rootless", "97263", false),
        (&user, "chroot", "97264", false),
    ];
    let mut compared = 0;
    for (podman, isolation, seconds, named) in kinds {
        let (running, pid, name) = step(podman, isolation, seconds);
        let told = answer(&pid.to_string());
        let owner = &told["owner"];
        assert_eq!(owner["kind"], "job", "{isolation}: {told:#}");
        assert_eq!(owner["runtime"], "buildah", "{isolation}: {told:#}");
        let id = owner["id"].as_str().unwrap();
        assert!(id.starts_with("buildah-buildah"), "{isolation}: {told:#}");
        let cgroup = procfs::cgroup(pid).unwrap();
        assert_eq!(cgroup.contains(id), named, "{isolation}: {cgroup}");
        // The directory that it is called after is there while it runs.
        let dir = Path::new("/var/tmp").join(id.strip_prefix("buildah-").unwrap());
        assert!(dir.is_dir(), "{}", dir.display());
        compared += works_in(podman, &name, &told, named || podman.user().is_some());
        let table = whose().args(["ps", "--no-headers", "-o", "owner", &pid.to_string()]).run();
        let label = podman.user().map_or_else(|| name.clone(), |u| format!("{}@{name}", u.name()));
        assert_eq!(table.expect_code(0).stdout_str().trim(), label);
        let above = answer(&procfs::ppid(pid).unwrap().to_string());
        let outside = isolation != "chroot";
        assert_eq!(above["owner"]["kind"] != "job", outside, "{isolation}: {above:#}");
        procfs::signal(pid, rustix::process::Signal::KILL);
        drop(running);
    }
    let listed = listed(&whose());
    // Steps are no containers; what they work in is one, and does not run.
    let of_buildah = |o: &&Value| o["runtime"] == "buildah";
    let created = |o: &Value| (&o["kind"], &o["state"]) == (&json!("container"), &json!("created"));
    assert!(listed.iter().filter(of_buildah).all(created), "{listed:#?}");
    eprintln!("{compared} facts of steps by buildah inspect");
}
