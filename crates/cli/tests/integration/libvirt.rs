//! Domains of libvirt's LXC driver: registered or not, defined and not running, with files that are damaged. The files
//! are written in the format of its sources.

use std::fs;

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost};

use crate::support::{answer, ask, whose};

const SECRET: &str = "hunter2-hunter2";

fn host() -> FixtureHost {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    host
}

/// A domain's definition; its id while it runs.
fn domain(name: &str, id: Option<u32>) -> String {
    let id = id.map(|id| format!(" id='{id}'")).unwrap_or_default();
    format!(
        "<domain type='lxc'{id}>\n  <name>{name}</name>\n  \
         <uuid>78177d07-ac0e-4057-b1de-9ccd66cbc3d7</uuid>\n  <os>\n    <type arch='x86_64'>exe</type>\n    \
         <initenv name='PASSWORD'>{SECRET}</initenv>\n  </os>\n  <devices>\n    \
         <filesystem type='mount' accessmode='passthrough'>\n      <source dir='/srv'/>\n      \
         <target dir='/data'/>\n    </filesystem>\n    <filesystem type='mount'>\n      \
         <source dir='/m/{name}'/>\n      <target dir='/'/>\n    </filesystem>\n  </devices>\n</domain>\n"
    )
}

fn define(host: &FixtureHost, name: &str) {
    host.file(format!("etc/libvirt/lxc/{name}.xml"), domain(name, None));
}

/// What libvirt writes of one that runs: its controller has the id as its PID.
fn runs(host: &FixtureHost, name: &str, id: u32, init: u32) {
    let text = format!(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n\
         <domstatus state='running' reason='booted' pid='{id}'>\n<init pid='{init}'/>\n{}</domstatus>\n",
        domain(name, Some(id))
    );
    define(host, name);
    host.file(format!("run/libvirt/lxc/{name}.xml"), text);
    host.file(format!("run/libvirt/lxc/{name}.pid"), format!("{id}\n"));
}

fn process(host: &FixtureHost, pid: u32, cgroup: &str) {
    host.process(pid).nspid(&[pid, 1]).in_cgroup(cgroup).write();
    host.cgroup_dirs(cgroup, &[pid]);
}

fn told(owner: &Value) -> [Value; 6] {
    ["runtime", "id", "name", "state", "rootfs", "init_pid"].map(|key| owner[key].clone())
}

fn rows(host: &FixtureHost) -> Vec<(String, String)> {
    let list = ask(host, &["ls", "-a", "--json"]).expect_code(0).json();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = list["containers"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "name"), text(row, "state"))).collect()
}

#[test]
fn a_domains_own_file_names_what_is_registered() {
    let host = host();
    // Underscores are left out of the name that is registered.
    let register = "NAME=lxc-77-myweb\nSCOPE=machine-lxc\\\\x2d77\\\\x2dmyweb.scope\nSERVICE=libvirt-lxc\n\
                    LEADER=601\nCLASS=container\nREALTIME=1767323045678000\n";
    host.file("run/systemd/machines/lxc-77-myweb", register);
    process(&host, 601, "/machine.slice/machine-lxc\\x2d77\\x2dmyweb.scope/libvirt");
    let wanted = |name: &str, rootfs: Value| {
        ["libvirt-lxc", "77", name, "running"]
            .map(Value::from)
            .into_iter()
            .chain([rootfs, json!(601)])
    };
    let owner = answer(&host, "601")["owner"].clone();
    assert!(told(&owner).into_iter().eq(wanted("myweb", Value::Null)), "{owner:#}");
    runs(&host, "my_web", 77, 601);
    let owner = answer(&host, "601")["owner"].clone();
    assert!(told(&owner).into_iter().eq(wanted("my_web", json!("/m/my_web"))), "{owner:#}");
    assert_eq!(owner["started"], "2026-01-02T03:04:05.678Z");
    for target in ["my_web", "container:libvirt-lxc/77"] {
        assert_eq!(ask(&host, &["pids", target]).expect_code(0).pids(), [601]);
    }
    assert_eq!(rows(&host), [("my_web".into(), "running".into())]);
}

#[test]
fn without_machined_libvirts_files_tell_it() {
    let host = host();
    runs(&host, "db", 88, 701);
    process(&host, 701, "/machine/lxc-88-db.libvirt-lxc");
    // As older releases call it.
    runs(&host, "old", 99, 801);
    process(&host, 801, "/machine/old.libvirt-lxc");
    for (pid, id, name) in [(701, "88", "db"), (801, "old", "old")] {
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        let root = format!("/m/{name}");
        let wanted = ["libvirt-lxc", id, name, "running", &root].map(Value::from);
        assert!(told(&owner).into_iter().eq(wanted.into_iter().chain([json!(pid)])), "{owner:#}");
        assert_eq!(owner["engine_state"], "running");
        assert_eq!(ask(&host, &["pids", name]).expect_code(0).pids(), [pid]);
    }
    let both = [("db", "running"), ("old", "running")].map(|(n, s)| (n.to_owned(), s.to_owned()));
    assert_eq!(rows(&host), both);
}

#[test]
fn what_is_only_defined_does_not_run() {
    let host = host();
    define(&host, "idle");
    runs(&host, "db", 88, 701);
    process(&host, 701, "/machine/lxc-88-db.libvirt-lxc");
    let owner = answer(&host, "idle")["owner"].clone();
    let wanted = ["libvirt-lxc", "idle", "idle", "exited", "/m/idle"].map(Value::from);
    assert!(told(&owner).into_iter().eq(wanted.into_iter().chain([Value::Null])), "{owner:#}");
    assert_eq!(owner["engine_state"], "shutoff");
    let pids = ask(&host, &["pids", "idle"]).expect_code(1);
    assert_eq!(pids.stderr_str().trim_end(), "whose: idle is exited");
    let both = [("db", "running"), ("idle", "exited")].map(|(n, s)| (n.to_owned(), s.to_owned()));
    assert_eq!(rows(&host), both);
}

/// Whose the process is its cgroup tells all the same.
#[test]
fn a_damaged_file_is_a_gap() {
    let secret = std::env::temp_dir().join(format!("whose-libvirt-{}", std::process::id()));
    fs::write(&secret, domain("db", Some(88))).unwrap();
    let deep = "<a>".repeat(200_000);
    let of_another = domain("other", Some(88));
    for damage in ["garbage", "empty", "deep", "another's", "link", "fifo", "huge"] {
        let host = host();
        process(&host, 701, "/machine/lxc-88-db.libvirt-lxc");
        let file = "run/libvirt/lxc/db.xml";
        match damage {
            "garbage" => drop(host.file(file, [0xdd, b'<', 0xff, b'&', b';'].repeat(900))),
            "empty" => drop(host.file(file, "")),
            "deep" => drop(host.file(file, &deep)),
            "another's" => drop(host.file(file, &of_another)),
            "link" => drop(host.symlink(file, &secret)),
            "fifo" => drop(host.fifo(file)),
            _ => drop(host.sparse(file, 1 << 40)),
        }
        let run = whose().root(host.path()).args(["--json", "701"]).run().expect_code(0);
        let told = run.json()["answers"][0].clone();
        let owner = &told["owner"];
        assert_eq!([&owner["runtime"], &owner["id"]], ["libvirt-lxc", "88"], "{damage}: {told:#}");
        assert!(!run.stdout_str().contains(SECRET), "{damage}: {told:#}");
        assert!(owner["rootfs"].is_null(), "{damage}: {told:#}");
    }
    fs::remove_file(&secret).unwrap();
}
