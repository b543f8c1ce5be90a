//! `whose capture` as anyone may run it, and saved trees that say what they were captured with.

use serde_json::Value;
use whose_testkit::fixture::FixtureHost;

use crate::support::{ask, host, whose};

/// A capture of this very process.
fn own() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let pid = std::process::id().to_string();
    let tree = dir.path().join("tree");
    whose().arg("capture").arg(&tree).arg(&pid).run().expect_code(0);
    (dir, pid)
}

#[test]
fn a_capture_answers_as_the_host_did() {
    let (dir, pid) = own();
    let live = whose().args(["--json", &pid]).run().json();
    let saved = whose().root(dir.path().join("tree")).args(["--json", &pid]).run().json();
    assert_eq!((&live["source"], &saved["source"]), (&"live".into(), &"saved".into()));
    assert_eq!(live["boot_id"], saved["boot_id"]);
    let (live, saved) = (&live["answers"][0], &saved["answers"][0]);
    for key in ["pid", "start_ticks", "start_time", "comm", "args", "uid", "user", "cgroup", "role"]
    {
        assert_eq!(live["process"][key], saved["process"][key], "{key}");
    }
    assert_eq!(live["owner"], saved["owner"]);
    assert_eq!(live["binary"]["host"], saved["binary"]["host"]);
    assert_eq!(live["binary"]["verified"], saved["binary"]["verified"]);
    assert_eq!(saved["binary"]["recorded"], true);
    assert_eq!(live["gaps"], saved["gaps"]);
}

#[test]
fn what_was_not_asked_for_is_not_denied() {
    let (dir, pid) = own();
    let tree = dir.path().join("tree");
    for target in ["4194303", "no-such-container", "/etc/no-such-file"] {
        // This host may have engines with gaps of their own: not only the first one counts.
        let run = whose().root(&tree).args(["--json", target]).run().expect_code(3);
        let told = run.json()["answers"][0]["gaps"].to_string();
        assert!(told.contains("captured") || told.contains("capture"), "{target}: {told}");
    }
    let run = whose().root(&tree).args(["exe", "--hash", "--json", &pid]).run();
    assert_eq!(run.json()["answers"][0]["binary"]["sha256"], Value::Null);
}

/// A capture stops when its time is over, says so, and does not deny what it has not.
#[test]
fn a_capture_that_was_cut_short_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let run = whose().arg("capture").arg(&tree).args(["--timeout", "0.000001"]).run();
    assert!(run.expect_code(3).stderr_str().contains("timed-out"));
    let listed = whose().root(&tree).args(["ps", "--json"]).run().json();
    let told = |gap: &Value| gap["what"] == "what was not captured";
    assert!(listed["gaps"].as_array().unwrap().iter().any(told), "{listed:#}");
    whose().root(&tree).args(["ps", "--strict"]).run().expect_code(3);
    whose().root(&tree).arg("4194303").run().expect_code(3);
}

#[test]
fn only_a_new_directory_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "x").unwrap();
    let run = whose().arg("capture").arg(dir.path()).arg("1").run().expect_code(2);
    assert!(run.stderr_str().contains("not empty"), "{}", run.story());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let run = whose().arg("capture").arg(dir.path().join("a/b")).arg("1").run().expect_code(6);
    assert_eq!(run.stderr_str().lines().count(), 1, "{}", run.story());
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("link")).unwrap();
    whose().arg("capture").arg(dir.path().join("link")).arg("1").run().expect_code(6);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    whose().args(["capture", "/nonexistent/x", "pid:x"]).run().expect_code(2);
}

#[test]
fn a_saved_tree_is_copied_and_not_captured() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("new");
    let run = whose().root(host().path()).arg("capture").arg(&to).run().expect_code(2);
    assert!(run.stderr_str().contains("saved tree"), "{}", run.story());
    assert!(!to.exists());
}

#[test]
fn a_capture_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, pid) = own();
    let mode = |rel: &str| {
        let at = dir.path().join("tree").join(rel);
        std::fs::metadata(at).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode(&format!("proc/{pid}")), 0o700);
    assert_eq!(mode(&format!("proc/{pid}/cmdline")), 0o600);
    assert_eq!(mode(".whose/facts.json"), 0o600);
}

fn tree(manifest: &str, facts: &str) -> FixtureHost {
    let host = host();
    host.file(".whose/manifest.json", manifest).file(".whose/facts.json", facts);
    host
}

const FACTS: &str = r#"{"schema":"whose/1","clocks":{"since_boot":1000000000000,
    "boot_moment":1704164645000000000,"ticks_per_second":100,"page_size":4096},"euid":1000,
    "binaries":[]}"#;

#[test]
fn what_could_not_be_read_then_is_not_read_now() {
    let manifest = r#"{"schema":"whose/1","entries":[
        {"path":"proc/4761/cmdline","class":"timed-out","cause":"it did not answer"},
        {"path":"proc/900","class":"gone","cause":"it ended while the capture was made"}]}"#;
    let host = tree(manifest, FACTS);
    host.remove("proc/4761/cmdline");
    let told = ask(&host, &["--json", "4761"]).expect_code(0).json();
    let gaps = told["answers"][0]["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|g| g["what"] == "arguments").unwrap();
    assert_eq!((&gap["class"], &gap["cause"]), (&"timed-out".into(), &"it did not answer".into()));
    ask(&host, &["900"]).expect_code(1);
    let pids = ask(&host, &["ps", "-q"]).expect_code(0).pids();
    assert!(pids.contains(&4761) && !pids.contains(&900), "{pids:?}");
    // The clock is the captured one.
    let up = ask(&host, &["ps", "-o", "elapsed", "--raw", "--no-headers", "4761"]).stdout_str();
    assert!(up.trim().parse::<u64>().unwrap() <= 1000, "{up}");
}

#[test]
fn a_capture_that_is_damaged_says_so() {
    for (manifest, facts) in [
        ("{", FACTS),
        (r#"{"schema":"whose/1","entries":[]}"#, "{}"),
        (r#"{"schema":"other","entries":[]}"#, FACTS),
    ] {
        let run = ask(&tree(manifest, facts), &["ps"]).expect_code(6);
        assert!(run.stderr_str().contains(".whose/"), "{}", run.story());
        assert_eq!(run.stdout_str(), "");
    }
    let host = host();
    host.symlink(".whose/manifest.json", "/proc/../../../../../../etc/hostname");
    ask(&host, &["ps"]).expect_code(0); // such a file is not in the tree
    host.remove(".whose/manifest.json").fifo(".whose/manifest.json");
    ask(&host, &["ps"]).expect_code(6);
}
