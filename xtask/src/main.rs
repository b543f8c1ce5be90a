//! Chores of the project: `cargo xtask tidy`, `cargo xtask fuzz`, `cargo xtask hostpath` and
//! `cargo xtask bpf`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to the person who started it"
)]

mod bpf;
mod fuzz;
mod hostpath;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask tidy
       cargo xtask fuzz [TARGET...] [--seconds N] [--jobs N]
       cargo xtask hostpath [--count N] [--seed S] [--only K] [--stop-at-first]
                            [--keep] [--self-check] [--whose PROGRAM]
       cargo xtask bpf [--check]

tidy      checks the house rules that neither rustc nor clippy know
fuzz      builds the fuzz targets with coverage on stable Rust and runs them,
          10 seconds each unless told; crashes go to fuzz/crashes/TARGET/
hostpath  builds random overlay stacks with running programs and judges what
          `whose exe` says of each, by what the program finds in its memory
bpf       builds the object of the kernel's task iterator, with clang-14;
          --check compares it with the one in the tree";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", [].as_slice()),
    };
    let done = match command {
        "tidy" if rest.is_empty() => project().and_then(|root| tidy::run(&root)),
        "fuzz" => project().and_then(|root| fuzz::run(&root, rest)),
        "bpf" => project().and_then(|root| bpf::run(&root, rest)),
        "hostpath" => project().and_then(|root| hostpath::run(&root, rest)),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root. Cargo says at run time where xtask lies, so a
/// cached binary still serves a clone that has moved.
fn project() -> Result<PathBuf> {
    let own = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")),
    };
    own.parent().map(Path::to_path_buf).context("xtask lies in no workspace")
}
