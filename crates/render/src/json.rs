//! JSON in the shapes of the output contract, schema `whose/1`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::rc::Rc;

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use whose_core::answer::Answer;
use whose_core::index::scan::Listing;
use whose_core::model::{
    Described, Description, Evidence, Fact, Gap, Membership, Owner, OwnerKind, Row,
};
use whose_fields::{Cell, Field, FieldId, Pair, Record};

use crate::{json_file, text};

/// The schema's name.
const SCHEMA: &str = "whose/1";

/// The contract's PROCESS, in its order; a field that was not read is left out.
const PROCESS: [FieldId; 25] = [
    FieldId::Pid,
    FieldId::StartTicks,
    FieldId::StartTime,
    FieldId::Ppid,
    FieldId::Comm,
    FieldId::Args,
    FieldId::State,
    FieldId::Wchan,
    FieldId::Uid,
    FieldId::User,
    FieldId::InsidePid,
    FieldId::InsidePids,
    FieldId::InsideUid,
    FieldId::Pidns,
    FieldId::Cgroup,
    FieldId::Role,
    FieldId::Serves,
    FieldId::Rss,
    FieldId::Vsz,
    FieldId::Threads,
    FieldId::CpuTime,
    FieldId::Nice,
    FieldId::Tty,
    FieldId::IoRead,
    FieldId::IoWrite,
];

/// What an owner lacks whose description could not be read.
const UNREAD: [&str; 9] = [
    "image",
    "image_id",
    "log",
    "rootfs",
    "labels",
    "engine_state",
    "created",
    "started",
    "compose",
];

/// What every document begins with.
#[derive(Clone, Debug)]
pub struct Header {
    /// `live`, `mounted` or `saved`.
    pub source: &'static str,
    /// The boot id; null when a saved tree lacks it.
    pub boot_id: Option<String>,
}

impl Header {
    pub(crate) fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("schema".into(), SCHEMA.into());
        object.insert("source".into(), self.source.into());
        object.insert("boot_id".into(), self.boot_id.clone().into());
        object
    }

    /// NDJSON's first line, without columns.
    #[must_use]
    pub fn line(&self) -> Value {
        Value::Object(self.object())
    }
}

/// Writes a document for people and programs: indented, with a final newline.
///
/// # Errors
/// The writer's.
pub fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Writes one line of NDJSON.
///
/// # Errors
/// The writer's.
pub fn write_line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// The document of `whose --json TARGET...`.
#[must_use]
pub fn answer_document(header: &Header, answers: &[Answer], gaps: &[Gap]) -> Value {
    let mut object = header.object();
    object.insert("answers".into(), answers.iter().map(answer_line).collect());
    object.insert("gaps".into(), gaps.iter().map(gap).collect());
    Value::Object(object)
}

/// One ANSWER.
#[must_use]
pub fn answer_line(answer: &Answer) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "target", &answer.target);
    object.insert("kind".into(), answer.kind.into());
    object.insert("status".into(), answer.status.name().into());
    if let Some(row) = &answer.process {
        object.insert("process".into(), process(row, &PROCESS));
    }
    if let (None, [only]) = (&answer.process, answer.processes.as_slice()) {
        object.insert("process".into(), process(only, &PROCESS));
    }
    if !answer.processes.is_empty() {
        let rows = answer.processes.iter().map(|r| process(r, &PROCESS));
        object.insert("processes".into(), rows.collect());
    }
    put_membership(&mut object, &answer.membership, true);
    if let Some(binary) = &answer.binary {
        object.insert("binary".into(), json_file::file(binary));
    }
    if let Some(file) = &answer.file {
        object.insert("file".into(), json_file::file(file));
    }
    if !answer.uses.is_empty() {
        let uses = answer.uses.iter().map(|u| json!({"pid": u.pid, "how": u.how, "fds": u.fds}));
        object.insert("uses".into(), uses.collect());
    }
    if let Some(owners) = &answer.owners {
        object.insert("owners".into(), owners.iter().map(|o| owner(o, true)).collect());
    }
    if !answer.candidates.is_empty() {
        let texts = answer.candidates.iter().map(|(target, _)| text::lossy(target).0);
        object.insert("candidates".into(), texts.collect());
    }
    object.insert("evidence".into(), answer.evidence().iter().map(evidence).collect());
    object.insert("gaps".into(), answer.all_gaps().into_iter().map(gap).collect());
    Value::Object(object)
}

/// NDJSON's first line.
#[must_use]
pub fn listing_header(header: &Header, fields: &[&Field]) -> Value {
    let mut object = header.object();
    object.insert("columns".into(), columns(fields));
    Value::Object(object)
}

/// One row: what was asked for, and what identifies the process.
#[must_use]
pub(crate) fn listing_row(fields: &[&Field], row: &Row) -> Value {
    let ids: Vec<FieldId> = [FieldId::Pid, FieldId::StartTicks]
        .into_iter()
        .chain(
            fields.iter().map(|f| f.id).filter(|f| *f != FieldId::Pid && *f != FieldId::StartTicks),
        )
        .filter(|f| f.field().json.starts_with("process."))
        .collect();
    let mut object = Map::new();
    object.insert("process".into(), process(row, &ids));
    if fields.iter().any(|f| f.json.starts_with("owner")) {
        let labels = fields.iter().any(|f| f.id == FieldId::Labels);
        put_membership(&mut object, &row.membership, labels);
    }
    Value::Object(object)
}

pub(crate) fn columns(fields: &[&Field]) -> Value {
    fields.iter().map(|f| f.name).collect()
}

/// The gaps of rows and of what they are the rows of, each once.
pub(crate) fn gaps_of_rows(listing: &Listing) -> Value {
    let mut seen = HashSet::new();
    let all = listing.gaps.iter().chain(listing.rows.iter().flat_map(Row::gaps));
    let gaps: Vec<Gap> = all.filter(|gap| seen.insert(*gap)).cloned().collect();
    listing_gaps(&gaps, listing.undecided)
}

/// NDJSON's last line, when there are gaps.
#[must_use]
pub fn listing_trailer(listing: &Listing) -> Option<Value> {
    let gaps = gaps_of_rows(listing);
    gaps.as_array().is_some_and(|all| !all.is_empty()).then(|| json!({ "gaps": gaps }))
}

/// The gaps of a list, and how many rows a filter could not decide about.
pub(crate) fn listing_gaps(gaps: &[Gap], undecided: usize) -> Value {
    let mut values: Vec<Value> = gaps.iter().map(gap).collect();
    if undecided > 0 {
        let cause = format!("{undecided} left out: the filter could not be decided");
        values.push(json!({
            "what": "rows", "class": "unsupported", "path": "", "cause": cause,
        }));
    }
    Value::Array(values)
}

pub(crate) fn process(row: &Row, fields: &[FieldId]) -> Value {
    let mut object = Map::new();
    for field in fields {
        let key = field.field().json.trim_start_matches("process.");
        put_cell(&mut object, key, &row.get(*field));
    }
    Value::Object(object)
}

/// Absent keys are left out, unread ones are null.
pub(crate) fn put_cell(object: &mut Map<String, Value>, key: &str, cell: &Cell<'_>) {
    match cell {
        Cell::Absent => {}
        Cell::Bytes(bytes) => put_bytes(object, key, bytes),
        Cell::List(cells) => put_list(object, key, cells),
        other => {
            object.insert(key.into(), scalar(other));
        }
    }
}

fn scalar(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Absent | Cell::Unread(_) => Value::Null,
        Cell::Bool(b) => (*b).into(),
        Cell::Int(n) => (*n).into(),
        Cell::Uint(n) => (*n).into(),
        Cell::Float(n) => (*n).into(),
        Cell::Bytes(bytes) => text::lossy(bytes).0.into(),
        Cell::Time(ms) => text::time(*ms).into(),
        Cell::List(cells) => cells.iter().map(scalar).collect(),
        Cell::Map(pairs) => {
            let pair = |(k, v): &Pair<'_>| (text::lossy(k).0, Value::from(text::lossy(v).0));
            Value::Object(pairs.iter().map(pair).collect())
        }
    }
}

/// A text; where the bytes are no UTF-8, the exact ones beside it.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    let (text, lossy) = text::lossy(bytes);
    object.insert(key.into(), text.into());
    if lossy {
        object.insert(format!("{key}_base64"), BASE64.encode(bytes).into());
    }
}

fn put_list(object: &mut Map<String, Value>, key: &str, cells: &[Cell<'_>]) {
    object.insert(key.into(), cells.iter().map(scalar).collect());
    let bytes: Vec<&[u8]> = cells
        .iter()
        .filter_map(|c| match c {
            Cell::Bytes(bytes) => Some(bytes.as_ref()),
            _ => None,
        })
        .collect();
    if bytes.iter().any(|b| text::lossy(b).1) {
        let exact = bytes.iter().map(|b| BASE64.encode(b));
        object.insert(format!("{key}_base64"), exact.collect());
    }
}

pub(crate) fn put_membership(
    object: &mut Map<String, Value>,
    membership: &Fact<Membership>,
    labels: bool,
) {
    match membership {
        Fact::Known(m) => {
            let inner = m.owner().map_or(Value::Null, |o| owner(o, labels));
            object.insert("owner".into(), inner);
            let levels = m.chain.iter().map(|o: &Rc<Owner>| owner(o, labels));
            object.insert("chain".into(), levels.collect());
        }
        Fact::Unread(_) => {
            object.insert("owner".into(), Value::Null);
            object.insert("chain".into(), Value::Null);
        }
        Fact::Unasked | Fact::Absent => {}
    }
}

/// One OWNER.
pub(crate) fn owner(owner: &Owner, labels: bool) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), owner.kind.name().into());
    if owner.kind != OwnerKind::Host {
        object.insert("runtime".into(), owner.runtime.0.into());
        match &owner.described {
            Described::Unread(_) if owner.id.is_empty() => {
                object.insert("id".into(), Value::Null);
            }
            _ => put_bytes(&mut object, "id", &owner.id),
        }
    }
    put_cell(&mut object, "name", &owner.name_cell());
    match &owner.described {
        Described::No => {}
        Described::Yes(description) => describe(&mut object, description, labels),
        Described::Unread(_) => {
            for key in UNREAD {
                if labels || key != "labels" {
                    object.insert(key.into(), Value::Null);
                }
            }
        }
    }
    put_cell(&mut object, "state", &owner.state.cell(|s| Cell::text(s.name())));
    put_cell(&mut object, "init_pid", &owner.init_pid.cell(|p| Cell::Uint((*p).into())));
    if let Some(pod) = owner.pod() {
        let mut inner = Map::new();
        let parts = [
            ("name", pod.name),
            ("namespace", pod.namespace),
            ("uid", pod.uid),
            ("container", pod.container),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                put_bytes(&mut inner, key, &value);
            }
        }
        let unread = owner.description().is_some_and(|d| d.unread(FieldId::Restarts).is_some());
        if pod.restarts.is_some() || unread {
            inner.insert("restarts".into(), pod.restarts.into());
        }
        if let Some(qos) = owner.qos() {
            inner.insert("qos".into(), qos.into());
        }
        object.insert("pod".into(), Value::Object(inner));
    }
    Value::Object(object)
}

fn describe(object: &mut Map<String, Value>, d: &Description, labels: bool) {
    let mut bytes = |key: &str, value: &Option<bstr::BString>| {
        if let Some(value) = value {
            put_bytes(object, key, value);
        }
    };
    bytes("image", &d.image);
    bytes("image_id", &d.image_id);
    bytes("log", &d.log);
    bytes("rootfs", &d.rootfs);
    bytes("user", &d.user);
    if labels && d.unread(FieldId::Labels).is_none() {
        let pair =
            |(k, v): &(bstr::BString, bstr::BString)| (text::lossy(k).0, text::lossy(v).0.into());
        object.insert("labels".into(), Value::Object(d.labels.iter().map(pair).collect()));
    }
    if let Some(word) = d.engine_state {
        object.insert("engine_state".into(), word.into());
    }
    for (key, time) in [("created", d.created), ("started", d.started)] {
        if let Some(ms) = time {
            object.insert(key.into(), text::time(ms).into());
        }
    }
    for (field, _) in &d.unread {
        let key = field.field().json.trim_start_matches("owner.");
        let asked = labels || *field != FieldId::Labels;
        if asked && !key.contains('.') {
            object.entry(key).or_insert(Value::Null);
        }
    }
    if let Some(compose) = &d.compose {
        let mut inner = Map::new();
        put_bytes(&mut inner, "project", &compose.project);
        if let Some(service) = &compose.service {
            put_bytes(&mut inner, "service", service);
        }
        object.insert("compose".into(), Value::Object(inner));
    }
}

fn evidence(evidence: &Evidence) -> Value {
    let mut object = Map::new();
    object.insert("source".into(), evidence.source.name().into());
    put_bytes(&mut object, "detail", &evidence.detail);
    put_bytes(&mut object, "path", &evidence.path);
    object.insert("agrees".into(), evidence.agrees.into());
    Value::Object(object)
}

pub(crate) fn gap(gap: &Gap) -> Value {
    let mut object = Map::new();
    object.insert("what".into(), gap.what.into());
    object.insert("class".into(), gap.class.name().into());
    put_bytes(&mut object, "path", &gap.path);
    object.insert("cause".into(), gap.cause.as_ref().into());
    if let Some(remedy) = &gap.remedy {
        object.insert("remedy".into(), remedy.as_ref().into());
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use whose_core::model::Described;
    use whose_core::model::{Description, Engine, Owner, OwnerKind};

    use super::{owner, put_bytes};

    #[test]
    fn bytes_that_are_no_text_keep_their_exact_form() {
        let mut object = Map::new();
        put_bytes(&mut object, "name", b"a\xff");
        assert_eq!(json!(object), json!({"name": "a\u{fffd}", "name_base64": "Yf8="}));
    }

    #[test]
    fn an_owner_has_what_is_known_and_no_more() {
        let host = owner(&Owner::host(), true);
        assert_eq!(host, json!({"kind": "host"}));
        let mut web = Owner::new(OwnerKind::Container, Engine("docker"), "ab");
        web.described = Described::Yes(Box::new(Description {
            name: Some("web".into()),
            created: Some(0),
            labels: vec![("k".into(), "v".into())],
            ..Description::default()
        }));
        assert_eq!(
            owner(&web, true),
            json!({"kind": "container", "runtime": "docker", "id": "ab", "name": "web",
                "labels": {"k": "v"}, "created": "1970-01-01T00:00:00.000Z"})
        );
        assert!(owner(&web, false).get("labels").is_none());
    }
}
