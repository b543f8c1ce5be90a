//! Answers about a containerd's containers, against `ctr` and `/proc`.

use crate::compare::{self, millis};
use crate::replay::{Capture, keep};
use crate::{answer, pid_of, trace, whose};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use whose_testkit::containerd::Containerd;
use whose_testkit::facts::Facts;
use whose_testkit::procfs;

/// The contract's word for a task's status.
#[must_use]
pub fn state(status: &str) -> Option<&'static str> {
    match status {
        "CREATED" => Some("created"),
        "RUNNING" => Some("running"),
        "PAUSED" => Some("paused"),
        "STOPPED" => Some("exited"),
        _ => None,
    }
}

/// Compares the answers for the processes of a task with `/proc`; its init is where the bundle and
/// `ctr tasks` say, in this cgroup. The answer for the init.
pub fn kernel(
    facts: &mut Facts,
    containerd: &Containerd,
    (namespace, id): (&str, &str),
    cgroup: &str,
) -> Value {
    let init = containerd.init_pid(namespace, id);
    let written = std::fs::read_to_string(containerd.bundle(namespace, id).join("init.pid"));
    let written = written.ok().and_then(|text| text.trim().parse().ok());
    facts.same("init.pid", written, Some(init));
    let told = answer(&init.to_string());
    facts.same("cgroup", told["process"]["cgroup"].as_str(), Some(cgroup));
    for pid in containerd.pids(namespace, id) {
        compare::kernel(facts, &answer(&pid.to_string()), pid);
    }
    told
}

/// Compares the answers for the init of a task and for all its processes with what the kernel and
/// `ctr tasks` say: what holds of any container, whoever described it. The answer for the init.
pub fn task(
    facts: &mut Facts,
    containerd: &Containerd,
    (namespace, id): (&str, &str),
    cgroup: &str,
) -> Value {
    let task = containerd.tasks(namespace)[id].clone();
    let told = kernel(facts, containerd, (namespace, id), cgroup);
    let owner = &told["owner"];
    facts.same("runtime", owner["runtime"].as_str(), Some("containerd"));
    facts.same("state", owner["state"].as_str(), state(&task.status));
    facts.same("init_pid", pid_of(&owner["init_pid"]), Some(task.pid));
    for pid in containerd.pids(namespace, id) {
        compare::process(facts, &answer(&pid.to_string()), pid, id);
    }
    told
}

/// The supervisor of a task is plumbing, and says whom it serves.
pub fn shim(facts: &mut Facts, init: u32, serves: &str) {
    let shim = procfs::ppid(init).expect("the init has a parent");
    facts.same("shim", procfs::comm(shim).as_deref(), Some("containerd-shim"));
    let told = answer(&shim.to_string());
    facts.same("shim's role", told["process"]["role"].as_str(), Some("plumbing"));
    facts.same("shim serves", told["process"]["serves"].as_str(), Some(serves));
}

/// The path that `whose exe` prints is the file that runs: it is below `store`, and the overlay
/// shows its inode.
pub fn exe(facts: &mut Facts, pid: u32, store: &Path) {
    let run = whose().args(["exe", &pid.to_string()]).run().expect_code(0);
    let path = PathBuf::from(run.stdout_str().trim_end_matches('\n'));
    facts.holds("exe is in the store", path.starts_with(store), &path);
    let inode = |path: &Path| std::fs::metadata(path).map(|meta| meta.ino()).ok();
    let running = inode(Path::new(&format!("/proc/{pid}/exe")));
    facts.holds("exe is the file that runs", running.is_some() && inode(&path) == running, &path);
}

/// A time of Go's or of CRI's, in nanoseconds since 1970, as the contract writes it.
#[must_use]
pub fn time(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => millis(text),
        Value::Number(nanos) => {
            let nanos = nanos.as_i64().filter(|nanos| *nanos != 0)?;
            let out = std::process::Command::new("date")
                .args(["-u", "-d", &format!("@{}", nanos.div_euclid(1_000_000_000))])
                .arg("+%Y-%m-%dT%H:%M:%S")
                .output()
                .ok()?;
            let seconds = String::from_utf8(out.stdout).ok()?;
            let millis = nanos.rem_euclid(1_000_000_000) / 1_000_000;
            Some(format!("{}.{millis:03}Z", seconds.trim_end()))
        }
        _ => None,
    }
}

/// No daemon is asked, and nothing but read.
pub fn only_examined(pids: &[String]) {
    let first = pids[0].as_str();
    for args in [&[first][..], &["--json", "--why", first], &["pids", first], &["exe", first]] {
        trace::only_examines(args, &[0], None);
    }
    for args in [&["ps", "--json"][..], &["ls", "-a", "--json"]] {
        trace::only_examines(args, &[0], None);
    }
}

/// A capture of these processes answers as the live host did. The host may have many others.
pub fn captured(pids: &[String], name: &str) {
    let targets: Vec<&str> = pids.iter().map(String::as_str).collect();
    let capture = Capture::of(&targets, None, 0);
    let mut facts = Facts::about("a capture of what runs");
    let rows = ["ps", "--json", "-o", "pid,ppid,user,comm,args,state,owner,image,chain,role"];
    for pid in &targets {
        for args in [&["--json", pid][..], &["--json", "--why", pid], &["exe", "--json", pid]] {
            capture.compare_part(&mut facts, args, "/answers");
        }
        capture.compare_part(&mut facts, &[&rows[..], &[pid]].concat(), "/rows");
        capture.compare(&mut facts, &["exe", pid]);
        capture.compare(&mut facts, &["--in-container", "-q", pid]);
    }
    facts.finish(50 * pids.len());
    keep(&targets, name);
}
