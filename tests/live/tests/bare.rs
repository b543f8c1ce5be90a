//! runc and crun without an engine, against `runc state`, `crun state` and `/proc`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use whose_live_tests::compare::{self, millis};
use whose_live_tests::sleeper::{seconds, sleeping};
use whose_live_tests::{alone, answer, compared, pid_of, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::cgroup::{remove_empty, tops};
use whose_testkit::docker::busybox_rootfs;
use whose_testkit::facts::Facts;
use whose_testkit::require;

#[test]
fn runtimes_without_an_engine() {
    if !require(&["root", "busybox", "mount-namespace"]) {
        return;
    }
    let _alone = alone();
    let mut cases = Cases::of("bare");
    cases.case_with(&["runc"], "runc", || one("runc"));
    // crun refuses hybrid hierarchies.
    cases.case_with(&["crun"], "crun", || one("crun"));
    cases.finish();
}

/// A container; it goes when this is dropped.
struct Bare {
    runtime: &'static str,
    id: String,
    root: PathBuf,
    old: Vec<PathBuf>,
    _work: tempfile::TempDir,
}

/// Hides v2 from whoever can't do with both.
const V1: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null || true\nexec \"$@\"\n";

fn tool(runtime: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "--propagation",
        "slave",
        "sh",
        "-ec",
        if runtime == "crun" { V1 } else { "exec \"$@\"\n" },
    ]);
    command.args(["sh", runtime]).stdin(Stdio::null());
    command
}

impl Bare {
    fn start(runtime: &'static str, seconds: &str) -> Bare {
        let work = tempfile::Builder::new().prefix("whose-bare-").tempdir().unwrap();
        let root = busybox_rootfs(work.path());
        let spec = Command::new(runtime).arg("spec").current_dir(work.path()).status();
        assert!(spec.is_ok_and(|s| s.success()), "{runtime} spec");
        let file = work.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["/bin/sleep", seconds]);
        config["annotations"] = serde_json::json!({"org.example.tier": "front"});
        // Limits above those of this machine are refused.
        config["process"].as_object_mut().unwrap().remove("rlimits");
        std::fs::write(&file, config.to_string()).unwrap();
        let (id, old) = (unique(&format!("whose-{runtime}")), tops());
        let bare = Bare { runtime, id, root, old, _work: work };
        let mut run = tool(runtime);
        run.args(["run", "-d", "-b"]).arg(bare.root.parent().unwrap()).arg(&bare.id);
        let status = run.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|s| s.success()), "{runtime} run");
        bare
    }

    fn state(&self) -> Value {
        let out = tool(self.runtime).args(["state", &self.id]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let mut delete = tool(self.runtime);
        delete.args(["delete", "-f", &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        drop(delete.status());
        let new = tops().into_iter().filter(|dir| !self.old.contains(dir));
        new.filter(|dir| dir.ends_with(&self.id)).for_each(|dir| remove_empty(&dir));
    }
}

fn described(facts: &mut Facts, owner: &Value, state: &Value, root: &Path, runtime: &str) {
    facts.same("kind", owner["kind"].as_str(), Some("container"));
    facts.same("runtime", owner["runtime"].as_str(), Some(runtime));
    facts.same("id", &owner["id"], &state["id"]);
    let created = state["created"].as_str().and_then(millis);
    facts.same("created", owner["created"].as_str(), created.as_deref());
    facts.same("rootfs", owner["rootfs"].as_str(), root.to_str());
}

fn one(runtime: &'static str) {
    let seconds = seconds();
    let bare = Bare::start(runtime, &seconds);
    let pid = sleeping(&seconds);
    let state = bare.state();
    let mut facts = Facts::about(runtime);
    facts.same("the test's own", pid_of(&state["pid"]), Some(pid));
    let told = answer(&pid.to_string());
    compare::kernel(&mut facts, &told, pid);
    described(&mut facts, &told["owner"], &state, &bare.root, runtime);
    facts.same("state", &told["owner"]["state"], &state["status"]);
    facts.same("init_pid", pid_of(&told["owner"]["init_pid"]), Some(pid));
    facts.same("role", told["process"]["role"].as_str(), Some("init"));
    if runtime == "runc" {
        let label = &told["owner"]["labels"]["org.example.tier"];
        facts.same("annotation", label.as_str(), Some("front"));
    }
    let found = answer(&bare.id);
    facts.same("by id", compare::pids(&found["processes"]), BTreeSet::from([pid]));
    facts.same("its state", &found["owner"]["state"], &state["status"]);
    let pids = whose().args(["pids", &bare.id]).run().expect_code(0).pids();
    facts.same("pids", pids, vec![pid]);
    let list = whose().args(["ls", "--json"]).run().expect_code(0).json();
    let rows = list["containers"].as_array().unwrap();
    let rows: Vec<&Value> = rows.iter().filter(|r| r["id"] == bare.id.as_str()).collect();
    facts.same("listed", rows.len(), 1);
    described(&mut facts, rows[0], &state, &bare.root, runtime);
    compared(&format!("{runtime}, one container"), facts.finish(24));
}
