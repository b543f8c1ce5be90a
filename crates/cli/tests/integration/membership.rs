//! Who owns what, beyond the text of the cgroup.

use whose_testkit::fixture::{DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask, container, host};

#[test]
fn a_process_in_a_container() {
    let host = host();
    let answer = answer(&host, "4770");
    assert_eq!(answer["status"], "found");
    assert_eq!(answer["owner"]["name"], "web");
    assert_eq!(answer["owner"]["compose"]["project"], "shop");
    assert_eq!(answer["owner"]["compose"]["service"], "front");
    assert_eq!(answer["owner"]["labels"]["tier"], "front");
    assert_eq!(answer["owner"]["init_pid"], 4761);
    assert_eq!(answer["process"]["inside_pid"], 7);
    assert_eq!(answer["process"]["role"], "workload");
    assert_eq!(answer["gaps"].as_array().unwrap().len(), 0, "{answer:#}");
    let evidence = answer["evidence"].as_array().unwrap();
    assert_eq!(evidence[0]["source"], "cgroup");
    assert!(evidence.iter().any(|e| e["source"] == "state-file"));
    assert!(evidence.iter().all(|e| e["agrees"] == true));
}

#[test]
fn units_sessions_the_host_and_kernel_threads() {
    let host = host();
    for (pid, kind, name, role) in [
        ("900", "unit", "nginx.service", "host"),
        ("950", "session", "session-6.scope", "host"),
        ("1", "unit", "init.scope", "host"),
    ] {
        let answer = answer(&host, pid);
        assert_eq!(answer["owner"]["kind"], kind, "{answer:#}");
        assert_eq!(answer["owner"]["name"], name);
        assert_eq!(answer["owner"]["runtime"], "systemd");
        assert_eq!(answer["process"]["role"], role);
    }
    let kernel = answer(&host, "60");
    assert_eq!(kernel["owner"]["kind"], "host");
    assert_eq!(kernel["process"]["role"], "kernel");
}

#[test]
fn plumbing_serves_a_container_and_is_not_in_it() {
    let host = host();
    let web = DockerContainer::named("web");
    let id = web.id().as_bytes();
    let args: [&[u8]; 7] = [
        b"/usr/bin/containerd-shim-runc-v2",
        b"-namespace",
        b"moby",
        b"-id",
        id,
        b"-address",
        b"/run/x",
    ];
    let shim = host.process(4740).comm("containerd-shim").cmdline(&args);
    shim.in_cgroup("/system.slice/containerd.service").write();
    let shim = answer(&host, "4740");
    assert_eq!(shim["process"]["role"], "plumbing");
    assert_eq!(shim["process"]["serves"], web.id());
    assert_eq!(shim["owner"]["kind"], "unit");
    let card = ask(&host, &["4740"]).expect_code(0).stdout_str();
    assert!(card.contains(&format!("plumbing   serves web   {}", web.id())), "{card}");
    // Anyone may take the name: a user's process, and one in a container, are what they are.
    host.process(4741).comm("containerd-shim").cmdline(&args).uid(1000).write();
    assert_eq!(answer(&host, "4741")["process"]["role"], "host");
    host.process(4742).comm("containerd-shim").cmdline(&args).in_docker(web.id()).write();
    let inside = answer(&host, "4742");
    assert_ne!(inside["process"]["role"], "plumbing");
    assert_eq!(inside["owner"]["id"], web.id());
}

#[test]
fn a_port_proxy_is_told_by_its_address() {
    let host = host();
    let web = DockerContainer::named("web");
    let path = format!("var/lib/docker/containers/{}/config.v2.json", web.id());
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(host.at(&path)).unwrap()).unwrap();
    config["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "172.17.0.9".into();
    host.file(&path, config.to_string());
    let args: [&[u8]; 5] =
        [b"/usr/bin/docker-proxy", b"-proto", b"tcp", b"-container-ip", b"172.17.0.9"];
    host.process(4745)
        .comm("docker-proxy")
        .cmdline(&args)
        .in_cgroup("/system.slice/docker.service")
        .write();
    let proxy = answer(&host, "4745");
    assert_eq!(proxy["process"]["role"], "plumbing");
    assert_eq!(proxy["process"]["serves"], web.id());
}

#[test]
fn runc_on_its_way_into_a_container() {
    let host = host();
    let web = DockerContainer::named("web");
    let runc = host.process(4743).comm("runc:[2:INIT]").cmdline(&[b"runc", b"init"]);
    runc.in_docker(web.id()).write();
    let runc = answer(&host, "4743");
    assert_eq!(runc["process"]["role"], "plumbing");
    assert_eq!(runc["process"]["serves"], web.id());
    assert_eq!(runc["owner"]["id"], web.id());
}

#[test]
fn the_engine_of_a_custom_parent_is_confirmed_by_its_state() {
    let host = host();
    let ours = DockerContainer::named("custom").running(6000).cgroup_parent("/lab");
    host.docker_container(&ours);
    host.process(6000).in_docker(ours.id()).in_cgroup(&format!("/lab/{}", ours.id())).write();
    let found = answer(&host, "6000");
    assert_eq!(found["owner"]["runtime"], "docker");
    assert_eq!(found["owner"]["name"], "custom");
    // The same shape that no engine here knows is contained, by nobody known.
    let stranger = fake_id("stranger");
    host.process(6001).in_docker(&stranger).in_cgroup(&format!("/lab/{stranger}")).write();
    let unknown = answer(&host, "6001");
    assert_eq!(unknown["owner"]["kind"], "unknown");
    assert_eq!(unknown["owner"]["id"], stranger);
}

#[test]
fn contained_by_nobody_known() {
    let host = host();
    let own = "5 1 254:0 /srv/root / rw - ext4 /dev/vda rw\n";
    let nested = host.process(7000).nspid(&[7000, 1]).ns("mnt", 4_026_533_000).mountinfo(own);
    nested.ns("pid", 4_026_533_003).in_cgroup("/").write();
    let nested = answer(&host, "7000");
    assert_eq!(nested["owner"]["kind"], "unknown", "{nested:#}");
    assert_eq!(nested["owner"]["id"], "pid:[4026533003]", "{nested:#}");
    let overlay = "5 1 0:99 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n";
    host.process(7001)
        .ns("mnt", 4_026_533_001)
        .mountinfo(overlay)
        .in_cgroup("/system.slice/docker.service")
        .write();
    let rootless = answer(&host, "7001");
    assert_eq!(rootless["owner"]["kind"], "unknown", "{rootless:#}");
    assert_eq!(rootless["chain"][0]["name"], "docker.service");
    // A service with a root directory of its own is a service.
    let moved = "5 1 254:0 /srv/jail / rw - ext4 /dev/vda rw\n";
    host.process(7002)
        .ns("mnt", 4_026_533_002)
        .mountinfo(moved)
        .in_cgroup("/system.slice/jail.service")
        .write();
    assert_eq!(answer(&host, "7002")["owner"]["kind"], "unit");
}

/// Browsers give a PID namespace to their own processes, and a root without anything in it.
#[test]
fn a_pid_namespace_alone_contains_nothing() {
    let host = host();
    let renderer =
        |pid: u32| host.process(pid).nspid(&[pid, 1]).host_mounts().exe("/opt/browser/browser");
    renderer(7010).in_cgroup("/").write();
    renderer(7011).root_link("/proc/9/fdinfo (deleted)").in_cgroup("/").write();
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-browser.scope";
    renderer(7012).in_cgroup(scope).write();
    for (pid, kind) in [("7010", "host"), ("7011", "host"), ("7012", "unit")] {
        let found = answer(&host, pid);
        assert_eq!(found["owner"]["kind"], kind, "{found:#}");
        let against = found["evidence"].as_array().unwrap();
        let nested = |e: &&serde_json::Value| e["agrees"] == false && e["source"] == "namespace";
        assert_eq!(against.iter().filter(nested).count(), 1, "{found:#}");
    }
    // With its program in a root of its own it is contained.
    let jailed = host.process(7013).nspid(&[7013, 1]).host_mounts().exe("/srv/jail/bin/x");
    jailed.root_link("/srv/jail").in_cgroup("/").write();
    assert_eq!(answer(&host, "7013")["owner"]["kind"], "unknown");
}

/// Who was put into a plain directory by chroot shows no root of his: then it is that of whom he shares
/// his mounts with.
#[test]
fn a_chroot_in_a_container_moves_nobody_out() {
    let host = host();
    let overlay = "5 1 0:99 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n";
    let below = "9 5 0:22 / /proc rw - proc proc rw\n";
    let hosts = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
    let one = |pid: u32, ppid: u32, namespace: u64, mounts: &str| {
        let process = host.process(pid).ppid(ppid).mountinfo(mounts).in_cgroup("/");
        process.ns("mnt", 4_026_533_100 + namespace).exe("/bin/x")
    };
    let nested =
        |pid: u32, ppid: u32, mounts: &str| one(pid, ppid, 0, mounts).nspid(&[pid, pid - 7013]);
    nested(7014, 7020, hosts).root_link("/host").write();
    nested(7020, 1, overlay).write();
    nested(7021, 7020, below).root_link("/empty").write();
    nested(7022, 7020, overlay).write();
    nested(7023, 1, below).root_link("/empty").write();
    one(7024, 1, 0, hosts).exe("/memfd:x (deleted)").nspid(&[7024, 11]).root_link("/srv/x").write();
    one(7030, 1, 1, overlay).write();
    one(7031, 7030, 1, below).root_link("/empty").write();
    one(7040, 1, 2, hosts).write();
    one(7041, 7040, 2, below).root_link("/empty").write();
    // Nobody shows what its root is.
    one(7050, 1, 3, below).root_link("/empty").write();
    let unknown = [7014, 7020, 7021, 7022, 7023, 7024, 7030, 7031];
    let all = ask(&host, &["ps", "--json"]).json();
    let of = |pid: u32| {
        let row = all["rows"].as_array().unwrap().iter().find(|row| row["process"]["pid"] == pid);
        row.unwrap()["owner"].clone()
    };
    for pid in unknown {
        assert_eq!(answer(&host, &pid.to_string())["owner"]["kind"], "unknown", "{pid}");
        assert_eq!(of(pid)["kind"], "unknown", "{pid}");
    }
    for pid in [7040, 7041] {
        assert_eq!(answer(&host, &pid.to_string())["owner"]["kind"], "host", "{pid}");
        assert_eq!(of(pid)["kind"], "host", "{pid}");
    }
    let unproven = answer(&host, "7050");
    assert!(unproven["owner"].is_null() && of(7050).is_null(), "{unproven:#}");
    assert_eq!(unproven["gaps"][0]["what"], "membership", "{unproven:#}");
}

#[test]
fn zombies_are_never_the_hosts_by_default() {
    let host = host();
    let web = DockerContainer::named("web");
    let id = web.id();
    // Its cgroup still stands, or was removed: v2 says so.
    host.process(8000).state('Z').in_cgroup(&format!("/docker/{id}")).nspid(&[8000, 9]).write();
    host.process(8001)
        .state('Z')
        .in_cgroup(&format!("/docker/{id} (deleted)"))
        .nspid(&[8001, 9])
        .write();
    // v1: nothing is left; its parent is in the container.
    host.process(8002).state('Z').in_cgroup("/").nspid(&[8002, 9]).ppid(4761).write();
    for pid in ["8000", "8001", "8002"] {
        let zombie = answer(&host, pid);
        assert_eq!(zombie["owner"]["id"], id, "{pid} {zombie:#}");
        assert_eq!(zombie["process"]["state"], "Z");
        assert_eq!(zombie["process"]["args"], serde_json::json!([]));
    }
    // Nothing tells: null and a gap, whatever the parent is.
    host.process(8003).state('Z').in_cgroup("/").ppid(900).write();
    host.process(8004).state('Z').in_cgroup("/").ppid(1).nspid(&[8004, 4]).write();
    host.process(8005).state('Z').in_cgroup("/").ppid(99999).write();
    for pid in ["8003", "8004", "8005"] {
        let zombie = answer(&host, pid);
        assert!(zombie["owner"].is_null(), "{pid} {zombie:#}");
        assert_eq!(zombie["gaps"][0]["what"], "membership");
        ask(&host, &[pid]).expect_code(3);
    }
}

#[test]
fn lines_that_disagree_are_both_shown() {
    let host = host();
    let (web, db) = (DockerContainer::named("web"), DockerContainer::named("db"));
    let text = format!("2:memory:/docker/{}\n0::/docker/{}\n", db.id(), web.id());
    host.process(8100).nspid(&[8100, 2]).cgroup(text).write();
    let answer = answer(&host, "8100");
    assert_eq!(answer["owner"]["name"], "web");
    let against: Vec<_> =
        answer["evidence"].as_array().unwrap().iter().filter(|e| e["agrees"] == false).collect();
    assert_eq!(against.len(), 1);
    assert_eq!(against[0]["detail"], format!("/docker/{}", db.id()));
    let card = ask(&host, &["8100", "--why"]).expect_code(0).stdout_str();
    assert!(card.contains("although") && card.contains(db.id()), "{card}");
}

#[test]
fn docker_in_docker_keeps_all_levels() {
    let host = host();
    let outer = container(&host, "outer", 8200);
    let inner = fake_id("inner");
    let path = format!("/system.slice/docker-{}.scope/docker/{inner}", outer.id());
    host.process(8201).nspid(&[8201, 30, 1]).in_cgroup(&path).write();
    let answer = answer(&host, "8201");
    assert_eq!(answer["owner"]["id"], inner);
    let chain = answer["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0]["name"], "outer");
    assert_eq!(&chain[1], &answer["owner"]);
}

#[test]
fn moved_data_roots_are_found() {
    // By the configuration file.
    let configured = FixtureHost::new();
    configured.boot().file("etc/docker/daemon.json", r#"{"data-root": "/srv/docker"}"#);
    // By the running daemon.
    let running = FixtureHost::new();
    running.boot().file("run/docker.pid", "700");
    running
        .process(700)
        .comm("dockerd")
        .cmdline(&[b"dockerd", b"--data-root", b"/srv/docker"])
        .write();
    // By nothing but the container's own mounts.
    let silent = FixtureHost::new();
    silent.boot();
    for host in [&configured, &running, &silent] {
        let moved = DockerContainer::named("moved").running(710).data_root("/srv/docker");
        host.docker_container(&moved);
        host.cgroup_dir(&format!("docker/{}", moved.id()), &[710]);
        host.process(710).in_docker_root(moved.id(), "/srv/docker").write();
        for target in ["710", "moved"] {
            let answer = answer(host, target);
            assert_eq!(answer["owner"]["name"], "moved", "{target} {answer:#}");
        }
    }
}

/// Whoever may make namespaces in a container mounts there what he likes, from a volume of his: that is asked only
/// where the host says nothing of the container.
#[test]
fn what_the_host_says_comes_before_what_a_container_mounts() {
    for is_left_behind in [false, true] {
        let host = FixtureHost::new();
        host.boot().file("etc/docker/daemon.json", r#"{"data-root": "/srv/docker"}"#);
        let id = fake_id("forger");
        let of = |name: &str, root: &str| {
            DockerContainer::named(name).with_id(id.as_str()).data_root(root).running(720)
        };
        let volume = "/srv/docker/volumes/v/_data/d";
        host.docker_container(&of("forger", "/srv/docker")).docker_container(&of("admin", volume));
        if is_left_behind {
            let old = DockerContainer::named("before").with_id(id.as_str()).exited(0);
            host.docker_container(&old);
        }
        host.cgroup_dir(&format!("docker/{id}"), &[720]);
        host.process(720).in_docker_root(&id, volume).ns("user", 4_026_532_999).write();
        let told = answer(&host, "720");
        assert_eq!(told["owner"]["name"], "forger", "{is_left_behind}: {told:#}");
        assert_eq!(ask(&host, &["pids", "forger"]).expect_code(0).pids(), [720]);
    }
}

#[test]
fn binds_that_a_container_can_forge_are_not_believed() {
    let host = FixtureHost::new();
    host.boot();
    let id = fake_id("forger");
    // The true root is unknown; the process shows a bind from its own overlay instead.
    let forged = DockerContainer::named("admin").with_id(id.as_str()).data_root("/fake/docker");
    host.docker_container(&forged);
    let mounts = format!(
        "147 97 0:61 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n\
         149 147 0:61 /fake/docker/containers/{id}/hostname /etc/hostname rw - overlay overlay rw\n"
    );
    let process = host.process(720).nspid(&[720, 1]).in_docker(&id);
    process.mountinfo(mounts).write();
    let answer = answer(&host, "720");
    assert_eq!(answer["owner"]["id"], id);
    assert!(answer["owner"]["name"].is_null(), "{answer:#}");
}
