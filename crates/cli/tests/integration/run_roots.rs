//! What engines keep of a container until the host starts anew: the run root of containers/storage.

use serde_json::{Value, json};
use whose_testkit::fixture::{
    CgroupLayout, CrioContainer, FixtureHost, PodmanContainer, db_sql, fake_id,
};

use crate::support::{answer, ask};

const GRAPH_ROOT: &str = "/var/lib/containers/storage";
const RUN_ROOT: &str = "/run/containers/storage";

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    // As the library makes it, without tables.
    host.file(format!("{RUN_ROOT}/overlay-layers/mountpoints.lock"), "");
    host
}

/// A file in the directory of this id below a run root, made.
fn kept(host: &FixtureHost, run_root: &str, id: &str) -> String {
    let file = format!("{run_root}/overlay-containers/{id}/userdata/resolv.conf");
    host.file(&file, "nameserver 127.0.0.1\n");
    file
}

/// The owner of what is kept for it, and what that is.
fn owner(host: &FixtureHost, file: &str) -> Value {
    let told = answer(host, file);
    assert_eq!([&told["status"], &told["kind"]], ["found", "path"], "{told:#}");
    let stored = &told["file"]["stored"];
    let expected = [&json!("container-record"), &json!("used"), &told["owner"]["id"]];
    assert_eq!([&stored["kind"], &stored["standing"], &stored["id"]], expected, "{told:#}");
    assert_eq!(told["evidence"][0]["source"], "state-file", "{told:#}");
    told["owner"].clone()
}

#[test]
fn podmans_run_root_leads_to_its_container() {
    for run_root in [RUN_ROOT, "/srv/run"] {
        let host = host();
        let (web, other) = (PodmanContainer::named("web"), PodmanContainer::named("other"));
        let all = [web.state(6).run_root(run_root), other.state(6)];
        host.podman_containers(GRAPH_ROOT, &all);
        let file = kept(&host, run_root, all[0].id());
        let dir = file.rsplit_once("/userdata").unwrap().0;
        for path in [&file, dir, &format!("{dir}/userdata")] {
            let told = owner(&host, path);
            assert_eq!([&told["runtime"], &told["name"]], ["podman", "web"], "{told:#}");
            assert_eq!(told["state"], "exited", "{told:#}");
        }
        let card = ask(&host, &[&file]).expect_code(0).stdout_str();
        assert!(card.contains("web") && card.contains("podman"), "{card}");
        // A directory of that name that no engine says is its.
        for (base, id) in [("/srv/made", all[0].id()), (run_root, all[1].id())] {
            let told = answer(&host, &kept(&host, base, id));
            assert!(told.get("owner").is_none_or(Value::is_null), "{told:#}");
        }
        let told = answer(&host, &kept(&host, run_root, &fake_id("unknown")));
        assert!(told.get("owner").is_none_or(Value::is_null), "{told:#}");
    }
}

#[test]
fn cri_os_run_root_leads_to_its_container() {
    let host = host();
    host.dir("etc/crio");
    let pod = CrioContainer::sandbox("shop", "demo");
    let web = pod.container("web").status("stopped");
    for one in [&pod, &web] {
        host.crio_container(one);
        let file = kept(&host, RUN_ROOT, one.id());
        assert!(file.starts_with(&one.run_dir()), "{file}");
        let told = owner(&host, &file);
        assert_eq!([&told["runtime"], &told["id"]], ["cri-o", one.id()], "{told:#}");
        assert_eq!(told["pod"]["name"], "demo", "{told:#}");
    }
    // Without a process of the pod's own no runtime was given a directory.
    let lone = CrioContainer::sandbox("shop", "lone");
    let name = format!("{}/hostname", lone.run_dir());
    let lone = lone.annotation("io.kubernetes.cri-o.HostnamePath", &name);
    host.crio_container(&lone);
    let state = json!({"status": "running", "id": lone.id()}).to_string();
    host.file(format!("{}/state.json", lone.dir()), state);
    assert_eq!(owner(&host, &kept(&host, RUN_ROOT, lone.id()))["kind"], "sandbox");
}

#[test]
fn what_is_bound_from_there_leads_to_where_it_is_shown() {
    let host = host();
    host.dir("etc/crio");
    let pod = CrioContainer::sandbox("shop", "demo");
    let web = pod.container("web").status("stopped");
    let file = kept(&host, RUN_ROOT, web.id());
    let web = web.bind("/etc/resolv.conf", &file);
    host.crio_container(&pod).crio_container(&web);
    let table = json!([{"id": web.layer()}]).to_string();
    host.file(format!("{GRAPH_ROOT}/overlay-layers/layers.json"), table);
    host.dir(format!("{GRAPH_ROOT}/overlay/{}/diff", web.layer()));
    let run = ask(&host, &["path", &file]).expect_code(0);
    assert_eq!(run.stdout_str(), "web:/etc/resolv.conf\n", "{}", run.story());
    let below = ask(&host, &["path", file.rsplit_once('/').unwrap().0]).expect_code(1);
    assert_eq!(below.stdout_str(), "");
}

#[test]
fn a_users_word_counts_for_his_own_directories() {
    let host = host();
    host.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n");
    let (his, run) = ("/home/alice/.local/share/containers/storage", "/run/user/1001/containers");
    let manager = "/user.slice/user-1001.slice/user@1001.service";
    host.cgroup_dirs(&format!("{manager}/init.scope"), &[]);
    let web = PodmanContainer::named("web").state(6).run_root(run);
    host.file(format!("{his}/db.sql"), db_sql(std::slice::from_ref(&web)));
    let told = owner(&host, &kept(&host, run, web.id()));
    assert_eq!([&told["name"], &told["user"]], ["web", "alice"], "{told:#}");
    let told = answer(&host, &kept(&host, RUN_ROOT, web.id()));
    assert!(told.get("owner").is_none_or(Value::is_null), "{told:#}");
}
