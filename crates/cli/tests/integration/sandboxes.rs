//! Containers whose own processes the host does not see, and what is said instead.

use serde_json::{Value, json};
use whose_testkit::fixture::{CgroupLayout, CrioContainer, DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask};

const UID: &str = "b89505bc-4f4e-58e9-8375-b058bb7ecead";

/// What runsc keeps of a container.
fn runsc_state(host: &FixtureHost, root: &str, id: &str, sandbox: &str, pids: [u32; 2]) {
    let [sentry, gofer] = pids;
    let state = json!({
        "id": id,
        "spec": {"ociVersion": "1.0.2", "process": {"env": ["A=b"]}},
        "status": "running",
        "goferPid": gofer,
        "sandbox": {"id": sandbox, "pid": sentry, "uid": 65534},
    });
    host.file(format!("{root}/{id}_sandbox:{sandbox}.state"), state.to_string());
}

/// The processes that the host sees of a gVisor sandbox: sentry, gofer, and what holds the memory of
/// the workload.
fn runsc(host: &FixtureHost, cgroup: &str, id: &str, pids: [u32; 3]) {
    let [sentry, gofer, stub] = pids;
    host.cgroup_dirs(cgroup, &pids);
    let root = "264 237 0:81 / / ro,relatime - tmpfs runsc-root rw,uid=65534,gid=65534\n";
    let one = |pid: u32, args: &[&[u8]], ppid: u32| {
        let process = host.process(pid).comm("exe").cmdline(args).ppid(ppid).mountinfo(root);
        process.ns("mnt", 4_026_540_000).in_cgroup(cgroup)
    };
    one(sentry, &[b"runsc-sandbox", b"boot", id.as_bytes()], 2990).uid(65534).write();
    one(gofer, &[b"runsc-gofer", b"gofer"], 2990).nspid(&[gofer, 1]).write();
    one(stub, &[], sentry).uid(65534).state('t').write();
}

fn hidden(found: &Value, path: &str) {
    let gaps = found["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|g| g["what"] == "processes in a sandbox");
    let gap = gap.unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(gap["class"], "unsupported");
    assert!(gap["path"].as_str().unwrap().ends_with(path), "{gap:#}");
    assert_eq!(found["status"], "found");
}

#[test]
fn gvisor_under_docker() {
    let host = FixtureHost::new();
    host.boot();
    let web = DockerContainer::named("web").running(3000);
    host.docker_container(&web);
    let cgroup = format!("/docker/{}", web.id());
    runsc(&host, &cgroup, web.id(), [3000, 3001, 3002]);
    runsc_state(&host, "run/docker/runtime-runc/moby", web.id(), web.id(), [3000, 3001]);
    let file = format!("{0}_sandbox:{0}.state", web.id());
    for (pid, role) in [("3000", "sandbox"), ("3001", "plumbing"), ("3002", "sandbox")] {
        let found = answer(&host, pid);
        assert_eq!(found["owner"]["runtime"], "docker");
        assert_eq!(
            (&found["owner"]["kind"], &found["owner"]["name"]),
            (&json!("container"), &json!("web"),)
        );
        assert_eq!(found["process"]["role"], role, "{pid} {found:#}");
        hidden(&found, &file);
        let evidence = found["evidence"].as_array().unwrap();
        assert!(evidence.iter().any(|e| e["detail"] == "in a sandbox of gvisor"), "{found:#}");
    }
    assert_eq!(answer(&host, "3001")["process"]["serves"], web.id());
    hidden(&answer(&host, "web"), &file);
    for target in ["3000", "web"] {
        let run = ask(&host, &[target]).expect_code(0);
        let said = "its own processes can't be seen from the host: gVisor runs them";
        assert!(run.stdout_str().contains(said), "{}", run.story());
    }
    let pids = ask(&host, &["pids", "web"]).expect_code(0);
    assert_eq!(pids.stdout_str(), "3000\n3001\n3002\n");
    assert!(pids.stderr_str().contains("processes in a sandbox"), "{}", pids.story());
    let roles = ask(&host, &["ps", "web", "-o", "pid,role", "--no-headers"]).stdout_str();
    let roles: Vec<&str> = roles.split_whitespace().collect();
    assert_eq!(roles, ["3000", "sandbox", "3001", "plumbing", "3002", "sandbox"]);
    // The state of a container that is none of these changes nothing, whatever it calls itself.
    let db = DockerContainer::named("db").running(4000);
    host.docker_container(&db).cgroup_dirs(&format!("/docker/{}", db.id()), &[4000]);
    let fake = host.process(4000).comm("runsc-sandbox").cmdline(&[b"runsc-sandbox", b"boot"]);
    fake.in_docker(db.id()).write();
    let found = answer(&host, "4000");
    assert_eq!((&found["process"]["role"], &found["gaps"]), (&json!("init"), &json!([])));
    assert_eq!(ask(&host, &["pids", "db"]).expect_code(0).stderr_str(), "");
}

#[test]
fn gvisor_with_a_moved_exec_root() {
    let host = FixtureHost::new();
    host.boot();
    let web = DockerContainer::named("web").running(3000);
    host.docker_container(&web);
    runsc(&host, &format!("/docker/{}", web.id()), web.id(), [3000, 3001, 3002]);
    runsc_state(&host, "srv/exec/runtime-runc/moby", web.id(), web.id(), [3000, 3001]);
    assert_eq!(answer(&host, "3000")["process"]["role"], "init");
    let args: [&[u8]; 7] = [
        b"/usr/bin/containerd-shim-runc-v2",
        b"-namespace",
        b"moby",
        b"-id",
        web.id().as_bytes(),
        b"-address",
        b"/srv/exec/containerd/containerd.sock",
    ];
    let shim = host.process(2990).comm("containerd-shim").cmdline(&args);
    shim.in_cgroup("/system.slice/docker.service").write();
    for pid in ["3000", "3001", "3002"] {
        hidden(&answer(&host, pid), ".state");
    }
}

#[test]
fn a_pod_in_gvisor() {
    let host = FixtureHost::new();
    host.boot().dir("etc/crio");
    let pod = CrioContainer::sandbox("prod", "web");
    let slice = format!("kubepods-pod{}.slice", pod.uid().replace('-', "_"));
    let path = |id: &str| format!("{slice}:crio:{id}");
    let scope = |id: &str| format!("/kubepods.slice/{slice}/crio-{id}.scope");
    let pause = pod.clone().running(3000).cgroups_path(path(pod.id()));
    let app = pod.container("app").running(3000);
    let app = app.clone().cgroups_path(path(app.id()));
    host.crio_container(&pause).crio_container(&app);
    runsc(&host, &scope(pause.id()), pause.id(), [3000, 3001, 3002]);
    // The container's own cgroup is there and stays empty.
    host.cgroup_dirs(&scope(app.id()), &[]);
    runsc_state(&host, "run/runsc", pause.id(), pause.id(), [3000, 3001]);
    runsc_state(&host, "run/runsc", app.id(), pause.id(), [3000, 0]);
    let sentry = answer(&host, "3000");
    assert_eq!(
        (&sentry["owner"]["kind"], &sentry["owner"]["name"]),
        (&json!("sandbox"), &json!("web"),)
    );
    assert_eq!(sentry["owner"]["pod"]["namespace"], "prod");
    assert_eq!(sentry["process"]["role"], "sandbox");
    hidden(&sentry, ".state");
    // It may run or not: the kernel here does not tell.
    let found = answer(&host, app.id());
    assert_eq!(
        (&found["owner"]["state"], &found["owner"]["engine_state"]),
        (&Value::Null, &json!("running"),),
        "{found:#}"
    );
    hidden(&found, &format!("{}_sandbox:{}.state", app.id(), pause.id()));
    let pids = ask(&host, &["pids", app.id()]).expect_code(3);
    assert_eq!(pids.stdout_str(), "");
    assert!(pids.stderr_str().contains("gVisor runs them"), "{}", pids.story());
    ask(&host, &["pids", pause.id()]).expect_code(0);
}

#[test]
fn gvisor_under_containerds_cri() {
    let host = FixtureHost::new();
    host.boot();
    let id = fake_id("a pod's sandbox");
    let slice = format!("kubepods-besteffort-pod{}.slice", UID.replace('-', "_"));
    let cgroup =
        format!("/kubepods.slice/kubepods-besteffort.slice/{slice}/cri-containerd-{id}.scope");
    runsc(&host, &cgroup, &id, [3000, 3001, 3002]);
    runsc_state(&host, "run/containerd/runsc/k8s.io", &id, &id, [3000, 3001]);
    let found = answer(&host, "3000");
    assert_eq!(
        (&found["owner"]["runtime"], &found["owner"]["id"]),
        (&json!("containerd"), &json!(id),)
    );
    assert_eq!(found["owner"]["pod"]["uid"], UID);
    assert_eq!(found["process"]["role"], "sandbox");
    hidden(&found, ".state");
}

#[test]
fn kata_is_the_sandbox_of_its_pod() {
    for layout in [CgroupLayout::V1, CgroupLayout::V2] {
        let host = FixtureHost::with_layout(layout);
        host.boot().dir("etc/crio");
        let pod = CrioContainer::sandbox("prod", "web");
        let cgroup = format!("/kubepods/besteffort/pod{}/kata_{}", pod.uid(), pod.id());
        host.crio_container(&pod).cgroup_dirs(&cgroup, &[3000, 3001]);
        host.dir(format!("run/vc/sbs/{}", pod.id()));
        host.process(3000).comm("qemu-system-x86").in_cgroup(&cgroup).write();
        host.process(3001).comm("virtiofsd").in_cgroup(&cgroup).write();
        for pid in ["3000", "3001"] {
            let found = answer(&host, pid);
            assert_eq!(
                (&found["owner"]["kind"], &found["owner"]["runtime"]),
                (&json!("sandbox"), &json!("kata"),),
                "{found:#}"
            );
            assert_eq!(found["owner"]["pod"]["name"], "web", "{found:#}");
            assert_eq!(found["owner"]["pod"]["uid"], pod.uid());
            assert_eq!(found["process"]["role"], "sandbox");
            hidden(&found, &format!("run/vc/sbs/{}", pod.id()));
            let card = ask(&host, &[pid]).expect_code(0).stdout_str();
            assert!(
                card.contains("virtual machine of Kata") && card.contains("prod/web"),
                "{card}"
            );
        }
    }
}

#[test]
fn kata_where_systemd_makes_the_cgroup() {
    let host = FixtureHost::new();
    host.boot().dir("etc/crio");
    let pod = CrioContainer::sandbox("prod", "web");
    let slice = format!("kubepods-pod{}.slice", pod.uid().replace('-', "_"));
    let cgroup = format!("/kubepods.slice/{slice}/crio-{}.scope", pod.id());
    let pause = pod.clone().running(3000).cgroups_path(format!("{slice}:crio:{}", pod.id()));
    let app = pod.container("app").running(3000);
    host.crio_container(&pause).crio_container(&app).cgroup_dirs(&cgroup, &[3000]);
    host.process(3000).comm("cloud-hyperviso").in_cgroup(&cgroup).write();
    host.dir(format!("run/kata/{}", pod.id()));
    let shared = "run/kata-containers/shared/sandboxes";
    host.dir(format!("{shared}/{}/mounts/{}/rootfs", pod.id(), app.id()));
    let found = answer(&host, "3000");
    assert_eq!(
        (&found["owner"]["kind"], &found["owner"]["runtime"]),
        (&json!("sandbox"), &json!("cri-o"),)
    );
    hidden(&found, &format!("run/kata/{}", pod.id()));
    let inside = answer(&host, app.id());
    assert_eq!(inside["owner"]["state"], Value::Null, "{inside:#}");
    hidden(&inside, app.id());
    ask(&host, &["pids", app.id()]).expect_code(3);
    // Without any file of its own the name alone proves nothing.
    host.remove("run/kata").remove("run/kata-containers");
    assert_eq!(answer(&host, "3000")["gaps"], json!([]));
}

#[test]
fn firecracker_jailed_and_bare() {
    let host = FixtureHost::with_layout(CgroupLayout::Hybrid);
    host.boot();
    let vm = "551e7604-e35c-42b3-b825-416853441234";
    let text = format!("3:cpuset:/firecracker/{vm}\n9:name=systemd:/\n0::/\n");
    host.process(3000).comm("firecracker").uid(123).cgroup(text).write();
    host.dir(format!("srv/jailer/firecracker/{vm}/root"));
    let found = answer(&host, "3000");
    assert_eq!(
        (&found["owner"]["kind"], &found["owner"]["runtime"], &found["owner"]["id"]),
        (&json!("sandbox"), &json!("firecracker"), &json!(vm),),
        "{found:#}"
    );
    assert_eq!(found["process"]["role"], "sandbox");
    hidden(&found, &format!("srv/jailer/firecracker/{vm}"));
    // Without its jail's directory the cgroup says as much.
    host.remove("srv");
    hidden(&answer(&host, "3000"), &format!("/firecracker/{vm}"));
    let unit = "/system.slice/firecracker-containerd.service";
    host.process(3001).comm("firecracker").in_cgroup(unit).write();
    let bare = answer(&host, "3001");
    assert_eq!(
        (&bare["owner"]["kind"], &bare["process"]["role"]),
        (&json!("unit"), &json!("sandbox"),)
    );
}

#[test]
fn sysbox_runs_containers_like_any_other() {
    let host = FixtureHost::new();
    host.boot();
    let web = DockerContainer::named("web").running(3000);
    let cgroup = format!("/system.slice/docker-{}.scope/init.scope", web.id());
    host.docker_container(&web).cgroup_dirs(&cgroup, &[3000]);
    let mounts = "147 97 0:61 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n\
                  160 147 0:70 /proc/sys /proc/sys rw,nosuid - fuse sysboxfs rw,user_id=0\n";
    let init = host.process(3000).in_docker(web.id()).in_cgroup(&cgroup).nspid(&[3000, 1]);
    init.uid(165_536).uid_map("0 165536 65536\n").mountinfo(mounts).write();
    let found = answer(&host, "3000");
    let evidence = found["evidence"].as_array().unwrap();
    let seen = evidence.iter().find(|e| e["source"] == "mount").unwrap();
    assert_eq!(seen["detail"], "sysbox-fs emulates parts of /proc and /sys");
    assert_eq!(
        (&found["owner"]["runtime"], &found["owner"]["name"]),
        (&json!("docker"), &json!("web"),)
    );
    assert_eq!((&found["process"]["role"], &found["gaps"]), (&json!("init"), &json!([])));
    for (pid, name) in [(700, "sysbox-mgr"), (701, "sysbox-fs")] {
        host.process(pid).comm(name).in_cgroup("/system.slice/sysbox.service").write();
        assert_eq!(answer(&host, &pid.to_string())["process"]["role"], "plumbing");
    }
}
