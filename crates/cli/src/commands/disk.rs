//! `whose ls --disk`: who fills the disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use whose_core::answer::{Answer, disk};
use whose_core::index::Index;
use whose_core::index::disk::DiskUsage;
use whose_core::index::plan::sort_records;
use whose_core::model::Gap;
use whose_core::model::gap::{Class, what};
use whose_fields::{Field, FieldId, Needs, Record};
use whose_kernel::own::ignored_signals;
use whose_render::{csv, gaps_line, table, usage_document, usage_line, write_json, write_line};

use super::ls::say_missing;
use super::{document_gaps, header};
use crate::args::{Common, Format, Ls};
use crate::exit::{self, say, worst};
use crate::output::with_stdout;
use crate::progress::Progress;
use crate::settings::{self, Printing};

const USUAL: [FieldId; 7] = [
    FieldId::Disk,
    FieldId::DiskLayer,
    FieldId::DiskLog,
    FieldId::DiskVolumes,
    FieldId::DiskDeleted,
    FieldId::DiskKind,
    FieldId::DiskWhat,
];

/// Seconds it may take: disks are slow, and what was counted until Ctrl-C is told.
const TIME: f64 = 3600.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(super) fn run(common: &Common, args: &Ls) -> Result<u8> {
    let printing = settings::printing(common);
    let fields = settings::columns(&common.columns, &USUAL)?;
    let sort = settings::sort_keys(&args.sort)?;
    let targets = settings::targets(&args.targets)?;
    let interrupted = interruption()?;
    let progress = Progress::new();
    let host = settings::host_with(common, TIME, progress.probe())?;
    let mut index = settings::index(common, &host, None);
    let shown = fields.iter().map(|f| f.needs);
    let needs = sort.iter().map(|k| k.field.field().needs).chain(shown);
    let needs = needs.fold(Needs::NONE, Needs::and);
    let mut say_counted = progress.counted();
    let counted = disk(&mut index, &targets, needs, &mut |at| {
        say_counted(at);
        !interrupted.load(Ordering::Relaxed)
    });
    progress.clear();
    let (mut usage, problems) = counted?;
    if !sort.is_empty() {
        sort_records(&mut usage.rows, &sort);
    }
    let mut gaps = std::mem::take(&mut usage.gaps);
    gaps.extend(match printing.format {
        Format::Json | Format::Ndjson => document_gaps(&index),
        Format::Table | Format::Csv => index.host_gaps(),
    });
    print(&index, &fields, &usage, &gaps, printing)?;
    Ok(conclude(&usage, &gaps, &problems, printing))
}

/// Whether Ctrl-C was typed: once for what was counted by then, twice to end it. Who was told to ignore it,
/// as by nohup, ignores it still.
fn interruption() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    if ignored_signals() & (1 << (SIGINT - 1)) != 0 {
        return Ok(interrupted);
    }
    flag::register_conditional_default(SIGINT, Arc::clone(&interrupted))?;
    flag::register(SIGINT, Arc::clone(&interrupted))?;
    Ok(interrupted)
}

fn print(
    index: &Index<'_>,
    fields: &[&'static Field],
    usage: &DiskUsage,
    gaps: &[Gap],
    printing: Printing,
) -> Result<()> {
    let records = || usage.rows.iter().map(|r| r as &dyn Record).collect::<Vec<_>>();
    with_stdout(|out| match printing.format {
        Format::Table => table(out, fields, &records(), printing.table),
        Format::Csv => csv(out, fields, &records(), printing.table.no_headers),
        Format::Json => write_json(out, &usage_document(&header(index), usage, gaps)),
        Format::Ndjson => {
            write_line(out, &header(index).line())?;
            usage.rows.iter().try_for_each(|row| write_line(out, &usage_line(row)))?;
            gaps_line(gaps).map_or(Ok(()), |gaps| write_line(out, &gaps))
        }
    })
}

/// What the figures mean and what is missing goes to stderr.
fn conclude(usage: &DiskUsage, gaps: &[Gap], problems: &[Answer], printing: Printing) -> u8 {
    if printing.format == Format::Table && !printing.table.no_headers {
        usage.notes.iter().for_each(|note| say(note));
    }
    let mut codes = say_missing(gaps, problems, printing.strict);
    if usage.is_stopped {
        let is_why = |gap: &&Gap| gap.what == what::DISK && gap.class == Class::TimedOut;
        gaps.iter().rev().find(is_why).into_iter().for_each(|gap| say(&gap.cause));
        codes.push(exit::PARTIAL);
    }
    worst(codes)
}
