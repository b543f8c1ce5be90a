//! LXC on a directory, an overlay, an image, and with ids of its own: cases 10a, 15 and 16a.

use std::path::{Path, PathBuf};
use std::process::Command;
use whose_live_tests::judge::about;
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::lxc::{Lxc, MAPPED};
use whose_testkit::marker::{Markers, Running};
use whose_testkit::{procfs, require};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("15 lxc on a directory", || directory(markers));
    cases.case("15 lxc overlay", || overlay(markers));
    cases.case("16a lxc with ids of its own", || mapped(markers));
    if require(&["loop", "mkfs.ext4"]) {
        cases.case("15 lxc on an image", || image(markers));
    }
}

/// A container's init, which does nothing.
const SLEEP: &str = "/bin/sleep 10000";

struct Container {
    lxc: Lxc,
    name: String,
    init: u32,
}

impl Container {
    /// Starts one; `place` is given the directory of all of LXC's and says what its root is.
    fn start(what: &str, place: impl FnOnce(&Path) -> (String, Vec<String>)) -> Container {
        let (mut lxc, name) = (Lxc::new(), unique(what));
        let (rootfs, more) = place(lxc.path());
        let init = lxc.start(&name, &rootfs, SLEEP, &more).unwrap_or_else(|e| panic!("{e}"));
        Container { lxc, name, init }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lxc.path().join(name)
    }

    fn exec(&self, words: &[&str]) -> Running {
        Running::start_beside(self.lxc.attach(&self.name, words), self.init)
    }

    fn sh(&self, script: &str) {
        super::run(&mut self.lxc.attach(&self.name, &["/bin/sh", "-ec", script]));
    }
}

fn directory(markers: &Markers) {
    let container = Container::start("dir", |dir| {
        let root = busybox_rootfs(dir);
        markers.write(&root.join("bin/x"));
        markers.write(&dir.join("volume/x"));
        std::fs::create_dir(root.join("volume")).unwrap();
        let volume = dir.join("volume").display().to_string();
        let entry = format!("lxc.mount.entry = {volume} volume none bind 0 0");
        (format!("dir:{}", root.display()), vec![entry])
    });
    let root = container.path("rootfs");
    let running = container.exec(&["/bin/x"]);
    let claim = about(&running).at(root.join("bin/x")).role(&["direct"]).state(&["present"]);
    claim.fact("inside", "/bin/x").is_proven();
    let volume = container.exec(&["/volume/x"]);
    let claim = about(&volume).at(container.path("volume/x")).role(&["direct", "volume"]);
    claim.state(&["present"]).is_proven();
    container.sh("rm /bin/x");
    about(&running).state(&["unlinked"]).has_none();
}

fn overlay(markers: &Markers) {
    let container = Container::start("overlay", |dir| {
        let root = busybox_rootfs(dir);
        for name in ["low", "touched"] {
            markers.write(&root.join("bin").join(name));
        }
        std::fs::create_dir(dir.join("middle")).unwrap();
        markers.write(&dir.join("middle/bin/middle"));
        std::fs::create_dir_all(dir.join("o/upper")).unwrap();
        // The last but one is the top lower directory, the last the upper one.
        let part = |name: &str| dir.join(name).display().to_string();
        let parts = ["middle", "rootfs", "o/upper"].map(part).join(":");
        (format!("overlay:{parts}"), Vec::new())
    });
    let low = container.exec(&["/bin/low"]);
    let told = about(&low).at(container.path("rootfs/bin/low")).role(&["lower"]).is_proven();
    assert_eq!(told["copied_up"], "no", "{told:#}");
    let middle = container.exec(&["/bin/middle"]);
    about(&middle).at(container.path("middle/bin/middle")).role(&["lower"]).is_proven();
    container.sh("cp /bin/low /bin/new");
    let new = container.exec(&["/bin/new"]);
    let claim = about(&new).at(container.path("o/upper/bin/new")).upper();
    claim.copied_up("no").state(&["present"]).is_proven();
    let before = container.exec(&["/bin/touched"]);
    container.sh("chmod 711 /bin/touched");
    let copy = container.path("o/upper/bin/touched");
    markers.patch(&copy);
    let after = container.exec(&["/bin/touched"]);
    let claim = about(&before).at(container.path("rootfs/bin/touched")).role(&["lower"]);
    claim.copied_up("after-start").is_proven();
    about(&after).at(copy).upper().copied_up("before-start").is_proven();
}

fn mapped(markers: &Markers) {
    let container = Container::start("mapped", |dir| {
        let root = busybox_rootfs(dir);
        markers.write(&root.join("bin/x"));
        let mut chown = Command::new("chown");
        chown.args(["-hR", &format!("{MAPPED}:{MAPPED}")]).arg(&root);
        super::run(&mut chown);
        let ids = ["u", "g"].map(|kind| format!("lxc.idmap = {kind} 0 {MAPPED} 65536"));
        (format!("dir:{}", root.display()), ids.to_vec())
    });
    let running = container.exec(&["/bin/x"]);
    assert_eq!(procfs::uid(running.pid()), Some(MAPPED));
    let claim = about(&running).at(container.path("rootfs/bin/x")).role(&["direct"]);
    claim.state(&["present"]).is_proven();
}

/// On a loop device that only the container has mounted.
fn image(markers: &Markers) {
    let container = Container::start("image", |dir| {
        let root = busybox_rootfs(dir);
        markers.write(&root.join("bin/x"));
        let image = dir.join("image");
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("64M");
        super::run(&mut make);
        (format!("loop:{}", image.display()), Vec::new())
    });
    let running = container.exec(&["/bin/x"]);
    let image = container.path("image");
    about(&running).fact("image_file", image.to_str().unwrap()).has_none();
}
