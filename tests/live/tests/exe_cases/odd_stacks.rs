//! Stacks with options and file systems that take away what an answer could rest on.

use super::{HostMount, overlay};
use whose_live_tests::judge::about;
use whose_testkit::cases::Cases;
use whose_testkit::marker::{Lab, Markers};
use whose_testkit::require;

pub(crate) fn cases(cases: &mut Cases, markers: &Markers) {
    for (options, release) in [
        ("uuid=off", "linux-5.11"),
        ("uuid=null", "linux-6.6"),
        ("uuid=on", "linux-5.11"),
        ("uuid=auto", "linux-6.6"),
        ("volatile", "linux-5.10"),
        ("index=on,nfs_export=on", "linux-4.19"),
    ] {
        let name = format!("mounted with {options}");
        cases.case_with(&[release], &name, || with(markers, options));
    }
    cases.case("layers spelled in odd ways", || spelled(markers));
    cases.case("a stack mounted elsewhere since", || moved(markers));
    cases.case_with(&["linux-5.11"], "opaque directories without handles", || {
        opaque_unprivileged(markers)
    });
    cases.case("two of one layer's files alike", || alike(markers));
    if require(&["loop", "mkfs.ext4"]) {
        cases.case("two file systems of one UUID", || clones(markers, EXT4));
    }
    if require(&["loop", "mksquashfs"]) {
        cases.case("two file systems without UUID", || clones(markers, SQUASHFS));
    }
}

fn with(markers: &Markers, options: &str) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l1/x"));
    markers.write(&lab.path("l2/y"));
    markers.write(&lab.path("new"));
    lab.sh(&overlay(&["l1", "l2"], &format!(",{options}")));
    lab.sh("mv new m/z");
    let before = lab.run("exec m/x");
    lab.sh("chmod 711 m/x");
    markers.patch(&lab.path("u/x"));
    let after = lab.run("exec m/x");
    let claim = about(&before).at(lab.path("l1/x")).lower(0, 2);
    claim.copied_up("after-start").is_proven();
    let roles = ["upper", "upper-index"];
    about(&after).role(&roles).copied_up("before-start").is_proven();
    about(&lab.run("exec m/y")).at(lab.path("l2/y")).lower(1, 2).is_proven();
    about(&lab.run("exec m/z")).at(lab.path("u/z")).upper().copied_up("no").is_proven();
}

fn spelled(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("a/l1/x"));
    markers.write(&lab.path("a/l2/y"));
    lab.sh("mkdir a/u a/w m; ln -s a b; cd a; mount -t overlay o -o \
            lowerdir=../b/./l1//:$LAB/b/../a/l2,upperdir=./u/,workdir=$LAB//b/w $LAB/m");
    let (x, y) = (lab.run("exec m/x"), lab.run("exec m/y"));
    about(&x).at(lab.path("a/l1/x")).lower(0, 2).is_proven();
    about(&y).at(lab.path("a/l2/y")).lower(1, 2).is_proven();
    lab.sh("touch m/x");
    markers.patch(&lab.path("a/u/x"));
    let copied = lab.run("exec m/x");
    about(&copied).at(lab.path("a/u/x")).upper().copied_up("before-start").is_proven();
}

fn moved(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l/x"));
    lab.sh(&overlay(&["l"], ""));
    let running = lab.run("exec m/x");
    lab.sh("mkdir n; mount --move m n");
    let told = about(&running).at(lab.path("l/x")).lower(0, 1).state(&["present"]).is_proven();
    assert_eq!(told["inside"], lab.path("n/x").to_str().unwrap(), "{told:#}");
    // Its old place is taken by another.
    markers.write(&lab.path("other/x"));
    lab.sh("mount --bind other m");
    about(&running).at(lab.path("l/x")).lower(0, 1).state(&["present"]).is_proven();
}

fn opaque_unprivileged(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l1/d/x"));
    markers.write(&lab.path("l2/d/x"));
    markers.write(&lab.path("l3/e/y"));
    lab.sh("mkdir -p u w m l1/e; $ACT xattr l1/d user.overlay.opaque y");
    let options = "lowerdir=l1:l2:l3,upperdir=u,workdir=w,userxattr";
    let script = |then: &str| {
        format!("exec unshare -Urm sh -ec 'mount -t overlay o -o {options} m; {then}'")
    };
    let x = lab.run(&script("exec m/d/x"));
    about(&x).at(lab.path("l1/d/x")).lower(0, 3).is_proven();
    drop(x);
    let y = lab.run(&script("exec m/e/y"));
    about(&y).at(lab.path("l3/e/y")).lower(2, 3).is_proven();
    drop(y);
    // Removed and made again: the upper directory is opaque.
    markers.write(&lab.path("new"));
    let again = lab.run(&script("rm -r m/d; mkdir m/d; cp new m/d/x; rm new; exec m/d/x"));
    about(&again).at(lab.path("u/d/x")).upper().is_proven();
}

/// The same bytes in every layer: only the inode tells them apart, so the path is what is judged.
fn alike(markers: &Markers) {
    let lab = Lab::new(markers);
    markers.write(&lab.path("l2/x"));
    lab.sh("mkdir l1 l3; cp -p l2/x l1/x; cp -p l2/x l3/x; cp -p l2/x other");
    lab.sh(&overlay(&["l1", "l2", "l3"], ""));
    let running = lab.run("exec m/x");
    about(&running).at(lab.path("l1/x")).lower(0, 3).is_proven();
    lab.sh("touch m/x");
    let copied = lab.run("exec m/x");
    about(&running).at(lab.path("l1/x")).lower(0, 3).copied_up("after-start").is_proven();
    about(&copied).at(lab.path("u/x")).upper().copied_up("before-start").is_proven();
}

const EXT4: &str = "mke2fs -q -t ext4 -U 11111111-2222-4333-8444-555555555555 -d $DIR $IMAGE 16M";
const SQUASHFS: &str = "mksquashfs $DIR $IMAGE -quiet -no-progress -noappend";

/// The handle of a file in one opens a file in the other.
fn clones(markers: &Markers, words: &str) {
    let tree = tempfile::tempdir().unwrap();
    markers.write(&tree.path().join("l/x"));
    let first = HostMount::of(tree.path(), words);
    markers.patch(&tree.path().join("l/x"));
    let second = HostMount::of(tree.path(), words);
    markers.patch(&tree.path().join("l/x"));
    let third = HostMount::of(tree.path(), words);
    for fs in [&first, &second, &third] {
        let lab = Lab::new(markers);
        let layer = fs.point().join("l");
        lab.sh(&format!(
            "mkdir u w m; mount -t overlay o -o \
             lowerdir={},upperdir=$LAB/u,workdir=$LAB/w m",
            layer.display()
        ));
        let running = lab.run("exec m/x");
        about(&running).at(layer.join("x")).lower(0, 1).is_proven();
        drop(running);
        let plain = lab.run(&format!("exec {}", layer.join("x").display()));
        about(&plain).at(layer.join("x")).role(&["direct"]).is_proven();
    }
}
