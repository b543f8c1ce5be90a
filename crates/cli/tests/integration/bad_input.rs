//! What bad input gets: state files, names, targets.

use std::time::Duration;

use whose_testkit::fixture::{DockerContainer, FixtureHost};

use crate::support::{answer, ask, container, host, whose};

#[test]
fn pids_that_nobody_has() {
    let host = host();
    for target in ["0", "4194304", "4194305", "9999999", "77777"] {
        let run = ask(&host, &[target]).expect_code(1);
        assert_eq!(run.stdout_str(), "");
        assert_eq!(run.stderr_str().lines().count(), 1, "{}", run.stderr_str());
        ask(&host, &["pids", target]).expect_code(1);
    }
    for args in [
        &["-1"][..],
        &["pids", "-1"],
        &["pid:x"],
        &[""],
        &["--", "4761", ":80"],
        &["ps", "-o", "nope"],
        // A daemon is this host's, and a tree another's.
        &["ps", "--daemon"],
    ] {
        let run = ask(&host, args).expect_code(2);
        assert_eq!(run.stdout_str(), "", "{args:?}");
    }
    let dir = host.at("capture").display().to_string();
    let run = whose().args(["capture", "--daemon", &dir]).run().expect_code(2);
    assert!(run.stderr_str().contains("daemon"), "{}", run.story());
    ask(&host, &["abc"]).expect_code(1);
    // Also where there is no container at all to look through.
    let empty = FixtureHost::new();
    empty.boot();
    for target in ["abc", "nosuch", "container:4761"] {
        ask(&empty, &[target]).expect_code(1);
        ask(&empty, &["pids", target]).expect_code(1);
    }
}

#[test]
fn containers_with_names_that_mean_something_else() {
    let host = host();
    for (name, pid) in
        [("4761", 9001), ("ps", 9002), ("-rf", 9003), ("../x", 9004), ("4761abc", 9005)]
    {
        let _ = container(&host, name, pid);
    }
    assert_eq!(answer(&host, "4761")["kind"], "process");
    assert_eq!(answer(&host, "container:4761")["owner"]["name"], "4761");
    for name in ["ps", "-rf", "../x", "4761abc"] {
        assert_eq!(answer(&host, name)["owner"]["name"], name);
        ask(&host, &["pids", "--", name]).expect_code(0);
    }
    assert!(ask(&host, &["ps", "-c", "4761"]).expect_code(0).stdout_str().contains("9001"));
}

/// A container whose `config.v2.json` is not what it should be: the id and the processes are still
/// known, the name is a gap, and nothing hangs.
fn with_config(host: &FixtureHost, spoil: impl Fn(&FixtureHost, &str)) {
    let web = DockerContainer::named("web");
    let path = format!("var/lib/docker/containers/{}/config.v2.json", web.id());
    host.remove(&path);
    spoil(host, &path);
    let run =
        whose().root(host.path()).args(["--json", "4761"]).timeout(Duration::from_secs(10)).run();
    let answer = run.expect_code(0).json()["answers"][0].clone();
    assert_eq!(answer["owner"]["id"], web.id());
    assert!(answer["owner"]["name"].is_null(), "{answer:#}");
    let gap = &answer["gaps"][0];
    assert_eq!(gap["what"], "container description");
    assert_eq!(gap["class"], "malformed", "{gap:#}");
    assert!(gap["path"].as_str().unwrap().ends_with("config.v2.json"));
    // The list goes on with the short id, and the other container keeps its name.
    let table = ask(host, &["ps"]).expect_code(0);
    assert!(table.stdout_str().contains(&web.id()[..12]));
    assert!(table.stdout_str().contains(" db "));
    assert_eq!(table.stderr_str().lines().count(), 1);
    ask(host, &["ps", "--strict"]).expect_code(3);
    // A name can't be looked up for sure while one can't be read.
    ask(host, &["nosuch"]).expect_code(3);
    assert_eq!(ask(host, &["pids", &web.id()[..12]]).expect_code(0).pids(), [4761, 4770]);
}

#[test]
fn an_empty_configuration() {
    with_config(&host(), |host, path| {
        host.file(path, "");
    });
}

#[test]
fn a_truncated_configuration() {
    with_config(&host(), |host, path| {
        let whole = DockerContainer::named("web").config().to_string();
        host.file(path, &whole[..whole.len() / 2]);
    });
}

#[test]
fn a_huge_configuration() {
    with_config(&host(), |host, path| {
        host.sparse(path, 200 << 20);
    });
}

#[test]
fn a_fifo_for_a_configuration() {
    with_config(&host(), |host, path| {
        host.fifo(path);
    });
}

#[test]
fn a_link_out_of_the_tree() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), DockerContainer::named("web").config().to_string()).unwrap();
    with_config(&host(), |host, path| {
        host.symlink(path, outside.path());
    });
    with_config(&host(), |host, path| {
        host.file("elsewhere.json", DockerContainer::named("web").config().to_string());
        host.symlink(path, "/elsewhere.json");
    });
}

#[test]
fn a_configuration_that_is_not_utf8() {
    with_config(&host(), |host, path| {
        let whole = DockerContainer::named("web").config().to_string();
        let mut bytes = whole.into_bytes();
        let at = bytes.windows(4).position(|w| w == b"/web").unwrap();
        bytes[at + 1] = 0xff;
        host.file(path, bytes);
    });
}

#[test]
fn another_containers_configuration() {
    with_config(&host(), |host, path| {
        host.file(path, DockerContainer::named("db").config().to_string());
    });
}

#[test]
fn a_cgroup_file_of_ten_thousand_lines() {
    let host = host();
    let id = whose_testkit::fixture::fake_id("deep");
    let mut text: String = (2..10_000).map(|n| format!("{n}:name=h{n}:/x/{n}\n")).collect();
    text.push_str(&format!("1:memory:/docker/{id}\n"));
    host.process(9100).cgroup(text).nspid(&[9100, 1]).write();
    assert_eq!(answer(&host, "9100")["owner"]["id"], id);
    let long: String = (2..300_000).map(|n| format!("{n}:name=h{n}:/x/{n}\n")).collect();
    host.process(9101).cgroup(long).write();
    let refused = answer(&host, "9101");
    assert!(refused["owner"].is_null());
    assert_eq!(refused["gaps"][0]["class"], "malformed", "{:#}", refused["gaps"]);
    // A path of many segments, and a mount table full of nonsense.
    let deep = format!("0::{}/docker/{id}\n", "/a".repeat(2000));
    host.process(9102).cgroup(deep).nspid(&[9102, 1]).write();
    assert_eq!(answer(&host, "9102")["owner"]["id"], id);
    host.process(9103)
        .ns("mnt", 4_026_533_003)
        .mountinfo("not a mount table\n")
        .in_cgroup("/")
        .write();
    assert!(answer(&host, "9103")["owner"].is_null());
}

#[test]
fn proc_files_that_are_something_else() {
    let host = host();
    for file in ["stat", "status", "cgroup", "cmdline", "mountinfo"] {
        let path = format!("proc/4770/{file}");
        host.remove(&path).fifo(&path);
        let run = whose()
            .root(host.path())
            .args(["--json", "4770"])
            .timeout(Duration::from_secs(10))
            .run();
        assert!([0, 3].contains(&run.code.unwrap()), "{}", run.story());
        assert!(!run.json()["answers"][0]["gaps"].as_array().unwrap().is_empty(), "{file}");
    }
}
