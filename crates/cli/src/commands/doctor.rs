//! `whose doctor`: what can be read here, what can't, and what would fix it.

use anyhow::Result;
use whose_core::answer::doctor;
use whose_core::index::daemons::Ask;
use whose_render::{doctor as report, doctor_document, write_json, write_line};

use super::header;
use crate::args::{Common, Format};
use crate::exit::PARTIAL;
use crate::output::with_stdout;
use crate::progress::Progress;
use crate::settings;

/// Seconds the command may take.
const TIME: f64 = 30.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common) -> Result<u8> {
    let printing = settings::printing(common);
    let progress = Progress::new();
    let host = settings::host_with(common, TIME, progress.probe())?;
    let mut index = settings::index(common, &host, Some(Ask::Never));
    let found = doctor(&mut index);
    progress.clear();
    let found = found?;
    with_stdout(|out| match printing.format {
        Format::Json => write_json(out, &doctor_document(&header(&index), &found)),
        Format::Ndjson => write_line(out, &doctor_document(&header(&index), &found)),
        Format::Table | Format::Csv => report(out, &found, printing.table.style),
    })?;
    Ok(if printing.strict && !found.cannot.is_empty() { PARTIAL } else { 0 })
}
