//! Machines of LXC, and instances of LXD and Incus, against what those say of them.

use crate::compare::millis;
use serde_json::Value;
use std::path::Path;
use whose_testkit::facts::Facts;

/// The owner of an answer by engine, id and name; it is the last of the chain.
pub fn machine(facts: &mut Facts, told: &Value, (runtime, id, name): (&str, &str, &str)) {
    let owner = &told["owner"];
    facts.same("kind", owner["kind"].as_str(), Some("machine"));
    facts.same("runtime", owner["runtime"].as_str(), Some(runtime));
    facts.same("id", owner["id"].as_str(), Some(id));
    facts.same("name", owner["name"].as_str(), Some(name));
    let last = told["chain"].as_array().and_then(|chain| chain.last());
    facts.same("chain", last, Some(owner));
}

/// What the files in the daemon's directory `dir` tell of an instance of its list.
pub fn stored(facts: &mut Facts, owner: &Value, instance: &Value, dir: &Path) {
    let text = |key: &str| instance[key].as_str().unwrap_or_default();
    let image = instance["config"]["volatile.base_image"].as_str();
    facts.same("image_id", owner["image_id"].as_str(), image);
    facts.same("image", owner["image"].as_str(), Some("lab image"));
    let created = millis(text("created_at"));
    facts.same("created", owner["created"].as_str(), created.as_deref());
    let root = match text("project") {
        "default" => text("name").to_owned(),
        project => format!("{project}_{}", text("name")),
    };
    let root = dir.join("storage-pools/default/containers").join(root).join("rootfs");
    let root = root.display().to_string();
    facts.same("rootfs", owner["rootfs"].as_str(), Some(root.as_str()));
}

/// What the daemon is said to have told.
#[must_use]
pub fn heard(told: &Value) -> Vec<String> {
    let all = told["evidence"].as_array().into_iter().flatten();
    let daemons = all.filter(|e| e["source"] == "daemon");
    daemons.filter_map(|e| Some(e["detail"].as_str()?.to_owned())).collect()
}
