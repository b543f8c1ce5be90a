//! Processes that go on without their main thread: zombies by their state, and alive.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use serde_json::json;
use whose_live_tests::{alone, answer, unique, whose};
use whose_testkit::cgroup::CgroupDir;
use whose_testkit::fixture::fake_id;
use whose_testkit::hostile::Headless;
use whose_testkit::require;

#[test]
fn it_is_whose_it_was() {
    if !require(&["root", "cc"]) {
        return;
    }
    let _alone = alone();
    let headless = Headless::start().unwrap();
    let pid = headless.pid().to_string();
    let program = headless.program().to_str().unwrap();
    let told = answer(&pid);
    assert_eq!((&told["process"]["state"], &told["process"]["threads"]), (&json!("Z"), &json!(2)));
    assert_eq!(told["process"]["args"], json!([program]), "{told:#}");
    assert_eq!(told["gaps"], json!([]), "{told:#}");
    assert_eq!(
        (&told["binary"]["host"], &told["binary"]["verified"]),
        (&json!(program), &json!("page"))
    );
    let card = whose().arg(&pid).run().expect_code(0);
    assert!(
        card.stdout_str().contains("its main thread has ended, 1 of 2 threads left"),
        "{}",
        card.story()
    );
    let exe = whose().args(["exe", &pid]).run().expect_code(0);
    assert_eq!(exe.stdout_str().trim_end(), program);
    let id = fake_id(unique("headless"));
    let cgroups = CgroupDir::make_everywhere(&format!("docker/{id}"));
    for cgroup in &cgroups {
        cgroup.join(headless.pid());
    }
    let told = answer(&pid);
    assert_eq!(told["owner"]["id"], json!(id), "{told:#}");
    for source in ["proc", "bpf"] {
        let args = ["ps", "--source", source, "--no-headers", "-o", "s,id,command", &pid];
        let run = whose().args(args).run();
        let text = run.stdout_str();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["Z", id.as_str(), program], "{source}: {}", run.story());
    }
    let listed = whose().args(["pids", &id]).run();
    assert_eq!(listed.stdout_str().trim(), pid, "{}", listed.story());
    drop(headless);
}
