//! A /proc that hides other users' processes: what is not shown is not said to be absent.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test: a panic is its report"
)]

use whose_live_tests::whose;
use whose_testkit::harness::Run;
use whose_testkit::require;

/// Runs whose as nobody, in a mount namespace whose /proc has this `hidepid`.
fn hidden(level: u32, args: &[&str]) -> Run {
    let script = format!(
        "mount --make-rprivate / && mount -t proc -o hidepid={level} proc /proc && \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\""
    );
    // As root at first, from a copy that nobody can reach.
    whose().as_user(0, 0).via(["unshare", "-m", "sh", "-c", &script, "sh"]).args(args).run()
}

#[test]
fn hidden_processes_are_a_gap() {
    if !require(&["root", "mount-namespace", "unshare", "setpriv"]) {
        return;
    }
    for level in [1, 2] {
        let one = hidden(level, &["--json", "1"]).expect_code(3);
        let answer = &one.json()["answers"][0];
        assert_eq!(answer["status"], "partial", "{}", one.story());
        assert!(answer["owner"].is_null());
        assert_eq!(answer["gaps"][0]["class"], "forbidden");
        let list = hidden(level, &["ps", "--json"]).expect_code(0);
        let json = list.json();
        let uids = json["rows"].as_array().unwrap().iter().map(|r| r["process"]["user"].clone());
        assert!(uids.into_iter().all(|u| u == "nobody"), "{}", list.story());
        assert_eq!(json["gaps"][0]["class"], "forbidden");
        assert_eq!(list.stderr_str().lines().count(), 1, "{}", list.story());
        let _ = hidden(level, &["ps", "--strict"]).expect_code(3);
        let _ = hidden(level, &["pids", "1"]).expect_code(3);
    }
}
