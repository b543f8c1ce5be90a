//! `whose maps`: the host path of every file that a process maps.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use whose_core::answer::{Layers, Maps, maps};
use whose_render::{maps_document, maps_lines, write_json, write_line};

use super::{document_gaps, header};
use crate::args::{Common, Format, MapsArgs};
use crate::exit::{PARTIAL, Usage, say, worst};
use crate::output::with_stdout;
use crate::settings;

/// Seconds the command may take: a process may map hundreds of files.
const TIME: f64 = 10.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &MapsArgs) -> Result<u8> {
    let targets = settings::targets(std::slice::from_ref(&args.target))?;
    let [target] = targets.as_slice() else {
        return Err(Usage("one target at a time: a PID or a container".into()).into());
    };
    let printing = settings::printing(common);
    let host = settings::host(common, TIME)?;
    let mut index = settings::index(common, &host, None);
    let json = matches!(printing.format, Format::Json | Format::Ndjson) && !args.quiet;
    let told = maps(&mut index, target, if json { Layers::Whole } else { Layers::None });
    with_stdout(|out| match printing.format {
        _ if args.quiet => files(out, &told, args.null),
        Format::Json => {
            write_json(out, &maps_document(&header(&index), &told, &document_gaps(&index)))
        }
        Format::Ndjson => {
            let lines = maps_lines(&header(&index), &told, &document_gaps(&index));
            lines.iter().try_for_each(|line| write_line(out, line))
        }
        Format::Table | Format::Csv => whose_render::maps(out, &told, printing.table.no_headers),
    })?;
    super::target::complain(&told.answer);
    if told.is_partial() {
        let unread = told.all_gaps();
        let first = unread.iter().find(|gap| told.maps.iter().any(|m| is_of(m, gap)));
        let why = first.map(|gap| format!(": {}", gap.cause)).unwrap_or_default();
        say(&format!("{}: not every path is proven{why}", told.answer.target));
    }
    let gaps = printing.strict && !told.all_gaps().is_empty();
    let partial = (gaps || told.is_partial()).then_some(PARTIAL);
    Ok(worst([told.answer.exit()].into_iter().chain(partial)))
}

fn is_of(mapped: &whose_core::answer::Mapped, gap: &whose_core::model::Gap) -> bool {
    mapped.file.as_ref().is_some_and(|file| file.host.gap() == Some(gap))
}

/// Each path once, in order: the exact bytes, for they are to be opened.
fn files(out: &mut dyn Write, told: &Maps, null: bool) -> std::io::Result<()> {
    let known = told.maps.iter().filter_map(|m| m.file.as_ref()?.host.known());
    for path in known.collect::<BTreeSet<_>>() {
        out.write_all(path)?;
        out.write_all(if null { b"\0" } else { b"\n" })?;
    }
    Ok(())
}
