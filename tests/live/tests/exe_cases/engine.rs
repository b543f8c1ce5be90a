//! What the cases need of an engine, and the cases that engines share.

use std::path::{Path, PathBuf};
use whose_live_tests::judge::{Claim, about};
use whose_testkit::marker::{Markers, Running};

/// An engine that has the image of `marked`.
pub(crate) trait Engine {
    /// A running container with these options; its name.
    fn container(&self, options: &[&str]) -> String;
    /// Runs a copy of the program in a container.
    fn exec(&self, name: &str, words: &[&str]) -> Running;
    /// Runs busybox's shell in a container.
    fn sh(&self, name: &str, script: &str) -> String;
    /// The directory of everything the engine keeps.
    fn store(&self) -> PathBuf;
}

/// The image with a file that says which layer it is of in each of its three layers.
pub(crate) const IMAGE: &str = "localhost/lab-marked:1";

/// Copies of the program in the lowest layer, each for one case.
const NAMES: &[&str] =
    &["low", "middle", "all", "touched", "written", "gone", "replaced", "renamed", "d/x", "e/x"];

/// Writes what is in one layer of the image.
pub(crate) fn marked(markers: &Markers, n: usize, dir: &Path) {
    let names = [NAMES, &["middle", "all"], &["all"]][n];
    for name in names {
        markers.write(&dir.join("bin").join(name));
    }
}

/// A path that was told.
#[track_caller]
pub(crate) fn host(told: &serde_json::Value) -> PathBuf {
    PathBuf::from(told["host"].as_str().unwrap_or_else(|| panic!("no host path: {told:#}")))
}

/// A container has a directory of its own with everything in it. `driver` is what is told of its
/// layer, if the engine's stores are known.
pub(crate) fn whole_copies(engine: &dyn Engine, markers: &Markers, driver: &str) {
    let names = [engine.container(&[]), engine.container(&[])];
    // The same file in two containers, one of which changed it.
    let same = names.each_ref().map(|name| engine.exec(name, &["/bin/low"]));
    let hosts = same.each_ref().map(|running| {
        let told = about(running).role(&["direct"]).state(&["present"]).is_proven();
        assert_eq!(told["layer"]["driver"], driver, "{told:#}");
        assert!(host(&told).starts_with(engine.store()), "{told:#}");
        host(&told)
    });
    assert_ne!(hosts[0], hosts[1], "each container has a file of its own");
    drop(same);
    engine.sh(&names[0], "touch /bin/low");
    markers.patch(&hosts[0]);
    let changed = engine.exec(&names[0], &["/bin/low"]);
    about(&changed).at(&hosts[0]).role(&["direct"]).state(&["present"]).is_proven();
    let same = engine.exec(&names[1], &["/bin/low"]);
    engine.sh(&names[0], "rm /bin/low");
    about(&changed).state(&["unlinked"]).has_none();
    about(&same).at(&hosts[1]).state(&["present"]).is_proven();
}

/// Every layer of the image by the file server of a container, and a file written at run time: its
/// pages are the server's, so only the content proves the layer's file.
pub(crate) fn file_server(engine: &dyn Engine) {
    let name = engine.container(&[]);
    engine.sh(&name, "cp /bin/low /bin/new");
    for file in ["low", "middle", "all", "new"] {
        let running = engine.exec(&name, &[&format!("/bin/{file}")]);
        let claim = about(&running).verified(&["content"]).role(&["fuse-layer"]);
        let told = claim.state(&["present"]).is_proven();
        assert!(host(&told).starts_with(engine.store()), "{told:#}");
    }
}

/// Files of every layer, written, copied up before and after the start, removed and replaced, in a
/// container on an overlay of the image's three layers. `indexed`: the option string names the
/// layers, so that their order is told.
pub(crate) fn stacked(engine: &dyn Engine, markers: &Markers, options: &[&str], indexed: bool) {
    let name = engine.container(options);
    let lower = |running: &Running, index| {
        let claim = about(running);
        if indexed { claim.lower(index, 3) } else { claim.role(&["lower"]) }
    };
    let proven = |claim: Claim| {
        let told = claim.is_proven();
        assert!(host(&told).starts_with(engine.store()), "{told:#}");
        host(&told)
    };
    for (file, index) in [("low", 2), ("middle", 1), ("all", 0)] {
        let running = engine.exec(&name, &[&format!("/bin/{file}")]);
        let claim = lower(&running, index).state(&["present"]).copied_up("no");
        proven(claim.fact("inside", format!("/bin/{file}")));
    }
    engine.sh(&name, "cp /bin/low /bin/new");
    let new = engine.exec(&name, &["/bin/new"]);
    let upper = proven(about(&new).upper().copied_up("no").state(&["present"]));
    let before = engine.exec(&name, &["/bin/touched"]);
    let original = proven(lower(&before, 2).copied_up("no"));
    engine.sh(&name, "chmod 711 /bin/touched");
    let copy = upper.with_file_name("touched");
    markers.patch(&copy);
    let after = engine.exec(&name, &["/bin/touched"]);
    lower(&before, 2).at(original).copied_up("after-start").is_proven();
    about(&after).at(copy).upper().copied_up("before-start").is_proven();
    let [gone, replaced] =
        ["gone", "replaced"].map(|file| engine.exec(&name, &[&format!("/bin/{file}")]));
    engine.sh(&name, "cd /bin; rm gone; cp low other; mv other replaced; rm new");
    proven(lower(&gone, 2).state(&["deleted"]).copied_up("no"));
    proven(lower(&replaced, 2).state(&["replaced"]).copied_up("no"));
    about(&new).state(&["unlinked"]).has_none();
}
