//! Sandboxes and namespaces that no engine knows: bubblewrap, Firejail, unshare, chroot, and processes
//! that are in a container's namespaces and not in its cgroup.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::process::Command;
use whose_live_tests::sleeper::Sleeper;
use whose_live_tests::{alone, answer, compare, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{CgroupDir, v2_mount};
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::facts::Facts;
use whose_testkit::lxc::Lxc;
use whose_testkit::require;

#[test]
fn sandboxes_without_an_engine() {
    if !require(&["root", "busybox", "mount-namespace", "cgroup-v2"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("jails");
    cases.case_with(&["bwrap"], "bubblewrap", bubblewrap);
    cases.case_with(&["firejail"], "firejail", firejail);
    cases.case("unshare", unshare);
    cases.case("chroot", chroot);
    cases.case_with(&["lxc-start"], "entered and moved", strays);
    cases.case("cgroups named after engines", named);
    cases.finish();
}

fn evidence<'v>(told: &'v Value, source: &str) -> Vec<&'v Value> {
    let all = told["evidence"].as_array().into_iter().flatten();
    all.filter(|e| e["source"] == source).collect()
}

fn link(pid: u32, name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    link.display().to_string()
}

/// Compares what is said of a process that is contained in something of this kind.
fn told(facts: &mut Facts, pid: u32, kind: &str, runtime: &str, code: i32) -> Value {
    let told = answer(&pid.to_string());
    compare::kernel(facts, &told, pid);
    facts.same("kind", told["owner"]["kind"].as_str(), Some(kind));
    if kind != "host" {
        facts.same("runtime", told["owner"]["runtime"].as_str(), Some(runtime));
    }
    let run = whose().args(["--in-container", "-q", &pid.to_string()]).run();
    facts.same("--in-container", run.code, Some(code));
    told
}

fn bubblewrap() {
    let work = tempfile::tempdir().unwrap();
    let root = busybox_rootfs(work.path()).display().to_string();
    let mut facts = Facts::about("bubblewrap");
    let of = |words: &[&str]| {
        Sleeper::start(|n| {
            let mut command = Command::new("bwrap");
            command.args(words).args(["--proc", "/proc", "--dev", "/dev", "sleep", n]);
            command
        })
    };
    let all = [
        of(&["--unshare-all", "--ro-bind", "/", "/"]),
        of(&["--bind", &root, "/"]),
        of(&["--unshare-pid", "--bind", &root, "/"]),
    ];
    for sleeper in &all {
        let pid = sleeper.pid();
        let told = told(&mut facts, pid, "app", "bubblewrap", 0);
        facts.same("id", told["owner"]["id"].as_str(), Some(link(pid, "mnt").as_str()));
        let above = evidence(&told, "ancestry");
        let says = |e: &&&Value| {
            e["detail"].as_str().is_some_and(|d| d.contains(&sleeper.above().to_string()))
        };
        facts.same("its maker", above.iter().filter(says).count(), 1);
        // The program itself is no part of the sandbox.
        let maker = answer(&sleeper.above().to_string());
        facts.holds("outside", maker["owner"]["kind"] != "app", &maker["owner"]);
    }
    compared("bubblewrap, three sandboxes", facts.finish(36));
}

fn firejail() {
    let name = unique("fj");
    let mut facts = Facts::about("firejail");
    for (words, named) in [(vec![format!("--name={name}")], Some(&name)), (Vec::new(), None)] {
        let sleeper = Sleeper::start(|n| {
            let mut command = Command::new("firejail");
            command.args(["--quiet", "--noprofile", "--private"]).args(&words).args(["sleep", n]);
            command
        });
        let told = told(&mut facts, sleeper.pid(), "app", "firejail", 0);
        let above = sleeper.above().to_string();
        facts.same("id", told["owner"]["id"].as_str(), Some(above.as_str()));
        facts.same("name", told["owner"]["name"].as_str(), named.map(String::as_str));
    }
    compared("firejail, two sandboxes", facts.finish(24));
}

/// A PID namespace alone contains nothing; with a root of its own it is a container that nobody knows.
fn unshare() {
    let work = tempfile::tempdir().unwrap();
    let root = busybox_rootfs(work.path()).display().to_string();
    let mut facts = Facts::about("unshare");
    for words in [&["-fmpu", "--mount-proc"][..], &["-Urmpf", "--mount-proc"], &["-fp"], &["-n"]] {
        let sleeper = Sleeper::start(|n| {
            let mut command = Command::new("unshare");
            command.args(words).args(["sleep", n]);
            command
        });
        told(&mut facts, sleeper.pid(), "host", "", 5);
    }
    let script = "mount --bind \"$1\" \"$1\" && cd \"$1\" && mkdir -p old && pivot_root . old && \
                  exec /bin/sleep \"$2\"";
    let pivoted = Sleeper::start(|n| {
        let mut command = Command::new("unshare");
        command.args(["-fmp", "sh", "-ec", script, "sh", &root, n]);
        command
    });
    let chrooted = Sleeper::start(|n| {
        let mut command = Command::new("unshare");
        command.args(["-fp", "chroot", &root, "/bin/sleep", n]);
        command
    });
    for sleeper in [&pivoted, &chrooted] {
        let told = told(&mut facts, sleeper.pid(), "unknown", "unknown", 3);
        let namespace = link(sleeper.pid(), "pid");
        facts.same("id", told["owner"]["id"].as_str(), Some(namespace.as_str()));
    }
    compared("unshare, six processes", facts.finish(56));
}

fn chroot() {
    let work = tempfile::tempdir().unwrap();
    let root = busybox_rootfs(work.path());
    let mut facts = Facts::about("chroot");
    let sleeper = Sleeper::start(|n| {
        let mut command = Command::new("chroot");
        command.arg(&root).args(["/bin/sleep", n]);
        command
    });
    told(&mut facts, sleeper.pid(), "host", "", 5);
    compared("chroot", facts.finish(9));
}

/// Who came into a container's namespaces, and who was moved out of its cgroup.
fn strays() {
    let (mut lxc, name) = (Lxc::new(), unique("stray"));
    let root = format!("dir:{}", busybox_rootfs(lxc.path()).display());
    let init = lxc.start(&name, &root, "/bin/sleep 10000", &[]).unwrap_or_else(|e| panic!("{e}"));
    let mut facts = Facts::about("strays");
    let entered = Sleeper::start(|n| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.to_string(), "-m", "-p", "-u", "-i", "-n", "/bin/sleep", n]);
        command
    });
    // Removed last, when nobody is in them any more.
    let mounts = whose_testkit::cgroup::mounts();
    let elsewhere = unique("whose-elsewhere");
    let dirs: Vec<CgroupDir> = mounts.iter().map(|m| CgroupDir::make(m, &elsewhere)).collect();
    let moved = Sleeper::start(|n| lxc.attach(&name, &["/bin/sleep", n]));
    dirs.iter().for_each(|dir| dir.join(moved.pid()));
    for pid in [entered.pid(), moved.pid()] {
        let told = told(&mut facts, pid, "machine", "lxc", 0);
        facts.same("name", told["owner"]["name"].as_str(), Some(name.as_str()));
        let by_namespace = evidence(&told, "namespace");
        facts.holds("a namespace agrees", by_namespace.iter().any(|e| e["agrees"] == true), &told);
        let by_cgroup = evidence(&told, "cgroup");
        facts.holds("the cgroup does not", by_cgroup.iter().any(|e| e["agrees"] == false), &told);
        let why = whose().args(["--why", &pid.to_string()]).run().expect_code(0).stdout_str();
        facts.holds("--why", why.contains("mount namespace of"), why);
    }
    let pids = |args: &[&str]| {
        let mut pids = whose().arg("pids").args(args).arg(&name).run().expect_code(0).pids();
        pids.sort_unstable();
        pids
    };
    facts.same("pids", pids(&[]), vec![init]);
    // What waits for the one that entered has its mounts too.
    let mut all = vec![init, entered.above(), entered.pid(), moved.pid()];
    all.sort_unstable();
    facts.same("pids --strays", pids(&["--strays"]), all);
    compared("a process that entered, one that was moved", facts.finish(30));
}

/// Anyone with a cgroup of his own can name what is below it after an engine's containers.
fn named() {
    let mount = v2_mount().expect("cgroup2 is mounted");
    let mut facts = Facts::about("names");
    let id = whose_testkit::fixture::fake_id(unique("named"));
    let base = unique("whose-named");
    for (below, runtime) in [
        (format!("docker-{id}.scope"), "docker"),
        (format!("lxc.payload.{base}"), "lxc"),
        (format!("runc-{base}.scope"), "runc"),
    ] {
        let dir = CgroupDir::make(&mount, &format!("{base}/{below}"));
        let sleeper = Sleeper::start(|n| {
            let mut command = Command::new("sleep");
            command.arg(n);
            command
        });
        dir.join(sleeper.pid());
        let told = answer(&sleeper.pid().to_string());
        facts.same("runtime", told["owner"]["runtime"].as_str(), Some(runtime));
        let against = told["evidence"].as_array().into_iter().flatten();
        let against = against.filter(|e| e["agrees"] == false && e["source"] == "namespace");
        let says = |e: &Value| e["detail"].as_str().is_some_and(|d| d.contains("not proven"));
        facts.same("not proven", against.filter(|e| says(e)).count(), 1);
        facts.same("no init", pid_of(&told["owner"]["init_pid"]), None);
        drop(sleeper);
    }
    compared("cgroups named after engines", facts.finish(9));
}
