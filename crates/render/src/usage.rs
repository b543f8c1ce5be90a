//! JSON of `whose ls --disk`.

use serde_json::{Map, Value};
use whose_core::index::disk::DiskUsage;
use whose_core::model::{Gap, Occupied, Usage};
use whose_fields::{FieldId, Record};

use crate::json::{Header, gap, owner, put_bytes, put_cell};

/// Figures of a row, each the sum over its parts.
const FIGURES: [FieldId; 7] = [
    FieldId::Disk,
    FieldId::DiskApparent,
    FieldId::DiskInodes,
    FieldId::DiskLayer,
    FieldId::DiskLog,
    FieldId::DiskVolumes,
    FieldId::DiskDeleted,
];

/// The document of `whose ls --disk --json`.
#[must_use]
pub fn usage_document(header: &Header, usage: &DiskUsage, gaps: &[Gap]) -> Value {
    let mut object = header.object();
    object.insert("disk".into(), usage.rows.iter().map(usage_line).collect());
    object.insert("notes".into(), usage.notes.iter().map(|note| &**note).collect());
    object.insert("gaps".into(), gaps.iter().map(gap).collect());
    Value::Object(object)
}

/// One row: what it is of, its figures, and what they are made of.
#[must_use]
pub fn usage_line(usage: &Usage) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), usage.kind_name().into());
    put_bytes(&mut object, "name", &usage.name);
    object.insert("engine".into(), usage.engine.0.into());
    if let Some(user) = &usage.user {
        put_bytes(&mut object, "user", user);
    }
    for field in FIGURES {
        put_cell(&mut object, field.field().json, &usage.get(field));
    }
    object.insert("complete".into(), usage.is_complete().into());
    if let Some(of) = usage.container.as_ref().and_then(|listed| listed.owner()) {
        object.insert("owner".into(), owner(of, true));
    }
    for (key, texts) in [("owners", &usage.owners), ("images", &usage.images)] {
        if !texts.is_empty() {
            let texts = texts.iter().map(|text| crate::text::lossy(text).0);
            object.insert(key.into(), texts.collect());
        }
    }
    object.insert("parts".into(), usage.parts.iter().map(part).collect());
    Value::Object(object)
}

fn part(part: &Occupied) -> Value {
    let mut object = Map::new();
    object.insert("part".into(), part.part.name().into());
    put_bytes(&mut object, "path", &part.path);
    let figures = [("bytes", part.bytes), ("apparent", part.apparent), ("inodes", part.inodes)];
    for (key, figure) in figures {
        let figure = if part.unread.is_some() { Value::Null } else { figure.into() };
        object.insert(key.into(), figure);
    }
    object.insert("complete".into(), part.is_complete.into());
    Value::Object(object)
}
