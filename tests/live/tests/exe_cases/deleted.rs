//! Files and layers that were removed, renamed or replaced: cases 6 and 18, T4, T12 and T13.

use super::{HostMount, exe_link, inside, overlay};
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::kernel;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("6a, T4 lower file removed or replaced", || lower(markers));
    cases.case("6b upper file removed or replaced", || upper(markers));
    cases.case("6c upper file renamed", || renamed(markers));
    cases.case("6a replaced by another lower file", || by_another(markers));
    cases.case("5c copied up, linked and removed", || linked(markers));
    cases.case("18a, 18b, T13 layers gone from the host", || layers(markers));
    cases.case("18a layer file removed on the host", || layer_file(markers));
    cases.case("18c file system of the upper layer gone", || upper_gone(markers));
    cases.case("18c a copy on a file system that is gone", || copy_gone(markers));
    cases.case("no stack at all", || direct(markers));
    cases.case("T12 an impostor with the kernel's suffix", || impostor(markers));
}

fn lower(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    let new = markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ""));
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    lab.sh("rm m/x; cp new m/n; mv m/n m/y; rm new");
    assert!(exe_link(x.pid()).ends_with("/x (deleted)"));
    assert!(exe_link(y.pid()).ends_with("/y (deleted)"));
    let told = |running, name: &str| about(running).at(lab.path(name)).lower(0, 1).copied_up("no");
    told(&x, "l/x").state(&["deleted"]).is_proven();
    // The upper file of that name is no copy of it.
    told(&y, "l/y").state(&["replaced"]).is_proven();
    let newer = lab.run("exec m/y");
    assert_eq!(newer.marker(), &new);
    about(&newer).at(lab.path("u/y")).upper().state(&["present"]).is_proven();
}

/// The file that took the name was copied up itself.
fn by_another(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("mv m/y m/x");
    let claim = about(&running).at(lab.path("l/x")).lower(0, 1).copied_up("no");
    claim.state(&["replaced"]).is_proven();
    // Removed behind another process that runs it.
    let second = lab.run("exec m/x");
    let claim = about(&second).upper().copied_up("before-start");
    claim.at(lab.path("u/x")).state(&["present"]).is_proven();
}

/// Its copy has another name, so that the links of the file do not tell.
fn linked(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("chmod 711 m/x; ln m/x m/other; rm m/x");
    markers.patch(&lab.path("u/other"));
    let claim = about(&running).at(lab.path("l/x")).lower(0, 1).copied_up("after-start");
    claim.clone().state(&["deleted"]).is_proven();
    lab.sh("mv new m/x");
    claim.state(&["replaced"]).is_proven();
}

fn upper(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("new"));
    lab.sh("mkdir l");
    lab.sh(&overlay(&["l"], ""));
    lab.sh("cp new m/x; cp new m/y");
    markers.patch(&lab.path("u/x"));
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    lab.sh("rm m/x; mv new m/n; mv m/n m/y");
    markers.patch(&lab.path("u/y"));
    assert_ne!(x.marker(), y.marker());
    for running in [&x, &y] {
        let told = about(running).upper().state(&["unlinked"]).has_none();
        assert!(told["copied_up"].is_null() || told["copied_up"] == "no", "{told:#}");
    }
}

fn renamed(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("new"));
    lab.sh("mkdir l");
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mkdir m/d; mv new m/d/x");
    let running = lab.run("exec m/d/x");
    lab.sh("mv m/d/x m/d/y; mv m/d m/e");
    let told = about(&running).at(lab.path("u/e/y")).upper().state(&["present"]).is_proven();
    assert_eq!(told["inside"], lab.path("m/e/y").to_str().unwrap(), "{told:#}");
}

fn layers(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("a/one"));
    markers.write(&lab.path("b/two"));
    lab.sh(&overlay(&["a", "b"], ""));
    let (one, two) = (lab.run("exec m/one"), lab.run("exec m/two"));
    std::fs::remove_dir_all(lab.path("a")).unwrap();
    std::fs::rename(lab.path("b"), lab.path("b2")).unwrap();
    for running in [&one, &two] {
        assert!(!exe_link(running.pid()).contains("deleted"), "{}", exe_link(running.pid()));
    }
    about(&one).state(&["unlinked"]).copied_up("no").has_none();
    about(&two).at(lab.path("b2/two")).role(&["lower"]).state(&["present"]).is_proven();
    // Others take their names.
    markers.write(&lab.path("a/one"));
    markers.write(&lab.path("b/two"));
    about(&one).state(&["unlinked"]).has_none();
    about(&two).at(lab.path("b2/two")).role(&["lower"]).state(&["present"]).is_proven();
}

fn layer_file(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l1/x"));
    markers.write(&lab.path("l2/x"));
    lab.sh(&overlay(&["l1", "l2"], ""));
    let running = lab.run("exec m/x");
    // The next layer's file of that name must not be taken for it.
    std::fs::remove_file(lab.path("l1/x")).unwrap();
    about(&running).state(&["unlinked"]).has_none();
    std::fs::rename(lab.path("l2/x"), lab.path("l1/x")).unwrap();
    about(&running).state(&["unlinked"]).has_none();
}

fn upper_gone(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("new"));
    lab.sh("mkdir l m t; mount -t tmpfs t t; mkdir t/u t/w; mount -t overlay o -o \
            lowerdir=$LAB/l,upperdir=$LAB/t/u,workdir=$LAB/t/w m; mv new m/x");
    let running = lab.run("exec m/x");
    let told = about(&running).has_none();
    // An older kernel shows the layer's inode, and tmpfs opens none by its number.
    if kernel() >= (6, 6) {
        assert_eq!(told["layer_path"], lab.path("t/u/x").to_str().unwrap(), "{told:#}");
        assert!(told["layer_ns"].is_string(), "{told:#}");
    }
    lab.sh("umount -l t");
    about(&running).has_none();
    // One that the host had mounted too.
    let fs = HostMount::tmpfs();
    let lab = Lab::new(markers);
    markers.write(&lab.path("new"));
    let top = fs.point().display().to_string();
    lab.sh(&format!(
        "mkdir l m {top}/u {top}/w; mount -t overlay o -o \
         lowerdir=$LAB/l,upperdir={top}/u,workdir={top}/w m; mv new m/x"
    ));
    let running = lab.run("exec m/x");
    about(&running).at(fs.point().join("u/x")).upper().is_proven();
    lab.sh(&format!("umount -l {top}"));
    drop(fs);
    about(&running).state(&["present"]).has_none();
}

/// Nothing leads to the copy, but `exe` opens it in place of what runs.
fn copy_gone(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh("mkdir m t; mount -t tmpfs t t; mkdir t/u t/w; mount -t overlay o -o \
            lowerdir=$LAB/l,upperdir=$LAB/t/u,workdir=$LAB/t/w m");
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    lab.sh("touch m/x");
    markers.patch(&inside(&lab, "t/u/x"));
    let copied = lab.run("exec m/x");
    lab.sh("umount -l t");
    let claim = about(&x).at(lab.path("l/x")).lower(0, 1).copied_up("after-start");
    let told = claim.is_proven();
    assert!(told["via_proc"].is_null() && told["merged"].is_null(), "{told:#}");
    about(&y).at(lab.path("l/y")).lower(0, 1).copied_up("no").is_proven();
    about(&copied).role(&["upper", "merged"]).says_nothing(&[1, 3]);
}

fn direct(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    markers.write(&lab.path("y"));
    markers.write(&lab.path("z"));
    let [x, y, z] = ["x", "y", "z"].map(|name| lab.run(&format!("exec ./{name}")));
    lab.sh("rm x; mv y y2; ln z z2; rm z");
    about(&x).role(&["direct"]).state(&["unlinked"]).has_none();
    about(&y).at(lab.path("y2")).role(&["direct"]).state(&["present"]).is_proven();
    // The name it was started by is gone, the file has another.
    assert!(exe_link(z.pid()).ends_with("/z (deleted)"));
    about(&z).at(lab.path("z2")).is_right_or_silent();
}

fn impostor(markers: &Markers) {
    let lab = Lab::new(markers);
    let literal = markers.write(&lab.path("x (deleted)"));
    markers.write(&lab.path("y"));
    let running = lab.run("exec './x (deleted)'");
    assert_eq!(running.marker(), &literal);
    let gone = lab.run("exec ./y");
    lab.sh("rm y");
    markers.write(&lab.path("y (deleted)"));
    assert_eq!(exe_link(gone.pid()), lab.path("y (deleted)").to_str().unwrap());
    let told = about(&running).at(lab.path("x (deleted)")).state(&["present"]).is_proven();
    assert_eq!(told["inside"], lab.path("x (deleted)").to_str().unwrap(), "{told:#}");
    let told = about(&gone).state(&["unlinked"]).has_none();
    assert_eq!(told["inside"], lab.path("y").to_str().unwrap(), "{told:#}");
}
