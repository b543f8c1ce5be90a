//! What has no name on the host: case 13, and images on loop devices (T18).

use super::{exe_link, overlay};
use whose_live_tests::judge::{about, about_pid};
use whose_testkit::cases::Cases;
use whose_testkit::hostile::Zombie;
use whose_testkit::marker::{Lab, Markers};
use whose_testkit::{procfs, require};

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    cases.case("13a memfd", || memfd(markers));
    cases.case("no program at all", no_program);
    cases.case("13b O_TMPFILE", || tmpfile(markers));
    cases.case_with(&["linux-6.2"], "13b O_TMPFILE in a stack", || tmpfile_in_stack(markers));
    if require(&["loop", "mkfs.ext4"]) {
        cases.case("15, T18 an image mounted in private", || image(markers));
        cases.case("15, T18 a layer in an image mounted in private", || layer_in_image(markers));
    }
}

fn memfd(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    for name in ["plain", "/bin/true", "a (deleted)"] {
        let running = lab.run(&format!("exec ./x memfd '{name}'"));
        assert_eq!(exe_link(running.pid()), format!("/memfd:{name} (deleted)"));
        about(&running).role(&["anonymous"]).state(&["anonymous"]).has_none();
    }
    // A file that has the name which the link shows.
    lab.sh("mkdir m; mount -t tmpfs t m; cp x 'm/memfd:plain (deleted)'");
    let running = lab.run("exec ./x memfd plain");
    about(&running).state(&["anonymous"]).has_none();
}

/// A zombie, and a thread of the kernel.
fn no_program() {
    let zombie = Zombie::start(&[], false).expect("a zombie");
    let kernel = procfs::pids().into_iter().find(|pid| {
        procfs::ppid(*pid) == Some(2) || *pid == 2 && procfs::comm(2).as_deref() == Some("kthreadd")
    });
    for pid in [Some(zombie.pid()), kernel].into_iter().flatten() {
        about_pid(pid).says_nothing(&[1]);
    }
}

fn tmpfile(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("x"));
    std::fs::create_dir(lab.path("d")).unwrap();
    let running = lab.run("exec ./x tmpfile d");
    assert!(exe_link(running.pid()).contains("/d/#"), "{}", exe_link(running.pid()));
    about(&running).state(&["unlinked", "anonymous"]).has_none();
}

fn tmpfile_in_stack(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x tmpfile m");
    about(&running).state(&["unlinked", "anonymous"]).has_none();
}

fn image(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("tree/x"));
    lab.sh("mke2fs -q -t ext4 -d tree disk.img 16M; rm tree/x; mkdir m; mount -o loop disk.img m");
    let running = lab.run("exec m/x");
    let image = lab.path("disk.img");
    about(&running).fact("image_file", image.to_str().unwrap()).has_none();
}

fn layer_in_image(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("tree/x"));
    lab.sh("mke2fs -q -t ext4 -d tree disk.img 16M; rm tree/x; mkdir l; mount -o loop disk.img l");
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    let image = lab.path("disk.img");
    let expected = about(&running).fact("image_file", image.to_str().unwrap());
    let told = expected.role(&["lower"]).has_none();
    assert_eq!(told["layer_path"], lab.path("l/x").to_str().unwrap(), "{told:#}");
    lab.sh("touch m/x");
    markers.patch(&lab.path("u/x"));
    let copied = lab.run("exec m/x");
    about(&copied).at(lab.path("u/x")).upper().copied_up("before-start").is_proven();
}
