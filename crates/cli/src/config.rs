//! Settings that outlive a command: the environment's, and `/etc/whose/config.toml`.

use anyhow::Result;
use bstr::BStr;
use clap::ValueEnum;
use toml::Table;
use whose_kernel::Class;
use whose_kernel::root::{Links, Root};
use whose_kernel::scan;

use crate::args::{Common, Source};
use crate::exit::{Usage, say};

/// The environment variable beside `--source`.
const VARIABLE: &str = "WHOSE_SOURCE";
/// The file, beneath `/`.
const FILE: &str = "etc/whose/config.toml";
/// Longest file that is read, bytes.
const CAP: usize = 64 << 10;
/// The settings there are.
const KEYS: [&str; 1] = ["source"];

/// How all processes are to be read: what was typed, else the environment, else the file. A file that
/// can't be used is said and passed over: an answer matters more.
///
/// # Errors
/// [`Usage`] for a variable that names no source.
pub(crate) fn source(common: &Common) -> Result<scan::Source> {
    let chosen = match (common.source, std::env::var_os(VARIABLE)) {
        (Some(source), _) => Some(source),
        (None, Some(word)) if !word.is_empty() => {
            let word = word.to_string_lossy();
            Some(named(&word).ok_or_else(|| Usage(format!("{VARIABLE}: {}", unknown(&word))))?)
        }
        (None, _) if common.root.is_some() => None, // nothing outside the tree is read
        (None, _) => read().unwrap_or_else(|why| {
            say(&format!("/{FILE}: {why}; it was passed over"));
            None
        }),
    };
    Ok(match chosen {
        None | Some(Source::Auto) => scan::Source::Auto,
        Some(Source::Proc) => scan::Source::Proc,
        Some(Source::Bpf) => scan::Source::Bpf,
    })
}

fn named(word: &str) -> Option<Source> {
    Source::from_str(word, true).ok()
}

fn unknown(word: &str) -> String {
    format!("no source {word} (auto, proc, bpf)")
}

fn read() -> Result<Option<Source>, String> {
    let root = Root::open(BStr::new("/"), Links::Within).map_err(|e| e.cause.to_string())?;
    match root.read(FILE.as_bytes(), CAP) {
        Ok(bytes) => parse(&bytes),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e.cause.to_string()),
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Source>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let first_line = |e: toml::de::Error| e.message().lines().next().unwrap_or_default().to_owned();
    let table: Table = text.parse().map_err(first_line)?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("no setting {key} (there is {})", KEYS.join(", ")));
    }
    let Some(value) = table.get("source") else { return Ok(None) };
    let word = value.as_str().ok_or_else(|| "source is no text".to_owned())?;
    named(word).map(Some).ok_or_else(|| unknown(word))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::args::Source;

    #[test]
    fn a_file_says_what_it_says_or_is_refused() {
        assert_eq!(parse(b"# nothing\n"), Ok(None));
        assert_eq!(parse(b"source = \"proc\"\n"), Ok(Some(Source::Proc)));
        assert_eq!(parse(b"source = 'BPF'"), Ok(Some(Source::Bpf)));
        for bad in [&b"source = 1"[..], b"source = \"x\"", b"sauce = \"proc\"", b"source", b"\xff"]
        {
            let why = parse(bad).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
    }
}
