//! Podman from its files: both databases, pods, users, and what may be wrong with the files.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, FixtureHost, PodmanContainer, bolt_state, db_sql, fake_id, pod_id,
};

use crate::support::{answer, ask, whose};

const GRAPH_ROOT: &str = "/var/lib/containers/storage";
const USERS_ROOT: &str = "/home/alice/.local/share/containers/storage";
const MANAGER: &str = "/user.slice/user-1000.slice/user@1000.service";

fn conmon(id: &str, graph_root: &str) -> Vec<String> {
    let bundle = format!("{graph_root}/overlay-containers/{id}/userdata");
    let words = ["/usr/bin/conmon", "--api-version", "1", "-c", id, "-u", id, "-b", &bundle];
    let end = ["--exit-command", "/usr/bin/podman", "--exit-command-arg", "--root"];
    let root = ["--exit-command-arg", graph_root, "--exit-command-arg", "container"];
    [&words[..], &end, &root].concat().into_iter().map(str::to_owned).collect()
}

fn put(host: &FixtureHost, pid: u32, uid: u32, cgroup: &str) {
    host.cgroup_dirs(cgroup, &[pid]);
    host.process(pid).uid(uid).nspid(&[pid, 1]).in_cgroup(cgroup).write();
}

/// A pod of an infra container and another, and a container by itself that was stopped.
fn containers() -> [PodmanContainer; 3] {
    let slice = format!("machine.slice/machine-libpod_pod_{}.slice", pod_id("shop"));
    let in_pod = |name: &str| {
        PodmanContainer::named(name).in_pod("shop").cgroups("systemd", "enabled", &slice)
    };
    [
        in_pod("infra").infra().running(4000),
        in_pod("app").running(4010),
        PodmanContainer::named("old").state(6),
    ]
}

fn scope(container: &PodmanContainer) -> String {
    let slice = format!("/machine.slice/machine-libpod_pod_{}.slice", pod_id("shop"));
    format!("{slice}/libpod-{}.scope/container", container.id())
}

fn host(layout: CgroupLayout) -> (FixtureHost, [PodmanContainer; 3]) {
    let host = FixtureHost::with_layout(layout);
    host.boot();
    let all = containers();
    put(&host, 4000, 0, &scope(&all[0]));
    put(&host, 4010, 0, &scope(&all[1]));
    (host, all)
}

fn owner_column(host: &FixtureHost, pid: u32) -> String {
    let pid = pid.to_string();
    let run = ask(host, &["ps", "-o", "owner", "--no-headers", &pid]).expect_code(0);
    run.stdout_str().trim_end().to_owned()
}

#[test]
fn both_databases_name_pods_and_containers() {
    type Database = fn(&[PodmanContainer]) -> Vec<u8>;
    let databases: [(&str, Database); 2] =
        [("db.sql", db_sql), ("libpod/bolt_state.db", bolt_state)];
    for layout in [CgroupLayout::V2, CgroupLayout::Hybrid, CgroupLayout::V1] {
        for (file, content) in databases {
            let (host, all) = host(layout);
            host.file(format!("{GRAPH_ROOT}/{file}"), content(&all));
            let told = answer(&host, "4010");
            let expected = json!({
                "kind": "container", "runtime": "podman", "id": all[1].id(), "name": "app",
                "image": "localhost/app:1",
                "image_id": format!("sha256:{}", fake_id("image of app")),
                "labels": {"app": "app"}, "state": "running", "engine_state": "running",
                "created": "2026-01-02T03:04:05.678Z", "started": "2026-01-02T03:04:06.000Z",
                "init_pid": 4010, "log": "/logs/app.log",
                "pod": {"name": "shop", "uid": pod_id("shop")},
            });
            assert_eq!(told["owner"], expected, "{file} {told:#}");
            let chain = told["chain"].as_array().unwrap();
            let pod = chain.iter().find(|o| o["kind"] == "pod").unwrap();
            assert_eq!((&pod["name"], &pod["id"]), (&json!("shop"), &json!(pod_id("shop"))));
            assert_eq!(answer(&host, "4000")["owner"]["kind"], "sandbox");
            assert_eq!(owner_column(&host, 4010), "app");
            for target in ["app", all[1].id(), &all[1].id()[..15], "container:podman/app"] {
                assert_eq!(ask(&host, &["pids", target]).expect_code(0).pids(), [4010], "{target}");
            }
            let old = answer(&host, "old");
            assert_eq!((&old["owner"]["state"], &old["gaps"]), (&json!("exited"), &json!([])));
            let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
            let names: Vec<&Value> =
                list["containers"].as_array().unwrap().iter().map(|o| &o["name"]).collect();
            assert_eq!(names, ["app", "infra", "old"], "{list:#}");
        }
    }
}

#[test]
fn a_database_is_where_the_configuration_says() {
    let static_dir = "[engine]\nstatic_dir = \"/srv/static\"\n";
    let moved = "[storage]\ntransient_store = true\nrunroot = \"/run/moved\"\n";
    let transient = "[storage]\ntransient_store = true\n";
    let (of_store, of_containers) =
        ("/etc/containers/storage.conf", "/etc/containers/containers.conf");
    let last = "/etc/containers/containers.conf.d/9.conf";
    for (conf, text, file) in [
        (of_containers, static_dir, "/srv/static/bolt_state.db"),
        (last, static_dir, "/srv/static/db.sql"),
        (of_store, transient, "/run/containers/storage/db.sql"),
        (of_store, moved, "/run/moved/db.sql"),
    ] {
        let (host, all) = host(CgroupLayout::V2);
        host.file(format!("{GRAPH_ROOT}/overlay-containers/containers.json"), "[]");
        let content = if file.ends_with(".sql") { db_sql } else { bolt_state };
        host.file(file, content(&all));
        assert_eq!(answer(&host, "4010")["owner"]["name"], Value::Null, "{file}");
        host.file(conf, text);
        let told = answer(&host, "4010");
        assert_eq!(
            (&told["owner"]["name"], &told["gaps"]),
            (&json!("app"), &json!([])),
            "{told:#}"
        );
        assert_eq!(ask(&host, &["pids", "app"]).expect_code(0).pids(), [4010], "{file}");
    }
    // A user's: his own configuration counts, and for his store alone.
    for (conf, text, file) in [
        ("containers.conf", "[engine]\nstatic_dir = \"$HOME/db\"\n", "/home/alice/db/db.sql"),
        ("storage.conf", transient, "/run/user/1000/containers/db.sql"),
    ] {
        let host = FixtureHost::with_layout(CgroupLayout::V2);
        host.boot();
        let his = PodmanContainer::named("his").running(4100);
        put(&host, 4100, 1000, &format!("{MANAGER}/user.slice/libpod-{}.scope", his.id()));
        host.file(format!("{USERS_ROOT}/overlay-containers/containers.json"), "[]");
        host.file(file, db_sql(&[his]));
        assert_eq!(answer(&host, "4100")["owner"]["name"], Value::Null, "{file}");
        host.file(format!("/home/alice/.config/containers/{conf}"), text);
        assert_eq!(answer(&host, "4100")["owner"]["name"], "his", "{file}");
        assert_eq!(owner_column(&host, 4100), "alice@his");
    }
}

#[test]
fn the_table_of_the_store_counts_where_there_is_no_database() {
    let (host, all) = host(CgroupLayout::V2);
    let metadata = json!({"image-name": "localhost/app:1", "name": "app", "created-at": 1});
    let table = json!([
        {"id": all[1].id(), "names": ["app"], "image": fake_id("image of app"),
         "metadata": metadata.to_string(), "created": "2026-01-02T03:04:05Z"},
        {"id": fake_id("buildah"), "names": ["working"], "metadata": ""},
    ]);
    let path = format!("{GRAPH_ROOT}/overlay-containers/containers.json");
    host.file(path, table.to_string());
    let owner = &answer(&host, "app")["owner"];
    assert_eq!((&owner["image"], &owner["init_pid"]), (&json!("localhost/app:1"), &Value::Null));
    assert!(answer(&host, "4000")["owner"]["name"].is_null());
    ask(&host, &["working"]).expect_code(1);
}

/// A container of alice's, in a scope of her manager's or in no cgroup of its own.
fn rootless(graph_root: &str, cgroup: &str) -> (FixtureHost, PodmanContainer) {
    let (host, all) = host(CgroupLayout::V2);
    host.podman_containers(GRAPH_ROOT, &all);
    let db = PodmanContainer::named("db").cgroups("systemd", "enabled", "user.slice").running(7030);
    let cgroup = cgroup.replace("ID", db.id());
    host.podman_containers(graph_root, std::slice::from_ref(&db));
    let args = conmon(db.id(), graph_root);
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let conmon = host.process(7020).comm("conmon").uid(1000).cmdline(&args);
    conmon.in_cgroup(&format!("{MANAGER}/user.slice/libpod-conmon-{}.scope", db.id())).write();
    host.cgroup_dirs(&cgroup, &[7030]);
    let init = host.process(7030).ppid(7020).uid(1000).nspid(&[7030, 1]);
    init.in_docker_root(db.id(), "/x").in_cgroup(&cgroup).write();
    (host, db)
}

#[test]
fn users_have_their_own() {
    let scope = format!("{MANAGER}/user.slice/libpod-ID.scope/container");
    for cgroup in [scope.as_str(), "/user.slice/user-1000.slice/session-1.scope"] {
        for graph_root in [USERS_ROOT, "/srv/alice"] {
            let (host, db) = rootless(graph_root, cgroup);
            let told = answer(&host, "7030");
            let owner = &told["owner"];
            assert_eq!([&owner["id"], &owner["name"]], [db.id(), "db"], "{cgroup} {told:#}");
            assert_eq!(owner["user"], "alice", "{told:#}");
            assert_eq!(owner_column(&host, 7030), "alice@db");
            let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
            let rows = list["containers"].as_array().unwrap();
            let row = rows.iter().find(|o| o["name"] == "db").unwrap_or_else(|| panic!("{list:#}"));
            assert_eq!((&row["user"], &row["pids"]), (&json!("alice"), &json!([7030])));
            if graph_root == USERS_ROOT {
                host.cgroup_dirs(MANAGER, &[]);
                assert_eq!(ask(&host, &["pids", "db"]).expect_code(0).pids(), [7030], "{cgroup}");
            }
        }
    }
}

#[test]
fn a_users_files_say_nothing_of_what_is_not_his() {
    let scope = format!("{MANAGER}/user.slice/libpod-ID.scope/container");
    for known_to_root in [true, false] {
        let (host, db) = rootless(USERS_ROOT, &scope);
        let app = &containers()[1];
        let evil = PodmanContainer::named("evil").id_of(app.id()).running(4010);
        let evil = evil.cgroups("cgroupfs", "enabled", "/libpod_parent");
        host.podman_containers(USERS_ROOT, &[db.clone(), evil]);
        if !known_to_root {
            host.remove(format!("{GRAPH_ROOT}/db.sql"));
        }
        let name = if known_to_root { json!("app") } else { Value::Null };
        // First alone, then when hers were met before.
        for targets in [&["4010"][..], &["db", "4010"], &["db", app.id()]] {
            let args = [&["--json"][..], targets].concat();
            let all = ask(&host, &args).json();
            let last = &all["answers"].as_array().unwrap().last().unwrap()["owner"];
            assert_eq!(
                (&last["name"], &last["user"]),
                (&name, &Value::Null),
                "{targets:?} {all:#}"
            );
        }
        let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
        let rows = list["containers"].as_array().unwrap();
        let with_pid = rows.iter().filter(|o| o["pids"] == json!([4010]));
        let names: Vec<&Value> = with_pid.map(|o| &o["name"]).collect();
        assert_eq!(names, [&name], "{list:#}");
        let run = ask(&host, &["pids", "evil"]);
        assert!(!run.stdout_str().contains("4010"), "{}", run.story());
    }
}

#[test]
fn a_users_files_name_nothing_that_was_removed() {
    let (host, db) =
        rootless(USERS_ROOT, &format!("{MANAGER}/user.slice/libpod-ID.scope/container"));
    let gone = fake_id("gone");
    let evil = PodmanContainer::named("evil").id_of(&gone);
    let evil = evil.cgroups("cgroupfs", "enabled", "/libpod_parent");
    host.podman_containers(USERS_ROOT, &[db, evil]);
    let of = |cgroup: String| {
        let line = format!("Memory cgroup stats for {cgroup}: x");
        let run = whose().root(host.path()).arg("annotate").stdin(format!("{line}\n").as_bytes());
        let out = run.run().expect_code(0).stdout_str();
        out.trim_end().strip_prefix(&line).unwrap().to_owned()
    };
    let removed = format!(" «{}(removed)»", &gone[..12]);
    assert_eq!(of(format!("/libpod_parent/libpod-{gone}")), removed);
    assert_eq!(of(format!("/docker/{gone}")), removed);
    // In a cgroup of hers it is hers.
    assert_eq!(of(format!("{MANAGER}/user.slice/libpod-{gone}.scope/container")), " «alice@evil»");
}

#[test]
fn what_can_not_be_read_is_said() {
    let (host, all) = host(CgroupLayout::V2);
    let file = format!("{GRAPH_ROOT}/db.sql");
    let gap = |host: &FixtureHost| {
        let told = answer(host, "4010");
        assert_eq!(told["owner"]["id"], all[1].id(), "{told:#}");
        assert!(told["owner"]["name"].is_null(), "{told:#}");
        let gaps = told["gaps"].as_array().unwrap();
        let gap = gaps.iter().find(|g| g["path"].as_str().is_some_and(|p| p.ends_with("db.sql")));
        gap.unwrap_or_else(|| panic!("{told:#}"))["class"].as_str().unwrap().to_owned()
    };
    let sound = db_sql(&all);
    host.file(&file, &sound[..sound.len() / 2]);
    assert_eq!(gap(&host), "malformed");
    host.remove(&file).symlink(&file, "/etc/shadow");
    assert_eq!(gap(&host), "malformed");
    host.remove(&file).fifo(&file);
    assert_eq!(gap(&host), "malformed");
    host.remove(&file).sparse(&file, 10 << 30);
    assert_eq!(gap(&host), "malformed");
    host.remove(&file).file(&file, &sound).file(format!("{file}-wal"), "frames");
    assert_eq!(gap(&host), "unsupported");
    host.remove(format!("{file}-wal"));
    host.file(format!("{file}-journal"), [0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7]);
    assert_eq!(gap(&host), "timed-out");
    host.remove(format!("{file}-journal"));
    assert_eq!(answer(&host, "4010")["owner"]["name"], "app");
}
