//! The API of LXD and of Incus, which is the same here (incus shared/api/instance.go).

use std::collections::BTreeMap;

use serde::Deserialize;
use whose_core::model::daemon::Told;

use crate::{List, json, pid, text};

/// All instances of every project, with their states.
pub(crate) const LIST: &str = "/1.0/instances?recursion=2&all-projects=true";

#[derive(Debug, Deserialize)]
struct Answer {
    metadata: Option<List<Instance>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Instance {
    name: String,
    project: String,
    status: String,
    #[serde(rename = "type")]
    kind: String,
    created_at: String,
    last_used_at: String,
    config: Option<BTreeMap<String, String>>,
    state: Option<State>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    pid: i64,
}

/// Reads the answer to a list, as far as it has containers: virtual machines are none. The id has the
/// project before the name.
/// Labels are the configuration that is the user's own.
///
/// # Errors
/// What is wrong with it.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Told>, String> {
    let answer: Answer = json(bytes)?;
    let List(all) = answer.metadata.ok_or("JSON of another shape")?;
    let told = |i: Instance| {
        let mut config = i.config.unwrap_or_default();
        let project = if i.project.is_empty() { "default" } else { i.project.as_str() };
        Told {
            id: format!("{project}/{}", i.name).into(),
            name: text(i.name),
            image: config.remove("image.description").and_then(text),
            image_id: config.remove("volatile.base_image").and_then(text),
            labels: config
                .into_iter()
                .filter(|(key, _)| key.starts_with("user."))
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            state: Some(i.status.to_lowercase()).filter(|s| !s.is_empty()),
            created: Some(i.created_at).filter(|s| !s.is_empty()),
            started: Some(i.last_used_at).filter(|s| !s.is_empty()),
            pid: pid(i.state.unwrap_or_default().pid),
            is_whole: true,
            ..Told::default()
        }
    };
    Ok(all.into_iter().filter(|i| i.kind == "container").map(told).collect())
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn containers_have_their_projects_before_them() {
        let text = br#"{"type":"sync","status":"Success","status_code":200,"metadata":[
            {"name":"web","project":"default","status":"Running","type":"container","created_at":
             "2026-01-02T03:04:05Z","last_used_at":"2026-01-03T03:04:05Z","config":{"image.description":
             "Debian bookworm","volatile.base_image":"fa","user.tier":"front","limits.cpu":"2"},
             "state":{"status":"Running","pid":77}},
            {"name":"db","project":"shop","status":"Stopped","type":"container","config":null,"state":null},
            {"name":"vm","project":"default","status":"Running","type":"virtual-machine"}]}"#;
        let all = parse_list(text).unwrap();
        let ids: Vec<String> = all.iter().map(|t| t.id.to_string()).collect();
        assert_eq!(ids, ["default/web", "shop/db"]);
        assert_eq!(all[0].labels, [("user.tier".into(), "front".into())]);
        assert_eq!(
            (all[0].pid, all[0].image.as_ref().unwrap()),
            (Some(77), &"Debian bookworm".into())
        );
        assert_eq!((all[1].state.as_deref(), all[1].pid), (Some("stopped"), None));
        assert_eq!(parse_list(br#"{"metadata":null}"#).unwrap_err(), "JSON of another shape");
        assert!(parse_list(br#"{"error":"x","metadata":{}}"#).is_err());
    }
}
