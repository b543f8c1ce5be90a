//! containerd by itself, with two of its snapshotters: case 15, T17.

use super::engine::host;
use std::sync::atomic::{AtomicU32, Ordering};
use whose_live_tests::judge::{Claim, about};
use whose_live_tests::unique;
use whose_testkit::cases::Cases;
use whose_testkit::containerd::Containerd;
use whose_testkit::marker::{Markers, Running};

const NAMESPACE: &str = "default";
const IMAGE: &str = "docker.io/library/lab-marked:1";
const DEEP: &str = "docker.io/library/lab-deep:1";

/// Runs these words in a new container of an image, attached; it goes with what runs.
fn started(containerd: &Containerd, snapshotter: &str, image: &str, words: &[&str]) -> Running {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{}-{count}", unique(snapshotter));
    let run = ["run", "--rm", "--snapshotter", snapshotter, image, &id];
    Running::start_contained(containerd.ctr(NAMESPACE, &[&run[..], words].concat()), &id)
}

/// The claim holds, at a path in the engine's store.
#[track_caller]
fn in_store(containerd: &Containerd, claim: &Claim) {
    let told = claim.is_proven();
    assert!(host(&told).starts_with(containerd.root()), "{told:#}");
}

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    let containerd = Containerd::options().start().unwrap_or_else(|e| panic!("{e}"));
    for (snapshotter, role) in [("overlayfs", "lower"), ("native", "direct")] {
        containerd.layered_image_with((NAMESPACE, snapshotter), IMAGE, 3, |n, dir| {
            for name in [&["low", "all"][..], &["middle", "all"], &["all"]][n] {
                markers.write(&dir.join("bin").join(name));
            }
        });
        for name in ["low", "middle", "all"] {
            cases.case(&format!("15 {snapshotter}: {name}"), || {
                let running = started(&containerd, snapshotter, IMAGE, &[&format!("/bin/{name}")]);
                in_store(&containerd, &about(&running).role(&[role]).state(&["present"]));
            });
        }
    }
    cases.case("15 overlayfs: written and copied up", || {
        for (script, copied) in [
            ("cp /bin/low /bin/new; exec /bin/new", "no"),
            ("chmod 711 /bin/low; exec /bin/low", "before-start"),
        ] {
            let words = ["/bin/sh", "-ec", script];
            let running = started(&containerd, "overlayfs", IMAGE, &words);
            in_store(&containerd, &about(&running).upper().copied_up(copied));
        }
    });
    cases.case("T17 containerd with 80 layers", || deep(&containerd, markers));
    drop(containerd);
}

/// The lower directories are relative to one that nobody records, the upper one is not.
fn deep(containerd: &Containerd, markers: &Markers) {
    const LAYERS: usize = 80;
    let marked = [0, 1, 40, 79];
    containerd.layered_image_with((NAMESPACE, "overlayfs"), DEEP, LAYERS, |n, dir| {
        if marked.contains(&n) {
            markers.write(&dir.join(format!("bin/x{n}")));
        }
    });
    for n in marked {
        let running = started(containerd, "overlayfs", DEEP, &[&format!("/bin/x{n}")]);
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.pid())).unwrap();
        let lowers = mounts.split_once("lowerdir=").expect("an overlay").1;
        assert!(!lowers.starts_with('/'), "the layers are not relative paths: {lowers}");
        let index = (LAYERS - 1 - n) as u64;
        in_store(containerd, &about(&running).lower(index, LAYERS as u64));
    }
    let words = ["/bin/sh", "-ec", "chmod 711 /bin/x40; exec /bin/x40"];
    let running = started(containerd, "overlayfs", DEEP, &words);
    in_store(containerd, &about(&running).upper().copied_up("before-start"));
}
