//! What the agent of ECS keeps of the containers that it had Docker run: `data/agent.db`, a bolt database with a JSON
//! value a container in the bucket `containers` (ecs-agent agent/data/container_client.go,
//! agent/api/container/container.go).

use std::ops::ControlFlow;

use bstr::BString;
use serde::Deserialize;
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::bolt::{Database, Trouble};
use super::json;

/// The database beneath the agent's directory.
pub const FILE: &[u8] = b"data/agent.db";

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, Docker's; empty until there is one.
    pub id: BString,
    /// Its name in the task's definition.
    pub name: BString,
    /// The name that it has in Docker.
    pub docker_name: BString,
    /// The image that was asked for.
    pub image: Option<BString>,
    /// The image's id.
    pub image_id: Option<BString>,
    /// The task.
    pub task: Option<BString>,
    /// The agent's word for what became of it.
    pub status: BString,
}

/// Parses the value of a container.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Container, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Own {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Image")]
        image: String,
        #[serde(rename = "ImageID")]
        image_id: String,
        #[serde(rename = "taskARN")]
        task: String,
        #[serde(rename = "KnownStatus")]
        status: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        #[serde(rename = "DockerId")]
        id: String,
        #[serde(rename = "DockerName")]
        name: String,
        #[serde(rename = "Container")]
        own: Option<Own>,
    }
    let file: File = json::parse(bytes)?;
    let own = file.own.unwrap_or_default();
    let text = |text: String| Some(BString::from(text)).filter(|text| !text.is_empty());
    Ok(Container {
        id: file.id.into(),
        name: own.name.into(),
        docker_name: file.name.into(),
        image: text(own.image),
        image_id: text(own.image_id),
        task: text(own.task),
        status: own.status.into(),
    })
}

/// All containers that the agent knows, at one moment.
///
/// # Errors
/// The read's, or `malformed`.
pub fn containers(root: &Root) -> Result<Vec<Container>, ReadError> {
    Database::open_unrecorded(root, FILE)?.view(|top| {
        let mut containers = Vec::new();
        let Some(all) = top.bucket(b"containers")? else { return Ok(containers) };
        all.walk(&mut |item| {
            if let Some(value) = item.value()? {
                containers.push(parse(value).map_err(Trouble::Wrong)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(containers)
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_container_of_a_task() {
        let text =
            br#"{"DockerId":"0123","DockerName":"ecs-shop-7-web-b0c1","Container":{"Name":"web",
            "Image":"shop:7","ImageID":"sha256:1","taskARN":"arn:aws:ecs:r:1:task/c/5a0c",
            "KnownStatus":"RUNNING","KnownExitCode":null}}"#;
        let read = parse(text).unwrap();
        assert_eq!(
            (read.id, read.name, read.status),
            ("0123".into(), "web".into(), "RUNNING".into())
        );
        assert_eq!(
            (read.image.unwrap(), read.image_id.unwrap()),
            ("shop:7".into(), "sha256:1".into())
        );
        assert_eq!(parse(b"{}").unwrap().image, None);
        assert!(parse(b"[1]").is_err());
        assert!(parse(br#"{"DockerId":1}"#).is_err());
    }
}
