//! containerd's databases, read beside the containerd that writes them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use serde_json::Value;
use whose_core::state::bolt::Database;
use whose_core::state::containerd::metadata::{Container, FILE, Metadata};
use whose_core::state::containerd::snapshotter::{Kind, Snapshotter};
use whose_kernel::Class;
use whose_kernel::root::{Links, Root};
use whose_testkit::containerd_db::ContainerdDb;
use whose_testkit::facts::Facts;
use whose_testkit::{require, skip};

/// Reads of the load test.
const READS: u64 = 10_000;
/// It goes on that long at least, so that containerd gets to write.
const LEAST: Duration = Duration::from_secs(5);
/// Containers that stay, of each of the writers.
const STAY: usize = 400;
const WRITERS: usize = 3;
const NAMESPACE: &str = "load";

fn root(of: &std::path::Path) -> Root {
    let path = BStr::new(of.as_os_str().as_encoded_bytes());
    Root::open(path, Links::Never).unwrap().descend(b"", Links::Never, Some(0)).unwrap()
}

/// Whether all of a record derives from its id and one round.
fn judge(one: &Container, id: &str) -> Result<(), String> {
    let rule = one.labels.get(&BString::from("a")).cloned().unwrap_or_default();
    let round = rule.strip_prefix(format!("{id}-").as_bytes());
    let round = round.and_then(|r| r.to_str().ok()).and_then(|r| r.parse::<usize>().ok());
    let round = round.ok_or_else(|| format!("{id}: label {rule}"))?;
    let rule = format!("{id}-{round}");
    let pad = format!("{rule}{}", "x".repeat(round * 37 % 700));
    let labels = [("a", rule.clone()), ("pad", pad), ("z", rule.clone())];
    let labels = labels.map(|(key, value)| (BString::from(key), BString::from(value)));
    let right = one.id == id
        && one.image == format!("image-{rule}")
        && one.snapshot_key == format!("key-{rule}")
        && one.snapshotter == "native"
        && one.runtime == format!("runtime-{id}")
        && one.created.is_some()
        && one.labels == labels.into();
    if right { Ok(()) } else { Err(format!("{id}: {one:?}")) }
}

#[test]
fn no_wrong_name_while_containerd_writes_all_the_time() {
    if !require(&["root", "containerd", "ctr", "busybox"]) {
        return;
    }
    if !std::path::Path::new("/usr/lib/python3/dist-packages/grpc").exists() {
        return skip("python3-grpcio", "it is not installed");
    }
    let containerd = ContainerdDb::start().unwrap();
    let start = |n| containerd.writer(NAMESPACE, n * STAY, STAY).unwrap();
    let writers: Vec<_> = (0..WRITERS).map(start).collect();

    let metadata = Metadata::open(&root(&containerd.root())).unwrap();
    let database = Database::open(&root(&containerd.root()), FILE).unwrap();
    let (mut reads, mut answered, mut gaps, mut short) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (tries, mut looks) = (Cell::new(0_u64), 0_u64);
    let mut wrong = Vec::new();
    let mut rounds = BTreeSet::new();
    let mut took_part =
        |read: Result<Option<Container>, whose_kernel::ReadError>, id: &str| match read {
            Ok(Some(one)) => {
                rounds.insert(one.image.clone());
                wrong.extend(judge(&one, id).err());
                answered += 1;
            }
            // Those that come and go may be gone; the others never are.
            Ok(None) if id.starts_with("s-") => short += 1,
            Ok(None) => wrong.push(format!("{id}: not found")),
            Err(error) => {
                assert_eq!(error.class, Class::TimedOut, "{error}");
                gaps += 1;
            }
        };
    let began = Instant::now();
    let mut known: Vec<BString> = Vec::new();
    let (mut lists, mut lost) = (0, 0);
    while reads < READS || began.elapsed() < LEAST {
        if reads.is_multiple_of(500) {
            lists += 1;
            match metadata.ids(NAMESPACE.as_bytes()) {
                Ok(ids) => {
                    assert!(ids.len() >= STAY * WRITERS, "{} ids", ids.len());
                    known = ids;
                }
                Err(error) => {
                    assert_eq!(error.class, Class::TimedOut, "{error}");
                    lost += 1;
                }
            }
        }
        let id = known[usize::try_from(reads * 7919).unwrap() % known.len()].to_string();
        took_part(metadata.container(NAMESPACE.as_bytes(), id.as_bytes()), &id);
        reads += 1;
        // How often a view is begun, told by one of its own.
        if reads.is_multiple_of(10) {
            let path: [&[u8]; 3] = [b"v1", NAMESPACE.as_bytes(), b"containers"];
            looks += 1;
            let seen = database.view(|top| {
                tries.set(tries.get() + 1);
                top.at(&path)?
                    .map_or(Ok(None), |all| all.at(&[id.as_bytes(), b"labels"]).map(Some))?;
                Ok(())
            });
            drop(seen);
        }
    }
    let took = began.elapsed();
    let writes: u64 = writers.into_iter().map(|writer| writer.end().unwrap()).sum();
    eprintln!(
        "{reads} reads in {took:?} beside {writes} writes: {answered} answered, {short} gone, {gaps} gaps, \
{} wrong; {} rounds seen; {looks} views took {} tries; {lists} lists, {lost} without answer",
        wrong.len(),
        rounds.len(),
        tries.get(),
    );
    assert!(wrong.is_empty(), "{} wrong, the first: {}", wrong.len(), wrong[0]);
    assert!(answered * 100 >= reads * 95, "{answered} of {reads} answered");
    assert!(writes >= 500, "{writes} writes only");
}

/// Compares all of a namespace with what `ctr` says.
fn compare(containerd: &ContainerdDb, metadata: &Metadata, namespace: &str) -> usize {
    let ctr = |words: &[&str]| containerd.ctr(namespace, words).unwrap();
    let ns = namespace.as_bytes();
    let mut compared = 0;
    let listed: Vec<String> = ctr(&["containers", "ls", "-q"]).lines().map(str::to_owned).collect();
    assert_eq!(metadata.ids(ns).unwrap(), listed);
    assert_eq!(metadata.containers(ns).unwrap().len(), listed.len());
    let db =
        Snapshotter::open(&root(&containerd.root().join("io.containerd.snapshotter.v1.overlayfs")));
    let db = db.unwrap();
    for id in &listed {
        let info: Value = serde_json::from_str(&ctr(&["containers", "info", id])).unwrap();
        let one = metadata.container(ns, id.as_bytes()).unwrap().unwrap();
        let mut facts = Facts::about(format!("{namespace}/{id}"));
        let text = |value: &Value| BString::from(value.as_str().unwrap_or_default());
        facts.same("id", one.id.clone(), text(&info["ID"]));
        facts.same("image", one.image.clone(), text(&info["Image"]));
        facts.same("snapshotter", one.snapshotter.clone(), text(&info["Snapshotter"]));
        facts.same("snapshot key", one.snapshot_key.clone(), text(&info["SnapshotKey"]));
        facts.same("runtime", one.runtime.clone(), text(&info["Runtime"]["Name"]));
        facts.same("sandbox", one.sandbox_id.clone(), text(&info["SandboxID"]));
        let created = one.created.and_then(|ms| time(&info["CreatedAt"]).map(|t| (ms, t)));
        facts.holds(
            "created",
            created.is_some_and(|(a, b)| a == b),
            (one.created, &info["CreatedAt"]),
        );
        let labels = info["Labels"].as_object().cloned().unwrap_or_default();
        facts.same("number of labels", one.labels.len(), labels.len());
        for (key, value) in &labels {
            facts.same("label", one.labels.get(&BString::from(key.as_str())), Some(&text(value)));
        }
        let target = metadata.image(ns, &one.image).unwrap().unwrap();
        let images = ctr(&["images", "ls"]);
        let line = images.lines().find(|l| l.starts_with(&one.image.to_string())).unwrap();
        facts.holds("image's digest", line.contains(&target.to_string()), line);
        let said: Value =
            serde_json::from_str(&ctr(&["snapshots", "info", &one.snapshot_key.to_string()]))
                .unwrap();
        let known = metadata.snapshot(ns, &one.snapshotter, &one.snapshot_key).unwrap().unwrap();
        facts.same("parent", known.parent.clone(), text(&said["Parent"]));
        let chain = db.chain(&known.name).unwrap();
        facts.same("kind", chain[0].kind, Kind::Active);
        facts.same(
            "place",
            chain[0].place(),
            Some((BStr::new(namespace), one.snapshot_key.as_bstr())),
        );
        facts.same("layers", chain.len(), 4);
        // The mount of it names the directories.
        let mounts = ctr(&["snapshots", "mounts", "/none", &one.snapshot_key.to_string()]);
        let dir = |id: u64| format!("/snapshots/{id}/fs");
        facts.holds(
            "upper",
            mounts.contains(&format!(
                "upperdir={}",
                containerd
                    .root()
                    .join(format!("io.containerd.snapshotter.v1.overlayfs{}", dir(chain[0].id)))
                    .display()
            )),
            &mounts,
        );
        for layer in &chain[1..] {
            facts.holds("lower", mounts.contains(&dir(layer.id)), &mounts);
            facts.same("committed", layer.kind, Kind::Committed);
            facts.same("by number", db.by_id(layer.id).unwrap().as_ref(), Some(layer));
        }
        facts.same("by number", db.by_id(chain[0].id).unwrap().as_ref(), Some(&chain[0]));
        let users = metadata.users(ns, &one.snapshotter, &one.snapshot_key).unwrap();
        facts.same("users", users.containers, vec![one.id.clone()]);
        let top = metadata.users(ns, &one.snapshotter, &known.parent).unwrap();
        facts.same("users of the layer below", top.containers.len(), listed.len());
        facts.same("images of it", top.images, vec![one.image.clone()]);
        compared += facts.finish(20);
    }
    compared
}

/// Milliseconds of a time as JSON has it.
fn time(value: &Value) -> Option<i64> {
    whose_core::state::docker::time(value.as_str()?)
}

#[test]
fn records_are_what_ctr_says_alive_and_killed() {
    if !require(&["root", "containerd", "ctr", "busybox", "overlay"]) {
        return;
    }
    let mut containerd = ContainerdDb::start().unwrap();
    let image = "docker.io/library/lab-busybox:1";
    for (namespace, count) in [("default", 3), ("shop", 40)] {
        containerd.import(namespace, image, 3).unwrap();
        for n in 0..count {
            let (id, name) = (format!("{namespace}-{n}"), format!("nerdctl/name=web-{n}"));
            let label = format!("long={}", "l".repeat(n * 50));
            let words = ["containers", "create", "--label", &name, "--label", &label, image, &id];
            containerd.ctr(namespace, &words).unwrap();
        }
    }
    let metadata = Metadata::open(&root(&containerd.root())).unwrap();
    assert_eq!(metadata.namespaces().unwrap(), ["default", "shop"]);
    let found = metadata.labelled(b"shop", b"nerdctl/name", b"web-17").unwrap();
    assert_eq!(found.iter().map(|c| c.id.to_string()).collect::<Vec<_>>(), ["shop-17"]);
    let compared =
        compare(&containerd, &metadata, "default") + compare(&containerd, &metadata, "shop");
    eprintln!("{compared} facts are the same as ctr's");

    let before = metadata.containers(b"shop").unwrap();
    containerd.stop();
    let metadata = Metadata::open(&root(&containerd.root())).unwrap();
    assert_eq!(metadata.containers(b"shop").unwrap(), before);
}
