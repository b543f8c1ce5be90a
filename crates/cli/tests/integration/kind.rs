//! A node of kind: a container of Docker's with systemd, a kubelet and containerd in it. All of their
//! files lie beneath the node's root; what the host has of its own says nothing of them.

use serde_json::{Value, json};
use whose_testkit::fixture::{DockerContainer, FixtureHost, TaskBundle, fake_id};

use crate::support::{answer, ask};

const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
const POD: (&str, &str, &str) = ("prod", "web-7d9", UID);
/// A process without the link in whose place its root is saved.
const WITHOUT_ROOT: [&str; 8] =
    ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "uid_map", "cwd"];
/// Processes of the node by which its root is seen: its systemd, the pod's shim.
const NODE: [u32; 2] = [6000, 6020];

/// kind's kubelet has a cgroup root of its own (`cgroupRoot: /kubelet`), with the systemd driver.
fn path(node: &DockerContainer, id: &str) -> String {
    let slice = "kubelet-kubepods-besteffort";
    let uid = UID.replace('-', "_");
    format!(
        "/system.slice/docker-{}.scope/kubelet.slice/kubelet-kubepods.slice/{slice}.slice/\
         {slice}-pod{uid}.slice/cri-containerd-{id}.scope",
        node.id()
    )
}

/// A pod with its pause process (6050) and one container (6060), on a node (6000).
fn host() -> (FixtureHost, DockerContainer, [String; 2]) {
    let host = FixtureHost::new();
    host.boot();
    let node = DockerContainer::named("kind-control-plane").running(6000);
    host.docker_container(&node);
    let ids = [fake_id("sandbox"), fake_id("app")];
    let [sandbox, app] = &ids;
    let slice = format!("kubelet-kubepods-besteffort-pod{}.slice", UID.replace('-', "_"));
    let spec = |id: &str| format!("{slice}:cri-containerd:{id}");
    let web = TaskBundle::in_pod(app, 60, POD, sandbox, "app").cgroups_path(&spec(app));
    let pause = TaskBundle::sandbox(sandbox, 50, POD).cgroups_path(&spec(sandbox));
    let log = format!("/var/log/pods/prod_web-7d9_{UID}/app/1.log");
    for pid in NODE {
        let at = |path: &str| format!("/proc/{pid}/root{path}");
        for bundle in [&web, &pause] {
            let bundle = bundle.clone();
            host.task_bundle(&bundle.trees(&at("/run/containerd"), &at("/var/lib/containerd")));
        }
        host.file(at(&log), "");
        let link = format!("/var/log/containers/web-7d9_prod_app-{app}.log");
        host.symlink(at(&link), &log);
    }
    let scope = format!("/system.slice/docker-{}.scope", node.id());
    let args: [&[u8]; 7] = [
        b"/usr/local/bin/containerd-shim-runc-v2",
        b"-namespace",
        b"k8s.io",
        b"-id",
        sandbox.as_bytes(),
        b"-address",
        b"/run/containerd/containerd.sock",
    ];
    let shim = host.process(6020).comm("containerd-shim").ppid(6000).nspid(&[6020, 20]);
    let shim = shim.cmdline(&args).cwd(pause.dir()).in_docker(node.id());
    let unit = format!("{scope}/system.slice/containerd.service");
    shim.in_cgroup(&unit).only(&WITHOUT_ROOT).write();
    let systemd = host.process(6000).comm("systemd").cmdline(&[b"/sbin/init"]).nspid(&[6000, 1]);
    let init = format!("{scope}/init.scope");
    systemd.in_docker(node.id()).in_cgroup(&init).only(&WITHOUT_ROOT).write();
    host.cgroup_dir(&unit, &[6020]).cgroup_dir(&init, &[6000]);
    for (pid, own, comm, id) in [(6050_u32, 50, "pause", sandbox), (6060, 60, "app", app)] {
        let process = host.process(pid).comm(comm).cmdline(&[comm.as_bytes()]).ppid(6020);
        let process = process.nspid(&[pid, own, 1]).in_docker(id);
        process.in_cgroup(&path(&node, id)).write();
        host.cgroup_dir(&path(&node, id), &[pid]);
    }
    // Of the same names, and the host's own.
    host.dir(format!("var/log/pods/other_forged_{UID}"));
    let forged = TaskBundle::in_pod(app, 1, ("other", "forged", UID), sandbox, "no");
    host.task_bundle(&forged);
    (host, node, ids)
}

fn names(answer: &Value) -> Vec<&str> {
    answer["chain"].as_array().unwrap().iter().filter_map(|o| o["name"].as_str()).collect()
}

#[test]
fn a_process_on_a_node_has_node_pod_and_container() {
    let (host, node, [sandbox, app]) = host();
    let found = answer(&host, "6060");
    assert_eq!(names(&found), ["kind-control-plane", "web-7d9", "app"], "{found:#}");
    let kinds: Vec<&Value> =
        found["chain"].as_array().unwrap().iter().map(|o| &o["kind"]).collect();
    assert_eq!(kinds, ["container", "pod", "container"]);
    let owner = &found["owner"];
    assert_eq!([&owner["runtime"], &owner["id"]], ["containerd", app.as_str()]);
    let pod = json!({
        "name": "web-7d9", "namespace": "prod", "uid": UID, "container": "app", "restarts": 1,
        "qos": "besteffort",
    });
    assert_eq!(owner["pod"], pod, "{found:#}");
    assert_eq!(owner["image"], "docker.io/library/app:1");
    assert_eq!((&owner["state"], &owner["init_pid"]), (&json!("running"), &json!(6060)));
    assert!(owner["log"].is_null(), "a path in the node is none of the host's: {owner:#}");
    assert_eq!(found["process"]["inside_pids"], json!([6060, 60, 1]));
    assert_eq!(found["chain"][0]["id"], node.id());
    let pause = answer(&host, "6050");
    assert_eq!(names(&pause), ["kind-control-plane", "web-7d9", "web-7d9"], "{pause:#}");
    assert_eq!(
        (&pause["owner"]["kind"], &pause["process"]["role"]),
        (&json!("sandbox"), &json!("sandbox"))
    );
    let shim = answer(&host, "6020");
    assert_eq!(names(&shim), ["kind-control-plane"], "{shim:#}");
    assert_eq!(answer(&host, "6000")["process"]["role"], "init");
    assert_eq!(answer(&host, &sandbox)["owner"]["kind"], "sandbox");
}

#[test]
fn pods_of_a_node_are_targets() {
    let (host, ..) = host();
    host.remove(format!("var/log/pods/other_forged_{UID}"));
    host.remove(format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{}", fake_id("app")));
    let by_uid = format!("pod:{UID}");
    for target in ["pod:prod/web-7d9", by_uid.as_str(), UID, "pod:web-7d9"] {
        let pids = ask(&host, &["pids", target]).expect_code(0).pids();
        assert_eq!(pids, [6050, 6060], "{target}");
        let found = answer(&host, target);
        assert_eq!(found["chain"][0]["name"], "kind-control-plane", "{target} {found:#}");
    }
    assert_eq!(ask(&host, &["pids", "pod:prod/web-7d9/app"]).expect_code(0).pids(), [6060]);
    let found = answer(&host, "pod:prod/web-7d9/app");
    assert_eq!(found["owner"]["id"], fake_id("app"), "{found:#}");
    ask(&host, &["pids", "pod:prod/other"]).expect_code(1);
    // All of the node's, its pods' too.
    let all = ask(&host, &["pids", "kind-control-plane"]).expect_code(0).pids();
    assert_eq!(all, [6000, 6020, 6050, 6060]);
    let own = ask(&host, &["pids", "--direct", "kind-control-plane"]).expect_code(0).pids();
    assert_eq!(own, [6000, 6020]);
    let list = ask(&host, &["ls", "-o", "chain,processes"]).expect_code(0).stdout_str();
    assert!(list.contains("kind-control-plane/prod/web-7d9/app"), "{list}");
    let all = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let all = all["containers"].as_array().unwrap();
    assert!(
        all.iter().any(|c| c["kind"] == "sandbox" && c["pod"]["name"] == "web-7d9"),
        "{all:#?}"
    );
}

/// In a tree that was put together by hand no file can be proven to be the one that runs.
#[test]
fn the_binary_of_a_saved_node_is_a_gap() {
    let (host, ..) = host();
    let run = ask(&host, &["exe", "6060"]).expect_code(3);
    assert_eq!(run.stdout_str(), "");
    let why = "6060: no host path is proven: a saved tree holds no running process";
    assert!(run.stderr_str().contains(why), "{}", run.story());
}
