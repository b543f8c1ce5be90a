//! `whose doctor` on saved trees.

use serde_json::Value;
use whose_testkit::fixture::FixtureHost;

use crate::support::{ask, host, whose};

fn words(report: &Value, key: &str) -> Vec<String> {
    let list = report[key].as_array().unwrap().iter();
    list.map(|entry| entry["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_there_and_what_is_not() {
    let host = host();
    host.remove("proc/4761/cmdline").file("proc/900/cgroup", "no cgroup file");
    let report = ask(&host, &["doctor", "--json"]).expect_code(0).json();
    assert_eq!((&report["schema"], &report["source"]), (&"whose/1".into(), &"saved".into()));
    assert_eq!(report["host"]["cgroups"], "v2");
    assert!(report["host"].get("scan").is_none(), "{report:#}");
    let engine = &report["engines"][0];
    assert_eq!((&engine["runtime"], &engine["containers"]), (&"docker".into(), &2.into()));
    assert_eq!(engine["root"], "/var/lib/docker");
    let (can, cannot) = (words(&report, "can"), words(&report, "cannot"));
    for word in ["process", "membership", "container description", "containers of an engine"] {
        assert!(can.contains(&word.to_owned()), "{word}: {report:#}");
    }
    for word in ["arguments", "membership", "host path of the binary"] {
        assert!(cannot.contains(&word.to_owned()), "{word}: {report:#}");
    }
    let of = |what: &str| report["can"].as_array().unwrap().iter().find(|c| c["what"] == what);
    let membership = of("membership").unwrap();
    assert!(membership["read"].as_u64() < membership["tried"].as_u64(), "{report:#}");
    ask(&host, &["doctor", "--strict"]).expect_code(3);
}

#[test]
fn an_engine_that_has_run_nothing_yet_lacks_nothing() {
    let host = FixtureHost::new();
    host.boot();
    host.dir("var/lib/docker");
    let report = ask(&host, &["doctor", "--json"]).expect_code(0).json();
    let engine = &report["engines"][0];
    assert_eq!((&engine["runtime"], &engine["containers"]), (&"docker".into(), &0.into()));
    assert!(
        !words(&report, "cannot").contains(&"containers of an engine".to_owned()),
        "{report:#}"
    );
}

#[test]
fn the_report_for_people_fits_and_is_safe() {
    let host = FixtureHost::new();
    host.boot();
    host.file("proc/sys/kernel/osrelease", "6.1\x1b[31m\n");
    let run = ask(&host, &["doctor"]).expect_code(0);
    let text = run.stdout_str();
    assert!(text.starts_with("host       Linux 6.1"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.lines().any(|l| l.starts_with("can read   ")), "{text}");
    assert!(text.lines().any(|l| l.starts_with("can't      ")), "{text}");
    let line = ask(&host, &["doctor", "--format", "ndjson"]).expect_code(0).stdout_str();
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn it_tells_which_way_the_processes_are_read() {
    let report = |args: &[&str]| whose().args(args).run().expect_code(0).json();
    let asked = report(&["doctor", "--json", "--source", "proc"]);
    assert_eq!(asked["host"]["scan"], "proc");
    assert_eq!(asked["host"]["scan_why"], "it was asked for");
    let bpf = report(&["doctor", "--json", "--source", "bpf"]);
    let scan = &bpf["host"]["scan"];
    let why = bpf["host"]["scan_why"].as_str().unwrap_or_default();
    assert!(scan == "bpf" || why.starts_with("no task iterator: "), "{bpf:#}");
    let missing = words(&bpf, "cannot").contains(&"task iterator".to_owned());
    assert_eq!(missing, scan != "bpf", "{bpf:#}");
}

#[test]
fn doctor_takes_no_target() {
    whose().args(["doctor", "web"]).run().expect_code(2);
    // A container may be called so.
    let run = ask(&host(), &["--", "doctor"]).expect_code(1);
    assert!(run.stderr_str().contains("no container doctor"), "{}", run.story());
}
