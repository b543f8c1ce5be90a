//! `whose capture DIR`: saves the facts behind answers.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use anyhow::Result;
use bstr::BStr;
use whose_core::answer::{Answer, Captured, capture};
use whose_core::index::Index;
use whose_core::model::Gap;
use whose_core::state::{facts, manifest, redact};
use whose_kernel::capture::{Recorder, Totals};
use whose_kernel::{Class, Mode, ReadError};
use whose_render::{capture_document, file_json, gap_json, summary, text, write_json, write_line};

use super::{document_gaps, header};
use crate::args::{CaptureArgs, Common, Format};
use crate::exit::{self, Usage, say, worst};
use crate::output::with_stdout;
use crate::progress::Progress;
use crate::settings;

/// Seconds a capture may take.
const TIME: f64 = 120.0;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a directory that can't be written.
pub(crate) fn run(common: &Common, args: &CaptureArgs) -> Result<u8> {
    let targets = settings::targets(&args.targets)?;
    let printing = settings::printing(common);
    let dir = BStr::new(args.dir.as_os_str().as_bytes());
    // Nothing is made before it is known what to make it of.
    if settings::host(common, TIME)?.mode() == Mode::Saved {
        let why = "this is a saved tree already; copy it instead";
        return Err(Usage(format!("can't capture: {why}")).into());
    }
    let recorder = Recorder::create(dir, redact::environment).map_err(|e| match e.class {
        Class::Malformed => anyhow::Error::from(Usage(e.to_string())),
        _ => e.into(),
    })?;
    let recorder = Rc::new(recorder);
    let progress = Progress::new();
    let host = settings::recorded_host(common, TIME, progress.probe(), Some(Rc::clone(&recorder)))?;
    let clocks = host.clocks().map_err(|class| unclear(class, dir))?;
    let mut index = Index::new(&host);
    let captured = capture(&mut index, &targets);
    let gaps = document_gaps(&index);
    let kernel = host.kernel_release().unwrap_or_default();
    progress.clear();
    let captured = captured?;
    let (entries, totals) = recorder.finish(&host)?;
    let now = clocks.boot_moment + i128::from(clocks.since_boot);
    let about = manifest::About {
        captured: text::time(i64::try_from(now / 1_000_000).unwrap_or(0)),
        kernel,
        targets: targets.iter().map(|t| t.text.clone()).collect(),
        is_cut: captured.is_cut,
    };
    let binaries: Vec<_> = captured
        .binaries
        .iter()
        .map(|(process, file)| (*process, file_json(file), file.gaps().map(gap_json).collect()))
        .collect();
    let told = facts::document(&clocks, host.hides_processes(), &binaries);
    for (path, document) in
        [(facts::PATH, told), (manifest::PATH, manifest::document(&about, &entries))]
    {
        let mut bytes = Vec::new();
        write_line(&mut bytes, &document)?;
        recorder.put(path.as_bytes(), &bytes)?;
    }
    let mut all: Vec<Gap> = captured.gaps.clone();
    all.extend(gaps.into_iter().filter(|gap| !captured.gaps.contains(gap)));
    with_stdout(|out| match printing.format {
        Format::Json | Format::Ndjson => {
            let counts = counts(&captured, totals);
            let document = capture_document(&header(&index), dir, &counts, &all);
            if printing.format == Format::Json {
                write_json(out, &document)
            } else {
                write_line(out, &document)
            }
        }
        Format::Table | Format::Csv => tell(out, dir, &captured, totals),
    })?;
    Ok(conclude(&captured, &all, printing.strict))
}

fn unclear(class: Class, dir: &BStr) -> ReadError {
    ReadError::new(dir, class, "the clocks can't be read")
}

fn counts(captured: &Captured, totals: Totals) -> [(&'static str, u64); 5] {
    [
        ("processes", totals.processes),
        ("containers", captured.containers as u64),
        ("binaries", captured.binaries.len() as u64),
        ("files", totals.files),
        ("bytes", totals.bytes),
    ]
}

fn tell(
    out: &mut dyn Write,
    dir: &BStr,
    captured: &Captured,
    totals: Totals,
) -> std::io::Result<()> {
    let name = text::sanitise(dir);
    writeln!(
        out,
        "{name}: {} processes, {} containers, {} files, {}",
        totals.processes,
        captured.containers,
        totals.files,
        text::bytes(totals.bytes),
    )?;
    writeln!(out, "ask it with: whose --root {name} ps")?;
    writeln!(
        out,
        "it holds arguments of processes and labels of containers: look before you share it"
    )
}

/// What is missing goes to stderr; a capture that is not complete is 3.
fn conclude(captured: &Captured, gaps: &[Gap], strict: bool) -> u8 {
    for problem in &captured.problems {
        super::target::complain(problem);
    }
    if let Some(line) = summary(&gaps.iter().collect::<Vec<_>>(), 0) {
        say(&line);
    }
    let late = gaps.iter().any(|gap| gap.class == Class::TimedOut);
    let missing = late || (strict && !gaps.is_empty());
    worst(captured.problems.iter().map(Answer::exit).chain(missing.then_some(exit::PARTIAL)))
}
