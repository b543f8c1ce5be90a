//! Runs the binary under strace.

use crate::whose;
use std::path::Path;
use whose_testkit::harness::{Run, Whose};
use whose_testkit::trace::{Call, leaves, not_examining, not_read_only, parse, writes_outside};

/// Runs `whose ARGS` under strace and returns all its system calls.
///
/// # Panics
/// When the exit code is another than `code`.
#[must_use]
#[track_caller]
pub fn calls(args: &[&str], code: i32) -> Vec<Call> {
    calls_with(args, &[code])
}

#[track_caller]
fn calls_with(args: &[&str], codes: &[i32]) -> Vec<Call> {
    let (run, calls) = traced(&whose(), args);
    let expected = run.code.is_some_and(|code| codes.contains(&code));
    assert!(expected, "expected one of the exit codes {codes:?}\n{}", run.story());
    calls
}

/// Runs `whose ARGS` under strace, however it ends: the run and all its system calls.
///
/// # Panics
/// When nothing was traced.
#[must_use]
#[track_caller]
pub fn traced(whose: &Whose, args: &[&str]) -> (Run, Vec<Call>) {
    let dir = tempfile::tempdir().expect("a directory for the trace");
    let file = dir.path().join("trace");
    let whose = whose.clone().via(["strace", "-f", "-qq", "-y", "-s", "4096", "-o"]);
    let run = whose.via([&file]).args(args).run();
    let text = std::fs::read(&file).unwrap_or_default();
    let calls = parse(&String::from_utf8_lossy(&text));
    assert!(!calls.is_empty(), "strace wrote nothing\n{}", run.story());
    (run, calls)
}

/// `whose ARGS` must only read.
///
/// # Panics
/// When it does more, naming each system call.
#[track_caller]
pub fn only_reads(args: &[&str], code: i32) {
    let wrong = not_read_only(&calls(args, code));
    assert!(
        wrong.is_empty(),
        "whose {} does more than read:\n{}",
        args.join(" "),
        wrong.join("\n")
    );
}

/// `whose ARGS` must only examine files, and open none below `fuse` for more than its path.
///
/// # Panics
/// When it does more, naming each system call.
#[track_caller]
pub fn only_examines(args: &[&str], codes: &[i32], fuse: Option<&Path>) {
    let wrong = not_examining(&calls_with(args, codes), fuse);
    assert!(
        wrong.is_empty(),
        "whose {} does more than examine:\n{}",
        args.join(" "),
        wrong.join("\n")
    );
}

/// `whose --root DIR ARGS` must only read, and nothing outside DIR once it has begun there.
///
/// # Panics
/// When it does more, naming each system call.
#[track_caller]
pub fn stays_in(dir: &Path, args: &[&str], code: i32) {
    let root = dir.to_str().expect("a path that is text");
    let calls = calls(&[&["--root", root], args].concat(), code);
    let mut wrong = not_read_only(&calls);
    wrong.extend(leaves(&calls, dir));
    assert!(
        wrong.is_empty(),
        "whose --root DIR {} does more than read below DIR:\n{}",
        args.join(" "),
        wrong.join("\n")
    );
}

/// `whose ARGS` must only examine files, and write nothing outside `dir`.
///
/// # Panics
/// When it does more, naming each system call.
#[track_caller]
pub fn writes_only_to(dir: &Path, args: &[&str], codes: &[i32]) {
    let wrong = writes_outside(&calls_with(args, codes), dir);
    assert!(
        wrong.is_empty(),
        "whose {} does more than write to {}:\n{}",
        args.join(" "),
        dir.display(),
        wrong.join("\n")
    );
}
