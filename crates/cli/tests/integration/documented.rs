//! Every documented command line runs.

use whose_testkit::fixture::{DockerContainer, FixtureHost};

use crate::support::{host, whose};

/// Command lines of `whose` in a text: those of code blocks and of help examples, also inside
/// `$(...)`.
fn command_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches("$ ").trim_start_matches("sudo ");
        let line = match line.split_once(" | whose annotate") {
            Some((_, rest)) => &format!("whose annotate{rest}"),
            None => line,
        };
        let inner = line.split("$(").nth(1).and_then(|l| l.split(')').next());
        let line = inner.unwrap_or(line);
        if line != "whose" && !line.starts_with("whose ") {
            continue;
        }
        // Comments, redirections, what a shell would do next, and columns of help text.
        let line = line.split(" #").next().unwrap().split(" >").next().unwrap();
        let line = line.split(" && ").next().unwrap().split("   ").next().unwrap();
        found.push(line.trim().to_owned());
    }
    found
}

/// A capture is of the running host, and goes elsewhere here.
fn run_capture(line: &str) {
    let dir = tempfile::tempdir().unwrap();
    let targets = line.split_whitespace().skip(3);
    let to = dir.path().join("new");
    let run = whose().arg("capture").arg(to).args(targets).run();
    // The target need not be there; the time may be short on a busy machine.
    assert!([0, 1, 3].contains(&run.code.unwrap()), "{line}\n{}", run.story());
}

/// A filter reads what is there.
fn run_annotate(host: &FixtureHost, line: &str) {
    let log = host.path().join("log");
    std::fs::write(&log, "Nov 25 01:33:06 host app[4761]: x\n").unwrap();
    let words = line.split_whitespace().skip(2);
    let words =
        words.map(|word| if word.starts_with("/var/log") { log.to_str().unwrap() } else { word });
    // Quotes of a shell.
    let mut args: Vec<String> = Vec::new();
    let mut quoted: Option<String> = None;
    for word in words {
        match &mut quoted {
            Some(begun) => {
                begun.push(' ');
                begun.push_str(word.trim_end_matches('\''));
                args.extend(word.ends_with('\'').then(|| quoted.take()).flatten());
            }
            None if word.starts_with('\'') => quoted = Some(word[1..].to_owned()),
            None => args.push(word.to_owned()),
        }
    }
    let input = "    PID TTY\n   4761 ?\nworker 4761 x\n";
    let run = whose().root(host.path()).arg("annotate").args(args).stdin(input).run();
    assert_eq!((run.code, run.stderr_str().as_str()), (Some(0), ""), "{line}\n{}", run.story());
    let reads_input = !line.contains("/var/log") && !line.contains(" -- ");
    assert!(!reads_input || run.stdout_str().contains("web"), "{line}\n{}", run.story());
}

fn run(host: &FixtureHost, line: &str) {
    if line.starts_with("whose annotate") {
        return run_annotate(host, line);
    }
    if line.starts_with("whose capture ") {
        return run_capture(line);
    }
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let mut args: Vec<String> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if *word == "--root" {
            rest.next(); // the fixture stands in
        } else {
            args.push((*word).to_owned());
        }
    }
    let run = whose().root(host.path()).args(args).run();
    let code = run.code.unwrap();
    if line.starts_with("whose path /") {
        assert!([0, 1].contains(&code), "{line}\n{}", run.story());
        return;
    }
    if ["exe", "maps", "path"].iter().any(|of| line.starts_with(&format!("whose {of} ")))
        || line.contains(":/")
    {
        // No process runs in a saved tree: it says so.
        let is_card = line.contains("--json") || !line.contains(" path ") && line.contains(":/");
        assert!([1, 3].contains(&code) && (is_card || run.stdout_str().is_empty()), "{line}");
        assert!(run.stderr_str().contains("a saved tree holds no running process"), "{line}");
        return;
    }
    if line.starts_with("whose 8:1:") {
        assert_eq!(code, 3, "{line}\n{}", run.story());
        assert!(run.stderr_str().contains("a saved tree has no file systems"), "{line}");
        return;
    }
    // A saved tree has gaps, and doctor finds them.
    assert!([0, 1, 5].contains(&code) || line.contains("--strict"), "{line}\n{}", run.story());
    assert!(code != 1 || line == "whose -- ps", "{line}\n{}", run.story());
}

#[test]
fn the_readme_and_the_help() {
    let host = host();
    for pid in [16297, 19534, 19583] {
        host.process(pid).cmdline(&[b"sleep", b"10001"]).write();
    }
    let pod = DockerContainer::named("k8s_app_web-7d9_prod")
        .running(5200)
        .label("io.kubernetes.container.name", "app")
        .label("io.kubernetes.pod.name", "web-7d9")
        .label("io.kubernetes.pod.namespace", "prod")
        .label("io.kubernetes.pod.uid", "3d4e5f60-4444-4555-8666-777788889999");
    host.docker_container(&pod);
    let cgroup = format!("kubepods/pod3d4e5f60-4444-4555-8666-777788889999/{}", pod.id());
    host.cgroup_dir(&cgroup, &[5200]);
    host.process(5200).in_docker(pod.id()).in_cgroup(&format!("/{cgroup}")).write();
    let layer = "var/lib/docker/overlay2/\
        be23faa629bf015f227700d09ad86b11fad14186ebda3225c8b75a2f9d0dc773/diff/bin/sh";
    host.file(layer, "").dir("var/lib/docker/image/overlay2/layerdb");
    host.dir("var/lib/docker/volumes/db_data/_data");
    host.dir("mnt/data").file("run/netns/blue", "");
    host.dir("var/lib/kubelet/pods/3d4e5f60-4444-4555-8666-777788889999");
    let mut lines = command_lines(include_str!("../../../../README.md"));
    let in_readme = lines.len();
    assert!(in_readme >= 14, "{lines:#?}");
    for args in [
        &["--help"][..],
        &["ps", "--help"],
        &["tree", "--help"],
        &["ls", "--help"],
        &["pids", "--help"],
        &["exe", "--help"],
        &["maps", "--help"],
        &["path", "--help"],
        &["capture", "--help"],
        &["annotate", "--help"],
        &["doctor", "--help"],
        &["help"],
    ] {
        let help = whose().args(args).run().expect_code(0);
        assert_eq!(help.stderr_str(), "");
        lines.extend(command_lines(&help.stdout_str()));
    }
    assert!(lines.len() >= in_readme + 14, "{lines:#?}");
    lines.retain(|l| !l.contains("[OPTIONS]") && !l.contains("PID") && !l.contains("NAME"));
    for line in lines {
        run(&host, &line);
    }
}

#[test]
fn help_fits_eighty_columns_and_names_every_exit_status() {
    for args in [
        &["--help"][..],
        &["ps", "--help"],
        &["tree", "--help"],
        &["ls", "--help"],
        &["pids", "--help"],
        &["-h"],
    ] {
        let help = whose().env("COLUMNS", "80").args(args).run().expect_code(0).stdout_str();
        let widest = help.lines().map(|l| l.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest}: {help}");
        assert!(help.contains("Examples:"));
    }
    let help = whose().args(["--help"]).run().stdout_str();
    for code in [
        "0 answered",
        "1 no such",
        "2 usage",
        "3 could not",
        "4\nambiguous",
        "5 with",
        "6 internal",
    ] {
        assert!(
            help.replace("\n4 ", "4\n").contains(code) || help.contains(&code.replace('\n', " ")),
            "{code}: {help}"
        );
    }
    whose().args(["--version"]).run().expect_code(0);
    let help = whose().args(["ps", "--help"]).run().stdout_str();
    for field in whose_fields::FIELDS {
        assert!(
            help.contains(&format!("  {} ", field.name)) && help.contains(field.doc),
            "{}",
            field.name
        );
    }
}
