//! The `whose` command: whose process is this?
#![cfg_attr(not(test), no_main)]

mod args;
mod commands;
mod config;
mod exit;
mod output;
mod progress;
mod settings;

use std::ffi::OsString;

#[cfg(not(test))]
whose_kernel::start_at!(run);

/// Unit tests have a start of their own.
#[cfg(test)]
fn main() {
    run(std::env::args_os().collect());
}

/// Runs the command that was typed. Returns the exit status.
fn run(typed: Vec<OsString>) -> u8 {
    let typed = match args::parse(typed) {
        Ok(typed) => typed,
        Err(error) => {
            // clap writes help to stdout and errors to stderr, and knows about closed pipes.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
        }
    };
    match commands::run(typed) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
