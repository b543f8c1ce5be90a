//! Cgroups that bear the names of an engine's, with nothing of that engine behind them: anyone who may make cgroups
//! can call them so. A claim on such grounds says that it is not proven; and every engine there is has its row here.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use whose_core::runtime::REGISTRY;
use whose_testkit::fixture::{CgroupLayout, FixtureHost, fake_id};

use crate::support::{answer, ask};

const UUID: &str = "1516e0f0-b9bc-5ef8-89e2-a23fa6bbd7fc";
const STEP: &str = "g5yogqga49au6t3bd3ayj757s";

/// What looks like an engine's, below whatever cgroup its maker has.
enum Shape {
    /// A path whose text alone names the engine: it is told, and said not to be proven.
    Told(String),
    /// A path that is nothing without the engine's state or a monitor of its: nobody claims it.
    Nothing(String),
    /// No cgroup's text names it.
    None,
}

fn shape(engine: &str) -> Shape {
    use Shape::{None, Nothing, Told};
    let id = fake_id("look-alike");
    let escaped = UUID.replace('-', "\\x2d");
    match engine {
        "docker" => Told(format!("/docker-{id}.scope")),
        "buildkit" => Told(format!("/buildkit/{STEP}")),
        "containerd" => Told(format!("/cri-containerd-{id}.scope")),
        "cri-o" => Told(format!("/crio-{id}.scope")),
        "podman" => Told(format!("/libpod-{id}.scope/container")),
        "buildah" => Told("/buildah-buildah2461284341".into()),
        "kata" => Told(format!("/kata_{id}")),
        "kubernetes" => Told(format!("/kubepods/besteffort/pod{UUID}/{id}")),
        // One of LXC's names leads to three others too, each by its own state.
        "lxd" | "incus" | "proxmox" => Nothing("/lxc.payload.web.x".into()),
        "lxc" => Told("/lxc.payload.web".into()),
        "systemd-nspawn" => Told("/machine.slice/machine-web.scope/payload".into()),
        "libvirt-lxc" => Told("/machine.slice/machine-lxc\\x2d7\\x2dweb.scope/libvirt".into()),
        "rkt" => Told(format!("/machine.slice/machine-rkt\\x2d{escaped}.scope")),
        "runc" => Told("/runc-web.scope".into()),
        "crun" => Told("/crun-web.scope/container".into()),
        "youki" => Told("/youki-web.scope".into()),
        "firecracker" => Told(format!("/firecracker/{UUID}")),
        "garden" => Told("/garden/6f265890-5165-7fab-6b52-18d1".into()),
        "ecs" => Told(format!("/ecs/d6785e51b602f0046c8af68c2805b616/{id}")),
        "nomad" => Told(format!("/nomad.slice/share.slice/{UUID}.redis.scope")),
        "mesos" => Told(format!("/mesos/{UUID}")),
        "slurm" => Told("/slurmstepd.scope/job_48213/step_0/user/task_0".into()),
        "openvz" => Told(format!("/machine.slice/{UUID}")),
        "flatpak" => Told("/app-flatpak-org.x.Y-2347861950.scope".into()),
        "snap" => Told(format!("/snap.firefox.firefox-{UUID}.scope")),
        "apptainer" => Told("/apptainer-31415.scope".into()),
        // These have no cgroup of their own, and systemd's units contain nothing.
        "gvisor" | "sysbox" | "bubblewrap" | "firejail" | "systemd" => None,
        other => {
            panic!("{other} has no look-alike: add one, so that it is known what is made of it")
        }
    }
}

/// The host's, and that of a user to whom a cgroup was delegated.
const MAKERS: [&str; 2] =
    ["/srv.slice", "/user.slice/user-1000.slice/user@1000.service/evil.slice"];

fn not_proven(told: &Value) -> Vec<&str> {
    let evidence = told["evidence"].as_array().unwrap().iter().filter(|e| e["agrees"] == false);
    evidence.filter_map(|e| e["detail"].as_str()).filter(|d| d.starts_with("not proven")).collect()
}

#[test]
fn every_engines_name_alone_is_said_not_to_be_proven() {
    let mut told_of = BTreeSet::new();
    for runtime in REGISTRY {
        let engine = runtime.engine().0;
        let (path, is_told) = match shape(engine) {
            Shape::Told(path) => (path, true),
            Shape::Nothing(path) => (path, false),
            Shape::None => continue,
        };
        for (maker, uid) in MAKERS.iter().zip([0, 1000]) {
            // With the host's namespaces, and with mounts of his own on the host's root, which cost a user nothing.
            for own_mounts in [false, true] {
                let host = FixtureHost::with_layout(CgroupLayout::V2);
                host.boot();
                let cgroup = format!("{maker}{path}");
                let process = host.process(800).comm("sleep").uid(uid).host_mounts();
                let process = process.in_cgroup(&cgroup);
                if own_mounts {
                    process.ns("mnt", 4_026_599_999).write()
                } else {
                    process.write()
                }
                host.cgroup_dirs(&cgroup, &[800]);
                let told = answer(&host, "800");
                let context = format!("{engine} in {cgroup}, own mounts {own_mounts}: {told:#}");
                let owner = &told["owner"];
                if !is_told {
                    assert_ne!(owner["runtime"], engine, "{context}");
                    continue;
                }
                assert_eq!(owner["runtime"], engine, "{context}");
                let wanted = format!("not proven: only a cgroup's name says {engine}");
                assert_eq!(not_proven(&told), [wanted.as_str()], "{context}");
                assert!(owner["init_pid"].is_null(), "{context}");
                let file = |e: &Value| e["source"] == "state-file" && e["agrees"] == true;
                assert!(!told["evidence"].as_array().unwrap().iter().any(file), "{context}");
                told_of.insert(engine);
            }
        }
    }
    assert!(told_of.len() >= 24, "{told_of:?}");
}

/// A machine, and a unit, that were given another engine's names.
#[test]
fn names_of_other_engines_are_only_names() {
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let id = fake_id("named");
    for (pid, cgroup, runtime, name) in [
        (801, format!("/lxc.payload.docker-{id}.scope"), "lxc", format!("docker-{id}.scope")),
        (
            802,
            format!("/lxc.payload.docker-{id}.scope/system.slice/x.service"),
            "lxc",
            format!("docker-{id}.scope"),
        ),
        (803, "/system.slice/libpod-x.scope".to_owned(), "systemd", "libpod-x.scope".to_owned()),
        (
            804,
            format!("/system.slice/docker-{id}.service"),
            "systemd",
            format!("docker-{id}.service"),
        ),
        (
            805,
            format!("/system.slice/libpod-{}.scope", &id[..63]),
            "systemd",
            format!("libpod-{}.scope", &id[..63]),
        ),
    ] {
        let nested: &[u32] = if runtime == "lxc" { &[pid, 2] } else { &[pid] };
        host.process(pid).nspid(nested).in_cgroup(&cgroup).write();
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        assert_eq!(
            [&owner["runtime"], &owner["name"]],
            [&json!(runtime), &json!(name)],
            "{owner:#}"
        );
        let code = if runtime == "lxc" { 0 } else { 5 };
        ask(&host, &["--in-container", "-q", &pid.to_string()]).expect_code(code);
    }
}
