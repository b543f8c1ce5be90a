//! Case 19: what is left with fewer rights.

use super::{inside, overlay};
use whose_live_tests::judge::{Claim, about, exe};
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers, Running};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("19 an ordinary user", || nobody(markers));
    cases.case("19 root with some capabilities", || capabilities(markers));
    cases.case("19 by handle, without pages", || by_handle(markers));
    cases.case("19 a copy out of reach, without pages", || hidden_copy(markers));
    cases.case("19 a copy that was removed, without pages", || removed_copy(markers));
    cases.case("19 a copy by its index, without pages", || indexed_copy(markers));
    cases.case_with(&["linux-6.5"], "19 metadata alone, without pages", || metadata(markers));
}

fn nobody(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let pid = running.pid().to_string();
    let run = exe(&[&pid]).as_user(65_534, 65_534).run().expect_code(3);
    assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.story());
    let run = exe(&["--json", &pid]).as_user(65_534, 65_534).run().expect_code(3);
    let told = run.json()["answers"][0].clone();
    assert!(told["binary"]["host"].is_null(), "{}", run.story());
    let gaps = told["gaps"].as_array().cloned().unwrap_or_default();
    assert!(gaps.iter().any(|g| g["class"] == "forbidden"), "{}", run.story());
}

/// Root's files can be read without any capability, but for what /proc and handles ask.
fn capabilities(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    let words = |caps: &str| format!("--bounding-set=-all{caps}");
    for (caps, page) in [
        ("", false),
        (",+sys_ptrace", false),
        (",+sys_ptrace,+dac_read_search", false),
        (",+sys_ptrace,+dac_read_search,+sys_admin", true),
    ] {
        let claim = about(&running).via(&["setpriv", &words(caps)]).at(lab.path("l/x"));
        if page {
            claim.is_proven();
        } else {
            claim.is_right_or_silent();
        }
    }
}

/// Handles can be opened, pages and the overlay's attributes not be read.
const NO_PAGES: [&str; 2] = ["setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search"];

#[track_caller]
fn without_pages(running: &Running) {
    about(running).via(&NO_PAGES).is_right_or_silent();
}

/// The kernel's handle is enough where nothing can lie over the file.
fn by_handle(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mv new m/y");
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    // Before 6.6 an overlay gives no handle of the layer's file, and maps shows its inode.
    let newer = whose_testkit::Needs("linux-6.6").missing().is_none();
    let how = if newer { "handle" } else { "mapped-inode" };
    let proven = |claim: Claim| claim.via(&NO_PAGES).verified(&[how]).is_proven();
    proven(about(&x).at(lab.path("l/x")).lower(0, 1).copied_up("no"));
    proven(about(&y).at(lab.path("u/y")).upper().copied_up("no"));
}

/// The handle is the original's, and nothing that can be seen lies over it.
fn hidden_copy(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    markers.write(&lab.path("l/y"));
    lab.sh("mkdir m t; mount -t tmpfs t t; mkdir t/u t/w; mount -t overlay o -o \
            lowerdir=$LAB/l,upperdir=$LAB/t/u,workdir=$LAB/t/w m; touch m/x");
    markers.patch(&inside(&lab, "t/u/x"));
    let copied = lab.run("exec m/x");
    without_pages(&copied);
    lab.sh("umount -l t");
    without_pages(&copied);
    about(&copied).says_nothing(&[1, 3]);
    // In its place on the host there is another directory.
    lab.sh("mkdir -p t/u");
    without_pages(&copied);
}

fn removed_copy(markers: &Markers) {
    let lab = Lab::new(markers);
    for name in ["x", "y"] {
        markers.write(&lab.path("l").join(name));
    }
    lab.sh(&overlay(&["l"], ""));
    lab.sh("touch m/x m/y; ln m/y m/other");
    for name in ["u/x", "u/y"] {
        markers.patch(&lab.path(name));
    }
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    lab.sh("rm m/x m/y");
    about(&x).state(&["unlinked"]).has_none();
    for running in [&x, &y] {
        without_pages(running);
    }
}

fn indexed_copy(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/a"));
    lab.sh("ln l/a l/b");
    lab.sh(&overlay(&["l"], ",index=on"));
    lab.sh("chmod 711 m/b");
    markers.patch(&lab.path("u/b"));
    without_pages(&lab.run("exec m/a"));
    without_pages(&lab.run("exec m/b"));
}

/// The handle is that of the file with the metadata, whose attribute can't be read.
fn metadata(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("src/x"));
    let options = "lowerdir=$LAB/src,upperdir=$LAB/meta,workdir=$LAB/w,metacopy=on,redirect_dir=on";
    lab.sh(&format!("mkdir meta w m; mount -t overlay o -o {options} m; chmod 711 m/x"));
    without_pages(&lab.run("exec m/x"));
    lab.sh("umount m; mkdir -p data/objs; mv src/x data/objs/y");
    lab.sh("$ACT xattr meta/x trusted.overlay.redirect /objs/y");
    let options = "lowerdir=$LAB/meta::$LAB/data,metacopy=on,redirect_dir=on";
    lab.sh(&format!("mount -t overlay o -o {options} m"));
    let running = lab.run("exec m/x");
    without_pages(&running);
    about(&running).at(lab.path("data/objs/y")).role(&["data"]).is_proven();
}
