//! `.whose/facts.json` of a captured tree: what no file of the host says. The clocks, and which file
//! each process ran.

use std::collections::HashMap;

use bstr::BString;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
pub use whose_kernel::capture::Clocks;
use whose_kernel::capture::Recorded;
use whose_kernel::{Class, Host, ReadError};

use super::manifest;
use crate::model::gap::{Reasons, what};
use crate::model::{
    CopiedUp, Fact, File, FileMount, FileRole, FileState, Gap, Inode, Layer, LayerKind, Verified,
};

/// Where it lies in the tree.
pub const PATH: &str = ".whose/facts.json";
/// Largest one taken, bytes: 4 KiB for each of 10,000 processes, and some.
const CAP: usize = 64 << 20;

/// A process: PID and start ticks.
pub type Process = (u32, u64);

/// What the file tells.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The clocks.
    pub clocks: Clocks,
    /// Other users' processes were hidden from who made the capture.
    pub hides_processes: bool,
    /// The file that each process ran.
    pub binaries: HashMap<Process, File>,
}

/// The facts as JSON; each binary is a FILE of the contract with its GAPs.
#[must_use]
pub fn document(
    clocks: &Clocks,
    hides_processes: bool,
    binaries: &[(Process, Value, Value)],
) -> Value {
    let binary = |((pid, start_ticks), file, gaps): &(Process, Value, Value)| json!({"pid": pid, "start_ticks": start_ticks, "file": file, "gaps": gaps});
    json!({
        "schema": "whose/1",
        "clocks": {
            "since_boot": clocks.since_boot,
            "boot_moment": i64::try_from(clocks.boot_moment).unwrap_or(0),
            "ticks_per_second": clocks.ticks_per_second,
            "page_size": clocks.page_size,
        },
        "euid": clocks.euid,
        "hides_processes": hides_processes,
        "binaries": binaries.iter().map(binary).collect::<Value>(),
    })
}

/// A saved tree with what its capture tells, if it is one.
///
/// # Errors
/// When there is a manifest, and it or the facts can't be read.
pub fn recall(host: Host) -> Result<Host, ReadError> {
    let Some((entries, is_whole)) = manifest::read(&host)? else { return Ok(host) };
    let Facts { clocks, hides_processes, .. } = read(&host)?;
    let top = BString::default();
    Ok(host.recalled(Recorded { is_whole, hides_processes, clocks, entries, top }))
}

/// The binaries of a captured tree.
///
/// # Errors
/// The read's, or `malformed`.
pub fn binaries(host: &Host) -> Result<HashMap<Process, File>, ReadError> {
    read(host).map(|facts| facts.binaries)
}

fn read(host: &Host) -> Result<Facts, ReadError> {
    let bytes = host.root().read(PATH.as_bytes(), CAP)?;
    let malformed = |why| ReadError::new(host.shown(PATH.as_bytes()), Class::Malformed, why);
    parse(&bytes).map_err(malformed)
}

/// Parses the facts.
///
/// # Errors
/// What is wrong.
pub fn parse(bytes: &[u8]) -> Result<Facts, String> {
    let facts: Value = super::json::parse(bytes)?;
    if facts.get("schema").and_then(Value::as_str) != Some("whose/1") {
        return Err("not of schema whose/1".into());
    }
    Ok(Facts {
        clocks: clocks(&facts).ok_or("it tells no clocks")?,
        hides_processes: facts.get("hides_processes").and_then(Value::as_bool).unwrap_or(false),
        binaries: all_binaries(&facts).ok_or("a binary of another shape")?,
    })
}

fn clocks(facts: &Value) -> Option<Clocks> {
    let clocks = facts.get("clocks")?;
    let number = |key: &str| clocks.get(key).and_then(Value::as_u64);
    Some(Clocks {
        since_boot: number("since_boot")?,
        boot_moment: clocks.get("boot_moment")?.as_i64()?.into(),
        ticks_per_second: number("ticks_per_second").filter(|n| (1..=1_000_000).contains(n))?,
        page_size: number("page_size")?,
        euid: u32::try_from(facts.get("euid")?.as_u64()?).ok()?,
    })
}

fn all_binaries(facts: &Value) -> Option<HashMap<Process, File>> {
    let list = facts.get("binaries")?.as_array()?;
    let one = |value: &Value| {
        let pid = u32::try_from(value.get("pid")?.as_u64()?).ok()?;
        let gaps: Option<Vec<Gap>> = value.get("gaps")?.as_array()?.iter().map(gap).collect();
        let file = file(value.get("file")?.as_object()?, &gaps?)?;
        Some(((pid, value.get("start_ticks")?.as_u64()?), file))
    };
    list.iter().map(one).collect()
}

fn gap(value: &Value) -> Option<Gap> {
    let object = value.as_object()?;
    let reasons = Reasons {
        what: what::by_name(object.get("what")?.as_str()?)?,
        class: Class::by_name(object.get("class")?.as_str()?)?,
        path: bytes(object, "path")?,
        cause: object.get("cause")?.as_str()?.to_owned().into(),
        remedy: word(object, "remedy").map(|r| r.to_owned().into()),
    };
    Some(reasons.into())
}

/// Bytes with a text form, exact where that is not enough.
fn bytes(object: &Map<String, Value>, key: &str) -> Option<BString> {
    match object.get(&format!("{key}_base64")) {
        Some(exact) => BASE64.decode(exact.as_str()?.as_bytes()).ok().map(Into::into),
        None => Some(object.get(key)?.as_str()?.into()),
    }
}

fn list(object: &Map<String, Value>, key: &str) -> Option<Vec<BString>> {
    if let Some(exact) = object.get(&format!("{key}_base64")) {
        let one = |v: &Value| BASE64.decode(v.as_str()?.as_bytes()).ok().map(BString::from);
        return exact.as_array()?.iter().map(one).collect();
    }
    match object.get(key) {
        Some(texts) => texts.as_array()?.iter().map(|v| Some(v.as_str()?.into())).collect(),
        None => Some(Vec::new()),
    }
}

fn word<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    object.get(key).and_then(Value::as_str)
}

fn number(object: &Map<String, Value>, key: &str) -> Option<u32> {
    u32::try_from(object.get(key)?.as_u64()?).ok()
}

/// A fact that is null where it could not be read.
fn fact<T>(
    object: &Map<String, Value>,
    key: &str,
    gap: Option<&Gap>,
    value: impl FnOnce() -> Option<T>,
) -> Option<Fact<T>> {
    match object.get(key) {
        None => Some(Fact::Absent),
        Some(Value::Null) => Some(Fact::Unread(gap?.clone())),
        Some(_) => value().map(Fact::Known),
    }
}

/// A FILE of the contract. A word that is not known here makes it none.
fn file(object: &Map<String, Value>, gaps: &[Gap]) -> Option<File> {
    let known = |key| word(object, key);
    let gap = |what| gaps.iter().find(|g| g.what == what).or(gaps.first());
    let text = |key: &str| Some(word(object, key)?.to_owned());
    Some(File {
        inside: bytes(object, "inside"),
        namespace_path: bytes(object, "namespace_path"),
        host: fact(object, "host", gap(what::BINARY), || bytes(object, "host"))?,
        layer_path: bytes(object, "layer_path"),
        layer_ns: bytes(object, "layer_ns"),
        merged: bytes(object, "merged"),
        via_proc: bytes(object, "via_proc"),
        image_file: bytes(object, "image_file"),
        role: known("role").map_or(Some(None), |w| FileRole::by_name(w).map(Some))?,
        layer: match object.get("layer") {
            Some(value) => Some(layer(value.as_object()?)?),
            None => None,
        },
        // A process's file lies in none.
        stored: None,
        mount: match object.get("mount") {
            Some(value) => Some(mount(value.as_object()?)?),
            None => None,
        },
        inode: match object.get("inode") {
            Some(value) => Some(inode(value.as_object()?)?),
            None => None,
        },
        verified: Verified::by_name(known("verified")?)?,
        why: known("why").map(|w| w.to_owned().into()),
        recorded: true,
        state: known("state").map_or(Some(None), |w| FileState::by_name(w).map(Some))?,
        copied_up: known("copied_up").map_or(Some(None), |w| CopiedUp::by_name(w).map(Some))?,
        program: bytes(object, "program"),
        candidates: list(object, "candidates")?,
        sha256: fact(object, "sha256", gap(what::HASH), || text("sha256"))?,
        build_id: fact(object, "build_id", gap(what::HASH), || text("build_id"))?,
    })
}

fn layer(object: &Map<String, Value>) -> Option<Layer> {
    Some(Layer {
        id: bytes(object, "id")?,
        dir: bytes(object, "dir")?,
        driver: bytes(object, "driver").unwrap_or_default(),
        kind: word(object, "kind").map_or(Some(None), |w| LayerKind::by_name(w).map(Some))?,
        chain_id: bytes(object, "chain_id"),
        diff_id: bytes(object, "diff_id"),
        index: number(object, "index"),
        of: number(object, "of"),
        owners: list(object, "owners")?,
        images: list(object, "images")?,
    })
}

fn device(object: &Map<String, Value>) -> Option<(u32, u32)> {
    let (major, minor) = word(object, "device")?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn mount(object: &Map<String, Value>) -> Option<FileMount> {
    Some(FileMount {
        kind: bytes(object, "type")?,
        source: bytes(object, "source")?,
        device: device(object)?,
        root: bytes(object, "root")?,
        point: bytes(object, "point")?,
    })
}

fn inode(object: &Map<String, Value>) -> Option<Inode> {
    Some(Inode {
        device: device(object)?,
        ino: object.get("ino")?.as_u64()?,
        nlink: number(object, "nlink")?,
        size: object.get("size")?.as_u64()?,
        mtime: word(object, "mtime")?.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
    })
}
