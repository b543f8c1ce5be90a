//! What rkt keeps of a pod: `<phase>/<uuid>/pod`, an appc pod manifest (appc/spec spec/pods.md), in a directory that
//! says what became of it (rkt Documentation/devel/pod-lifecycle.md).

use bstr::BString;
use serde::Deserialize;

use super::json;

/// A pod's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its applications: name, and image with its version.
    pub apps: Vec<(BString, Option<BString>)>,
    /// Annotations.
    pub annotations: Vec<(BString, BString)>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct Image {
    name: Option<String>,
    #[serde(default)]
    labels: Option<Vec<Pair>>,
}

#[derive(Debug, Deserialize)]
struct App {
    name: String,
    image: Option<Image>,
}

/// Parses a pod's manifest.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Pod, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "acKind")]
        kind: String,
        #[serde(default)]
        apps: Option<Vec<App>>,
        #[serde(default)]
        annotations: Option<Vec<Pair>>,
    }
    let file: File = json::parse(bytes)?;
    if file.kind != "PodManifest" {
        return Err("no manifest of a pod".into());
    }
    let image = |image: Image| {
        let name = image.name.filter(|name| !name.is_empty())?;
        let version = image.labels.into_iter().flatten().find(|label| label.name == "version");
        Some(version.map_or_else(|| name.clone(), |v| format!("{name}:{}", v.value)).into())
    };
    let apps = file.apps.into_iter().flatten();
    let annotations = file.annotations.into_iter().flatten();
    Ok(Pod {
        apps: apps.map(|app| (app.name.into(), app.image.and_then(image))).collect(),
        annotations: annotations.map(|a| (a.name.into(), a.value.into())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_pod_and_what_is_none() {
        let text = br#"{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{"name":"etcd","image":
            {"name":"coreos.com/etcd","id":"sha512-1","labels":[{"name":"version","value":"v2.0.10"}]},
            "app":{"exec":["/etcd"]}},{"name":"bare"}],"annotations":[{"name":"a","value":"b"}]}"#;
        let pod = parse(text).unwrap();
        assert_eq!(pod.apps[0], ("etcd".into(), Some("coreos.com/etcd:v2.0.10".into())));
        assert_eq!(pod.apps[1], ("bare".into(), None));
        assert_eq!(pod.annotations, [("a".into(), "b".into())]);
        assert!(parse(br#"{"acKind":"ImageManifest"}"#).is_err());
        assert!(parse(br#"{"acKind":"PodManifest","apps":[{}]}"#).is_err());
        assert!(parse(b"").is_err());
    }
}
