//! containerd's containers, by its files: ctr, nerdctl, CRI, moved directories, equal names.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, DockerContainer, FixtureHost, Record, TaskBundle, fake_id,
};

use crate::support::{answer, ask};

const SOCKET: &str = "/run/containerd/containerd.sock";
const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
const POD: (&str, &str, &str) = ("shop", "demo-abc", UID);

fn host(layout: CgroupLayout) -> FixtureHost {
    let host = FixtureHost::with_layout(layout);
    host.boot();
    host
}

/// A bundle, its shim, and its one process in this cgroup.
fn run(host: &FixtureHost, bundle: &TaskBundle, pid: u32, cgroup: &str, address: &str) {
    host.task_bundle(bundle).shim(pid + 1, bundle, address).task(pid, pid + 1, cgroup);
    host.cgroup_dirs(cgroup, &[pid]);
}

fn row<'l>(list: &'l Value, id: &str) -> &'l Value {
    let rows = list["containers"].as_array().unwrap();
    rows.iter().find(|r| r["id"] == *id).unwrap_or_else(|| panic!("no {id} in {list:#}"))
}

fn owner_column(host: &FixtureHost, pid: u32) -> String {
    let pid = pid.to_string();
    let run = ask(host, &["ps", "-o", "owner", "--no-headers", &pid]);
    run.stdout_str().trim().to_owned()
}

#[test]
fn ctr_names_its_containers_freely() {
    for layout in [CgroupLayout::V2, CgroupLayout::V1, CgroupLayout::Hybrid] {
        let host = host(layout);
        run(&host, &TaskBundle::new("default", "lab-ctr", 4761), 4761, "/default/lab-ctr", SOCKET);
        let card = answer(&host, "4761");
        let owner = &card["owner"];
        assert_eq!(
            [&owner["runtime"], &owner["kind"], &owner["id"], &owner["name"], &owner["state"]],
            ["containerd", "container", "lab-ctr", "lab-ctr", "running"],
            "{layout:?} {card:#}"
        );
        assert_eq!(owner["init_pid"], 4761, "{layout:?}");
        assert_eq!(card["process"]["role"], "init");
        assert_eq!(owner_column(&host, 4761), "lab-ctr");
        assert_eq!(ask(&host, &["pids", "lab-ctr"]).expect_code(0).pids(), [4761]);
        let typed = "container:containerd/default/lab-ctr";
        assert_eq!(ask(&host, &["pids", typed]).expect_code(0).pids(), [4761]);
        assert_eq!(ask(&host, &["-q", "lab-ctr"]).expect_code(0).stdout_str(), "lab-ctr\n");
        ask(&host, &["pids", "lab"]).expect_code(1);
        let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
        assert_eq!(row(&list, "lab-ctr")["pids"], serde_json::json!([4761]));
        assert_eq!(list["containers"].as_array().unwrap().len(), 1, "{list:#}");
        assert_eq!(answer(&host, "4762")["process"]["role"], "plumbing");
        assert_eq!(answer(&host, "4762")["process"]["serves"], "lab-ctr");
    }
}

#[test]
fn what_no_state_knows_is_no_container_of_containerds() {
    let host = host(CgroupLayout::V2);
    run(&host, &TaskBundle::new("default", "x", 4761), 4761, "/default/x", SOCKET);
    // The same shape, and a bundle that asked for another cgroup.
    host.task(4800, 1, "/default/y").task(4810, 1, "/other/x");
    run(&host, &TaskBundle::new("default", "z", 1).cgroups_path("/a"), 4820, "/default/z", SOCKET);
    for pid in ["4800", "4810", "4820"] {
        let card = answer(&host, pid);
        assert_eq!(card["owner"]["kind"], "unknown", "{pid} {card:#}");
    }
}

#[test]
fn a_path_that_only_ends_like_a_containers_is_not_its() {
    let host = host(CgroupLayout::V2);
    run(&host, &TaskBundle::new("default", "x", 4761), 4761, "/default/x", SOCKET);
    let evil = TaskBundle::new("default", "evil", 4800);
    run(&host, &evil, 4800, "/default/evil", SOCKET);
    // A user in his own cgroups, a service that has its own, a container that makes cgroups in its.
    let users = "/user.slice/user-1000.slice/user@1000.service/default/x";
    let service = "/system.slice/nginx.service/default/x";
    host.process(4820).comm("sh").uid(1000).in_cgroup(users).write();
    host.process(4821).comm("sh").uid(33).in_cgroup(service).write();
    host.task(4822, 4801, "/default/evil/default/x");
    for (cgroup, pid) in [(users, 4820), (service, 4821), ("/default/evil/default/x", 4822)] {
        host.cgroup_dirs(cgroup, &[pid]);
    }
    let (user, service) = (answer(&host, "4820"), answer(&host, "4821"));
    assert_eq!([&user["owner"]["kind"], &service["owner"]["kind"]], ["unit", "unit"], "{user:#}");
    ask(&host, &["--in-container", "4820"]).expect_code(5);
    let inner = answer(&host, "4822");
    assert_eq!(inner["owner"]["id"], "evil", "{inner:#}");
    assert_eq!(ask(&host, &["pids", "x"]).expect_code(0).pids(), [4761]);
    // Nor when the state's word for the first process is old and another has its PID.
    host.task_bundle(&TaskBundle::new("default", "gone", 4830));
    let his = "/user.slice/user-1000.slice/user@1000.service/default/gone";
    host.process(4830).comm("sh").uid(1000).in_cgroup(his).write();
    host.cgroup_dirs(his, &[4830]);
    ask(&host, &["pids", "gone"]).expect_code(1);
    // From within a cgroup namespace the root lies further up.
    host.task_bundle(&TaskBundle::new("default", "far", 4840));
    host.task(4840, 1, "/../../default/far");
    assert_eq!(answer(&host, "4840")["owner"]["id"], "far");
}

#[test]
fn a_cgroup_of_any_name_is_told_by_the_shim() {
    let host = host(CgroupLayout::Hybrid);
    let bundle = TaskBundle::new("default", "lab-cg", 4761).cgroups_path("/anything");
    run(&host, &bundle, 4761, "/anything", SOCKET);
    let card = answer(&host, "4761");
    assert_eq!(card["owner"]["id"], "lab-cg", "{card:#}");
    assert_eq!([&card["owner"]["state"], &card["owner"]["runtime"]], ["running", "containerd"]);
    assert_eq!(card["owner"]["init_pid"], 4761);
    assert_eq!(card["evidence"][0]["source"], "ancestry", "{card:#}");
    assert_eq!(ask(&host, &["pids", "lab-cg"]).expect_code(0).pids(), [4761]);
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(row(&list, "lab-cg")["processes"], 1);
    assert_eq!(list["containers"].as_array().unwrap().len(), 1, "{list:#}");
}

#[test]
fn nerdctl_gives_names() {
    let host = host(CgroupLayout::V2);
    let id = fake_id("n");
    let scope = format!("/system.slice/nerdctl-{id}.scope");
    let bundle = TaskBundle::new("default", &id, 4761)
        .cgroups_path(&format!(":nerdctl:{id}"))
        .annotation("nerdctl/name", "front")
        .annotation("nerdctl/log-uri", "file:///var/log/front.log");
    run(&host, &bundle, 4761, &scope, SOCKET);
    // One with the cgroupfs driver in a namespace that says nothing.
    let other = fake_id("o");
    let bundle = TaskBundle::new("lab", &other, 4800).annotation("nerdctl/name", "back");
    run(&host, &bundle, 4800, &format!("/lab/{other}"), SOCKET);
    for (name, id, pid) in [("front", &id, 4761_u32), ("back", &other, 4800)] {
        let card = answer(&host, &pid.to_string());
        assert_eq!(card["owner"]["name"], name, "{card:#}");
        assert_eq!(card["owner"]["runtime"], "containerd");
        assert_eq!(&card["owner"]["id"], id);
        assert_eq!(ask(&host, &["pids", name]).expect_code(0).pids(), [pid]);
        assert_eq!(ask(&host, &["pids", &id[..12]]).expect_code(0).pids(), [pid]);
    }
    assert_eq!(answer(&host, "front")["owner"]["log"], "/var/log/front.log");
    // The bundle names none, and there is no database to say so for sure.
    assert_eq!(answer(&host, "back")["owner"].get("log"), Some(&Value::Null));
    host.records(&[Record::new("default", &id), Record::new("lab", &other)]);
    assert!(answer(&host, "back")["owner"].get("log").is_none());
}

/// A sandbox (4700) and a container (4710) of a pod below one shim, in the cgroups that `of` gives.
fn pod(host: &FixtureHost, trees: (&str, &str), path: fn(&str) -> String, of: fn(&str) -> String) {
    let (sandbox, app) = (fake_id("sandbox"), fake_id("app"));
    let socket = format!("{}/containerd.sock", trees.0);
    let pause = TaskBundle::sandbox(&sandbox, 4700, POD).cgroups_path(&path(&sandbox));
    let pause = pause.trees(trees.0, trees.1);
    let web = TaskBundle::in_pod(&app, 4710, POD, &sandbox, "web").cgroups_path(&path(&app));
    let web = web.trees(trees.0, trees.1);
    host.task_bundle(&pause).task_bundle(&web).shim(4690, &pause, &socket);
    for (pid, id) in [(4700, &sandbox), (4710, &app)] {
        host.task(pid, 4690, &of(id)).cgroup_dirs(&of(id), &[pid]);
    }
}

fn expect_pod(host: &FixtureHost) {
    let (sandbox, app) = (fake_id("sandbox"), fake_id("app"));
    let card = answer(host, "4710");
    let owner = &card["owner"];
    assert_eq!(
        [&owner["runtime"], &owner["kind"], &owner["name"], &owner["image"], &owner["state"]],
        ["containerd", "container", "web", "docker.io/library/app:1", "running"],
        "{card:#}"
    );
    let pod = &owner["pod"];
    assert_eq!(
        [&pod["namespace"], &pod["name"], &pod["uid"], &pod["container"]],
        ["shop", "demo-abc", UID, "web"]
    );
    assert_eq!(owner["engine_state"], "CONTAINER_RUNNING");
    assert_eq!(owner["created"], "2025-11-23T17:30:21.333Z");
    assert_eq!(owner["started"], "2025-11-23T17:30:22.000Z");
    assert_eq!(owner["init_pid"], 4710);
    assert_eq!(owner_column(host, 4710), "shop/demo-abc/web");
    let pause = answer(host, "4700");
    assert_eq!(pause["owner"]["kind"], "sandbox", "{pause:#}");
    assert_eq!([&pause["owner"]["id"], &pause["process"]["role"]], [sandbox.as_str(), "sandbox"]);
    assert!(pause["owner"]["pod"].get("container").is_none());
    assert_eq!(owner_column(host, 4700), "shop/demo-abc");
    assert_eq!(ask(host, &["pids", "container:containerd/web"]).expect_code(0).pids(), [4710]);
    assert_eq!(ask(host, &["pids", &app]).expect_code(0).pids(), [4710]);
    assert_eq!(ask(host, &["pids", &sandbox]).expect_code(0).pids(), [4700]);
    // As crictl has it: sandboxes are no containers.
    let list = ask(host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"].as_array().unwrap().len(), 1, "{list:#}");
    assert_eq!(row(&list, &app)["name"], "web");
    let all = ask(host, &["ls", "-a", "--json"]).expect_code(0).json();
    assert_eq!(row(&all, &sandbox)["kind"], "sandbox");
    assert_eq!(answer(host, "4690")["process"]["serves"], sandbox);
}

const USUAL: (&str, &str) = ("/run/containerd", "/var/lib/containerd");

#[test]
fn pods_with_the_cgroupfs_driver() {
    for layout in [CgroupLayout::V1, CgroupLayout::Hybrid, CgroupLayout::V2] {
        let host = host(layout);
        let path = |id: &str| format!("/kubepods/burstable/pod{UID}/{id}");
        pod(&host, USUAL, path, path);
        expect_pod(&host);
    }
}

#[test]
fn pods_with_the_systemd_driver() {
    let host = host(CgroupLayout::V2);
    let slice = || format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    pod(
        &host,
        USUAL,
        |id| format!("kubepods-burstable-pod{}.slice:cri-containerd:{id}", UID.replace('-', "_")),
        |id| {
            let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{id}.scope")
        },
    );
    expect_pod(&host);
    assert!(answer(&host, "4710")["process"]["cgroup"].as_str().unwrap().contains(&slice()));
}

#[test]
fn pods_whose_drivers_do_not_match() {
    let host = host(CgroupLayout::V2);
    let path = |id: &str| {
        format!("kubepods-burstable-pod{}.slice:cri-containerd:{id}", UID.replace('-', "_"))
    };
    pod(&host, USUAL, path, |id| {
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        format!("/system.slice/containerd.service/{slice}:cri-containerd:{id}")
    });
    expect_pod(&host);
}

#[test]
fn pods_of_k3s_and_of_moved_directories() {
    let path = |id: &str| format!("/kubepods/burstable/pod{UID}/{id}");
    let k3s = ("/run/k3s/containerd", "/var/lib/rancher/k3s/agent/containerd");
    for trees in [k3s, ("/run/k3s/containerd", "/data/k3s/agent/containerd"), ("/s/run", "/s/lib")]
    {
        let host = host(CgroupLayout::V2);
        pod(&host, trees, path, path);
        if trees.0 == "/s/run" {
            // Known by the shim alone, then by the configuration too.
            expect_pod(&host);
            host.file("etc/containerd/config.toml", "version = 2\nstate = \"/s/run\"\n");
        }
        expect_pod(&host);
    }
}

#[test]
fn a_moved_state_of_ctrs_is_found_by_the_shim() {
    let host = host(CgroupLayout::V2);
    let bundle = TaskBundle::new("default", "far", 4761).trees("/lab/c/state", "/lab/c/root");
    run(&host, &bundle, 4761, "/default/far", "/lab/c/containerd.sock");
    let card = answer(&host, "4761");
    assert_eq!(card["owner"]["id"], "far", "{card:#}");
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(row(&list, "far")["processes"], 1);
    assert_eq!(ask(&host, &["pids", "far"]).expect_code(0).pids(), [4761]);
}

#[test]
fn what_may_not_be_read_is_a_gap_and_no_other_container() {
    let host = host(CgroupLayout::V2);
    let bundle = TaskBundle::new("default", "x", 4761);
    run(&host, &bundle, 4761, "/default/x", SOCKET);
    host.remove(format!("{}/config.json", bundle.dir()));
    host.file(format!("{}/config.json", bundle.dir()), "{\"linux\":");
    let card = answer(&host, "4761");
    assert_eq!(card["owner"]["id"], "x", "{card:#}");
    assert_eq!(card["owner"]["kind"], "container");
    assert!(card["owner"].get("image").is_none_or(Value::is_null));
    let gaps = card["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|g| g["class"] == "malformed"), "{card:#}");
}

#[test]
fn one_name_in_two_namespaces() {
    let host = host(CgroupLayout::V2);
    let one = TaskBundle::new("default", "twin", 4761);
    let two = TaskBundle::new("other", "twin", 4800).annotation("nerdctl/name", "second");
    run(&host, &one, 4761, "/default/twin", SOCKET);
    run(&host, &two, 4800, "/other/twin", SOCKET);
    assert_eq!(answer(&host, "4761")["owner"]["name"], "twin");
    assert_eq!(answer(&host, "4800")["owner"]["name"], "second");
    let run = ask(&host, &["pids", "twin"]).expect_code(4);
    assert_eq!(run.stdout_str(), "");
    let card = answer(&host, "twin");
    let candidates = card["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2, "{card:#}");
    let mut pids: Vec<u32> = Vec::new();
    for candidate in candidates {
        pids.extend(ask(&host, &["pids", candidate.as_str().unwrap()]).expect_code(0).pids());
    }
    pids.sort_unstable();
    assert_eq!(pids, [4761, 4800]);
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"].as_array().unwrap().len(), 2, "{list:#}");
}

#[test]
fn one_name_in_two_namespaces_without_processes() {
    let host = host(CgroupLayout::V2);
    host.task_bundle(&TaskBundle::new("default", "twin", 1).without_pid());
    let two = TaskBundle::new("other", "twin", 1).annotation("nerdctl/name", "second");
    host.task_bundle(&two.without_pid());
    let card = answer(&host, "twin");
    let candidates = ["container:containerd/default/twin", "container:containerd/other/twin"];
    assert_eq!(card["candidates"], serde_json::json!(candidates), "{card:#}");
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let rows = list["containers"].as_array().unwrap();
    let mut names: Vec<&str> = rows.iter().filter_map(|r| r["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["second", "twin"], "{list:#}");
}

#[test]
fn a_long_name_is_chosen_all_the_same() {
    let host = host(CgroupLayout::V2);
    let name = "z".repeat(64);
    run(&host, &TaskBundle::new("default", &name, 4761), 4761, &format!("/default/{name}"), SOCKET);
    let users = format!("/user.slice/user-1000.slice/user@1000.service/{name}");
    host.task_bundle(&TaskBundle::new("other", &name, 4800)).cgroup_dirs(&users, &[4800]);
    host.process(4800).comm("sh").uid(1000).in_cgroup(&users).write();
    let typed = format!("container:containerd/other/{name}");
    ask(&host, &["pids", &typed]).expect_code(1);
    let typed = format!("container:containerd/default/{name}");
    assert_eq!(ask(&host, &["pids", &typed]).expect_code(0).pids(), [4761]);
}

#[test]
fn one_name_of_two_containerds() {
    let host = host(CgroupLayout::V2);
    let one = TaskBundle::new("default", "twin", 4761).annotation("nerdctl/name", "first");
    let two = TaskBundle::new("default", "twin", 4800)
        .annotation("nerdctl/name", "second")
        .trees("/lab/c/state", "/lab/c/root");
    run(&host, &one, 4761, "/default/twin", SOCKET);
    run(&host, &two, 4800, "/default/twin", "/lab/c/containerd.sock");
    host.cgroup_dirs("/default/twin", &[4761, 4800]);
    assert_eq!(answer(&host, "4761")["owner"]["name"], "first");
    assert_eq!(answer(&host, "4800")["owner"]["name"], "second");
    // With both known a bare name can't be told; nothing is guessed.
    host.file("etc/containerd/config.toml", "root = \"/lab/c/root\"\nstate = \"/lab/c/state\"\n");
    let run = ask(&host, &["pids", "container:containerd/default/twin"]).expect_code(3);
    assert_eq!(run.stdout_str(), "", "{}", run.stderr_str());
}

#[test]
fn dockers_namespaces_are_dockers() {
    let host = host(CgroupLayout::V2);
    let web = DockerContainer::named("web").driver("overlayfs").running(4761);
    host.docker_container(&web);
    let bundle = TaskBundle::new("moby", web.id(), 4761)
        .cgroups_path(&format!("system.slice:docker:{}", web.id()));
    for trees in [USUAL, ("/run/docker/containerd/daemon", "/var/lib/docker/containerd/daemon")] {
        host.task_bundle(&bundle.clone().trees(trees.0, trees.1));
    }
    let scope = format!("/system.slice/docker-{}.scope", web.id());
    host.shim(4762, &bundle, SOCKET).task(4761, 4762, &scope).cgroup_dirs(&scope, &[4761]);
    let card = answer(&host, "4761");
    assert_eq!([&card["owner"]["runtime"], &card["owner"]["name"]], ["docker", "web"], "{card:#}");
    assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [4761]);
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"].as_array().unwrap().len(), 1, "{list:#}");
    assert_eq!(row(&list, web.id())["runtime"], "docker");
}

#[test]
fn steps_of_a_build_are_buildkits() {
    let host = host(CgroupLayout::V2);
    let step = "wzswqs8aincjb63xfdhov1b6r";
    run(
        &host,
        &TaskBundle::new("buildkit", step, 4761),
        4761,
        &format!("/buildkit/{step}"),
        SOCKET,
    );
    let card = answer(&host, "4761");
    assert_eq!([&card["owner"]["runtime"], &card["owner"]["kind"]], ["buildkit", "job"]);
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"], serde_json::json!([]), "{list:#}");
}

#[test]
fn states_without_a_process() {
    let host = host(CgroupLayout::V2);
    host.task_bundle(&TaskBundle::new("default", "half", 1).without_pid());
    host.task_bundle(&TaskBundle::new("default", "stale", 3_999_999));
    let id = fake_id("ended");
    let ended = TaskBundle::in_pod(&id, 77, POD, &fake_id("s"), "web").status(1_000_000, 2, 3);
    host.task_bundle(&ended.without_task());
    for (name, state) in [("half", "created"), ("stale", "exited"), (id.as_str(), "exited")] {
        let card = answer(&host, name);
        assert_eq!(card["owner"]["state"], state, "{card:#}");
        assert!(card["owner"].get("init_pid").is_none(), "{card:#}");
        ask(&host, &["pids", name]).expect_code(1);
    }
    assert_eq!(answer(&host, &id)["owner"]["engine_state"], "CONTAINER_EXITED");
    assert_eq!(answer(&host, &id)["owner"]["created"], "1970-01-01T00:00:00.001Z");
    assert_eq!(ask(&host, &["ls", "--json"]).json()["containers"], serde_json::json!([]));
    let all = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    assert_eq!(all["containers"].as_array().unwrap().len(), 3, "{all:#}");
}

#[test]
fn a_written_pid_of_another_process_is_not_init() {
    let host = host(CgroupLayout::V2);
    // The id is in many a path.
    let bundle = TaskBundle::new("default", "e", 900);
    host.task_bundle(&bundle).shim(4762, &bundle, SOCKET).task(4761, 4762, "/default/e");
    host.cgroup_dirs("/default/e", &[4761]);
    host.process(900).in_cgroup("/system.slice/nginx.service").write();
    let card = answer(&host, "4761");
    assert_eq!(card["owner"]["id"], "e", "{card:#}");
    assert!(card["owner"].get("init_pid").is_none(), "{card:#}");
    assert_eq!(ask(&host, &["pids", "e"]).expect_code(0).pids(), [4761]);
}

#[test]
fn bundles_that_are_no_such_thing() {
    let host = host(CgroupLayout::V2);
    let huge = TaskBundle::new("default", "huge", 4761);
    run(&host, &huge, 4761, "/default/huge", SOCKET);
    host.remove(format!("{}/config.json", huge.dir()));
    host.sparse(format!("{}/config.json", huge.dir()), 200 << 20);
    let fifo = TaskBundle::new("default", "fifo", 4800);
    run(&host, &fifo, 4800, "/default/fifo", SOCKET);
    host.remove(format!("{}/config.json", fifo.dir())).fifo(format!("{}/config.json", fifo.dir()));
    for pid in ["4761", "4800"] {
        let card = answer(&host, pid);
        assert_ne!(card["owner"]["kind"], "host", "{card:#}");
        assert!(card["owner"].get("name").is_none_or(Value::is_null), "{card:#}");
    }
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let classes: Vec<&str> =
        list["gaps"].as_array().unwrap().iter().filter_map(|g| g["class"].as_str()).collect();
    assert!(classes.contains(&"malformed"), "{list:#}");
    // Being deleted, and gone between two reads.
    host.file("run/containerd/io.containerd.runtime.v2.task/default/.old/config.json", "{}");
    host.dir("run/containerd/io.containerd.runtime.v2.task/default/gone");
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let ids: Vec<&Value> =
        list["containers"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert!(!ids.iter().any(|id| **id == ".old" || **id == "gone"), "{ids:?}");
}

#[test]
fn a_configuration_of_a_newer_version() {
    let host = host(CgroupLayout::V2);
    let id = fake_id("newer");
    let bundle = TaskBundle::in_pod(&id, 4761, POD, &fake_id("s"), "web")
        .cgroups_path(&format!("/kubepods/pod{UID}/{id}"));
    run(&host, &bundle, 4761, &format!("/kubepods/pod{UID}/{id}"), SOCKET);
    let file = format!("{}/config.json", bundle.dir());
    // More than there is, and other shapes of what is not used.
    let mut config = bundle.config();
    config["ociVersion"] = json!({"major": 9});
    config["process"] = json!(["no", "object"]);
    config["linux"]["namespaces"] = json!({"pid": true});
    config["linux"]["schedulers"] = json!([{"policy": "new"}, null, 1.5e300]);
    config["machine"] = json!({"deep": [[[[{}]]]]});
    host.file(&file, config.to_string());
    let card = answer(&host, "4761");
    let owner = &card["owner"];
    assert_eq!([&owner["name"], &owner["pod"]["name"]], ["web", "demo-abc"], "{card:#}");
    assert_eq!(owner["pod"]["uid"], UID);
    // Other shapes of what is used: the cgroup still tells whose it is, and the gap why no more.
    for (pointer, value) in [
        ("/annotations", json!([["io.kubernetes.cri.container-name", "evil"]])),
        ("/linux/cgroupsPath", json!(["/kubepods"])),
        ("/linux", json!("v2")),
    ] {
        let mut config = bundle.config();
        *config.pointer_mut(pointer).unwrap() = value;
        host.file(&file, config.to_string());
        let card = answer(&host, "4761");
        let owner = &card["owner"];
        assert_eq!([&owner["id"], &owner["runtime"]], [id.as_str(), "containerd"], "{card:#}");
        assert_ne!(owner.get("name"), Some(&json!("evil")), "{card:#}");
        let gaps = card["gaps"].as_array().unwrap();
        let ours = |g: &&Value| g["class"] == "malformed" && g.to_string().contains("config.json");
        assert!(gaps.iter().any(|g| ours(&g)), "{pointer}: {card:#}");
    }
}

#[test]
fn state_that_was_left_behind_does_not_describe_what_runs() {
    let host = host(CgroupLayout::V2);
    let id = fake_id("copied");
    let cgroup = format!("/default/{id}");
    let old = TaskBundle::new("default", &id, 4700).annotation("nerdctl/name", "before");
    let new = TaskBundle::new("default", &id, 4800)
        .annotation("nerdctl/name", "now")
        .trees("/lab/c/state", "/lab/c/root");
    host.task_bundle(&old.without_pid());
    run(&host, &new, 4800, &cgroup, "/lab/c/containerd.sock");
    let card = answer(&host, "4800");
    assert_eq!(card["owner"]["name"], "now", "{card:#}");
    assert_eq!(card["owner"]["init_pid"], 4800);
    assert_eq!(answer(&host, &id)["owner"]["name"], "now");
    assert_eq!(ask(&host, &["pids", &id]).expect_code(0).pids(), [4800]);
    assert_eq!(owner_column(&host, 4800), "now");
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    assert_eq!(row(&list, &id)["name"], "now", "{list:#}");
}

#[test]
fn annotations_are_made_safe_for_a_terminal() {
    let host = host(CgroupLayout::V2);
    let id = fake_id("evil");
    let bundle =
        TaskBundle::new("default", &id, 4761).annotation("nerdctl/name", "a\u{1b}[31m\nb\u{202e}");
    run(&host, &bundle, 4761, &format!("/default/{id}"), SOCKET);
    for args in [vec!["4761"], vec!["ls"], vec!["ps"]] {
        let text = ask(&host, &args).expect_code(0).stdout_str().to_owned();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
        assert!(!text.contains("\nb"), "{text:?}");
    }
    assert_eq!(answer(&host, "4761")["owner"]["name"], "a\u{1b}[31m\nb\u{202e}");
    // A client may escape what need not be.
    let text = bundle.annotation("nerdctl/name", "front").config().to_string();
    let text = text.replace("front", "\\u0066ront");
    host.file(
        format!("run/containerd/io.containerd.runtime.v2.task/default/{id}/config.json"),
        text,
    );
    assert_eq!(ask(&host, &["-q", "front"]).expect_code(0).stdout_str(), format!("{id}\n"));
}

/// What a fixture process of a container has, without the link in whose place its root is saved.
const WITHOUT_ROOT: [&str; 8] =
    ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "uid_map", "cwd"];

#[test]
fn pods_of_a_node_that_is_a_container() {
    let host = host(CgroupLayout::V2);
    let node = crate::support::container(&host, "node", 5000);
    let (sandbox, app) = (fake_id("sandbox"), fake_id("app"));
    let path = |id: &str| format!("/kubelet/kubepods/burstable/pod{UID}/{id}");
    let inside = ("/proc/5020/root/run/containerd", "/proc/5020/root/var/lib/containerd");
    let web = TaskBundle::in_pod(&app, 60, POD, &sandbox, "web").cgroups_path(&path(&app));
    let pause = TaskBundle::sandbox(&sandbox, 50, POD).cgroups_path(&path(&sandbox));
    for bundle in [&web, &pause] {
        host.task_bundle(&bundle.clone().trees(inside.0, inside.1));
    }
    let shim = host.process(5020).comm("containerd-shim").ppid(5000).in_docker(node.id());
    let args: [&[u8]; 7] =
        [b"shim", b"-namespace", b"k8s.io", b"-id", sandbox.as_bytes(), b"-address", b"/x.sock"];
    shim.nspid(&[5020, 30]).cmdline(&args).cwd(pause.dir()).only(&WITHOUT_ROOT).write();
    for (pid, own, id) in [(5050_u32, 50, &sandbox), (5060, 60, &app)] {
        let cgroup = format!("/docker/{}{}", node.id(), path(id));
        host.process(pid).ppid(5020).nspid(&[pid, own, 1]).in_cgroup(&cgroup).write();
        host.cgroup_dir(&cgroup, &[pid]);
    }
    let card = answer(&host, "5060");
    let owner = &card["owner"];
    assert_eq!([&owner["runtime"], &owner["name"]], ["containerd", "web"], "{card:#}");
    assert_eq!([&owner["pod"]["name"], &owner["pod"]["uid"]], ["demo-abc", UID]);
    assert_eq!(owner["init_pid"], 5060, "{card:#}");
    let chain = card["chain"].as_array().unwrap();
    assert_eq!(chain[0]["name"], "node", "{card:#}");
    assert_eq!(answer(&host, "5050")["owner"]["kind"], "sandbox");
    assert_eq!(ask(&host, &["pids", &app]).expect_code(0).pids(), [5060]);
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(row(&list, &app)["pod"]["name"], "demo-abc", "{list:#}");
}

#[test]
fn users_have_their_own() {
    let host = host(CgroupLayout::V2);
    let id = fake_id("mine");
    let trees = ("/run/user/1000/containerd", "/home/alice/.local/share/containerd");
    let bundle = TaskBundle::new("default", &id, 7030)
        .cgroups_path(&format!("user.slice:nerdctl:{id}"))
        .annotation("nerdctl/name", "mine")
        .trees(trees.0, trees.1);
    host.task_bundle(&bundle);
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    let scope = format!("{manager}/user.slice/nerdctl-{id}.scope");
    host.process(7030).uid(100_999).nspid(&[7030, 1]).in_cgroup(&scope).write();
    host.cgroup_dir(&scope, &[7030]);
    let card = answer(&host, "7030");
    assert_eq!([&card["owner"]["name"], &card["owner"]["user"]], ["mine", "alice"], "{card:#}");
    assert_eq!(owner_column(&host, 7030), "alice@mine");
    assert_eq!(ask(&host, &["pids", "mine"]).expect_code(0).pids(), [7030]);
    // His files say nothing of what is not his.
    let forged = TaskBundle::new("default", "x", 1).annotation("nerdctl/name", "forged");
    host.task_bundle(&forged.trees(trees.0, trees.1));
    host.task(4761, 1, "/default/x").cgroup_dir("default/x", &[4761]);
    assert_eq!(answer(&host, "4761")["owner"]["kind"], "unknown");
    // Nor when his were met before.
    let all = ask(&host, &["--json", "mine", "4761"]).json();
    assert_eq!(all["answers"][0]["owner"]["user"], "alice", "{all:#}");
    assert_eq!(all["answers"][1]["owner"]["kind"], "unknown", "{all:#}");
}

#[test]
fn imports_may_be_patterns() {
    let host = host(CgroupLayout::V2);
    let bundle = TaskBundle::new("default", "far", 4761).trees("/lab/state", "/lab/root");
    host.task_bundle(&bundle.without_pid());
    ask(&host, &["far"]).expect_code(1);
    host.file("etc/containerd/config.toml", "imports = [\"conf.d/*.toml\"]\nroot = \"/none\"\n");
    host.file("etc/containerd/conf.d/a.toml", "root = \"/other\"\n");
    host.file("etc/containerd/conf.d/b.toml", "root = \"/lab/root\"\nstate = \"/lab/state\"\n");
    host.file("etc/containerd/conf.d/c.toml.old", "root = \"/none\"\nstate = \"/none\"\n");
    assert_eq!(answer(&host, "far")["owner"]["id"], "far");
}

#[test]
fn a_name_inside_a_container_needs_its_cgroup_too() {
    let host = host(CgroupLayout::V2);
    let node = crate::support::container(&host, "node", 5000);
    let inside = ("/proc/5020/root/run/containerd", "/proc/5020/root/var/lib/containerd");
    let own = TaskBundle::new("default", "x", 60);
    let moved = TaskBundle::new("default", "z", 70).cgroups_path("/a");
    for bundle in [&own, &moved] {
        host.task_bundle(&bundle.clone().trees(inside.0, inside.1));
    }
    let shim = host.process(5020).comm("containerd-shim").ppid(5000).in_docker(node.id());
    let args: [&[u8]; 7] =
        [b"shim", b"-namespace", b"default", b"-id", b"x", b"-address", b"/x.sock"];
    shim.nspid(&[5020, 30]).cmdline(&args).cwd(own.dir()).only(&WITHOUT_ROOT).write();
    for (pid, inner, path) in [(5060_u32, 60, "/default/x"), (5070, 70, "/default/z")] {
        let cgroup = format!("/docker/{}{path}", node.id());
        host.process(pid).ppid(5020).nspid(&[pid, inner, 1]).in_cgroup(&cgroup).write();
        host.cgroup_dir(&cgroup, &[pid]);
    }
    assert_eq!(answer(&host, "5060")["owner"]["id"], "x");
    let card = answer(&host, "5070");
    assert_eq!(card["owner"]["name"], "node", "{card:#}");
}

#[test]
fn a_users_engine_has_no_say_in_what_is_the_hosts() {
    let host = host(CgroupLayout::V2);
    let (bare, named, docker) = (fake_id("bare"), fake_id("named"), fake_id("docker"));
    host.dir("run/user/1000/containerd/io.containerd.runtime.v2.task");
    host.file("run/user/1000/docker.pid", "77\n");
    let trees = ("/run/user/1000/containerd", "/home/alice/.local/share/containerd");
    for id in [&bare, &named] {
        let forged = TaskBundle::new("k8s.io", id, 9).annotation("nerdctl/name", "forged");
        host.task_bundle(&forged.trees(trees.0, trees.1));
    }
    let forged = DockerContainer::named("forged").with_id(docker.as_str());
    host.docker_container(&forged.data_root("/home/alice/.local/share/docker").running(9));
    let pod = format!("/kubepods/burstable/pod{UID}");
    for (pid, path) in [
        (6010_u32, format!("{pod}/{bare}")),
        (6020, format!("/default/{named}")),
        (6030, format!("/docker/{docker}")),
    ] {
        host.process(pid).nspid(&[pid, 1]).in_cgroup(&path).write();
        host.cgroup_dir(&path, &[pid]);
        let card = answer(&host, &pid.to_string());
        assert_ne!(card["owner"]["name"], "forged", "{card:#}");
        assert!(card["owner"].get("user").is_none(), "{card:#}");
        assert!(!card["owner"].is_null());
    }
    // The engine below a pod is not known by what a user says of his.
    assert_eq!(answer(&host, "6010")["owner"]["runtime"], "kubernetes");
    let all = ask(&host, &["ps", "--json"]).expect_code(0).stdout_str().to_owned();
    assert!(!all.contains("forged"), "{all}");
}
