//! Where an answer could look right and be wrong: each case is a gap, or the truth.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whose_testkit::fixture::{CgroupLayout, DockerContainer, FixtureHost, fake_id};

use crate::support::{answer, ask, container, host, whose};

#[test]
fn a_container_whose_cgroup_can_not_be_found_out_is_not_exited() {
    let host = host();
    host.remove("sys/fs/cgroup").remove("proc/self/mountinfo").remove("proc/1/mountinfo");
    let run = ask(&host, &["pids", "web"]).expect_code(3);
    assert_eq!(run.stdout_str(), "");
    let card = ask(&host, &["--json", "web"]).expect_code(3).json();
    assert!(card["answers"][0]["owner"]["state"].is_null(), "{card:#}");
    // The process itself still shows it.
    assert_eq!(answer(&host, "4761")["owner"]["name"], "web");
}

#[test]
fn a_walk_that_was_not_complete_proves_no_absence() {
    let host = host();
    let lost = DockerContainer::named("lost").running(3_999_999);
    host.docker_container(&lost);
    assert_eq!(answer(&host, "lost")["owner"]["state"], "exited");
    // Directories that nest deeper than a path may be long.
    let name = "d".repeat(200);
    let mut deep = std::path::PathBuf::from("sys/fs/cgroup/user.slice");
    host.dir(&deep);
    for _ in 0..18 {
        deep.push(&name);
    }
    host.dir(&deep);
    let mut child = host.at(&deep);
    for _ in 0..6 {
        // Beyond the limit only relative steps get there.
        let status = Command::new("mkdir").arg(&name).current_dir(&child).status().unwrap();
        assert!(status.success());
        if child.as_os_str().len() + name.len() + 2 >= 4096 {
            break;
        }
        child.push(&name);
    }
    let run = ask(&host, &["pids", "lost"]);
    assert!([1, 3].contains(&run.code.unwrap()), "{}", run.story());
    assert_eq!(run.stdout_str(), "");
}

#[test]
fn a_containers_own_daemon_redirects_nothing() {
    let host = host();
    let web = DockerContainer::named("web");
    let victim = fake_id("victim");
    host.process(50)
        .nspid(&[50, 9])
        .in_docker(web.id())
        .comm("dockerd")
        .cmdline(&[b"dockerd", b"--data-root=/srv/vol"])
        .write();
    host.docker_container(
        &DockerContainer::named("trusted").with_id(&victim).running(60).data_root("/srv/vol"),
    );
    host.process(60).nspid(&[60, 1]).mountinfo("").in_cgroup(&format!("/docker/{victim}")).write();
    let rows = ask(&host, &["ps", "--json"]).expect_code(0).json();
    let row = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["process"]["pid"] == 60)
        .unwrap()
        .clone();
    assert_eq!(row["owner"]["id"], victim);
    assert!(row["owner"]["name"].is_null(), "{row:#}");
}

#[test]
fn a_cgroup_parent_leads_nowhere_else() {
    let host = host();
    let evil = DockerContainer::named("evil").running(3_999_999).cgroup_parent("../../../evil");
    host.docker_container(&evil);
    host.file(format!("evil/{}/cgroup.procs", evil.id()), "1\n900\n");
    let run = ask(&host, &["pids", "evil"]).expect_code(1);
    assert_eq!(run.stdout_str(), "");
}

#[test]
fn the_host_is_said_only_where_it_is_shown() {
    // Captured inside a container: PID 1 is in a PID namespace of its own.
    let inside = FixtureHost::new();
    inside.boot();
    let overlay = "5 1 0:99 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n";
    inside.process(1).ns("pid", 4_026_532_999).mountinfo(overlay).in_cgroup("/").write();
    inside.process(7).ns("pid", 4_026_532_999).mountinfo(overlay).in_cgroup("/").write();
    inside
        .process(8)
        .ns("pid", 4_026_532_999)
        .mountinfo(overlay)
        .in_cgroup("/system.slice/a.service")
        .write();
    assert_eq!(answer(&inside, "7")["owner"]["kind"], "unknown");
    let unit = answer(&inside, "8");
    assert_eq!(unit["owner"]["kind"], "unit");
    assert_eq!(unit["chain"][0]["kind"], "unknown");
    for pid in ["7", "8"] {
        ask(&inside, &["--in-container", pid]).expect_code(3);
    }
    // Nothing tells what PID 1 is.
    let silent = FixtureHost::new();
    silent.boot();
    silent.process(7).in_cgroup("/").write();
    silent.remove("proc/1/ns");
    let null = ask(&silent, &["--json", "7"]).expect_code(3).json();
    assert!(null["answers"][0]["owner"].is_null(), "{null:#}");
    // The same with PID 1's namespaces is the host.
    let open = FixtureHost::new();
    open.boot();
    open.process(7).in_cgroup("/").write();
    assert_eq!(answer(&open, "7")["owner"]["kind"], "host");
}

#[test]
fn hierarchies_whose_names_begin_alike() {
    let host = FixtureHost::with_layout(CgroupLayout::V1);
    host.boot();
    let web = DockerContainer::named("web").running(77);
    host.docker_container(&web);
    let path = format!("/docker/{}", web.id());
    host.cgroup_dirs(&path, &[77, 78]);
    host.process(77).in_docker(web.id()).write();
    host.process(78).in_docker(web.id()).write();
    assert_eq!(ask(&host, &["pids", "web"]).expect_code(0).pids(), [77, 78]);
    assert_eq!(ask(&host, &["pids", "--direct", "web"]).expect_code(0).pids(), [77, 78]);
}

#[test]
fn a_hexadecimal_name_is_no_less_in_doubt() {
    let host = host();
    let web = DockerContainer::named("web");
    host.file(format!("var/lib/docker/containers/{}/config.v2.json", web.id()), "{");
    for name in ["zweb", "cafe"] {
        ask(&host, &[name]).expect_code(3);
    }
}

#[test]
fn crafted_cgroup_files_cost_little() {
    let host = FixtureHost::new();
    host.boot();
    let ids = |n: usize| -> Vec<String> { (0..n).map(|i| fake_id(format!("id {i}"))).collect() };
    host.process(70).cgroup(format!("0::{}\n", "/a.scope".repeat(20_000))).write();
    host.process(71).cgroup(format!("0::/{}\n", ids(8000).join("/"))).write();
    let lines: Vec<String> =
        ids(10_000).iter().enumerate().map(|(n, id)| format!("{}:c{n}:/x/{id}\n", n + 1)).collect();
    host.process(72).cgroup(lines.concat()).write();
    let wide =
        (1..250).map(|n| format!("{n}:c{n}:{}\n", "/a.scope".repeat(500))).collect::<String>();
    host.process(73).cgroup(wide).write();
    for pid in ["70", "71", "72", "73"] {
        // Generous for a debug build on a busy machine; what it was before took minutes or all memory.
        let run =
            whose().root(host.path()).args(["--json", pid]).timeout(Duration::from_secs(40)).run();
        assert!([0, 3].contains(&run.code.unwrap()), "{}", run.story());
    }
}

#[test]
fn only_an_id_is_printed_as_one() {
    let host = host();
    let stranger = fake_id("stranger");
    host.process(80).nspid(&[80, 1]).in_cgroup(&format!("/mycustom/{stranger}")).write();
    let run = ask(&host, &["-q", "80"]).expect_code(3);
    assert_eq!(run.stdout_str(), "");
    assert!(run.stderr_str().contains("contained"), "{}", run.stderr_str());
}

#[test]
fn csv_into_a_closed_pipe_is_silent_too() {
    let host = host();
    for pid in 20_000..22_000 {
        host.process(pid).cmdline(&[&[b'x'; 200]]).write();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_whose"))
        .args(["ps", "--format", "csv", "--root"])
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

#[test]
fn two_targets_of_one_container_know_the_same() {
    let host = host();
    let both =
        ask(&host, &["-o", "pid,name,init_pid", "--no-headers", "4770", "web"]).expect_code(0);
    let lines: Vec<Vec<String>> = (both.stdout_str().lines())
        .map(|l| l.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(lines, [["4770", "web", "4761"], ["4761", "web", "4761"]]);
    let name_first = ask(&host, &["-o", "pid,name", "--no-headers", "4770", "web"]).expect_code(0);
    assert!(name_first.stdout_str().lines().nth(1).unwrap().starts_with("4761"));
    let _ = container(&host, "solo", 8800);
    assert_eq!(answer(&host, "solo")["process"]["pid"], 8800);
}

#[test]
fn every_null_has_its_gap() {
    let host = FixtureHost::new();
    let id = fake_id("alone");
    host.process(77).in_cgroup(&format!("/docker/{id}")).only_cgroup().write();
    let json = ask(&host, &["--json", "77"]).expect_code(0).json();
    assert!(json["boot_id"].is_null());
    let what = |gaps: &Value| -> Vec<String> {
        gaps.as_array().unwrap().iter().map(|g| g["what"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(what(&json["gaps"]), ["boot time"]);
    let answer = &json["answers"][0];
    for key in ["start_time", "args", "comm", "uid"] {
        assert_eq!(answer["process"].get(key), Some(&Value::Null), "{key} {answer:#}");
    }
    assert!(what(&answer["gaps"]).contains(&"arguments".to_owned()), "{answer:#}");
    host.process(78).cgroup("0::/\n").only_cgroup().write();
    let null = &ask(&host, &["--json", "78"]).expect_code(3).json()["answers"][0];
    for key in ["role", "comm"] {
        assert_eq!(null["process"].get(key), Some(&Value::Null), "{key} {null:#}");
    }
}
