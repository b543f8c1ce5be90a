//! Columns of `whose ps` against what /proc shows of real processes.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whose_live_tests::whose;
use whose_testkit::{procfs, require};

/// Killed with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn sleep(script: &str) -> Started {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Started(command.spawn().expect("a shell"));
    procfs::wait_for("sleep", Duration::from_secs(20), || {
        (procfs::comm(child.0.id())? == "sleep").then_some(())
    });
    child
}

fn process(pid: u32, user: u32) -> (Value, Value) {
    let run = whose().as_user(user, user).args(["ps", "--json", "-o", "fds,pcpu,sid,cpu_time"]);
    let document = run.arg(pid.to_string()).run().expect_code(0).json();
    (document["rows"][0]["process"].clone(), document["gaps"].clone())
}

/// Whether this kernel tells without access to the process (6.2).
fn kernel_counts() -> bool {
    std::fs::metadata("/proc/self/fd").expect("own descriptors").len() > 0
}

#[test]
fn open_descriptors() {
    if !require(&["root"]) {
        return;
    }
    let more = sleep("exec 3</dev/null 4</dev/null 7</dev/null sleep 1000");
    let pid = more.0.id();
    let listed =
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() as u64;
    assert!(listed >= 6);
    let (told, gaps) = process(pid, 0);
    assert_eq!((told["fds"].as_u64(), gaps), (Some(listed), serde_json::json!([])));
    let (told, gaps) = process(pid, 65534);
    if kernel_counts() {
        assert_eq!((told["fds"].as_u64(), gaps), (Some(listed), serde_json::json!([])));
    } else {
        assert!(told["fds"].is_null(), "{told:#}");
        assert_eq!(
            (&gaps[0]["what"], &gaps[0]["class"]),
            (&"open descriptors".into(), &"forbidden".into())
        );
    }
    let (kthreadd, _) = process(2, 0);
    assert_eq!(kthreadd["fds"], 0);
}

#[test]
fn a_zombie_has_no_descriptors() {
    if !require(&["root"]) {
        return;
    }
    let parent = sleep("(exit 0) & exec sleep 1000");
    let zombie = procfs::wait_for("a zombie", Duration::from_secs(20), || {
        procfs::children(parent.0.id()).into_iter().find(|pid| procfs::state(*pid) == Some('Z'))
    });
    let (told, _) = process(zombie, 0);
    assert!(told["sid"].is_u64() && told.get("fds").is_none(), "{told:#}");
}

#[test]
fn what_ps_tells_too() {
    if !require(&["root", "ps"]) {
        return;
    }
    let child = sleep("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 1000");
    let pid = child.0.id().to_string();
    let ps = |field: &str| {
        let out = Command::new("ps").args(["-o", field, "-p", &pid]).output().expect("ps");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    // The longer it sleeps, the smaller its share.
    let before: f64 = ps("pcpu=").parse().expect("a number");
    let (told, _) = process(child.0.id(), 0);
    let after: f64 = ps("pcpu=").parse().expect("a number");
    let share = told["pcpu"].as_f64().expect("a share");
    assert!(share <= before + 0.2 && share >= after - 0.2, "{before} {share} {after}");
    assert_eq!(told["sid"].to_string(), ps("sid="));
    let ticks = procfs::stat_fields(child.0.id()).expect("stat");
    let used: f64 = ticks[11].parse::<f64>().unwrap() + ticks[12].parse::<f64>().unwrap();
    assert_eq!(told["cpu_time"].as_f64(), Some(used / 100.0));
}
