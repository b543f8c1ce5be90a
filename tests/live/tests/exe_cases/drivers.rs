//! Docker's other storage drivers, and a daemon with remapped ids: case 15.

use super::HostMount;
use super::docker::{container, exec, image, sh};
use super::engine::{file_server, whole_copies};
use std::path::PathBuf;
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, DockerOptions};
use whose_testkit::marker::Markers;
use whose_testkit::skip;

/// Starts an engine, or says why the machine has none of that kind.
fn start(options: DockerOptions, what: &str) -> Option<Docker> {
    match options.start() {
        Ok(docker) => Some(docker),
        Err(why) => {
            skip(what, &why);
            None
        }
    }
}

pub(crate) fn vfs(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let Some(docker) = start(options.storage_driver("vfs"), "vfs") else { return };
    image(&docker, markers);
    cases.case("15 vfs", || whole_copies(&docker, markers, "vfs"));
}

pub(crate) fn btrfs(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let fs = HostMount::image("btrfs");
    let root = fs.point().join("data");
    let options = options.storage_driver("btrfs").data_root(root);
    let Some(docker) = start(options, "btrfs") else { return };
    image(&docker, markers);
    cases.case("15, T19 btrfs", || whole_copies(&docker, markers, "btrfs"));
    drop(docker);
    drop(fs);
}

/// Overlays as docker had them before overlay2: one lower directory, of hard links.
pub(crate) fn old_overlay(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let Some(docker) = start(options.storage_driver("overlay"), "overlay") else { return };
    image(&docker, markers);
    cases.case("15 the old overlay", || {
        let name = container(&docker, &[]);
        let data = docker.inspect(&name)["GraphDriver"]["Data"].clone();
        let dir = |what: &str| PathBuf::from(data[what].as_str().expect("a directory"));
        let (lower, upper) = (dir("LowerDir").join("bin"), dir("UpperDir").join("bin"));
        for file in ["low", "middle", "all"] {
            let running = exec(&docker, &name, &[&format!("/bin/{file}")]);
            about(&running).at(lower.join(file)).role(&["lower"]).copied_up("no").is_proven();
        }
        let before = exec(&docker, &name, &["/bin/touched"]);
        sh(&docker, &name, "chmod 711 /bin/touched");
        markers.patch(&upper.join("touched"));
        let after = exec(&docker, &name, &["/bin/touched"]);
        about(&before).at(lower.join("touched")).copied_up("after-start").is_proven();
        about(&after).at(upper.join("touched")).upper().copied_up("before-start").is_proven();
    });
}

pub(crate) fn fuse(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let options = options.storage_driver("fuse-overlayfs");
    let Some(docker) = start(options, "fuse-overlayfs") else { return };
    image(&docker, markers);
    cases.case("15 fuse-overlayfs", || file_server(&docker));
}

pub(crate) fn remapped(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let Some(docker) = start(options.remapped(), "userns-remap") else { return };
    image(&docker, markers);
    cases.case("15 remapped ids", || {
        let name = container(&docker, &[]);
        let low = exec(&docker, &name, &["/bin/low"]);
        assert_eq!(whose_testkit::procfs::uid(low.pid()), Some(3_000_000));
        let told = about(&low).lower(3, 4).copied_up("no").is_proven();
        let host = told["host"].as_str().unwrap_or_default();
        assert!(std::path::Path::new(host).starts_with(docker.data_root()), "{told:#}");
        sh(&docker, &name, "chmod 711 /bin/low");
        markers.patch(&super::docker::upper(&docker, &name).join("bin/low"));
        let copied = exec(&docker, &name, &["/bin/low"]);
        about(&copied).upper().copied_up("before-start").is_proven();
        about(&low).lower(3, 4).copied_up("after-start").is_proven();
    });
}
