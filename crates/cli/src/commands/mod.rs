//! The subcommands: one file each.

mod annotate;
mod capture;
mod disk;
mod doctor;
mod exe;
mod listing;
mod ls;
mod maps;
mod path;
mod pids;
mod ps;
mod target;
mod tree;

use anyhow::Result;
use whose_core::index::Index;
use whose_core::model::Gap;
use whose_core::model::gap::what;
use whose_render::Header;

use crate::args::{Command, Ps, Typed};
use crate::exit::Usage;

/// Runs what was typed; the exit status.
///
/// # Errors
/// What ends the command before it can answer.
pub(crate) fn run(typed: Typed) -> Result<u8> {
    if typed.common.daemon && typed.common.root.is_some() {
        let why = "--daemon asks this host's daemons, and --root is about another tree";
        return Err(Usage(why.into()).into());
    }
    if typed.common.daemon && matches!(typed.command, Some(Command::Capture(_))) {
        let why = "--daemon and capture: what is saved are files, and no daemon's words";
        return Err(Usage(why.into()).into());
    }
    if typed.common.daemon && matches!(typed.command, Some(Command::Annotate(_))) {
        let why =
            "--daemon and annotate: it reads files for as long as it runs, and asks no daemon";
        return Err(Usage(why.into()).into());
    }
    match typed.command {
        Some(Command::Ps(args)) => ps::run(&typed.common, &args),
        Some(Command::Tree(args)) => tree::run(&typed.common, &args),
        Some(Command::Ls(args)) => ls::run(&typed.common, &args),
        Some(Command::Pids(args)) => pids::run(&typed.common, &args),
        Some(Command::Exe(args)) => exe::run(&typed.common, &args),
        Some(Command::Maps(args)) => maps::run(&typed.common, &args),
        Some(Command::Path(args)) => path::run(&typed.common, &args),
        Some(Command::Annotate(args)) => annotate::run(&typed.common, &args),
        Some(Command::Capture(args)) => capture::run(&typed.common, &args),
        Some(Command::Doctor) => doctor::run(&typed.common),
        None if typed.ask.targets.is_empty() && !typed.ask.in_container => {
            ps::run(&typed.common, &Ps::all(typed.ask.quiet))
        }
        None => target::run(&typed.common, &typed.ask),
    }
}

/// What every JSON document begins with.
fn header(index: &Index<'_>) -> Header {
    let host = index.host();
    Header { source: host.mode().name(), boot_id: host.boot_id().ok() }
}

/// Gaps about the whole host as JSON has them: a null boot id is one too.
fn document_gaps(index: &Index<'_>) -> Vec<Gap> {
    let mut gaps = index.host_gaps();
    gaps.extend(index.host().boot_id().err().map(|e| Gap::from_read(what::BOOT, &e)));
    gaps
}
