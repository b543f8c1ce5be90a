//! Machines of systemd-nspawn that no unit names: their cgroup is `/payload`, and what runs in them has
//! its state there.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost, TaskBundle, fake_id};

use crate::support::{answer, ask};

const UID: &str = "3d4e5f60-4444-4555-8666-777788889999";
/// A process without the link in whose place its root is saved.
const WITHOUT_ROOT: [&str; 8] =
    ["stat", "status", "cgroup", "cmdline", "mountinfo", "comm", "uid_map", "cwd"];

/// A supervisor (7000 and up) with a machine of this name, whose first process is the next PID.
fn machine(host: &FixtureHost, pid: u32, name: &str, init: &str) {
    let name = format!("--machine={name}");
    let args: [&[u8]; 5] = [b"systemd-nspawn", b"--register=no", name.as_bytes(), b"-D", b"/m"];
    let supervisor = host.process(pid).comm("systemd-nspawn").cmdline(&args);
    supervisor.in_cgroup("/supervisor").write();
    let systemd = host.process(pid + 1).comm("systemd").ppid(pid).nspid(&[pid + 1, 1]);
    systemd.in_cgroup(init).only(&WITHOUT_ROOT).write();
}

fn host(layout: CgroupLayout) -> FixtureHost {
    let host = FixtureHost::with_layout(layout);
    host.boot();
    machine(&host, 7000, "lab", "/payload/init.scope");
    host.cgroup_dirs("supervisor", &[7000]).cgroup_dirs("payload/init.scope", &[7001]);
    let service = "/payload/system.slice/dbus.service";
    let dbus = host.process(7010).comm("dbus-daemon").ppid(7001).nspid(&[7010, 9]);
    dbus.in_cgroup(service).write();
    host.cgroup_dirs(service, &[7010]);
    host
}

fn chain(answer: &Value) -> Vec<[&Value; 2]> {
    answer["chain"].as_array().unwrap().iter().map(|o| [&o["kind"], &o["name"]]).collect()
}

#[test]
fn a_machine_is_named_by_its_supervisor() {
    for layout in [CgroupLayout::V1, CgroupLayout::Hybrid, CgroupLayout::V2] {
        let host = host(layout);
        for pid in ["7001", "7010"] {
            let found = answer(&host, pid);
            let owner = &found["owner"];
            assert_eq!(
                [&owner["kind"], &owner["runtime"], &owner["name"]],
                ["machine", "systemd-nspawn", "lab"]
            );
            assert_eq!(chain(&found).len(), 1, "{found:#}");
            let told = |e: &Value| {
                e["source"] == "ancestry" && e["detail"] == "its supervisor 7000 calls it lab"
            };
            assert!(found["evidence"].as_array().unwrap().iter().any(told), "{found:#}");
            ask(&host, &["--in-container", "-q", pid]).expect_code(0);
        }
        let supervisor = answer(&host, "7000");
        assert_eq!(supervisor["process"]["role"], "plumbing", "{supervisor:#}");
        assert_eq!(supervisor["process"]["serves"], answer(&host, "7001")["owner"]["id"]);
        assert_ne!(supervisor["owner"]["kind"], "machine");
        let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
        let list = list["containers"].as_array().unwrap();
        assert_eq!((list.len(), &list[0]["name"]), (1, &json!("lab")), "{list:#?}");
        assert_eq!(list[0]["pids"], json!([7001, 7010]));
    }
}

/// Of machines that share their cgroup each has the name that the supervisor above it says.
#[test]
fn machines_that_share_their_cgroup_are_told_apart() {
    let host = host(CgroupLayout::V2);
    machine(&host, 7100, "other", "/payload");
    host.cgroup_dirs("supervisor", &[7000, 7100]).cgroup_dirs("payload", &[7101]);
    for (pid, name) in [("7001", "lab"), ("7010", "lab"), ("7101", "other")] {
        let owner = answer(&host, pid)["owner"].clone();
        assert_eq!([&owner["kind"], &owner["runtime"]], ["machine", "systemd-nspawn"]);
        assert_eq!(owner["name"], name, "{owner:#}");
    }
    for (name, pids, supervisor) in
        [("lab", vec![7001, 7010], "7000"), ("other", vec![7101], "7100")]
    {
        assert_eq!(ask(&host, &["pids", name]).expect_code(0).pids(), pids);
        let found = answer(&host, name);
        assert_eq!(found["owner"]["name"], name, "{found:#}");
        assert_eq!(answer(&host, supervisor)["process"]["serves"], found["owner"]["id"]);
    }
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    let names: Vec<&Value> =
        list["containers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["lab", "other"], "{list:#}");
}

/// Names are only told where they are shown.
#[test]
fn a_machine_without_its_supervisor_has_no_name() {
    // Its supervisor ended, or somebody else began it.
    for parent in [1, 7100] {
        let host = self::host(CgroupLayout::V2);
        let x = host.process(7100).comm("x").cmdline(&[b"systemd-nspawn", b"-M", b"no"]);
        x.in_cgroup("/supervisor").write();
        let init = host.process(7001).comm("systemd").ppid(parent).nspid(&[7001, 1]);
        init.in_cgroup("/payload/init.scope").write();
        let owner = answer(&host, "7010")["owner"].clone();
        assert_eq!((&owner["kind"], owner.get("name")), (&json!("machine"), None), "{owner:#}");
    }
}

/// In a scope that nobody registered it is found by its cgroup's name; where that can't be followed it is not said to
/// have ended.
#[test]
fn a_machine_that_only_a_scope_names_runs() {
    for cgroup in ["/machine.slice/machine-web.scope/payload", "/machine.slice/web.scope/payload"] {
        let host = FixtureHost::with_layout(CgroupLayout::V2);
        host.boot();
        host.process(800).nspid(&[800, 1]).in_cgroup(cgroup).write();
        host.cgroup_dirs(cgroup, &[800]);
        assert_ne!(answer(&host, "web")["owner"]["state"], "exited", "{cgroup}");
        assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [800], "{cgroup}");
    }
    let host = FixtureHost::with_layout(CgroupLayout::V2);
    host.boot();
    let cgroup = "/lxc.payload.outer/runc-web.scope";
    host.process(800).nspid(&[800, 2, 1]).in_cgroup(cgroup).write();
    host.cgroup_dirs(cgroup, &[800]);
    let run = ask(&host, &["pids", "web"]).expect_code(3);
    assert!(run.stdout.is_empty() && run.stderr_str().contains("nothing shows"), "{}", run.story());
}

/// A cgroup may be called anything: who is in no PID namespace of its own is in no machine.
#[test]
fn a_host_process_in_such_a_cgroup_is_the_hosts() {
    let host = FixtureHost::new();
    host.boot();
    host.process(800).comm("batch").cmdline(&[b"batch"]).in_cgroup("/payload").write();
    host.cgroup_dir("payload", &[800]);
    let found = answer(&host, "800");
    assert_eq!(found["owner"]["kind"], "host", "{found:#}");
    ask(&host, &["--in-container", "-q", "800"]).expect_code(5);
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    assert_eq!(list["containers"], json!([]), "{list:#}");
}

#[test]
fn engines_in_a_machine_name_what_they_run() {
    let host = host(CgroupLayout::V2);
    let web = DockerContainer::named("web").running(40).data_root("/proc/7020/root/var/lib/docker");
    host.docker_container(&web);
    let shim = host.process(7020).comm("containerd-shim").ppid(7001).nspid(&[7020, 30]);
    shim.in_cgroup("/payload/system.slice/docker.service").only(&WITHOUT_ROOT).write();
    let scope = format!("/payload/system.slice/docker-{}.scope", web.id());
    host.process(7040).ppid(7020).nspid(&[7040, 40, 1]).in_cgroup(&scope).write();
    host.cgroup_dir(&scope, &[7040]);
    let found = answer(&host, "7040");
    assert_eq!(
        chain(&found),
        [[&json!("machine"), &json!("lab")], [&json!("container"), &json!("web")]],
        "{found:#}"
    );
    assert_eq!(
        [&found["owner"]["runtime"], &found["owner"]["init_pid"]],
        [&json!("docker"), &json!(7040)]
    );
    let list = ask(&host, &["ls", "-o", "chain"]).expect_code(0).stdout_str();
    assert!(list.contains("lab/web"), "{list}");
    assert_eq!(ask(&host, &["pids", web.id()]).expect_code(0).pids(), [7040]);
    let tree = ask(&host, &["tree", "-o", "pid,comm"]).expect_code(0).stdout_str();
    assert!(tree.contains("lab") && tree.contains("web"), "{tree}");
}

/// The systemd driver, as a kubelet in a machine has it; its container is not looked up beneath the
/// host's root.
#[test]
fn pods_in_a_machine() {
    let host = host(CgroupLayout::V2);
    let (sandbox, app) = (fake_id("sandbox"), fake_id("app"));
    let pod = ("shop", "demo-abc", UID);
    let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let path = |id: &str| format!("{slice}:cri-containerd:{id}");
    // Moved, as nothing but the shim says.
    let inside = ("/proc/7020/root/srv/state", "/proc/7020/root/srv/root");
    let web = TaskBundle::in_pod(&app, 60, pod, &sandbox, "web").cgroups_path(&path(&app));
    let pause = TaskBundle::sandbox(&sandbox, 50, pod).cgroups_path(&path(&sandbox));
    for bundle in [&web, &pause] {
        host.task_bundle(&bundle.clone().trees(inside.0, inside.1));
    }
    let args: [&[u8]; 7] =
        [b"shim", b"-namespace", b"k8s.io", b"-id", sandbox.as_bytes(), b"-address", b"/x.sock"];
    let shim = host.process(7020).comm("containerd-shim").ppid(7001).nspid(&[7020, 30]);
    let dir = pause.clone().trees("/srv/state", "/srv/root").dir();
    let shim = shim.cmdline(&args).cwd(dir);
    shim.in_cgroup("/payload/system.slice/containerd.service").only(&WITHOUT_ROOT).write();
    for pid in [7001, 7020] {
        host.dir(format!("/proc/{pid}/root/var/log/pods/shop_demo-abc_{UID}"));
    }
    for (pid, own, id) in [(7050_u32, 50, &sandbox), (7060, 60, &app)] {
        let top = "/payload/kubepods.slice/kubepods-burstable.slice";
        let cgroup = format!("{top}/{slice}/cri-containerd-{id}.scope");
        host.process(pid).ppid(7020).nspid(&[pid, own, 1]).in_cgroup(&cgroup).write();
        host.cgroup_dir(&cgroup, &[pid]);
    }
    let card = answer(&host, "7060");
    let names = ["lab", "demo-abc", "web"];
    assert_eq!(chain(&card).iter().map(|[_, name]| *name).collect::<Vec<_>>(), names, "{card:#}");
    assert_eq!(card["owner"]["init_pid"], 7060, "{card:#}");
    assert_eq!(answer(&host, "7050")["owner"]["kind"], "sandbox");
    let by_uid = format!("pod:{UID}");
    for target in ["pod:shop/demo-abc", &by_uid] {
        assert_eq!(ask(&host, &["pids", target]).expect_code(0).pids(), [7050, 7060], "{target}");
    }
    assert_eq!(ask(&host, &["pids", "pod:shop/demo-abc/web"]).expect_code(0).pids(), [7060]);
    let found = answer(&host, "pod:shop/demo-abc");
    assert_eq!(chain(&found)[0], [&json!("machine"), &json!("lab")], "{found:#}");
}
