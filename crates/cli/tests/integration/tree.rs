//! `whose tree`.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;
use whose_testkit::fixture::{DockerContainer, FixtureHost};

use crate::support::{ask, host, whose};

/// The fixture host of most tests, with the engine that web's first process was started by.
fn with_shim() -> FixtureHost {
    let host = host();
    let web = DockerContainer::named("web");
    let shim = host.process(1200).comm("containerd-shim").ppid(1);
    let args: [&[u8]; 5] =
        [b"/usr/bin/containerd-shim-runc-v2", b"-namespace", b"moby", b"-id", web.id().as_bytes()];
    shim.cmdline(&args).in_cgroup("/system.slice/docker.service").write();
    host.process(4761).comm("sleep").ppid(1200).in_docker(web.id()).write();
    host.process(4780).comm("sh").ppid(1200).in_docker(web.id()).write();
    host.cgroup_dir(&format!("docker/{}", web.id()), &[4761, 4770, 4780]);
    host
}

#[test]
fn processes_stand_below_their_owners_and_parents() {
    let host = with_shim();
    let text = ask(&host, &["tree", "-o", "pid,comm"]).expect_code(0).stdout_str();
    let wanted = " PID COMM
     docker.service
1200 `- containerd-shim
     init.scope
   1 `- systemd
     nginx.service
 900 `- nginx
     session-6.scope
 950 `- bash
     db   docker   app:1
5000 `- sleep
     web   docker   app:1
4761 |- sleep
4770 |  `- worker
4780 `- sh
";
    assert_eq!(text, wanted);
    for locale in [("LANG", "C.UTF-8"), ("LC_ALL", "de_DE.utf8"), ("LC_CTYPE", "C.UTF-8")] {
        let drawn = whose().root(host.path()).env(locale.0, locale.1).args(["tree", "web"]);
        assert!(drawn.run().expect_code(0).stdout_str().contains("│  └─ worker -n 1"));
        let ascii = drawn.arg("--ascii").run().expect_code(0).stdout_str();
        assert!(ascii.contains("|  `- worker -n 1"), "{ascii}");
    }
    let mixed = whose().root(host.path()).env("LC_ALL", "C").env("LANG", "C.UTF-8");
    assert!(mixed.args(["tree", "web"]).run().stdout_str().contains("`- worker -n 1"));
    let usual = ask(&host, &["tree", "web"]).expect_code(0).stdout_str();
    let titles: Vec<&str> = usual.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["PID", "USER", "S", "RSS", "ELAPSED", "COMMAND"]);
    let unnamed = ask(&host, &["tree", "web", "-o", "pid"]).expect_code(0).stdout_str();
    assert!(unnamed.contains("4770 |  `- worker\n"), "{unnamed}");
}

#[test]
fn targets_and_filters() {
    let host = with_shim();
    let pids = |args: &[&str]| {
        let args = [&["tree", "-q"][..], args].concat();
        ask(&host, &args).expect_code(0).pids()
    };
    assert_eq!(pids(&["web"]), [4761, 4770, 4780]);
    assert_eq!(pids(&["-c", "db"]), [5000]);
    // A process and all its descendants, whoever owns them.
    assert_eq!(pids(&["1200"]), [1200, 4761, 4770, 4780]);
    assert_eq!(pids(&["4761"]), [4761, 4770]);
    assert_eq!(pids(&["4770", "5000"]), [5000, 4770]);
    assert_eq!(pids(&["1"]).len(), 8);
    assert_eq!(pids(&["1200", "--containers-only"]), [4761, 4770, 4780]);
    assert_eq!(pids(&["1", "--host-only", "-u", "alice"]), [950]);
    assert_eq!(pids(&["web", "--sort", "-pid"]), [4780, 4761, 4770]);
    assert_eq!(pids(&["-k", "-u", "0", "--host-only"]).len(), 3);
    // With an order, an owner stands where its first process does.
    assert_eq!(pids(&["web", "db", "--sort", "pid"]), [4761, 4770, 4780, 5000]);
    assert_eq!(pids(&["web", "db"]), [5000, 4761, 4770, 4780]);
    let run = ask(&host, &["tree", "nosuch", "web"]).expect_code(1);
    assert!(run.stderr_str().contains("nosuch") && run.stdout_str().contains("worker"));
    ask(&host, &["tree", "77777"]).expect_code(1);
    for wrong in [
        &["tree", "--sort", "nope"][..],
        &["tree", "-o", "nope"],
        &["tree", "--nope"],
        &["tree", "-u", "nobody-here"],
        &["tree", "--host-only", "--containers-only"],
    ] {
        assert_eq!(ask(&host, wrong).expect_code(2).stdout_str(), "", "{wrong:?}");
    }
}

/// Every process of a document with its nearest process above, and the owner row above both.
fn parents(document: &Value) -> BTreeMap<u64, (Option<u64>, Value)> {
    let mut found = BTreeMap::new();
    let rows = document["rows"].as_array().unwrap();
    let mut stack: Vec<(&Value, Option<u64>, Value)> =
        rows.iter().map(|r| (r, None, Value::Null)).collect();
    while let Some((row, above, owner)) = stack.pop() {
        let pid = row["process"]["pid"].as_u64();
        let owner = if pid.is_none() { row["owner"].clone() } else { owner };
        if let Some(pid) = pid {
            assert!(found.insert(pid, (above, owner.clone())).is_none(), "{pid} twice");
        }
        for child in row["children"].as_array().unwrap() {
            stack.push((child, pid, owner.clone()));
        }
    }
    found
}

#[test]
fn rows_are_nested_in_children() {
    let host = with_shim();
    let document = ask(&host, &["tree", "--json"]).expect_code(0).json();
    assert_eq!((&document["schema"], &document["source"]), (&"whose/1".into(), &"saved".into()));
    let columns = ["pid", "user", "state", "rss", "elapsed", "args"].map(Value::from);
    assert_eq!(document["columns"].as_array().unwrap(), &columns);
    assert_eq!(document["gaps"], serde_json::json!([]));
    let told = parents(&document);
    let listed = ask(&host, &["ps", "--json"]).expect_code(0).json();
    let listed = listed["rows"].as_array().unwrap();
    assert_eq!(told.len(), listed.len());
    for row in listed {
        let pid = row["process"]["pid"].as_u64().unwrap();
        assert_eq!(told[&pid].1, row["owner"], "{pid}");
    }
    assert_eq!(told[&4770].0, Some(4761));
    assert_eq!(told[&4761].0, None);
    let lines = ask(&host, &["tree", "--format", "ndjson", "web"]).expect_code(0).ndjson();
    let depths: Vec<_> = lines.iter().filter_map(|l| l["depth"].as_u64()).collect();
    assert_eq!(depths, [0, 1, 2, 1]);
    assert!(lines[1].get("process").is_none() && lines[1]["owner"]["name"] == "web");
    assert_eq!(lines[3]["process"]["ppid"], 4761);
    assert_eq!(lines[3]["owner"], lines[1]["owner"]);
    assert!(lines[3]["owner"].get("labels").is_none());
    let labels = ask(&host, &["tree", "--json", "-o", "+labels", "web"]).expect_code(0).json();
    assert_eq!(labels["rows"][0]["owner"]["labels"]["tier"], "front");
}

#[test]
fn csv_is_flat() {
    let host = with_shim();
    let csv = ask(&host, &["tree", "--format", "csv", "web"]).expect_code(0).stdout_str();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "depth,chain,pid,user,state,rss,elapsed,args");
    assert!(lines[2].starts_with("2,web,4770,root,S,"), "{csv}");
    let asked = ["tree", "--format", "csv", "-o", "pid,depth", "--no-headers", "web"];
    let csv = ask(&host, &asked).expect_code(0).stdout_str();
    assert_eq!(csv, "4761,1\n4770,2\n4780,1\n");
    // Of a process that is not in a tree there is none.
    let ps = ask(&host, &["ps", "-o", "pid,depth", "--no-headers", "4770"]).expect_code(0);
    assert_eq!(ps.stdout_str(), "4770 -\n");
}

#[test]
fn circles_and_chains_without_end() {
    let host = host();
    let ticks = 5000;
    let unit = |pid: u32, ppid: u32| {
        let one = host.process(pid).comm("deep").ppid(ppid).start_ticks(ticks);
        one.in_cgroup("/system.slice/deep.service")
            .only(&["stat", "status", "cgroup", "cmdline"])
            .write();
    };
    for pid in 10_000..13_000 {
        unit(pid, pid - 1);
    }
    unit(20_000, 20_002);
    unit(20_001, 20_000);
    unit(20_002, 20_001);
    unit(20_003, 20_003);
    unit(20_004, 4_000_000);
    let ps = ask(&host, &["ps", "-q"]).expect_code(0).pids();
    let run = ask(&host, &["tree", "-q"]).expect_code(0);
    let mut tree = run.pids();
    tree.sort_unstable();
    assert_eq!(tree, ps);
    assert!(run.stderr_str().contains("process (malformed, 1)"), "{}", run.story());
    ask(&host, &["tree", "--strict"]).expect_code(3);
    let text = ask(&host, &["tree", "-o", "pid,comm"]).expect_code(0).stdout_str();
    assert!(text.contains("\n12999 ") && text.contains("(+2960) deep\n"));
    assert_eq!(
        ask(&host, &["tree", "-q", "20000"]).expect_code(0).pids(),
        [20_000, 20_001, 20_002]
    );
    assert_eq!(ask(&host, &["tree", "-q", "10000"]).expect_code(0).pids().len(), 3000);
    let document = ask(&host, &["tree", "--json", "-o", "pid"]).expect_code(0).json();
    assert_eq!(document["gaps"][0]["class"], "malformed");
    let told = parents(&document);
    assert_eq!(told.len(), ps.len());
    assert_eq!(
        (told[&20_002].0, told[&20_001].0, told[&20_000].0),
        (Some(20_001), Some(20_000), None)
    );
}

#[test]
fn what_has_no_owner_to_tell_stands_apart() {
    let host = host();
    host.process(9300).comm("lost").nspid(&[9300, 1]).in_cgroup("/").write();
    host.process(9301).comm("bare").only_cgroup().cgroup("0::/\n").write();
    let run = ask(&host, &["tree", "-o", "pid,comm", "9300", "9301"]).expect_code(0);
    let text = run.stdout_str();
    assert!(text.contains("?   contained, by nobody known\n9300 `- lost"), "{text}");
    assert!(text.contains("?   owner not read\n9301 `- ?"), "{text}");
}

#[test]
fn a_closed_pipe_is_silent() {
    let host = host();
    let parts = ["stat", "status", "cgroup", "cmdline"];
    for pid in 20_000..20_300 {
        host.process(pid).cmdline(&[&[b'x'; 2000]]).only(&parts).write();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_whose"))
        .args(["tree", "--root"])
        .arg(host.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0_u8; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap(); // and closed
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((child.wait().unwrap().code(), complaint.as_str()), (Some(0), ""));
}
