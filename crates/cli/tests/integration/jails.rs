//! Sandboxes without a cgroup, and machines that only their supervisor tells of: by the program above.

use serde_json::{Value, json};
use whose_testkit::fixture::{DockerContainer, FixtureHost, Process};

use crate::support::{answer, ask};

const HOSTS: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
const OVERLAY: &str = "5 1 0:99 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n";
const SESSION: &str = "/user.slice/user-1000.slice/session-6.scope";

fn host() -> FixtureHost {
    let host = FixtureHost::new();
    host.boot();
    host
}

/// A program that makes sandboxes, by what it calls itself and its file.
fn jailer<'h>(host: &'h FixtureHost, pid: u32, exe: &str, args: &[&[u8]]) -> Process<'h> {
    let comm = exe.rsplit('/').next().unwrap();
    host.process(pid).comm(comm).exe(exe).cmdline(args).in_cgroup(SESSION)
}

/// A process in mounts of its own.
fn jailed<'h>(host: &'h FixtureHost, pid: u32, ppid: u32, mounts: &str) -> Process<'h> {
    let process = host.process(pid).ppid(ppid).mountinfo(mounts).in_cgroup(SESSION);
    process.ns("mnt", 4_026_550_000 + u64::from(pid))
}

fn owner(host: &FixtureHost, pid: u32) -> Value {
    answer(host, &pid.to_string())["owner"].clone()
}

fn kinds(host: &FixtureHost, pid: u32) -> [Value; 3] {
    let owner = owner(host, pid);
    ["kind", "runtime", "id"].map(|key| owner[key].clone())
}

#[test]
fn whose_sandbox_it_is_is_told_by_the_program_above() {
    let host = host();
    let args: [&[u8]; 1] = [b"bwrap"];
    jailer(&host, 7000, "/usr/bin/bwrap", &args).uid(1000).write();
    jailed(&host, 7001, 7000, HOSTS).uid(1000).write();
    let inner = jailer(&host, 7002, "/usr/bin/bwrap (deleted)", &args).uid(1000).ppid(7000);
    inner.ns("mnt", 4_026_551_000).mountinfo(OVERLAY).write();
    jailed(&host, 7003, 7002, OVERLAY).uid(1000).ns("mnt", 4_026_551_000).write();
    for (pid, id) in [(7001, 4_026_557_001_u64), (7002, 4_026_551_000), (7003, 4_026_551_000)] {
        let wanted = [json!("app"), json!("bubblewrap"), json!(format!("mnt:[{id}]"))];
        assert_eq!(kinds(&host, pid), wanted);
    }
    // Another user's program says nothing of what it does not own, and what has its mounts is in no jail.
    jailed(&host, 7004, 7000, HOSTS).uid(33).write();
    let id = "mnt:[4026557004]";
    assert_eq!(kinds(&host, 7004), [json!("unknown"), json!("unknown"), json!(id)]);
    host.process(7005).ppid(7000).uid(1000).in_cgroup(SESSION).write();
    assert_eq!(owner(&host, 7005)["kind"], "session");
    // A name alone is anybody's.
    let named = jailer(&host, 7006, "/usr/bin/bwrap", &args).exe("/usr/bin/sleep");
    named.uid(1000).write();
    jailed(&host, 7007, 7006, HOSTS).uid(1000).write();
    assert_eq!(owner(&host, 7007)["kind"], "session");
}

/// Anybody can call a program as a supervisor is called, and what it runs as root's machine.
#[test]
fn a_machine_is_roots() {
    let host = host();
    let text = "NAME=web\nSCOPE=machine-web.scope\nSERVICE=systemd-nspawn\nROOT=/m/web\n\
                LEADER=501\nCLASS=container\n";
    host.file("run/systemd/machines/web", text);
    let payload = "/machine.slice/machine-web.scope/payload";
    host.process(501).nspid(&[501, 1]).in_cgroup(payload).write();
    host.cgroup_dirs(payload, &[501]);
    let args: [&[u8]; 3] = [b"systemd-nspawn", b"-M", b"web"];
    let supervisor = |pid: u32| jailer(&host, pid, "/usr/bin/systemd-nspawn", &args);
    supervisor(7000).write();
    jailed(&host, 7001, 7000, OVERLAY).nspid(&[7001, 1]).write();
    let wanted = [json!("machine"), json!("systemd-nspawn"), json!("web")];
    assert_eq!(kinds(&host, 7001), wanted);
    host.remove("proc/7000").remove("proc/7001");
    // A user's, one that is setuid, and one of a container's root.
    let mine = jailer(&host, 7100, "/srv/u/systemd-nspawn", &args).uid(1000);
    mine.write();
    supervisor(7110).real_uid(1000).write();
    supervisor(7120).nspid(&[7120, 1]).host_mounts().write();
    for (parent, uid) in [(7100_u32, 1000), (7110, 1000), (7120, 0)] {
        jailed(&host, parent + 1, parent, HOSTS).uid(uid).write();
        jailed(&host, parent + 2, parent, OVERLAY).uid(uid).nspid(&[parent + 2, 1]).write();
        assert_eq!(owner(&host, parent + 1)["kind"], "session", "{parent}");
        assert_eq!(owner(&host, parent + 2)["kind"], "unknown", "{parent}");
    }
    let list = ask(&host, &["ls", "--json"]).expect_code(0).json();
    let list: Vec<_> =
        list["containers"].as_array().unwrap().iter().map(|c| (&c["name"], &c["pids"])).collect();
    assert_eq!(list, [(&json!("web"), &json!([501]))]);
}

/// In a container its own root may have machines too, and no user there.
#[test]
fn a_machine_in_a_container_is_that_containers_roots() {
    let host = host();
    let web = DockerContainer::named("web").running(8000);
    let cgroup = format!("/docker/{}/payload", web.id());
    host.docker_container(&web).cgroup_dirs(&cgroup, &[8000]);
    let args: [&[u8]; 3] = [b"systemd-nspawn", b"-M", b"lab"];
    // Root's uid outside, who maps it, and whether that is root.
    let cases: [(u32, &str, bool); 4] = [
        (0, "0 0 4294967295\n", true),
        (165_536, "0 165536 65536\n", true),
        (166_536, "0 165536 65536\n", false),
        (1000, "0 1000 1\n", false),
    ];
    for (uid, map, is_root) in cases {
        let supervisor = host.process(8001).comm("systemd-nspawn").exe("/usr/bin/systemd-nspawn");
        let supervisor = supervisor.cmdline(&args).in_docker(web.id()).nspid(&[8001, 20]);
        supervisor.uid(uid).uid_map(map).write();
        let inner = host.process(8002).ppid(8001).uid(uid).in_docker(web.id());
        let inner = inner.nspid(&[8002, 21, 1]).in_cgroup(&cgroup);
        inner.ns("mnt", 4_026_550_002).write();
        let found = answer(&host, "8002");
        let names: Vec<&Value> =
            found["chain"].as_array().unwrap().iter().map(|level| &level["name"]).collect();
        let wanted: &[&str] = if is_root { &["web", "lab"] } else { &["web"] };
        assert_eq!(names, wanted, "{uid} {found:#}");
        host.remove("proc/8001").remove("proc/8002");
    }
}

/// A setuid program's file and namespaces are not for its own user: then nobody can say whether it made a
/// sandbox.
#[test]
fn what_may_not_be_looked_at_is_a_gap() {
    let host = host();
    let failed = |path: &str| json!({"path": path, "class": "forbidden", "cause": "permission denied", "refused": false});
    let entries = [failed("proc/7000/exe"), failed("proc/7000/ns/mnt"), failed("proc/7003/ns/mnt")];
    let manifest = json!({"schema": "whose/1", "entries": entries});
    host.file(".whose/manifest.json", manifest.to_string());
    let clocks = json!({"since_boot": 1_000_000_000_000_u64, "boot_moment": 1_704_164_645_000_000_000_u64,
        "ticks_per_second": 100, "page_size": 4096});
    let facts = json!({"schema": "whose/1", "clocks": clocks, "euid": 1000, "binaries": []});
    host.file(".whose/facts.json", facts.to_string());
    jailer(&host, 7000, "/usr/bin/firejail", &[b"firejail"]).real_uid(1000).write();
    jailed(&host, 7001, 7000, HOSTS).uid(1000).write();
    jailed(&host, 7002, 7000, OVERLAY).uid(1000).write();
    jailed(&host, 7003, 7000, HOSTS).uid(1000).write();
    jailed(&host, 7004, 1, HOSTS).uid(1000).write();
    for gone in ["7000/exe", "7000/ns/mnt", "7003/ns/mnt"] {
        host.remove(format!("proc/{gone}"));
    }
    for (pid, file) in [(7001, "7000/exe"), (7003, "7003/ns/mnt")] {
        let found = answer(&host, &pid.to_string());
        assert!(found["owner"].is_null(), "{found:#}");
        let gaps = found["gaps"].as_array().unwrap();
        let gap = gaps.iter().find(|gap| gap["what"] == "membership").unwrap();
        assert_eq!(gap["class"], "forbidden");
        assert!(gap["path"].as_str().unwrap().ends_with(file), "{found:#}");
        ask(&host, &[&pid.to_string()]).expect_code(3);
    }
    let other = answer(&host, "7002");
    assert_eq!(other["owner"]["kind"], "unknown", "{other:#}");
    let is_told = |gap: &Value| gap["class"] == "forbidden" && gap["what"] == "membership";
    assert!(other["gaps"].as_array().unwrap().iter().any(is_told), "{other:#}");
    assert_eq!(owner(&host, 7004)["kind"], "session");
}

/// What a user's own files say of sandboxes that no cgroup names: by the process in such a file, and of
/// those below the same program of his.
fn named(host: &FixtureHost) {
    let users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                 bob:x:1001:1001::/home/bob:/bin/sh\n";
    host.file("etc/passwd", users).file("proc/sys/kernel/hostname", "lab\n");
    let args: [&[u8]; 1] = [b"x"];
    for (program, uid, first) in
        [("bwrap", 1000_u32, 7000_u32), ("starter", 1000, 7100), ("starter-suid", 1001, 7200)]
    {
        let exe = format!("/usr/libexec/{program}");
        let real = if program == "starter-suid" { 0 } else { uid };
        let above = jailer(host, first, &exe, &args).uid(real).real_uid(uid);
        above.write();
        let inner = jailed(host, first + 1, first, OVERLAY).uid(uid);
        inner.nspid(&[first + 1, 1]).write();
        // Something in it with mounts of its own once more.
        let deeper = jailed(host, first + 2, first + 1, OVERLAY).uid(uid);
        deeper.nspid(&[first + 2, 2]).write();
    }
}

fn flatpak(host: &FixtureHost, uid: u32, pid: u32) {
    let dir = format!("run/user/{uid}/.flatpak/77");
    let info = "[Application]\nname=org.lab.App\n[Instance]\ninstance-id=77\narch=x86_64\n\
                branch=stable\napp-commit=0a1b\n";
    host.file(format!("{dir}/info"), info);
    host.file(format!("{dir}/bwrapinfo.json"), json!({"child-pid": pid}).to_string());
}

fn instance(host: &FixtureHost, (home, at, user): (&str, &str, &str), name: &str, pid: u32) {
    let file = json!({"pid": pid, "ppid": 1, "name": name, "user": user, "image": "/srv/db.sif",
                      "userns": true, "cgroup": false, "logOutPath": "/srv/db.out"});
    let dir = format!("{home}/.apptainer/instances/app/{at}/{user}/{name}");
    host.file(format!("{dir}/{name}.json"), file.to_string());
}

#[test]
fn a_sandbox_that_its_users_files_name() {
    let host = host();
    named(&host);
    flatpak(&host, 1000, 7001);
    instance(&host, ("home/alice", "lab", "alice"), "db", 7101);
    instance(&host, ("home/bob", "lab", "bob"), "web", 7201);
    let cases = [
        (7000, "flatpak", "77", "org.lab.App", "org.lab.App/x86_64/stable", "alice"),
        (7100, "apptainer", "db", "db", "/srv/db.sif", "alice"),
        (7200, "apptainer", "web", "web", "/srv/db.sif", "bob"),
    ];
    for (first, runtime, id, name, image, user) in cases {
        for pid in [first + 1, first + 2] {
            let told = answer(&host, &pid.to_string());
            let owner = &told["owner"];
            let keys = ["kind", "runtime", "id", "name", "image", "user", "state"];
            let got = keys.map(|key| owner[key].as_str().unwrap_or_default());
            assert_eq!(got, ["app", runtime, id, name, image, user, "running"], "{told:#}");
            assert_eq!(owner["init_pid"], first + 1, "{told:#}");
            assert_eq!(told["gaps"], json!([]), "{told:#}");
            let file = |e: &Value| e["source"] == "state-file" && e["agrees"] == true;
            assert!(told["evidence"].as_array().unwrap().iter().any(file), "{told:#}");
            ask(&host, &["--in-container", &pid.to_string()]).expect_code(0);
        }
        assert_eq!(owner(&host, first)["kind"], "session");
        let target = format!("container:{runtime}@{user}/{name}");
        for target in [name, &target] {
            let pids = ask(&host, &["pids", target]).expect_code(0).pids();
            assert_eq!(pids, [first + 1, first + 2], "{target}");
        }
    }
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let rows = list["containers"].as_array().unwrap().iter();
    let mut rows: Vec<_> = rows.map(|r| (r["name"].as_str(), r["state"].as_str())).collect();
    rows.sort();
    let up = Some("running");
    let wanted = [(Some("db"), up), (Some("org.lab.App"), up), (Some("web"), up)];
    assert_eq!(rows, wanted, "{list:#}");
}

#[test]
fn nobodys_files_name_another_users_sandbox() {
    let host = host();
    named(&host);
    // Bob says of alice's processes that they are his, alice of one that runs no sandbox, and the files of
    // another host that share her home name one that has the same number here.
    flatpak(&host, 1001, 7001);
    instance(&host, ("home/bob", "lab", "bob"), "theft", 7101);
    instance(&host, ("home/alice", "lab", "alice"), "stale", 7000);
    instance(&host, ("home/alice", "elsewhere", "alice"), "far", 7101);
    let told = [7001_u32, 7101, 7201].map(|pid| kinds(&host, pid));
    let by_mounts = |pid: u32| json!(format!("mnt:[{}]", 4_026_550_000_u64 + u64::from(pid)));
    assert_eq!(told[0], [json!("app"), json!("bubblewrap"), by_mounts(7001)]);
    assert_eq!(told[1], [json!("app"), json!("apptainer"), by_mounts(7101)]);
    assert_eq!(told[2], [json!("app"), json!("apptainer"), by_mounts(7201)]);
    for name in ["theft", "stale", "far"] {
        let pids = ask(&host, &["pids", name]);
        assert!(pids.stdout.is_empty() && pids.code != Some(0), "{}", pids.story());
    }
    let list = ask(&host, &["ls", "-a", "--json"]).expect_code(0).json();
    let rows = list["containers"].as_array().unwrap();
    let with_pids: Vec<&Value> = rows.iter().filter(|r| r["pids"] != json!([])).collect();
    // One for each mount namespace.
    assert_eq!(with_pids.len(), 6, "{list:#}");
    let gaps = answer(&host, "7101")["gaps"].clone();
    let described = |g: &Value| g["what"] == "container description";
    assert!(!gaps.as_array().unwrap().iter().any(described), "only instances have files: {gaps:#}");
    assert!(with_pids.iter().all(|r| r["name"].is_null()), "{list:#}");
}

/// What can't be read, or is none of its user's, is a gap: it may have a name for the sandbox.
#[test]
fn spoilt_files_of_instances_are_gaps_or_nothing() {
    let spoils: [fn(&FixtureHost, &str); 4] = [
        |host, file| _ = host.file(file, "{\"pid\": 71"),
        |host, file| _ = host.file(file, json!({"pid": 7101, "name": "other"}).to_string()),
        |host, file| _ = host.remove(file).symlink(file, "/etc/passwd"),
        |host, file| _ = host.remove(file).symlink(file, "../../../../../../../../etc/passwd"),
    ];
    for spoil in spoils {
        let host = host();
        named(&host);
        instance(&host, ("home/alice", "lab", "alice"), "db", 7101);
        spoil(&host, "home/alice/.apptainer/instances/app/lab/alice/db/db.json");
        let told = answer(&host, "7101");
        assert_eq!(told["owner"]["runtime"], "apptainer", "{told:#}");
        assert_eq!(told["owner"]["id"], "mnt:[4026557101]", "{told:#}");
        let unread =
            told["owner"]["name"].is_null() && !told["gaps"].as_array().unwrap().is_empty();
        assert!(unread, "{told:#}");
    }
}
