//! Stacks on stacks: case 12b, T15. Docker in docker is with docker's cases.

use super::overlay;
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("12b, T15 a stack on a stack", || on_a_stack(markers));
    cases.case("12b three of them", || three(markers));
    cases.case("12b on a private tmpfs", || on_private(markers));
    cases.case("12b the inner one unmounted", || inner_gone(markers));
}

/// Mounts a second stack on `m`, at `m2`.
const SECOND: &str = "mkdir -p u2 w2 m2; mount -t overlay o2 -o \
                      lowerdir=$LAB/m,upperdir=$LAB/u2,workdir=$LAB/w2 m2";

fn on_a_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    for name in ["bin/x", "bin/y", "bin/z"] {
        markers.write(&lab.path("l").join(name));
    }
    lab.sh(&overlay(&["l"], ""));
    lab.sh("chmod 711 m/bin/y");
    markers.patch(&lab.path("u/bin/y"));
    lab.sh(SECOND);
    let (x, y) = (lab.run("exec m2/bin/x"), lab.run("exec m2/bin/y"));
    // The layer of the layer.
    about(&x).at(lab.path("l/bin/x")).role(&["lower"]).state(&["present"]).is_proven();
    about(&y).at(lab.path("u/bin/y")).role(&["upper", "lower"]).is_proven();
    let before = lab.run("exec m2/bin/z");
    lab.sh("touch m2/bin/z");
    markers.patch(&lab.path("u2/bin/z"));
    let after = lab.run("exec m2/bin/z");
    about(&before).at(lab.path("l/bin/z")).copied_up("after-start").is_proven();
    about(&after).at(lab.path("u2/bin/z")).upper().copied_up("before-start").is_proven();
    lab.sh("rm m2/bin/x");
    about(&x).at(lab.path("l/bin/x")).state(&["deleted"]).is_proven();
}

fn three(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh(SECOND);
    // The kernel allows no deeper stack; this one is refused.
    let refused = "mkdir -p m3 e; (mount -t overlay o3 -o lowerdir=$LAB/m2:$LAB/e m3) 2>&1 || true";
    let said = lab.sh(refused);
    let name = if said.is_empty() { "m3/x" } else { "m2/x" };
    let running = lab.run(&format!("exec {name}"));
    about(&running).at(lab.path("l/x")).role(&["lower"]).is_proven();
}

fn on_private(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    lab.sh("mkdir t m m2 u w; mount -t tmpfs t t; mkdir t/l t/u t/w; mv x t/l/x; \
            mount -t overlay o -o lowerdir=$LAB/t/l,upperdir=$LAB/t/u,workdir=$LAB/t/w m; \
            mount -t overlay o2 -o lowerdir=$LAB/m,upperdir=$LAB/u,workdir=$LAB/w m2");
    let running = lab.run("exec m2/x");
    let told = about(&running).has_none();
    let through = format!("/proc/{}/root{}", running.pid(), lab.path("m2/x").display());
    assert_eq!(told["via_proc"], through, "{told:#}");
}

fn inner_gone(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    lab.sh(SECOND);
    let running = lab.run("exec m2/x");
    lab.sh("umount -l m");
    about(&running).at(lab.path("l/x")).is_right_or_silent();
}
