//! Users with stores of Podman's of their own, who may write in them what they like.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, DockerContainer, FixtureHost, PodmanContainer, db_sql, fake_id,
};

use crate::support::{answer, ask};

const GRAPH_ROOT: &str = "/var/lib/containers/storage";

fn store_of(user: &str) -> String {
    format!("/home/{user}/.local/share/containers/storage")
}

fn manager(uid: u32) -> String {
    format!("/user.slice/user-{uid}.slice/user@{uid}.service")
}

/// A host on which alice (1001) and bob (1000) have something running.
fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let passwd = "root:x:0:0:root:/root:/bin/bash\nbob:x:1000:1000::/home/bob:/bin/bash\n\
                  alice:x:1001:1001::/home/alice:/bin/bash\n";
    host.file("etc/passwd", passwd);
    host.cgroup_dirs(&manager(1000), &[]).cgroup_dirs(&manager(1001), &[]);
    host
}

fn stopped(name: &str) -> PodmanContainer {
    PodmanContainer::named(name).state(6)
}

/// The targets that a container could be instead.
fn candidates(told: &Value) -> Vec<&str> {
    let all = told["candidates"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    all.iter().map(|c| c.as_str().unwrap_or_else(|| panic!("{told:#}"))).collect()
}

#[test]
fn nobody_hides_anothers_that_was_stopped() {
    let host = host();
    let (hers, roots) = (stopped("aweb"), stopped("rweb"));
    let other = |of: &PodmanContainer, name: &str| stopped(name).id_of(of.id());
    host.podman_containers(GRAPH_ROOT, std::slice::from_ref(&roots));
    host.podman_containers(&store_of("alice"), std::slice::from_ref(&hers));
    host.podman_containers(&store_of("bob"), &[other(&hers, "other"), other(&roots, "others")]);
    for (name, id, user) in [
        ("aweb", hers.id(), json!("alice")),
        ("rweb", roots.id(), Value::Null),
        ("other", hers.id(), json!("bob")),
        ("others", roots.id(), json!("bob")),
    ] {
        ask(&host, &[&format!("container:{name}")]).expect_code(0);
        let told = answer(&host, &format!("container:{name}"));
        let owner = &told["owner"];
        assert_eq!((&owner["name"], &owner["user"]), (&json!(name), &user), "{told:#}");
        assert_eq!((&owner["id"], &owner["state"]), (&json!(id), &json!("exited")), "{told:#}");
    }
    let his = |of: &PodmanContainer, user: &str| format!("container:podman@{user}/{}", of.id());
    let id = |of: &PodmanContainer| format!("container:{}", of.id());
    ask(&host, &[&id(&hers)]).expect_code(4);
    let told = answer(&host, &id(&hers));
    assert_eq!(candidates(&told), [his(&hers, "alice"), his(&hers, "bob")], "{told:#}");
    for (target, name) in [
        (his(&hers, "alice"), "aweb"),
        (his(&hers, "bob"), "other"),
        (his(&roots, "bob"), "others"),
        (id(&roots), "rweb"),
    ] {
        // Whoever's were met before.
        for targets in [&[target.as_str()][..], &["container:other", &target]] {
            let all = ask(&host, &[&["--json"][..], targets].concat()).expect_code(0).json();
            let last = all["answers"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["owner"]["name"], name, "{targets:?} {last:#}");
        }
    }
}

#[test]
fn what_runs_where_her_word_is_not_enough_is_not_gone() {
    let host = host();
    let web = PodmanContainer::named("web").running(4100);
    let cgroup = format!("/machine.slice/libpod-{}.scope", web.id());
    host.cgroup_dirs(&cgroup, &[4100]);
    host.process(4100).nspid(&[4100, 1]).in_cgroup(&cgroup).write();
    host.file(format!("{}/db.sql", store_of("alice")), db_sql(std::slice::from_ref(&web)));
    // It is in a cgroup of root's.
    let told = answer(&host, &format!("container:podman@alice/{}", web.id()));
    let owner = &told["owner"];
    assert_eq!((&owner["id"], &owner["name"]), (&json!(web.id()), &Value::Null), "{told:#}");
    assert_eq!(told["gaps"][0]["class"], "gone", "{told:#}");
}

#[test]
fn thousands_of_one_name_end_with_the_time() {
    let host = host();
    let many: Vec<PodmanContainer> =
        (0..5000).map(|n| stopped("web").id_of(&fake_id(format!("web {n}")))).collect();
    // His state may have one more than once, and a name that is no other's.
    let others = PodmanContainer::named("other").state(6);
    host.podman_containers(GRAPH_ROOT, std::slice::from_ref(&others));
    host.podman_containers(&store_of("bob"), &many);
    for target in ["container:web", "container:podman@bob/web"] {
        let all = ask(&host, &["--timeout", "1", "--json", target]).expect_code(3).json();
        let told = &all["answers"][0];
        assert_eq!(told["status"], "partial", "{told:#}");
        assert_eq!(told["gaps"][0]["class"], "timed-out", "{told:#}");
    }
}

#[test]
fn a_name_in_a_container_is_nobody_of_the_hosts() {
    let host = host();
    let outer = DockerContainer::named("outer").running(6000);
    host.docker_container(&outer);
    let inner = PodmanContainer::named("inner").running(6100);
    // The host's alice keeps her database elsewhere, with one of that id and one of her own.
    let conf = "[engine]\nstatic_dir = \"$HOME/db\"\n";
    host.file("/home/alice/.config/containers/containers.conf", conf);
    let of_host = [stopped("hosts").id_of(inner.id()), stopped("own")];
    host.file("/home/alice/db/db.sql", db_sql(&of_host));
    // The container's alice has a store with a table.
    let parts = ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "uid_map", "cwd"];
    let scope = format!("/docker/{}", outer.id());
    let own = format!("{scope}{}/user.slice/libpod-{}.scope/container", manager(1005), inner.id());
    let place = "/proc/6000/root";
    host.file(format!("{place}/etc/passwd"), "alice:x:1005:1005::/home/alice:/bin/sh\n");
    let metadata = json!({"image-name": "app:1", "name": "inner", "created-at": 1}).to_string();
    let table = json!([{"id": inner.id(), "names": ["inner"], "metadata": metadata}]);
    let store = format!("{place}{}", store_of("alice"));
    host.file(format!("{store}/overlay-containers/containers.json"), table.to_string());
    // Whoever made these files is alice there.
    let map = format!("1005 {} 1\n", host.at(&store).metadata().unwrap().uid());
    let init = host.process(6000).comm("systemd").nspid(&[6000, 1]).uid_map(map);
    init.in_docker(outer.id()).in_cgroup(&format!("{scope}/init.scope")).only(&parts).write();
    host.cgroup_dirs(&format!("{scope}/init.scope"), &[6000]).cgroup_dirs(&own, &[6100]);
    host.process(6100).ppid(6000).nspid(&[6100, 100, 1]).in_cgroup(&own).write();
    let told = answer(&host, "6100");
    assert_eq!(told["owner"]["name"], "inner", "{told:#}");
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let within: Vec<&Value> = list["containers"].as_array().unwrap().iter().collect();
    let within = within.iter().filter(|o| o["chain"][0]["name"] == "outer" && o["name"] != "outer");
    let names: Vec<&Value> = within.map(|o| &o["name"]).collect();
    assert_eq!(names, ["inner"], "{list:#}");
}

/// A monitor of bob's, which is in no cgroup of a container's, and says that it works in a graph root.
fn monitor(host: &FixtureHost, pid: u32, graph_root: &str) {
    let id = fake_id(graph_root);
    let bundle = format!("{graph_root}/overlay-containers/{id}/userdata");
    let args = ["/usr/bin/conmon", "--api-version", "1", "-c", &id, "-u", &id, "-b", &bundle];
    let end = ["--exit-command", "/usr/bin/podman", "--exit-command-arg", "--root"];
    let root = ["--exit-command-arg", graph_root, "--exit-command-arg", "container"];
    let args = [&args[..], &end, &root].concat();
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    let session = "/user.slice/user-1000.slice/session-1.scope";
    host.process(pid).comm("conmon").uid(1000).cmdline(&args).in_cgroup(session).write();
}

#[test]
fn a_users_monitors_lead_to_no_more_roots_than_are_held_open() {
    let host = host();
    for n in 0..200 {
        let root = format!("/srv/{n}");
        host.podman_containers(&root, &[stopped(&format!("web{n}"))]);
        monitor(&host, 1000 + n, &root);
    }
    let told = answer(&host, "container:web1");
    assert_eq!((&told["status"], &told["owner"]["user"]), (&json!("found"), &json!("bob")));
    let told = answer(&host, "container:web199");
    assert_eq!(told["status"], "partial", "{told:#}");
    let why = told["gaps"][0]["cause"].as_str().unwrap_or_else(|| panic!("{told:#}"));
    assert!(why.contains("monitors of bob"), "{told:#}");
}

#[test]
fn monitors_are_asked_for_what_nothing_else_knows() {
    let host = host();
    let web = stopped("web");
    host.podman_containers(&store_of("bob"), std::slice::from_ref(&web));
    let moved = [stopped("web").id_of(&fake_id("moved")), stopped("moved")];
    host.podman_containers("/srv/b", &moved);
    host.dir("/srv/b/volumes/x/_data");
    monitor(&host, 1000, "/srv/b");
    for target in ["container:web", "container:podman@bob/web"] {
        assert_eq!(answer(&host, target)["owner"]["id"], web.id(), "{target}");
    }
    assert_eq!(answer(&host, "container:moved")["owner"]["user"], "bob");
    let told = answer(&host, "volume:x");
    assert_eq!(told["file"]["host"], "/srv/b/volumes/x/_data", "{told:#}");
    ask(&host, &["volume:none"]).expect_code(1);
}

#[test]
fn an_engines_root_in_a_volume_is_its_containers_work() {
    let host = host();
    host.podman_containers(GRAPH_ROOT, &[stopped("web")]);
    let inner = DockerContainer::named("web").with_id(fake_id("fake")).exited(0);
    for root in [format!("{GRAPH_ROOT}/volumes/x/_data"), "/srv/fake".to_owned()] {
        host.docker_container(&inner.clone().data_root(&root));
        host.dir(format!("{root}/image")).file(format!("{root}/volumes/y/_data/f"), "");
        let file = format!("{root}/volumes/y/_data/f");
        let all = ask(&host, &["--json", &file, "container:web"]).expect_code(0).json();
        let web = &all["answers"][1];
        let card = ask(&host, &[&file]).expect_code(0).stdout_str();
        let name = if root == "/srv/fake" { "y" } else { "x" };
        let told = |line: &str| line.split_whitespace().collect::<Vec<_>>() == ["volume", name];
        assert!(card.lines().any(told), "{card}");
        // What only a path led to has no say in names.
        assert_eq!(web["owner"]["runtime"], "podman", "{web:#}");
    }
}

/// Alice's container in a cgroup of its bare id, as a runtime makes it where nothing is delegated: `maker` made
/// it, `by` runs the monitor above, which watches over `watched`.
fn undelegated(web: &PodmanContainer, maker: u32, by: u32, watched: &str) -> FixtureHost {
    let host = host();
    host.file(format!("{}/db.sql", store_of("alice")), db_sql(std::slice::from_ref(web)));
    let cgroup = format!("{}/user.slice/{}", manager(1001), web.id());
    host.cgroup_dirs(&cgroup, &[4100]);
    let look = json!({"mode": 0o40755, "uid": maker, "gid": maker, "size": 0, "mtime": 0,
        "device": [0, 30], "ino": 1, "nlink": 2, "rdev": [0, 0]});
    let entries = [json!({"path": format!("sys/fs/cgroup{cgroup}"), "look": look})];
    let manifest = json!({"schema": "whose/1", "entries": entries});
    host.file(".whose/manifest.json", manifest.to_string());
    let clocks = json!({"since_boot": 1_000_000_000_000_u64,
        "boot_moment": 1_704_164_645_000_000_000_u64, "ticks_per_second": 100, "page_size": 4096});
    let facts = json!({"schema": "whose/1", "clocks": clocks, "euid": 0, "binaries": []});
    host.file(".whose/facts.json", facts.to_string());
    let bundle = format!("{}/overlay-containers/{watched}/userdata", store_of("alice"));
    let args = ["/usr/bin/conmon", "-c", watched, "-u", watched, "-b", &bundle];
    let args = args.map(str::as_bytes);
    let session = "/user.slice/user-1001.slice/session-1.scope";
    host.process(4000).comm("conmon").uid(by).cmdline(&args).in_cgroup(session).write();
    let init = host.process(4100).ppid(4000).uid(1001).nspid(&[4100, 1]);
    init.in_cgroup(&cgroup).write();
    host
}

#[test]
fn a_cgroup_of_a_bare_id_is_whose_monitor_and_store_say() {
    let web = PodmanContainer::named("web").running(4100).cgroups("cgroupfs", "enabled", "");
    let told = answer(&undelegated(&web, 1001, 1001, web.id()), "4100");
    let owner = &told["owner"];
    assert_eq!((&owner["runtime"], &owner["id"]), (&json!("podman"), &json!(web.id())), "{told:#}");
    assert_eq!((&owner["name"], &owner["user"]), (&json!("web"), &json!("alice")), "{told:#}");
    assert_eq!((&owner["state"], &owner["init_pid"]), (&json!("running"), &json!(4100)));
    let sources: Vec<&Value> =
        told["evidence"].as_array().unwrap().iter().map(|e| &e["source"]).collect();
    assert!(sources.contains(&&json!("cgroup")) && sources.contains(&&json!("ancestry")));
    let pids = ask(&undelegated(&web, 1001, 1001, web.id()), &["pids", "web"]).expect_code(0);
    assert_eq!(pids.pids(), [4100]);
    // Somebody else made the cgroup, or runs the monitor, or it watches over another one.
    let other = fake_id("other");
    for (maker, by, watched) in [
        (1000, 1001, web.id()),
        (0, 1001, web.id()),
        (1001, 1000, web.id()),
        (1001, 1001, other.as_str()),
    ] {
        let told = answer(&undelegated(&web, maker, by, watched), "4100");
        let owner = &told["owner"];
        assert_eq!((&owner["kind"], &owner["name"]), (&json!("unknown"), &Value::Null), "{told:#}");
    }
}
