//! What will be done: what was typed, completed from the environment.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bstr::{BStr, BString, ByteSlice};
use whose_client::Client;
use whose_client::places::Environment;
use whose_core::index::Index;
use whose_core::index::daemons::Ask;
use whose_core::index::plan::SortKey;
use whose_core::state::facts;
use whose_core::target::{self, Typed as Target};
use whose_fields::{Field, FieldId, closest, find};
use whose_kernel::capture::Recorder;
use whose_kernel::host::Probe;
use whose_kernel::{Host, Mode, Options};
use whose_render::{Shown, Style, TableOptions};

use crate::args::{Common, Format, When};
use crate::config;
use crate::exit::Usage;

/// Longest a slow read may take, whatever the command's own time: several must fit.
const PATIENCE: Duration = Duration::from_millis(500);
/// Largest configuration file of docker's client that is read, bytes.
const CONFIG_CAP: usize = 1 << 20;
/// Largest list of targets taken from stdin, bytes.
const STDIN_CAP: u64 = 16 << 20;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printing {
    /// The format.
    pub(crate) format: Format,
    /// Layout of tables and cards.
    pub(crate) table: TableOptions,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
    /// Exit with 3 for any gap.
    pub(crate) strict: bool,
}

/// Works out how to print.
pub(crate) fn printing(common: &Common) -> Printing {
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let colour = match common.color {
        When::Always => true,
        When::Never => false,
        When::Auto => terminal && !no_color,
    };
    let size = if terminal { rustix::termios::tcgetwinsize(stdout).ok() } else { None };
    let width = size.map(|s| usize::from(s.ws_col)).filter(|w| *w > 0 && !common.no_trunc);
    let format = if common.json { Some(Format::Json) } else { common.format };
    Printing {
        format: format.unwrap_or(Format::Table),
        table: TableOptions {
            width,
            no_headers: common.no_headers,
            shown: Shown { raw: common.raw },
            style: Style { colour },
        },
        terminal,
        strict: common.strict,
    }
}

/// Whether the locale is one of UTF-8, as setlocale(3) decides about characters.
pub(crate) fn is_utf8() -> bool {
    let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Opens the host with the command's time: `usual` seconds unless told otherwise.
///
/// # Errors
/// When the tree or its /proc can't be used.
pub(crate) fn host(common: &Common, usual: f64) -> Result<Opened> {
    host_with(common, usual, None)
}

/// As [`host`], with something to be called before each read of a process.
///
/// # Errors
/// As [`host`].
pub(crate) fn host_with(common: &Common, usual: f64, probe: Option<Probe>) -> Result<Opened> {
    recorded_host(common, usual, probe, None)
}

/// Opens the host for as long as there is something to read: each slow read has its own time, and the
/// command has none.
///
/// # Errors
/// As [`host`].
pub(crate) fn endless_host(common: &Common) -> Result<Opened> {
    open(common, None, None, None)
}

/// As [`host_with`], with something that writes down all that is read.
///
/// # Errors
/// As [`host`].
pub(crate) fn recorded_host(
    common: &Common,
    usual: f64,
    probe: Option<Probe>,
    recorder: Option<Rc<Recorder>>,
) -> Result<Opened> {
    let time = Duration::from_secs_f64(common.timeout.unwrap_or(usual));
    open(common, Some(time), probe, recorder)
}

fn open(
    common: &Common,
    time: Option<Duration>,
    probe: Option<Probe>,
    recorder: Option<Rc<Recorder>>,
) -> Result<Opened> {
    let options = Options {
        root: common.root.as_ref().map(|r| BString::from(r.as_os_str().as_bytes())),
        deadline: time.and_then(|time| Instant::now().checked_add(time)),
        patience: Some(time.map_or(PATIENCE, |time| PATIENCE.min(time / 4))),
        probe,
        recorder,
        source: config::source(common)?,
        ..Options::default()
    };
    let host = Host::open(options)?;
    let host = if host.mode() == Mode::Saved { facts::recall(host)? } else { host };
    Ok(Opened(ManuallyDrop::new(host)))
}

/// The host of a command. The program ends with it, and the kernel then closes and frees all there is at
/// once: piece by piece that takes a good part of a short command. Only its workers are waited for.
#[derive(Debug)]
pub(crate) struct Opened(ManuallyDrop<Host>);

impl Deref for Opened {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An index of the host that asks daemons as it was told to: an ordinary user may not read what
/// files tell root. `otherwise` is when they are asked in any other case.
/// It is not taken to pieces in the end, see [`Opened`].
pub(crate) fn index<'h>(
    common: &Common,
    host: &'h Host,
    otherwise: Option<Ask>,
) -> ManuallyDrop<Index<'h>> {
    let mut index = ManuallyDrop::new(Index::new(host));
    let euid = host.live().euid().unwrap_or(0);
    let when = match (common.daemon, euid) {
        _ if host.mode() != Mode::Live => None,
        (true, _) => Some(Ask::Always),
        (false, 0) => otherwise,
        (false, _) => Some(Ask::Unread),
    };
    if let Some(when) = when {
        let read = |path: &BStr| {
            host.guard(path).ok()?;
            host.root().read(path, CONFIG_CAP).ok()
        };
        let environment = Environment {
            variable: Box::new(|name| std::env::var_os(name).map(|v| v.into_vec().into())),
            read: Box::new(read),
            uid: euid,
            home: host.home_of(euid).filter(|_| std::env::var_os("HOME").is_none()),
        };
        index.ask_daemons(Box::new(Client::new(environment)), when);
    }
    index
}

/// Reads the targets; `-` is replaced by the lines of stdin.
///
/// # Errors
/// [`Usage`] for the first that is none: nothing is output then.
pub(crate) fn targets(words: &[OsString]) -> Result<Vec<Target>> {
    let mut texts: Vec<BString> = Vec::new();
    for word in words {
        if word == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(STDIN_CAP).read_to_end(&mut bytes)?;
            texts.extend(bytes.lines().filter(|l| !l.is_empty()).map(BString::from));
        } else {
            texts.push(word.clone().into_vec().into());
        }
    }
    let read =
        |text: &BString| target::parse(BStr::new(text)).map_err(|e| Usage(e.to_string()).into());
    texts.iter().map(read).collect()
}

/// The columns: those asked for, or the usual ones and those added with `+`.
///
/// # Errors
/// [`Usage`] for a column there is not.
pub(crate) fn columns(typed: &[String], usual: &[FieldId]) -> Result<Vec<&'static Field>> {
    let words: Vec<&str> =
        typed.iter().flat_map(|t| t.split([',', ' '])).filter(|w| !w.is_empty()).collect();
    // As lsblk has it, a plus is about the whole list that it begins.
    let mut lists =
        typed.iter().map(|list| list.trim_matches([',', ' '])).filter(|l| !l.is_empty());
    let adds = lists.all(|list| list.starts_with('+'));
    let mut fields: Vec<&Field> =
        if adds { usual.iter().map(|f| f.field()).collect() } else { Vec::new() };
    for word in words {
        let added = field(word.trim_start_matches('+'))?;
        if !fields.iter().any(|f| f.id == added.id) {
            // The command stays last: it has no width of its own.
            let last_args = fields.last().is_some_and(|f| f.id == FieldId::Args);
            let at = fields.len() - usize::from(adds && last_args);
            fields.insert(at, added);
        }
    }
    Ok(fields)
}

/// One field by its name or alias.
///
/// # Errors
/// [`Usage`] with the nearest name there is.
pub(crate) fn field(name: &str) -> Result<&'static Field> {
    find(name).ok_or_else(|| {
        let hint = closest(name).map(|c| format!("; did you mean {c}?")).unwrap_or_default();
        let names: Vec<&str> = whose_fields::FIELDS.iter().map(|f| f.name).collect();
        Usage(format!("no column {name}{hint} (columns: {})", names.join(", "))).into()
    })
}

/// Sort keys; a minus puts the largest first.
///
/// # Errors
/// [`Usage`] for a column there is not.
pub(crate) fn sort_keys(words: &[String]) -> Result<Vec<SortKey>> {
    let key = |word: &String| {
        let (name, descending) = match word.strip_prefix('-') {
            Some(name) => (name, true),
            None => (word.strip_prefix('+').unwrap_or(word), false),
        };
        Ok(SortKey { field: field(name)?.id, descending })
    };
    words.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use whose_fields::FieldId;

    use super::columns;

    fn names(typed: &[&str]) -> Vec<&'static str> {
        let typed: Vec<String> = typed.iter().map(|t| (*t).to_owned()).collect();
        columns(&typed, &[FieldId::Pid, FieldId::Args]).unwrap().iter().map(|f| f.name).collect()
    }

    #[test]
    fn plus_adds_before_the_command() {
        assert_eq!(names(&[]), ["pid", "args"]);
        assert_eq!(names(&[" ", "+image", ""]), ["pid", "image", "args"]);
        assert_eq!(names(&["+image"]), ["pid", "image", "args"]);
        assert_eq!(names(&["+image,rss", "+comm"]), ["pid", "image", "rss", "comm", "args"]);
        assert_eq!(names(&["comm,pid", "comm"]), ["comm", "pid"]);
        assert_eq!(names(&["comm,+pid"]), ["comm", "pid"]);
        assert_eq!(names(&["comm", "+pid"]), ["comm", "pid"]);
        assert!(columns(&["nope".to_owned()], &[]).is_err());
    }
}
