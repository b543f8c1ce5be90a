//! Docker's API, as its types have it (moby api/types/container). Both calls are of every version;
//! without one in the path a daemon takes its own.

use std::collections::BTreeMap;

use bstr::BStr;
use serde::Deserialize;
use whose_core::model::daemon::Told;

use crate::{List, json, labels, pid, text};

/// All containers, running or not. Sizes are not asked for: that would walk their files.
pub(crate) const LIST: &str = "/containers/json?all=1";

/// The path that asks for one container.
pub(crate) fn one(id: &BStr) -> String {
    format!("/containers/{}/json", crate::places::escaped(id))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
}

/// Reads the answer to a list. Of an image whose name means another one by now it has the id
/// alone; then the name is not told.
///
/// # Errors
/// What is wrong with it.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Told>, String> {
    let List(all): List<Listed> = json(bytes)?;
    let told = |c: Listed| {
        // Names of links have the other container's before them.
        let own = |name: &String| name.strip_prefix('/').is_some_and(|n| !n.contains('/'));
        let name = c.names.unwrap_or_default().into_iter().find(own);
        let is_id = c.image == c.image_id || c.image_id.strip_prefix("sha256:") == Some(&c.image);
        Told {
            id: c.id.into(),
            name: name.and_then(|n| text(&n[1..])),
            image: text(c.image).filter(|_| !is_id),
            image_id: text(c.image_id),
            labels: labels(c.labels),
            state: Some(c.state).filter(|s| !s.is_empty()),
            ..Told::default()
        }
    };
    Ok(all.into_iter().map(told).collect())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    log_path: String,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    state: Option<State>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
    pid: i64,
    started_at: String,
}

/// Reads the answer about one container.
///
/// # Errors
/// What is wrong with it.
pub fn parse_one(bytes: &[u8]) -> Result<Told, String> {
    let c: Inspected = json(bytes)?;
    let (config, state) = (c.config.unwrap_or_default(), c.state.unwrap_or_default());
    Ok(Told {
        id: c.id.into(),
        name: text(c.name.strip_prefix('/').unwrap_or(&c.name)),
        image: text(config.image),
        image_id: text(c.image),
        labels: labels(config.labels),
        state: Some(state.status).filter(|s| !s.is_empty()),
        created: Some(c.created).filter(|s| !s.is_empty()),
        started: Some(state.started_at).filter(|s| !s.is_empty()),
        pid: pid(state.pid),
        log: text(c.log_path),
        is_whole: true,
        ..Told::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{one, parse_list, parse_one};

    #[test]
    fn a_list_has_names_images_and_labels() {
        let text =
            br#"[{"Id":"ab","Names":["/other/alias","/web"],"Image":"app:1","ImageID":"sha256:cd",
            "Command":"x","Created":1,"Ports":[],"Labels":{"b":"2","a":"1"},"State":"running",
            "Status":"Up","HostConfig":{"NetworkMode":"none"},"Mounts":[]},
            {"Id":"ef","Names":null,"Image":"sha256:cd","ImageID":"sha256:cd","Labels":null}]"#;
        let all = parse_list(text).unwrap();
        let many = |count: usize| format!("[{}{{\"Id\":\"\"}}]", "{\"Id\":\"\"},".repeat(count));
        assert_eq!(parse_list(many(99_999).as_bytes()).unwrap().len(), 100_000);
        assert_eq!(parse_list(many(100_000).as_bytes()).unwrap_err(), "JSON of another shape");
        assert_eq!(
            (all[0].name.as_ref().unwrap(), all[0].image.as_ref().unwrap()),
            (&"web".into(), &"app:1".into())
        );
        assert_eq!(all[0].labels, [("a".into(), "1".into()), ("b".into(), "2".into())]);
        assert_eq!((all[0].state.as_deref(), all[0].is_whole), (Some("running"), false));
        assert_eq!((&all[1].name, &all[1].image, &all[1].state), (&None, &None, &None));
        assert_eq!(all[1].image_id.as_ref().unwrap(), "sha256:cd");
    }

    #[test]
    fn one_has_its_times_too() {
        let text =
            br#"{"Id":"ab","Created":"2026-01-02T03:04:05.678912345Z","Path":"x","State":{"Status":
            "exited","Pid":0,"StartedAt":"0001-01-01T00:00:00Z"},"Image":"sha256:cd","LogPath":"/l",
            "Name":"/web","Config":{"Image":"app:1","Labels":{}}}"#;
        let told = parse_one(text).unwrap();
        assert_eq!((told.pid, told.log.unwrap(), told.is_whole), (None, "/l".into(), true));
        assert_eq!(told.created.as_deref(), Some("2026-01-02T03:04:05.678912345Z"));
        assert_eq!(one("a/../b".into()), "/containers/a%2F..%2Fb/json");
    }

    #[test]
    fn what_is_no_answer_is_said() {
        assert_eq!(parse_list(b"{\"message\":\"x\"}").unwrap_err(), "JSON of another shape");
        assert_eq!(parse_list(b"[{\"Id\":").unwrap_err(), "JSON cut short");
        assert_eq!(parse_one(b"<html>").unwrap_err(), "not JSON");
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(parse_list(&deep).is_err());
    }
}
