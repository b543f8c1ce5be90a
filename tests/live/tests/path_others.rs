//! The files of containerd's containers, to the host and back; judged as those of Docker and Podman are.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::Path;
use std::time::Duration;

use whose_live_tests::disk::Disk;
use whose_live_tests::paths::{
    Container, Dice, LAYERS, changes, fill, judge, judge_stopped, keeps, shadowed, told_running,
};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::containerd::Containerd;
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
];
const IMAGE: &str = "docker.io/library/lab-path:1";
const DEFAULT: &str = "default";

fn of_containerd(snapshotter: &'static str, place: Option<&Path>) {
    let mut options = Containerd::options();
    if let Some(place) = place {
        options = options.place(place);
    }
    let containerd = options.start().unwrap_or_else(|e| panic!("{e}"));
    containerd.layered_image_with((DEFAULT, snapshotter), IMAGE, LAYERS, fill);
    let bound = tempfile::tempdir().unwrap();
    std::fs::write(bound.path().join("file"), "bound").unwrap();
    let bind = format!("type=bind,src={},dst=/bound,options=rbind:ro", bound.path().display());
    let start = |name: &str| -> Container {
        let name = unique(name);
        let options = ["--snapshotter", snapshotter, "--mount", &bind];
        containerd.run(DEFAULT, &options, &[IMAGE, &name, "sleep", "10000"]);
        let pid = containerd.init_pid(DEFAULT, &name);
        procfs::wait_for(&name, Duration::from_secs(20), || {
            procfs::comm(pid).filter(|comm| comm == "sleep")
        });
        Container { name, pid, keeps: keeps(pid) }
    };
    let (changed, clean, other) = (start("changed"), start("clean"), start("other"));
    let script = changes(&changed.root(), &mut Dice(4711));
    let exec = ["task", "exec", "--exec-id", "changes", &changed.name, "sh", "-c", &script];
    containerd.cli(DEFAULT, &exec);
    let mut cases = Cases::of(format!("path-containerd-{snapshotter}"));
    for (one, other) in [(&changed, &clean), (&clean, &changed)] {
        cases.case(&format!("random paths of {}", one.name), || judge(one, other, &mut Dice(42)));
    }
    cases.case("a file that lies under another", || shadowed(&changed, &clean));
    let before = told_running(&changed);
    for one in [&changed, &clean] {
        containerd.cli(DEFAULT, &["task", "delete", "-f", &one.name]);
    }
    cases.case("the same when it has ended", || {
        judge_stopped(&before);
        let target = format!("{}:/bound/file", changed.name);
        let run = whose().args(["path", &target]).run().expect_code(0);
        assert_eq!(run.stdout_str(), format!("{}/file\n", bound.path().display()));
        // And back, to those that run as well.
        let run = whose().arg("path").arg(bound.path().join("file")).run().expect_code(0);
        let text = run.stdout_str();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let mut all = [&changed.name, &clean.name, &other.name].map(|n| format!("{n}:/bound/file"));
        all.sort_unstable();
        assert_eq!(lines, all, "{}", run.story());
        let run = whose().args(["path", &format!("{}:/proc/uptime", changed.name)]).run();
        assert_eq!((run.code, run.stdout_str()), (Some(1), String::new()), "{}", run.story());
    });
    cases.finish();
}

#[test]
fn paths_on_containerds_overlayfs() {
    if require(NEEDS) {
        let _alone = alone();
        of_containerd("overlayfs", None);
    }
}

#[test]
fn paths_on_containerds_native() {
    if require(NEEDS) {
        let _alone = alone();
        of_containerd("native", None);
    }
}

#[test]
fn paths_on_containerds_btrfs() {
    if require(NEEDS) && require(&["btrfs", "loop", "mkfs.btrfs"]) {
        let _alone = alone();
        let Some(disk) = Disk::btrfs() else { return };
        of_containerd("btrfs", Some(&disk.point()));
    }
}
