//! crun and youki without an engine, with either driver of cgroups, by their files.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost};

use crate::support::{answer, ask};

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    host
}

fn run(host: &FixtureHost, pid: u32, cgroup: &str) {
    host.process(pid).nspid(&[pid, 1]).in_cgroup(cgroup).write();
    host.cgroup_dirs(cgroup, &[pid]);
    let own = cgroup.strip_suffix("/container").unwrap_or(cgroup);
    host.file(format!("sys/fs/cgroup{own}/cgroup.events"), "populated 1\nfrozen 0\n");
}

fn crun(host: &FixtureHost, id: &str, pid: u32, (cgroup, scope): (&str, &str)) {
    let status = json!({"pid": pid, "process-start-time": 1000 + pid, "cgroup-path": cgroup, "scope": scope,
        "rootfs": "rootfs", "bundle": "/b", "systemd-cgroup": !scope.is_empty(), "owner": "root",
        "created": "2026-01-02T03:04:05.000000Z"});
    host.file(format!("run/crun/{id}/status"), status.to_string());
}

fn youki(host: &FixtureHost, id: &str, pid: u32, (cgroup, systemd): (&str, bool)) {
    let state = json!({"ociVersion": "v1.0.2", "id": id, "status": "running", "pid": pid, "bundle": "/b",
        "annotations": {"tier": id}, "created": "2026-01-02T03:04:05Z", "creator": 0, "useSystemd": systemd});
    host.file(format!("run/youki/{id}/state.json"), state.to_string());
    let config = json!({"hooks": null, "cgroup_path": cgroup});
    host.file(format!("run/youki/{id}/youki_config.json"), config.to_string());
}

/// Kind, runtime, id, state and creation of whose a process is; and that its PIDs are found by its name.
fn is_told(host: &FixtureHost, pid: u32, runtime: &str, id: &str) {
    let told = answer(host, &pid.to_string());
    let owner = &told["owner"];
    assert_eq!(
        [&owner["kind"], &owner["runtime"], &owner["id"], &owner["state"], &owner["created"]],
        ["container", runtime, id, "running", "2026-01-02T03:04:05.000Z"],
        "{told:#}"
    );
    assert_eq!(owner["init_pid"], pid, "{told:#}");
    assert_eq!(ask(host, &["pids", id]).expect_code(0).pids(), [pid]);
}

#[test]
fn crun_with_either_driver() {
    let host = host();
    let scope = "/system.slice/crun-web.scope";
    crun(&host, "web", 501, (&format!("{scope}/container"), "crun-web.scope"));
    run(&host, 501, &format!("{scope}/container"));
    crun(&host, "db", 502, ("/db", ""));
    run(&host, 502, "/db");
    crun(&host, "app", 503, ("/prod.slice/prod-a.slice/crun-app.scope", "crun-app.scope"));
    run(&host, 503, "/prod.slice/prod-a.slice/crun-app.scope");
    for (pid, id) in [(501, "web"), (502, "db"), (503, "app")] {
        is_told(&host, pid, "crun", id);
        assert_eq!(answer(&host, &pid.to_string())["owner"]["rootfs"], "/b/rootfs");
    }
    // One of the same name elsewhere is another's.
    run(&host, 504, "/other/db");
    assert_eq!(answer(&host, "504")["owner"]["kind"], "unknown");
}

#[test]
fn youki_with_either_driver_and_a_cgroup_of_its_users() {
    let host = host();
    let all = [
        (501, "web", ":youki:web", true, "/system.slice/youki-web.scope"),
        (502, "db", ":youki:db", false, "/:youki:db"),
        (503, "app", "/prod/app", false, "/prod/app"),
        (504, "job", "prod-a.slice:youki:job", true, "/prod.slice/prod-a.slice/youki-job.scope"),
    ];
    for (pid, id, asked, systemd, cgroup) in all {
        youki(&host, id, pid, (asked, systemd));
        run(&host, pid, cgroup);
    }
    for (pid, id, ..) in all {
        is_told(&host, pid, "youki", id);
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        assert_eq!([&owner["labels"]["tier"], &owner["engine_state"]], [id, "running"]);
    }
    // Its state gives that cgroup to nobody.
    run(&host, 505, "/x/app");
    assert_eq!(answer(&host, "505")["owner"]["kind"], "unknown");
    // What is damaged is a gap, and so is what is another's.
    for (file, text) in [("youki_config.json", "{"), ("state.json", r#"{"id":"other"}"#)] {
        host.file(format!("run/youki/web/{file}"), text);
        let told = answer(&host, "501");
        assert_eq!([&told["owner"]["runtime"], &told["owner"]["id"]], ["youki", "web"], "{told:#}");
        let gap = |g: &Value| g["class"] == "malformed" && g["what"] == "container description";
        assert!(told["gaps"].as_array().unwrap().iter().any(gap), "{told:#}");
    }
}
