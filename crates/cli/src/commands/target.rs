//! `whose TARGET...`: one card a target.

use std::io::Write;

use anyhow::Result;
use whose_core::answer::{Answer, Detail, Layers, Status, answer};
use whose_core::index::Index;
use whose_core::model::{Gap, Owner, OwnerKind, Row};
use whose_fields::{Field, FieldId, Needs, Record};
use whose_render::text::sanitise;
use whose_render::{
    answer_document, answer_line, card, csv, summary, table, write_json, write_line,
};

use super::{document_gaps, header};
use crate::args::{Ask, Common, Format};
use crate::exit::{self, Usage, say, worst};
use crate::output::with_stdout;
use crate::settings::{self, Printing};

/// Seconds one command about targets may take.
const TIME: f64 = 2.0;

/// Columns of a table or CSV of bare targets.
const USUAL: [FieldId; 6] =
    [FieldId::Pid, FieldId::User, FieldId::State, FieldId::Owner, FieldId::Runtime, FieldId::Args];

/// What a card shows.
const CARD: Needs = Needs::STAT
    .and(Needs::STATUS)
    .and(Needs::CMDLINE)
    .and(Needs::WCHAN)
    .and(Needs::IDMAP)
    .and(Needs::LINKS)
    .and(Needs::OWNER)
    .and(Needs::ROLE)
    .and(Needs::EVIDENCE)
    .and(Needs::DESCRIBED)
    .and(Needs::LIVENESS);

/// What JSON tells.
const WHOLE: Needs = CARD.without(Needs::LINKS).and(Needs::IO).and(Needs::PIDNS);

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, ask: &Ask) -> Result<u8> {
    if ask.targets.is_empty() {
        return Err(Usage("--in-container needs a target".into()).into());
    }
    let printing = settings::printing(common);
    let fields = settings::columns(&common.columns, &USUAL)?;
    let targets = settings::targets(&ask.targets)?;
    let host = settings::host(common, TIME)?;
    let mut index = settings::index(common, &host, None);
    let columns = !common.columns.is_empty() || printing.format == Format::Csv;
    let detail = detail(ask, printing, &fields, columns);
    let mut answers: Vec<Answer> = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        if at + 1 == targets.len() {
            host.part_from_worker();
        }
        answers.push(answer(&mut index, target, detail));
    }
    print(&index, &answers, ask, printing, columns.then_some(fields.as_slice()))?;
    if ask.in_container {
        for answer in answers.iter().filter(|a| a.exit() != 0 && !ask.quiet) {
            complain(answer);
        }
        return Ok(worst(answers.iter().map(Answer::in_container_exit)));
    }
    let code = conclude(&index, &answers, printing);
    if !ask.quiet {
        return Ok(code);
    }
    let outside = answers.iter().filter(|a| a.exit() == 0 && !is_inside(a));
    let outside: Vec<u8> = outside.map(told_outside).collect();
    Ok(worst(outside.into_iter().chain([code])))
}

/// There is no id to print: says why, and gives the exit status.
fn told_outside(answer: &Answer) -> u8 {
    if answer.chain().iter().any(|o| o.kind == OwnerKind::Unknown) {
        say(&format!("{} is contained, but no known runtime claims it", answer.target));
        return exit::PARTIAL;
    }
    say(&format!("{} is in no container", answer.target));
    1
}

fn is_inside(answer: &Answer) -> bool {
    insiders(answer).next().is_some()
}

/// The container, or those that share a layer.
fn insiders(answer: &Answer) -> impl Iterator<Item = &Owner> {
    let several = answer.owners.iter().flatten().filter(|_| answer.owner().is_none());
    answer.owner().into_iter().chain(several).map(AsRef::as_ref).filter(is_named)
}

/// Whether it is named by an id of its own: of a pod that is the uid.
fn is_named(owner: &&Owner) -> bool {
    owner.kind.contains() || owner.kind == OwnerKind::Pod
}

fn detail(ask: &Ask, printing: Printing, fields: &[&'static Field], columns: bool) -> Detail {
    let owner = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
    if ask.in_container || ask.quiet {
        return Detail { needs: owner, processes: false, served_by: false, binary: None };
    }
    match printing.format {
        Format::Json | Format::Ndjson => {
            Detail { needs: WHOLE, processes: true, served_by: false, binary: Some(Layers::Whole) }
        }
        _ if columns => {
            let needs = fields.iter().fold(owner, |n, f| n.and(f.needs));
            Detail { needs, processes: true, served_by: false, binary: None }
        }
        _ => Detail { needs: CARD, processes: true, served_by: true, binary: Some(Layers::Place) },
    }
}

fn print(
    index: &Index<'_>,
    answers: &[Answer],
    ask: &Ask,
    printing: Printing,
    columns: Option<&[&'static Field]>,
) -> Result<()> {
    if ask.in_container {
        return Ok(());
    }
    let found = || {
        answers.iter().filter(|a| a.process.is_some() || a.owner().is_some() || a.file.is_some())
    };
    with_stdout(|out| match printing.format {
        _ if ask.quiet => found().try_for_each(|a| quiet(out, a, printing.terminal)),
        Format::Json => {
            write_json(out, &answer_document(&header(index), answers, &document_gaps(index)))
        }
        Format::Ndjson => answers.iter().try_for_each(|a| write_line(out, &answer_line(a))),
        format => {
            let Some(fields) = columns else {
                for (at, answer) in found().enumerate() {
                    if at > 0 {
                        writeln!(out)?;
                    }
                    card(out, answer, printing.table.style, ask.why)?;
                }
                return Ok(());
            };
            let rows: Vec<Row> = found().flat_map(Answer::rows).collect();
            let records: Vec<&dyn Record> = rows.iter().map(|r| r as &dyn Record).collect();
            if format == Format::Csv {
                csv(out, fields, &records, printing.table.no_headers)
            } else {
                table(out, fields, &records, printing.table)
            }
        }
    })
}

/// The full container id; nothing for what is in none.
fn quiet(out: &mut dyn Write, answer: &Answer, terminal: bool) -> std::io::Result<()> {
    for owner in insiders(answer) {
        // Some runtimes' ids are free text: a program gets the bytes, a terminal what is safe.
        if terminal {
            writeln!(out, "{}", sanitise(&owner.id))?;
        } else {
            out.write_all(&owner.id)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// One line a problem on stderr, with the candidates of an ambiguous target.
pub(crate) fn complain(answer: &Answer) {
    if let Some(message) = &answer.message {
        say(message);
    }
    for (target, word) in &answer.candidates {
        say(&format!("  {target}   {word}"));
    }
}

fn conclude(index: &Index<'_>, answers: &[Answer], printing: Printing) -> u8 {
    let mut codes: Vec<u8> = answers.iter().map(Answer::exit).collect();
    for answer in answers {
        complain(answer);
    }
    let explained = |a: &&Answer| a.message.is_some() && a.status != Status::Found;
    let host_gaps = index.host_gaps();
    let told = |g: &&Gap| answers.iter().filter(explained).any(|a| a.all_gaps().contains(g));
    let mut gaps: Vec<_> = host_gaps.iter().filter(|g| !told(g)).collect();
    for answer in answers.iter().filter(|a| !explained(a)) {
        gaps.extend(answer.all_gaps());
    }
    let any = answers.iter().any(|a| !a.all_gaps().is_empty()) || !host_gaps.is_empty();
    // One gap is told in full, several are counted.
    match gaps.as_slice() {
        [] => {}
        [gap] => say(&format!("not read: {gap}")),
        several => summary(several, 0).iter().for_each(|line| say(line)),
    }
    codes.extend((printing.strict && any).then_some(exit::PARTIAL));
    worst(codes)
}
