//! `whose ps`: processes with their owners.

use anyhow::Result;
use whose_core::answer::{Answer, list};
use whose_core::index::Index;
use whose_core::index::plan::{Filter, Plan, SortKey};
use whose_core::index::scan::Listing;
use whose_core::model::Row;
use whose_core::target::{Target, Typed, container};
use whose_fields::{Field, FieldId, Needs, Record};
use whose_kernel::Host;
use whose_render::{
    csv, listing_document, listing_header, listing_row, listing_trailer, summary, table,
    write_json, write_line,
};

use super::{document_gaps, header};
use crate::args::{Common, Format, Ps};
use crate::exit::{self, Usage, say, worst};
use crate::output::with_stdout;
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

/// Seconds a list may take.
const TIME: f64 = 30.0;

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
    let mut targets = settings::targets(&args.targets)?;
    targets.extend(args.container.iter().map(forced_container));
    let sort = settings::sort_keys(&args.sort)?;
    let host = settings::host(common, TIME)?;
    let fields = if args.quiet { vec![FieldId::Pid.field()] } else { fields };
    let plan = plan(&host, args, &fields, sort, !targets.is_empty())?;
    let mut index = Index::new(&host);
    let (mut listing, problems) = list(&mut index, &targets, &plan)?;
    listing.gaps.extend(match printing.format {
        Format::Json | Format::Ndjson => document_gaps(&index),
        Format::Table | Format::Csv => index.host_gaps(),
    });
    print(&index, &fields, &listing, printing, args.quiet)?;
    Ok(conclude(&listing, &problems, printing.strict))
}

fn forced_container(word: &std::ffi::OsString) -> Typed {
    use std::os::unix::ffi::OsStrExt;
    let text = bstr::BStr::new(word.as_bytes());
    Typed { text: text.into(), target: Target::Container(container::short(text)) }
}

fn plan(
    host: &Host,
    args: &Ps,
    fields: &[&'static Field],
    sort: Vec<SortKey>,
    targeted: bool,
) -> Result<Plan> {
    let mut filters = Vec::new();
    if !args.kernel && !targeted {
        filters.push(Filter::NoKernelThreads);
    }
    if !args.user.is_empty() {
        let uid = |name: &String| {
            let number = name.parse().ok();
            let uid = host.uid_of(name.as_bytes()).or(number);
            uid.ok_or_else(|| Usage(format!("no user {name} in {}", host.shown(b"etc/passwd"))))
        };
        let uids: Result<Vec<u32>, Usage> = args.user.iter().map(uid).collect();
        filters.push(Filter::Uids(uids?));
    }
    if args.host_only {
        filters.push(Filter::HostOnly);
    }
    if args.containers_only {
        filters.push(Filter::ContainersOnly);
    }
    let columns = fields.iter().map(|f| f.id).collect();
    Ok(Plan { columns, sort, filters, also: Needs::STAT })
}

fn print(
    index: &Index<'_>,
    fields: &[&'static Field],
    listing: &Listing,
    printing: Printing,
    quiet: bool,
) -> Result<()> {
    let records = || listing.rows.iter().map(|r| r as &dyn Record).collect::<Vec<_>>();
    with_stdout(|out| match printing.format {
        Format::Table if quiet => {
            listing.rows.iter().try_for_each(|row| writeln!(out, "{}", row.process.pid))
        }
        Format::Table => table(out, fields, &records(), printing.table),
        Format::Csv => csv(out, fields, &records(), printing.table.no_headers),
        Format::Json => write_json(out, &listing_document(&header(index), fields, listing)),
        Format::Ndjson => {
            write_line(out, &listing_header(&header(index), fields))?;
            listing.rows.iter().try_for_each(|r| write_line(out, &listing_row(fields, r)))?;
            listing_trailer(listing).map_or(Ok(()), |gaps| write_line(out, &gaps))
        }
    })
}

/// What is missing goes to stderr in one line; targets that lead nowhere get one each.
fn conclude(listing: &Listing, problems: &[Answer], strict: bool) -> u8 {
    let gaps: Vec<_> = listing.gaps.iter().chain(listing.rows.iter().flat_map(Row::gaps)).collect();
    let summary = summary(&gaps, listing.undecided);
    for message in problems.iter().filter_map(|p| p.message.as_ref()) {
        say(message);
    }
    let mut codes: Vec<u8> = problems.iter().map(Answer::exit).collect();
    if let Some(line) = summary {
        say(&line);
        codes.extend(strict.then_some(exit::PARTIAL));
    }
    worst(codes)
}
