//! What containerd's database tells: what bundles lack, what has no task, and what it is like when it
//! can't be read.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, FixtureHost, METADATA, Record, TaskBundle, fake_id, metadata,
};

use crate::support::{answer, ask};

const SOCKET: &str = "/run/containerd/containerd.sock";
const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
const POD: (&str, &str, &str) = ("shop", "demo-abc", UID);
const CREATED: &str = "2024-01-02T03:04:05.678Z";

/// A host on which `ctr` runs `lab` (4761), and a pod's container `web` (4710).
fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let (sandbox, app) = (fake_id("sandbox"), fake_id("app"));
    let lab = TaskBundle::new("default", "lab", 4761);
    host.task_bundle(&lab).shim(4762, &lab, SOCKET).task(4761, 4762, "/default/lab");
    host.cgroup_dirs("/default/lab", &[4761]);
    let path = |id: &str| format!("/kubepods/burstable/pod{UID}/{id}");
    let pause = TaskBundle::sandbox(&sandbox, 4700, POD).cgroups_path(&path(&sandbox));
    let web = TaskBundle::in_pod(&app, 4710, POD, &sandbox, "web").cgroups_path(&path(&app));
    host.task_bundle(&pause).task_bundle(&web).shim(4690, &pause, SOCKET);
    for (pid, id) in [(4700, &sandbox), (4710, &app)] {
        host.task(pid, 4690, &path(id)).cgroup_dirs(&path(id), &[pid]);
    }
    host
}

fn records() -> Vec<Record> {
    let sandbox = fake_id("sandbox");
    vec![
        Record::new("default", "lab").label("tier", "front").label("", ""),
        Record::sandbox(&sandbox, POD),
        Record::in_sandbox(&fake_id("app"), &sandbox, "web", 3).label("k", "v"),
    ]
}

fn ids(list: &Value) -> Vec<&str> {
    let rows = list["containers"].as_array().unwrap();
    rows.iter().filter_map(|row| row["id"].as_str()).collect()
}

#[test]
fn it_has_what_a_bundle_lacks() {
    let host = host();
    host.records(&records());
    let card = answer(&host, "4761");
    let owner = &card["owner"];
    assert_eq!(owner["image"], "docker.io/library/app:1", "{card:#}");
    assert_eq!(owner["image_id"], format!("sha256:{}", "cd".repeat(32)));
    assert_eq!(owner["labels"], json!({"tier": "front", "": ""}));
    assert_eq!(owner["created"], CREATED);
    assert_eq!((owner.get("log"), owner.get("pod")), (None, None));
    assert_eq!(card["gaps"], json!([]));
    let card = answer(&host, "4710");
    let owner = &card["owner"];
    assert_eq!(owner["image_id"], format!("sha256:{}", "ab".repeat(32)), "{card:#}");
    assert_eq!(owner["log"], "/var/log/pods/x/0.log");
    assert_eq!(owner["pod"]["restarts"], 3);
    assert_eq!(owner["labels"], json!({"k": "v"}));
    // CRI's status comes first.
    assert_eq!(owner["created"], "2025-11-23T17:30:21.333Z");
    assert_eq!(card["gaps"], json!([]));
    let sandbox = answer(&host, "4700");
    assert_eq!(sandbox["owner"]["image"], "docker.io/library/app:1", "{sandbox:#}");
    assert_eq!(sandbox["owner"]["created"], CREATED);
    assert_eq!(sandbox["owner"]["pod"].get("restarts"), None);
    let rows = ask(&host, &["ps", "-o", "image,labels,restarts", "--no-headers", "4710"]);
    let row = rows.expect_code(0).stdout_str().trim().to_owned();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["docker.io/library/app:1", "k=v", "3"]);
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(list["gaps"], json!([]), "{list:#}");
    let lab = list["containers"].as_array().unwrap().iter().find(|c| c["id"] == "lab").unwrap();
    assert_eq!((&lab["labels"]["tier"], &lab["created"]), (&json!("front"), &json!(CREATED)));
}

#[test]
fn a_bundle_without_a_record_has_labels_unknown() {
    let host = host();
    host.records(&records()[1..]);
    let card = answer(&host, "4761");
    let owner = &card["owner"];
    assert_eq!(owner["id"], "lab", "{card:#}");
    for field in ["image", "image_id", "labels", "created"] {
        assert_eq!(owner.get(field), Some(&Value::Null), "{field}: {card:#}");
    }
    let gaps = card["gaps"].as_array().unwrap();
    assert!(!gaps.is_empty());
    for gap in gaps {
        assert_eq!(gap["class"], "gone", "{gap}");
        assert!(gap.to_string().contains("has no record of default/lab"), "{gap}");
    }
    assert_eq!(answer(&host, "4710")["gaps"], json!([]));
}

#[test]
fn it_has_what_has_no_task() {
    let host = host();
    let (sandbox, job, hex) = (fake_id("other-sandbox"), fake_id("job"), fake_id("nerd"));
    let mut all = records();
    all.extend([
        Record::new("default", "fresh").label("a", "b"),
        Record::new("shop", &hex).label("nerdctl/name", "front"),
        Record::sandbox(&sandbox, ("shop", "done-xyz", "3d4e5f60-1111-4555-8666-777788889999")),
        Record::in_sandbox(&job, &sandbox, "job", 7),
        // Docker's are Docker's, and steps of builds are BuildKit's.
        Record::new("moby", &fake_id("dockers")),
        Record::new("buildkit", "wzswqs8aincjb63xfdhov1b6r"),
    ]);
    host.records(&all);
    host.dir(format!("var/lib/containerd/io.containerd.runtime.v2.task/shop/{hex}"));
    let ended = TaskBundle::in_pod(&job, 77, POD, &sandbox, "job").status(1_000_000, 2, 3);
    host.task_bundle(&ended.without_task());
    host.dir(format!("var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{sandbox}"));
    for (target, id, state) in [
        ("fresh", "fresh", "created"),
        ("container:containerd/default/fresh", "fresh", "created"),
        // It was deleted without its task.
        ("front", &hex, "exited"),
        (&hex[..10], &hex, "exited"),
        (&job, &job, "exited"),
        (&sandbox, &sandbox, "exited"),
        ("pod:shop/done-xyz/job", &job, "exited"),
    ] {
        let card = answer(&host, target);
        assert_eq!(
            [&card["owner"]["id"], &card["owner"]["state"]],
            [id, state],
            "{target} {card:#}"
        );
        assert_eq!(card["gaps"], json!([]), "{target}");
        ask(&host, &["pids", target]).expect_code(1);
    }
    let card = answer(&host, "fresh");
    assert_eq!(card["owner"]["labels"], json!({"a": "b"}));
    assert_eq!([&card["owner"]["name"], &card["owner"]["created"]], ["fresh", CREATED]);
    assert_eq!(answer(&host, &hex)["owner"]["name"], "front");
    let card = answer(&host, &job);
    let told = json!({"namespace": "shop", "name": "done-xyz", "container": "job", "restarts": 7,
        "uid": "3d4e5f60-1111-4555-8666-777788889999"});
    assert_eq!(card["owner"]["pod"], told, "{card:#}");
    assert_eq!(card["owner"]["engine_state"], "CONTAINER_EXITED");
    assert_eq!(answer(&host, &sandbox)["owner"]["kind"], "sandbox");
    let (app, pause) = (fake_id("app"), fake_id("sandbox"));
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    let mut told = ids(&list);
    told.sort_unstable();
    let mut wanted = vec!["lab", app.as_str()];
    wanted.sort_unstable();
    assert_eq!(told, wanted);
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let mut told = ids(&list);
    told.sort_unstable();
    let mut wanted = vec!["lab", &app, &pause, "fresh", &hex, &sandbox, &job];
    wanted.sort_unstable();
    assert_eq!(told, wanted, "{list:#}");
    ask(&host, &["pids", &fake_id("dockers")]).expect_code(1);
}

#[test]
fn pods_are_named_by_containerd_alone() {
    let host = host();
    // No record is needed for what runs.
    host.file(METADATA, "no database");
    for target in ["pod:shop/demo-abc", &format!("pod:{UID}")] {
        assert_eq!(ask(&host, &["pids", target]).expect_code(0).pids(), [4700, 4710], "{target}");
    }
    assert_eq!(ask(&host, &["pids", "pod:shop/demo-abc/web"]).expect_code(0).pids(), [4710]);
    let card = answer(&host, "pod:shop/demo-abc");
    assert_eq!([&card["kind"], &card["owner"]["pod"]["uid"]], ["pod", UID], "{card:#}");
    let card = answer(&host, "4710");
    assert_eq!(card["chain"][0]["kind"], "pod", "{card:#}");
    assert_eq!(card["chain"][0]["pod"]["name"], "demo-abc");
    // Whether another one has ended can't be told.
    ask(&host, &["pids", "pod:shop/none"]).expect_code(3);
    host.records(&records());
    ask(&host, &["pids", "pod:shop/none"]).expect_code(1);
}

/// Files that are no database, or none any more.
fn damaged() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut many = records();
    many.extend((0..200).map(|n| Record::new("default", &format!("filler-{n:03}"))));
    let whole = metadata(&many);
    let mut looped = whole.clone();
    let mut corrupt = whole.clone();
    let mut loops = 0;
    for page in 2..whole.len() / 4096 {
        let at = page * 4096;
        let number = |from: usize, len: usize| {
            whole[from..from + len].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
        };
        if number(at, 8) != page {
            continue; // what another one runs over into
        }
        corrupt[at + 16..at + 4096].fill(0xff);
        if number(at + 8, 2) == 1 {
            loops += 1;
            for element in 0..number(at + 10, 2) {
                let child = at + 16 + element * 16 + 8;
                looped[child..child + 8].copy_from_slice(&(page as u64).to_le_bytes());
            }
        }
    }
    assert!(loops > 0, "no tree of two levels");
    let mut newer = whole.clone();
    for meta in [0, 4096] {
        newer[meta + 20] = 3;
    }
    vec![
        ("cut short", whole[..5000].to_vec(), "malformed"),
        ("nothing", Vec::new(), "malformed"),
        ("corrupt", corrupt, "malformed"),
        ("page loop", looped, "malformed"),
        ("another format", b"SQLite format 3\0".repeat(1000), "malformed"),
        ("another version", newer, "unsupported"),
    ]
}

#[test]
fn what_it_says_is_unread_when_it_is_no_database() {
    let host = host();
    for (what, bytes, class) in damaged() {
        host.file(METADATA, bytes);
        let card = answer(&host, "4761");
        let owner = &card["owner"];
        assert_eq!([&owner["name"], &owner["state"]], ["lab", "running"], "{what} {card:#}");
        for key in ["labels", "image", "image_id", "created", "log"] {
            assert_eq!(owner.get(key), Some(&Value::Null), "{what}: {key} {card:#}");
        }
        let gaps = card["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), 1, "{what} {card:#}");
        assert_eq!(
            [&gaps[0]["what"], &gaps[0]["class"]],
            ["container description", class],
            "{what}"
        );
        assert!(gaps[0]["path"].as_str().unwrap().ends_with("/meta.db"), "{what}");
        let pod = answer(&host, "4710");
        assert_eq!(pod["owner"]["image"], "docker.io/library/app:1", "{what}");
        // The loop is in the other namespace's tree.
        let restarts = if what == "page loop" { json!(3) } else { Value::Null };
        assert_eq!(pod["owner"]["pod"].get("restarts"), Some(&restarts), "{what} {pod:#}");
        // Who does not ask does not open it.
        let rows = ask(&host, &["ps", "--json", "-o", "pid,owner,pod,image", "4710"]);
        assert_eq!(rows.expect_code(0).json()["gaps"], json!([]), "{what}");
        assert_eq!(ask(&host, &["pids", "lab"]).expect_code(0).pids(), [4761], "{what}");
        // There may be one, or none.
        let none = ask(&host, &["pids", "filler-007"]).expect_code(3);
        assert_eq!(none.stdout_str(), "", "{what}");
        let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
        assert_eq!(ids(&list).len(), 3, "{what} {list:#}");
        let gaps = list["gaps"].as_array().unwrap();
        assert!(gaps.iter().any(|g| g["what"] == "containers of an engine"), "{what} {list:#}");
        let card = ask(&host, &["4761"]).expect_code(0);
        assert!(card.stdout_str().contains("meta.db") || card.stderr_str().contains("meta.db"));
    }
    host.remove(METADATA).fifo(METADATA);
    assert_eq!(answer(&host, "4761")["owner"].get("labels"), Some(&Value::Null));
}

#[test]
fn records_of_other_shapes() {
    let host = host();
    let long = "x".repeat(1 << 20);
    let evil = "a\u{1b}[31m\nb\u{202e}";
    let lab = Record::new("default", "lab").label("long", &long).label(evil, evil);
    host.records(&[lab, Record::new("default", "..").label("nerdctl/name", "up")]);
    let card = answer(&host, "4761");
    assert_eq!(card["owner"]["labels"]["long"], long.as_str());
    assert_eq!(card["owner"]["labels"][evil], evil);
    for args in [&["4761"][..], &["ps", "-o", "labels", "4761"], &["ls", "-a", "-o", "labels"]] {
        let text = ask(&host, args).expect_code(0).stdout_str().to_owned();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{args:?}");
        assert!(!text.contains("\nb"), "{args:?}");
    }
    // An id that can be none names nothing.
    ask(&host, &["pids", "up"]).expect_code(1);
    // A later version of what CRI writes.
    let app = fake_id("app");
    let bytes = metadata(&records());
    let bytes = String::from_utf8_lossy(&bytes).contains("\"v1\"").then_some(bytes).unwrap();
    let mut newer = bytes.clone();
    let at = newer.windows(4).position(|w| w == b"\"v1\"").unwrap();
    newer[at + 2] = b'2';
    let rest = newer.windows(4).position(|w| w == b"\"v1\"").unwrap();
    newer[rest + 2] = b'2';
    host.file(METADATA, newer);
    let card = answer(&host, &app);
    assert_eq!([&card["owner"]["name"], &card["owner"]["state"]], ["web", "running"], "{card:#}");
    assert_eq!(card["owner"].get("labels"), Some(&Value::Null));
    assert_eq!(card["gaps"][0]["class"], "malformed", "{card:#}");
    assert!(card["gaps"][0]["cause"].as_str().unwrap().contains("version v2"), "{card:#}");
}

#[test]
fn a_status_that_is_none() {
    let host = host();
    host.records(&records());
    let (app, gone) = (fake_id("app"), fake_id("gone"));
    for id in [&app, &gone] {
        host.file(
            format!("var/lib/containerd/io.containerd.grpc.v1.cri/containers/{id}/status"),
            "{\"Pid\":",
        );
    }
    let card = answer(&host, "4710");
    assert_eq!([&card["owner"]["state"], &card["owner"]["created"]], ["running", CREATED]);
    for key in ["engine_state", "started"] {
        assert_eq!(card["owner"].get(key), Some(&Value::Null), "{key} {card:#}");
    }
    assert_eq!(card["gaps"].as_array().unwrap().len(), 1, "{card:#}");
    let card = answer(&host, &gone);
    assert_eq!(card["owner"].get("engine_state"), Some(&Value::Null), "{card:#}");
    assert_eq!(card["owner"]["state"], "unknown");
    assert_eq!(card["gaps"][0]["class"], "malformed");
}

#[test]
fn what_the_kernel_shows_and_no_bundle() {
    let host = host();
    let (known, unknown) = (fake_id("known"), fake_id("unknown"));
    let mut all = records();
    all.push(Record::in_sandbox(&known, &fake_id("sandbox"), "late", 1));
    all.push(Record::new("default", "late"));
    host.records(&all);
    for (pid, id) in [(4720_u32, &known), (4730, &unknown)] {
        let scope = format!("/kubepods.slice/cri-containerd-{id}.scope");
        host.task(pid, 1, &scope).cgroup_dirs(&scope, &[pid]);
    }
    host.task(4740, 1, "/default/late");
    let card = answer(&host, "4720");
    assert_eq!([&card["owner"]["name"], &card["owner"]["state"]], ["late", "running"], "{card:#}");
    assert_eq!(card["owner"]["pod"]["name"], "demo-abc");
    let card = answer(&host, "4730");
    assert_eq!([&card["owner"]["kind"], &card["owner"]["id"]], ["container", unknown.as_str()]);
    assert_eq!(card["owner"].get("name"), Some(&Value::Null), "{card:#}");
    assert!(!card["gaps"].as_array().unwrap().is_empty());
    // A name is anybody's, and this one has no task.
    assert_eq!(answer(&host, "4740")["owner"]["kind"], "unknown");
}
