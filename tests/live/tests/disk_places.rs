//! `whose ls --disk` where volumes are on other file systems, on one that never answers, or are the host's own
//! root; and what it says on a terminal meanwhile.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use whose_live_tests::disk::Disk;
use whose_live_tests::inner::FuseDir;
use whose_live_tests::podman::{IMAGE, NEEDS, start};
use whose_live_tests::usage::{as_du_says, du, of_container, parts, path_of, row, usage};
use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::fixture::{DockerContainer, FixtureHost};
use whose_testkit::podman::Podman;
use whose_testkit::require;

/// Something that is mounted on a directory until this is dropped.
struct Bound(PathBuf);

impl Bound {
    fn new(from: &Path, at: &Path) -> Bound {
        let ran = Command::new("mount").arg("--bind").arg(from).arg(at).status().unwrap();
        assert!(ran.success());
        Bound(at.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// A container that has a volume, and where that is.
fn with_volume(podman: &Podman, what: &str) -> (String, PathBuf) {
    let name = unique(what);
    podman.cli(&["volume", "create", &name]);
    let mount = format!("{name}:/data");
    let words = ["create", "--name", &name, "-v", &mount, IMAGE, "/bin/busybox", "true"];
    let id = podman.cli(&words).lines().last().unwrap().to_owned();
    (id, podman.graph_root().join("volumes").join(&name).join("_data"))
}

fn gap_at<'v>(document: &'v Value, path: &Path) -> &'v Value {
    let gaps = document["gaps"].as_array().unwrap();
    let found = gaps.iter().find(|gap| gap["path"].as_str().is_some_and(|p| Path::new(p) == path));
    found.unwrap_or_else(|| panic!("no gap at {}: {gaps:#?}", path.display()))
}

#[test]
fn volumes_elsewhere() {
    if !require(NEEDS) || !require(&["loop", "mkfs.ext4", "fuse", "fuse-overlayfs"]) {
        return;
    }
    let Some(disk) = Disk::ext4() else { return };
    let _alone = alone();
    let podman = start(Podman::options());
    // A moved root is found by what runs.
    podman.run(&["--name", &unique("runs"), IMAGE, "/bin/busybox", "sleep", "97701"]);
    let mut cases = Cases::of("disk-places");
    cases.case("a volume on another file system", || {
        let (id, at) = with_volume(&podman, "other");
        std::fs::write(disk.point().join("file"), vec![1; 300_000]).unwrap();
        rustix::fs::sync();
        let bound = Bound::new(&disk.point(), &at);
        let document = usage();
        let row = of_container(&document, &id);
        as_du_says(row);
        let [volume] = parts(row, "volume")[..] else { panic!("{row:#}") };
        assert_eq!((path_of(volume), &volume["bytes"]), (at.clone(), &du(&[&at]).into()));
        assert!(volume["apparent"].as_u64() >= Some(300_000), "{row:#}");
        drop(bound);
    });
    cases.case("a mount in a volume is not entered, and said", || {
        let (id, at) = with_volume(&podman, "within");
        std::fs::create_dir(at.join("mnt")).unwrap();
        std::fs::write(at.join("own"), vec![1; 9000]).unwrap();
        let bound = Bound::new(&disk.point(), &at.join("mnt"));
        let document = usage();
        let [volume] = parts(of_container(&document, &id), "volume")[..] else { panic!() };
        assert!(volume["apparent"] == 9000 && volume["complete"] == true, "{volume:#}");
        let gap = gap_at(&document, &at.join("mnt"));
        assert!(gap["cause"].as_str().unwrap().contains("another file system"), "{gap:#}");
        drop(bound);
    });
    cases.case("a bind mount of the host's root", || {
        let (id, at) = with_volume(&podman, "hosts");
        let bound = Bound::new(Path::new("/"), &at);
        let document = usage();
        let row = of_container(&document, &id);
        assert_eq!((&row["volumes"], &row["bytes"]), (&Value::Null, &Value::Null), "{row:#}");
        assert!(row["layer"].is_u64() && row["complete"] == false, "{row:#}");
        let gap = gap_at(&document, &at);
        assert!(gap["cause"].as_str().unwrap().contains("own root directory"), "{gap:#}");
        drop(bound);
    });
    cases.case("a file system that never answers", || {
        let (id, at) = with_volume(&podman, "dead");
        let work = tempfile::tempdir().unwrap();
        let fuse = FuseDir::mount(work.path(), &at).unwrap_or_else(|e| panic!("{e}"));
        fuse.deafen();
        let document = usage();
        let found = of_container(&document, &id);
        assert_eq!((&found["volumes"], &found["complete"]), (&Value::Null, &false.into()));
        let gap = gap_at(&document, &at);
        assert!(gap["cause"].as_str().unwrap().contains("may not answer"), "{gap:#}");
        // The rest is counted all the same.
        let engine = row(&document, "engine", podman.graph_root().to_str().unwrap());
        assert_eq!(engine["complete"], true, "{engine:#}");
        drop(fuse);
    });
    drop(podman);
    cases.finish();
}

#[test]
fn on_a_terminal() {
    if !require(&["script", "strace"]) {
        return;
    }
    let host = FixtureHost::new();
    host.boot();
    host.process(900).comm("nginx").in_cgroup("/system.slice/nginx.service").write();
    let web = DockerContainer::named("web").exited(0).volume("own", "/a");
    host.docker_container(&web);
    for number in 0..3000 {
        host.file(format!("/var/lib/docker/volumes/own/_data/{number}"), "x");
    }
    // Each look at a file takes 2 ms, so that the whole takes some seconds.
    let line = |rest: &str| {
        format!(
            "strace -f -o /dev/null -e trace=statx -e inject=statx:delay_enter=2000 {} --root {} ls --disk{rest}",
            whose().bin().display(),
            host.path().display()
        )
    };
    let told = |line: &str| {
        let ran = Command::new("script").args(["-qec", line, "/dev/null"]).output().unwrap();
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let shown = told(&line(""));
    let (progress, table) = shown.split_once("\r\u{1b}[K").unwrap_or_else(|| panic!("{shown:?}"));
    assert!(progress.contains("\rcounted ") && progress.contains(" files, "), "{progress:?}");
    assert!(table.contains("TOTAL") && !table.contains("counted "), "{table:?}");
    // Nothing of it where stderr goes elsewhere.
    let quiet = told(&line(" 2>/dev/null"));
    assert!(quiet.contains("TOTAL") && !quiet.contains("counted "), "{quiet:?}");
}
