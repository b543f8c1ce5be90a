//! Bind mounts and mounts over mounts: cases 10, 16a and 17, T7, T8, T9 and T22.

use super::{HostMount, exe_link, overlay};
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("10a a directory and a file bound into a stack", || bound(markers));
    cases.case("10b a private tmpfs", || private(markers));
    cases.case("10c a directory of another stack", || of_a_stack(markers));
    cases.case_with(&["linux-5.19"], "16a idmapped bind and idmapped layer", || idmapped(markers));
    cases.case("17a, T7 lazily unmounted", || detached(markers));
    cases.case("17b, T8 over-mounted", || over_mounted(markers));
    cases.case("17b over-mounted stack", || over_mounted_stack(markers));
    cases.case("17c, T9 the source of a file bind replaced", || file_bind(markers));
    cases.case("T22 a mount point removed elsewhere", || dropped(markers));
    cases.case("asked from the namespace of the stack", || from_inside(markers));
    cases.case("the host's own view over-mounted", || host_view(markers));
}

fn bound(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    markers.write(&lab.path("one"));
    markers.write(&lab.path("l/data/x"));
    markers.write(&lab.path("l/file"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mount --bind src m/data; mount --bind one m/file");
    let (dir, file) = (lab.run("exec m/data/x"), lab.run("exec m/file"));
    let expected = about(&dir).at(lab.path("src/x")).role(&["direct", "volume"]);
    let told = expected.state(&["present"]).is_proven();
    assert_eq!(told["inside"], lab.path("m/data/x").to_str().unwrap(), "{told:#}");
    let expected = about(&file).at(lab.path("one")).role(&["direct", "volume"]);
    expected.state(&["present"]).is_proven();
}

fn private(markers: &Markers) {
    let lab = Lab::new(markers);
    let marker = markers.write(&lab.path("x"));
    lab.sh("mkdir t; mount -t tmpfs t t; mv x t/x");
    let running = lab.run("exec t/x");
    // A file of that name on the host is another one.
    assert_ne!(markers.write(&lab.path("t/x")), marker);
    let told = about(&running).role(&["direct", "volume"]).state(&["present"]).has_none();
    let through = format!("/proc/{}/root{}", running.pid(), lab.path("t/x").display());
    assert_eq!(told["via_proc"], through, "{told:#}");
    // Asked from where it is mounted, it has a path.
    about(&running).seen_from(lab.pid()).at(lab.path("t/x")).is_proven();
}

fn of_a_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/bin/x"));
    markers.write(&lab.path("l/bin/y"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mkdir b; mount --bind m/bin b; touch m/bin/y");
    markers.patch(&lab.path("u/bin/y"));
    let (x, y) = (lab.run("exec b/x"), lab.run("exec b/y"));
    about(&x).at(lab.path("l/bin/x")).lower(0, 1).copied_up("no").is_proven();
    about(&y).at(lab.path("u/bin/y")).upper().copied_up("before-start").is_proven();
    // A file of it.
    lab.sh("touch f; mount --bind m/bin/x f; umount m");
    let file = lab.run("exec ./f");
    about(&file).at(lab.path("l/bin/x")).lower(0, 1).is_proven();
}

fn idmapped(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    lab.sh("mkdir b u w m; $ACT idmap src b");
    let running = lab.run("exec b/x");
    about(&running).at(lab.path("src/x")).state(&["present"]).is_proven();
    lab.sh("mount -t overlay o -o lowerdir=$LAB/b,upperdir=$LAB/u,workdir=$LAB/w m");
    let running = lab.run("exec m/x");
    about(&running).at(lab.path("src/x")).role(&["lower"]).state(&["present"]).is_proven();
}

fn detached(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    markers.write(&lab.path("l/y"));
    lab.sh("mkdir a; mount --bind src a");
    lab.sh(&overlay(&["l"], ""));
    let (x, y) = (lab.run("exec a/x"), lab.run("exec m/y"));
    lab.sh("umount -l a; umount -l m");
    assert_eq!([exe_link(x.pid()), exe_link(y.pid())], ["/x", "/y"]);
    about(&x).at(lab.path("src/x")).state(&["detached"]).is_proven();
    about(&y).at(lab.path("l/y")).role(&["lower"]).state(&["detached"]).is_proven();
}

fn over_mounted(markers: &Markers) {
    let lab = Lab::new(markers);
    for dir in ["o1", "o2", "o3"] {
        markers.write(&lab.path(dir).join("x"));
    }
    lab.sh("mkdir b; mount --bind o1 b");
    let first = lab.run("exec b/x");
    lab.sh("mount --bind o2 b");
    let second = lab.run("exec b/x");
    lab.sh("mount --bind o3 b");
    let third = lab.run("exec b/x");
    about(&first).at(lab.path("o1/x")).state(&["hidden"]).is_proven();
    about(&second).at(lab.path("o2/x")).state(&["hidden"]).is_proven();
    about(&third).at(lab.path("o3/x")).state(&["present"]).is_proven();
    // And over the whole place, with something that has no such file.
    lab.sh("mount -t tmpfs t b");
    about(&third).at(lab.path("o3/x")).state(&["hidden"]).is_proven();
}

fn over_mounted_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("other/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("mount --bind other m; mount --bind other/x m/x");
    about(&running).at(lab.path("l/x")).lower(0, 1).state(&["hidden"]).is_proven();
}

fn file_bind(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("f1"));
    markers.write(&lab.path("f2"));
    lab.sh("touch x; mount --bind f1 x");
    let running = lab.run("exec ./x");
    lab.sh("mv f2 f1");
    assert!(exe_link(running.pid()).ends_with(" (deleted)"));
    let told = about(&running).state(&["unlinked"]).has_none();
    assert_eq!(told["inode"]["nlink"], 0, "{told:#}");
}

fn dropped(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    std::fs::create_dir(lab.path("point")).unwrap();
    lab.sh("mount --bind src point");
    let running = lab.run("exec point/x");
    std::fs::remove_dir(lab.path("point")).unwrap();
    about(&running).at(lab.path("src/x")).state(&["detached", "deleted"]).is_proven();
}

fn from_inside(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let before = lab.run("exec m/x");
    let claim = || about(&before).seen_from(lab.pid()).at(lab.path("l/x")).lower(0, 1);
    let told = claim().copied_up("no").is_proven();
    assert_eq!(told["merged"], lab.path("m/x").to_str().unwrap(), "{told:#}");
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    // The merged view shows another file now.
    let told = claim().copied_up("after-start").is_proven();
    assert!(told["merged"].is_null() && told["via_proc"].is_null(), "{told:#}");
    let after = lab.run("exec m/x");
    let told = about(&after).seen_from(lab.pid()).at(lab.path("u/x")).upper().is_proven();
    assert_eq!(told["merged"], lab.path("m/x").to_str().unwrap(), "{told:#}");
}

/// Where the host has another mount over the layer, there is no path to it.
fn host_view(markers: &Markers) {
    let other = HostMount::tmpfs();
    markers.write(&other.point().join("x"));
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let over = HostMount::over(&other.point(), &lab.path("l"));
    about(&running).says_nothing(&[1, 3]);
    drop(over);
    about(&running).at(lab.path("l/x")).lower(0, 1).is_proven();
}
