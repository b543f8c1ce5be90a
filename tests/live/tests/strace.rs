//! System calls of the binary: it only reads, and with a saved `--root` only below it.
//!
//! The subcommands on a live host with containers are traced by the docker suite.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::PathBuf;
use std::process::Command;
use whose_live_tests::trace::{calls, only_examines, stays_in};
use whose_testkit::cases::Cases;
use whose_testkit::fixture::{
    CgroupLayout, DockerContainer, FixtureHost, PodmanContainer, fake_id,
};
use whose_testkit::require;
use whose_testkit::trace::Call;

#[test]
fn a_live_host_is_only_read() {
    if !require(&["root", "strace"]) {
        return;
    }
    let me = std::process::id().to_string();
    let me = me.as_str();
    let commands: &[(&[&str], i32)] = &[
        (&[me], 0),
        (&["1"], 0),
        (&["--json", me], 0),
        (&["--why", me], 0),
        (&["-o", "pid,comm,owner", me], 0),
        (&["ps"], 0),
        (&["ps", "--format", "csv"], 0),
        (&["ps", "-o", "pid,fds,pcpu,sid"], 0),
        (&["ps", "-u", "0", "--host-only", "--sort", "pid"], 0),
        (&["tree"], 0),
        (&["tree", me], 0),
        (&["--json", "whose-no-such-container"], 1),
        (&["pids", "whose-no-such-container"], 1),
        (&["annotate"], 0),
        (&["annotate", "/proc/self/status"], 0),
        (&["--no-such-option"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
    ];
    let mut cases = Cases::of("strace-live");
    for (args, code) in commands {
        cases.case(&format!("whose {}", args.join(" ")), || only_examines(args, &[*code], None));
    }
    cases.finish();
}

/// A saved host with a container, a stopped one, and one whose state is a way out of the tree.
fn host(layout: CgroupLayout) -> (FixtureHost, DockerContainer) {
    let host = FixtureHost::with_layout(layout);
    host.boot();
    let web = DockerContainer::named("web").label("tier", "front").running(4761);
    let gone = DockerContainer::named("gone").exited(0);
    let trap = DockerContainer::named("trap").running(4763);
    for container in [&web, &gone, &trap] {
        host.docker_container(container);
    }
    let config = format!("{}/config.v2.json", trap.dir());
    host.symlink(&config, "/etc/passwd");
    host.symlink("var/lib/docker/containers/up", "../../../../../../../../etc");
    host.process(4761).comm("sleep").in_docker(web.id()).ppid(4740).write();
    host.process(4762).in_docker(web.id()).nspid(&[4762, 7]).ppid(4761).write();
    host.process(4763).in_docker(trap.id()).ppid(1).root_link("/").write();
    let shim = [
        "/usr/bin/containerd-shim-runc-v2",
        "-namespace",
        "moby",
        "-id",
        web.id(),
        "-address",
        "/run/containerd/containerd.sock",
    ]
    .map(str::as_bytes);
    host.process(4740)
        .comm("containerd-shim")
        .cmdline(&shim)
        .in_cgroup("/system.slice/docker.service")
        .write();
    host.cgroup_dirs(&format!("docker/{}", web.id()), &[4761, 4762]);
    host.cgroup_dirs(&format!("docker/{}", trap.id()), &[4763]);
    (host, web)
}

#[test]
fn a_saved_tree_is_never_left() {
    if !require(&["strace"]) {
        return;
    }
    let mut cases = Cases::of("strace-saved");
    for layout in [CgroupLayout::V2, CgroupLayout::Hybrid] {
        let (host, web) = host(layout);
        let commands: &[(&[&str], i32)] = &[
            (&["4761"], 0),
            (&["--json", "4761", "4762", "4740"], 0),
            (&["--json", "4763"], 0),
            (&["--why", "4761"], 0),
            (&["web"], 0),
            (&["--json", web.id()], 0),
            (&["-q", "web"], 0),
            (&["--in-container", "4762"], 0),
            (&["--in-container", "4740"], 5),
            (&["ps"], 0),
            (&["ps", "--json"], 0),
            (&["ps", "-c", "web"], 0),
            (&["tree"], 0),
            (&["tree", "4740", "web"], 0),
            (&["pids", "web"], 0),
            (&["pids", "gone"], 1),
            // The container whose state can't be read may be the one.
            (&["nobody"], 3),
            (&["4999"], 1),
        ];
        for (args, code) in commands {
            cases.case(&format!("{layout:?}: whose {}", args.join(" ")), || {
                stays_in(host.path(), args, *code);
            });
        }
    }
    cases.finish();
}

/// Pods are named by what directories list, each once whatever is asked; no link is followed and no log
/// opened.
#[test]
fn names_of_pods_cost_a_listing() {
    if !require(&["strace"]) {
        return;
    }
    let host = FixtureHost::new();
    host.boot();
    for n in 0..20_u32 {
        let uid = format!("3d4e5f60-4444-4555-8666-7777888899{n:02}");
        let (pid, id) = (4100 + n, fake_id(format!("app {n}")));
        let cgroup = format!("kubepods/burstable/pod{uid}/{id}");
        host.cgroup_dir(&cgroup, &[pid]);
        host.process(pid).in_docker(&id).in_cgroup(&format!("/{cgroup}")).write();
        let log = format!("/var/log/pods/prod_web-{n}_{uid}/app/0.log");
        host.file(&log, "");
        host.symlink(format!("var/log/containers/web-{n}_prod_app-{id}.log"), &log);
    }
    let root = host.path().to_str().unwrap();
    for (args, links, dirs) in [
        (&["4100"][..], 1, 0),
        (&["ps"], 1, 0),
        (&["ls"], 1, 0),
        (&["pids", "pod:prod/web-7"], 0, 1),
        (&["ps", "pod:prod/web-7"], 1, 1),
        (&["pids", "web-7"], 1, 1),
    ] {
        let calls = calls(&[&["--root", root], args].concat(), 0);
        let opened = |dir: &str| {
            let dir = host.at(dir);
            let lists = |c: &&Call| c.opened.as_ref() == Some(&dir) && !c.line.contains("O_PATH");
            calls.iter().filter(lists).count()
        };
        assert_eq!(opened("var/log/containers"), links, "{args:?}");
        assert_eq!(opened("var/log/pods"), dirs, "{args:?}");
        let logs = host.at("var/log/pods");
        let inside =
            |c: &&Call| c.opened.as_ref().is_some_and(|o| *o != logs && o.starts_with(&logs));
        assert_eq!(calls.iter().find(inside), None, "{args:?}");
    }
}

/// A user's container is found by his state; all of /proc is looked at for monitors only where nothing
/// else knows a name.
#[test]
fn a_users_container_that_is_found_costs_no_scan() {
    if !require(&["strace"]) {
        return;
    }
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    host.cgroup_dirs(manager, &[]);
    let web = PodmanContainer::named("web").state(6);
    host.podman_containers("/home/alice/.local/share/containers/storage", &[web]);
    for pid in 4000..4050 {
        host.process(pid).in_cgroup("/system.slice/many.service").write();
    }
    let root = host.path().to_str().unwrap();
    let asked = |target: &str, code: i32| {
        let calls = calls(&["--root", root, target], code);
        let of = |pid: u32| host.at(format!("proc/{pid}/stat"));
        let opens = |pid: &u32| {
            let is_it = |path: Option<&PathBuf>| path.is_some_and(|path| *path == of(*pid));
            calls.iter().any(|c| is_it(c.opened.as_ref()) || is_it(c.path().as_ref()))
        };
        (4000..4050).filter(opens).count()
    };
    assert_eq!(asked("container:podman@alice/web", 0), 0);
    assert_eq!(asked("container:web", 0), 0);
    assert_eq!(asked("container:none", 1), 50);
}

/// The judge itself: a program that writes and leaves must be found out.
#[test]
fn the_judge_finds_a_culprit() {
    if !require(&["strace"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let script =
        format!("echo x >{0}/new; cat {0}/new /etc/passwd >/dev/null", dir.path().display());
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-o"])
        .arg(&trace)
        .args(["sh", "-c", &script])
        .status()
        .unwrap();
    assert!(status.success());
    let calls = whose_testkit::trace::parse(&std::fs::read_to_string(&trace).unwrap());
    let wrong = whose_testkit::trace::not_read_only(&calls);
    assert!(wrong.iter().any(|l| l.contains("O_CREAT")), "{wrong:#?}");
    assert!(wrong.iter().any(|l| l.contains("execve")), "{wrong:#?}");
    let left = whose_testkit::trace::leaves(&calls, dir.path());
    assert!(left.iter().any(|l| l.contains("/etc/passwd")), "{left:#?}");
}
