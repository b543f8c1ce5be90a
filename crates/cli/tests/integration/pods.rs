//! Kubernetes pods: whose they are by the kernel, what they are called by the kubelet's files or an
//! engine's, and targets that name them.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask};

const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
const STATIC: &str = "097bb9198e3765f6e6f442dc4014e7dd";

/// A container of a pod, as the kubelet and the kernel show it; no engine's state has it.
struct InPod<'p> {
    uid: &'p str,
    /// Namespace, pod, container; without the last it is the sandbox, which has no log.
    names: [&'p str; 3],
    restarts: u32,
    /// Cgroup of the container, without its leading slash.
    cgroup: String,
    pids: &'p [u32],
}

impl InPod<'_> {
    fn id(&self) -> String {
        fake_id(self.names.join("/"))
    }

    fn write(&self, host: &FixtureHost) {
        host.cgroup_dirs(&self.cgroup, self.pids);
        for (n, pid) in (1..).zip(self.pids) {
            let process = host.process(*pid).comm("app").cmdline(&[b"app"]).nspid(&[*pid, n]);
            process.in_docker(&self.id()).in_cgroup(&format!("/{}", self.cgroup)).write();
        }
        self.write_logs(host, "");
    }

    fn write_logs(&self, host: &FixtureHost, root: &str) {
        let [namespace, pod, container] = self.names;
        let dir = format!("/var/log/pods/{namespace}_{pod}_{}", self.uid);
        host.dir(format!("{root}{dir}"));
        if container.is_empty() {
            return;
        }
        let log = format!("{dir}/{container}/{}.log", self.restarts);
        host.file(format!("{root}{log}"), "");
        let name = format!("{pod}_{namespace}_{container}-{}.log", self.id());
        host.symlink(format!("{root}/var/log/containers/{name}"), &log);
    }
}

/// The cgroup of a container by its pod's uid and its id.
type Form = fn(&str, &str) -> String;

fn cgroupfs(uid: &str, id: &str) -> String {
    format!("kubepods/burstable/pod{uid}/{id}")
}

fn systemd(uid: &str, id: &str) -> String {
    let uid = uid.replace('-', "_");
    format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/\
         cri-containerd-{id}.scope"
    )
}

fn rooted(uid: &str, id: &str) -> String {
    let uid = uid.replace('-', "_");
    format!(
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
         kubelet-kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope"
    )
}

fn elsewhere(uid: &str, id: &str) -> String {
    format!("custom/node/kubepods/burstable/pod{uid}/{id}")
}

fn mismatch(uid: &str, id: &str) -> String {
    let uid = uid.replace('-', "_");
    format!("system.slice/containerd.service/kubepods-burstable-pod{uid}.slice:cri-containerd:{id}")
}

/// `prod/web-7d9` with `app` of two processes and a sandbox that only the cgroup shows.
fn pod(host: &FixtureHost, uid: &str, form: Form) {
    let id = fake_id("prod/web-7d9/app");
    let app = InPod {
        uid,
        names: ["prod", "web-7d9", "app"],
        restarts: 3,
        cgroup: form(uid, &id),
        pids: &[4100, 4101],
    };
    app.write(host);
    let pause = fake_id("prod/web-7d9/");
    let pause =
        InPod { names: ["prod", "web-7d9", ""], cgroup: form(uid, &pause), pids: &[4090], ..app };
    pause.write(host);
}

fn named(answer: &Value) -> [&Value; 3] {
    let pod = &answer["owner"]["pod"];
    [&pod["namespace"], &pod["name"], &pod["container"]]
}

#[test]
fn every_driver_and_form_without_an_engine() {
    let forms: [(&str, CgroupLayout, Form, &str, &str); 7] = [
        ("cgroupfs v2", CgroupLayout::V2, cgroupfs, "kubernetes", UID),
        ("cgroupfs v1", CgroupLayout::V1, cgroupfs, "kubernetes", UID),
        ("systemd v2", CgroupLayout::V2, systemd, "containerd", UID),
        ("systemd hybrid", CgroupLayout::Hybrid, systemd, "containerd", UID),
        ("systemd, cgroup root, static", CgroupLayout::V2, rooted, "containerd", STATIC),
        ("another root", CgroupLayout::V2, elsewhere, "kubernetes", UID),
        ("mismatch", CgroupLayout::V1, mismatch, "containerd", UID),
    ];
    for (what, layout, form, runtime, uid) in forms {
        let host = FixtureHost::with_layout(layout);
        host.boot();
        pod(&host, uid, form);
        let found = answer(&host, "4101");
        assert_eq!(found["owner"]["kind"], "container", "{what} {found:#}");
        assert_eq!(found["owner"]["runtime"], runtime, "{what}");
        assert_eq!(found["owner"]["id"], fake_id("prod/web-7d9/app"), "{what}");
        let told = json!({"namespace": "prod", "name": "web-7d9", "container": "app",
            "uid": uid, "restarts": 3, "qos": "burstable"});
        assert_eq!(found["owner"]["pod"], told, "{what}");
        let link = format!("web-7d9_prod_app-{}.log", fake_id("prod/web-7d9/app"));
        let seen =
            found["evidence"].as_array().unwrap().iter().find(|e| e["source"] == "state-file");
        let seen = seen.unwrap_or_else(|| panic!("{what} {found:#}"));
        assert!(seen["path"].as_str().unwrap().ends_with(&link), "{what} {seen}");
        if what != "mismatch" {
            let chain = found["chain"].as_array().unwrap();
            let level = chain.iter().find(|o| o["kind"] == "pod").unwrap();
            assert_eq!((&level["name"], &level["id"]), (&json!("web-7d9"), &json!(uid)), "{what}");
            assert_eq!(level["runtime"], "kubernetes", "{what}");
            assert_eq!(level["pod"]["namespace"], "prod", "{what}");
        }
        // The sandbox has no log; its pod's directory of logs names it, and the container is unknown.
        let pause = answer(&host, "4090");
        assert_eq!(named(&pause), [&json!("prod"), &json!("web-7d9"), &Value::Null], "{what}");
        let rows = ask(&host, &["ps", "-o", "pid,owner,pod,namespace,restarts,qos", "4101"]);
        let rows = rows.expect_code(0).stdout_str();
        let row: Vec<&str> = rows.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            ["4101", "prod/web-7d9/app", "web-7d9", "prod", "3", "burstable"],
            "{what}"
        );
        let by_uid = format!("pod:{uid}");
        for target in ["pod:prod/web-7d9", "pod:web-7d9", "web-7d9", &by_uid, uid] {
            let pids = ask(&host, &["pids", target]).expect_code(0).pids();
            assert_eq!(pids, [4090, 4100, 4101], "{what} {target}");
        }
        for target in ["pod:prod/web-7d9/app", "app"] {
            let run = ask(&host, &["pids", target]);
            assert_eq!(run.pids(), [4100, 4101], "{what} {target} {}", run.stderr_str());
        }
    }
}

#[test]
fn a_pod_as_a_target() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    let found = answer(&host, "pod:prod/web-7d9");
    assert_eq!((&found["kind"], &found["status"]), (&json!("pod"), &json!("found")), "{found:#}");
    assert_eq!(found["owner"]["kind"], "pod");
    assert_eq!(found["owner"]["id"], UID);
    assert_eq!(found["owner"]["name"], "web-7d9");
    assert_eq!(found["owner"]["pod"]["qos"], "burstable");
    assert_eq!(found["chain"].as_array().unwrap().last(), Some(&found["owner"]));
    let pids: Vec<&Value> =
        found["processes"].as_array().unwrap().iter().map(|p| &p["pid"]).collect();
    assert_eq!(pids, [4090, 4100, 4101]);
    assert!(found["evidence"].as_array().unwrap().iter().any(|e| e["source"] == "cgroup"));
    let card = ask(&host, &["pod:prod/web-7d9"]).expect_code(0).stdout_str();
    assert!(card.starts_with("prod/web-7d9"), "{card}");
    assert!(card.contains(&format!("prod/web-7d9   {UID}   burstable")), "{card}");
    assert!(card.contains("3   4090 4100 4101"), "{card}");
    assert_eq!(ask(&host, &["-q", "pod:prod/web-7d9"]).expect_code(0).stdout_str().trim(), UID);
    ask(&host, &["--in-container", "pod:prod/web-7d9"]).expect_code(0);
    ask(&host, &["--in-container", "4100"]).expect_code(0);
    let listed = ask(&host, &["ls", "--json", "pod:prod/web-7d9"]).expect_code(0).json();
    assert_eq!(listed["containers"].as_array().unwrap().len(), 2, "{listed:#}");
    let ps = ask(&host, &["ps", "-o", "pid", "--no-headers", "pod:prod/web-7d9"]).expect_code(0);
    assert_eq!(ps.pids(), [4090, 4100, 4101]);
    let tree = ask(&host, &["tree", "pod:prod/web-7d9"]).expect_code(0).stdout_str();
    let at = |text: &str| tree.find(text).unwrap_or_else(|| panic!("{text} in\n{tree}"));
    assert!(at("web-7d9") < at("prod/web-7d9/app") && at("prod/web-7d9/app") < at("4100"));
    for (target, code) in [
        ("pod:prod/none", 1),
        ("pod:none", 1),
        ("pod:test/web-7d9", 1),
        ("pod:prod/web-7d9/none", 3),
        ("pod:11111111-2222-4333-8444-555555555555", 1),
        ("pod:a/b/c/d", 2),
        ("pod:", 2),
        ("pod:a_b/c", 2),
    ] {
        for command in [&["pids", target][..], &[target]] {
            ask(&host, command).expect_code(code);
        }
    }
}

#[test]
fn names_that_fit_several() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    let other = "11111111-2222-4333-8444-555555555555";
    let id = fake_id("test/web-7d9/app");
    let names = ["test", "web-7d9", "app"];
    let cgroup = systemd(other, &id);
    InPod { uid: other, names, restarts: 0, cgroup, pids: &[4200] }.write(&host);
    let docker = DockerContainer::named("web-7d9").running(4300);
    host.docker_container(&docker);
    host.cgroup_dir(&format!("docker/{}", docker.id()), &[4300]);
    host.process(4300).in_docker(docker.id()).write();
    for (target, count) in [("pod:web-7d9", 2), ("web-7d9", 3), ("app", 2)] {
        ask(&host, &["pids", target]).expect_code(4);
        let several = answer(&host, target);
        assert_eq!(several["status"], "ambiguous", "{target}");
        let candidates = several["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), count, "{target} {candidates:?}");
        for candidate in candidates {
            ask(&host, &["pids", candidate.as_str().unwrap()]).expect_code(0);
        }
    }
    assert_eq!(ask(&host, &["pids", "pod:test/web-7d9"]).expect_code(0).pids(), [4200]);
    assert_eq!(ask(&host, &["pids", "container:web-7d9"]).expect_code(0).pids(), [4300]);
    // A pod with one container that works leads to what that runs.
    let only = ask(&host, &["exe", "--json", "pod:test/web-7d9"]).json()["answers"][0].clone();
    assert_eq!(only["process"]["pid"], 4200, "{only:#}");
}

#[test]
fn logs_that_outlive_their_pod() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, cgroupfs);
    let old = "11111111-2222-4333-8444-555555555555";
    host.dir(format!("var/log/pods/prod_web-7d9_{old}"));
    host.dir(format!("var/log/pods/prod_gone_{}", old.replace('1', "2")));
    assert_eq!(answer(&host, "pod:prod/web-7d9")["owner"]["id"], UID);
    let gone = answer(&host, "pod:prod/gone");
    assert_eq!((&gone["status"], &gone["processes"]), (&json!("found"), &Value::Null), "{gone:#}");
    let run = ask(&host, &["pids", "pod:prod/gone"]).expect_code(1);
    assert!(run.stderr_str().contains("prod/gone has no processes"), "{}", run.stderr_str());
    assert_eq!(answer(&host, &format!("pod:{old}"))["owner"]["name"], "web-7d9");
}

#[test]
fn the_kernels_uid_outranks_the_files() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    // The link now leads to another pod's log, and so does one with an odd text.
    let name = format!("var/log/containers/web-7d9_prod_app-{}.log", fake_id("prod/web-7d9/app"));
    let other = "11111111-2222-4333-8444-555555555555";
    for text in [
        format!("/var/log/pods/prod_web-7d9_{other}/app/0.log"),
        format!("/var/log/pods/prod_db_{UID}/app/0.log"),
    ] {
        host.symlink(&name, text);
        let found = answer(&host, "4100");
        assert_eq!(named(&found), [&json!("prod"), &json!("web-7d9"), &Value::Null], "{found:#}");
        assert!(found["owner"]["pod"]["restarts"].is_null());
    }
    // One that leads elsewhere is not followed; the directory of logs vouches for its name.
    host.symlink(&name, "/etc/passwd");
    assert_eq!(named(&answer(&host, "4100"))[2], "app");
    host.remove(format!("var/log/pods/prod_web-7d9_{UID}"));
    assert_eq!(answer(&host, "4100")["owner"]["pod"], json!({"uid": UID, "qos": "burstable"}));
    // What two names say of one id or uid is nothing.
    host.symlink(&name, format!("/var/log/pods/prod_web-7d9_{UID}/app/0.log"));
    assert_eq!(named(&answer(&host, "4100"))[2], "app");
    host.symlink(
        format!("var/log/containers/db_prod_app-{}.log", fake_id("prod/web-7d9/app")),
        "/x",
    );
    assert_eq!(named(&answer(&host, "4100"))[2], &Value::Null);
    host.dir(format!("var/log/pods/prod_web-7d9_{UID}"));
    host.dir(format!("var/log/pods/prod_db_{UID}"));
    assert_eq!(named(&answer(&host, "4100"))[1], &Value::Null);
}

#[test]
fn names_that_are_cut_and_names_that_are_none() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    let id = fake_id("prod/web-7d9/app");
    host.remove("var/log/containers");
    let long = "w".repeat(220);
    for name in [
        format!("{}.log", &format!("{long}_prod_app-{id}")[..251]),
        format!("web-7d9_pr_od_app-{id}.log"),
        format!("_web-7d9_prod_app-{id}.log"),
        format!("web-7d9_prod_app_-{id}.log"),
        format!("-{id}.log"),
        "\u{1b}[2J_a_b-x.log".to_owned(),
    ] {
        host.symlink(format!("var/log/containers/{name}"), "/dev/zero");
    }
    let found = answer(&host, "4100");
    assert_eq!(named(&found), [&json!("prod"), &json!("web-7d9"), &Value::Null]);
    // The kubelet's own mount in the container still names it, unless it is another pod's.
    for (uid, name) in [(UID, json!("app")), (STATIC, Value::Null)] {
        let mounts = format!(
            "9 1 0:61 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n\
             10 9 254:0 /srv/kubelet/pods/{uid}/containers/app/0a1b2c3d /dev/termination-log rw \
             - ext4 /dev/vda rw\n\
             11 9 254:0 /srv/kubelet/pods/{UID}/containers/x/0a1b2c3d /dev/termination-log rw \
             - ext4 /dev/vda rw\n"
        );
        let process = host.process(4100).nspid(&[4100, 1]).mountinfo(mounts);
        process.in_cgroup(&format!("/{}", systemd(UID, &id))).write();
        assert_eq!(*named(&answer(&host, "4100"))[2], name);
    }
}

#[test]
fn too_many_names_are_a_gap() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    host.dir("var/log/containers");
    for n in 0..=100_000 {
        std::fs::File::create(host.at(format!("var/log/containers/{n}"))).unwrap();
    }
    let found = answer(&host, "4100");
    assert_eq!(found["owner"]["pod"], json!({"uid": UID, "qos": "burstable"}), "{found:#}");
    let gaps = found["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|g| g["what"] == "pod names").unwrap();
    assert_eq!(gap["class"], "malformed", "{gap}");
}

#[test]
fn a_user_can_not_pass_for_a_pod() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, cgroupfs);
    let id = fake_id("prod/web-7d9/app");
    let forged =
        format!("user.slice/user-1000.slice/user@1000.service/kubepods/burstable/pod{UID}/{id}");
    host.cgroup_dir(&forged, &[4400]);
    host.process(4400).uid(1000).nspid(&[4400, 1]).in_cgroup(&format!("/{forged}")).write();
    let told = answer(&host, "4400");
    assert_eq!(named(&told), [&Value::Null; 3], "{told:#}");
    assert_eq!(ask(&host, &["pids", "pod:prod/web-7d9"]).expect_code(0).pids(), [4090, 4100, 4101]);
}

#[test]
fn moved_logs_are_found_by_the_configuration() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    host.remove("var/log/pods").remove("var/log/containers");
    assert_eq!(named(&answer(&host, "4100"))[1], &Value::Null);
    host.file("var/lib/kubelet/config.yaml", "kind: X\npodLogsDir: /srv/logs\n");
    host.dir(format!("srv/logs/prod_web-7d9_{UID}"));
    assert_eq!(named(&answer(&host, "4100"))[1], "web-7d9");
    assert_eq!(ask(&host, &["pids", "pod:prod/web-7d9"]).expect_code(0).pids().len(), 3);
    // Nor need the configuration be where it usually is.
    host.remove("var/lib/kubelet");
    assert_eq!(named(&answer(&host, "4100"))[1], &Value::Null);
    host.file("etc/k8s.yaml", "podLogsDir: '/srv/logs'\n");
    host.cgroup_dir("system.slice/kubelet.service", &[700]);
    let args: [&[u8]; 3] = [b"kubelet", b"--config=/etc/k8s.yaml", b"--root-dir=/srv/kubelet"];
    let process = host.process(700).comm("kubelet").cmdline(&args);
    process.in_cgroup("/system.slice/kubelet.service").write();
    assert_eq!(named(&answer(&host, "4100"))[1], "web-7d9");
    let other = "11111111-2222-4333-8444-555555555555";
    ask(&host, &[&format!("pod:{other}")]).expect_code(1);
    host.dir(format!("srv/kubelet/pods/{other}"));
    ask(&host, &[&format!("pod:{other}")]).expect_code(0);
}

/// A pod whose containers Docker runs for cri-dockerd; `root` is where the node's files are.
fn dockerd_pod(host: &FixtureHost, root: &str, top: &str, pids: [u32; 2]) -> [String; 2] {
    let container = |kind: &str, name: &str, pid: u32| {
        DockerContainer::named(&format!("k8s_{name}_web-7d9_prod_{UID}_0"))
            .running(pid)
            .data_root(format!("{root}/var/lib/docker"))
            .cgroup_parent(format!("/kubepods/besteffort/pod{UID}"))
            .label("io.kubernetes.docker.type", kind)
            .label("io.kubernetes.container.name", name)
            .label("io.kubernetes.pod.name", "web-7d9")
            .label("io.kubernetes.pod.namespace", "prod")
            .label("io.kubernetes.pod.uid", UID)
            .label("annotation.io.kubernetes.container.restartCount", "2")
    };
    let all = [("podsandbox", "POD"), ("container", "app")];
    let mut ids = Vec::new();
    for ((kind, name), pid) in all.into_iter().zip(pids) {
        let one = container(kind, name, pid);
        host.docker_container(&one);
        let cgroup = format!("{top}kubepods/besteffort/pod{UID}/{}", one.id());
        host.cgroup_dirs(&cgroup, &[pid]);
        let process = host.process(pid).comm(name).cmdline(&[name.as_bytes()]);
        process.in_docker(one.id()).in_cgroup(&format!("/{cgroup}")).write();
        ids.push(one.id().to_owned());
    }
    [ids[0].clone(), ids[1].clone()]
}

#[test]
fn pods_of_cri_dockerd_by_dockers_labels() {
    for layout in [CgroupLayout::V2, CgroupLayout::V1] {
        let host = FixtureHost::with_layout(layout);
        host.boot();
        let [pause, app] = dockerd_pod(&host, "", "", [5100, 5101]);
        let found = answer(&host, "5101");
        assert_eq!(found["owner"]["runtime"], "docker", "{found:#}");
        assert_eq!(found["owner"]["id"], app);
        let told = json!({"namespace": "prod", "name": "web-7d9", "container": "app",
            "uid": UID, "restarts": 2, "qos": "besteffort"});
        assert_eq!(found["owner"]["pod"], told);
        assert_eq!(found["chain"][0]["kind"], "pod");
        assert_eq!(found["chain"][0]["name"], "web-7d9");
        assert_eq!(found["gaps"], json!([]));
        let sandbox = answer(&host, "5100");
        assert_eq!(sandbox["owner"]["kind"], "sandbox", "{sandbox:#}");
        assert_eq!(sandbox["owner"]["id"], pause);
        assert_eq!(sandbox["process"]["role"], "sandbox");
        let rows = ask(&host, &["ps", "-o", "pid,owner", "--no-headers", "5100", "5101"]);
        let rows = rows.expect_code(0).stdout_str();
        let rows: Vec<Vec<&str>> = rows.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows, [["5100", "prod/web-7d9"], ["5101", "prod/web-7d9/app"]]);
        // Docker alone names the pod: there is no log of it.
        for target in ["pod:prod/web-7d9", "pod:web-7d9", "web-7d9", UID] {
            let pids = ask(&host, &["pids", target]).expect_code(0).pids();
            assert_eq!(pids, [5100, 5101], "{target}");
        }
        for target in ["pod:prod/web-7d9/app", "app"] {
            assert_eq!(answer(&host, target)["owner"]["id"], app, "{target}");
        }
        ask(&host, &["pids", "pod:prod/web-7d9/none"]).expect_code(1);
        let only = ask(&host, &["exe", "--json", "pod:prod/web-7d9"]).json();
        assert_eq!(only["answers"][0]["process"]["pid"], 5101, "{only:#}");
        let list = ask(&host, &["ls"]).expect_code(0).stdout_str();
        assert!(list.contains("prod/web-7d9/app") && !list.contains("POD"), "{list}");
        let all = ask(&host, &["ls", "-a", "-o", "chain,kind,pod,namespace"]).stdout_str();
        let rows: Vec<Vec<&str>> =
            all.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                ["prod/web-7d9", "sandbox", "web-7d9", "prod"],
                ["prod/web-7d9/app", "container", "web-7d9", "prod"]
            ]
        );
    }
}

#[test]
fn what_docker_says_of_another_pod_does_not_count() {
    let host = FixtureHost::new();
    host.boot();
    let [_, app] = dockerd_pod(&host, "", "", [5100, 5101]);
    let cgroup = format!("kubepods/pod{STATIC}/{app}");
    host.cgroup_dir(&cgroup, &[5102]);
    host.process(5102).in_docker(&app).in_cgroup(&format!("/{cgroup}")).write();
    let found = answer(&host, "5102");
    assert_eq!(found["owner"]["pod"], json!({"uid": STATIC, "qos": "guaranteed"}), "{found:#}");
    let against = found["evidence"].as_array().unwrap().iter().find(|e| e["agrees"] == false);
    assert_eq!(against.unwrap()["detail"], format!("it says pod {UID}"));
}

#[test]
fn a_container_that_ended_is_found_by_its_engine() {
    let host = FixtureHost::new();
    host.boot();
    let [_, app] = dockerd_pod(&host, "", "", [5100, 5101]);
    let again = DockerContainer::named("earlier")
        .exited(1)
        .label("io.kubernetes.docker.type", "container")
        .label("io.kubernetes.container.name", "app")
        .label("io.kubernetes.pod.name", "web-7d9")
        .label("io.kubernetes.pod.namespace", "prod")
        .label("io.kubernetes.pod.uid", UID);
    host.docker_container(&again);
    for target in ["pod:prod/web-7d9/app", "app"] {
        assert_eq!(answer(&host, target)["owner"]["id"], app, "{target}");
    }
    let init = DockerContainer::named("init")
        .exited(0)
        .label("io.kubernetes.docker.type", "container")
        .label("io.kubernetes.container.name", "setup")
        .label("io.kubernetes.pod.name", "web-7d9")
        .label("io.kubernetes.pod.namespace", "prod")
        .label("io.kubernetes.pod.uid", UID);
    host.docker_container(&init);
    let found = answer(&host, "pod:prod/web-7d9/setup");
    assert_eq!(found["owner"]["state"], "exited", "{found:#}");
    ask(&host, &["pids", "pod:prod/web-7d9/setup"]).expect_code(1);
}

#[test]
fn pods_of_a_node_that_is_a_container() {
    let host = FixtureHost::new();
    host.boot();
    let node = DockerContainer::named("kind-control-plane").running(6000);
    host.docker_container(&node);
    let top = format!("system.slice/docker-{}.scope", node.id());
    host.cgroup_dir(&format!("{top}/init.scope"), &[6000, 6010]);
    let parts = ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "exe", "ns"];
    for (pid, comm, ppid) in [(6000, "systemd", 1), (6010, "containerd-shim", 6000)] {
        let process = host.process(pid).comm(comm).ppid(ppid).nspid(&[pid, pid - 5999]);
        let process = process.in_docker(node.id()).in_cgroup(&format!("/{top}/init.scope"));
        process.only(&parts).write();
    }
    let id = fake_id("prod/web-7d9/app");
    let cgroup = format!("{top}/{}", rooted(UID, &id));
    let app =
        InPod { uid: UID, names: ["prod", "web-7d9", "app"], restarts: 1, cgroup, pids: &[6020] };
    host.cgroup_dir(&app.cgroup, &[6020]);
    let process = host.process(6020).comm("app").cmdline(&[b"app"]).ppid(6010);
    process.nspid(&[6020, 60, 1]).in_docker(&id).in_cgroup(&format!("/{}", app.cgroup)).write();
    for pid in [6000, 6010] {
        app.write_logs(&host, &format!("/proc/{pid}/root"));
    }
    // The host's own kubelet would say something else of it.
    host.dir(format!("var/log/pods/other_forged_{UID}"));
    let found = answer(&host, "6020");
    assert_eq!(named(&found), [&json!("prod"), &json!("web-7d9"), &json!("app")], "{found:#}");
    assert_eq!(found["owner"]["pod"]["qos"], "burstable");
    let chain: Vec<[&Value; 2]> =
        found["chain"].as_array().unwrap().iter().map(|o| [&o["kind"], &o["name"]]).collect();
    let levels = [("container", "kind-control-plane"), ("pod", "web-7d9"), ("container", "app")];
    let levels: Vec<[Value; 2]> = levels.iter().map(|(k, n)| [json!(k), json!(n)]).collect();
    assert_eq!(chain, levels.iter().map(|[k, n]| [k, n]).collect::<Vec<_>>(), "{found:#}");
    host.remove(format!("var/log/pods/other_forged_{UID}"));
    let by_uid = format!("pod:{UID}");
    for target in ["pod:prod/web-7d9", by_uid.as_str(), "pod:prod/web-7d9/app"] {
        assert_eq!(ask(&host, &["pids", target]).expect_code(0).pids(), [6020], "{target}");
    }
    let of_node = answer(&host, "pod:prod/web-7d9");
    assert_eq!(of_node["chain"][0]["name"], "kind-control-plane", "{of_node:#}");
    let list = ask(&host, &["ls", "-o", "chain"]).expect_code(0).stdout_str();
    assert!(list.contains("kind-control-plane/prod/web-7d9/app"), "{list}");
    let tree = ask(&host, &["tree", "-o", "pid,comm"]).expect_code(0).stdout_str();
    assert!(tree.contains("kind-control-plane") && tree.contains("web-7d9"), "{tree}");
}

#[test]
fn lists_fit_a_terminal() {
    let host = FixtureHost::new();
    host.boot();
    pod(&host, UID, systemd);
    let list = ask(&host, &["ls", "-o", "chain,status,up,processes"]).expect_code(0).stdout_str();
    assert!(list.lines().all(|l| l.chars().count() <= 80), "{list}");
    assert!(list.contains("prod/web-7d9/app"), "{list}");
}

#[test]
fn a_change_of_drivers_leaves_a_pod_in_two_places() {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    pod(&host, UID, systemd);
    let id = fake_id("prod/web-7d9/late");
    let names = ["prod", "web-7d9", "late"];
    let late = InPod { uid: UID, names, restarts: 0, cgroup: cgroupfs(UID, &id), pids: &[4200] };
    late.write(&host);
    for target in ["pod:prod/web-7d9", &format!("pod:{UID}")] {
        let run = ask(&host, &["pids", target]).expect_code(0);
        assert_eq!(run.pids(), [4090, 4100, 4101, 4200], "{target}");
        // None of its containers is nested in another one.
        let run = ask(&host, &["pids", "--direct", target]).expect_code(0);
        assert_eq!(run.pids(), [4090, 4100, 4101, 4200], "{target}");
    }
    assert_eq!(ask(&host, &["pids", "pod:prod/web-7d9/late"]).expect_code(0).pids(), [4200]);
}

#[test]
fn what_a_user_calls_a_pod_is_not_the_kubelets() {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    // Its logs are there still, and nothing of it runs.
    host.dir(format!("/var/log/pods/prod_web-7d9_{UID}/app"));
    let manager = "user.slice/user-1000.slice/user@1000.service";
    let his = format!("{manager}/kubepods/burstable/pod{UID}/{}", fake_id("x"));
    host.cgroup_dirs(&his, &[4300]);
    host.process(4300).comm("sh").uid(1000).in_cgroup(&format!("/{his}")).write();
    for target in ["pod:prod/web-7d9", &format!("pod:{UID}")] {
        let run = ask(&host, &["pids", target]).expect_code(1);
        assert_eq!(run.stdout_str(), "", "{target}");
    }
}

#[test]
fn what_was_not_looked_at_in_time_is_not_denied() {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    // Every container in it has a name.
    let id = fake_id("prod/web-7d9/app");
    let names = ["prod", "web-7d9", "app"];
    InPod { uid: UID, names, restarts: 0, cgroup: cgroupfs(UID, &id), pids: &[4100] }.write(&host);
    ask(&host, &["pids", "pod:prod/web-7d9/nosuch"]).expect_code(1);
    for container in ["app", "nosuch"] {
        let target = format!("pod:prod/web-7d9/{container}");
        let run = ask(&host, &["pids", "--timeout", "0.000001", &target]).expect_code(3);
        assert_eq!(run.stdout_str(), "", "{target}");
    }
}

#[test]
fn the_kubelets_directories_lead_to_their_pod() {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    pod(&host, UID, systemd);
    let app = fake_id("prod/web-7d9/app");
    let own = format!("/var/lib/kubelet/pods/{UID}");
    let link = format!("/var/log/containers/web-7d9_prod_app-{app}.log");
    let of_app = [
        format!("{own}/containers/app/0a1b2c3d"),
        format!("{own}/volume-subpaths/data/app/0"),
        format!("/var/log/pods/prod_web-7d9_{UID}/app/3.log"),
    ];
    let of_pod =
        [format!("{own}/volumes/kubernetes.io~empty-dir/data/x"), format!("{own}/etc-hosts")];
    for file in of_app.iter().take(2).chain(&of_pod) {
        host.file(file, "x");
    }
    for path in of_app.iter().chain([&link]) {
        let told = answer(&host, path);
        assert_eq!(
            (&told["kind"], &told["owner"]["id"]),
            (&json!("path"), &json!(app)),
            "{told:#}"
        );
        assert_eq!(named(&told), ["prod", "web-7d9", "app"], "{path}");
        assert_eq!(told["evidence"][0]["detail"], format!("kept for the pod {UID}"), "{told:#}");
    }
    for path in &of_pod {
        let told = answer(&host, path);
        let owner = &told["owner"];
        assert_eq!((&owner["kind"], &owner["id"]), (&json!("pod"), &json!(UID)), "{told:#}");
        let pod = &owner["pod"];
        assert_eq!((&pod["name"], pod.get("container")), (&json!("web-7d9"), None), "{told:#}");
    }
    // Of a pod that is gone its directory may be there still.
    let other = UID.replace('3', "4");
    let left = format!("/var/lib/kubelet/pods/{other}/etc-hosts");
    host.file(&left, "x");
    let told = answer(&host, &left);
    assert_eq!((&told["status"], &told["owners"]), (&json!("found"), &json!([])), "{told:#}");
    assert_eq!(told["evidence"][0]["detail"], format!("kept for the pod {other}"), "{told:#}");
    // Anybody may call a directory so.
    let his = format!("/home/alice/pods/{UID}/etc-hosts");
    host.file(&his, "x");
    let told = answer(&host, &his);
    assert_eq!((&told["owners"], told.get("owner")), (&json!([]), None), "{told:#}");
}
