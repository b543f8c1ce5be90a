//! Captured hosts answer as they are expected to: `fixtures/hosts/NAME/expected/commands` has the
//! command lines, and beside it lies what each prints. `WHOSE_BLESS=1` writes that anew.

use std::fmt::Write;
use std::path::Path;

use whose_testkit::fixture::{FixtureHost, hosts_dir};

use crate::support::ask;

/// What a command line prints: its exit status, standard output, and standard error.
fn told(host: &FixtureHost, line: &str) -> String {
    let args: Vec<&str> = line.split_whitespace().collect();
    let run = ask(host, &args);
    let root = host.path().display().to_string();
    // Where the tree lies is nobody's business.
    let plain = |text: String| text.replace(&format!("{root}/"), "/").replace(&root, "/");
    let mut told = String::new();
    let code = run.code.unwrap();
    writeln!(told, "$ whose {line}\nexit status {code}").unwrap();
    told.push_str(&plain(run.stdout_str()));
    for line in plain(run.stderr_str()).lines() {
        writeln!(told, "stderr: {line}").unwrap();
    }
    told
}

fn judge(name: &str, dir: &Path) {
    let host = FixtureHost::captured(name);
    let expected = dir.join("expected");
    let commands = std::fs::read_to_string(expected.join("commands")).unwrap();
    let told: String =
        commands.lines().map(|line| told(&host, line)).collect::<Vec<_>>().join("\n");
    let at = expected.join("answers");
    if std::env::var_os("WHOSE_BLESS").is_some_and(|v| v == "1") && std::env::var_os("CI").is_none()
    {
        std::fs::write(&at, &told).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&at).unwrap_or_default();
    for (n, (wanted, told)) in wanted.lines().zip(told.lines()).enumerate() {
        assert_eq!(wanted, told, "{name}, line {}", n + 1);
    }
    assert_eq!(wanted.lines().count(), told.lines().count(), "{name}");
    assert!(commands.lines().count() >= 10, "{name}: {commands}");
}

#[test]
fn captured_hosts_answer_as_expected() {
    let mut names: Vec<String> = std::fs::read_dir(hosts_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        judge(&name, &hosts_dir().join(&name));
    }
}
