//! What schedulers that cannot be run here keep on disk of their containers: Nomad's client, Garden's depot and its
//! containerd, Mesos' agent, rkt and ECS' agent. The files are written in the formats of their sources.

use std::fs;

use serde_json::{Value, json};
use whose_testkit::bolt::{Bucket, Layout, file};
use whose_testkit::fixture::{FixtureHost, Record, TaskBundle};

use crate::support::{answer, ask, whose};

const ALLOC: &str = "1516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc";
const OTHER: &str = "2516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc";
const HANDLE: &str = "6f265890-5165-7fab-6b52-18d1";
const OUTER: &str = "dd4645dc-0c08-5f71-b7cb-9df01af43166";
const INNER: &str = "ee4645dc-0c08-5f71-b7cb-9df01af43166";
const POD: &str = "97910fdc-13ec-4025-8f93-5ddea0089eff";
const SECRET: &str = "hunter2-hunter2";

// MessagePack, as Nomad writes it.

fn text(text: &str) -> Vec<u8> {
    [&[0xd9, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let count = 0x80 | u8::try_from(pairs.len()).unwrap();
    let pairs = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    std::iter::once(count).chain(pairs).collect()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [vec![0x90 | u8::try_from(items.len()).unwrap()], items.concat()].concat()
}

/// An allocation of the job `shop` with tasks of these names and drivers.
fn allocation(id: &str, tasks: &[(&str, &str)]) -> Vec<u8> {
    let task = |(name, driver): &(&str, &str)| {
        let config = map(&[("command", text("/bin/x"))]);
        let env = map(&[("PASSWORD", text(SECRET))]);
        let (name, driver) = (text(name), text(driver));
        map(&[("Name", name), ("Driver", driver), ("Config", config), ("Env", env)])
    };
    let tasks: Vec<Vec<u8>> = tasks.iter().map(task).collect();
    let group = map(&[("Name", text("cache")), ("Tasks", list(&tasks))]);
    let job = map(&[("Name", text("shop")), ("TaskGroups", list(&[group]))]);
    let created = 1_700_000_000_123_456_789_i64.to_be_bytes();
    let alloc = map(&[
        ("ID", text(id)),
        ("Namespace", text("prod")),
        ("JobID", text("shop")),
        ("TaskGroup", text("cache")),
        ("NodeName", text("node1")),
        ("CreateTime", [&[0xd3][..], &created].concat()),
        ("Job", job),
    ]);
    map(&[("Alloc", alloc)])
}

/// The state of a task that was started on 2026-01-02T03:04:05Z.
fn task_state(word: &str) -> Vec<u8> {
    let seconds = (1_767_323_045_i64 + 62_135_596_800).to_be_bytes();
    let time = [&[0xaf, 1][..], &seconds, &[0; 4], &[0xff, 0xff]].concat();
    map(&[("State", text(word)), ("StartedAt", time)])
}

fn nomad(host: &FixtureHost, dir: &str) {
    let mut root = Bucket::default();
    let mut add = |id: &str, tasks: &[(&str, &str)], word: &str| {
        let own = root.path(&["allocations", id]);
        own.put("alloc", allocation(id, tasks));
        for (name, _) in tasks {
            own.bucket(format!("task-{name}")).put("task_state", task_state(word));
        }
    };
    add(ALLOC, &[("redis", "exec")], "running");
    add(OTHER, &[("old", "raw_exec")], "dead");
    add("3516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc", &[("web", "docker")], "running");
    host.file(format!("{dir}/client/state.db"), file(&root, Layout::default()));
}

/// The paths of the state files that an answer rests on.
fn files(answer: &Value) -> Vec<&str> {
    let evidence = answer["evidence"].as_array().unwrap().iter();
    evidence.filter(|e| e["source"] == "state-file").filter_map(|e| e["path"].as_str()).collect()
}

fn names(host: &FixtureHost) -> Vec<(String, String, String)> {
    let list = ask(host, &["ls", "-a", "--json"]).expect_code(0).json();
    let field = |c: &Value, key: &str| c[key].as_str().unwrap_or("").to_owned();
    let rows = list["containers"].as_array().unwrap().iter();
    let mut rows: Vec<_> =
        rows.map(|c| (field(c, "runtime"), field(c, "id"), field(c, "state"))).collect();
    rows.sort();
    rows
}

#[test]
fn nomads_allocations_have_their_job_and_group() {
    // In the package's place, where a configuration says, and where the task's own mounts lead.
    for (dir, config) in
        [("opt/nomad/data", ""), ("srv/n", "data_dir = \"/srv/n\"\n"), ("srv/n", "")]
    {
        let host = FixtureHost::new();
        host.boot();
        nomad(&host, dir);
        if !config.is_empty() {
            host.file("etc/nomad.d/nomad.hcl", config);
        }
        host.dir(format!("{dir}/alloc/{ALLOC}/redis"));
        let path = format!("/nomad.slice/share.slice/{ALLOC}.redis.scope");
        host.cgroup_dirs(&path, &[600]);
        let mounts = format!(
            "30 1 254:0 /{dir}/alloc/{ALLOC}/redis / rw - ext4 /dev/vda rw\n\
             31 30 254:0 /{dir}/alloc/{ALLOC}/alloc /alloc rw - ext4 /dev/vda rw\n"
        );
        let redis = host.process(600).comm("redis").nspid(&[600, 1]).in_cgroup(&path);
        redis.mountinfo(mounts).write();
        let told = answer(&host, "600");
        let owner = &told["owner"];
        assert_eq!(
            [&owner["runtime"], &owner["id"], &owner["name"], &owner["state"]],
            ["nomad", ALLOC, "redis", "running"],
            "{told:#}"
        );
        let label = |key: &str| owner["labels"][format!("com.hashicorp.nomad.{key}")].clone();
        let labels = ["job_id", "job_name", "namespace", "task_group_name", "node_name"].map(label);
        assert_eq!(labels, ["shop", "shop", "prod", "cache", "node1"], "{told:#}");
        assert_eq!(owner["created"], "2023-11-14T22:13:20.123Z");
        assert_eq!(owner["started"], "2026-01-02T03:04:05.000Z");
        assert!(owner["rootfs"].as_str().unwrap().ends_with(&format!("{dir}/alloc/{ALLOC}/redis")));
        assert!(files(&told).iter().any(|p| p.ends_with("client/state.db")), "{told:#}");
        if dir == "opt/nomad/data" {
            assert_eq!(ask(&host, &["pids", "redis"]).expect_code(0).pids(), [600]);
            // What has ended is there too, and what Docker runs is Docker's.
            let nomads = [(ALLOC, "running"), (OTHER, "exited")];
            let nomads = nomads.map(|(id, state)| ("nomad".into(), id.into(), state.into()));
            assert_eq!(names(&host), nomads);
            let old = answer(&host, "old");
            assert_eq!([&old["owner"]["id"], &old["owner"]["engine_state"]], [OTHER, "dead"]);
        }
    }
}

/// What a captured tree says of whom files belong to.
fn owned(host: &FixtureHost, owners: &[(&str, u32)]) {
    let entry = |(path, uid): &(&str, u32)| {
        let mode = if path.ends_with(".db") { 0o100_600 } else { 0o40_755 };
        let look = json!({"mode": mode, "uid": uid, "gid": uid, "size": 0, "mtime": 0,
            "device": [254, 0], "ino": 1, "nlink": 2, "rdev": [0, 0]});
        json!({"path": path, "look": look})
    };
    captured(host, &owners.iter().map(entry).collect::<Vec<_>>());
}

/// A tree with what its capture wrote down besides.
fn captured(host: &FixtureHost, entries: &[Value]) {
    host.file(".whose/manifest.json", json!({"schema": "whose/1", "entries": entries}).to_string());
    let clocks = json!({"since_boot": 1_000_000_000_000_u64, "boot_moment": 1_704_164_645_000_000_000_u64,
        "ticks_per_second": 100, "page_size": 4096});
    let facts = json!({"schema": "whose/1", "clocks": clocks, "euid": 0, "binaries": []});
    host.file(".whose/facts.json", facts.to_string());
}

/// A directory, who owns what there, the task's user namespace, and what the gap says.
type Case<'a> = (&'a str, &'a [(&'a str, u32)], u64, &'a str);

/// A task with namespaces of its own mounts what it likes at `/alloc`: a directory that it made itself, which says
/// that it is another job's.
#[test]
fn nobody_leads_to_a_data_directory_of_his_own() {
    const USERS: u64 = 4_026_531_837;
    let in_task = format!("opt/nomad/data/alloc/{OTHER}/redis/n");
    let cases: [Case<'_>; 5] = [
        // Root's own, but in a directory of a task's.
        (&in_task, &[], USERS, "an allocation's own files"),
        ("home/mallory/n", &[("home/mallory", 1000)], USERS, "may make names in it"),
        ("srv/n", &[("srv/n/client/state.db", 1000)], USERS, "may make names in it"),
        ("home/mallory/link/n", &[("home/mallory", 1000)], USERS, "may make names in it"),
        // Root's all the way, on a volume perhaps: but the mounts are those of a user namespace's owner.
        ("srv/n", &[], 4_026_532_999, "user namespace"),
    ];
    for (dir, owners, users, why) in cases {
        let host = FixtureHost::new();
        host.boot();
        nomad(&host, &dir.replace("home/mallory/link", "srv/real"));
        if dir.contains("/link/") {
            host.dir("home/mallory").symlink("home/mallory/link", "/srv/real");
        }
        owned(&host, owners);
        let path = format!("/nomad.slice/share.slice/{ALLOC}.redis.scope");
        host.cgroup_dirs(&path, &[600]);
        let mounts = format!(
            "30 1 254:0 /{dir} / rw - ext4 /dev/vda rw\n\
             31 30 254:0 /{dir}/alloc/{ALLOC}/alloc /alloc rw - ext4 /dev/vda rw\n"
        );
        let redis = host.process(600).comm("redis").nspid(&[600, 1]).in_cgroup(&path);
        redis.ns("user", users).mountinfo(mounts).write();
        let told = answer(&host, "600");
        let owner = &told["owner"];
        assert_eq!([&owner["id"], &owner["name"]], [ALLOC, "redis"], "{told:#}");
        for key in ["labels", "created", "started", "rootfs"] {
            assert!(owner[key].is_null(), "{dir} {key}: {told:#}");
        }
        let gaps = told["gaps"].as_array().unwrap();
        let says = |g: &Value| {
            g["what"] == "container description" && g["cause"].as_str().unwrap().contains(why)
        };
        assert!(gaps.iter().any(says), "{dir} {why}: {told:#}");
        assert_ne!(answer(&host, "old")["status"], "found", "{dir}");
    }
}

/// A task that Nomad gives no cgroup is in its agent's unit, and may call itself as the agent does.
#[test]
fn only_roots_agent_says_where_the_state_is() {
    for (uid, is_told) in [(0, true), (65534, false)] {
        let host = FixtureHost::new();
        host.boot();
        nomad(&host, "srv/n");
        host.cgroup_dirs("/system.slice/nomad.service", &[500]);
        let agent = host.process(500).comm("nomad").uid(uid).host_mounts();
        let agent = agent.in_cgroup("/system.slice/nomad.service");
        agent.cmdline(&[b"nomad", b"agent", b"-data-dir=/srv/n"]).write();
        let path = format!("/nomad.slice/share.slice/{ALLOC}.redis.scope");
        host.cgroup_dirs(&path, &[600]);
        host.process(600).comm("redis").nspid(&[600, 1]).in_cgroup(&path).write();
        let told = answer(&host, "600");
        let job = &told["owner"]["labels"]["com.hashicorp.nomad.job_id"];
        assert_eq!(*job, if is_told { json!("shop") } else { Value::Null }, "{uid}: {told:#}");
    }
}

/// HashiCorp's packages give the directory to a user `nomad`, for servers; the client runs as root.
#[test]
fn nomads_own_package_has_its_directory() {
    let host = FixtureHost::new();
    host.boot();
    nomad(&host, "opt/nomad/data");
    owned(&host, &[("opt/nomad/data", 998), ("opt/nomad/data/client/state.db", 0)]);
    let path = format!("/nomad.slice/share.slice/{ALLOC}.redis.scope");
    host.cgroup_dirs(&path, &[600]);
    host.process(600).comm("redis").nspid(&[600, 1]).in_cgroup(&path).write();
    let told = answer(&host, "600");
    let owner = &told["owner"];
    assert_eq!(owner["labels"]["com.hashicorp.nomad.job_id"], "shop", "{told:#}");
    assert_eq!((owner.get("user"), &owner["state"]), (None, &json!("running")), "{told:#}");
    assert_eq!(ask(&host, &["pids", "redis"]).expect_code(0).pids(), [600]);
}

/// An allocation of several tasks: both are called by their cgroups, and of neither is told what is the other's.
#[test]
fn tasks_of_one_allocation_are_told_apart() {
    let host = FixtureHost::new();
    host.boot();
    let mut root = Bucket::default();
    let own = root.path(&["allocations", ALLOC]);
    own.put("alloc", allocation(ALLOC, &[("redis", "exec"), ("log", "exec")]));
    own.bucket("task-redis").put("task_state", task_state("running"));
    host.file("var/lib/nomad/client/state.db", file(&root, Layout::default()));
    for (pid, task) in [(600, "redis"), (601, "log")] {
        let path = format!("/nomad.slice/share.slice/{ALLOC}.{task}.scope");
        host.process(pid).nspid(&[pid, 1]).in_cgroup(&path).write();
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        assert_eq!([&owner["name"], &owner["state"]], [task, "running"], "{owner:#}");
        assert_eq!((owner.get("started"), owner.get("rootfs")), (None, None), "{owner:#}");
        assert_eq!(owner["labels"]["com.hashicorp.nomad.job_id"], "shop");
    }
}

#[test]
fn gardens_containers_are_not_containerds() {
    let host = FixtureHost::new();
    host.boot();
    let bundle = TaskBundle::new("garden", HANDLE, 700).cgroups_path(&format!("/garden/{HANDLE}"));
    host.task_bundle(&bundle);
    let ended = "7f265890-5165-7fab-6b52-18d1";
    host.records(&[Record::new("garden", HANDLE), Record::new("garden", ended)]);
    let path = format!("/garden/good/{HANDLE}");
    host.cgroup_dirs(&path, &[700]);
    host.process(700).nspid(&[700, 1]).in_cgroup(&path).write();
    let told = answer(&host, "700");
    assert_eq!([&told["owner"]["runtime"], &told["owner"]["id"]], ["garden", HANDLE], "{told:#}");
    assert_eq!(told["owner"].get("name"), None);
    assert!(
        files(&told).iter().any(|p| p.ends_with("garden/6f265890-5165-7fab-6b52-18d1/config.json"))
    );
    let gardens = [(HANDLE, "running"), (ended, "created")];
    let gardens = gardens.map(|(id, state)| ("garden".into(), id.into(), state.into()));
    assert_eq!(names(&host), gardens);
    assert_eq!(answer(&host, ended)["owner"]["runtime"], "garden");
    // Nor does runc, which has their state, call them its own.
    host.file(
        format!("run/runc/{HANDLE}/state.json"),
        json!({"id": HANDLE, "init_process_pid": 700}).to_string(),
    );
    assert_eq!(names(&host), gardens);
}

#[test]
fn gardens_depot_tells_of_what_it_has() {
    let host = FixtureHost::new();
    host.boot();
    let config = r#"{"annotations":{"network":"n1"},"root":{"path":"/r"}}"#;
    host.file(format!("run/gdn/depot/{HANDLE}/config.json"), config);
    host.file(format!("run/gdn/depot/{HANDLE}/pidfile"), "700\n");
    let path = format!("/garden/{HANDLE}");
    host.cgroup_dirs(&path, &[700]);
    host.process(700).nspid(&[700, 1]).in_cgroup(&path).write();
    let told = answer(&host, "700");
    let owner = &told["owner"];
    assert_eq!(
        [&owner["runtime"], &owner["state"], &owner["labels"]["network"]],
        ["garden", "running", "n1"]
    );
    assert_eq!(owner["init_pid"], 700, "{told:#}");
    assert!(owner["created"].is_string(), "{told:#}");
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

/// The file `config` of a container with a task of this name, its image, and a secret.
fn mesos_config(name: &str) -> Vec<u8> {
    let image = field(12, &field(5, &field(1, &field(3, &field(1, b"redis:7")))));
    let command = field(11, SECRET.as_bytes());
    let message = [field(3, b"/var/lib/mesos/slaves/s"), field(9, &field(1, name.as_bytes()))];
    let message = [message.concat(), image, command].concat();
    [&u32::try_from(message.len()).unwrap().to_ne_bytes()[..], &message].concat()
}

#[test]
fn mesos_containers_and_those_in_them() {
    let host = FixtureHost::new();
    host.boot();
    let (outer, inner) = (format!("containers/{OUTER}"), format!("containers/{INNER}"));
    host.file(format!("run/mesos/{outer}/config"), mesos_config("pod"));
    host.file(format!("run/mesos/{outer}/pid"), "800");
    host.file(format!("run/mesos/{outer}/{inner}/config"), mesos_config("web"));
    host.file(format!("run/mesos/{outer}/{inner}/pid"), "801");
    let ended = "ff4645dc-0c08-5f71-b7cb-9df01af43166";
    host.file(format!("run/mesos/containers/{ended}/config"), mesos_config("batch"));
    host.file(format!("run/mesos/containers/{ended}/termination"), "");
    let path = format!("/mesos/{OUTER}/mesos/{INNER}");
    host.cgroup_dirs(&format!("/mesos/{OUTER}"), &[800]).cgroup_dirs(&path, &[801]);
    host.process(800).nspid(&[800, 1]).in_cgroup(&format!("/mesos/{OUTER}")).write();
    host.process(801).nspid(&[801, 2, 1]).ppid(800).in_cgroup(&path).write();
    let told = answer(&host, "801");
    let chain: Vec<[&Value; 2]> =
        told["chain"].as_array().unwrap().iter().map(|o| [&o["id"], &o["name"]]).collect();
    assert_eq!(chain, [[OUTER, "pod"], [INNER, "web"]], "{told:#}");
    let owner = &told["owner"];
    assert_eq!([&owner["image"], &owner["state"]], ["redis:7", "running"], "{told:#}");
    assert_eq!(owner["init_pid"], 801);
    assert_eq!(ask(&host, &["pids", "pod"]).expect_code(0).pids(), [800, 801]);
    assert_eq!(ask(&host, &["pids", "--direct", "pod"]).expect_code(0).pids(), [800]);
    let all = [(OUTER, "running"), (INNER, "running"), (ended, "exited")];
    let mut all = all.map(|(id, state)| ("mesos".to_owned(), id.to_owned(), state.to_owned()));
    all.sort();
    assert_eq!(names(&host), all);
}

#[test]
fn mesos_containers_of_three_levels_have_their_names() {
    let host = FixtureHost::new();
    host.boot();
    let innermost = "ff4645dc-0c08-5f71-b7cb-9df01af43166";
    let (mut dir, mut path) = ("run/mesos".to_owned(), String::new());
    for (id, name, pid) in [(OUTER, "pod", 800), (INNER, "web", 801), (innermost, "check", 802)] {
        dir = format!("{dir}/containers/{id}");
        path = format!("{path}/mesos/{id}");
        host.file(format!("{dir}/config"), mesos_config(name));
        host.file(format!("{dir}/pid"), pid.to_string());
        host.cgroup_dirs(&path, &[pid]);
        host.process(pid).nspid(&[pid, 1]).in_cgroup(&path).write();
    }
    let told = answer(&host, "802");
    let chain: Vec<&Value> =
        told["chain"].as_array().unwrap().iter().map(|level| &level["name"]).collect();
    assert_eq!(chain, ["pod", "web", "check"], "{told:#}");
    assert_eq!(ask(&host, &["pids", "check"]).expect_code(0).pids(), [802]);
    assert_eq!(ask(&host, &["pids", "pod"]).expect_code(0).pids(), [800, 801, 802]);
}

#[test]
fn rkts_pods_are_told_by_their_manifests() {
    let host = FixtureHost::new();
    host.boot();
    let manifest = |name: &str| {
        json!({"acVersion": "0.8.11", "acKind": "PodManifest", "annotations": [{"name": "a", "value": "b"}],
            "apps": [{"name": name, "image": {"name": "coreos.com/etcd", "id": "sha512-1",
                "labels": [{"name": "version", "value": "v2"}]},
                "app": {"environment": [{"name": "PASSWORD", "value": SECRET}]}}]})
        .to_string()
    };
    let ended = POD.replace("97910fdc", "17910fdc");
    host.file(format!("var/lib/rkt/pods/run/{POD}/pod"), manifest("etcd"));
    host.file(format!("var/lib/rkt/pods/run/{POD}/pid"), "900");
    host.file(format!("var/lib/rkt/pods/exited-garbage/{ended}/pod"), manifest("old"));
    host.dir(format!("var/lib/rkt/pods/run/{POD}/stage1"));
    let escaped = POD.replace('-', "\\x2d");
    let path = format!("/machine.slice/machine-rkt\\x2d{escaped}.scope/system.slice/etcd.service");
    host.cgroup_dirs(&path, &[901]);
    host.process(901).comm("etcd").nspid(&[901, 5]).in_cgroup(&path).write();
    let told = answer(&host, "901");
    let owner = &told["owner"];
    assert_eq!(
        [&owner["runtime"], &owner["id"], &owner["name"], &owner["image"], &owner["labels"]["a"]],
        ["rkt", POD, "etcd", "coreos.com/etcd:v2", "b"],
        "{told:#}"
    );
    assert_eq!([&owner["state"], &owner["engine_state"]], ["running", "running"]);
    assert_eq!(ask(&host, &["pids", "etcd"]).expect_code(0).pids(), [901]);
    let old = answer(&host, "old");
    assert_eq!([&old["owner"]["id"], &old["owner"]["state"]], [&json!(ended), &json!("exited")]);
}

#[test]
fn ecs_agent_names_what_docker_does_not() {
    let host = FixtureHost::new();
    host.boot();
    let id = "1f73f7733e3e8537797ed5fd64147f78c97db10243e4f0bde351030a9f055d6d";
    let mut root = Bucket::default();
    let value = json!({"DockerId": id, "DockerName": "ecs-shop-7-web-b0c1", "Container": {"Name": "web",
        "Image": "shop:7", "ImageID": "sha256:1", "taskARN": "arn:aws:ecs:r:1:task/c/d678",
        "KnownStatus": "RUNNING", "environment": {"PASSWORD": SECRET}}});
    root.bucket("containers").put("d678-web", value.to_string());
    host.file("var/lib/ecs/data/agent.db", file(&root, Layout::default()));
    let path = format!("ecs/d6785e51b602f0046c8af68c2805b616/{id}");
    host.cgroup_dirs(&path, &[650]);
    host.process(650).nspid(&[650, 1]).cgroup(format!("6:memory:/{path}\n")).write();
    let told = answer(&host, "650");
    let owner = &told["owner"];
    assert_eq!(
        [&owner["runtime"], &owner["name"], &owner["image"], &owner["image_id"]],
        ["ecs", "ecs-shop-7-web-b0c1", "shop:7", "sha256:1"],
        "{told:#}"
    );
    assert_eq!(owner["labels"]["com.amazonaws.ecs.container-name"], "web");
}

#[test]
fn slurms_sockets_bear_out_a_job() {
    let host = FixtureHost::new();
    host.boot();
    host.dir("srv/spool");
    host.file("etc/slurm/slurm.conf", "SlurmdSpoolDir=/srv/spool\n");
    let _socket = std::os::unix::net::UnixListener::bind(host.at("srv/spool/n1_48213.0")).unwrap();
    host.file("srv/spool/n1_48214.0", "no socket");
    for (pid, job) in [(600, "48213"), (601, "48214")] {
        let path = format!("/system.slice/slurmstepd.scope/job_{job}/step_0/user/task_0");
        host.process(pid).host_mounts().in_cgroup(&path).write();
        let told = answer(&host, &pid.to_string());
        let owner = &told["owner"];
        assert_eq!(
            [&owner["kind"], &owner["id"], &owner["name"]],
            ["job", job, "step_0"],
            "{told:#}"
        );
        let is_borne_out = job == "48213";
        assert_eq!(
            files(&told).iter().any(|p| p.ends_with("n1_48213.0")),
            is_borne_out,
            "{told:#}"
        );
        let not_proven =
            |e: &Value| e["detail"].as_str().is_some_and(|d| d.starts_with("not proven"));
        let against = told["evidence"].as_array().unwrap().iter().any(not_proven);
        assert_eq!(against, !is_borne_out, "{told:#}");
    }
}

/// Packages give the spool directory to the user `slurm`. What bears a job out is root's there.
#[test]
fn slurms_directory_may_be_its_users() {
    let host = FixtureHost::new();
    host.boot();
    let spool = "var/spool/slurmd";
    host.dir(spool);
    let [_own, _other] = ["n1_48213.0", "n1_48214.0"]
        .map(|name| std::os::unix::net::UnixListener::bind(host.at(spool).join(name)).unwrap());
    let entry = |path: String, mode: u32, uid: u32| {
        let look = json!({"mode": mode, "uid": uid, "gid": uid, "size": 0, "mtime": 0,
            "device": [254, 0], "ino": 1, "nlink": 1, "rdev": [0, 0]});
        json!({"path": path, "look": look})
    };
    let entries = [
        entry(spool.into(), 0o40_755, 64030),
        entry(format!("{spool}/n1_48213.0"), 0o140_777, 0),
        entry(format!("{spool}/n1_48214.0"), 0o140_777, 64030),
    ];
    captured(&host, &entries);
    for (pid, job, is_borne_out) in [(600, "48213", true), (601, "48214", false)] {
        let path = format!("/system.slice/slurmstepd.scope/job_{job}/step_0/user/task_0");
        host.process(pid).host_mounts().in_cgroup(&path).write();
        let told = answer(&host, &pid.to_string());
        let is_file = |p: &str| p.ends_with(&format!("n1_{job}.0"));
        assert_eq!(files(&told).into_iter().any(is_file), is_borne_out, "{told:#}");
    }
}

/// State that is damaged, too large, a link to elsewhere, a FIFO, or leads round in circles: whose the process is is
/// told all the same, and why it has no name.
#[test]
fn damaged_state_is_a_gap_and_no_more() {
    let nomad = format!("/nomad.slice/share.slice/{ALLOC}.redis.scope");
    let mesos = format!("/mesos/{OUTER}");
    let escaped = POD.replace('-', "\\x2d");
    let rkt = format!("/machine.slice/machine-rkt\\x2d{escaped}.scope");
    let garden = format!("/garden/{HANDLE}");
    let state = [
        (nomad, "nomad", "opt/nomad/data/client/state.db".to_owned()),
        (mesos, "mesos", format!("run/mesos/containers/{OUTER}/config")),
        (rkt, "rkt", format!("var/lib/rkt/pods/run/{POD}/pod")),
        (garden, "garden", format!("run/gdn/depot/{HANDLE}/config.json")),
    ];
    let secret = std::env::temp_dir().join(format!("whose-secret-{}", std::process::id()));
    fs::write(&secret, format!("{{\"annotations\":{{\"a\":\"{SECRET}\"}}}}")).unwrap();
    for (path, engine, file) in &state {
        for damage in ["garbage", "empty", "link", "fifo", "huge"] {
            let host = FixtureHost::new();
            host.boot();
            host.process(600).nspid(&[600, 1]).in_cgroup(path).write();
            match damage {
                "garbage" => drop(host.file(file, [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(900))),
                "empty" => drop(host.file(file, "")),
                "link" => drop(host.symlink(file, &secret)),
                "fifo" => drop(host.fifo(file)),
                _ => drop(host.sparse(file, 1 << 40)),
            }
            let run = whose().root(host.path()).args(["--json", "600"]).run().expect_code(0);
            let told = run.json()["answers"][0].clone();
            assert_eq!(told["owner"]["runtime"], *engine, "{damage}: {told:#}");
            assert!(!run.stdout_str().contains(SECRET), "{engine} {damage}: {told:#}");
            let gap = |g: &Value| g["what"] == "container description" && g["path"].is_string();
            assert!(
                told["gaps"].as_array().unwrap().iter().any(gap),
                "{engine} {damage}: {told:#}"
            );
        }
    }
    fs::remove_file(&secret).unwrap();
}

/// A container's own program starts others in it and chooses their ids.
#[test]
fn nobody_in_a_mesos_container_takes_the_name_of_another_one() {
    let host = FixtureHost::new();
    host.boot();
    let hostile = "00000000-0c08-5f71-b7cb-9df01af43166";
    host.file(format!("run/mesos/containers/{OUTER}/config"), mesos_config("bank"));
    host.file(format!("run/mesos/containers/{OUTER}/pid"), "800");
    let other = format!("run/mesos/containers/{hostile}");
    host.file(format!("{other}/config"), mesos_config("guest"));
    host.file(format!("{other}/containers/{OUTER}/config"), mesos_config("false"));
    host.file(format!("{other}/containers/{OUTER}/pid"), "801");
    host.cgroup_dirs(&format!("/mesos/{OUTER}"), &[800]);
    let path = format!("/mesos/{hostile}/mesos/{OUTER}");
    host.cgroup_dirs(&format!("/mesos/{hostile}"), &[]).cgroup_dirs(&path, &[801]);
    host.process(800).nspid(&[800, 1]).in_cgroup(&format!("/mesos/{OUTER}")).write();
    host.process(801).nspid(&[801, 2, 1]).in_cgroup(&path).write();
    let told = answer(&host, "800");
    assert_eq!([&told["owner"]["name"], &told["owner"]["init_pid"]], [&json!("bank"), &json!(800)]);
    let inner = answer(&host, "801");
    assert_eq!(
        [&inner["owner"]["name"], &inner["owner"]["init_pid"]],
        [&json!("false"), &json!(801)],
        "{inner:#}"
    );
    assert_eq!(inner["chain"][0]["name"], "guest", "{inner:#}");
    assert_eq!(ask(&host, &["pids", "bank"]).expect_code(0).pids(), [800]);
}

/// Directories within directories, and a link in one that leads back to it.
#[test]
fn nesting_in_mesos_directory_has_an_end() {
    let host = FixtureHost::new();
    host.boot();
    let mut path = "run/mesos".to_owned();
    for level in 0..60 {
        path = format!("{path}/containers/level-{level}");
        host.file(format!("{path}/config"), mesos_config(&format!("name-{level}")));
    }
    host.symlink(format!("run/mesos/containers/{OUTER}"), "..");
    host.symlink("run/mesos/containers/level-0/containers/back", "../..");
    host.process(800).nspid(&[800, 1]).in_cgroup(&format!("/mesos/{OUTER}")).write();
    let told = answer(&host, "800");
    assert_eq!([&told["owner"]["runtime"], &told["owner"]["id"]], ["mesos", OUTER]);
    assert_eq!(names(&host).iter().filter(|(_, id, _)| id.starts_with("level-")).count(), 1);
    assert_eq!(answer(&host, "name-31")["owner"]["id"], "level-31");
    assert_eq!(answer(&host, "name-32")["status"], "not-found");
}
