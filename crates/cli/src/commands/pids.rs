//! `whose pids`: host PIDs for scripts, all of them or none.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use whose_core::answer::{Answer, PidsOptions, Status, pids};

use crate::args::{Common, Format, PidsArgs};
use crate::exit::{say, worst};
use crate::output::with_stdout;
use crate::settings;

/// Seconds one target may take.
const TIME: f64 = 2.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &PidsArgs) -> Result<u8> {
    let targets = settings::targets(&args.targets)?;
    let printing = settings::printing(common);
    let usual = if args.strays { 30.0 } else { TIME };
    let host = settings::host(common, usual)?;
    let mut index = settings::index(common, &host, None);
    let options = PidsOptions { direct: args.direct, strays: args.strays };
    let mut found: Vec<u32> = Vec::new();
    let mut answers: Vec<Answer> = Vec::new();
    for target in &targets {
        let pids = pids(&mut index, target, options);
        found.extend(pids.pids);
        answers.push(pids.answer);
    }
    found.sort_unstable();
    found.dedup();
    // All that the host has of a container may be what runs its sandbox.
    for answer in answers.iter().filter(|a| a.exit() != 0 || a.message.is_some()) {
        super::target::complain(answer);
    }
    let complete = answers.iter().all(|a| a.status == Status::Found);
    if complete || args.partial {
        let delimiter = args.delimiter.as_ref().map(|d| d.as_bytes());
        let json = matches!(printing.format, Format::Json | Format::Ndjson);
        with_stdout(|out| print(out, &found, if json { Some(b",") } else { delimiter }, json))?;
    } else if !found.is_empty() {
        say("nothing printed, since the list is not complete (--partial prints what there is)");
    }
    Ok(worst(answers.iter().map(Answer::exit)))
}

fn print(
    out: &mut dyn Write,
    pids: &[u32],
    delimiter: Option<&[u8]>,
    json: bool,
) -> std::io::Result<()> {
    if json {
        out.write_all(b"[")?;
    }
    let between = delimiter.unwrap_or(b"\n");
    for (at, pid) in pids.iter().enumerate() {
        if at > 0 {
            out.write_all(between)?;
        }
        write!(out, "{pid}")?;
    }
    if json {
        out.write_all(b"]")?;
    }
    if pids.is_empty() && !json { Ok(()) } else { out.write_all(b"\n") }
}
