//! Docker's other storage drivers, and a daemon with remapped ids: case 15.

use super::HostMount;
use super::docker::{container, exec, image, sh};
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

/// A container has a directory of its own with everything in it.
fn whole_copies(docker: &Docker, markers: &Markers, driver: &str) {
    let names = [container(docker, &[]), container(docker, &[])];
    // The same file in two containers, one of which changed it.
    let same = names.each_ref().map(|name| exec(docker, name, &["/bin/low"]));
    for running in &same {
        let told = about(running).role(&["direct"]).state(&["present"]).is_proven();
        assert_eq!(told["layer"]["driver"], driver, "{told:#}");
        let host = told["host"].as_str().unwrap_or_default();
        assert!(std::path::Path::new(host).starts_with(docker.data_root()), "{told:#}");
    }
    let host = |running| about(running).is_proven()["host"].clone();
    let hosts = same.each_ref().map(host);
    assert_ne!(hosts[0], hosts[1], "each container has a file of its own");
    drop(same);
    sh(docker, &names[0], "touch /bin/low");
    markers.patch(hosts[0].as_str().unwrap().as_ref());
    let changed = exec(docker, &names[0], &["/bin/low"]);
    about(&changed).role(&["direct"]).state(&["present"]).is_proven();
    let same = exec(docker, &names[1], &["/bin/low"]);
    sh(docker, &names[0], "rm /bin/low");
    about(&changed).state(&["unlinked"]).has_none();
    about(&same).state(&["present"]).is_proven();
}

pub(crate) fn fuse(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let options = options.storage_driver("fuse-overlayfs");
    let Some(docker) = start(options, "fuse-overlayfs") else { return };
    image(&docker, markers);
    cases.case("15 fuse-overlayfs", || {
        let name = container(&docker, &[]);
        sh(&docker, &name, "cp /bin/low /bin/new");
        for file in ["low", "middle", "all", "new"] {
            let running = exec(&docker, &name, &[&format!("/bin/{file}")]);
            let claim = about(&running).verified(&["content"]).role(&["fuse-layer"]);
            claim.state(&["present"]).is_proven();
        }
    });
}

pub(crate) fn remapped(cases: &mut Cases, markers: &Markers, options: DockerOptions) {
    let Some(docker) = start(options.remapped(), "userns-remap") else { return };
    image(&docker, markers);
    cases.case("remapped ids", || {
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
