//! `whose tree`: processes below their owners and their parents.

use anyhow::Result;
use whose_core::answer::tree::{Branch, Tree, tree};
use whose_core::index::Index;
use whose_core::index::scan::Listing;
use whose_core::model::Row;
use whose_fields::{Field, FieldId, Needs, Record};
use whose_render::{
    Placed, TreeOptions, csv, listing_header, listing_trailer, summary, tree as draw,
    tree_document, tree_line, write_json, write_line,
};

use super::{document_gaps, header, listing};
use crate::args::{Common, Format, TreeArgs};
use crate::output::with_stdout;
use crate::settings::{self, Printing};

const USUAL: [FieldId; 6] =
    [FieldId::Pid, FieldId::User, FieldId::State, FieldId::Rss, FieldId::Elapsed, FieldId::Args];

/// What makes a tree of lines without lines to see.
const FLAT: [FieldId; 2] = [FieldId::Depth, FieldId::Chain];

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &TreeArgs) -> Result<u8> {
    let printing = settings::printing(common);
    let fields = fields(common, args, printing)?;
    let targets = listing::targets(&args.list)?;
    let sort = settings::sort_keys(&args.list.sort)?;
    let host = settings::host(common, listing::TIME)?;
    let mut plan = listing::plan(&host, &args.list, &fields, sort, !targets.is_empty())?;
    plan.also = Needs::STAT.and(FieldId::Owner.field().needs).and(FieldId::Image.field().needs);
    let mut index = settings::index(common, &host, None);
    let (mut listed, tree, problems) = tree(&mut index, &targets, &plan)?;
    listed.gaps.extend(match printing.format {
        Format::Json | Format::Ndjson => document_gaps(&index),
        Format::Table | Format::Csv => index.host_gaps(),
    });
    print(&index, &fields, &listed, &tree, printing, args)?;
    let gaps: Vec<_> = listed.gaps.iter().chain(listed.rows.iter().flat_map(Row::gaps)).collect();
    Ok(listing::conclude(summary(&gaps, listed.undecided), &problems, printing.strict))
}

fn fields(common: &Common, args: &TreeArgs, printing: Printing) -> Result<Vec<&'static Field>> {
    if args.list.quiet {
        return Ok(vec![FieldId::Pid.field()]);
    }
    let flat: Vec<FieldId> = FLAT.into_iter().chain(USUAL).collect();
    let usual = if printing.format == Format::Csv { flat.as_slice() } else { &USUAL };
    let mut fields = settings::columns(&common.columns, usual)?;
    // The tree itself is of commands or names.
    let is_drawn = |f: &&Field| matches!(f.id, FieldId::Args | FieldId::Comm);
    if printing.format == Format::Table && !fields.iter().any(is_drawn) {
        fields.push(FieldId::Comm.field());
    }
    Ok(fields)
}

fn print(
    index: &Index<'_>,
    fields: &[&'static Field],
    listing: &Listing,
    tree: &Tree,
    printing: Printing,
    args: &TreeArgs,
) -> Result<()> {
    let branches: &[Branch] = &tree.branches;
    let placed = || Placed::of(&listing.rows, branches);
    with_stdout(|out| match printing.format {
        Format::Table if args.list.quiet => {
            placed().iter().try_for_each(|p| writeln!(out, "{}", p.row().process.pid))
        }
        Format::Table => {
            let ascii = args.ascii || !settings::is_utf8();
            draw(out, fields, &listing.rows, branches, TreeOptions { table: printing.table, ascii })
        }
        Format::Csv => {
            let placed = placed();
            let records: Vec<&dyn Record> = placed.iter().map(|p| p as &dyn Record).collect();
            csv(out, fields, &records, printing.table.no_headers)
        }
        Format::Json => write_json(out, &tree_document(&header(index), fields, listing, branches)),
        Format::Ndjson => {
            write_line(out, &listing_header(&header(index), fields))?;
            branches.iter().try_for_each(|b| write_line(out, &tree_line(fields, listing, b)))?;
            listing_trailer(listing).map_or(Ok(()), |gaps| write_line(out, &gaps))
        }
    })
}
