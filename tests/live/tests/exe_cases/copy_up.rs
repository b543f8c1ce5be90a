//! Files copied up before and after the start: cases 5 and 16b, T2, T3, T11 and T19.

use super::{HostMount, overlay};
use std::os::unix::fs::MetadataExt;
use whose_live_tests::judge::{about, exe};
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};
use whose_testkit::{kernel, require};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("5a, 5b, T2 copied up behind a running process", || behind(markers));
    cases.case("the other one is not in memory", || cold(markers));
    cases.case("hashes are those of the file that runs", || hashes(markers));
    cases.case("5c and then removed", || then_removed(markers));
    cases.case("5d opened for writing", || busy(markers));
    cases.case("T3 modified, then run", || modified(markers));
    cases.case_with(&["linux-5.11"], "16b, T11 in a user namespace", || user_namespace(markers));
    cases.case("on another file system", || another(markers));
    if require(&["btrfs", "loop", "mkfs.btrfs"]) {
        cases.case("T19 layers on btrfs", || reflink(markers));
    }
}

fn behind(markers: &Markers) {
    let lab = Lab::new(markers);
    let lower = markers.write(&lab.path("l/bin/x"));
    lab.sh(&overlay(&["l"], ""));
    let mut before = lab.run("exec m/bin/x");
    lab.sh("chmod 711 m/bin/x");
    let upper = markers.patch(&lab.path("u/bin/x"));
    assert_eq!(before.look_again(), &lower, "it runs the lower file still");
    let after = lab.run("exec m/bin/x");
    assert_eq!(after.marker(), &upper);
    let ino = |pid| std::fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino();
    let lower_ino = std::fs::metadata(lab.path("l/bin/x")).unwrap().ino();
    assert_eq!([ino(before.pid()), ino(after.pid())], [lower_ino; 2], "both numbers lie alike");
    let expected = about(&before).at(lab.path("l/bin/x")).lower(0, 1);
    expected.state(&["present"]).copied_up("after-start").is_proven();
    let expected = about(&after).at(lab.path("u/bin/x")).upper();
    expected.state(&["present"]).copied_up("before-start").is_proven();
}

/// What can't be compared is not thereby absent.
fn cold(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let evict = |file: &str| lab.sh(&format!("sync {file}; dd if={file} iflag=nocache count=0"));
    let before = lab.run("exec m/x");
    lab.sh("touch m/x");
    evict("u/x");
    let claim = about(&before).at(lab.path("l/x")).lower(0, 1);
    claim.copied_up("after-start").is_proven();
    drop(before);
    markers.patch(&lab.path("u/x"));
    let after = lab.run("exec m/x");
    evict("l/x");
    about(&after).at(lab.path("u/x")).upper().copied_up("before-start").is_proven();
}

fn hashes(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let before = lab.run("exec m/x");
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    let after = lab.run("exec m/x");
    let notes = lab.sh("readelf -n l/x");
    let build_id = notes.lines().find_map(|l| l.trim().strip_prefix("Build ID: ")).unwrap();
    for (running, file) in [(&before, "l/x"), (&after, "u/x")] {
        let run = exe(&["--json", "--hash", &running.pid().to_string()]).run().expect_code(0);
        let told = run.json()["answers"][0]["binary"].clone();
        let sum = lab.sh(&format!("sha256sum {file}"));
        let sum = sum.split_ascii_whitespace().next().unwrap();
        assert_eq!(told["host"], lab.path(file).to_str().unwrap(), "{told:#}");
        assert_eq!(told["sha256"], sum, "{told:#}");
        assert_eq!(told["build_id"], build_id, "{told:#}");
    }
}

fn then_removed(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("chmod 711 m/x");
    markers.patch(&lab.path("u/x"));
    lab.sh("rm m/x");
    let expected = about(&running).at(lab.path("l/x")).lower(0, 1);
    expected.state(&["deleted"]).copied_up("after-start").is_proven();
}

fn busy(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let said = lab.sh("(printf Z >>m/x) 2>&1 || true");
    let claim = about(&running).at(lab.path("l/x")).lower(0, 1);
    if kernel() < (5, 15) {
        // The layer's file is kept from writers, not the stack's: it is copied up.
        assert!(said.is_empty() && lab.path("u/x").exists(), "{said}");
        claim.copied_up("after-start").is_proven();
        return;
    }
    assert!(said.contains("busy") && !lab.path("u/x").exists(), "{said}");
    claim.copied_up("no").is_proven();
}

fn modified(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    let new = markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh("cat new >m/x; echo ZZZ >>m/x; rm new");
    let running = lab.run("exec m/x");
    assert_eq!(running.marker(), &new);
    let expected = about(&running).at(lab.path("u/x")).upper();
    expected.state(&["present"]).copied_up("before-start").is_proven();
}

fn user_namespace(markers: &Markers) {
    let lab = Lab::new(markers);
    let lower = markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh("mkdir u w m");
    let options = "lowerdir=l,upperdir=u,workdir=w,userxattr";
    let mount = format!("mount -t overlay o -o {options} m");
    let mut first = lab.run(&format!("exec unshare -Urm sh -ec '{mount}; exec m/x'"));
    about(&first).at(lab.path("l/x")).lower(0, 1).copied_up("no").is_proven();
    let inside = |script: &str| {
        let pid = first.pid();
        format!(
            "exec nsenter -U -m -t {pid} --preserve-credentials sh -ec 'cd {}; {script}'",
            lab.path("").display()
        )
    };
    lab.sh(&inside("chmod 711 m/x"));
    let copy = markers.patch(&lab.path("u/x"));
    let second = lab.run(&inside("exec m/x"));
    assert_eq!(second.marker(), &copy);
    let other = lab.run(&inside("exec m/y"));
    assert_eq!(first.look_again(), &lower);
    about(&first).at(lab.path("l/x")).lower(0, 1).copied_up("after-start").is_proven();
    about(&second).at(lab.path("u/x")).upper().copied_up("before-start").is_proven();
    about(&other).at(lab.path("l/y")).lower(0, 1).copied_up("no").is_proven();
}

fn another(markers: &Markers) {
    let fs = HostMount::tmpfs();
    let lab = Lab::new(markers);
    let top = fs.point();
    markers.write(&lab.path("l/x"));
    let top_dir = top.display();
    lab.sh(&format!(
        "mkdir m {top_dir}/u {top_dir}/w; mount -t overlay o -o \
         lowerdir=$LAB/l,upperdir={top_dir}/u,workdir={top_dir}/w m"
    ));
    let before = lab.run("exec m/x");
    lab.sh("touch m/x");
    markers.patch(&top.join("u/x"));
    let after = lab.run("exec m/x");
    about(&before).at(lab.path("l/x")).lower(0, 1).copied_up("after-start").is_proven();
    about(&after).at(top.join("u/x")).upper().copied_up("before-start").is_proven();
}

/// A copy on btrfs shares its extents with the original.
fn reflink(markers: &Markers) {
    let fs = HostMount::image("btrfs");
    let lab = Lab::new(markers);
    let top = fs.point();
    markers.write(&top.join("l/x"));
    let dir = top.display();
    lab.sh(&format!(
        "mkdir m {dir}/u {dir}/w; mount -t overlay o -o \
         lowerdir={dir}/l,upperdir={dir}/u,workdir={dir}/w m"
    ));
    let before = lab.run("exec m/x");
    lab.sh("touch m/x");
    about(&before).at(top.join("l/x")).lower(0, 1).copied_up("after-start").is_proven();
    markers.patch(&top.join("u/x"));
    let after = lab.run("exec m/x");
    about(&before).at(top.join("l/x")).lower(0, 1).copied_up("after-start").is_proven();
    about(&after).at(top.join("u/x")).upper().copied_up("before-start").is_proven();
}
