//! `whose annotate` over a saved host.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use whose_testkit::fixture::{DockerContainer, FixtureHost};
use whose_testkit::harness::Run;

use crate::support::{host, whose};

fn annotate(host: &FixtureHost, args: &[&str], input: &str) -> Run {
    whose().root(host.path()).arg("annotate").args(args).stdin(input).run()
}

const TABLE: &str = "    PID TTY          TIME CMD
   4761 ?        00:00:00 sleep
   5000 ?        00:00:00 sleep
    900 ?        00:00:00 nginx
     60 ?        00:00:00 kworker/0:1
  77777 ?        00:00:00 x
";

#[test]
fn a_table_gets_a_column_of_owners() {
    let run = annotate(&host(), &[], TABLE).expect_code(0);
    assert_eq!(
        run.stdout_str(),
        "    PID OWNER         TTY          TIME CMD
   4761 web           ?        00:00:00 sleep
   5000 db            ?        00:00:00 sleep
    900 nginx.service ?        00:00:00 nginx
     60 -             ?        00:00:00 kworker/0:1
  77777 (gone)        ?        00:00:00 x
"
    );
    assert_eq!(run.stderr_str(), "");
}

#[test]
fn more_of_an_owner_is_told() {
    let run = annotate(&host(), &["--with", "name,image,pod"], TABLE).expect_code(0).stdout_str();
    let lines: Vec<&str> = run.lines().collect();
    assert_eq!(lines[0], "    PID NAME          IMAGE POD TTY          TIME CMD");
    assert_eq!(lines[1], "   4761 web           app:1 -   ?        00:00:00 sleep");
    assert_eq!(lines[5], "  77777 (gone)        -     -   ?        00:00:00 x");
    let args = ["--style", "suffix", "--with", "owner,image"];
    let run = annotate(&host(), &args, "[pid  4761] read(3) = 0\n").expect_code(0);
    assert_eq!(run.stdout_str(), "[pid  4761] read(3) = 0 «web image=app:1»\n");
    for (with, why) in [("rss", "one process"), ("nope", "no column nope"), (",", "no field")] {
        let run = annotate(&host(), &["--with", with], "").expect_code(2);
        assert!(run.stderr_str().contains(why) && run.stdout_str().is_empty(), "{}", run.story());
    }
}

#[test]
fn objects_get_owners_in_the_shape_of_the_schema() {
    let run = annotate(&host(), &[], "{\"pid\":4761}\n{\"pid\":60}\n").expect_code(0).stdout_str();
    let owners: Vec<serde_json::Value> = run
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["owner"].clone())
        .collect();
    assert_eq!(owners[0]["kind"], "container");
    assert_eq!(owners[0]["runtime"], "docker");
    assert_eq!(owners[0]["name"], "web");
    assert_eq!(owners[0]["image"], "app:1");
    assert_eq!(owners[0]["id"].as_str().unwrap().len(), 64);
    assert_eq!(owners[1], serde_json::json!({"kind": "host"}));
    let run = annotate(&host(), &["--json"], TABLE).expect_code(0).stdout_str();
    let row: serde_json::Value = serde_json::from_str(run.lines().nth(1).unwrap()).unwrap();
    assert_eq!(row["line"], "   4761 ?        00:00:00 sleep");
    assert_eq!(row["owners"][0]["name"], "web");
}

#[test]
fn containers_are_named_by_id_cgroup_and_layer() {
    let host = host();
    let old = DockerContainer::named("old").exited(0);
    host.docker_container(&old);
    let web = DockerContainer::named("web");
    let gone = "f0".repeat(32);
    let suffix = |line: &str| {
        let out = annotate(&host, &[], &format!("{line}\n")).expect_code(0).stdout_str();
        let rest = out.strip_prefix(line).unwrap_or_else(|| panic!("{line}: {out}"));
        rest.trim_end_matches('\n').to_owned()
    };
    assert_eq!(suffix(&format!("started {}", web.id())), " «web»");
    assert_eq!(suffix(&format!("started {} and {}", &web.id()[..12], old.id())), " «web, old»");
    assert_eq!(suffix(&format!("docker-{}.scope: Consumed 1s CPU time", old.id())), " «old»");
    assert_eq!(suffix(&format!("Memory cgroup stats for /docker/{}:", old.id())), " «old»");
    assert_eq!(
        suffix(&format!("stats for /docker/{gone}:")),
        format!(" «{}(removed)»", &gone[..12])
    );
    // An id of nobody known is any number.
    assert_eq!(suffix(&format!("sum {gone}")), "");
    assert_eq!(suffix(&format!("sha256:{}", web.id())), "");
    let log = format!("/var/lib/docker/containers/{0}/{0}-json.log", web.id());
    host.file(&log[1..], "");
    assert_eq!(suffix(&format!("{log}: too large")), " «web»");
}

#[test]
fn removed_is_only_what_its_engine_was_asked_for() {
    let host = host();
    let old = DockerContainer::named("old").exited(0);
    host.docker_container(&old);
    let gone = "f0".repeat(32);
    let line = |id: &str| format!("Memory cgroup stats for /docker/{id}:");
    let input = format!("{}\n{}\nid {}\n", line(old.id()), line(&gone), old.id());
    let all = annotate(&host, &["--strict"], &input).expect_code(0).stdout_str();
    let ends = [" «old»", &format!(" «{}(removed)»", &gone[..12]), " «old»"];
    assert!(all.lines().zip(ends).all(|(line, end)| line.ends_with(end)), "{all}");
    // One who may not look there: root without the capability, or anybody.
    let dir = host.path().join("var/lib/docker/containers");
    std::fs::set_permissions(&dir, Permissions::from_mode(0o000)).unwrap();
    let is_root = std::fs::read_dir(&dir).is_ok();
    let mut command = Command::new(if is_root { "setpriv" } else { env!("CARGO_BIN_EXE_whose") });
    if is_root {
        let caps = ["--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"];
        command.args(caps).arg(env!("CARGO_BIN_EXE_whose"));
    }
    command.args(["annotate", "--strict", "--root"]).arg(host.path());
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    let ends = [format!(" «{}»", &old.id()[..12]), format!(" «{}»", &gone[..12]), old.id().into()];
    assert!(told.lines().zip(&ends).all(|(line, end)| line.ends_with(end)), "{told}");
    assert_eq!((told.lines().count(), out.status.code()), (3, Some(3)), "{told}");
    let missing = String::from_utf8_lossy(&out.stderr);
    assert!(missing.starts_with("whose: not read: "), "{missing}");
}

#[test]
fn a_line_that_only_looks_like_it_needs_the_processs_name() {
    let host = host();
    host.process(6200).comm("a b").in_docker(DockerContainer::named("web").id()).write();
    for (line, told) in [
        ("  |-sleep(4761)", "  |-sleep(4761) «web»"),
        ("  |-cat(4761)---sleep(5000)", "  |-cat(4761)---sleep(5000) «db»"),
        ("  |-cat(4761)", "  |-cat(4761)"),
        ("sleep-4761;main 12", "web;sleep-4761;main 12"),
        ("a_b-6200;main 12", "web;a_b-6200;main 12"),
        ("cat-4761;main 12", "cat-4761;main 12"),
    ] {
        let out = annotate(&host, &[], &format!("{line}\n")).expect_code(0).stdout_str();
        assert_eq!(out, format!("{told}\n"));
    }
}

#[test]
fn a_name_of_any_length_adds_little() {
    let host = host();
    let long = DockerContainer::named(&"n".repeat(500_000)).running(6100);
    host.docker_container(&long);
    host.process(6100).comm("x").in_docker(long.id()).write();
    let line = "[pid  6100] x\n{\"pid\":6100}\n";
    for (args, most) in [(&[][..], 1000), (&["--json"], 1500), (&["--with", "name,image"], 1500)] {
        let out = annotate(&host, args, line).expect_code(0).stdout_str();
        assert!(out.len() < most && out.contains("nnn…"), "{args:?} {}", out.len());
    }
}

#[test]
fn a_log_names_nobody_who_came_later() {
    let host = host();
    let line = |year: u32| format!("{year}-06-01T00:00:00+00:00 host app[4761]: x\n");
    let run = annotate(&host, &[], &line(2019)).expect_code(0).stdout_str();
    assert!(run.ends_with(" «(gone)»\n"), "{run}");
    let run = annotate(&host, &[], &line(2098)).expect_code(0).stdout_str();
    assert!(run.ends_with(" «web»\n"), "{run}");
}

#[test]
fn what_is_missing_of_owners_is_said_in_one_line() {
    let host = host();
    let nameless = "ab".repeat(32);
    let broken = format!("var/lib/docker/containers/{nameless}/config.v2.json");
    host.file(&broken, "{").cgroup_dir(&format!("docker/{nameless}"), &[6000]);
    host.process(6000).comm("x").in_docker(&nameless).write();
    let row = "    PID TTY\n   6000 ?\n";
    let run = annotate(&host, &[], row).expect_code(0);
    assert!(
        run.stdout_str().contains(&format!("   6000 {} ?", &nameless[..12])),
        "{}",
        run.story()
    );
    assert!(
        run.stderr_str().starts_with("whose: not read: ") && run.stderr_str().lines().count() == 1
    );
    annotate(&host, &["--strict"], row).expect_code(3);
    annotate(&host, &["--strict"], TABLE).expect_code(0);
}

#[test]
fn files_and_what_can_not_be_read() {
    let host = host();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ps.txt");
    std::fs::write(&file, TABLE).unwrap();
    let file = file.to_str().unwrap();
    let run = annotate(&host, &[file, "-"], "[pid  4761] x\n").expect_code(0).stdout_str();
    assert!(run.contains(" web ") && run.ends_with("[pid  4761] x «web»\n"), "{run}");
    let missing = dir.path().join("nope");
    let run = annotate(&host, &[missing.to_str().unwrap(), file], "").expect_code(1);
    assert!(run.stderr_str().contains("nope: ") && run.stdout_str().contains(" web "));
    let run = annotate(&host, &[dir.path().to_str().unwrap()], "").expect_code(1);
    assert!(run.stderr_str().contains("directory"), "{}", run.story());
}

#[test]
fn bad_options_are_usage() {
    for (args, why) in [
        (&["--regex", "("][..], "("),
        (&["--regex", "pid"], "no group"),
        (&["--pid-column", "0"], "from 1"),
        (&["--pid-column", "1", "--regex", "(x)"], "cannot be used with"),
        (&["--style", "nope"], "nope"),
        (&["--stderr"], "COMMAND"),
    ] {
        let run = annotate(&host(), args, "").expect_code(2);
        assert!(run.stderr_str().contains(why) && run.stdout_str().is_empty(), "{}", run.story());
    }
}

#[test]
fn no_daemon_is_asked() {
    for args in [&["annotate", "--daemon"][..], &["--daemon", "annotate", "--", "true"]] {
        let run = whose().args(args).stdin("x\n").run().expect_code(2);
        let said = run.stderr_str();
        assert!(said.contains("annotate") && said.contains("asks no daemon"), "{}", run.story());
        assert!(said.lines().count() == 1 && run.stdout_str().is_empty(), "{}", run.story());
    }
}

#[test]
fn a_command_keeps_its_status_and_its_streams() {
    let host = host();
    let run = |args: &[&str]| annotate(&host, args, "in\n");
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(run(&["--", "sh", "-c", "kill -TERM $$"]).code, Some(128 + 15));
    assert_eq!(run(&["--", "/nonexistent/x"]).code, Some(127));
    assert_eq!(run(&["--", "/etc/passwd"]).code, Some(126));
    assert_eq!(run(&["--", "cat"]).stdout_str(), "in\n");
    let echo = "echo '[pid  4761] a'; echo '[pid  5000] b' >&2; test -t 1 || echo pipe";
    let apart = run(&["--", "sh", "-c", echo]);
    assert_eq!(apart.stdout_str(), "[pid  4761] a «web»\npipe\n");
    assert_eq!(apart.stderr_str(), "[pid  5000] b\n");
    let both = run(&["--stderr", "--", "sh", "-c", echo]);
    assert_eq!(both.stdout_str(), "[pid  4761] a «web»\n[pid  5000] b «db»\npipe\n");
    // What stays behind with the output open does not keep it.
    let run = run(&["--", "sh", "-c", "echo a; sleep 50 & echo $! >&2"]).expect_code(0);
    assert_eq!(run.stdout_str(), "a\n");
    let pid = run.stderr_str();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

/// What is written to a command's standard output until this text is.
fn read_until(from: &mut impl Read, text: &str) -> String {
    let mut told = Vec::new();
    let mut byte = [0];
    while !told.ends_with(text.as_bytes()) && from.read(&mut byte).unwrap() == 1 {
        told.push(byte[0]);
    }
    String::from_utf8(told).unwrap()
}

#[test]
fn a_signal_ends_the_command_whatever_it_closed() {
    let host = host();
    for (script, signal, code) in [
        // Its output is closed; it has written nothing; it waits for a reader.
        ("echo $$ >&2; exec >&-; echo >&2; exec sleep 50", "TERM", 143),
        ("echo $$ >&2; exec >&-; echo >&2; exec sleep 50", "HUP", 129),
        ("echo $$ >&2; echo >&2; exec sleep 50", "TERM", 143),
        ("echo $$ >&2; (sleep 1; echo >&2) & exec yes", "TERM", 143),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_whose"))
            .args(["annotate", "--root"])
            .arg(host.path())
            .args(["--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let pid = read_until(&mut stderr, "\n").trim().to_owned();
        read_until(&mut stderr, "\n");
        let whose = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &whose]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{script}");
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{script}");
    }
}

#[test]
fn ignored_signals_stay_ignored() {
    let host = host();
    let mask = |traps: &str| {
        let script = format!(
            "{traps} exec \"$0\" annotate --root \"$1\" -- sh -c 'grep SigIgn /proc/self/status'"
        );
        let out = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_whose")])
            .arg(host.path())
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let mask = text.trim().strip_prefix("SigIgn:").unwrap_or_else(|| panic!("{text}"));
        u64::from_str_radix(mask.trim(), 16).unwrap()
    };
    let (hup, int, term) = (1 << 0, 1 << 1, 1 << 14);
    assert_eq!(mask("trap '' HUP INT;") & (hup | int | term), hup | int);
    assert_eq!(mask("trap '' TERM;") & term, term);
}

#[test]
fn a_line_goes_out_when_it_came_in() {
    let host = host();
    let mut child = Command::new(env!("CARGO_BIN_EXE_whose"))
        .args(["annotate", "--root"])
        .arg(host.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // Each line only comes when the one before has gone out: a line that is held back hangs this, and
    // the watch ends it.
    let pid = child.id().to_string();
    let watch = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(50);
        while Instant::now() < until {
            if std::fs::metadata(format!("/proc/{pid}/exe")).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(Command::new("kill").arg(&pid).status());
        false
    });
    for (line, expected) in [
        ("[pid  4761] a\n", "[pid  4761] a «web»\n"),
        ("    PID TTY\n", "    PID OWNER        TTY\n"),
        ("   4761 ?\n", "   4761 web          ?\n"),
    ] {
        stdin.write_all(line.as_bytes()).unwrap();
        let mut out = vec![0; expected.len()];
        stdout.read_exact(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success() && watch.join().unwrap());
}

#[test]
fn closed_ends_are_silent() {
    let host = host();
    let script = "\"$0\" annotate --root \"$1\" <&- >/dev/null && printf 'a\\n' | \"$0\" annotate --root \"$1\" >&- ; \
        yes '[pid  4761] x' | \"$0\" annotate --root \"$1\" | head -n 1";
    let out = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_whose")])
        .arg(host.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "[pid  4761] x «web»\n");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}
