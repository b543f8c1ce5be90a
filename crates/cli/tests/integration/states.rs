//! Containers in every state, by name.

use whose_testkit::bolt;
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask, container, host};

#[test]
fn the_kernels_facts_win() {
    let host = host();
    let cases = [
        (DockerContainer::named("s-exited").exited(3), "exited", "exited"),
        (DockerContainer::named("s-created").never_started(), "created", "created"),
        (DockerContainer::named("s-dead").dead(), "dead", "dead"),
        (DockerContainer::named("s-restarting").restarting(), "restarting", "restarting"),
        // The daemon was killed and the machine's container with it: its file is stale.
        (DockerContainer::named("s-stale").running(3_999_999), "exited", "running"),
    ];
    for (container, state, engine) in cases {
        host.docker_container(&container);
        let name = container.config()["Name"].as_str().unwrap()[1..].to_owned();
        let answer = answer(&host, &name);
        assert_eq!(answer["owner"]["state"], state, "{name} {answer:#}");
        assert_eq!(answer["owner"]["engine_state"], engine, "{name}");
        assert!(answer["owner"].get("init_pid").is_none(), "{name}");
        let run = ask(&host, &["pids", &name]).expect_code(1);
        assert_eq!(run.stdout_str(), "");
        assert!(run.stderr_str().contains(&format!("{name} is {state}")), "{}", run.stderr_str());
    }
}

#[test]
fn paused_is_what_the_freezer_says() {
    let host = host();
    let paused = DockerContainer::named("paused").paused(5100);
    host.docker_container(&paused);
    let cgroup = format!("docker/{}", paused.id());
    host.cgroup_dir(&cgroup, &[5100]);
    host.file(format!("sys/fs/cgroup/{cgroup}/cgroup.events"), "populated 1\nfrozen 1\n");
    host.process(5100).state('D').in_docker(paused.id()).write();
    assert_eq!(answer(&host, "paused")["owner"]["state"], "paused");
    assert_eq!(answer(&host, "5100")["owner"]["state"], "paused");
    host.file(format!("sys/fs/cgroup/{cgroup}/cgroup.events"), "populated 1\nfrozen 0\n");
    assert_eq!(answer(&host, "paused")["owner"]["state"], "running");
}

#[test]
fn every_cgroup_layout_gives_the_pids() {
    for layout in [CgroupLayout::V2, CgroupLayout::V1, CgroupLayout::Hybrid] {
        let host = FixtureHost::with_layout(layout);
        host.boot();
        let web = DockerContainer::named("web").running(4761);
        host.docker_container(&web);
        let path = format!("/docker/{}", web.id());
        host.cgroup_dirs(&path, &[4761]);
        host.cgroup_dirs(&format!("{path}/init.scope"), &[4770]);
        host.process(4761).in_docker(web.id()).write();
        host.process(4770).in_docker(web.id()).in_cgroup(&format!("{path}/init.scope")).write();
        assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [4761, 4770], "{layout:?}");
        let answer = answer(&host, "web");
        assert_eq!(answer["owner"]["state"], "running", "{layout:?} {answer:#}");
        assert_eq!(answer["processes"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn nested_containers_count_unless_left_out() {
    let host = host();
    let web = DockerContainer::named("web");
    let inner = whose_testkit::fixture::fake_id("inner");
    host.cgroup_dir(&format!("docker/{}/docker/{inner}", web.id()), &[4800]);
    host.process(4800)
        .nspid(&[4800, 9, 1])
        .in_cgroup(&format!("/docker/{}/docker/{inner}", web.id()))
        .write();
    assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [4761, 4770, 4800]);
    assert_eq!(ask(&host, &["pids", "--direct", "web"]).expect_code(0).pids(), [4761, 4770]);
    let joined = ask(&host, &["pids", "-d,", "web"]).expect_code(0);
    assert_eq!(joined.stdout_str(), "4761,4770,4800\n");
    assert_eq!(ask(&host, &["pids", "4761"]).expect_code(0).stdout_str(), "4761\n");
}

#[test]
fn an_incomplete_list_is_not_printed() {
    let host = host();
    let web = DockerContainer::named("web");
    let procs = format!("sys/fs/cgroup/docker/{}/cgroup.procs", web.id());
    host.file(&procs, "4761\n0\n4770\n");
    let run = ask(&host, &["pids", "web"]).expect_code(3);
    assert_eq!(run.stdout_str(), "");
    host.remove(&procs).fifo(&procs);
    ask(&host, &["pids", "web"]).expect_code(3);
}

#[test]
fn ids_names_and_prefixes_as_docker_reads_them() {
    let host = host();
    let web = DockerContainer::named("web");
    for target in
        [web.id(), "web", &web.id()[..12], &web.id()[..8], "container:web", "container:docker/web"]
    {
        assert_eq!(answer(&host, target)["owner"]["id"], web.id(), "{target}");
    }
    assert_eq!(ask(&host, &["-q", "web"]).expect_code(0).stdout_str(), format!("{}\n", web.id()));
    assert_eq!(ask(&host, &["-q", "4770"]).expect_code(0).stdout_str(), format!("{}\n", web.id()));
    let outside = ask(&host, &["-q", "900"]).expect_code(1);
    assert_eq!(outside.stdout_str(), "");
    assert!(outside.stderr_str().contains("900 is in no container"));
    // A name comes before the beginning of an id.
    let named = DockerContainer::named(&web.id()[..8]).with_id("0".repeat(64)).exited(0);
    host.docker_container(&named);
    assert_eq!(answer(&host, &web.id()[..8])["owner"]["id"], "0".repeat(64));
}

#[test]
fn what_fits_two_is_listed_and_not_chosen() {
    let host = host();
    let twin = |digit: &str| format!("abcdef12{}", digit.repeat(56));
    let _ = container(&host, "one", 5200);
    for (name, digit) in [("twin-a", "1"), ("twin-b", "2")] {
        host.docker_container(&DockerContainer::named(name).with_id(twin(digit)).exited(0));
    }
    let run = ask(&host, &["--json", "abcdef12"]).expect_code(4);
    let answer = &run.json()["answers"][0];
    assert_eq!(answer["status"], "ambiguous");
    let candidates: Vec<String> = serde_json::from_value(answer["candidates"].clone()).unwrap();
    assert_eq!(candidates.len(), 2);
    for (candidate, digit) in candidates.iter().zip(["1", "2"]) {
        let one = crate::support::answer(&host, candidate);
        assert_eq!(
            (one["status"].as_str(), one["owner"]["id"].as_str()),
            (Some("found"), Some(twin(digit).as_str()))
        );
    }
    let card = ask(&host, &["abcdef12"]).expect_code(4);
    assert_eq!(card.stdout_str(), "");
    assert!(card.stderr_str().contains("twin-a") && card.stderr_str().contains("twin-b"));
    for list in ["ps", "tree"] {
        let run = ask(&host, &[list, "abcdef12"]).expect_code(4);
        assert_eq!(run.stderr_str().matches("\nwhose:   container:").count(), 2, "{list}");
    }
    // The same name twice: two engines.
    let other = DockerContainer::named("web").with_id(twin("3")).data_root("/srv/docker").exited(0);
    host.docker_container(&other);
    host.file("etc/docker/daemon.json", r#"{"data-root": "/srv/docker"}"#);
    ask(&host, &["pids", "web"]).expect_code(0); // the first engine that has it answers
    ask(&host, &["pids", "abcdef12"]).expect_code(4);
}

/// A data root that was copied to `/data/docker`, and left behind: what was there then has ended, and
/// its engine has gone on elsewhere.
#[test]
fn a_data_root_left_behind_has_no_say() {
    let host = host();
    let was = DockerContainer::named("before").exited(0);
    let now =
        DockerContainer::named("now").with_id(was.id()).data_root("/data/docker").running(5100);
    let reused = DockerContainer::named("web").exited(0);
    let web = DockerContainer::named("web")
        .with_id(fake_id("another web"))
        .data_root("/data/docker")
        .running(5200);
    for container in [&was, &now, &reused, &web] {
        host.docker_container(container);
    }
    host.file("etc/docker/daemon.json", r#"{"data-root": "/data/docker"}"#);
    for (container, pid) in [(&now, 5100), (&web, 5200)] {
        host.cgroup_dir(&format!("docker/{}", container.id()), &[pid]);
        host.process(pid).in_docker(container.id()).write();
    }
    let card = answer(&host, "5100");
    assert_eq!([&card["owner"]["name"], &card["owner"]["state"]], ["now", "running"], "{card:#}");
    assert_eq!(card["owner"]["init_pid"], 5100);
    assert_eq!(answer(&host, was.id())["owner"]["name"], "now");
    assert_eq!(ask(&host, &["pids", "now"]).expect_code(0).pids(), [5100]);
    // Two have the name, and both are told.
    let run = ask(&host, &["pids", "web"]).expect_code(4);
    for id in [reused.id(), web.id()] {
        assert!(run.stderr_str().contains(&id[..12]), "{}", run.stderr_str());
    }
    assert_eq!(ask(&host, &["pids", web.id()]).expect_code(0).pids(), [5200]);
}

/// Docker gives a name once. What is left of a container that was not wholly removed keeps it on disk.
#[test]
fn of_one_name_in_an_engine_the_one_that_runs_has_it() {
    let host = host();
    let web = DockerContainer::named("web").running(5100);
    host.docker_container(&web);
    host.cgroup_dir(&format!("docker/{}", web.id()), &[5100]);
    host.process(5100).in_docker(web.id()).write();
    for left in ["0", "f"] {
        let id = left.repeat(64);
        host.docker_container(&DockerContainer::named("web").with_id(id).dead());
    }
    assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [5100]);
    assert_eq!(answer(&host, "web")["owner"]["id"], web.id());
    // One that only says that it runs settles nothing.
    host.docker_container(&DockerContainer::named("db").running(3_999_999));
    host.docker_container(&DockerContainer::named("db").with_id("a".repeat(64)).exited(0));
    ask(&host, &["pids", "db"]).expect_code(4);
}

/// Docker's database of networks, in which a name's endpoint is of a container.
fn network_of(name: &str, id: &str) -> Vec<u8> {
    let mut root = bolt::Bucket::default();
    let all = root.bucket("libnetwork");
    let value = |json: String| [&[0; 8], json.as_bytes()].concat();
    let endpoint = format!(r#"{{"name":"{name}","id":"e","sandbox":"s"}}"#);
    all.put("docker/network/v1.0/endpoint/n/e/", value(endpoint));
    all.put("docker/network/v1.0/sandbox/s/", value(format!(r#"{{"ID":"s","Cid":"{id}"}}"#)));
    bolt::file(&root, bolt::Layout::default())
}

#[test]
fn among_many_a_name_is_whose_configuration_says_so() {
    let host = host();
    for number in 0..100 {
        host.docker_container(&DockerContainer::named(&format!("old-{number}")).exited(0));
    }
    let twin = DockerContainer::named("web").with_id(fake_id("left behind")).exited(0);
    host.docker_container(&twin);
    let (web, db) = (DockerContainer::named("web"), DockerContainer::named("db"));
    let gone = fake_id("gone");
    // It is told right, another's, by one that was left behind or is gone, or not at all.
    let told = [web.id(), db.id(), twin.id(), &gone].map(|id| network_of("web", id));
    for bytes in told.into_iter().chain([b"no database".to_vec(), Vec::new()]) {
        host.file("var/lib/docker/network/files/local-kv.db", bytes);
        assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [4761, 4770]);
        ask(&host, &["pids", "web-nosuch"]).expect_code(1);
    }
}
