//! The file that really runs: `whose exe` judged by markers in the content, never by an interface
//! that it asks itself.
//!
//! The cases are those of the reference's tables; `WHOSE_CASE=WORD` runs only some.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

mod exe_cases;

use exe_cases::{
    anonymous, aufs, binds, chroot_and_mounts, containerd, copy_up, deleted, docker, drivers,
    hostile, interpreters, layers, lxc, names, nested, nspawn, odd_stacks, podman, privileges,
    sandboxes, traces,
};
use std::collections::{BTreeMap, BTreeSet};
use whose_live_tests::alone;
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, DockerOptions, View};
use whose_testkit::marker::Markers;
use whose_testkit::{Needs, require};

const NEEDS: &[&str] =
    &["root", "cc", "mount-namespace", "overlay", "nsenter", "busybox", "setpriv"];

fn suite(name: &str, cases_of: impl FnOnce(&mut Cases, &Markers)) {
    if !require(NEEDS) {
        return;
    }
    let _alone = alone();
    let markers = Markers::new();
    let mut cases = Cases::of(format!("exe-{name}"));
    cases_of(&mut cases, &markers);
    cases.finish();
}

#[test]
fn exe_of_layers() {
    suite("layers", layers::cases);
}

#[test]
fn exe_on_aufs() {
    suite("aufs", aufs::cases);
}

#[test]
fn exe_copied_up() {
    suite("copy-up", copy_up::cases);
}

#[test]
fn exe_deleted() {
    suite("deleted", deleted::cases);
}

#[test]
fn exe_of_binds() {
    suite("binds", binds::cases);
}

#[test]
fn exe_in_other_roots() {
    suite("chroot", chroot_and_mounts::cases);
}

#[test]
fn exe_of_nested_stacks() {
    suite("nested", nested::cases);
}

#[test]
fn exe_of_odd_stacks() {
    suite("odd-stacks", odd_stacks::cases);
}

#[test]
fn exe_without_a_name() {
    suite("anonymous", anonymous::cases);
}

#[test]
fn exe_of_interpreters() {
    suite("interpreters", interpreters::cases);
}

#[test]
fn exe_of_odd_names() {
    suite("names", names::cases);
}

#[test]
fn exe_of_hostile_processes() {
    suite("hostile", hostile::cases);
}

#[test]
fn exe_with_fewer_rights() {
    suite("privileges", privileges::cases);
}

#[test]
fn exe_under_strace() {
    if require(&["strace"]) {
        suite("strace", traces::cases);
    }
}

/// The machine's own cgroups.
fn options() -> DockerOptions {
    let hybrid = Needs("cgroup-hybrid").missing().is_none();
    Docker::options(if hybrid { View::Hybrid } else { View::V2 })
}

#[test]
fn exe_in_docker() {
    if !require(&["docker", "cgroup-v2", "sha256sum"]) {
        return;
    }
    suite("docker", |cases, markers| {
        let docker = options().start().unwrap_or_else(|e| panic!("{e}"));
        docker::cases(cases, &docker, markers);
    });
}

/// Another storage driver, and what it needs.
fn with_driver(
    name: &str,
    needs: &[&str],
    cases_of: impl FnOnce(&mut Cases, &Markers, DockerOptions),
) {
    if require(&["docker", "cgroup-v2", "sha256sum"]) && require(needs) {
        suite(name, |cases, markers| cases_of(cases, markers, options()));
    }
}

#[test]
fn exe_in_docker_with_vfs() {
    with_driver("docker-vfs", &[], drivers::vfs);
}

#[test]
fn exe_in_docker_with_btrfs() {
    with_driver("docker-btrfs", &["btrfs", "loop", "mkfs.btrfs"], drivers::btrfs);
}

#[test]
fn exe_in_docker_with_fuse_overlayfs() {
    with_driver("docker-fuse", &["fuse", "fuse-overlayfs"], drivers::fuse);
}

#[test]
fn exe_in_docker_with_remapped_ids() {
    with_driver("docker-remapped", &[], drivers::remapped);
}

#[test]
fn exe_in_containerd() {
    if require(&["containerd", "ctr", "runc", "sha256sum"]) {
        suite("containerd", containerd::cases);
    }
}

#[test]
fn exe_in_docker_with_old_overlay() {
    with_driver("docker-overlay", &[], drivers::old_overlay);
}

/// podman needs a runtime that starts on any mix of cgroups, and an image.
const PODMAN: &[&str] = &["podman", "conmon", "runc", "sha256sum"];

fn in_podman(name: &str, needs: &[&str], cases_of: impl FnOnce(&mut Cases, &Markers)) {
    if require(PODMAN) && require(needs) {
        suite(name, cases_of);
    }
}

#[test]
fn exe_in_podman() {
    in_podman("podman", &["buildah"], podman::overlay);
}

#[test]
fn exe_in_podman_with_vfs() {
    in_podman("podman-vfs", &[], podman::vfs);
}

#[test]
fn exe_in_podman_with_btrfs() {
    in_podman("podman-btrfs", &["btrfs", "loop", "mkfs.btrfs"], podman::btrfs);
}

#[test]
fn exe_in_podman_with_fuse_overlayfs() {
    in_podman("podman-fuse", &["fuse", "fuse-overlayfs"], podman::fuse);
}

/// What an ordinary user's podman needs besides.
const ROOTLESS: &[&str] = &["useradd", "newuidmap", "newgidmap", "catatonit", "mknod"];

#[test]
fn exe_in_rootless_podman() {
    in_podman("podman-rootless", ROOTLESS, podman::rootless);
}

#[test]
fn exe_in_rootless_podman_with_vfs() {
    in_podman("podman-rootless-vfs", ROOTLESS, podman::rootless_vfs);
}

#[test]
fn exe_in_rootless_podman_with_fuse_overlayfs() {
    let needs = [ROOTLESS, &["fuse", "fuse-overlayfs"]].concat();
    in_podman("podman-rootless-fuse", &needs, podman::rootless_fuse);
}

#[test]
fn exe_in_lxc() {
    if require(&["lxc-start", "lxc-attach", "newuidmap"]) {
        suite("lxc", lxc::cases);
    }
}

#[test]
fn exe_in_nspawn() {
    if require(&["systemd-nspawn"]) {
        suite("nspawn", nspawn::cases);
    }
}

#[test]
fn exe_in_sandboxes() {
    suite("sandboxes", sandboxes::cases);
}

/// What a case shows: the numbers its name begins with, divided by commas.
fn shown(name: &str) -> Vec<&str> {
    let number = |word: &str| {
        let digits = word.strip_prefix('T').unwrap_or(word);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || "-abcd".contains(c))
    };
    let mut all = Vec::new();
    for word in name.split(' ') {
        let plain = word.trim_end_matches(',');
        if !number(plain) {
            break;
        }
        all.push(plain);
        if plain == word {
            break;
        }
    }
    all
}

/// The table of the cases' module says which themes show what; so do the names of the cases.
#[test]
fn every_case_of_the_reference_is_there() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exe_cases");
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        // A case may name the kernel it needs before itself.
        let text = text.replace(".case_with(&[", ".case(&[");
        for call in text.split(".case(").skip(1) {
            let needs = call.trim_start().strip_prefix("&[").and_then(|c| c.split_once("],"));
            let call = needs.map_or(call, |(_, rest)| rest).trim_start();
            let call = call.trim_start_matches("&format!(").trim_start();
            let Some(name) = call.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let theme = file.file_stem().unwrap().to_str().unwrap();
            for what in shown(name) {
                named.entry(what.to_owned()).or_default().insert(theme.to_owned());
            }
        }
    }
    let table = include_str!("exe_cases/mod.rs").lines();
    let mut told = BTreeMap::new();
    for row in table.filter_map(|line| line.strip_prefix("//! | ")).skip(1) {
        let columns: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [what, _, themes] = columns[..] else { panic!("odd row {row:?}") };
        if !themes.starts_with("none: ") {
            let themes = themes.split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
            assert!(told.insert(what.to_owned(), themes).is_none(), "{what} is there twice");
        }
    }
    assert_eq!(told, named, "left the table, right the cases");
    // None was lost from both.
    let traps = (1..23).map(|n| format!("T{n}"));
    let rows = ["1-3".to_owned()].into_iter().chain((4..22).map(|n| n.to_string()));
    for row in rows.chain(traps) {
        let has = |what: &String| what.trim_end_matches(['a', 'b', 'c', 'd']) == row;
        assert!(told.keys().any(has), "{row} has no case");
    }
}
