//! The `whose` command: whose process is this?

mod args;
mod commands;
mod config;
mod exit;
mod output;
mod progress;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    let typed = match args::parse(std::env::args_os()) {
        Ok(typed) => typed,
        Err(error) => {
            // clap writes help to stdout and errors to stderr, and knows about closed pipes.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    match commands::run(typed) {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::report(&error),
    }
}
