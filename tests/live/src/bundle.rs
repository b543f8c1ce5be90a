//! Answers about a containerd's containers, against `ctr` and `/proc`.

use crate::compare;
use crate::{answer, whose};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use whose_testkit::containerd::Containerd;
use whose_testkit::facts::Facts;
use whose_testkit::procfs;

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
