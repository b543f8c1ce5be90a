//! The examples of docs/profiling.md, as they stand there, on a program in a container.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is their report, stderr their log"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use whose_live_tests::{alone, unique, whose};
use whose_testkit::cases::Cases;
use whose_testkit::docker::{Docker, View};
use whose_testkit::{procfs, require};

const DOCUMENT: &str = include_str!("../../../docs/profiling.md");
const IMAGE: &str = "localhost/lab-profile:1";

/// Says where it is, and stays there.
const PROGRAM: &str = r#"
#include <stdio.h>
volatile unsigned long count;
__attribute__((noinline)) void spin_here(void) { for (;;) count++; }
int main(void) { printf("%lu\n", (unsigned long)spin_here); fflush(stdout); spin_here(); }
"#;

/// The shell's lines of the example with this word in it.
fn example(word: &str) -> &'static str {
    let mut blocks = DOCUMENT.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap());
    blocks.find(|block| block.contains(word)).unwrap()
}

/// Runs it as a user would, with what it needs to be told.
fn run(script: &str, dir: &Path, known: &[(&str, &str)]) -> String {
    let bin = whose();
    let bin = bin.bin().parent().unwrap().display();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(dir).env("PATH", path).envs(known.iter().copied());
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{script}\n{said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn compile(dir: &Path, name: &str, options: &[&str]) {
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    let source = dir.join("spin.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let to = dir.join("bin").join(name);
    let mut cc = Command::new("cc");
    let made = cc.args(["-O1", "-g"]).args(options).arg("-o").arg(&to).arg(&source).status();
    assert!(made.unwrap().success());
    std::fs::remove_file(source).unwrap();
}

#[test]
fn the_examples_of_the_document() {
    if !require(&["root", "docker", "cgroup-v2", "cc", "jq", "addr2line", "gdb"]) {
        return;
    }
    let _alone = alone();
    let docker = Docker::options(View::V2).start().unwrap_or_else(|e| panic!("{e}"));
    docker.layered_image_with(IMAGE, 2, |layer, dir| {
        if layer == 1 {
            compile(dir, "fixed", &["-static", "-no-pie"]);
            compile(dir, "moved", &["-static-pie"]);
        }
    });
    let mut cases = Cases::of("profiling");
    for program in ["fixed", "moved"] {
        cases.case(program, || {
            let name = unique(program);
            let words = ["--name", &name, IMAGE, "/bin/sh", "-c"];
            let script = format!("exec /bin/{program}");
            docker.run(&[&words[..], &[&script]].concat());
            let address = procfs::wait_for("its address", Duration::from_secs(20), || {
                let said = docker.cli(&["logs", &name]);
                said.trim().parse::<u64>().ok()
            });
            let dir = tempfile::tempdir().unwrap();
            let address = address.to_string();
            let known = [("container", name.as_str()), ("address", &address)];
            let told = run(example("addr2line"), dir.path(), &known);
            assert_eq!(told.lines().next(), Some("spin_here"), "{told}");
            let told = run(example("add-symbol-file"), dir.path(), &known);
            assert!(told.contains("<spin_here>") && told.contains("spin.c"), "{told}");
            docker.cli(&["rm", "-f", &name]);
        });
    }
    cases.finish();
}
