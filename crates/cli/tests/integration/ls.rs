//! `whose ls` over fixture hosts.

use std::collections::BTreeMap;

use serde_json::Value;
use whose_testkit::fixture::{DockerContainer, FixtureHost, Process, fake_id};

use crate::support::{answer, ask, container, host};

/// Everything of a process but the link to its root, so that a directory can stand there.
const WITHOUT_ROOT: [&str; 9] =
    ["stat", "status", "comm", "uid_map", "cgroup", "cmdline", "mountinfo", "exe", "ns"];

/// The rows of `ls ARGS` by what the CONTAINER column says.
fn rows(host: &FixtureHost, args: &[&str]) -> BTreeMap<String, Vec<String>> {
    let args = [&["ls", "-o", "chain,kind,runtime,status,processes,id", "--no-headers"], args];
    let text = ask(host, &args.concat()).expect_code(0).stdout_str();
    let cells = |line: &str| -> Vec<String> { line.split_whitespace().map(Into::into).collect() };
    text.lines().map(cells).map(|c| (c[0].clone(), c[1..].to_vec())).collect()
}

fn json(host: &FixtureHost, args: &[&str]) -> Value {
    ask(host, &[&["ls", "--json"], args].concat()).expect_code(0).json()
}

/// The container of this name in a document.
fn named<'v>(document: &'v Value, name: &str) -> &'v Value {
    let all = document["containers"].as_array().unwrap();
    all.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name}: {document:#}"))
}

#[test]
fn what_runs_with_the_usual_columns() {
    let host = host();
    let run = ask(&host, &["ls"]).expect_code(0);
    assert_eq!(run.stderr_str(), "");
    let text = run.stdout_str();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let titles = ["CONTAINER", "RUNTIME", "STATUS", "UP", "PROCS", "IMAGE", "CONTAINER", "ID"];
    assert_eq!(lines[0], titles);
    let (db, web) = (fake_id("db"), fake_id("web"));
    assert_eq!(lines[1], ["db", "docker", "running", "02:45:40", "1", "app:1", &db]);
    assert_eq!(lines[2], ["web", "docker", "running", "02:45:42", "2", "app:1", &web]);
    assert_eq!(lines.len(), 3);
    assert_eq!(ask(&host, &["ls", "-q"]).expect_code(0).stdout_str(), format!("{db}\n{web}\n"));
    let by_size = ask(&host, &["ls", "-q", "--sort", "-processes"]).expect_code(0).stdout_str();
    assert_eq!(by_size, format!("{web}\n{db}\n"));
    let raw = ask(&host, &["ls", "--raw", "-o", "up", "--no-headers"]).expect_code(0).stdout_str();
    assert_eq!(raw.split_whitespace().collect::<Vec<_>>(), ["9940", "9942"]);
    let more = ask(&host, &["ls", "-o", "+project,+pid,+user"]).expect_code(0).stdout_str();
    let web = more.lines().find(|l| l.starts_with("web ")).unwrap();
    assert!(web.contains(" shop ") && web.contains(" 4761 root"), "{more}");
    ask(&host, &["ls", "-o", "nope"]).expect_code(2);
    ask(&host, &["ls", "--sort", "nope"]).expect_code(2);
}

#[test]
fn totals_are_of_all_processes() {
    let host = host();
    let web = DockerContainer::named("web");
    let outer = DockerContainer::named("outer").running(6000);
    host.docker_container(&outer);
    let inner = format!("/docker/{}/docker/{}", outer.id(), fake_id("inner"));
    let one = |pid: u32, pages: u64, threads: u32, read: u64| {
        let one = host.process(pid).rss_pages(pages).threads(threads).io_bytes(read, 0);
        one.times(u64::from(pid), 50).ppid(1)
    };
    one(4761, 100, 2, 4096).in_docker(web.id()).write();
    one(4770, 23, 3, 512).in_docker(web.id()).write();
    one(4799, 0, 1, 99).in_docker(web.id()).state('Z').write();
    one(6000, 10, 1, 8192).in_docker(outer.id()).write();
    one(6001, 1, 1, 1).in_docker(outer.id()).in_cgroup(&inner).only(&WITHOUT_ROOT).write();
    let columns = "chain,processes,rss,threads,cpu_time,io_read,pid";
    let run = ask(&host, &["ls", "--raw", "--no-headers", "-o", columns, "--sort", "-rss"]);
    let text = run.expect_code(0).stdout_str();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["db", "1", "1228800"]);
    assert_eq!(lines[1], ["web", "2", "503808", "5", "96.31", "4608", "4761"]);
    // What could not be read of one process is not known of them all.
    assert_eq!(lines[2], ["outer", "2", "45056", "2", "121.01", "?", "6000"]);
    let run = ask(&host, &["ls", "--json", "-o", "+rss,io_read,fds,pid"]).expect_code(0);
    let document = run.json();
    let (web, outer) = (named(&document, "web"), named(&document, "outer"));
    assert_eq!((&web["rss"], &web["io_read"]), (&503_808.into(), &4608.into()));
    assert_eq!((&outer["rss"], &outer["io_read"]), (&45_056.into(), &Value::Null));
    for absent in ["pid", "threads", "cpu_time"] {
        assert!(web.get(absent).is_none(), "{absent}");
    }
    assert!(web["fds"].is_null());
    let gaps = document["gaps"].as_array().unwrap();
    let of = |what: &str| gaps.iter().filter(|g| g["what"] == what).count();
    assert_eq!((of("I/O counters"), of("open descriptors")), (1, 5), "{gaps:#?}");
    // A container without processes has none of it.
    host.docker_container(&DockerContainer::named("gone").exited(0));
    let run = ask(&host, &["ls", "gone", "-o", "rss,cpu_time", "--no-headers"]).expect_code(0);
    assert_eq!(run.stdout_str().split_whitespace().collect::<Vec<_>>(), ["-", "-"]);
    // What was not asked for leaves no gap.
    let said = ask(&host, &["ls", "-o", "+rss"]).expect_code(0).stderr_str();
    assert!(!said.contains("I/O") && !said.contains("descriptors"), "{said}");
}

#[test]
fn every_format_tells_the_same() {
    let host = host();
    let document = json(&host, &[]);
    for key in ["schema", "source", "boot_id", "containers", "gaps"] {
        assert!(!document[key].is_null(), "{key}: {document:#}");
    }
    let web = named(&document, "web");
    let wanted = serde_json::json!({
        "kind": "container", "runtime": "docker", "id": fake_id("web"), "name": "web",
        "image": "app:1", "state": "running", "init_pid": 4761, "processes": 2, "pids": [4761, 4770],
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(web[key], *value, "{key}: {web:#}");
    }
    assert_eq!(web["labels"]["tier"], "front");
    assert_eq!(web["compose"]["service"], "front");
    assert_eq!(web["chain"].as_array().unwrap().len(), 1);
    let lines = ask(&host, &["ls", "--format", "ndjson"]).expect_code(0).ndjson();
    assert_eq!((&lines[0]["schema"], lines.len()), (&document["schema"], 3));
    assert_eq!(lines[1..], document["containers"].as_array().unwrap()[..]);
    let csv = ask(&host, &["ls", "--format", "csv", "-o", "chain,pids"]).expect_code(0);
    assert_eq!(csv.stdout_str(), "chain,pids\ndb,5000\nweb,4761 4770\n");
}

#[test]
fn stopped_ones_are_asked_for_and_restarting_ones_are_not() {
    let host = host();
    for container in [
        DockerContainer::named("s-exited").exited(3),
        DockerContainer::named("s-created").never_started(),
        DockerContainer::named("s-dead").dead(),
        DockerContainer::named("s-restarting").restarting(),
        // The machine went down and its file is stale.
        DockerContainer::named("s-stale").running(3_999_999),
        // Another process has the PID now.
        DockerContainer::named("s-recycled").running(900),
    ] {
        host.docker_container(&container);
    }
    let running = rows(&host, &[]);
    assert_eq!(running.keys().collect::<Vec<_>>(), ["db", "s-restarting", "web"]);
    let all = rows(&host, &["-a"]);
    let state = |name: &str| (all[name][2].as_str(), all[name][3].as_str());
    assert_eq!(state("s-exited"), ("exited", "0"));
    assert_eq!(state("s-created"), ("created", "0"));
    assert_eq!(state("s-dead"), ("dead", "0"));
    assert_eq!(state("s-restarting"), ("restarting", "0"));
    assert_eq!(state("s-stale"), ("exited", "0"));
    assert_eq!(state("s-recycled"), ("exited", "0"));
    assert_eq!(state("web"), ("running", "2"));
    assert_eq!(all.len(), 8);
    let stopped = json(&host, &["-a"]);
    assert_eq!(named(&stopped, "s-exited")["pids"], serde_json::json!([]));
    assert_eq!(named(&stopped, "s-stale")["engine_state"], "running");
}

#[test]
fn the_kernel_shows_what_no_state_knows() {
    let host = host();
    let (bare, podman) = (fake_id("bare"), fake_id("podman"));
    host.process(6000).nspid(&[6000, 1]).in_cgroup(&format!("/docker/{bare}")).write();
    let scope = format!("/machine.slice/libpod-{podman}.scope/container");
    host.process(6001).nspid(&[6001, 1]).in_cgroup(&scope).write();
    let run = ask(&host, &["ls", "--json"]).expect_code(0);
    let document = run.json();
    let by_id = |id: &str| {
        let all = document["containers"].as_array().unwrap();
        all.iter().find(|c| c["id"] == id).cloned().unwrap()
    };
    let docker = by_id(&bare);
    assert!(docker["name"].is_null() && docker.get("name").is_some(), "{docker:#}");
    assert_eq!((&docker["runtime"], &docker["pids"]), (&"docker".into(), &vec![6000].into()));
    let podman = by_id(&podman);
    assert!(podman["name"].is_null() && podman.get("name").is_some(), "{podman:#}");
    assert_eq!((&podman["runtime"], &podman["pids"]), (&"podman".into(), &vec![6001].into()));
    assert_eq!(document["gaps"][0]["what"], "container description");
    assert!(run.stderr_str().contains("container description"), "{}", run.stderr_str());
    ask(&host, &["ls", "--strict"]).expect_code(3);
    let table = rows(&host, &[]);
    assert!(table.contains_key(&bare[..12]), "{table:?}");
}

#[test]
fn steps_of_a_build_and_other_jobs_are_no_containers() {
    let host = host();
    let step = "h29yeoqbvnowz93v5f60g4uwy";
    let places = [
        format!("/docker/buildkit/{step}"),
        format!("/system.slice/docker-{step}.scope"),
        format!("/buildkit/{step}"),
    ];
    for (pid, place) in (6100..).zip(&places) {
        host.process(pid).nspid(&[pid, 1]).in_cgroup(place).write();
        let owner = answer(&host, &pid.to_string())["owner"].clone();
        assert_eq!((&owner["kind"], &owner["runtime"]), (&"job".into(), &"buildkit".into()));
        assert_eq!(owner["id"], step);
    }
    for args in [&[][..], &["-a"]] {
        assert_eq!(rows(&host, args).keys().collect::<Vec<_>>(), ["db", "web"]);
    }
    let ps = ask(&host, &["ps", "-o", "pid,kind", "--no-headers", "6100"]).expect_code(0);
    assert_eq!(ps.stdout_str(), "6100 job\n");
    let run = ask(&host, &["ls", "6100"]).expect_code(0);
    assert_eq!(run.stdout_str().lines().count(), 1, "{}", run.story());
}

#[test]
fn sandboxes_and_applications_come_with_all() {
    let host = host();
    let app = "/user.slice/user-1000.slice/user@1000.service/app.slice/\
               app-flatpak-org.mozilla.firefox-2347861950.scope";
    host.process(6200).nspid(&[6200, 2]).in_cgroup(app).write();
    assert_eq!(rows(&host, &[]).len(), 2);
    let all = rows(&host, &["-a"]);
    let kinds: Vec<&str> = all.values().map(|r| r[0].as_str()).collect();
    assert_eq!(kinds.iter().filter(|k| **k == "app").count(), 1, "{all:?}");
}

/// A process in `container`, whose own root holds what is written below `proc/PID/root`.
fn engine_in<'h>(host: &'h FixtureHost, outer: &DockerContainer, pid: u32) -> Process<'h> {
    let dockerd = host.process(pid).comm("dockerd").cmdline(&[b"dockerd", b"--bridge=none"]);
    dockerd.in_docker(outer.id()).nspid(&[pid, 12])
}

/// `db` runs an engine of its own with a container `inner` that runs and one that does not.
fn docker_in_docker() -> (FixtureHost, DockerContainer) {
    let host = host();
    let db = DockerContainer::named("db");
    engine_in(&host, &db, 5010).only(&WITHOUT_ROOT).write();
    let shim = host.process(5020).comm("containerd-shim").ppid(5000).in_docker(db.id());
    let root = "/proc/5020/root/var/lib/docker";
    shim.nspid(&[5020, 30]).only(&WITHOUT_ROOT).write();
    let inner = DockerContainer::named("inner").running(40);
    for root in [root, "/proc/5010/root/var/lib/docker"] {
        host.docker_container(&inner.clone().data_root(root));
        let never = DockerContainer::named("never").never_started().data_root(root);
        host.docker_container(&never);
    }
    let path = format!("docker/{}/docker/{}", db.id(), inner.id());
    host.cgroup_dir(&format!("docker/{}", db.id()), &[5000, 5010, 5020]);
    host.cgroup_dir(&path, &[5030, 5031]);
    for (pid, inside) in [(5030, [5030, 40, 1]), (5031, [5031, 41, 7])] {
        let process = host.process(pid).ppid(if pid == 5030 { 5020 } else { 5030 });
        process.nspid(&inside).in_cgroup(&format!("/{path}")).write();
    }
    (host, inner)
}

#[test]
fn containers_in_containers_are_named_by_their_own_engine() {
    let (host, inner) = docker_in_docker();
    let all = rows(&host, &["-a"]);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["db", "db/inner", "db/never", "web"]);
    assert_eq!(all["db"][3], "5");
    assert_eq!(all["db/inner"][2..4], ["running", "2"]);
    assert_eq!(all["db/never"][2..4], ["created", "0"]);
    let document = json(&host, &[]);
    let listed = named(&document, "inner");
    assert_eq!(listed["init_pid"], 5030, "{listed:#}");
    assert_eq!(listed["pids"], serde_json::json!([5030, 5031]));
    let chain: Vec<&Value> =
        listed["chain"].as_array().unwrap().iter().map(|o| &o["name"]).collect();
    assert_eq!(chain, ["db", "inner"]);
    assert!(listed.get("log").is_none(), "a path in there is none of the host's");
    for target in ["5031", "inner", inner.id(), &inner.id()[..12]] {
        let answer = answer(&host, target);
        assert_eq!(answer["owner"]["id"], inner.id(), "{target} {answer:#}");
        assert_eq!(answer["owner"]["image"], "app:1", "{target} {answer:#}");
        assert_eq!(answer["owner"]["state"], "running", "{target}");
        assert_eq!(answer["owner"]["init_pid"], 5030, "{target}");
        let outer = &answer["chain"][0];
        assert_eq!((&outer["name"], &outer["kind"]), (&"db".into(), &"container".into()));
    }
    let never = answer(&host, "never");
    assert_eq!(
        (&never["owner"]["state"], &never["chain"][0]["name"]),
        (&"created".into(), &"db".into())
    );
    assert_eq!(ask(&host, &["pids", "inner"]).expect_code(0).pids(), [5030, 5031]);
    let only = rows(&host, &["5030"]);
    assert_eq!(only.keys().collect::<Vec<_>>(), ["db/inner"]);
}

#[test]
fn a_containers_engine_speaks_for_its_own_containers_only() {
    let (host, _) = docker_in_docker();
    let root = "/proc/5010/root/var/lib/docker";
    let web = DockerContainer::named("forged").with_id(fake_id("web")).data_root(root).running(40);
    host.docker_container(&web);
    // Nor does a cgroup below its own make a process anybody else's.
    let path = format!("/docker/{}/docker/{}", fake_id("db"), fake_id("web"));
    host.process(5040).ppid(5010).nspid(&[5040, 50, 1]).in_cgroup(&path).write();
    let all = rows(&host, &["-a"]);
    assert_eq!(all["web"][3], "2", "{all:?}");
    assert_eq!(all["db/forged"][4], fake_id("web"));
    assert_eq!(answer(&host, "web")["owner"]["name"], "web");
    assert_eq!(answer(&host, "4761")["owner"]["name"], "web");
    let claimed = answer(&host, "5040");
    assert_eq!(claimed["owner"]["name"], "forged", "{claimed:#}");
    assert_eq!(claimed["chain"][0]["name"], "db", "{claimed:#}");
}

#[test]
fn an_inner_engine_may_put_its_containers_anywhere() {
    let (host, _) = docker_in_docker();
    let odd = DockerContainer::named("odd").running(60);
    for root in ["/proc/5010/root/var/lib/docker", "/proc/5020/root/var/lib/docker"] {
        host.docker_container(&odd.clone().data_root(root));
    }
    let above = format!("/docker/{}/custom", fake_id("db"));
    let process = host.process(5060).ppid(5020).nspid(&[5060, 60, 1]);
    process.in_cgroup(&format!("{above}/{}", odd.id())).write();
    let answer = answer(&host, "5060");
    assert_eq!(answer["owner"]["name"], "odd", "{answer:#}");
    assert_eq!(answer["chain"][0]["name"], "db", "{answer:#}");
    // A host's container is none of the inner engine's, whatever the cgroup is called.
    let process = host.process(5061).ppid(5020).nspid(&[5061, 61, 1]);
    process.in_cgroup(&format!("{above}/{}", fake_id("web"))).write();
    let forged = crate::support::answer(&host, "5061");
    assert_eq!(forged["owner"]["kind"], "unknown", "{forged:#}");
    assert_eq!(rows(&host, &[])["web"][3], "2");
}

#[test]
fn state_that_a_container_booby_trapped_is_not_read() {
    let (host, inner) = docker_in_docker();
    for root in ["/proc/5010/root/var/lib/docker", "/proc/5020/root/var/lib/docker"] {
        host.remove(root);
        host.symlink(root, "/var/lib/docker");
    }
    let run = ask(&host, &["ls", "--json"]).expect_code(0);
    let document = run.json();
    let all = document["containers"].as_array().unwrap();
    let listed = all.iter().find(|c| c["id"] == inner.id()).unwrap();
    assert!(listed["name"].is_null() && listed["processes"] == 2, "{listed:#}");
    assert!(run.stderr_str().contains("not read"), "{}", run.stderr_str());
}

/// alice's engine with a container `mine`, in the cgroup that her manager gave it.
fn rootless(cgroup: &str) -> (FixtureHost, DockerContainer) {
    let host = host();
    let mine =
        DockerContainer::named("mine").running(7030).data_root("/home/alice/.local/share/docker");
    host.docker_container(&mine);
    let shim = host.process(7020).comm("containerd-shim").uid(1000);
    let args: [&[u8]; 5] = [b"shim", b"-namespace", b"moby", b"-id", mine.id().as_bytes()];
    shim.cmdline(&args)
        .in_cgroup("/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service")
        .write();
    for (pid, inside, ppid) in [(7030, 1, 7020), (7031, 7, 7030)] {
        let process = host.process(pid).ppid(ppid).uid(100_999).in_docker_root(mine.id(), "/x");
        process.nspid(&[pid, inside]).in_cgroup(&cgroup.replace("ID", mine.id())).write();
    }
    (host, mine)
}

#[test]
fn users_containers_bear_their_names() {
    let managed = "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope";
    // Without delegation there is no cgroup that names anything.
    let unmanaged = "/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service";
    for cgroup in [managed, unmanaged] {
        let (host, mine) = rootless(cgroup);
        let all = rows(&host, &[]);
        assert_eq!(all["alice@mine"][1..4], ["docker", "running", "2"], "{cgroup} {all:?}");
        let document = json(&host, &[]);
        let listed = named(&document, "mine");
        assert_eq!((&listed["user"], &listed["init_pid"]), (&"alice".into(), &7030.into()));
        assert_eq!(answer(&host, "7031")["owner"]["id"], mine.id(), "{cgroup}");
        let ps = ask(&host, &["ps", "-o", "owner", "--no-headers", "7031"]).expect_code(0);
        assert_eq!(ps.stdout_str(), "alice@mine\n");
    }
}

#[test]
fn a_user_can_not_pass_for_anothers_container() {
    let managed = "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope";
    let (host, _) = rootless(managed);
    let scope = managed.replace("ID", &fake_id("web"));
    host.process(7100).uid(1000).nspid(&[7100, 1]).in_cgroup(&scope).write();
    let shim = host.process(7110).comm("containerd-shim").uid(1000);
    let id = fake_id("web");
    let args: [&[u8]; 5] = [b"shim", b"-namespace", b"moby", b"-id", id.as_bytes()];
    shim.cmdline(&args).write();
    host.process(7111).ppid(7110).uid(1000).nspid(&[7111, 1]).in_cgroup("/").write();
    let by_cgroup = answer(&host, "7100");
    assert!(by_cgroup["owner"]["name"].is_null(), "{by_cgroup:#}");
    let by_shim = answer(&host, "7111");
    assert_eq!(by_shim["owner"]["kind"], "unknown", "{by_shim:#}");
    assert_eq!(named(&json(&host, &[]), "web")["pids"], serde_json::json!([4761, 4770]));
}

#[test]
fn what_another_user_says_that_he_watches_is_not_in_the_container() {
    let unmanaged = "/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service";
    let (host, mine) = rootless(unmanaged);
    host.cgroup_dirs(unmanaged, &[7020, 7030, 7031]);
    let args: [&[u8]; 5] = [b"shim", b"-namespace", b"moby", b"-id", mine.id().as_bytes()];
    host.process(7120).comm("containerd-shim").uid(1001).cmdline(&args).write();
    host.process(7121).ppid(7120).uid(1001).nspid(&[7121, 1]).in_cgroup("/").write();
    let run = ask(&host, &["pids", "mine"]).expect_code(0);
    assert_eq!(run.pids(), [7030, 7031], "{}", run.story());
}

#[test]
fn targets_narrow_the_list() {
    let host = host();
    host.docker_container(&DockerContainer::named("gone").exited(0));
    assert_eq!(rows(&host, &["web"]).keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(rows(&host, &["4770", "gone"]).keys().collect::<Vec<_>>(), ["gone", "web"]);
    assert_eq!(rows(&host, &[&fake_id("db")[..12]]).keys().collect::<Vec<_>>(), ["db"]);
    let run = ask(&host, &["ls", "web", "nosuch"]).expect_code(1);
    assert!(run.stdout_str().contains("web") && run.stderr_str().contains("no container nosuch"));
    let run = ask(&host, &["ls", "900"]).expect_code(1);
    assert!(run.stderr_str().contains("900 is in no container"), "{}", run.stderr_str());
}

#[test]
fn what_can_not_be_read_is_said() {
    let host = host();
    let bad = DockerContainer::named("bad").exited(0);
    host.docker_container(&bad);
    host.file(format!("{}/config.v2.json", bad.dir()), "{\"ID\":");
    let run = ask(&host, &["ls", "-a", "--json"]).expect_code(0);
    let document = run.json();
    let all = document["containers"].as_array().unwrap();
    let listed = all.iter().find(|c| c["id"] == bad.id()).unwrap();
    assert!(listed["name"].is_null() && listed["image"].is_null(), "{listed:#}");
    assert_eq!(document["gaps"][0]["class"], "malformed", "{document:#}");
    assert_eq!(run.stderr_str().lines().count(), 1, "{}", run.stderr_str());
    ask(&host, &["ls", "-a", "--strict"]).expect_code(3);
    let hostile = container(&host, "x\x1b[31m\ny", 5100);
    let table = ask(&host, &["ls"]).expect_code(0).stdout_str();
    assert!(!table.contains('\x1b') && table.contains(hostile.id()), "{table}");
}
