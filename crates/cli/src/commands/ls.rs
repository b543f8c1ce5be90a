//! `whose ls`: containers of every runtime and user.

use anyhow::Result;
use whose_core::answer::{Answer, containers};
use whose_core::index::Index;
use whose_core::index::containers::Containers;
use whose_core::index::plan::sort_records;
use whose_core::model::{Gap, TOTALS};
use whose_fields::{Field, FieldId, Needs, Record};
use whose_render::text::sanitise;
use whose_render::{
    container_line, containers_document, csv, gaps_line, summary, table, write_json, write_line,
};

use super::{document_gaps, header};
use crate::args::{Common, Format, Ls};
use crate::exit::{self, say, worst};
use crate::output::with_stdout;
use crate::progress::Progress;
use crate::settings::{self, Printing};

const USUAL: [FieldId; 7] = [
    FieldId::Chain,
    FieldId::Runtime,
    FieldId::Status,
    FieldId::Up,
    FieldId::Processes,
    FieldId::Image,
    FieldId::Id,
];

/// Seconds a list may take.
const TIME: f64 = 30.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &Ls) -> Result<u8> {
    if args.disk {
        return super::disk::run(common, args);
    }
    let printing = settings::printing(common);
    let fields = settings::columns(&common.columns, &USUAL)?;
    let sort = settings::sort_keys(&args.sort)?;
    let targets = settings::targets(&args.targets)?;
    let progress = Progress::new();
    let host = settings::host_with(common, TIME, progress.probe())?;
    let mut index = settings::index(common, &host, None);
    let json = matches!(printing.format, Format::Json | Format::Ndjson);
    let totals: Vec<FieldId> =
        fields.iter().map(|f| f.id).filter(|id| TOTALS.contains(id)).collect();
    // JSON has all of the owner, and of its processes the totals.
    let is_shown = |f: &&&Field| !args.quiet && (!json || totals.contains(&f.id));
    let shown = fields.iter().filter(is_shown).map(|f| f.needs);
    let needs = sort.iter().map(|k| k.field.field().needs).chain(shown);
    let whole = if json && !args.quiet { Needs::DESCRIBED } else { Needs::NONE };
    let needs = needs.fold(whole, Needs::and);
    let listed = containers(&mut index, &targets, args.all, needs);
    progress.clear();
    let (mut listing, problems) = listed?;
    sort_records(&mut listing.rows, &sort);
    listing.gaps.extend(match printing.format {
        Format::Json | Format::Ndjson => document_gaps(&index),
        Format::Table | Format::Csv => index.host_gaps(),
    });
    print(&index, &fields, &totals, &listing, printing, args.quiet)?;
    Ok(worst(say_missing(&listing.gaps, &problems, printing.strict)))
}

fn print(
    index: &Index<'_>,
    fields: &[&'static Field],
    totals: &[FieldId],
    listing: &Containers,
    printing: Printing,
    quiet: bool,
) -> Result<()> {
    let records = || listing.rows.iter().map(|r| r as &dyn Record).collect::<Vec<_>>();
    with_stdout(|out| match printing.format {
        Format::Table if quiet => listing.rows.iter().filter_map(|r| r.owner()).try_for_each(|o| {
            // Some runtimes' ids are free text: a program gets the bytes, a terminal what is safe.
            if printing.terminal {
                return writeln!(out, "{}", sanitise(&o.id));
            }
            out.write_all(&o.id)?;
            out.write_all(b"\n")
        }),
        Format::Table => table(out, fields, &records(), printing.table),
        Format::Csv => csv(out, fields, &records(), printing.table.no_headers),
        Format::Json => {
            let (rows, gaps) = (&listing.rows, &listing.gaps);
            write_json(out, &containers_document(&header(index), rows, totals, gaps))
        }
        Format::Ndjson => {
            write_line(out, &header(index).line())?;
            listing.rows.iter().try_for_each(|r| write_line(out, &container_line(r, totals)))?;
            gaps_line(&listing.gaps).map_or(Ok(()), |gaps| write_line(out, &gaps))
        }
    })
}

/// What is missing goes to stderr in one line; targets that lead nowhere get one each. The statuses that
/// come of it.
pub(super) fn say_missing(gaps: &[Gap], problems: &[Answer], strict: bool) -> Vec<u8> {
    for problem in problems {
        super::target::complain(problem);
    }
    let mut codes: Vec<u8> = problems.iter().map(Answer::exit).collect();
    if let Some(line) = summary(&gaps.iter().collect::<Vec<_>>(), 0) {
        say(&line);
        codes.extend(strict.then_some(exit::PARTIAL));
    }
    codes
}
