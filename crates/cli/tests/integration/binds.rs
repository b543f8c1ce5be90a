//! Files of the host that containers have bound: by the tables of mounts in a saved tree.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost};

use crate::support::{answer, ask};

const PID: u32 = 700;

/// A host with a file, and the container `web` whose first process has these lines besides the mount at its root.
fn host(mounts: Option<&str>) -> (FixtureHost, DockerContainer) {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    host.file("/srv/data/file", "");
    let web = DockerContainer::named("web").running(PID);
    host.docker_container(&web);
    host.cgroup_dirs(&format!("/docker/{}", web.id()), &[PID]);
    let process = host.process(PID).in_docker(web.id());
    match mounts {
        Some(lines) => {
            process.mountinfo(format!("100 99 0:60 / / rw - fuse.x x rw\n{lines}")).write();
        }
        None => process.only(&["cgroup", "stat", "status", "ns"]).write(),
    }
    (host, web)
}

fn path(host: &FixtureHost, target: &str) -> (i32, String, String) {
    let run = ask(host, &["path", target]);
    (run.code.unwrap(), run.stdout_str(), run.stderr_str())
}

/// The one gap of an answer that is partial, and which names nobody.
fn gap(told: &Value) -> Value {
    assert_eq!([&told["status"], &told["owners"]], [&json!("partial"), &json!([])], "{told:#}");
    assert_eq!(told["gaps"].as_array().unwrap().len(), 1, "{told:#}");
    told["gaps"][0].clone()
}

#[test]
fn what_is_on_top_is_shown() {
    for (lines, inside) in [
        ("101 100 254:0 /srv/data /data rw - ext4 /dev/vda rw\n", "/data/file"),
        ("101 100 254:0 /srv/data/file /etc/x rw - ext4 /dev/vda rw\n", "/etc/x"),
        // In what lies over the directory that it was in before.
        (
            "101 100 254:0 /srv/data /a/b rw - ext4 /dev/vda rw\n102 100 0:7 / /a rw - tmpfs t rw\n\
             103 102 254:0 /srv /a/c rw - ext4 /dev/vda rw\n",
            "/a/c/data/file",
        ),
    ] {
        let (host, _) = host(Some(lines));
        let (code, out, err) = path(&host, "/srv/data/file");
        assert_eq!((code, out), (0, format!("web:{inside}\n")), "{lines}{err}");
        let told = answer(&host, "/srv/data/file");
        assert_eq!([&told["status"], &told["owners"][0]["name"]], ["found", "web"], "{told:#}");
        let seen = format!("web has it at {inside}");
        assert_eq!(told["evidence"][0]["detail"], json!(seen), "{told:#}");
    }
}

#[test]
fn what_lies_under_another_is_not_shown() {
    for lines in [
        "101 100 254:0 /srv/data /data rw - ext4 /dev/vda rw\n102 101 0:7 / /data rw - tmpfs t rw\n",
        "101 100 254:0 /srv/data /a/b rw - ext4 /dev/vda rw\n102 100 0:7 / /a rw - tmpfs t rw\n",
        "101 100 254:0 /srv/other /data rw - ext4 /dev/vda rw\n",
        "101 100 8:2 /srv/data /data rw - ext4 /dev/sdb1 rw\n",
    ] {
        let (host, _) = host(Some(lines));
        let (code, out, err) = path(&host, "/srv/data/file");
        assert_eq!((code, out.as_str()), (1, ""), "{lines}{err}");
        assert!(err.contains("is in no container, as far as is known"), "{err}");
    }
}

/// Two mounts of one at the same point: which of them is on top no table tells.
const UNCLEAR: &str = "102 100 0:7 / /data rw - tmpfs t rw\n103 100 0:8 / /data rw - tmpfs t rw\n";

#[test]
fn who_can_not_be_asked_is_a_gap() {
    let bound = format!("101 100 254:0 /srv/data /data/x rw - ext4 /dev/vda rw\n{UNCLEAR}");
    for (lines, cause) in [
        (Some(bound.as_str()), "the table of mounts does not tell what lies there"),
        (None, "/proc/700/mountinfo: no such file"),
    ] {
        let (host, _) = host(lines);
        let (code, out, err) = path(&host, "/srv/data/file");
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains("path: web: whether it has /srv/data/file can't be told"), "{err}");
        assert!(err.contains(cause), "{err}");
        let gap = gap(&answer(&host, "/srv/data/file"));
        assert_eq!([&gap["what"], &gap["path"]], ["path", "web"], "{gap:#}");
        assert_eq!(gap["remedy"].is_string(), lines.is_some(), "{gap:#}");
    }
}

#[test]
fn one_of_a_containers_processes_is_enough() {
    let (host, web) = host(Some("101 100 254:0 /srv/data /data rw - ext4 /dev/vda rw\n"));
    host.cgroup_dirs(&format!("/docker/{}", web.id()), &[PID - 1, PID]);
    host.process(PID - 1).in_docker(web.id()).only(&["cgroup", "stat", "status", "ns"]).write();
    assert_eq!(path(&host, "/srv/data/file"), (0, "web:/data/file\n".into(), String::new()));
}

#[test]
fn what_is_kept_for_a_container_that_can_not_be_asked() {
    let of = |lines: &dyn Fn(&str) -> String| {
        let id = DockerContainer::named("web").id().to_owned();
        let kept = format!("/var/lib/docker/containers/{id}/hosts");
        let (host, _) = host(Some(&lines(&kept)));
        host.file(&kept, "");
        path(&host, &kept)
    };
    let line = |kept: &str, at: &str| format!("101 100 254:0 {kept} {at} rw - ext4 /dev/vda rw\n");
    let told = of(&|kept| line(kept, "/etc/hosts"));
    assert_eq!(told, (0, "web:/etc/hosts\n".into(), String::new()));
    let (code, out, err) = of(&|kept| line(kept, "/data/hosts") + UNCLEAR);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("does not tell what lies there; ask on the running host"), "{err}");
    let (code, out, err) = of(&|_| String::new());
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("is of web, in no place that they show"), "{err}");
}
