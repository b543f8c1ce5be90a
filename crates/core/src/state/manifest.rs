//! `.whose/manifest.json` of a captured tree: what a tree of files can't hold, and what could not be
//! read when it was made.

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use whose_kernel::capture::{Entry, Failure};
use whose_kernel::look::Look;
use whose_kernel::{Class, Host, ReadError};

/// Where it lies in the tree.
pub const PATH: &str = ".whose/manifest.json";
/// Largest one taken, bytes: a host of 10,000 processes seen by an ordinary user takes 20 MiB.
const CAP: usize = 256 << 20;

/// What is told of the capture as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// When it was made, RFC 3339.
    pub captured: String,
    /// The kernel's release.
    pub kernel: String,
    /// What was asked for; empty for the whole host.
    pub targets: Vec<BString>,
    /// The time was over before everything was captured.
    pub is_cut: bool,
}

#[derive(Deserialize)]
struct Document {
    schema: String,
    targets: Option<Vec<String>>,
    #[serde(default)]
    cut: bool,
    entries: Vec<Line>,
}

/// One path as JSON has it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Line {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    look: Option<LookLine>,
    /// Base64 of names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unread: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    empty_directory: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// What failed, in base64, where that is another path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// What stat(2) told: mode with the file type, times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct LookLine {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    device: (u32, u32),
    ino: u64,
    nlink: u32,
    rdev: (u32, u32),
}

/// The manifest as JSON.
#[must_use]
pub fn document(about: &About, entries: &[(BString, Entry)]) -> Value {
    let targets: Vec<_> = about.targets.iter().map(|t| t.to_str_lossy()).collect();
    let mut document = json!({
        "schema": "whose/1",
        "captured": about.captured,
        "whose": env!("CARGO_PKG_VERSION"),
        "kernel": about.kernel,
    });
    if !targets.is_empty() {
        document["targets"] = json!(targets);
    }
    if about.is_cut {
        document["cut"] = json!(true);
    }
    document["entries"] = entries.iter().map(|(path, entry)| json!(line(path, entry))).collect();
    document
}

/// The entries by path, and whether the whole host was captured.
pub type Manifest = (HashMap<BString, Entry>, bool);

/// Reads it; `None` for a tree without one.
///
/// # Errors
/// The read's, or `malformed`.
pub fn read(host: &Host) -> Result<Option<Manifest>, ReadError> {
    let bytes = match host.root().read(PATH.as_bytes(), CAP) {
        Ok(bytes) => bytes,
        Err(e) if e.class == Class::Gone => return Ok(None),
        Err(e) => return Err(e),
    };
    let malformed = |why| ReadError::new(host.shown(PATH.as_bytes()), Class::Malformed, why);
    parse(&bytes).map(Some).map_err(malformed)
}

/// Parses a manifest.
///
/// # Errors
/// What is wrong.
pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let document: Document = super::json::parse(bytes)?;
    if document.schema != "whose/1" {
        return Err(format!("of schema {}, not whose/1", document.schema));
    }
    let entries = document.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok((entries, document.targets.is_none() && !document.cut))
}

fn line(path: &BString, entry: &Entry) -> Line {
    let text = path.to_str_lossy().into_owned();
    let encode = |(n, v): &(BString, BString)| (BASE64.encode(n), BASE64.encode(v));
    Line {
        path_base64: (text.as_bytes() != path.as_slice()).then(|| BASE64.encode(path)),
        path: text,
        look: entry.look.map(|look| LookLine {
            mode: look.mode,
            uid: look.uid,
            gid: look.gid,
            size: look.size,
            mtime: i64::try_from(look.mtime).unwrap_or(0),
            device: look.device,
            ino: look.ino,
            nlink: look.nlink,
            rdev: look.rdev,
        }),
        attributes: entry.attributes.iter().map(encode).collect(),
        unread: entry.is_unread,
        empty_directory: entry.is_empty,
        class: entry.failure.as_ref().map(|f| f.class.name().into()),
        cause: entry.failure.as_ref().map(|f| f.cause.clone().into_owned()),
        refused: entry.failure.as_ref().is_some_and(|f| f.is_refusal),
        at: entry.failure.as_ref().and_then(|f| f.path.as_ref()).map(|p| BASE64.encode(p)),
    }
}

fn entry(line: Line) -> Result<(BString, Entry), String> {
    let path = match line.path_base64 {
        Some(text) => decode(&text)?,
        None => line.path.into(),
    };
    let class = line.class.map(|name| {
        Class::by_name(&name).ok_or_else(|| format!("{}: no class {name}", BStr::new(&path)))
    });
    let (cause, is_refusal) = (line.cause.unwrap_or_default().into(), line.refused);
    let at = line.at.map(|text| decode(&text)).transpose()?;
    let failure = class.transpose()?.map(|class| Failure { class, cause, is_refusal, path: at });
    let pair = |(n, v): (String, String)| Ok::<_, String>((decode(&n)?, decode(&v)?));
    let look = line.look.map(|look| Look {
        device: look.device,
        ino: look.ino,
        mode: look.mode,
        nlink: look.nlink,
        uid: look.uid,
        gid: look.gid,
        size: look.size,
        mtime: look.mtime.into(),
        rdev: look.rdev,
        mount: None,
    });
    let attributes = line.attributes.into_iter().map(pair).collect::<Result<_, _>>()?;
    let (is_unread, is_empty) = (line.unread, line.empty_directory);
    Ok((path, Entry { look, attributes, is_unread, is_empty, failure }))
}

fn decode(text: &str) -> Result<BString, String> {
    BASE64.decode(text.as_bytes()).map(BString::from).map_err(|_| "not base64".into())
}

#[cfg(test)]
mod tests {
    use bstr::BString;
    use whose_kernel::Class;
    use whose_kernel::capture::{Entry, Failure};
    use whose_kernel::look::Look;

    use super::{About, document, parse};

    #[test]
    fn what_is_written_is_read_again() {
        let look = Look {
            device: (254, 1),
            ino: 7,
            mode: 0o020_600,
            nlink: 1,
            uid: 1000,
            gid: 5,
            size: 0,
            mtime: 1_700_000_000_123_456_789,
            rdev: (0, 0),
            mount: None,
        };
        let failure = |class, is_refusal| {
            let path = Some(BString::from("proc/1/root"));
            Some(Failure { class, cause: "permission denied".into(), is_refusal, path })
        };
        let entries = vec![
            (
                BString::from(&b"a/\xff\n"[..]),
                Entry {
                    look: Some(look),
                    attributes: vec![("trusted.overlay.opaque".into(), "y".into())],
                    ..Entry::default()
                },
            ),
            ("b".into(), Entry { is_unread: true, ..Entry::default() }),
            ("c".into(), Entry { is_empty: true, ..Entry::default() }),
            (
                "proc/1/exe".into(),
                Entry { failure: failure(Class::Forbidden, false), ..Entry::default() },
            ),
            (
                "mnt".into(),
                Entry { failure: failure(Class::Unsupported, true), ..Entry::default() },
            ),
        ];
        let bytes = |about: &About| document(about, &entries).to_string().into_bytes();
        let (read, is_whole) = parse(&bytes(&About::default())).unwrap();
        assert!(is_whole);
        assert_eq!(read.len(), entries.len());
        for (path, entry) in &entries {
            assert_eq!(read.get(path), Some(entry), "{path}");
        }
        let about = About { targets: vec!["web".into()], ..About::default() };
        assert!(!parse(&bytes(&about)).unwrap().1);
        let late = About { is_cut: true, ..About::default() };
        assert!(!parse(&bytes(&late)).unwrap().1);
    }

    #[test]
    fn another_shape_is_refused() {
        for bad in [
            "",
            "{}",
            r#"{"schema":"whose/2","entries":[]}"#,
            r#"{"schema":"whose/1","entries":[{"path":"a","class":"odd"}]}"#,
            r#"{"schema":"whose/1","entries":[{"path":"a","path_base64":"?"}]}"#,
        ] {
            parse(bad.as_bytes()).unwrap_err();
        }
    }
}
