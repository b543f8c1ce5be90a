//! `whose ps`: processes with their owners.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::Result;
use whose_core::answer::{Answer, list_each};
use whose_core::index::Index;
use whose_core::index::plan::Plan;
use whose_core::target::Typed;
use whose_fields::{Field, FieldId};
use whose_render::{Header, Listing, ListingFormat};

use super::{document_gaps, header, listing};
use crate::args::{Common, Format, Ps};
use crate::output::try_with_stdout;
use crate::settings::{self, Printing};

const USUAL: [FieldId; 7] = [
    FieldId::Pid,
    FieldId::User,
    FieldId::State,
    FieldId::Rss,
    FieldId::Elapsed,
    FieldId::Owner,
    FieldId::Args,
];

impl Ps {
    /// What `whose` alone means.
    pub(crate) fn all(quiet: bool) -> Self {
        Self {
            targets: Vec::new(),
            user: Vec::new(),
            container: Vec::new(),
            host_only: false,
            containers_only: false,
            sort: Vec::new(),
            quiet,
            kernel: false,
            every: 0,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &Ps) -> Result<u8> {
    let printing = settings::printing(common);
    let fields = settings::columns(&common.columns, &USUAL)?;
    let targets = listing::targets(args)?;
    let sort = settings::sort_keys(&args.sort)?;
    let host = settings::host(common, listing::TIME)?;
    let fields = if args.quiet { vec![FieldId::Pid.field()] } else { fields };
    let plan = listing::plan(&host, args, &fields, sort, !targets.is_empty())?;
    let mut index = settings::index(common, &host, None);
    let (summary, problems) = print(&mut index, &targets, &plan, &fields, printing, args.quiet)?;
    Ok(listing::conclude(summary, &problems, printing.strict))
}

/// Writes the rows as they come; what is missing in one line, and the answers of targets that lead
/// nowhere.
fn print(
    index: &mut Index<'_>,
    targets: &[Typed],
    plan: &Plan,
    fields: &[&'static Field],
    printing: Printing,
    quiet: bool,
) -> Result<(Option<String>, Vec<Answer>)> {
    let header = header(index);
    let mut end = (None, Vec::new());
    try_with_stdout(|out| {
        // Nothing is written before the first row: until then it may turn out that nothing can be.
        let begin = |out: &mut dyn Write| {
            Listing::begin(out, fields, format(header.clone(), printing, quiet))
        };
        let mut listing: Option<Listing> = None;
        let mut failed: Option<io::Error> = None;
        let (scanned, problems) = list_each(index, targets, plan, &mut |row| {
            let begun = match listing.take() {
                Some(listing) => Ok(listing),
                None => begin(out),
            };
            let written = begun.and_then(|mut begun| {
                begun.row(out, &row)?;
                Ok(begun)
            });
            match written {
                Ok(begun) => {
                    listing = Some(begun);
                    ControlFlow::Continue(())
                }
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        let mut listing = listing.map_or_else(|| begin(out), Ok)?;
        let of_host = match printing.format {
            Format::Json | Format::Ndjson => document_gaps(index),
            Format::Table | Format::Csv => index.host_gaps(),
        };
        scanned.gaps.iter().chain(&of_host).for_each(|gap| listing.gap(gap));
        end = (listing.end(out, scanned.undecided)?, problems);
        Ok(())
    })?;
    Ok(end)
}

fn format(header: Header, printing: Printing, quiet: bool) -> ListingFormat {
    match printing.format {
        Format::Table if quiet => ListingFormat::Pids,
        Format::Table => ListingFormat::Table(printing.table),
        Format::Csv => ListingFormat::Csv { has_header: !printing.table.no_headers },
        Format::Json => ListingFormat::Json(header),
        Format::Ndjson => ListingFormat::Ndjson(header),
    }
}
