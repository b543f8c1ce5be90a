//! CRI-O from its files: every driver and version of cgroups, and what may be wrong with the files.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, CrioContainer, DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask, whose};

/// How CRI-O and its OCI runtime make cgroups on a host.
struct Rig {
    layout: CgroupLayout,
    /// Pod's cgroup; `UID` and, for systemd, `_` in place of dashes.
    pod: &'static str,
    /// The container's cgroup in it.
    leaf: &'static str,
    /// What its processes are in below that.
    below: &'static str,
    /// `linux.cgroupsPath`.
    path: &'static str,
}

const SYSTEMD_CRUN: Rig = Rig {
    layout: CgroupLayout::V2,
    pod: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice",
    leaf: "/crio-ID.scope",
    below: "/container",
    path: "kubepods-burstable-podUID.slice:crio:ID",
};
const SYSTEMD_RUNC_V1: Rig = Rig {
    layout: CgroupLayout::V1,
    pod: "/kubepods.slice/kubepods-podUID.slice",
    leaf: "/crio-ID.scope",
    below: "",
    path: "kubepods-podUID.slice:crio:ID",
};
const CGROUPFS: Rig = Rig {
    layout: CgroupLayout::V2,
    pod: "/kubepods/besteffort/podUID",
    leaf: "/crio-ID",
    below: "",
    path: "/kubepods/besteffort/podUID/crio-ID",
};

impl Rig {
    fn fill(&self, text: &str, of: &CrioContainer) -> String {
        let systemd = self.pod.contains(".slice");
        let uid = if systemd { of.uid().replace('-', "_") } else { of.uid().to_owned() };
        text.replace("UID", &uid).replace("ID", of.id())
    }

    fn pod_cgroup(&self, of: &CrioContainer) -> String {
        self.fill(self.pod, of)
    }

    /// Puts a container on the host, with one process.
    fn put(&self, host: &FixtureHost, of: &CrioContainer, pid: u32) -> CrioContainer {
        let of = of.clone().running(pid).cgroups_path(self.fill(self.path, of));
        let cgroup = self.fill(&[self.pod, self.leaf, self.below].concat(), &of);
        host.crio_container(&of).cgroup_dirs(&cgroup, &[pid]);
        host.process(pid).in_docker(of.id()).in_cgroup(&cgroup).nspid(&[pid, 1]).write();
        of
    }

    /// A host with a pod of two containers, one of which ended.
    fn host(&self) -> (FixtureHost, [CrioContainer; 3]) {
        let host = FixtureHost::with_layout(self.layout);
        host.boot().dir("etc/crio");
        let sandbox = CrioContainer::sandbox("prod", "web-7d9");
        let pause = self.put(&host, &sandbox, 3000);
        let app = self.put(&host, &sandbox.container("app"), 3010);
        let job = sandbox.container("job").status("stopped").running(3020);
        host.crio_container(&job);
        (host, [pause, app, job])
    }
}

fn containers(host: &FixtureHost, args: &[&str]) -> Value {
    let list = whose().root(host.path()).args(["ls", "--json"]).args(args).run().json();
    list["containers"].clone()
}

fn pids(host: &FixtureHost, target: &str) -> String {
    ask(host, &["pids", target]).expect_code(0).stdout_str()
}

#[test]
fn a_pod_under_every_driver_and_version() {
    for rig in [SYSTEMD_CRUN, SYSTEMD_RUNC_V1, CGROUPFS] {
        let (host, [pause, app, job]) = rig.host();
        let found = answer(&host, "3010");
        let owner = &found["owner"];
        let uid = app.uid();
        assert_eq!(owner["kind"], "container", "{found:#}");
        assert_eq!((&owner["runtime"], &owner["name"]), (&json!("cri-o"), &json!("app")));
        assert_eq!(owner["id"], app.id());
        let classes = ["burstable", "besteffort"];
        let qos = classes.into_iter().find(|c| rig.pod.contains(c)).unwrap_or("guaranteed");
        let pod = json!({
            "name": "web-7d9", "namespace": "prod", "uid": uid, "container": "app", "qos": qos,
            "restarts": 0,
        });
        assert_eq!(owner["pod"], pod, "{found:#}");
        assert_eq!(owner["image"], "registry.example/app:1");
        assert_eq!(owner["image_id"], format!("sha256:{}", fake_id("app:1")));
        assert_eq!(owner["labels"]["io.kubernetes.pod.name"], "web-7d9");
        assert_eq!(
            (&owner["state"], &owner["engine_state"]),
            (&json!("running"), &json!("running"))
        );
        assert_eq!(owner["created"], "2024-01-02T03:10:00.123Z");
        assert_eq!(owner["started"], "2024-01-02T03:10:01.987Z");
        assert_eq!(owner["init_pid"], 3010);
        assert_eq!(owner["log"], format!("/var/log/pods/prod_web-7d9_{uid}/app/0.log"));
        assert_eq!(found["process"]["role"], "init");
        assert_eq!(found["chain"][0]["kind"], "pod");
        assert_eq!(found["gaps"], json!([]), "{found:#}");
        let card = ask(&host, &["3010"]).expect_code(0).stdout_str();
        assert!(card.contains("prod/web-7d9"), "{card}");

        let sandbox = answer(&host, "3000");
        assert_eq!(sandbox["owner"]["kind"], "sandbox", "{sandbox:#}");
        assert_eq!(sandbox["owner"]["name"], "web-7d9");
        assert_eq!(sandbox["owner"]["pod"]["container"], Value::Null);
        assert_eq!(sandbox["process"]["role"], "sandbox");

        // By name, by CRI-O's own name and by the id's beginning, running or not.
        for target in ["app", &app.crio_name(), app.id(), &app.id()[..9]] {
            assert_eq!(pids(&host, target), "3010\n");
        }
        assert_eq!(pids(&host, pause.id()), "3000\n");
        let ended = ask(&host, &["pids", "job"]).expect_code(1);
        assert!(ended.stderr_str().contains("job is exited"), "{}", ended.story());
        let ended = answer(&host, job.id());
        assert_eq!(
            (&ended["owner"]["state"], &ended["owner"]["engine_state"]),
            (&json!("exited"), &json!("stopped"),)
        );
        assert_eq!(ended["owner"]["pod"]["container"], "job");

        let names = |args: &[&str]| -> Vec<String> {
            let list = containers(&host, args);
            let list = list.as_array().unwrap().iter();
            list.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&[]), ["app"]);
        let mut all = names(&["-a"]);
        all.sort();
        assert_eq!(all, ["app", "job", "web-7d9"]);
    }
}

/// What the kubelet's files say elsewhere: here nothing but CRI-O's state names the pod.
#[test]
fn pods_and_their_containers_are_found_by_name() {
    for rig in [SYSTEMD_CRUN, SYSTEMD_RUNC_V1, CGROUPFS] {
        let (host, [pause, app, job]) = rig.host();
        let other = CrioContainer::sandbox("test", "web-7d9");
        let _ = rig.put(&host, &other, 3200);
        let again = rig.put(&host, &other.container("app").attempt(2), 3210);
        let uid = app.uid();
        for target in ["pod:prod/web-7d9", &format!("pod:{uid}"), uid] {
            let found = answer(&host, target);
            assert_eq!((&found["kind"], &found["status"]), (&json!("pod"), &json!("found")));
            assert_eq!(found["owner"]["name"], "web-7d9", "{target} {found:#}");
            assert_eq!(found["owner"]["pod"]["namespace"], "prod");
            assert_eq!(found["owner"]["id"], uid);
            assert_eq!(pids(&host, target), "3000\n3010\n");
        }
        assert_eq!(pids(&host, "pod:prod/web-7d9/app"), "3010\n");
        assert_eq!(pids(&host, "pod:test/web-7d9/app"), "3210\n");
        let found = answer(&host, "pod:test/web-7d9/app");
        assert_eq!(
            (&found["owner"]["id"], &found["owner"]["pod"]["restarts"]),
            (&json!(again.id()), &json!(2),)
        );
        // One that ended is found, and has no processes.
        let ended = answer(&host, "pod:prod/web-7d9/job");
        assert_eq!(
            (&ended["owner"]["id"], &ended["owner"]["state"]),
            (&json!(job.id()), &json!("exited"),)
        );
        ask(&host, &["pids", "pod:prod/web-7d9/nobody"]).expect_code(1);
        ask(&host, &["pids", "pod:prod/web"]).expect_code(1);
        let both = ask(&host, &["--json", "pod:web-7d9"]).expect_code(4).json();
        let candidates = both["answers"][0]["candidates"].as_array().unwrap().len();
        assert_eq!(candidates, 2, "{both:#}");
        assert_eq!(answer(&host, pause.id())["owner"]["pod"].get("restarts"), None);
    }
}

#[test]
fn a_pod_is_found_by_the_table_and_by_labels() {
    // Before its configuration is written, only the table knows a container.
    let (host, [_, app, _]) = CGROUPFS.host();
    host.remove(format!("{}/config.json", app.dir()));
    assert_eq!(pids(&host, "pod:prod/web-7d9/app"), "3010\n");
    assert_eq!(answer(&host, "3010")["owner"]["pod"]["restarts"], 0);
    // Names that somebody chose otherwise than CRI-O does.
    let host = FixtureHost::new();
    host.boot().dir("etc/crio");
    let odd = CrioContainer::sandbox("prod", "web").in_sandbox_called("web_of_prod");
    let odd = odd.container("app");
    let odd = SYSTEMD_CRUN.put(&host, &odd, 3010);
    let found = answer(&host, "pod:prod/web/app");
    assert_eq!((&found["owner"]["id"], &found["owner"]["name"]), (&json!(odd.id()), &json!("app")));
    assert_eq!(found["owner"]["pod"]["restarts"], 0);
    // A container whose files are broken may be the one: that is said.
    host.file(format!("{}/config.json", odd.dir()), "{");
    let unread = ask(&host, &["pids", "pod:prod/web/app"]).expect_code(3);
    assert!(unread.stderr_str().contains("config.json"), "{}", unread.story());
}

#[test]
fn monitors_serve_their_container_and_are_in_none() {
    let (host, [_, app, _]) = SYSTEMD_CRUN.host();
    let id = app.id().as_bytes();
    let scope = format!("{}/crio-conmon-{}.scope", SYSTEMD_CRUN.pod_cgroup(&app), app.id());
    host.process(2900).comm("conmon").cmdline(&[b"/usr/bin/conmon"]).in_cgroup(&scope).write();
    let args: [&[u8]; 7] = [
        b"/usr/bin/conmon",
        b"-b",
        b"/run/containers/storage/overlay-containers/x/userdata",
        b"-c",
        id,
        b"--exit-dir",
        b"/var/run/crio/exits",
    ];
    let conmon = host.process(2901).comm("conmon").cmdline(&args);
    conmon.in_cgroup("/system.slice/crio.service").write();
    for pid in ["2900", "2901"] {
        let found = answer(&host, pid);
        assert_eq!(found["process"]["role"], "plumbing", "{found:#}");
        assert_eq!(found["process"]["serves"], app.id());
        let chain = found["chain"].as_array().unwrap();
        assert!(chain.iter().all(|o| o["kind"] != "container"), "{found:#}");
        let card = ask(&host, &[pid]).expect_code(0).stdout_str();
        assert!(card.contains("serves app"), "{card}");
    }
    let daemon = host.process(2902).comm("crio").cmdline(&[b"/usr/bin/crio"]);
    daemon.in_cgroup("/system.slice/crio.service").write();
    assert_eq!(answer(&host, "2902")["process"]["role"], "plumbing");
    // The container's init is its child: the card names it.
    let below = [SYSTEMD_CRUN.pod, SYSTEMD_CRUN.leaf, SYSTEMD_CRUN.below].concat();
    let below = SYSTEMD_CRUN.fill(&below, &app);
    let init = host.process(3010).ppid(2901).in_docker(app.id()).in_cgroup(&below);
    init.nspid(&[3010, 1]).write();
    let card = ask(&host, &["3010"]).expect_code(0).stdout_str();
    assert!(card.contains("conmon 2901"), "{card}");
}

#[test]
fn a_stale_pid_is_nobodys_init() {
    let (host, [_, app, _]) = SYSTEMD_CRUN.host();
    assert_eq!(answer(&host, app.id())["owner"]["init_pid"], 3010);
    // The same PID, in the container still, but begun at another time than CRI-O wrote down.
    let other = app.clone().start_ticks(7);
    host.file(format!("{}/state.json", app.dir()), "").crio_container(&other.untabled());
    let found = answer(&host, app.id());
    assert_eq!(found["owner"]["init_pid"], Value::Null, "{found:#}");
    assert_eq!(found["owner"]["state"], "running");
}

#[test]
fn moved_roots_are_found() {
    let moved = |host: &FixtureHost| {
        let pod = CrioContainer::sandbox("prod", "web").graph_root("/srv/crio");
        let _ = SYSTEMD_CRUN.put(host, &pod.container("app"), 3010);
        let found = answer(host, "app");
        assert_eq!(found["owner"]["runtime"], "cri-o", "{found:#}");
        assert_eq!(found["processes"][0]["pid"], 3010);
    };
    let host = || {
        let host = FixtureHost::new();
        host.boot().dir("etc/crio");
        host
    };
    let storage = host();
    storage.file("etc/containers/storage.conf", "[storage]\ngraphroot = \"/srv/crio\"\n");
    moved(&storage);
    let conf = host();
    conf.file("etc/crio/crio.conf", "[crio]\nroot = \"/srv/crio\"\n");
    moved(&conf);
    // A later file of the directory has the last word; what is empty says nothing.
    let dropped = host();
    dropped.file("etc/crio/crio.conf", "[crio]\nroot = \"/srv/old\"\n");
    dropped.file("etc/crio/crio.conf.d/10-root.conf", "[crio]\nroot = \"/srv/crio\"\n");
    dropped.file("etc/crio/crio.conf.d/20-other.conf", "[crio]\nroot = \"\"\n");
    moved(&dropped);
    let daemon = host();
    daemon.cgroup_dir("system.slice/crio.service", &[700]);
    daemon
        .process(700)
        .comm("crio")
        .cmdline(&[b"/usr/bin/crio", b"--root", b"/srv/crio"])
        .in_cgroup("/system.slice/crio.service")
        .write();
    moved(&daemon);
    let named = host();
    named.cgroup_dir("system.slice/crio.service", &[700]);
    named.file("opt/crio.conf", "[crio]\nroot = \"/srv/crio\"\n");
    named
        .process(700)
        .comm("crio")
        .cmdline(&[b"/usr/bin/crio", b"-c", b"/opt/crio.conf"])
        .in_cgroup("/system.slice/crio.service")
        .write();
    moved(&named);
}

#[test]
fn a_containers_root_mount_leads_to_the_store() {
    let host = FixtureHost::new();
    host.boot();
    let pod = CrioContainer::sandbox("prod", "web").graph_root("/srv/hidden").container("app");
    let app = SYSTEMD_CRUN.put(&host, &pod, 3010);
    let layer = fake_id("a layer");
    let cgroup = SYSTEMD_CRUN.fill("/system.slice/crio-ID.scope/container", &app);
    host.cgroup_dir(&cgroup, &[3010]);
    host.process(3010)
        .in_docker(app.id())
        .in_cgroup(&cgroup)
        .mountinfo(format!(
            "147 97 0:61 / / rw - overlay overlay rw,lowerdir=/srv/hidden/overlay/l/X,\
             upperdir=/srv/hidden/overlay/{layer}/diff,workdir=/srv/hidden/overlay/{layer}/work\n"
        ))
        .write();
    let found = answer(&host, "3010");
    assert_eq!(found["owner"]["name"], "app", "{found:#}");
}

#[test]
fn podmans_containers_in_the_same_store_are_not_crios() {
    let (host, [_, app, _]) = CGROUPFS.host();
    let web = fake_id("podman's");
    let store = "var/lib/containers/storage/overlay-containers";
    let metadata = r#"{"image-name":"app:1","name":"web","created-at":1}"#;
    let entry = json!([{"id": web, "names": ["web"], "metadata": metadata}]);
    host.file(format!("{store}/containers.json"), entry.to_string());
    let spec = r#"{"annotations":{"io.container.manager":"libpod"}}"#;
    host.file(format!("{store}/{web}/userdata/config.json"), spec);
    ask(&host, &["pids", "web"]).expect_code(1);
    ask(&host, &["pids", &web]).expect_code(1);
    let list = containers(&host, &["-a"]);
    let of = |runtime: &str| -> Vec<&Value> {
        list.as_array().unwrap().iter().filter(|o| o["runtime"] == runtime).collect()
    };
    assert_eq!((of("cri-o").len(), of("podman").len()), (3, 1), "{list:#}");
    assert_eq!(of("podman")[0]["id"], web.as_str());
    let doctor = ask(&host, &["doctor", "--json"]).json();
    let crio = |d: &Value| d["engines"].as_array().unwrap().iter().any(|e| e["runtime"] == "cri-o");
    assert!(crio(&doctor), "{doctor:#}");
    assert_eq!(answer(&host, app.id())["owner"]["runtime"], "cri-o");
    // A host with Podman alone has no CRI-O.
    let alone = FixtureHost::new();
    alone.boot().file(format!("{store}/containers.json"), entry.to_string());
    assert!(!crio(&ask(&alone, &["doctor", "--json"]).json()));
}

#[test]
fn a_pod_without_a_pause_process() {
    let (host, _) = SYSTEMD_CRUN.host();
    let pod = CrioContainer::sandbox("kube-system", "proxy");
    let dropped = pod.clone().annotation("spoofed.crio.io", "true");
    host.crio_container(&dropped);
    let app = SYSTEMD_CRUN.put(&host, &pod.container("proxy-app"), 3100);
    // The cgroup that stands in for the sandbox's, so that the pod shows in statistics.
    host.cgroup_dirs(&format!("{}/crio-{}", SYSTEMD_CRUN.pod_cgroup(&app), pod.id()), &[]);
    let found = answer(&host, pod.id());
    assert_eq!(
        (&found["owner"]["kind"], &found["owner"]["name"]),
        (&json!("sandbox"), &json!("proxy"),)
    );
    // Nothing of it runs, and CRI-O does not say that it ended.
    assert_eq!(found["owner"]["state"], "unknown", "{found:#}");
    assert!(found.get("processes").is_none());
}

#[test]
fn what_is_wrong_with_the_files_is_a_gap_and_no_other_answer() {
    for (file, text) in [
        ("config.json", "{\"annotations\":"),
        ("config.json", "7"),
        ("state.json", "{\"pid\":"),
        ("state.json", "{\"pid\":\"7\"}"),
    ] {
        let (host, [_, app, _]) = SYSTEMD_CRUN.host();
        host.file(format!("{}/{file}", app.dir()), text);
        let found = answer(&host, "3010");
        assert_eq!(found["owner"]["id"], app.id(), "{found:#}");
        assert_eq!(
            (&found["owner"]["runtime"], &found["owner"]["name"]),
            (&json!("cri-o"), &Value::Null,)
        );
        assert_eq!(found["gaps"][0]["class"], "malformed", "{file} {text} {found:#}");
        assert_eq!(found["owner"]["pod"]["uid"], app.uid());
        assert_eq!(pids(&host, app.id()), "3010\n");
    }
    let (host, [_, app, _]) = SYSTEMD_CRUN.host();
    host.sparse(format!("{}/config.json", app.dir()), 200 << 20);
    assert_eq!(answer(&host, "3010")["gaps"][0]["class"], "malformed");
    // From a newer version, with what nobody knows yet.
    let newer =
        json!({"annotations": app.config()["annotations"], "linux": null, "zones": {"a": 1}});
    host.remove(format!("{}/config.json", app.dir()));
    host.file(format!("{}/config.json", app.dir()), newer.to_string());
    assert_eq!(answer(&host, "3010")["owner"]["name"], "app");
    // Gone, while the table still has it.
    host.remove(format!("{}/config.json", app.dir()));
    let bare = answer(&host, "3010");
    assert_eq!(
        (&bare["owner"]["name"], &bare["owner"]["pod"]["name"]),
        (&json!("app"), &json!("web-7d9"),)
    );
    // A broken table is said where containers are looked for by name.
    host.file("var/lib/containers/storage/overlay-containers/volatile-containers.json", "[{");
    let named = ask(&host, &["pids", "nobody"]).expect_code(3);
    assert!(named.stderr_str().contains("volatile-containers.json"), "{}", named.story());
}

#[test]
fn names_that_cannot_be_taken_apart_come_from_labels() {
    let host = FixtureHost::new();
    host.boot().dir("etc/crio");
    let app = CrioContainer::sandbox("prod", "web").container("app");
    let odd = app.clone().annotation("io.kubernetes.cri-o.Name", "k8s_a_b_c_d_e_f_g");
    let odd = odd.annotation("io.kubernetes.cri-o.SandboxName", "x\u{1b}[31m_y");
    let _ = SYSTEMD_CRUN.put(&host, &odd, 3010);
    let found = answer(&host, "3010");
    assert_eq!(found["owner"]["pod"]["name"], "web", "{found:#}");
    assert_eq!(found["owner"]["name"], "app");
    // Escapes stay what they are in JSON, and are told on a card.
    let name = "io.kubernetes.cri-o.ImageName";
    let hostile = app.annotation(name, "registry/\u{1b}]0;x\u{7}\u{202e}app:1");
    let _ = SYSTEMD_CRUN.put(&host, &hostile.untabled(), 3010);
    assert_eq!(answer(&host, "3010")["owner"]["image"], "registry/\u{1b}]0;x\u{7}\u{202e}app:1");
    let card = ask(&host, &["3010"]).expect_code(0).stdout_str();
    assert!(!card.contains('\u{1b}') && !card.contains('\u{202e}'), "{card:?}");
}

#[test]
fn docker_beside_it_keeps_its_own() {
    let (host, [_, app, _]) = CGROUPFS.host();
    let db = DockerContainer::named("db").running(5000);
    host.docker_container(&db).cgroup_dir(&format!("docker/{}", db.id()), &[5000]);
    host.process(5000).in_docker(db.id()).write();
    assert_eq!(answer(&host, "5000")["owner"]["runtime"], "docker");
    assert_eq!(answer(&host, "3010")["owner"]["id"], app.id());
    assert_eq!(containers(&host, &[]).as_array().unwrap().len(), 2);
}
