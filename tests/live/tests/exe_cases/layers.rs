//! Which layer a file comes from: cases 1 to 4 and 7 to 9, layers on several file systems, T10.

use super::{HostMount, exe_link, overlay};
use std::os::unix::fs::MetadataExt;
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("1-3 lowest, middle and shadowed layer", || three_layers(markers));
    cases.case("4 written at run time", || written(markers));
    cases.case("no upper layer", || read_only(markers));
    cases.case("7a a lower file with two names", || two_names(markers));
    cases.case("7b one of two names copied up", || one_copied(markers));
    cases.case("7c the other name copied up, index=on", || other_copied(markers));
    cases.case("8a, T10 redirect, relative layers", || redirect(markers));
    cases.case("8a redirect in a lower layer", || redirect_in_lower(markers));
    cases.case("8b metacopy", || metacopy(markers));
    cases.case_with(&["linux-6.5"], "8c data-only layer", || data_only(markers));
    cases.case("9 whiteouts and opaque directories", || whiteouts(markers));
    for xino in ["off", "on", "auto"] {
        cases.case(&format!("several file systems, xino={xino}"), || several(markers, xino));
    }
    cases.case("relative layers from another directory", || relative(markers));
}

fn three_layers(markers: &Markers) {
    let lab = Lab::new(markers);
    let low = markers.write(&lab.path("l3/bin/low"));
    let middle = markers.write(&lab.path("l2/bin/middle"));
    markers.write(&lab.path("l3/bin/middle"));
    let top = ["l3", "l2", "l1"].map(|l| markers.write(&lab.path(l).join("bin/all")));
    lab.sh(&overlay(&["l1", "l2", "l3"], ""));
    let lowest = lab.run("exec m/bin/low");
    assert_eq!(lowest.marker(), &low);
    assert_eq!(exe_link(lowest.pid()), lab.path("m/bin/low").to_str().unwrap());
    let expected = about(&lowest).at(lab.path("l3/bin/low")).lower(2, 3);
    expected.state(&["present"]).copied_up("no").is_proven();
    let shadowing = lab.run("exec m/bin/middle");
    assert_eq!(shadowing.marker(), &middle);
    about(&shadowing).at(lab.path("l2/bin/middle")).lower(1, 3).copied_up("no").is_proven();
    let topmost = lab.run("exec m/bin/all");
    assert_eq!(topmost.marker(), &top[2]);
    let told = about(&topmost).at(lab.path("l1/bin/all")).lower(0, 3).copied_up("no").is_proven();
    assert_eq!(told["layer"]["dir"], lab.path("l1").to_str().unwrap(), "{told:#}");
    let meta = std::fs::metadata(lab.path("l1/bin/all")).unwrap();
    assert_eq!(told["inode"]["ino"], meta.ino(), "{told:#}");
    assert_eq!(told["inode"]["size"], meta.len(), "{told:#}");
    assert_eq!(told["inside"], lab.path("m/bin/all").to_str().unwrap(), "{told:#}");
    assert_eq!(told["mount"]["type"], "overlay", "{told:#}");
}

fn written(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/bin/x"));
    let new = markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh("cp new m/bin/y; rm new");
    let running = lab.run("exec m/bin/y");
    assert_eq!(running.marker(), &new);
    let expected = about(&running).at(lab.path("u/bin/y")).upper();
    expected.state(&["present"]).copied_up("no").is_proven();
}

fn read_only(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l2/x"));
    lab.sh("mkdir l1 m; mount -t overlay o -o lowerdir=$LAB/l1:$LAB/l2 m");
    let running = lab.run("exec m/x");
    about(&running).at(lab.path("l2/x")).lower(1, 2).copied_up("no").is_proven();
}

fn two_names(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/bin/a"));
    lab.sh("ln l/bin/a l/bin/b");
    lab.sh(&overlay(&["l"], ""));
    for name in ["a", "b"] {
        let running = lab.run(&format!("exec m/bin/{name}"));
        about(&running).at(lab.path("l/bin").join(name)).lower(0, 1).copied_up("no").is_proven();
    }
}

fn one_copied(markers: &Markers) {
    let lab = Lab::new(markers);
    let lower = markers.write(&lab.path("l/a"));
    lab.sh("ln l/a l/b");
    lab.sh(&overlay(&["l"], ",index=off"));
    lab.sh("chmod 711 m/a");
    let copy = markers.patch(&lab.path("u/a"));
    let running = lab.run("exec m/a");
    assert_eq!(running.marker(), &copy);
    about(&running).at(lab.path("u/a")).upper().copied_up("before-start").is_proven();
    let other = lab.run("exec m/b");
    assert_eq!(other.marker(), &lower);
    about(&other).at(lab.path("l/b")).lower(0, 1).is_proven();
}

fn other_copied(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/a"));
    lab.sh("ln l/a l/b");
    lab.sh(&overlay(&["l"], ",index=on"));
    lab.sh("chmod 711 m/b");
    let copy = markers.patch(&lab.path("u/b"));
    let running = lab.run("exec m/a");
    assert_eq!(running.marker(), &copy);
    assert!(!lab.path("u/a").exists());
    // Its names are the other one and the one in the index.
    about(&running).role(&["upper", "upper-index"]).copied_up("before-start").is_proven();
    // The name that was copied up itself.
    let other = lab.run("exec m/b");
    about(&other).role(&["upper", "upper-index"]).copied_up("before-start").is_proven();
}

fn redirect(markers: &Markers) {
    let lab = Lab::new(markers);
    let lower = markers.write(&lab.path("l2/d/x"));
    let options = "lowerdir=l1:l2,upperdir=u,workdir=w,redirect_dir=on";
    lab.sh(&format!("mkdir l1 u w m; mount -t overlay o -o {options} m; mv m/d m/e"));
    assert!(!lab.path("u/e/x").exists(), "the directory was copied, not redirected");
    let running = lab.run("exec chroot m /e/x");
    assert_eq!(running.marker(), &lower);
    let told = about(&running).at(lab.path("l2/d/x")).lower(1, 2).state(&["present"]).is_proven();
    assert_eq!(told["inside"], "/e/x", "{told:#}");
}

fn redirect_in_lower(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l3/d/sub/x"));
    let options = "lowerdir=l3,upperdir=l2,workdir=w2,redirect_dir=on";
    lab.sh(&format!("mkdir l1 l2 w2 m; mount -t overlay o -o {options} m; mv m/d m/e; umount m"));
    lab.sh(&overlay(&["l1", "l2", "l3"], ",redirect_dir=on"));
    let running = lab.run("exec m/e/sub/x");
    about(&running).at(lab.path("l3/d/sub/x")).lower(2, 3).copied_up("no").is_proven();
    // An absolute redirect: moved to another directory.
    lab.sh("mkdir m/far; mv m/e/sub m/far/away");
    let moved = lab.run("exec m/far/away/x");
    about(&moved).at(lab.path("l3/d/sub/x")).lower(2, 3).copied_up("no").is_proven();
}

fn metacopy(markers: &Markers) {
    let lab = Lab::new(markers);
    let lower = markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh(&overlay(&["l"], ",metacopy=on"));
    lab.sh("chmod 711 m/x");
    let copied = std::fs::read(lab.path("u/x")).unwrap();
    assert!(!lower.is_in(&copied) && !copied.is_empty(), "the data was copied too");
    let running = lab.run("exec m/x");
    about(&running).at(lab.path("l/x")).lower(0, 1).state(&["present"]).is_proven();
    // The same behind a running process, and with the file gone.
    let before = lab.run("exec m/y");
    lab.sh("chmod 711 m/y");
    about(&before).at(lab.path("l/y")).lower(0, 1).state(&["present"]).is_proven();
    lab.sh("rm m/x m/y");
    about(&running).at(lab.path("l/x")).lower(0, 1).state(&["deleted"]).is_proven();
    about(&before).at(lab.path("l/y")).lower(0, 1).state(&["deleted"]).is_proven();
}

fn data_only(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    let options = "lowerdir=$LAB/src,upperdir=$LAB/meta,workdir=$LAB/w,metacopy=on,redirect_dir=on";
    lab.sh(&format!("mkdir meta w m; mount -t overlay o -o {options} m; chmod 700 m/x; umount m"));
    // What a composed image looks like: the data in a store of objects, under another name.
    lab.sh("mkdir -p data/objs/ab; mv src/x data/objs/ab/cd; chmod 755 meta/x");
    lab.sh("$ACT xattr meta/x trusted.overlay.redirect /objs/ab/cd");
    let options = "lowerdir=$LAB/meta::$LAB/data,metacopy=on,redirect_dir=on";
    lab.sh(&format!("mount -t overlay o -o {options} m"));
    let running = lab.run("exec m/x");
    let data = lab.path("data/objs/ab/cd");
    about(&running).at(&data).role(&["data"]).state(&["present"]).is_proven();
    drop(running);
    // By the new mount API, and with an upper layer.
    lab.sh("umount m; mkdir -p u; $ACT overlay m lowerdir+=$LAB/meta datadir+=$LAB/data \
            upperdir=$LAB/u workdir=$LAB/w metacopy=on redirect_dir=on");
    let running = lab.run("exec m/x");
    about(&running).at(&data).role(&["data"]).state(&["present"]).is_proven();
}

fn whiteouts(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l2/d/x"));
    markers.write(&lab.path("l2/y"));
    let opaque = markers.write(&lab.path("l1/o/x"));
    markers.write(&lab.path("l2/o/x"));
    let renewed = markers.write(&lab.path("new"));
    lab.sh("$ACT xattr l1/o trusted.overlay.opaque y; mknod l1/y c 0 0");
    lab.sh(&overlay(&["l1", "l2"], ""));
    lab.sh("rm -r m/d; mkdir m/d; cp new m/d/x; test ! -e m/y; cp new m/y; rm new");
    markers.patch(&lab.path("u/y"));
    let running = lab.run("exec m/d/x");
    assert_eq!(running.marker(), &renewed);
    about(&running).at(lab.path("u/d/x")).upper().copied_up("no").is_proven();
    let over_whiteout = lab.run("exec m/y");
    about(&over_whiteout).at(lab.path("u/y")).upper().copied_up("no").is_proven();
    let in_opaque = lab.run("exec m/o/x");
    assert_eq!(in_opaque.marker(), &opaque);
    about(&in_opaque).at(lab.path("l1/o/x")).lower(0, 2).is_proven();
}

fn several(markers: &Markers, xino: &str) {
    let (one, two) = (HostMount::tmpfs(), HostMount::tmpfs());
    let lab = Lab::new(markers);
    // The same inode number in both, as two fresh file systems have.
    markers.write(&one.point().join("l/x"));
    markers.write(&two.point().join("l/y"));
    let ino = |path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(ino(one.point().join("l/x")), ino(two.point().join("l/y")));
    let layers = format!("{0}/l:{1}/l", one.point().display(), two.point().display());
    lab.sh(&format!(
        "mkdir u w m; mount -t overlay o -o \
         lowerdir={layers},upperdir=$LAB/u,workdir=$LAB/w,xino={xino} m"
    ));
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    about(&x).at(one.point().join("l/x")).lower(0, 2).copied_up("no").is_proven();
    about(&y).at(two.point().join("l/y")).lower(1, 2).copied_up("no").is_proven();
    lab.sh("chmod 711 m/x");
    markers.patch(&lab.path("u/x"));
    let copied = lab.run("exec m/x");
    about(&copied).at(lab.path("u/x")).upper().copied_up("before-start").is_proven();
    about(&x).at(one.point().join("l/x")).lower(0, 2).copied_up("after-start").is_proven();
}

fn relative(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("store/deep/l2/x"));
    // As docker mounts very many layers; nobody records the directory they start from.
    lab.sh("mkdir -p store/l store/deep/l1 store/top/diff store/top/work m; \
            ln -s ../deep/l1 store/l/A; ln -s ../deep/l2 store/l/B; cd store; mount -t overlay o \
            -o lowerdir=l/A:l/B,upperdir=top/diff,workdir=top/work $LAB/m");
    let running = lab.run("exec m/x");
    let told = about(&running).at(lab.path("store/deep/l2/x")).lower(1, 2).is_proven();
    assert_eq!(told["copied_up"], "no", "{told:#}");
    lab.sh("chmod 711 m/x");
    markers.patch(&lab.path("store/top/diff/x"));
    let copied = lab.run("exec m/x");
    about(&copied).at(lab.path("store/top/diff/x")).upper().is_proven();
}
