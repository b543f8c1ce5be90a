//! LXC's machines, and those of whoever uses it, by files as they write them: LXD, Incus, Proxmox. Bare
//! runc besides.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, FixtureHost};

use crate::support::{answer, ask, whose};

/// A machine with this cgroup: its monitor (the PID before) and its first process.
fn machine(host: &FixtureHost, pid: u32, (comm, title): (&str, &str), cgroup: &str) {
    let monitor = host.process(pid - 1).comm(comm).cmdline(&[title.as_bytes()]);
    let monitor = monitor.exe(format!("/usr/bin/{comm}"));
    let name = cgroup.rsplit(['.', '/']).next().unwrap();
    monitor.in_cgroup(&format!("/lxc.monitor.{name}")).write();
    host.process(pid).comm("init").ppid(pid - 1).nspid(&[pid, 1]).in_cgroup(cgroup).write();
    host.cgroup_dirs(cgroup, &[pid]);
}

fn config(host: &FixtureHost, dir: &str, name: &str) {
    let text = format!("lxc.uts.name = {name}\nlxc.rootfs.path = dir:{dir}/{name}/rootfs\n");
    host.file(format!("{dir}/{name}/config").trim_start_matches('/'), text.as_bytes());
}

fn backup(host: &FixtureHost, dir: &str, instance: &str, (project, name): (&str, &str)) {
    let text = format!(
        "container:\n  config:\n    image.description: Lab image\n    volatile.base_image: 6d25\n  \
         created_at: 2026-01-02T03:04:05.678Z\n  name: {name}\n  project: {project}\npool:\n  \
         name: default\n"
    );
    let volume = format!("{dir}/storage-pools/default/containers/{instance}");
    host.file(format!("{volume}/backup.yaml").trim_start_matches('/'), text.as_bytes());
    let link = format!("{dir}/containers/{instance}");
    host.symlink(link.trim_start_matches('/'), &volume);
}

fn told<'v>(owner: &'v Value, keys: &[&str]) -> Vec<&'v Value> {
    keys.iter().map(|key| &owner[*key]).collect()
}

fn host(layout: CgroupLayout) -> FixtureHost {
    let host = FixtureHost::with_layout(layout);
    host.boot();
    host
}

#[test]
fn the_monitor_says_which_directory_a_machine_is_in() {
    for layout in [CgroupLayout::V1, CgroupLayout::Hybrid, CgroupLayout::V2] {
        let host = host(layout);
        for dir in ["/var/lib/lxc", "/srv/lxc"] {
            config(&host, dir, "web");
        }
        machine(&host, 501, ("lxc-start", "[lxc monitor] /var/lib/lxc web"), "/lxc.payload.web");
        machine(&host, 601, ("lxc-start", "[lxc monitor] /srv/lxc web"), "/lxc.payload.web-1");
        for (pid, root) in [("501", "/var/lib/lxc/web/rootfs"), ("601", "/srv/lxc/web/rootfs")] {
            let owner = answer(&host, pid)["owner"].clone();
            let keys = ["kind", "runtime", "id", "name"];
            assert_eq!(told(&owner, &keys), ["machine", "lxc", "web", "web"], "{owner:#}");
            assert_eq!(owner["rootfs"], root, "{owner:#}");
        }
        assert_eq!(answer(&host, "600")["process"]["serves"], "web");
        let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
        let pids: Vec<&Value> =
            list["containers"].as_array().unwrap().iter().map(|c| &c["pids"]).collect();
        assert_eq!(pids, [&json!([501]), &json!([601])], "{list:#}");
    }
}

#[test]
fn a_number_without_a_monitor_is_part_of_the_name() {
    let host = host(CgroupLayout::V2);
    config(&host, "/var/lib/lxc", "web");
    host.process(501).nspid(&[501, 1]).in_cgroup("/lxc.payload.web-1").write();
    host.cgroup_dirs("/lxc.payload.web-1", &[501]);
    let owner = answer(&host, "501")["owner"].clone();
    assert_eq!(told(&owner, &["runtime", "id"]), ["lxc", "web-1"], "{owner:#}");
    // What does not run has ended, as far as anything is known of it.
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let web = list["containers"].as_array().unwrap().iter().find(|c| c["id"] == "web").unwrap();
    assert_eq!(told(web, &["kind", "state"]), ["machine", "exited"], "{web:#}");
    let run = ask(&host, &["pids", "web"]).expect_code(1);
    assert!(run.stderr_str().contains("web is exited"), "{}", run.story());
}

#[test]
fn instances_of_lxd_and_incus() {
    for (comm, engine, dir) in [("lxd", "lxd", "/srv/lxd"), ("incusd", "incus", "/var/lib/incus")] {
        let host = host(CgroupLayout::V2);
        backup(&host, dir, "c1", ("default", "c1"));
        backup(&host, dir, "staging_db", ("staging", "db"));
        let title = |name: &str| format!("[lxc monitor] {dir}/containers {name}");
        machine(&host, 501, (comm, &title("c1")), "/lxc.payload.c1");
        machine(&host, 601, (comm, &title("staging_db")), "/lxc.payload.staging_db");
        for (pid, name) in [("501", "c1"), ("601", "db")] {
            let owner = answer(&host, pid)["owner"].clone();
            let keys = ["kind", "runtime", "name", "image", "image_id", "created"];
            let wanted = ["machine", engine, name, "Lab image", "6d25", "2026-01-02T03:04:05.678Z"];
            assert_eq!(told(&owner, &keys), wanted, "{owner:#}");
            assert_eq!(ask(&host, &["pids", name]).expect_code(0).pids().len(), 1);
        }
        assert_eq!(answer(&host, "600")["process"]["serves"], "db");
    }
}

/// A setuid program waits for a password as root, called as whoever started it likes, with a cgroup below
/// it that he made.
#[test]
fn a_users_setuid_program_is_no_monitor() {
    let title = "[lxc monitor] /var/lib/lxd/containers c1";
    let his = "/user.slice/user-1000.slice/user@1000.service/lxc.payload.c1";
    let delegated = "/batch/lxc.payload.c1";
    for (real, exe) in [(1000, "/usr/bin/lxd"), (0, "/usr/bin/su"), (1000, "/usr/bin/su")] {
        let host = host(CgroupLayout::V2);
        backup(&host, "/var/lib/lxd", "c1", ("default", "c1"));
        let fake = host.process(500).comm("lxd").cmdline(&[title.as_bytes()]).exe(exe);
        fake.real_uid(real).in_cgroup("/user.slice/user-1000.slice/session-6.scope").write();
        for (pid, cgroup) in [(501, his), (502, delegated)] {
            let process = host.process(pid).ppid(500).uid(1000);
            process.nspid(&[pid, 1]).in_cgroup(cgroup).write();
            host.cgroup_dirs(cgroup, &[pid]);
            assert_ne!(answer(&host, &pid.to_string())["owner"]["runtime"], "lxd", "{real} {exe}");
        }
        let monitor = answer(&host, "500");
        let serves = (&monitor["process"]["role"], &monitor["process"]["serves"]);
        assert!(real == 0 || serves == (&json!("host"), &Value::Null), "{monitor:#}");
        let pids = ask(&host, &["pids", "container:lxd/default/c1"]).expect_code(1);
        assert_eq!(pids.stdout_str(), "");
        let list = ask(&host, &["ls", "-a", "--json"]).json();
        let of_lxd = |c: &&Value| c["runtime"] == "lxd" && c["pids"] != json!([]);
        assert_eq!(list["containers"].as_array().unwrap().iter().find(of_lxd), None, "{list:#}");
    }
}

/// What root's own monitor is above, and a user's cgroup has, is not the machine.
#[test]
fn a_cgroup_of_a_users_is_no_machine_of_roots() {
    let host = host(CgroupLayout::V2);
    backup(&host, "/var/lib/lxd", "c1", ("default", "c1"));
    let title = "[lxc monitor] /var/lib/lxd/containers c1";
    machine(&host, 501, ("lxd", title), "/lxc.payload.c1");
    let his = "/user.slice/user-1000.slice/user@1000.service/lxc.payload.c1";
    let moved = host.process(502).ppid(501).uid(1000).nspid(&[502, 9]).in_cgroup(his);
    moved.write();
    host.cgroup_dirs(his, &[502]);
    assert_eq!(answer(&host, "501")["owner"]["runtime"], "lxd");
    assert_ne!(answer(&host, "502")["owner"]["runtime"], "lxd");
    assert_eq!(ask(&host, &["pids", "container:lxd/default/c1"]).expect_code(0).pids(), [501]);
}

#[test]
fn where_lxcs_configuration_cant_be_read_that_is_a_gap() {
    let host = host(CgroupLayout::V2);
    host.file("etc/lxc/lxc.conf", b"lxc.lxcpath = /srv/lxc\n");
    config(&host, "/srv/lxc", "web");
    assert_eq!(ask(&host, &["ls", "-a", "-q"]).expect_code(0).stdout_str(), "web\n");
    host.remove("etc/lxc/lxc.conf").dir("etc/lxc/lxc.conf");
    let list = ask(&host, &["ls", "-a", "--json"]).json();
    let gap = &list["gaps"].as_array().unwrap()[0];
    assert!(gap["path"].as_str().unwrap().ends_with("/etc/lxc/lxc.conf"), "{list:#}");
    assert_eq!(gap["what"], "containers of an engine", "{list:#}");
}

#[test]
fn a_machine_that_a_log_names_is_not_removed_while_anybody_has_it() {
    let host = host(CgroupLayout::V2);
    config(&host, "/var/lib/lxc", "web");
    backup(&host, "/var/lib/lxd", "c1", ("default", "c1"));
    let of = |cgroup: &str| {
        let line = format!("Memory cgroup stats for {cgroup}: x");
        let run = whose().root(host.path()).arg("annotate").stdin(format!("{line}\n").as_bytes());
        let out = run.run().expect_code(0).stdout_str();
        out.trim_end().strip_prefix(&line).unwrap().to_owned()
    };
    assert_eq!(of("/lxc.payload.web"), " «web»");
    assert_eq!(of("/lxc.payload.c1"), " «c1»");
    assert_eq!(of("/lxc.payload.old"), " «old(removed)»");
    // What is registered only while it runs may be there still.
    assert_eq!(of("/machine.slice/machine-lab.scope/payload"), " «lab»");
    let pod = "/kubepods/burstable/pod3d4e5f60-4444-4555-8666-777788889999";
    assert!(!of(pod).contains("(removed)"), "{}", of(pod));
}

#[test]
fn proxmox_is_told_by_its_own_files() {
    let host = host(CgroupLayout::V2);
    let made = "lxc.uts.name = web\nlxc.rootfs.path = /var/lib/lxc/105/rootfs\n\
                lxc.cgroup.dir.container = lxc/105\nlxc.cgroup.dir.container.inner = ns\n";
    host.file("var/lib/lxc/105/config", made.as_bytes());
    host.file("etc/pve/lxc/105.conf", b"arch: amd64\nhostname: front\n\n[old]\nhostname: no\n");
    host.file("etc/pve/lxc/106.conf", b"hostname: spare\n");
    let nginx = "/lxc/105/ns/system.slice/nginx.service";
    host.process(501).nspid(&[501, 7]).in_cgroup(nginx).write();
    host.cgroup_dirs(nginx, &[501]);
    let owner = answer(&host, "501")["owner"].clone();
    let keys = ["kind", "runtime", "id", "name", "rootfs"];
    let wanted = ["machine", "proxmox", "105", "front", "/var/lib/lxc/105/rootfs"];
    assert_eq!(told(&owner, &keys), wanted, "{owner:#}");
    assert_eq!(ask(&host, &["pids", "front"]).expect_code(0).pids(), [501]);
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let names: Vec<&Value> =
        list["containers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["front", "spare"], "{list:#}");
}

#[test]
fn a_bare_id_is_runcs_where_its_state_gives_it_that_cgroup() {
    let host = host(CgroupLayout::V2);
    let state = |id: &str, cgroup: &str, pid: u32| {
        let text = format!(
            r#"{{"id":"{id}","init_process_pid":{pid},"init_process_start":{},
                "created":"2026-01-02T03:04:05Z","cgroup_paths":{{"":"/sys/fs/cgroup{cgroup}"}},
                "config":{{"rootfs":"/b/rootfs","labels":["tier=front","bundle=/b"]}}}}"#,
            1000 + pid
        );
        host.file(format!("run/runc/{id}/state.json"), text.as_bytes());
    };
    state("web", "/web", 501);
    state("other", "/user.slice/other", 0);
    for (pid, cgroup) in [(501, "/web"), (601, "/other"), (701, "/web.slice/web")] {
        host.process(pid).nspid(&[pid, 1]).in_cgroup(cgroup).write();
        host.cgroup_dirs(cgroup, &[pid]);
    }
    let owner = answer(&host, "501")["owner"].clone();
    let keys = ["kind", "runtime", "id", "rootfs", "init_pid"];
    let wanted = [json!("container"), json!("runc"), json!("web"), json!("/b/rootfs"), json!(501)];
    assert_eq!(told(&owner, &keys), wanted.iter().collect::<Vec<_>>(), "{owner:#}");
    assert_eq!(owner["labels"], json!({"tier": "front"}));
    for other in ["601", "701"] {
        assert_eq!(answer(&host, other)["owner"]["kind"], "unknown");
    }
    assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [501]);
}

#[test]
fn machines_that_are_registered() {
    let host = host(CgroupLayout::V2);
    let register = |name: &str, scope: &str, service: &str, pid: u32| {
        let text = format!(
            "NAME={name}\nSCOPE={scope}\nSERVICE={service}\nROOT=/m/{name}\nLEADER={pid}\n\
             CLASS=container\nREALTIME=1767323045678000\n"
        );
        host.file(format!("run/systemd/machines/{name}"), text.as_bytes());
    };
    register("fedora", "machine-fedora.scope", "systemd-nspawn", 501);
    register("lxc-77-web", "machine-lxc\\x2d77\\x2dweb.scope", "libvirt-lxc", 601);
    let fedora = "/machine.slice/machine-fedora.scope/payload";
    let web = "/machine.slice/machine-lxc\\x2d77\\x2dweb.scope/libvirt";
    for (pid, cgroup) in [(501, fedora), (601, web)] {
        host.process(pid).nspid(&[pid, 1]).in_cgroup(cgroup).write();
        host.cgroup_dirs(cgroup, &[pid]);
    }
    for (pid, runtime, id, name, root) in [
        (501, "systemd-nspawn", "fedora", "fedora", "/m/fedora"),
        (601, "libvirt-lxc", "77", "web", "/m/lxc-77-web"),
    ] {
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        let keys = ["runtime", "id", "name", "rootfs", "started"];
        let wanted = [runtime, id, name, root, "2026-01-02T03:04:05.678Z"];
        assert_eq!(told(&owner, &keys), wanted, "{owner:#}");
        assert_eq!(owner["init_pid"], pid);
        assert_eq!(ask(&host, &["pids", name]).expect_code(0).pids(), [pid]);
    }
}

/// Each level of a deep nest has its name, and a loop of parents has an end.
#[test]
fn twenty_levels_and_a_loop() {
    let host = host(CgroupLayout::V2);
    let path: String = (0..20).map(|n| format!("/lxc.payload.m{n}")).collect();
    let pids: Vec<u32> = (0..21).map(|n| if n == 0 { 501 } else { n }).collect();
    host.process(501).ppid(502).nspid(&pids).in_cgroup(&path).write();
    host.process(502).ppid(501).nspid(&[502, 9]).in_cgroup(&path).write();
    host.cgroup_dirs(&path, &[501, 502]);
    let found = answer(&host, "501");
    let chain = found["chain"].as_array().unwrap();
    let names: Vec<String> =
        chain.iter().map(|o| o["name"].as_str().unwrap_or_default().to_owned()).collect();
    let wanted: Vec<String> = (0..20).map(|n| format!("m{n}")).collect();
    assert_eq!(names, wanted, "{found:#}");
    // Nobody's: parents go round.
    host.process(601).ppid(602).nspid(&[601, 1]).in_cgroup("/").write();
    host.process(602).ppid(601).nspid(&[602, 1]).in_cgroup("/").write();
    assert_eq!(answer(&host, "601")["owner"]["kind"], "unknown");
}
