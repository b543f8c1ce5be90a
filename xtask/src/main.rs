//! Chores of the project, see [`USAGE`].
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to the person who started it"
)]

mod bench;
mod bpf;
mod build;
mod fuzz;
mod hostpath;
mod order;
mod rig;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask tidy
       cargo xtask fuzz [TARGET...] [--seconds N] [--jobs N]
       cargo xtask hostpath [--count N] [--seed S] [--only K] [--stop-at-first]
                            [--keep] [--self-check] [--as-it-builds]
                            [--timeout SECONDS] [--whose PROGRAM]
       cargo xtask vm [5.10|6.1|backport...] [--stacks N] [--update]
                      [--output DIR]
       cargo xtask bpf [--check]
       cargo xtask order [--whose PROGRAM]
       cargo xtask rig [--processes N] [--containers N] [--names]
                       [--data-root DIR] [--hierarchies all|v2]
                       [--for SECONDS] [-- COMMAND...]
       cargo xtask bench [--processes N[,N...]] [--quick] [--only JOB]
                         [--whose PROGRAM]

tidy      checks the house rules that neither rustc nor clippy know
fuzz      builds the fuzz targets with coverage on stable Rust and runs them,
          10 seconds each unless told; crashes go to fuzz/crashes/TARGET/
hostpath  judges what `whose exe` says of programs on random overlay stacks, by
          what they find in their memory
vm        judges `whose exe` on the older kernels that Debian packages, in
          emulated machines; the results are kept in docs/kernels
bpf       builds the object of the kernel's task iterator, with clang-14;
          --check compares it with the one in the tree
order     lists the functions that short commands run, for the linker
rig       a host to measure on: 10,000 processes in 500 containers unless told,
          in real cgroups with Docker's paths; --names gives the containers
          names, by state files in a private data root or in DIR, which is made
          for them; --hierarchies v2 leaves cgroup v1 alone. It stands until
          Ctrl-C, SECONDS or the end of COMMAND
bench     stands rigs and measures `whose` beside what one would run otherwise;
          a whole run is written to benches/runs/. JOB is ps, card, pids, exe or
          growth; --quick runs each a few times";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", [].as_slice()),
    };
    let done = match command {
        "tidy" if rest.is_empty() => project().and_then(|root| tidy::run(&root)),
        "fuzz" => project().and_then(|root| fuzz::run(&root, rest)),
        "bench" => project().and_then(|root| bench::run(&root, rest)),
        "rig" => rig::run(rest),
        "order" => project().and_then(|root| order::run(&root, rest)),
        "bpf" => project().and_then(|root| bpf::run(&root, rest)),
        "hostpath" => project().and_then(|root| hostpath::run(&root, rest)),
        "vm" => project().and_then(|root| vm::run(&root, rest)),
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
