//! Answers against `docker inspect`, `docker top` and `/proc`.

use crate::pid_of;
use serde_json::Value;
use std::collections::BTreeSet;
use whose_testkit::facts::Facts;
use whose_testkit::procfs;

/// An RFC 3339 time in UTC as the contract writes it: milliseconds, the rest cut off. `None` for
/// docker's "never".
#[must_use]
pub fn millis(time: &str) -> Option<String> {
    if time.starts_with("0001-01-01") {
        return None;
    }
    let whole = time.strip_suffix('Z')?;
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(format!("{seconds}.{fraction}Z"))
}

/// The text of a value, `None` when the key is absent or null.
fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

/// Compares an OWNER with what `docker inspect` says of the container.
pub fn owner(facts: &mut Facts, owner: &Value, inspect: &Value) {
    let state = &inspect["State"];
    facts.same("kind", text(&owner["kind"]), Some("container"));
    facts.same("runtime", text(&owner["runtime"]), Some("docker"));
    facts.same("id", &owner["id"], &inspect["Id"]);
    let name = inspect["Name"].as_str().map(|n| n.trim_start_matches('/'));
    facts.same("name", text(&owner["name"]), name);
    facts.same("image", &owner["image"], &inspect["Config"]["Image"]);
    facts.same("image_id", &owner["image_id"], &inspect["Image"]);
    labels(facts, &owner["labels"], &inspect["Config"]["Labels"]);
    facts.same("state", &owner["state"], &state["Status"]);
    if !owner["engine_state"].is_null() {
        facts.same("engine_state", &owner["engine_state"], &state["Status"]);
    }
    let time = |value: &Value| value.as_str().and_then(millis);
    facts.same("created", text(&owner["created"]), time(&inspect["Created"]).as_deref());
    facts.same("started", text(&owner["started"]), time(&state["StartedAt"]).as_deref());
    let init = pid_of(&state["Pid"]).filter(|pid| *pid != 0);
    facts.same("init_pid", pid_of(&owner["init_pid"]), init);
    let log = inspect["LogPath"].as_str().filter(|path| !path.is_empty());
    facts.same("log", text(&owner["log"]), log);
    let label = |key: &str| inspect["Config"]["Labels"][key].as_str();
    if let Some(project) = label("com.docker.compose.project") {
        facts.same("compose.project", text(&owner["compose"]["project"]), Some(project));
        let service = label("com.docker.compose.service");
        facts.same("compose.service", text(&owner["compose"]["service"]), service);
    }
}

/// No labels may be an empty object or an absent key; their order is nobody's business.
pub fn labels(facts: &mut Facts, got: &Value, wanted: &Value) {
    let empty = serde_json::Map::new();
    let got = got.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    facts.same("labels", got, wanted);
}

/// The PIDs in a list of PROCESS.
#[must_use]
pub fn pids(processes: &Value) -> BTreeSet<u32> {
    processes.as_array().into_iter().flatten().filter_map(|p| pid_of(&p["pid"])).collect()
}

/// Compares the answer for a PID with `/proc`, and its owner with the container `id`.
pub fn process(facts: &mut Facts, answer: &Value, pid: u32, id: &str) {
    kernel(facts, answer, pid);
    facts.same(&format!("{pid} owner.id"), text(&answer["owner"]["id"]), Some(id));
    let last = answer["chain"].as_array().and_then(|chain| chain.last()).unwrap_or(&Value::Null);
    facts.same(&format!("{pid} chain.last"), last, &answer["owner"]);
}

/// Compares the answer for a PID with `/proc`.
pub fn kernel(facts: &mut Facts, answer: &Value, pid: u32) {
    let process = &answer["process"];
    let name = |what: &str| format!("{pid} {what}");
    facts.same(&name("status"), text(&answer["status"]), Some("found"));
    facts.same(&name("pid"), pid_of(&process["pid"]), Some(pid));
    facts.same(&name("start_ticks"), process["start_ticks"].as_u64(), procfs::start_ticks(pid));
    facts.same(&name("ppid"), pid_of(&process["ppid"]), procfs::ppid(pid));
    facts.same(&name("uid"), pid_of(&process["uid"]), procfs::uid(pid));
    facts.same(&name("comm"), text(&process["comm"]), procfs::comm(pid).as_deref());
    let nspid = procfs::nspid(pid).unwrap_or_default();
    facts.same(&name("inside_pid"), pid_of(&process["inside_pid"]), nspid.last().copied());
}

/// Takes away what may differ between two answers about containers that did not change: the
/// evidence, and the counters of processes.
pub fn without_volatile(value: &mut Value) {
    const VOLATILE: &[&str] =
        &["rss", "vsz", "cpu_time", "io_read", "io_write", "threads", "state", "wchan"];
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_volatile),
        Value::Object(map) => {
            map.shift_remove("evidence");
            if map.contains_key("start_ticks") {
                for key in VOLATILE {
                    map.shift_remove(*key);
                }
            }
            map.values_mut().for_each(without_volatile);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{millis, without_volatile};

    #[test]
    fn times_are_cut_not_rounded() {
        let of = |time| millis(time);
        assert_eq!(of("2024-01-02T03:04:05.6789999Z").as_deref(), Some("2024-01-02T03:04:05.678Z"));
        assert_eq!(of("2024-01-02T03:04:05.6Z").as_deref(), Some("2024-01-02T03:04:05.600Z"));
        assert_eq!(of("2024-01-02T03:04:05Z").as_deref(), Some("2024-01-02T03:04:05.000Z"));
        assert_eq!(of("0001-01-01T00:00:00Z"), None);
    }

    #[test]
    fn an_owner_keeps_its_state() {
        let mut value = serde_json::json!({
            "owner": {"state": "running", "evidence": 1},
            "process": {"start_ticks": 1, "state": "S", "rss": 2, "comm": "x"},
            "evidence": []
        });
        without_volatile(&mut value);
        let wanted = r#"{"owner":{"state":"running"},"process":{"start_ticks":1,"comm":"x"}}"#;
        assert_eq!(value.to_string(), wanted);
    }
}
