//! A pod of two containers as cri-dockerd makes it: by a real dockerd, with the kubelet's cgroup above
//! them and cri-dockerd's labels on them, with its daemon alive and killed.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;

use serde_json::json;
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::docker::{Docker, IMAGE, View};
use whose_testkit::{cgroup, require};

/// What the containers run.
const SLEEP: [&str; 2] = ["sleep", "100000"];

#[test]
fn a_pod_that_docker_runs() {
    if !require(&["root", "docker", "cgroup-v2", "mount-namespace"]) {
        return;
    }
    let _alone = alone();
    for view in [View::V2, View::Hybrid] {
        if view == View::Hybrid && !require(&["cgroup-hybrid"]) {
            continue;
        }
        let uid = format!("3d4e5f60-4444-4555-8666-{:012x}", std::process::id());
        // What is above it may be somebody else's too, and then the engine leaves it.
        let _cgroup = PodCgroup(&uid);
        let mut docker = Docker::options(view).start().unwrap_or_else(|e| panic!("{e}"));
        docker.image();
        pod(&mut docker, &uid);
    }
}

/// A pod's cgroups, removed with this value once nobody is in them.
struct PodCgroup<'p>(&'p str);

impl Drop for PodCgroup<'_> {
    fn drop(&mut self) {
        for dir in cgroup::dirs_named(&format!("pod{}", self.0)) {
            cgroup::remove_empty(&dir);
        }
    }
}

fn pod(docker: &mut Docker, uid: &str) {
    let name = unique("web");
    let run = |kind: &str, container: &str, restarts: &str| {
        let labels = [
            ("io.kubernetes.docker.type", kind),
            ("io.kubernetes.container.name", container),
            ("io.kubernetes.pod.name", &name),
            ("io.kubernetes.pod.namespace", "prod"),
            ("io.kubernetes.pod.uid", uid),
            ("annotation.io.kubernetes.container.restartCount", restarts),
        ];
        let mut args = vec![
            format!("--name=k8s_{container}_{name}_prod_{uid}_{restarts}"),
            format!("--cgroup-parent=/kubepods/burstable/pod{uid}"),
        ];
        args.extend(labels.iter().map(|(k, v)| format!("--label={k}={v}")));
        args.push(IMAGE.into());
        args.extend(SLEEP.map(String::from));
        docker.run(&args)
    };
    let pause = run("podsandbox", "POD", "0");
    let app = run("container", "app", "4");
    let gone = run("container", "setup", "0");
    docker.cli(&["kill", &gone]);
    let mut all: BTreeSet<u32> = docker.top_pids(&app);
    let in_app: Vec<u32> = all.iter().copied().collect();
    all.extend(docker.top_pids(&pause));
    let all: Vec<u32> = all.into_iter().collect();
    let (first, holder) = (docker.init_pid(&app), docker.init_pid(&pause));
    let full = format!("prod/{name}");
    let target = format!("pod:{full}");
    for daemon in ["alive", "killed"] {
        let told = answer(&first.to_string());
        let pod = json!({"name": name, "namespace": "prod", "uid": uid, "container": "app",
            "restarts": 4, "qos": "burstable"});
        assert_eq!(told["owner"]["pod"], pod, "{daemon} {told:#}");
        assert_eq!(told["owner"]["id"], app, "{daemon}");
        assert_eq!(told["owner"]["runtime"], "docker", "{daemon}");
        let chain = told["chain"].as_array().unwrap();
        let above = &chain[chain.len() - 2];
        assert_eq!((&above["kind"], &above["name"]), (&json!("pod"), &json!(name)), "{told:#}");
        assert_eq!(above["id"], uid, "{daemon}");
        let sandbox = answer(&holder.to_string());
        assert_eq!(sandbox["owner"]["kind"], "sandbox", "{daemon} {sandbox:#}");
        assert_eq!(sandbox["process"]["role"], "sandbox", "{daemon}");
        let pids = |target: &str| whose().args(["pids", target]).run().expect_code(0).pids();
        for target in [&target, uid, &name, &format!("pod:{uid}")] {
            assert_eq!(pids(target), all, "{daemon} {target}");
        }
        let in_pod = format!("{target}/app");
        assert_eq!(pids(&in_pod), in_app, "{daemon}");
        let ended = answer(&format!("{target}/setup"));
        assert_eq!(ended["owner"]["id"], gone, "{daemon} {ended:#}");
        assert_eq!(ended["owner"]["state"], "exited", "{daemon}");
        let exe = |target: &str| whose().args(["exe", target]).run().expect_code(0).stdout_str();
        assert_eq!(exe(&target), exe(&first.to_string()), "{daemon}");
        let tree = whose().args(["tree", &target]).run().expect_code(0).stdout_str();
        assert!(tree.contains(&format!("{full}   kubernetes pod")), "{daemon}\n{tree}");
        assert!(tree.contains(&format!("{full}/app   docker")), "{daemon}\n{tree}");
        whose().args(["--in-container", &target]).run().expect_code(0);
        whose().args([format!("{target}/none")]).run().expect_code(1);
        if daemon == "alive" {
            docker.kill9();
        }
    }
}
