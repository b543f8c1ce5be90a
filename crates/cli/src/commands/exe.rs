//! `whose exe`: the host path of the binary that really runs, or nothing.

use std::io::Write;

use anyhow::Result;
use whose_core::answer::{Answer, Layers, Status, exe, exe_path};
use whose_core::model::Verified;
use whose_render::{answer_document, answer_line, write_json, write_line};

use super::{document_gaps, header};
use crate::args::{Common, ExeArgs, Format};
use crate::exit::{PARTIAL, say, worst};
use crate::output::with_stdout;
use crate::settings;

/// Seconds the command may take.
const TIME: f64 = 2.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &ExeArgs) -> Result<u8> {
    let targets = settings::targets(&args.targets)?;
    let printing = settings::printing(common);
    let host = settings::host(common, TIME)?;
    let mut index = settings::index(common, &host, None);
    let layers = match printing.format {
        Format::Json | Format::Ndjson => Layers::Whole,
        Format::Table | Format::Csv => Layers::None,
    };
    let mut answers: Vec<Answer> = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        // The file is only read for its hash once the look at the process is over.
        if at + 1 == targets.len() && !args.hash {
            host.part_from_worker();
        }
        // Gaps count with --strict: then all is read that may have some.
        answers.push(match layers {
            Layers::None if !printing.strict => exe_path(&mut index, target, args.hash),
            layers => exe(&mut index, target, args.hash, layers),
        });
    }
    with_stdout(|out| match printing.format {
        Format::Json => {
            write_json(out, &answer_document(&header(&index), &answers, &document_gaps(&index)))
        }
        Format::Ndjson => answers.iter().try_for_each(|a| write_line(out, &answer_line(a))),
        Format::Table | Format::Csv => paths(out, &answers, args),
    })?;
    for answer in &answers {
        super::target::complain(answer);
        let binary = answer.binary.as_ref();
        if let Some(file) = binary.filter(|f| f.verified == Verified::Content) {
            let pid = answer.process.as_ref().map_or(0, |r| r.process.pid);
            let inside = file.inside.as_ref().map(|i| whose_render::text::sanitise(i));
            let inside = inside.unwrap_or_default();
            say(&format!("{pid}: the same content as {inside}, though not proven to be the file"));
        }
    }
    let gaps = printing.strict && answers.iter().any(|a| !a.all_gaps().is_empty());
    let codes = answers.iter().map(|a| match a.status {
        // A gap in whose it is does not touch what was asked for.
        Status::Found => 0,
        _ => a.exit(),
    });
    Ok(worst(codes.chain(gaps.then_some(PARTIAL))))
}

/// One path a line, nothing else: the exact bytes, for they are to be opened.
fn paths(out: &mut dyn Write, answers: &[Answer], args: &ExeArgs) -> std::io::Result<()> {
    for file in answers.iter().filter_map(|a| a.binary.as_ref()) {
        let Some(path) = file.host.known() else { continue };
        if args.hash {
            let hash = file.sha256.known().map_or("-", String::as_str);
            let build_id = file.build_id.known().map_or("-", String::as_str);
            write!(out, "{hash}  {build_id}  ")?;
        }
        out.write_all(path)?;
        out.write_all(if args.null { b"\0" } else { b"\n" })?;
    }
    Ok(())
}
