//! What is printed: formats, escapes, pipes, colour.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whose_testkit::fixture::DockerContainer;

use crate::support::{answer, ask, host, whose};

#[test]
fn names_and_arguments_can_not_reach_the_terminal() {
    let host = host();
    let evil = DockerContainer::named("a\u{1b}[31m\nb\u{202e}")
        .running(9200)
        .label("k\n", "\u{1b}]0;x\u{7}");
    host.docker_container(&evil);
    host.cgroup_dir(&format!("docker/{}", evil.id()), &[9200]);
    let args: [&[u8]; 3] = [b"sh", b"\x1b[2J\n\x07", b"\xff\xfe"];
    host.process(9200).comm(b"x\n\x1b[0m\xff").cmdline(&args).in_docker(evil.id()).write();
    for args in [
        &["9200"][..],
        &["9200", "--why"],
        &["ps"],
        &["ps", "-o", "pid,comm,name,labels,args"],
        &["-o", "name", "9200"],
    ] {
        let run = ask(&host, args).expect_code(0);
        let text = String::from_utf8(run.stdout).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{args:?} {text:?}");
        assert!(!text.contains('\u{202e}'), "{args:?}");
        assert!(text.contains("\\x1b"), "{args:?} {text}");
    }
    // One process, one line.
    let rows = ask(&host, &["ps", "--no-headers", "9200"]).expect_code(0);
    assert_eq!(rows.stdout_str().lines().count(), 1);
    // JSON has the exact bytes.
    let answer = answer(&host, "9200");
    assert_eq!(answer["owner"]["name"], "a\u{1b}[31m\nb\u{202e}");
    assert_eq!(answer["process"]["comm_base64"], "eAobWzBt/w==");
    assert_eq!(answer["process"]["args_base64"].as_array().unwrap().len(), 3);
    assert_eq!(answer["process"]["args"][1], "\u{1b}[2J\n\u{7}");
    assert_eq!(answer["process"]["args_base64"][2], "//4=");
}

#[test]
fn the_json_of_a_target() {
    let host = host();
    let run = ask(&host, &["--json", "4761", "900"]).expect_code(0);
    let json = run.json();
    assert_eq!(json["schema"], "whose/1");
    assert_eq!(json["source"], "saved");
    assert_eq!(json["boot_id"].as_str().unwrap().len(), 36);
    assert_eq!(json["gaps"], serde_json::json!([]));
    let answer = &json["answers"][0];
    for key in [
        "pid",
        "start_ticks",
        "start_time",
        "ppid",
        "comm",
        "args",
        "state",
        "uid",
        "user",
        "inside_pid",
        "inside_pids",
        "inside_uid",
        "pidns",
        "cgroup",
        "role",
        "rss",
        "vsz",
        "threads",
        "cpu_time",
        "nice",
    ] {
        assert!(!answer["process"][key].is_null(), "{key} {answer:#}");
    }
    for key in [
        "kind",
        "runtime",
        "id",
        "name",
        "image",
        "image_id",
        "labels",
        "state",
        "engine_state",
        "created",
        "started",
        "init_pid",
    ] {
        assert!(!answer["owner"][key].is_null(), "{key} {answer:#}");
    }
    assert_eq!(answer["owner"]["created"], "2024-01-02T03:10:00.123Z");
    assert_eq!(answer["owner"]["started"], "2024-01-02T03:10:01.987Z");
    assert_eq!(json["answers"][1]["chain"][0]["kind"], "unit");
    let lines = ask(&host, &["--format", "ndjson", "4761", "900"]).expect_code(0).ndjson();
    assert_eq!(lines.len(), 2);
    assert_eq!(&lines[0], answer);
}

#[test]
fn the_shapes_of_lists() {
    let host = host();
    let json = ask(&host, &["ps", "--json"]).expect_code(0).json();
    let columns = json["columns"].as_array().unwrap();
    assert_eq!(
        columns,
        &["pid", "user", "state", "rss", "elapsed", "owner", "args"].map(Value::from)
    );
    let rows = json["rows"].as_array().unwrap();
    assert!(rows.iter().all(|r| r["process"]["start_ticks"].is_u64()));
    let web = rows.iter().find(|r| r["process"]["pid"] == 4761).unwrap();
    assert_eq!(web["owner"]["name"], "web");
    assert_eq!(web["chain"][0], web["owner"]);
    assert!(web["owner"].get("labels").is_none());
    assert!(web["process"].get("vsz").is_none());
    let labels = ask(&host, &["ps", "--json", "-o", "+labels"]).expect_code(0).json();
    let web =
        labels["rows"].as_array().unwrap().iter().find(|r| r["process"]["pid"] == 4761).unwrap();
    assert_eq!(web["owner"]["labels"]["tier"], "front");
    let plain = ask(&host, &["ps", "--json", "-o", "pid,comm"]).expect_code(0).json();
    assert!(plain["rows"][0].get("owner").is_none());
    let lines = ask(&host, &["ps", "--format", "ndjson"]).expect_code(0).ndjson();
    assert_eq!(lines[0]["columns"], json["columns"]);
    assert_eq!(lines.len(), rows.len() + 1);
    assert_eq!(&lines[1], &rows[0]);
}

#[test]
fn csv_is_raw_and_quoted() {
    let host = host();
    let run = ask(&host, &["ps", "--format", "csv", "-o", "pid,rss,owner,args", "--sort", "pid"])
        .expect_code(0);
    let text = run.stdout_str();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("pid,rss,owner,args"));
    let web = text.lines().find(|l| l.starts_with("4761,")).unwrap();
    let fields: Vec<&str> = web.split(',').collect();
    assert_eq!((fields[2], fields[3]), ("web", "sleep 100"));
    assert!(fields[1].parse::<u64>().unwrap() >= 4096);
    let bare = ask(&host, &["--format", "csv", "--no-headers", "-o", "pid,name", "web", "4770"])
        .expect_code(0);
    assert_eq!(bare.stdout_str(), "4761,web\n4770,web\n");
}

#[test]
fn colour_only_where_asked() {
    let host = host();
    assert!(!ask(&host, &["4761"]).stdout_str().contains('\u{1b}'));
    assert!(ask(&host, &["--color", "always", "4761"]).stdout_str().contains("\u{1b}["));
    let env = whose().root(host.path()).env("NO_COLOR", "1").args(["4761"]).run();
    assert!(!env.stdout_str().contains('\u{1b}'));
    assert!(!ask(&host, &["--color", "never", "ps"]).stdout_str().contains('\u{1b}'));
}

#[test]
fn a_closed_pipe_is_silent() {
    let host = host();
    for pid in 20_000..22_000 {
        host.process(pid).cmdline(&[&[b'x'; 200]]).write();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_whose"))
        .args(["ps", "--root"])
        .arg(host.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0_u8; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap(); // and closed
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(complaint, "");
}

/// Else the next file that is opened would get its number, and what is said be written to it.
#[test]
fn a_closed_descriptor_is_dev_null() {
    let host = host();
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" annotate --root \"$1\" >&- 2>&-"])
        .arg(env!("CARGO_BIN_EXE_whose"))
        .arg(host.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let of = |what: &str| std::path::PathBuf::from(format!("/proc/{}/{what}", child.id()));
    let is_whose = || std::fs::read(of("comm")).is_ok_and(|comm| comm == b"whose\n");
    let opened =
        |fd: &str| std::fs::read_link(of(fd)).is_ok_and(|file| file == Path::new("/dev/null"));
    let all = || is_whose() && opened("fd/1") && opened("fd/2");
    let is_so = (0..1000).any(|_| {
        all() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }
    });
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(is_so);
}

#[test]
fn a_full_disk_is_an_error() {
    let host = host();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_whose"))
        .args(["4761", "--root"])
        .arg(host.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn targets_from_standard_input() {
    let host = host();
    let run = whose()
        .root(host.path())
        .args(["-o", "pid,name", "--no-headers", "-"])
        .stdin(*b"4761\n\ndb\n")
        .run();
    assert_eq!(
        run.expect_code(0).stdout_str(),
        " 4761 web\n 5000 db\n".replace(" 4761", "4761").replace(" 5000", "5000")
    );
}

#[test]
fn the_exit_status_of_in_container() {
    let host = host();
    host.process(9300).nspid(&[9300, 1]).in_cgroup("/").write();
    for (target, code) in [
        ("4761", 0),
        ("web", 0),
        ("900", 5),
        ("950", 5),
        ("60", 5),
        ("9300", 3),
        ("77777", 1),
        ("nosuch", 1),
    ] {
        let run = ask(&host, &["--in-container", target]).expect_code(code);
        assert_eq!(run.stdout_str(), "", "{target}");
        ask(&host, &["--in-container", "-q", target]).expect_code(code);
    }
    ask(&host, &["--in-container", "4761", "900"]).expect_code(5);
    ask(&host, &["--in-container", "900", "77777"]).expect_code(1);
    ask(&host, &["--in-container"]).expect_code(2);
}

#[test]
fn the_card_of_a_container_and_of_a_process() {
    let host = host();
    let web = DockerContainer::named("web");
    let card = ask(&host, &["4770"]).expect_code(0).stdout_str();
    let expected = format!(
        "4770  worker -n 1                                     root, S, up 1 h 23 min
  container  web   docker   running   {id}
  image      app:1   {image}
  compose    project shop   service front
  inside     pid 7
  because    cgroup /docker/{id}, pid 7 in a nested PID namespace, config.v2.json
",
        id = web.id(),
        image = web.config()["Image"].as_str().unwrap(),
    );
    let comparable = |text: &str| -> Vec<String> {
        // Age depends on the fixture's clock, exe and cwd on its defaults.
        let cut = |l: &str| {
            l.split("   /").next().unwrap_or(l).split(", up ").next().unwrap_or(l).to_owned()
        };
        text.lines().map(cut).collect()
    };
    assert_eq!(comparable(&card), comparable(&expected), "{card}");
    let card = ask(&host, &["web"]).expect_code(0).stdout_str();
    for part in
        ["web  ", "running", "image ", "init       4761", "processes  2   4761 4770", web.id()]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
}
