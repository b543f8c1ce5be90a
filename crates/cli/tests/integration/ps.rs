//! `whose ps` and `whose` alone.

use whose_testkit::fixture::DockerContainer;

use crate::support::{ask, host};

fn pids(args: &[&str]) -> Vec<u32> {
    let mut args = args.to_vec();
    args.push("-q");
    ask(&host(), &args).expect_code(0).pids()
}

#[test]
fn all_user_processes_with_their_owners() {
    let host = host();
    let table = ask(&host, &["ps"]).expect_code(0);
    assert_eq!(table.stderr_str(), "");
    let text = table.stdout_str();
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["PID", "USER", "S", "RSS", "ELAPSED", "OWNER", "COMMAND"]);
    let owner = |pid: &str| {
        let line = text.lines().find(|l| l.trim_start().starts_with(pid)).unwrap();
        line.split_whitespace().nth(5).unwrap().to_owned()
    };
    assert_eq!(owner("4761"), "web");
    assert_eq!(owner("5000"), "db");
    assert_eq!(owner("900"), "nginx.service");
    assert_eq!(owner("950"), "session-6.scope");
    assert!(!text.contains("kworker"));
    assert_eq!(ask(&host, &[]).expect_code(0).stdout_str(), text);
}

#[test]
fn filters() {
    assert_eq!(pids(&["ps"]), [1, 900, 950, 4761, 4770, 5000]);
    assert_eq!(pids(&["ps", "-k"]), [1, 60, 900, 950, 4761, 4770, 5000]);
    assert_eq!(pids(&["ps", "-eA"]), [1, 900, 950, 4761, 4770, 5000]);
    assert_eq!(pids(&["ps", "-u", "www-data,alice"]), [900, 950]);
    assert_eq!(pids(&["ps", "-u", "33"]), [900]);
    assert_eq!(pids(&["ps", "-u", "4294967295"]), [0_u32; 0]);
    assert_eq!(pids(&["ps", "-c", "web"]), [4761, 4770]);
    assert_eq!(pids(&["ps", "web", "950"]), [950, 4761, 4770]);
    assert_eq!(pids(&["ps", "web", "-u", "alice"]), [0_u32; 0]);
    assert_eq!(pids(&["ps", "--host-only"]), [1, 900, 950]);
    assert_eq!(pids(&["ps", "--containers-only"]), [4761, 4770, 5000]);
    ask(&host(), &["ps", "--host-only", "--containers-only"]).expect_code(2);
    ask(&host(), &["ps", "-u", "nobody-here"]).expect_code(2);
    ask(&host(), &["ps", "-c", "nosuch"]).expect_code(1);
    ask(&host(), &["ps", "nosuch", "web"]).expect_code(1);
}

#[test]
fn sorting_by_any_column() {
    let host = host();
    host.process(9400).rss_pages(9000).write();
    host.process(9401).rss_pages(3).write();
    let by_size = ask(&host, &["ps", "-q", "--sort", "-rss"]).expect_code(0).pids();
    assert_eq!(by_size[0], 9400);
    assert_eq!(
        *ask(&host, &["ps", "-q", "--sort", "rss"]).expect_code(0).pids().first().unwrap(),
        9401
    );
    let by_owner =
        ask(&host, &["ps", "-o", "owner", "--no-headers", "--sort", "owner,-pid"]).expect_code(0);
    let owners: Vec<String> = by_owner.stdout_str().lines().map(str::to_owned).collect();
    let mut sorted = owners.clone();
    sorted.sort();
    assert_eq!(owners, sorted);
    ask(&host, &["ps", "--sort", "nope"]).expect_code(2);
}

#[test]
fn every_column_can_be_shown() {
    let host = host();
    let all: Vec<&str> =
        whose_fields::FIELDS.iter().map(|f| f.name).filter(|name| *name != "fds").collect();
    for format in ["table", "json", "ndjson", "csv"] {
        let run = ask(&host, &["ps", "-o", &all.join(","), "--format", format, "web", "900"])
            .expect_code(0);
        assert!(run.stdout.len() > 500, "{format}");
        assert_eq!(run.stderr_str(), "", "{format}");
    }
    let one = ask(
        &host,
        &["ps", "-o", "role,image,state,project,init_pid,inside_pid", "--no-headers", "4770"],
    );
    assert_eq!(
        one.expect_code(0).stdout_str().split_whitespace().collect::<Vec<_>>(),
        ["workload", "app:1", "S", "shop", "4761", "7"]
    );
    // How many descriptors were open is in no file.
    let run = ask(&host, &["ps", "--json", "-o", "fds,pcpu,sid", "4770"]).expect_code(0);
    let told = run.json();
    assert!(told["rows"][0]["process"]["fds"].is_null(), "{told:#}");
    assert_eq!(
        (&told["gaps"][0]["what"], told["gaps"].as_array().unwrap().len()),
        (&"open descriptors".into(), 1)
    );
    assert_eq!(told["rows"][0]["process"]["sid"], 4770);
    host.process(7000).times(150_000, 30_000).start_ticks(400_000).write();
    let rows = ask(&host, &["ps", "7000", "-o", "%CPU,time", "--no-headers"]).expect_code(0);
    assert_eq!(rows.stdout_str().split_whitespace().collect::<Vec<_>>(), ["30.0", "30:00"]);
    let typo = ask(&host, &["ps", "-o", "ownr"]).expect_code(2);
    assert!(typo.stderr_str().contains("did you mean owner?"));
}

#[test]
fn long_lines_are_cut_only_on_a_terminal() {
    let host = host();
    let long = vec![b'y'; 5000];
    host.process(9500).cmdline(&[b"yes", &long]).write();
    let run = ask(&host, &["ps", "9500"]).expect_code(0);
    assert!(run.stdout_str().lines().any(|l| l.len() > 5000));
}

#[test]
fn a_stopped_container_has_no_processes_to_list() {
    let host = host();
    host.docker_container(&DockerContainer::named("gone").exited(0));
    let run = ask(&host, &["ps", "gone"]).expect_code(1);
    assert!(run.stderr_str().contains("gone is exited"));
}
