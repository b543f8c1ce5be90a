//! Podman's own API (podman pkg/api/handlers/libpod/containers.go, libpod/define/container_inspect.go);
//! its other one, which is Docker's, has no PIDs.

use std::collections::BTreeMap;

use bstr::BStr;
use serde::Deserialize;
use whose_core::model::daemon::Told;

use crate::{List, json, labels, pid, text};

/// All containers, running or not. Releases from 4 on know this version.
pub(crate) const LIST: &str = "/v4.0.0/libpod/containers/json?all=true";

/// The path that asks for one container.
pub(crate) fn one(id: &BStr) -> String {
    format!("/v4.0.0/libpod/containers/{}/json", crate::places::escaped(id))
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
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    pod_name: String,
    #[serde(default)]
    is_infra: bool,
}

/// Reads the answer to a list.
///
/// # Errors
/// What is wrong with it.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Told>, String> {
    // Go writes null for an empty list.
    let all: Option<List<Listed>> = json(bytes)?;
    let all = all.map(|List(all)| all);
    let told = |c: Listed| Told {
        id: c.id.into(),
        name: c.names.unwrap_or_default().into_iter().next().and_then(text),
        image: text(c.image),
        image_id: text(c.image_id),
        labels: labels(c.labels),
        state: Some(c.state).filter(|s| !s.is_empty()),
        pid: pid(c.pid),
        pod: text(c.pod).map(|id| (id, text(c.pod_name))),
        is_sandbox: c.is_infra,
        ..Told::default()
    };
    Ok(all.unwrap_or_default().into_iter().map(told).collect())
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
    image_name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    is_infra: bool,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    host_config: Option<HostConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
    pid: i64,
    started_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    log_config: LogConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    path: String,
}

/// Reads the answer about one container. It does not have the name of a pod.
///
/// # Errors
/// What is wrong with it.
pub fn parse_one(bytes: &[u8]) -> Result<Told, String> {
    let c: Inspected = json(bytes)?;
    let (config, state) = (c.config.unwrap_or_default(), c.state.unwrap_or_default());
    Ok(Told {
        id: c.id.into(),
        name: text(c.name),
        image: text(c.image_name),
        image_id: text(c.image),
        labels: labels(config.labels),
        state: Some(state.status).filter(|s| !s.is_empty()),
        created: Some(c.created).filter(|s| !s.is_empty()),
        started: Some(state.started_at).filter(|s| !s.is_empty()),
        pid: pid(state.pid),
        log: text(c.host_config.unwrap_or_default().log_config.path),
        pod: text(c.pod).map(|id| (id, None)),
        is_sandbox: c.is_infra,
        is_whole: true,
    })
}

#[cfg(test)]
mod tests {
    use super::{parse_list, parse_one};

    #[test]
    fn a_list_has_pids_and_pods() {
        let text = br#"[{"AutoRemove":false,"Command":["x"],"Created":"2026-01-02T03:04:05Z","Id":"ab",
            "Image":"localhost/app:1","ImageID":"cd","IsInfra":false,"Labels":{"a":"b"},"Names":["web"],
            "Pid":77,"Pod":"ef","PodName":"shop","State":"running"},{"Id":"x","Pid":0,"IsInfra":true}]"#;
        let all = parse_list(text).unwrap();
        assert_eq!((all[0].pid, all[0].name.as_ref().unwrap()), (Some(77), &"web".into()));
        assert_eq!(all[0].pod, Some(("ef".into(), Some("shop".into()))));
        assert_eq!((all[1].pid, all[1].is_sandbox, &all[1].pod), (None, true, &None));
        assert!(parse_list(b"null").unwrap().is_empty());
    }

    #[test]
    fn one_has_its_times_too() {
        let text = br#"{"Id":"ab","Created":"2026-01-02T03:04:05.6Z","State":{"Status":"running","Pid":77,
            "StartedAt":"2026-01-02T03:04:06Z"},"Image":"cd","ImageName":"app:1","Name":"web","Pod":"",
            "IsInfra":false,"Config":{"Labels":null},"HostConfig":{"LogConfig":{"Path":"/l"}}}"#;
        let told = parse_one(text).unwrap();
        assert_eq!((told.pid, told.image.unwrap(), told.pod), (Some(77), "app:1".into(), None));
        assert_eq!((told.log.unwrap(), told.is_whole), ("/l".into(), true));
        assert_eq!(parse_one(b"[]").unwrap_err(), "JSON of another shape");
    }
}
