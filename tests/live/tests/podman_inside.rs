//! Podman in containers that makes no cgroups, as its own image has it: what it runs is in the cgroup of the
//! container around, and told apart by monitors and namespaces.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;
use whose_live_tests::inner::busybox_archive;
use whose_live_tests::podman::{Asking, NEEDS, listed, sleeping, start};
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, View};
use whose_testkit::facts::Facts;
use whose_testkit::podman::Podman;
use whose_testkit::{procfs, require};

/// As the image `podman/stable` configures it, besides what this machine can't give (ulimits) or needs no
/// daemon for (locks).
const CONF: &str = "[containers]\nipcns = \"host\"\nutsns = \"host\"\nuserns = \"host\"\n\
    cgroupns = \"host\"\ncgroups = \"disabled\"\nlog_driver = \"k8s-file\"\n\
    default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
    [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"crun\"\n\
    lock_type = \"file\"\n";

/// A user in the containers.
const USER: (&str, &str) = ("inner", "47110");

/// A root with the host's programs: an engine in a container, which may run another one.
fn outer_root(dir: &Path) {
    let dirs = ["usr", "proc", "sys", "dev", "tmp", "run", "root", "var/tmp", "var/lib/containers"];
    for name in dirs.iter().chain(&["etc/containers", "home/inner", "srv"]) {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), dir.join(name)).unwrap();
    }
    for name in ["passwd", "group", "containers/policy.json"] {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            std::fs::copy(from, dir.join("etc").join(name)).unwrap();
        }
    }
    let (name, uid) = USER;
    let line = format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n");
    let mut passwd = std::fs::read_to_string(dir.join("etc/passwd")).unwrap();
    passwd.push_str(&line);
    std::fs::write(dir.join("etc/passwd"), passwd).unwrap();
    for file in ["etc/subuid", "etc/subgid"] {
        std::fs::write(dir.join(file), format!("{name}:10000:5000\n")).unwrap();
    }
    std::fs::write(dir.join("etc/containers/containers.conf"), CONF).unwrap();
    std::fs::write(
        dir.join("etc/containers/storage.conf"),
        "[storage]\ndriver = \"vfs\"\n\
        graphroot = \"/var/lib/containers/storage\"\nrunroot = \"/run/containers/storage\"\n",
    )
    .unwrap();
    for name in ["tmp", "var/tmp"] {
        let open = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(dir.join(name), open).unwrap();
    }
    drop(busybox_archive(&dir.join("root")));
    std::fs::copy(dir.join("root/busybox.tar"), dir.join("busybox.tar")).unwrap();
}

/// Runs a command in the outer container; what it printed.
type Inside<'i> = &'i dyn Fn(&[&str]) -> String;

/// A container in the outer one, and what its engine says of it.
struct Inner {
    name: String,
    init: u32,
    exec: u32,
    inspected: Value,
}

impl Inner {
    /// Starts one by podman there, which is called by these words.
    fn start(inside: Inside<'_>, podman: &[&str], seconds: u32) -> Inner {
        let name = unique(&format!("inner{seconds}"));
        let call = |words: &[&str]| inside(&[podman, words].concat());
        if call(&["images", "-q", "lab:1"]).is_empty() {
            call(&["import", "-q", "/busybox.tar", "lab:1"]);
        }
        let [own, more] = [seconds.to_string(), format!("{seconds}9")];
        let words = ["run", "-d", "--network", "none", "--label", "a=b", "--name", &name, "lab:1"];
        call(&[&words[..], &["/bin/sleep", &own]].concat());
        call(&["exec", "-d", &name, "/bin/sleep", &more]);
        let text = call(&["container", "inspect", &name]);
        let inspected = serde_json::from_str::<Value>(&text).unwrap()[0].clone();
        Inner { init: sleeping(&own), exec: sleeping(&more), name, inspected }
    }
}

/// The names in a chain, the outermost first, of what contains.
fn names(told: &Value) -> Vec<String> {
    let chain = told["chain"].as_array().into_iter().flatten();
    let contains = |level: &&Value| level["kind"] == "container";
    chain.filter(contains).map(|o| o["name"].as_str().unwrap_or("?").to_owned()).collect()
}

/// All that is told of a container in these others: card, name, id, PIDs, table, list and tree.
fn judge(what: &str, around: &[&str], inner: &Inner, user: Option<&str>) -> usize {
    let label = user.map_or_else(|| inner.name.clone(), |user| format!("{user}@{}", inner.name));
    let asking = Asking::root(&[&inner.name], &label).nested();
    let mut compared = asking.check_at(&inner.inspected, inner.init, user, None);
    let mut facts = Facts::about(what);
    let id = inner.inspected["Id"].as_str().unwrap();
    let cgroup = procfs::cgroup(inner.init).unwrap();
    facts.holds("no cgroup of its own", !cgroup.contains(id), &cgroup);
    let levels: Vec<String> =
        around.iter().map(|n| (*n).to_owned()).chain([inner.name.clone()]).collect();
    for pid in [inner.init, inner.exec] {
        let told = answer(&pid.to_string());
        facts.same("levels", names(&told), levels.clone());
        let last = told["chain"].as_array().and_then(|chain| chain.last());
        facts.same("the last level is its owner", last, Some(&told["owner"]));
        let evidence = told["evidence"].to_string();
        facts.holds("because", evidence.contains("below its monitor"), &evidence);
        let table = whose().args(["ps", "--no-headers", "-o", "owner", &pid.to_string()]).run();
        facts.same("OWNER", table.expect_code(0).stdout_str().trim(), label.as_str());
        let args = ["--in-container", "-q", &pid.to_string()];
        let quiet = whose().args(args).run().expect_code(0);
        facts.holds("in a container", quiet.stdout_str().is_empty(), quiet.stdout_str());
    }
    facts.same("role", answer(&inner.exec.to_string())["process"]["role"].as_str(), Some("exec"));
    let both = BTreeSet::from([inner.init, inner.exec]);
    facts.same("pids", asking.pids(&inner.name), both.clone());
    facts.same("pids by id", asking.pids(id), both.clone());
    for outer in around {
        let all = asking.pids(outer);
        facts.holds("those of the outer one", all.is_superset(&both), &all);
        let run = whose().args(["pids", "--direct", outer]).run().expect_code(0);
        let direct: BTreeSet<u32> = run.pids().into_iter().collect();
        facts.holds("without those inside", direct.is_disjoint(&both), &direct);
        facts.holds("which is not empty", !direct.is_empty(), &direct);
    }
    let all = listed(&whose());
    let rows: Vec<&Value> = all.iter().filter(|o| o["id"] == id).collect();
    facts.same("rows", rows.len(), 1);
    facts.same("pids of the row", rows[0]["pids"].clone(), serde_json::json!(both));
    // The scan tells what the card tells.
    let every = whose().args(["ps", "--json", "-o", "pid,owner"]).run().expect_code(0).json();
    let of = |pid: u32| {
        let rows = every["rows"].as_array().unwrap().iter();
        rows.filter(|r| r["process"]["pid"] == pid).map(names).next().unwrap_or_default()
    };
    facts.same("in the list of all", of(inner.init), levels.clone());
    facts.same("in the list of all", of(inner.exec), levels);
    let tree = whose().args(["tree", &inner.name]).run().expect_code(0);
    for pid in &both {
        facts.holds("in the tree", tree.stdout_str().contains(&pid.to_string()), tree.stdout_str());
    }
    // To whom their namespaces are closed it is not told which of the two it is.
    let run = whose().as_user(65534, 65534).args(["--json", &inner.init.to_string()]).run();
    let told = run.expect_code(3).json()["answers"][0].clone();
    facts.same("to others", told["owner"]["kind"].as_str(), Some("unknown"));
    facts.holds("why", told["gaps"].to_string().contains("forbidden"), &told["gaps"]);
    // The monitor is the outer one's.
    let monitor = answer(&procfs::ppid(inner.init).unwrap().to_string());
    facts.same("the monitor's", names(&monitor), around.to_vec());
    compared += facts.finish(24);
    compared
}

#[test]
fn without_cgroups() {
    if !require(&[NEEDS, &["crun", "docker", "cgroup-hybrid"]].concat()) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("podman inside");
    cases.case("podman in podman", in_podman);
    cases.case("podman in docker", in_docker);
    cases.finish();
}

/// Podman's that gives the outer container a cgroup, and that does not.
fn in_podman() {
    let podman = start(Podman::options());
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    outer_root(&root);
    let mut compared = 0;
    for (mode, seconds) in [("enabled", 97_601), ("disabled", 97_602)] {
        let store = dir.path().join(mode);
        std::fs::create_dir(&store).unwrap();
        let outer = unique(mode);
        let store = format!("{}:/var/lib/containers", store.display());
        let cgroups = format!("--cgroups={mode}");
        let words = ["--runtime", "crun", "run", "-d", "--network", "none", "--name", &outer];
        let options = [
            &cgroups,
            "--pids-limit=-1",
            "--privileged",
            "-v",
            "/usr:/usr:ro",
            "-v",
            &store,
            "--rootfs",
        ];
        let sleep = [root.to_str().unwrap(), "/usr/bin/sleep", "97600"];
        let started = [&words[..], &options, &sleep].concat();
        podman.try_in_view(View::V2, &started).unwrap_or_else(|e| panic!("{e}"));
        let inside = |words: &[&str]| {
            let exec = [&["--runtime", "crun", "exec", &outer][..], words].concat();
            podman.try_in_view(View::V2, &exec).unwrap_or_else(|e| panic!("{e}"))
        };
        let inner = Inner::start(&inside, &["podman"], seconds);
        compared += judge(mode, &[&outer], &inner, None);
    }
    whose_live_tests::compared("podman in podman", compared);
}

/// Docker's, with the system's engine in it, that of a user there, and one in a container of that.
fn in_docker() {
    let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    outer_root(&root);
    let archive = dir.path().join("outer.tar");
    let mut tar = std::process::Command::new("tar");
    let made = tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(made.success(), "{tar:?}");
    let command = "CMD [\"/usr/bin/sleep\", \"97600\"]";
    let import = ["import", "--change", "ENV PATH=/usr/sbin:/usr/bin", "--change", command];
    docker.cli(&[&import[..], &[archive.to_str().unwrap(), "lab-podman:1"]].concat());
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let store = format!("{}:/var/lib/containers", store.display());
    let outer = unique("outer");
    let words = ["--name", &outer, "--cap-add=ALL", "--cap-drop=SYS_RESOURCE"];
    let free = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"];
    let free = [&free[..], &["--device-cgroup-rule=a *:* rwm", "-v", "/usr:/usr:ro"]].concat();
    docker.run(&[&words[..], &free, &["-v", &store, "lab-podman:1"]].concat());
    let inside = |words: &[&str]| docker.cli(&[&["exec", &outer][..], words].concat());
    let inner = Inner::start(&inside, &["podman"], 97_611);
    let mut compared = judge("of root", &[&outer], &inner, None);
    compared += of_a_user(&outer, &inside);
    compared += by_false_monitors(&outer, &inner, &inside);
    whose_live_tests::compared("podman in docker", compared);
}

/// A user's own engine in the container.
fn of_a_user(outer: &str, inside: Inside<'_>) -> usize {
    let (name, uid) = USER;
    let home = format!("HOME=/home/{name}");
    inside(&["chown", "-R", &format!("{uid}:{uid}"), &format!("/home/{name}")]);
    inside(&["install", "-d", "-o", uid, "-g", uid, "-m", "700", "/run/inner"]);
    let run = "XDG_RUNTIME_DIR=/run/inner";
    let user = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all"];
    let words = [&user[..], &["env", "-C", "/tmp", &home, run, "podman"]].concat();
    let inner = Inner::start(inside, &words, 97_612);
    judge("of a user", &[outer], &inner, Some(name))
}

/// Whoever calls himself a monitor gets nobody's name: not that of a container which another one's engine
/// there has, nor of one that no engine there has.
fn by_false_monitors(outer: &str, inner: &Inner, inside: Inside<'_>) -> usize {
    let mut facts = Facts::about("false monitors");
    let script = "#!/bin/sh\nunshare -m sleep \"$SLEEP\" &\nwait\n";
    inside(&["sh", "-c", &format!("printf '%s' '{script}' >/tmp/conmon; chmod 755 /tmp/conmon")]);
    let known = inner.inspected["Id"].as_str().unwrap().to_owned();
    let store = "/var/lib/containers/storage";
    // A user there names root's container; root one that it does not have.
    let user =
        ["setpriv", "--reuid", USER.1, "--regid", USER.1, "--clear-groups", "--inh-caps=-all"];
    let user = [&user[..], &["unshare", "-r"]].concat();
    let cases = [("97621", &user[..], known.as_str()), ("97622", &[], &"5".repeat(64))];
    for (seconds, before, id) in cases {
        let line = format!(
            "SLEEP={seconds} exec {} /tmp/conmon -c {id} -u {id} -n {} -b \
             {store}/vfs-containers/{id}/userdata --exit-command-arg --root \
             --exit-command-arg {store} >/dev/null 2>&1 </dev/null",
            before.join(" "),
            inner.name
        );
        inside(&["sh", "-c", &format!("({line}) &")]);
        let pid = sleeping(seconds);
        let monitor = procfs::ppid(pid).unwrap();
        facts.same("calls itself", procfs::comm(monitor).as_deref(), Some("conmon"));
        for pid in [pid, monitor] {
            let told = answer(&pid.to_string());
            facts.same("levels", names(&told), vec![outer.to_owned()]);
        }
        let pids = whose().args(["pids", &inner.name]).run().expect_code(0).pids();
        facts.holds("none of its", !pids.contains(&pid), &pids);
        let direct = whose().args(["pids", "--direct", outer]).run().expect_code(0).pids();
        facts.holds("the outer one's own", direct.contains(&pid), &direct);
    }
    facts.finish(10)
}
