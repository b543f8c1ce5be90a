//! `whose annotate`: a filter that adds owners to other tools' output.

mod child;
mod pump;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use bstr::BStr;
use whose_annotate::{Engine, HostNames, Options, Style};
use whose_core::index::Index;
use whose_fields::Field;
use whose_kernel::input;

use crate::args::{AnnotateArgs, Common, Format};
use crate::exit::{PARTIAL, Usage, say, worst};
use crate::settings;
use pump::{Pump, Until};

/// Own failure, when a command was to be run (as env(1) and timeout(1) have it).
const FAILED: u8 = 125;

/// Runs the command.
///
/// # Errors
/// Usage, an unusable /proc, a writer that fails.
pub(crate) fn run(common: &Common, args: &AnnotateArgs) -> Result<u8> {
    let options = options(common, args)?;
    let fields = fields(args)?;
    if args.command.is_empty() {
        let host = settings::endless_host(common)?;
        let names = HostNames::new(Index::new(&host), &fields);
        let mut pump = Pump::new(Engine::new(names, options));
        let status = files(&mut pump, &args.files_or_stdin())?;
        let is_whole = say_missing(&pump);
        let strict = common.strict && !is_whole;
        return Ok(worst([status, if strict { PARTIAL } else { 0 }]));
    }
    let filter = || -> Result<u8> {
        let host = settings::endless_host(common)?;
        let names = HostNames::new(Index::new(&host), &fields);
        let mut pump = Pump::new(Engine::new(names, options));
        let status = child::run(&mut pump, &args.command, args.stderr)?;
        say_missing(&pump);
        Ok(status)
    };
    filter().or_else(|error| {
        say(&format!("{error:#}"));
        Ok(FAILED)
    })
}

impl AnnotateArgs {
    fn files_or_stdin(&self) -> Vec<OsString> {
        match self.files.as_slice() {
            [] => vec!["-".into()],
            files => files.iter().map(|file| file.as_os_str().to_owned()).collect(),
        }
    }
}

/// Says in one line what could not be read of the owners; whether nothing is missing.
fn say_missing(pump: &Pump<'_>) -> bool {
    let missing = pump.engine.names().missing();
    missing.iter().for_each(|line| say(line));
    missing.is_none()
}

/// Every input in turn; one that can't be read is said, and makes the status 1.
fn files(pump: &mut Pump<'_>, files: &[OsString]) -> Result<u8> {
    let mut status = 0;
    for file in files {
        let read = if file == "-" {
            stream(pump, std::io::stdin().as_fd())?
        } else {
            match input::open(BStr::new(file.as_bytes())) {
                Ok(opened) => stream(pump, opened.as_fd())?,
                Err(e) => Err(e.cause.to_string()),
            }
        };
        if let Err(why) = read {
            say(&format!("{}: {why}", file.to_string_lossy()));
            status = 1;
        }
    }
    match pump.finish(&Until::End) {
        Err(pump::Failed::Read(e) | pump::Failed::Write(e)) => Err(e.into()),
        Ok(()) | Err(pump::Failed::Signalled(_)) => Ok(status),
    }
}

/// One input; why it could not be read, if it could not.
fn stream(pump: &mut Pump<'_>, from: BorrowedFd<'_>) -> Result<Result<(), String>> {
    pump.engine.restart();
    pump.engine.written(input::written(from));
    match pump.run(from, &Until::End) {
        Err(pump::Failed::Read(e)) => Ok(Err(e.to_string())),
        Err(pump::Failed::Write(e)) => Err(e.into()),
        Ok(()) | Err(pump::Failed::Signalled(_)) => Ok(Ok(())),
    }
}

fn options(common: &Common, args: &AnnotateArgs) -> Result<Options> {
    let bad = |e: whose_annotate::BadOption| Usage(e.to_string());
    let named = Style::ALL.iter().find(|(name, _)| *name == args.style);
    let is_json = common.json || matches!(common.format, Some(Format::Json | Format::Ndjson));
    let style = if is_json { Style::Json } else { named.map(|(_, s)| *s).unwrap_or_default() };
    let column = args.pid_column.as_ref().map(|c| Options::pid_column(c.as_bytes()));
    let regex = args.regex.as_ref().map(|r| Options::regex(r));
    Ok(Options {
        style,
        pid_column: column.transpose().map_err(bad)?,
        regex: regex.transpose().map_err(bad)?,
    })
}

fn fields(args: &AnnotateArgs) -> Result<Vec<&'static Field>> {
    let words = args.with.split([',', ' ']).filter(|word| !word.is_empty());
    let mut fields: Vec<&Field> = Vec::new();
    for word in words {
        let field = settings::field(word)?;
        if !HostNames::is_of_owner(field) {
            let why = "says something of one process, and not of its owner";
            return Err(Usage(format!("--with {}: it {why}", field.name)).into());
        }
        fields.push(field);
    }
    if fields.is_empty() {
        return Err(Usage("--with names no field".to_owned()).into());
    }
    Ok(fields)
}

/// The status for an end that nobody's fault is.
fn closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}
