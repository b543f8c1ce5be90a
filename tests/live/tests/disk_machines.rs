//! `whose ls --disk` of what has no table of layers: LXC's containers and systemd-nspawn's machines.
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
use whose_live_tests::sleeper::Sleeper;
use whose_live_tests::usage::{
    as_du_says, below, du, of_container, parts, path_of, row, rows, usage,
};
use whose_live_tests::{alone, trace, unique};
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::lxc::Lxc;
use whose_testkit::nspawn::Nspawn;
use whose_testkit::require;

/// Bytes that a container writes.
const WRITTEN: usize = 1_500_000;

fn ran(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A root with a big file, and nothing on the way to the disk any more.
fn tree(dir: &Path) -> PathBuf {
    let root = busybox_rootfs(dir);
    std::fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
    std::fs::write(root.join("big"), vec![7; WRITTEN]).unwrap();
    rustix::fs::sync();
    root
}

/// An image with such a root.
fn image(dir: &Path, name: &str) -> PathBuf {
    let (root, image) = (tree(&dir.join("of-image")), dir.join(name));
    let mut make = Command::new("mke2fs");
    ran(make.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("64M"));
    std::fs::remove_dir_all(root).unwrap();
    rustix::fs::sync();
    image
}

/// The only directory or file of a container's own.
#[track_caller]
fn layer(row: &Value) -> PathBuf {
    let [layer] = parts(row, "layer")[..] else { panic!("{row:#}") };
    path_of(layer)
}

#[test]
fn lxc() {
    if !require(&["root", "lxc-start", "busybox", "overlay", "loop", "mkfs.ext4", "strace"]) {
        return;
    }
    let _alone = alone();
    let mut lxc = Lxc::new();
    let [plain, stacked, imaged] = ["plain", "stacked", "imaged"].map(unique);
    let root = tree(&lxc.path().join("of-plain"));
    let lower = tree(&lxc.path().join("of-stacked"));
    let upper = lxc.path().join("of-stacked/o/upper");
    std::fs::create_dir_all(&upper).unwrap();
    let file = image(lxc.path(), "image");
    let roots = [
        (&plain, format!("dir:{}", root.display())),
        (&stacked, format!("overlay:{}:{}", lower.display(), upper.display())),
        (&imaged, format!("loop:{}", file.display())),
    ];
    for (name, rootfs) in &roots {
        lxc.start(name, rootfs, "/bin/sleep 97500", &[]).unwrap_or_else(|e| panic!("{e}"));
    }
    let write = format!("busybox head -c {WRITTEN} /dev/urandom > /new; busybox sync");
    for name in [&plain, &stacked] {
        ran(&mut lxc.attach(name, &["/bin/sh", "-ec", &write]));
    }
    rustix::fs::sync();
    let mut cases = Cases::of("disk-lxc");
    let check = |document: &Value| {
        for (name, at) in [(&plain, &root), (&stacked, &upper), (&imaged, &file)] {
            let row = of_container(document, name);
            as_du_says(row);
            assert_eq!((row["engine"].as_str(), &layer(row)), (Some("lxc"), at), "{row:#}");
        }
        let own = of_container(document, &plain)["apparent"].as_u64().unwrap();
        assert!(own >= 2 * WRITTEN as u64, "{own}");
        let own = of_container(document, &stacked)["apparent"].as_u64().unwrap();
        assert!((WRITTEN as u64..WRITTEN as u64 + 65_536).contains(&own), "{own}");
        // The image is sparse.
        let image = of_container(document, &imaged);
        assert!(
            image["apparent"] == 64 << 20 && image["bytes"].as_u64() < Some(64 << 20),
            "{image:#}"
        );
    };
    cases.case("as du says, running", || check(&usage()));
    cases.case("all of it", || {
        let document = usage();
        assert_eq!(below(&document, lxc.path()), du(&[lxc.path()]));
        let rest = row(&document, "engine", lxc.path().to_str().unwrap());
        // What is below the overlay is nobody's own.
        assert!(rest["bytes"].as_u64() > Some(WRITTEN as u64), "{rest:#}");
    });
    cases.case("only reads", || trace::only_reads(&["ls", "--disk", &plain], 0));
    drop(lxc);
    cases.finish();
}

/// A machine of a directory or an image that goes with it.
struct Placed(PathBuf);

impl Placed {
    /// Where machines are found by name.
    fn new(name: &str) -> Placed {
        std::fs::create_dir_all("/var/lib/machines").unwrap();
        Placed(Path::new("/var/lib/machines").join(name))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.0.is_dir() {
            drop(std::fs::remove_dir_all(&self.0));
        }
        drop(std::fs::remove_file(&self.0));
    }
}

fn start(nspawn: &Nspawn, options: &[&str]) -> Sleeper {
    Sleeper::start(|seconds| nspawn.command(options, &["/bin/sleep", seconds]))
}

#[test]
fn nspawn() {
    if !require(&["root", "systemd-nspawn", "busybox", "loop", "mkfs.ext4", "cgroup-v2"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("disk-nspawn");
    let work = tempfile::Builder::new().prefix("whose-machines-").tempdir().unwrap();
    cases.case("a directory", || {
        let (nspawn, root) = (Nspawn::new(), tree(&work.path().join("plain")));
        let running = start(&nspawn, &["-D", root.to_str().unwrap()]);
        let document = usage();
        let found = row(&document, "machine", nspawn.name());
        as_du_says(found);
        assert_eq!((found["kind"].as_str(), layer(found)), (Some("machine"), root), "{found:#}");
        assert!(found["apparent"].as_u64() >= Some(WRITTEN as u64), "{found:#}");
        drop(running);
    });
    cases.case("a directory by its name, and when nothing runs from it", || {
        let nspawn = Nspawn::new();
        let placed = Placed::new(nspawn.name());
        std::fs::rename(tree(&work.path().join("named")), &placed.0).unwrap();
        let name = placed.0.to_str().unwrap();
        let idle = usage();
        let before = row(&idle, "machine-image", name);
        assert_eq!(before["bytes"], du(&[&placed.0]), "{before:#}");
        let running = start(&nspawn, &[]);
        let document = usage();
        let now = row(&document, "machine", nspawn.name());
        as_du_says(now);
        assert_eq!((&now["bytes"], layer(now)), (&before["bytes"], placed.0.clone()), "{now:#}");
        assert!(rows(&document).iter().all(|row| row["name"] != name), "{document:#}");
        drop(running);
    });
    // nspawn mounts no image itself where udev does not run.
    if let Some(disk) = Disk::ext4() {
        cases.case("the root of an image", || {
            let nspawn = Nspawn::new();
            let point = disk.point();
            ran(Command::new("cp")
                .arg("-a")
                .arg(format!("{}/.", tree(&work.path().join("x")).display()))
                .arg(&point));
            rustix::fs::sync();
            let running = start(&nspawn, &["-D", point.to_str().unwrap()]);
            let document = usage();
            let found = row(&document, "machine", nspawn.name());
            as_du_says(found);
            assert_eq!(layer(found), disk.image(), "{found:#}");
            drop(running);
        });
        cases.case("a directory in an image", || {
            let (nspawn, root) = (Nspawn::new(), tree(&disk.point().join("below")));
            let running = start(&nspawn, &["-D", root.to_str().unwrap()]);
            let document = usage();
            let found = row(&document, "machine", nspawn.name());
            as_du_says(found);
            assert_eq!(layer(found), root, "{found:#}");
            drop(running);
        });
    }
    cases.case("an image that nothing runs from", || {
        let placed = Placed::new(&format!("{}.raw", unique("idle")));
        std::fs::rename(image(work.path(), "idle.raw"), &placed.0)
            .or_else(|_| std::fs::copy(work.path().join("idle.raw"), &placed.0).map(|_| ()))
            .unwrap();
        rustix::fs::sync();
        let document = usage();
        let found = row(&document, "machine-image", placed.0.to_str().unwrap());
        assert_eq!(
            (&found["bytes"], &found["apparent"]),
            (&du(&[&placed.0]).into(), &(64 << 20).into())
        );
    });
    cases.case("an overlay of the host's", || {
        let (nspawn, lower) = (Nspawn::new(), tree(&work.path().join("lower")));
        let at = |name: &str| work.path().join(name);
        for name in ["upper", "inner", "merged"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let dirs = [lower, at("upper"), at("inner")].map(|dir| dir.display().to_string());
        let options = format!("lowerdir={},upperdir={},workdir={}", dirs[0], dirs[1], dirs[2]);
        ran(Command::new("mount").args(["-t", "overlay", "o", "-o", &options]).arg(at("merged")));
        std::fs::write(at("merged").join("own"), vec![3; 300_000]).unwrap();
        rustix::fs::sync();
        let running = start(&nspawn, &["-D", at("merged").to_str().unwrap()]);
        let document = usage();
        drop(running);
        ran(Command::new("umount").arg(at("merged")));
        let found = row(&document, "machine", nspawn.name());
        assert_eq!(layer(found), at("upper"), "{found:#}");
        assert!(found["apparent"].as_u64() < Some(WRITTEN as u64), "{found:#}");
    });
    cases.case("an overlay whose text leads elsewhere on the host", || {
        let (nspawn, root) = (Nspawn::new(), tree(&work.path().join("liar")));
        // Of this name the host has another one, which is large.
        let decoy = work.path().join("decoy");
        std::fs::create_dir_all(decoy.join("u")).unwrap();
        std::fs::write(decoy.join("u/big"), vec![9; 3 * WRITTEN]).unwrap();
        std::fs::create_dir_all(root.join(decoy.strip_prefix("/").unwrap())).unwrap();
        rustix::fs::sync();
        let at = decoy.display();
        let running = Sleeper::start(|seconds| {
            let script = format!(
                "set -e; mkdir -p {at}; mount -t tmpfs t {at}; cd {at}; mkdir l u w m; cp -a /bin l; \
                 mount -t overlay o -o lowerdir={at}/l,upperdir={at}/u,workdir={at}/w m; \
                 exec chroot m /bin/sleep {seconds}"
            );
            nspawn.command(&["-D", root.to_str().unwrap()], &["/bin/sh", "-c", &script])
        });
        let document = usage();
        drop(running);
        let found = row(&document, "machine", nspawn.name());
        assert!(found["layer"].is_null() && found["complete"] == false, "{found:#}");
        let gaps = document["gaps"].as_array().unwrap();
        let is_it = |gap: &&Value| {
            Path::new(gap["path"].as_str().unwrap_or_default()) == decoy.join("u")
                && gap["cause"].as_str().unwrap().contains("can't be proven")
        };
        assert_eq!(gaps.iter().filter(is_it).count(), 1, "{gaps:#?}");
    });
    cases.case("a root in memory takes no disk", || {
        let (nspawn, root) = (Nspawn::new(), tree(&work.path().join("volatile")));
        // nspawn wants everything below /usr then.
        let script = "mv bin/* usr/bin; rmdir bin sbin; mkdir -p usr/lib; \
                      for l in bin sbin; do ln -s usr/bin $l; done; ln -s usr/lib lib; \
                      cp etc/os-release usr/lib";
        ran(Command::new("sh").current_dir(&root).args(["-ec", script]));
        let options = ["-D", root.to_str().unwrap(), "--volatile=yes"];
        let running = start(&nspawn, &options);
        let document = usage();
        let found = row(&document, "machine", nspawn.name());
        assert_eq!((&found["layer"], &found["complete"]), (&0.into(), &true.into()), "{found:#}");
        drop(running);
    });
    cases.finish();
}
