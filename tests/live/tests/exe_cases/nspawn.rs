//! systemd-nspawn on a directory, a copy of it, and layers that vanish: case 15.

use std::path::{Path, PathBuf};
use std::process::Command;
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::marker::{Markers, Running};
use whose_testkit::nspawn::Nspawn;
use whose_testkit::procfs;

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("15 nspawn on a directory", || directory(markers));
    cases.case("10a nspawn --bind", || bound(markers));
    cases.case("15 nspawn --ephemeral", || ephemeral(markers));
    cases.case("15 nspawn --volatile=overlay", || volatile(markers));
    cases.case("10b nspawn --volatile=yes", || volatile_root(markers));
    cases.case("16a nspawn with ids of its own", || mapped(markers));
}

struct Machine {
    // Before the directory, which it may use.
    nspawn: Nspawn,
    dir: tempfile::TempDir,
}

impl Machine {
    fn new(markers: &Markers) -> Machine {
        let nspawn = Nspawn::new();
        let dir = tempfile::Builder::new().prefix("whose-nspawn-").tempdir().unwrap();
        let root = busybox_rootfs(dir.path());
        markers.write(&root.join("bin/x"));
        markers.write(&root.join("usr/bin/x"));
        std::fs::write(root.join("etc/os-release"), "ID=lab\n").unwrap();
        Machine { nspawn, dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Runs these words as its first process.
    fn run(&self, options: &[&str], words: &[&str]) -> Running {
        let root = self.root();
        let options = [&["-D", root.to_str().unwrap()][..], options].concat();
        let running = Running::start_below(self.nspawn.command(&options, words));
        assert_eq!(procfs::nspid(running.pid()).map(|pids| pids.len()), Some(2));
        running
    }
}

fn directory(markers: &Markers) {
    let machine = Machine::new(markers);
    let running = machine.run(&[], &["/bin/x"]);
    let at = machine.root().join("bin/x");
    let claim = about(&running).at(&at).role(&["direct"]).state(&["present"]);
    claim.fact("inside", "/bin/x").is_proven();
    std::fs::remove_file(at).unwrap();
    about(&running).state(&["unlinked"]).has_none();
}

fn bound(markers: &Markers) {
    let machine = Machine::new(markers);
    let at = machine.dir.path().join("bound/y");
    markers.write(&at);
    let bind = format!("--bind-ro={}:/bound", at.parent().unwrap().display());
    let running = machine.run(&[&bind], &["/bound/y"]);
    about(&running).at(at).role(&["direct", "volume"]).state(&["present"]).is_proven();
    drop(running);
    let running = machine.run(&["--tmpfs=/t"], &["/bin/sh", "-ec", "cp /bin/x /t/x; exec /t/x"]);
    about(&running).state(&["present"]).has_none();
}

/// A copy beside it, with a name made up at the start.
fn ephemeral(markers: &Markers) {
    let machine = Machine::new(markers);
    let running = machine.run(&["--ephemeral"], &["/bin/x"]);
    let told = about(&running).role(&["direct"]).state(&["present"]).is_proven();
    let host = Path::new(told["host"].as_str().unwrap());
    assert!(host.ends_with("bin/x") && !host.starts_with(machine.root()), "{told:#}");
    assert!(host.starts_with(machine.dir.path()), "{told:#}");
}

/// The lower layer is the host's, the upper one a tmpfs of the machine's own.
fn volatile(markers: &Markers) {
    let machine = Machine::new(markers);
    let running = machine.run(&["--volatile=overlay"], &["/bin/x"]);
    let at = machine.root().join("bin/x");
    about(&running).at(&at).lower(0, 1).copied_up("no").state(&["present"]).is_proven();
    drop(running);
    let script = "chmod 711 /bin/x; exec /bin/x";
    let copied = machine.run(&["--volatile=overlay"], &["/bin/sh", "-ec", script]);
    // No mount that can be reached is of that tmpfs, and what the handle names is the original.
    let claim = about(&copied).role(&["upper", "merged"]).state(&["present"]);
    claim.fact("verified", "page").says_nothing(&[1, 3]);
    drop(copied);
    let script = "cp /bin/x /bin/y; exec /bin/y";
    let written = machine.run(&["--volatile=overlay"], &["/bin/sh", "-ec", script]);
    about(&written).role(&["upper", "merged"]).state(&["present"]).says_nothing(&[1, 3]);
}

/// Only `/usr` is the host's.
fn volatile_root(markers: &Markers) {
    let machine = Machine::new(markers);
    // nspawn wants everything below /usr then.
    let script = "rm usr/bin/x; mv bin/* usr/bin; rmdir bin sbin; mkdir usr/lib; \
                  for l in bin sbin; do ln -s usr/bin $l; done; ln -s usr/lib lib";
    super::run(Command::new("sh").current_dir(machine.root()).args(["-ec", script]));
    let running = machine.run(&["--volatile=yes"], &["/usr/bin/x"]);
    let at = machine.root().join("usr/bin/x");
    about(&running).at(at).role(&["direct", "volume"]).state(&["present"]).is_proven();
    drop(running);
    let words = ["/bin/sh", "-ec", "cp /usr/bin/x /x; exec /x"];
    let running = machine.run(&["--volatile=yes"], &words);
    about(&running).state(&["present"]).has_none();
}

fn mapped(markers: &Markers) {
    const FIRST: u32 = 327_680_000;
    let machine = Machine::new(markers);
    let ids = format!("--private-users={FIRST}:65536");
    for ownership in ["map", "chown"] {
        let how = format!("--private-users-ownership={ownership}");
        let running = machine.run(&[&ids, &how], &["/bin/x"]);
        assert_eq!(procfs::uid(running.pid()), Some(FIRST));
        let claim = about(&running).at(machine.root().join("bin/x")).role(&["direct"]);
        claim.state(&["present"]).is_proven();
    }
}
