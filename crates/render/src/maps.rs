//! What a process maps: as lines, and as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value};
use whose_core::answer::{Mapped, Maps};
use whose_core::model::{Fact, Gap};

use crate::json::{Header, answer_line, gap, put_bytes};
use crate::{json_file, text};

/// Lines as `/proc/PID/maps` has them, with the path on the host: `?` and the name inside where that is
/// not proven, `-` and the name where the host has none.
///
/// # Errors
/// The writer's.
pub fn maps(out: &mut dyn Write, maps: &Maps, no_headers: bool) -> io::Result<()> {
    let ranges: Vec<String> = maps.maps.iter().map(range).collect();
    let widest = ranges.iter().map(String::len).max().unwrap_or(0).max(ADDRESS.len());
    if !no_headers && !maps.maps.is_empty() {
        writeln!(out, "{ADDRESS:widest$}  PERM    OFFSET  HOST PATH")?;
    }
    for (mapped, range) in maps.maps.iter().zip(&ranges) {
        let perms = String::from_utf8_lossy(&mapped.mapping.perms);
        let line =
            format!("{range:widest$}  {perms}  {:8x}  {}", mapped.mapping.offset, path(mapped));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

const ADDRESS: &str = "ADDRESS";

fn range(mapped: &Mapped) -> String {
    format!("{:x}-{:x}", mapped.mapping.start, mapped.mapping.end)
}

fn path(mapped: &Mapped) -> String {
    let Some(file) = &mapped.file else { return text::sanitise(&mapped.mapping.name) };
    let name = || text::sanitise(file.inside.as_ref().unwrap_or(&mapped.mapping.name));
    match &file.host {
        Fact::Known(path) => text::sanitise(path),
        Fact::Unread(_) => format!("? {}", name()),
        Fact::Absent | Fact::Unasked => format!("- {}", name()),
    }
}

/// The document of `whose maps --json TARGET`: whose the process is, and its mappings. Addresses and offsets
/// are numbers.
#[must_use]
pub fn maps_document(header: &Header, maps: &Maps, gaps: &[Gap]) -> Value {
    let mut object = header.object();
    if let Value::Object(answer) = answer_line(&maps.answer) {
        object.extend(answer.into_iter().filter(|(key, _)| key != "gaps"));
    }
    object.insert("maps".into(), maps.maps.iter().map(map_line).collect());
    object.insert("gaps".into(), all_gaps(maps, gaps));
    Value::Object(object)
}

/// NDJSON: the head of the document, its mappings a line each, and its gaps last when there are any.
#[must_use]
pub fn maps_lines(header: &Header, maps: &Maps, gaps: &[Gap]) -> Vec<Value> {
    let Value::Object(mut head) = maps_document(header, maps, gaps) else { return Vec::new() };
    head.remove("maps");
    let gaps = head.remove("gaps").filter(|gaps| gaps.as_array().is_some_and(|g| !g.is_empty()));
    let gaps = gaps.map(|gaps| Value::Object(Map::from_iter([("gaps".to_owned(), gaps)])));
    let lines = maps.maps.iter().map(map_line);
    std::iter::once(Value::Object(head)).chain(lines).chain(gaps).collect()
}

fn all_gaps(maps: &Maps, gaps: &[Gap]) -> Value {
    maps.all_gaps().iter().chain(gaps).map(gap).collect()
}

/// One mapping; what is no file has a name, or none.
fn map_line(mapped: &Mapped) -> Value {
    let mut object = Map::new();
    let mapping = &mapped.mapping;
    object.insert("start".into(), mapping.start.into());
    object.insert("end".into(), mapping.end.into());
    object.insert("offset".into(), mapping.offset.into());
    object.insert("perms".into(), String::from_utf8_lossy(&mapping.perms).into());
    if let Some(at) = mapped.load_address {
        object.insert("load_address".into(), at.into());
    }
    match &mapped.file {
        Some(file) => {
            object.insert("file".into(), json_file::file(file));
        }
        None if !mapping.name.is_empty() => put_bytes(&mut object, "name", &mapping.name),
        None => {}
    }
    Value::Object(object)
}
