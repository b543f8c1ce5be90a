//! `whose path` and `whose ls --disk` on what a container may do to its own files: loops of links, directories that are
//! exchanged all the time, very many files, a volume whose server never answers, all of the host bound.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whose_live_tests::inner::FuseDir;
use whose_live_tests::podman::{IMAGE, NEEDS, start};
use whose_live_tests::usage::{as_du_says, of_container, usage};
use whose_live_tests::{alone, compared, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::harness::Run;
use whose_testkit::podman::Podman;
use whose_testkit::require;

fn path_of(target: &str) -> Run {
    whose().args(["path", "--timeout", "5", target]).run()
}

/// The upper directory of a container's overlay.
fn upper(podman: &Podman, name: &str) -> String {
    let told = podman.inspect(name)["GraphDriver"]["Data"]["UpperDir"].clone();
    told.as_str().expect("an upper directory").to_owned()
}

/// A process that is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn what_a_container_does_to_its_files() {
    if !require(NEEDS) || !require(&["fuse", "fuse-overlayfs", "cc"]) {
        return;
    }
    let _alone = alone();
    let podman = start(Podman::options());
    let temp = tempfile::tempdir().unwrap();
    let dead = temp.path().join("dead");
    let fuse = FuseDir::mount(&temp.path().join("work"), &dead).unwrap_or_else(|e| panic!("{e}"));
    let name = unique("hostile");
    let volume = format!("{}:/dead", dead.display());
    let options = ["--name", &name, "-v", &volume, "-v", "/:/host:ro"];
    podman.run(&[&options[..], &[IMAGE, "/bin/busybox", "sleep", "97801"]].concat());
    let mut cases = Cases::of("path-hostile");
    cases.case("loops of links", || loops(&podman, &name));
    cases.case("all of the host bound", || {
        let run = path_of(&format!("{name}:/host/etc/passwd")).expect_code(0);
        assert_eq!(run.stdout_str(), "/etc/passwd\n");
        let run = path_of("/etc/passwd").expect_code(0);
        let line = format!("{name}:/host/etc/passwd");
        assert!(run.stdout_str().lines().any(|l| l == line), "{}", run.story());
        // Its own upper directory is to be seen there too, and is its own all the same.
        podman.cli(&["exec", &name, "/bin/busybox", "touch", "/own"]);
        let own = format!("{}/own", upper(&podman, &name));
        let run = path_of(&format!("{name}:/host{own}")).expect_code(0);
        assert_eq!(run.stdout_str(), format!("{own}\n"));
        let run = path_of(&own).expect_code(0);
        assert!(run.stdout_str().lines().any(|l| l == format!("{name}:/own")), "{}", run.story());
    });
    cases.case("directories that are exchanged all the time", || exchanged(&podman, &name));
    cases.case("a volume whose server never answers", || {
        fuse.deafen();
        let began = Instant::now();
        let run = path_of(&format!("{name}:/dead/file"));
        assert!(began.elapsed() < Duration::from_secs(20), "{}", run.story());
        assert_eq!((run.code, run.stdout_str()), (Some(3), String::new()), "{}", run.story());
        let run = path_of(&format!("{name}:/bin/busybox")).expect_code(0);
        assert!(run.stdout_str().contains("/diff/"), "{}", run.story());
    });
    cases.case("the same when it has ended", || {
        podman.cli(&["kill", &name]);
        podman.run(&["--name", &unique("other"), IMAGE, "/bin/busybox", "sleep", "97802"]);
        let began = Instant::now();
        let run = path_of(&format!("{name}:/dead/file"));
        assert!(began.elapsed() < Duration::from_secs(20), "{}", run.story());
        assert_eq!((run.code, run.stdout_str()), (Some(3), String::new()), "{}", run.story());
        let run = path_of(&format!("{name}:/host/etc/passwd")).expect_code(0);
        assert_eq!(run.stdout_str(), "/etc/passwd\n");
        let run = path_of(&format!("{name}:/t/loop")).expect_code(3);
        assert!(run.stderr_str().contains("links in a circle"), "{}", run.story());
    });
    drop(fuse);
    cases.case("very many small files", || many(&podman));
    drop(podman);
    cases.finish();
}

/// Links that lead to each other, to themselves, out of the container, and one by one very far.
fn loops(podman: &Podman, name: &str) {
    let mut script = String::from(
        "set -e; mkdir -p /t/d; cd /t; ln -s loop loop; ln -s /t/b a; ln -s a b; ln -s . d/here; \
         ln -s ../../../../../../etc/hostname out; ln -s /t/f0 f1; echo end > f0; ",
    );
    for at in 2..=60 {
        script.push_str(&format!("ln -s f{} f{at}; ", at - 1));
    }
    podman.cli(&["exec", name, "/bin/sh", "-c", &script]);
    let upper = upper(podman, name);
    for (path, code, expected) in [
        ("loop", 3, String::new()),
        ("a", 3, String::new()),
        ("a/below", 3, String::new()),
        ("d/here/here/here/../f0", 0, format!("{upper}/t/f0\n")),
        ("f39", 0, format!("{upper}/t/f0\n")),
        // One more than the kernel follows.
        ("f60", 3, String::new()),
    ] {
        let run = path_of(&format!("{name}:/t/{path}"));
        assert_eq!((run.code, run.stdout_str()), (Some(code), expected), "{path}: {}", run.story());
        assert!(code == 0 || run.stderr_str().contains("links in a circle"), "{}", run.story());
    }
    // What leads out of it leads to its own.
    let run = path_of(&format!("{name}:/t/out"));
    assert!(!run.stdout_str().starts_with("/etc/"), "{}", run.story());
    // And no link is followed to count.
    let document = usage();
    let id = podman.inspect(name)["Id"].as_str().unwrap().to_owned();
    as_du_says(of_container(&document, &id));
}

/// A directory of the container's, one beside it, and a link to the host's in turns under one name.
fn exchanged(podman: &Podman, name: &str) {
    let script = "mkdir -p /x/a /x/b; echo a > /x/a/passwd; echo b > /x/b/passwd; ln -s /etc /x/c";
    podman.cli(&["exec", name, "/bin/sh", "-c", script]);
    let upper = upper(podman, name);
    let temp = tempfile::tempdir().unwrap();
    let (source, tool) = (temp.path().join("x.c"), temp.path().join("x"));
    std::fs::write(
        &source,
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
         int main(int c, char **v) { if (chdir(v[1])) return 1;\n\
         for (;;) { renameat2(AT_FDCWD, \"a\", AT_FDCWD, \"b\", RENAME_EXCHANGE);\n\
         renameat2(AT_FDCWD, \"a\", AT_FDCWD, \"c\", RENAME_EXCHANGE); } }\n",
    )
    .unwrap();
    let built = Command::new("cc").arg("-o").args([&tool, &source]).status().unwrap();
    assert!(built.success());
    let pid = podman.init_pid(name);
    let root = format!("/proc/{pid}/root/x");
    let busy = Running(Command::new(&tool).arg(&root).spawn().unwrap());
    let allowed: Vec<String> =
        ["a", "b", "c"].iter().map(|dir| format!("{upper}/x/{dir}/passwd\n")).collect();
    let mut seen = 0;
    for at in 0..60 {
        let dir = ["a", "b", "c"][at % 3];
        let run = path_of(&format!("{name}:/x/{dir}/passwd"));
        let said = run.stdout_str();
        match run.code {
            Some(0) => {
                // Where the link led, that is the container's own file: it has one, or none.
                let is_own = said.starts_with(&podman.graph_root().display().to_string());
                assert!(allowed.contains(&said) || is_own, "{}", run.story());
                seen += 1;
            }
            Some(1 | 3) => assert_eq!(said, "", "{}", run.story()),
            _ => panic!("{}", run.story()),
        }
    }
    for _ in 0..5 {
        let document = usage();
        let id = podman.inspect(name)["Id"].as_str().unwrap().to_owned();
        // The host's /etc is never counted as its own.
        let layer = of_container(&document, &id)["layer"].as_u64().unwrap_or_default();
        assert!(layer < 1 << 20, "{layer}");
    }
    drop(busy);
    compared("paths of directories that are exchanged", seen);
    assert!(seen > 0);
}

/// The most memory that a command takes, in KiB, as its kernel counts it.
fn peak(args: &[&str]) -> u64 {
    let mut command = Command::new("busybox");
    command.args(["time", "-v"]).arg(whose().bin()).args(args);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let line = said.lines().find_map(|l| l.split_once("Maximum resident set size (kbytes): "));
    line.unwrap_or_else(|| panic!("{said}")).1.trim().parse().unwrap()
}

/// As many files as make a list of them show.
fn many(podman: &Podman) {
    const FILES: usize = 200_000;
    let name = unique("many");
    podman.run(&["--name", &name, IMAGE, "/bin/busybox", "sleep", "97803"]);
    podman.cli(&["exec", &name, "/bin/busybox", "mkdir", "/many"]);
    let before = peak(&["ls", "--disk", "--json"]);
    let dir = format!("{}/many", upper(podman, &name));
    let made = |at: usize| std::fs::write(Path::new(&dir).join(format!("file-{at:0>60}")), "");
    (0..FILES).for_each(|at| made(at).unwrap());
    let after = peak(&["ls", "--disk", "--json"]);
    // Their names alone are 13 MB.
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
    let document = usage();
    let id = podman.inspect(&name)["Id"].as_str().unwrap().to_owned();
    as_du_says(of_container(&document, &id));
    let last = format!("many/file-{:0>60}", FILES - 1);
    let run = path_of(&format!("{name}:/{last}")).expect_code(0);
    assert_eq!(run.stdout_str(), format!("{}/{last}\n", upper(podman, &name)));
    let told = whose().args(["--json", &format!("{dir}/file-{:0>60}", 7)]).run().json();
    let owner: &Value = &told["answers"][0]["owner"];
    assert_eq!(owner["name"], json!(name), "{told:#}");
}
