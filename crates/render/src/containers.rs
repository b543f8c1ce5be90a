//! JSON of `whose ls`.

use serde_json::{Map, Value, json};
use whose_core::model::{Fact, Gap, Listed};
use whose_fields::{FieldId, Record};

use crate::json::{Header, gap, owner, put_cell};

/// The document of `whose ls --json`; `totals` are those that were asked for.
#[must_use]
pub fn containers_document(
    header: &Header,
    rows: &[Listed],
    totals: &[FieldId],
    gaps: &[Gap],
) -> Value {
    let mut object = header.object();
    let containers = rows.iter().map(|listed| container_line(listed, totals));
    object.insert("containers".into(), containers.collect());
    object.insert("gaps".into(), gaps.iter().map(gap).collect());
    Value::Object(object)
}

/// One container: an OWNER with its processes, totals, and all its levels, outermost first.
#[must_use]
pub fn container_line(listed: &Listed, totals: &[FieldId]) -> Value {
    let chain = match &listed.row.membership {
        Fact::Known(membership) => membership.chain.as_slice(),
        _ => &[],
    };
    let Some(Value::Object(mut object)) = chain.last().map(|o| owner(o, true)) else {
        return Value::Object(Map::new());
    };
    object.insert("processes".into(), listed.pids.len().into());
    object.insert("pids".into(), listed.pids.iter().copied().collect());
    for field in totals {
        put_cell(&mut object, field.field().name, &listed.get(*field));
    }
    object.insert("chain".into(), chain.iter().map(|o| owner(o, false)).collect());
    Value::Object(object)
}

/// NDJSON's last line, when there are gaps.
#[must_use]
pub fn gaps_line(gaps: &[Gap]) -> Option<Value> {
    (!gaps.is_empty()).then(|| json!({ "gaps": gaps.iter().map(gap).collect::<Vec<_>>() }))
}
