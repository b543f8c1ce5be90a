//! `whose path`: the host path of a file in a container, and what containers call a file of the host.

use std::io::Write;

use anyhow::Result;
use bstr::BString;
use whose_core::answer::{Answer, Detail, Inside, Layers, Status, answer, inside, path_inside};
use whose_core::index::Index;
use whose_core::model::Verified;
use whose_core::model::gap::first_of;
use whose_core::target::{Target, Typed};
use whose_fields::Needs;
use whose_render::text::sanitise;
use whose_render::{answer_document, answer_line, write_json, write_line};

use super::{document_gaps, header};
use crate::args::{Common, Format, PathArgs};
use crate::exit::{PARTIAL, Usage, say, worst};
use crate::output::with_stdout;
use crate::settings;

/// Seconds the command may take.
const TIME: f64 = 2.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &PathArgs) -> Result<u8> {
    let targets = settings::targets(&args.targets)?;
    let is_path = |t: &Typed| matches!(t.target, Target::Inside(_) | Target::Path(_));
    if let Some(other) = targets.iter().find(|t| !is_path(t)) {
        let text = sanitise(&other.text);
        let why = format!("{text}: no path: give CONTAINER:/PATH, PID:/PATH or a path of the host");
        return Err(Usage(why).into());
    }
    let printing = settings::printing(common);
    let host = settings::host(common, TIME)?;
    let mut index = settings::index(common, &host, None);
    let json = matches!(printing.format, Format::Json | Format::Ndjson);
    let layers = if json { Layers::Whole } else { Layers::None };
    let (mut answers, mut lines) = (Vec::with_capacity(targets.len()), Vec::new());
    for target in &targets {
        let (answer, found) = match target.target {
            Target::Path(_) => back(&mut index, target),
            _ => forward(&mut index, target, layers),
        };
        lines.extend(found);
        answers.push(answer);
    }
    with_stdout(|out| match printing.format {
        Format::Json => {
            write_json(out, &answer_document(&header(&index), &answers, &document_gaps(&index)))
        }
        Format::Ndjson => answers.iter().try_for_each(|a| write_line(out, &answer_line(a))),
        Format::Table | Format::Csv => print(out, &lines, args.null),
    })?;
    answers.iter().for_each(super::target::complain);
    let gaps = printing.strict && answers.iter().any(|a| !a.all_gaps().is_empty());
    let codes = answers.iter().map(|a| match a.status {
        // A gap in whose it is does not touch what was asked for.
        Status::Found => 0,
        _ => a.exit(),
    });
    Ok(worst(codes.chain(gaps.then_some(PARTIAL))))
}

/// The file on the host.
fn forward(index: &mut Index<'_>, target: &Typed, layers: Layers) -> (Answer, Vec<BString>) {
    let answer = path_inside(index, target, layers);
    let file = answer.file.as_ref();
    let path = file.and_then(|f| f.host.known().cloned());
    let text = sanitise(&target.text);
    match file.filter(|_| path.is_some()).map(|f| f.verified) {
        Some(Verified::Content) => {
            say(&format!("{text}: the same content, though not proven to be the file"));
        }
        Some(Verified::Layers) => say(&format!("{text}: it does not run: by its engine's state")),
        _ => {}
    }
    (answer, path.into_iter().collect())
}

/// What the containers that have it call it.
fn back(index: &mut Index<'_>, target: &Typed) -> (Answer, Vec<BString>) {
    let needs = Needs::OWNER.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
    let binary = Some(Layers::None);
    let detail = Detail { needs, processes: false, served_by: false, binary };
    let mut answer = answer(index, target, detail);
    if !matches!(answer.status, Status::Found | Status::Partial) {
        return (answer, Vec::new());
    }
    let (all, untold) = inside(index, &answer);
    if let Some(told) = first_of(&untold) {
        answer.status = Status::Partial;
        answer.message = Some(format!("{}: {told}", sanitise(&target.text)));
        answer.gaps.extend(untold);
    }
    let lines: Vec<BString> = all.iter().filter_map(|i| i.target()).collect();
    if lines.is_empty() && answer.status == Status::Found {
        answer.status = Status::NotFound;
        let name = |i: &Inside| sanitise(i.owner.best_name().unwrap_or(&i.owner.id));
        let names: Vec<String> = all.iter().map(name).collect();
        let text = sanitise(&target.text);
        answer.message = Some(match names.as_slice() {
            [] => format!("{text} is in no container, as far as is known"),
            names => format!("{text} is of {}, in no place that they show", names.join(", ")),
        });
    }
    (answer, lines)
}

/// One a line, nothing else: the exact bytes, for they are to be opened.
fn print(out: &mut dyn Write, lines: &[BString], null: bool) -> std::io::Result<()> {
    for line in lines {
        out.write_all(line)?;
        out.write_all(if null { b"\0" } else { b"\n" })?;
    }
    Ok(())
}
