//! Cgroup texts with the right answer to each, as they are and varied.
//!
//! `fixtures/cgroup-vectors.json` holds the texts; nothing but the text may be needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use bstr::{BStr, BString, ByteSlice};
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;
use whose_core::index::arbitrate::{Confirmed, Verdict, arbitrate};
use whose_core::model::{Owner, OwnerKind, Role};
use whose_core::runtime::{Claim, Mine, REGISTRY, Subject};
use whose_kernel::parse::cgroup::{Line, parse};

/// Variations tried in each property.
const CASES: u32 = 2_000;

#[derive(Clone, Debug)]
struct Expected {
    runtime: String,
    id: String,
    name: Option<String>,
    pod_uid: Option<String>,
}

#[derive(Clone, Debug)]
struct Vector {
    cgroup: String,
    expected: Option<Expected>,
    note: String,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../fixtures/cgroup-vectors.json");
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    let string = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let expected = |value: &Value| {
        Some(Expected {
            runtime: string(value, "runtime")?,
            id: string(value, "id")?,
            name: string(value, "name"),
            pod_uid: string(value, "pod_uid"),
        })
    };
    let vector = |value: &Value| Vector {
        cgroup: string(value, "cgroup").unwrap(),
        expected: expected(&value["expect"]),
        note: string(value, "note").unwrap(),
    };
    let vectors: Vec<Vector> = all.iter().map(vector).collect();
    assert_eq!(vectors.len(), 214);
    vectors
}

/// What the text alone says: no name, no arguments, no uid, and no state knows anything.
fn decide(cgroup: &[u8]) -> (Verdict, Option<Role>) {
    let lines: Vec<Line> = parse(cgroup).unwrap_or_default();
    let comm = BStr::new("");
    let subject = Subject { lines: &lines, comm, args: Some(&[]), uid: None, nspid: None };
    let mut claims: Vec<Mine> = Vec::new();
    for runtime in REGISTRY {
        match runtime.claim(&subject) {
            Claim::Mine(mine) => claims.push(mine),
            Claim::NotMine => {}
            Claim::Need(_) => panic!("{} needs more than the text", runtime.engine().0),
        }
    }
    let role = claims.iter().find_map(|c| c.role);
    (arbitrate(&lines, &claims, &mut |_| Confirmed::No), role)
}

fn text(bytes: &BString) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is wrong with the answer to a text, if anything.
fn wrong(cgroup: &str, expected: Option<&Expected>) -> Option<String> {
    let (verdict, role) = decide(cgroup.as_bytes());
    let owner = verdict.owner();
    let Some(expected) = expected else {
        // A pod's slice may hold a monitor; the pod alone owns nothing.
        let container = |o: &&Owner| o.kind.contains() && o.kind != OwnerKind::Pod;
        if owner.is_some_and(|o| o.kind == OwnerKind::Pod) {
            return Some(format!("a pod owns\n{cgroup}"));
        }
        let found = verdict.chain.iter().find(container)?;
        return Some(format!("{} {} in\n{cgroup}", found.runtime.0, found.id));
    };
    let Some(owner) = owner else {
        return Some(format!("no owner, not {expected:?} in\n{cgroup}"));
    };
    let name = owner.name.as_ref().map(text);
    let pod_uid = owner.pod_uid.as_ref().map(text);
    let right = owner.runtime.0 == expected.runtime
        && owner.id == expected.id
        && owner.kind == kind(&expected.runtime)
        && (expected.name.is_none() || name == expected.name)
        && pod_uid == expected.pod_uid
        && role.is_none();
    let found = || format!("{} {} {name:?} {pod_uid:?} {role:?}", owner.runtime.0, owner.id);
    (!right).then(|| format!("{}, not {expected:?} in\n{cgroup}", found()))
}

fn kind(runtime: &str) -> OwnerKind {
    match runtime {
        "kata" | "firecracker" => OwnerKind::Sandbox,
        "lxc" | "systemd-nspawn" | "libvirt-lxc" | "openvz" => OwnerKind::Machine,
        "flatpak" | "snap" | "apptainer" => OwnerKind::App,
        "slurm" | "buildkit" | "buildah" => OwnerKind::Job,
        _ => OwnerKind::Container,
    }
}

fn check(which: impl Fn(&Vector) -> bool) {
    let mut failures = String::new();
    let mut count = 0;
    for vector in vectors().iter().filter(|v| which(v)) {
        count += 1;
        if let Some(wrong) = wrong(&vector.cgroup, vector.expected.as_ref()) {
            writeln!(failures, "{}: {wrong}", vector.note).unwrap();
        }
    }
    assert!(count > 0 && failures.is_empty(), "{failures}");
}

fn is_dockers(vector: &Vector) -> bool {
    vector.expected.as_ref().is_some_and(|e| e.runtime == "docker")
}

#[test]
fn vectors_of_docker() {
    check(is_dockers);
}

#[test]
fn vectors_without_a_container() {
    check(|v| v.expected.is_none());
}

#[test]
fn vectors_of_the_other_runtimes() {
    check(|v| v.expected.is_some() && !is_dockers(v));
}

#[test]
fn monitors_are_plumbing() {
    for (cgroup, note) in vectors().into_iter().map(|v| (v.cgroup, v.note)) {
        let machinery = ["conmon", "lxc.monitor", "/supervisor", "podman-pause", "rootless-netns"];
        let expected = machinery.iter().any(|m| cgroup.contains(m)).then_some(Role::Plumbing);
        assert_eq!(decide(cgroup.as_bytes()).1, expected, "{note}");
    }
}

#[test]
fn enclosing_levels_are_kept() {
    let levels = |note: &str| {
        let vector = vectors().into_iter().find(|v| v.note.starts_with(note)).unwrap();
        let chain = decide(vector.cgroup.as_bytes()).0.chain;
        chain.iter().map(|o| format!("{} {}", o.kind.name(), o.runtime.0)).collect::<Vec<_>>()
    };
    let node = ["container docker", "pod kubernetes", "container containerd"];
    assert_eq!(levels("kind node: kubelet"), node);
    assert_eq!(levels("docker inside an LXC"), ["machine lxc", "container docker"]);
    let pod = ["pod podman", "container podman"];
    assert_eq!(levels("podman pod with the cgroupfs"), pod);
    assert_eq!(levels("container in a podman pod"), pod);
    assert_eq!(levels("nspawn machine scope"), ["unit systemd", "machine systemd-nspawn"]);
    assert_eq!(levels("Slurm job step, v2"), ["unit systemd", "job slurm"]);
}

/// What may stand before a path: other slices, a distribution's prefix, another cgroup namespace.
const PREFIXES: [&str; 10] = [
    "",
    "/wsl-user/x",
    "/../..",
    "/a.slice/a-b.slice",
    "/system.slice/delegated.service",
    "/lxc.payload.outer",
    "/wsl-user/distro-2/systemd",
    "/user.slice/user-1000.slice/user@1000.service/app.slice/k3s.service",
    "/docker/00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "/0123456789abcdef0123456789abcdef.slice",
];

/// What may stand after the segment that names the container.
const SUFFIXES: [&str; 5] =
    ["", "/init.scope", "/container", "/system.slice/x.service", "/a/b/init.scope"];

/// An id of the same shape. `digits` has an entry for each of its characters.
fn reshape(id: &str, digits: &[u8]) -> String {
    let hex = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
    let is_hex = id.len() > 20 && id.chars().all(hex);
    // Of a Fargate id the end is a decimal number.
    let decimal = id.split_once('-').filter(|(task, _)| task.len() == 32).map(|(_, n)| n.len());
    let tail = id.len() - decimal.unwrap_or(0);
    let change = |(at, c): (usize, char)| {
        let digit = digits[at];
        match c {
            _ if is_hex && at < tail && c != '-' => {
                char::from(b"0123456789abcdef"[usize::from(digit % 16)])
            }
            '0'..='9' if at == 0 => char::from(b'1' + digit % 9),
            '0'..='9' => char::from(b'0' + digit % 10),
            'a'..='z' => char::from(b'a' + digit % 26),
            other => other,
        }
    };
    id.char_indices().map(change).collect()
}

/// The text with another id. In a unit's name dashes of it are escaped.
fn with_id(cgroup: &str, old: &str, new: &str) -> String {
    let escaped = |id: &str| id.replace('-', "\\x2d");
    cgroup.replace(old, new).replace(&escaped(old), &escaped(new))
}

fn map_lines(cgroup: &str, change: impl Fn(&str) -> String) -> Vec<String> {
    let changed = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let head = [fields.next().unwrap(), fields.next().unwrap()].join(":");
        format!("{head}:{}", change(fields.next().unwrap()))
    };
    cgroup.lines().map(changed).collect()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|l| format!("{l}\n")).collect()
}

/// The vector with another id, prefix and suffix; its lines.
fn varied(vector: &Vector, digits: &[u8], prefix: &str, suffix: &str) -> (Vec<String>, Expected) {
    let mut expected = vector.expected.clone().unwrap();
    let mut cgroup = vector.cgroup.clone();
    // A snap's id is made of its name; the nonce after it may be anything anyway.
    if expected.runtime != "snap" {
        // Of a step's the words are Buildah's own.
        let words = if expected.runtime == "buildah" { "buildah-buildah" } else { "" };
        let number = expected.id.strip_prefix(words).unwrap();
        let id = format!("{words}{}", reshape(number, digits));
        cgroup = with_id(&cgroup, &expected.id, &id);
        if expected.name.as_ref() == Some(&expected.id) {
            expected.name = Some(id.clone());
        }
        expected.id = id;
    }
    let named = expected.name.clone().unwrap_or_else(|| expected.id.clone());
    let escaped = named.replace('-', "\\x2d");
    let lines = map_lines(&cgroup, |path| {
        let holds = path.contains(&named) || path.contains(&escaped) || path.contains(&expected.id);
        match path.strip_suffix(" (deleted)") {
            Some(path) => format!("{prefix}{path}{suffix} (deleted)"),
            None if holds => format!("{prefix}{path}{suffix}"),
            None => format!("{prefix}{path}"),
        }
    });
    (lines, expected)
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    // No file of failures: a run is repeated with PROPTEST_RNG_SEED.
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, test).unwrap();
}

fn named() -> Vec<Vector> {
    vectors().into_iter().filter(|v| v.expected.is_some()).collect()
}

#[test]
fn ids_places_and_order_do_not_matter() {
    let strategy = (
        select(named()),
        prop::collection::vec(any::<u8>(), 80),
        select(&PREFIXES[..]),
        select(&SUFFIXES[..]),
        any::<u64>(),
    )
        .prop_flat_map(|(vector, digits, prefix, suffix, _)| {
            let (lines, expected) = varied(&vector, &digits, prefix, suffix);
            (Just(lines).prop_shuffle(), Just(expected))
        });
    run(&strategy, |(lines, expected)| match wrong(&joined(&lines), Some(&expected)) {
        Some(wrong) => Err(TestCaseError::fail(wrong)),
        None => Ok(()),
    });
}

/// Ways to make an id none.
#[derive(Clone, Copy, Debug)]
enum Miss {
    Dropped,
    Added,
    UpperCase,
    NoDigit,
}

const MISSES: [Miss; 4] = [Miss::Dropped, Miss::Added, Miss::UpperCase, Miss::NoDigit];

fn missed(id: &str, miss: Miss, at: Index) -> String {
    let mut id: Vec<u8> = id.into();
    let at = at.index(id.len());
    match miss {
        Miss::Dropped => {
            id.remove(at);
        }
        Miss::Added => id.insert(at, b'0' + u8::try_from(at % 10).unwrap()),
        Miss::UpperCase => {
            id[at] = b'a';
            id.make_ascii_uppercase();
        }
        // A dash would make two words of it, other letters a name.
        Miss::NoDigit => id[at] = b'_',
    }
    String::from_utf8(id).unwrap()
}

#[test]
fn what_is_no_id_names_no_container() {
    let machine_made = |v: &Vector| {
        let id = &v.expected.as_ref().unwrap().id;
        id.len() == 64 || (id.len() == 25 && !id.contains('-'))
    };
    let near: Vec<Vector> = named().into_iter().filter(machine_made).collect();
    assert!(near.len() > 40);
    let strategy = (
        select(near),
        prop::collection::vec(any::<u8>(), 80),
        select(&PREFIXES[..]),
        select(&SUFFIXES[..]),
        (select(&MISSES[..]), any::<Index>()),
    );
    run(&strategy, |(vector, digits, prefix, suffix, (miss, at))| {
        let (lines, expected) = varied(&vector, &digits, prefix, suffix);
        let id = missed(&expected.id, miss, at);
        let cgroup = with_id(&joined(&lines), &expected.id, &id);
        let (verdict, _) = decide(cgroup.as_bytes());
        let claims = |o: &&Owner| {
            let counts = o.kind.contains() || o.kind == OwnerKind::Unknown;
            counts && (o.id.contains_str(&id) || o.id == expected.id)
        };
        match verdict.chain.iter().find(claims) {
            Some(o) => Err(TestCaseError::fail(format!("{} {} in\n{cgroup}", o.runtime.0, o.id))),
            None => Ok(()),
        }
    });
}

#[test]
fn hosts_stay_hosts_wherever_they_are() {
    let hosts: Vec<Vector> = vectors()
        .into_iter()
        .filter(|v| v.expected.is_none() && parse(v.cgroup.as_bytes()).is_ok())
        .collect();
    // None that is a container itself.
    let contained = |p: &&str| p.contains("lxc") || p.contains("docker");
    let prefixes: Vec<&str> = PREFIXES.into_iter().filter(|p| !contained(p)).collect();
    let strategy = (select(hosts), select(prefixes)).prop_flat_map(|(vector, prefix)| {
        let lines = map_lines(&vector.cgroup, |path| format!("{prefix}{path}"));
        Just(lines).prop_shuffle()
    });
    run(&strategy, |lines| match wrong(&joined(&lines), None) {
        Some(wrong) => Err(TestCaseError::fail(wrong)),
        None => Ok(()),
    });
}

/// Units, mounts and timers whose names hold what would be an id elsewhere.
#[test]
fn digits_in_the_name_of_a_unit_name_no_container() {
    let names = [
        "ID.service",
        "crio-ID.service",
        "crio-ID.mount",
        "crio-conmon-ID.service",
        "cri-containerd-ID.slice",
        "kata_ID.scope",
        "runtime-rs-ID.scope",
        "run-rID.scope",
        "var-lib-containers-storage-overlay-ID-merged.mount",
        "run-containerd-io.containerd.runtime.v2.task-k8s.io-ID-rootfs.mount",
        "ID-startup.timer",
        "xcri-containerd-ID.scope",
        "cri-containerd-ID.scopes",
        "nerdctl-ID",
        "crio-ID-crio.scope",
    ];
    let prefixes: Vec<&str> =
        PREFIXES.into_iter().filter(|p| !p.contains("lxc") && !p.contains("docker")).collect();
    let lengths = [31_usize, 32, 63, 64, 65];
    let strategy = (
        select(names.to_vec()),
        select(prefixes),
        select(lengths.to_vec()),
        prop::collection::vec(any::<u8>(), 80),
    );
    run(&strategy, |(name, prefix, length, digits)| {
        let id = reshape(&"a".repeat(length), &digits);
        let cgroup = format!("0::{prefix}/system.slice/{}\n", name.replace("ID", &id));
        match wrong(&cgroup, None) {
            Some(wrong) => Err(TestCaseError::fail(wrong)),
            None => Ok(()),
        }
    });
}
