//! JSON of `whose ls`.

use serde_json::{Map, Value, json};
use whose_core::model::{Fact, Gap, Listed};

use crate::json::{Header, gap, owner};

/// The document of `whose ls --json`.
#[must_use]
pub fn containers_document(header: &Header, rows: &[Listed], gaps: &[Gap]) -> Value {
    let mut object = header.object();
    object.insert("containers".into(), rows.iter().map(container_line).collect());
    object.insert("gaps".into(), gaps.iter().map(gap).collect());
    Value::Object(object)
}

/// One container: an OWNER with its processes and all its levels, outermost first.
#[must_use]
pub fn container_line(listed: &Listed) -> Value {
    let chain = match &listed.row.membership {
        Fact::Known(membership) => membership.chain.as_slice(),
        _ => &[],
    };
    let Some(Value::Object(mut object)) = chain.last().map(|o| owner(o, true)) else {
        return Value::Object(Map::new());
    };
    object.insert("processes".into(), listed.pids.len().into());
    object.insert("pids".into(), listed.pids.iter().copied().collect());
    object.insert("chain".into(), chain.iter().map(|o| owner(o, false)).collect());
    Value::Object(object)
}

/// NDJSON's last line, when there are gaps.
#[must_use]
pub fn gaps_line(gaps: &[Gap]) -> Option<Value> {
    (!gaps.is_empty()).then(|| json!({ "gaps": gaps.iter().map(gap).collect::<Vec<_>>() }))
}
