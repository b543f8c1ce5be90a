//! Other roots: case 11, T5, T6 and T10.

use super::{exe_link, overlay};
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("11, T5 chroot inside a stack", || inside(markers));
    cases.case("chroot inside a pivoted root", || pivoted(markers));
    cases.case("T6 links out of the root", || links(markers));
    cases.case_with(&["linux-5.11"], "T6 a link where a lower layer has a directory", || {
        link_in_layer(markers)
    });
}

/// The rest of a script that makes `m` the root, as an engine does, and runs this in it. There must
/// be a `/bin/sh` and a `/bin/umount`.
pub(crate) fn pivot(command: &str) -> String {
    format!(
        "unshare -m --propagation private sh -ec 'mount --bind m m; cd m; mkdir -p old; \
         pivot_root . old; umount -l /old; exec {command}'"
    )
}

fn inside(markers: &Markers) {
    let lab = Lab::new(markers);
    let new = markers.write(&lab.path("new"));
    lab.sh("mkdir -p l/cr/bin");
    lab.sh(&overlay(&["l"], ""));
    lab.sh("mv new m/cr/bin/x");
    let running = lab.run("exec chroot m/cr /bin/x");
    assert_eq!(running.marker(), &new);
    let expected = about(&running).at(lab.path("u/cr/bin/x")).upper().state(&["present"]);
    let told = expected.is_proven();
    assert_eq!(told["inside"], "/bin/x", "{told:#}");
    assert_eq!(told["namespace_path"], lab.path("m/cr/bin/x").to_str().unwrap(), "{told:#}");
    // Its own mounts do not list the one it runs from.
    let lines = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.pid())).unwrap();
    assert!(!lines.contains("overlay"), "{lines}");
}

fn pivoted(markers: &Markers) {
    let lab = Lab::new(markers);
    let bin = markers.write(&lab.path("l/cr/bin/x"));
    markers.write(&lab.path("l/bin/x"));
    let busybox = whose_testkit::which("busybox").expect("busybox");
    lab.sh(&format!("cp {} l/bin/busybox; ln -s busybox l/bin/sh", busybox.display()));
    lab.sh("ln -s busybox l/bin/umount; ln -s busybox l/bin/chroot");
    lab.sh(&overlay(&["l"], ""));
    let own = lab.run(&format!("exec {}", pivot("/bin/x")));
    assert_eq!(exe_link(own.pid()), "/bin/x");
    let told = about(&own).at(lab.path("l/bin/x")).lower(0, 1).state(&["present"]).is_proven();
    assert_eq!(told["inside"], "/bin/x", "{told:#}");
    assert_eq!(told["via_proc"], format!("/proc/{}/root/bin/x", own.pid()), "{told:#}");
    let deeper = lab.run(&format!("exec {}", pivot("/bin/busybox chroot /cr /bin/x")));
    assert_eq!(deeper.marker(), &bin);
    assert_eq!(exe_link(deeper.pid()), "/cr/bin/x");
    let told = about(&deeper).at(lab.path("l/cr/bin/x")).lower(0, 1).is_proven();
    assert_eq!(told["inside"], "/bin/x", "{told:#}");
    assert_eq!(told["namespace_path"], "/cr/bin/x", "{told:#}");
}

/// Where the container has links to absolute paths, the host has files of those names.
fn links(markers: &Markers) {
    let lab = Lab::new(markers);
    let (host, dir) = (lab.path("host"), lab.path("").display().to_string());
    markers.write(&host.join("x"));
    markers.write(&lab.path("l/d/x"));
    markers.write(&lab.path("l/e/x"));
    let busybox = whose_testkit::which("busybox").expect("busybox");
    lab.sh(&format!("mkdir -p l/bin; cp {} l/bin/busybox", busybox.display()));
    lab.sh("ln -s busybox l/bin/sh; ln -s busybox l/bin/umount");
    lab.sh(&overlay(&["l"], ""));
    let d = lab.run(&format!("exec {}", pivot("/d/x")));
    let e = lab.run(&format!("exec {}", pivot("/e/x")));
    // An upper directory that is a link to the host's path, in place of the one it runs from.
    lab.sh(&format!("rm -r m/d; ln -s {dir}host m/d; rm m/e/x; ln -s {dir}host/x m/e/x"));
    for (running, at) in [(&d, "l/d/x"), (&e, "l/e/x")] {
        let claim = about(running).at(lab.path(at)).lower(0, 1);
        let told = claim.state(&["deleted", "replaced"]).is_proven();
        assert!(told["via_proc"].is_null(), "{told:#}");
    }
}

/// No layer handle here, so the layers are walked: a link in one must not be followed.
fn link_in_layer(markers: &Markers) {
    let lab = Lab::new(markers);
    let host = lab.path("host");
    markers.write(&host.join("x"));
    markers.write(&lab.path("l1/d/other"));
    markers.write(&lab.path("l3/d/x"));
    markers.write(&lab.path("l3/e/x"));
    lab.sh("mkdir -p l2 u w m l1/e; ln -s $LAB/host l2/d; ln -s ../host l2/e2");
    let options = "lowerdir=l1:l3,upperdir=u,workdir=w,userxattr";
    let script = format!("mount -t overlay o -o {options} m; exec m/d/x");
    let running = lab.run(&format!("exec unshare -Urm sh -ec '{script}'"));
    about(&running).at(lab.path("l3/d/x")).lower(1, 2).is_proven();
    let options = "lowerdir=l2:l3,upperdir=u,workdir=w,userxattr";
    let script = format!("mount -t overlay o -o {options} m; exec m/e/x");
    drop(running);
    let running = lab.run(&format!("exec unshare -Urm sh -ec '{script}'"));
    // The layer's own directory becomes a link to the host's, behind the running process.
    lab.sh("mv l3/e l3/e-was; ln -s $LAB/host l3/e");
    about(&running).at(lab.path("l3/e-was/x")).is_right_or_silent();
}
