//! What the agent of ECS keeps of the containers that it had Docker run: `data/agent.db`, a bolt database with a JSON
//! value a container in the bucket `containers` (ecs-agent agent/data/container_client.go,
//! agent/api/container/container.go).

use std::ops::ControlFlow;

use bstr::{BStr, BString, ByteSlice};
use memchr::memmem;
use serde::Deserialize;
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::bolt::{Database, Source, Trouble};
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

/// The container of this id; of what the agent has besides nothing is taken apart.
///
/// # Errors
/// The read's, or `malformed`.
pub fn container(root: &Root, id: &BStr) -> Result<Option<Container>, ReadError> {
    container_in(&Database::open_unrecorded(root, FILE)?, id)
}

fn container_in<S: Source>(
    database: &Database<S>,
    id: &BStr,
) -> Result<Option<Container>, ReadError> {
    let needle = memmem::Finder::new(id.as_bytes());
    database.view(|top| {
        let mut found = None;
        let Some(all) = top.bucket(b"containers")? else { return Ok(None) };
        all.walk(&mut |item| {
            let value = item.value()?.filter(|value| needle.find(value).is_some());
            if let Some(value) = value {
                found = Some(parse(value).map_err(Trouble::Wrong)?).filter(|own| own.id == id);
            }
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_testkit::bolt::{Bucket, Layout, file};

    use super::{container_in, parse};
    use crate::state::bolt::Database;

    #[test]
    fn one_of_many_is_found_whatever_the_others_are() {
        let mut root = Bucket::default();
        let all = root.bucket("containers");
        for n in 0..100 {
            all.put(format!("t-{n:03}"), format!(r#"{{"DockerId":"{n:064}"}}"#));
        }
        all.put("s-1", "no JSON");
        // Another's environment may have its id in it.
        let other =
            format!(r#"{{"DockerId":"f","Container":{{"environment":{{"A":"{:064}"}}}}}}"#, 7);
        all.put("s-2", other);
        let database = Database::over(file(&root, Layout::default()));
        let of = |id: &str| container_in(&database, BStr::new(id)).unwrap().map(|own| own.id);
        for n in [0, 7, 99] {
            let id = format!("{n:064}");
            assert_eq!(of(&id).unwrap(), id.as_str());
        }
        assert_eq!(of(&format!("{:064}", 100)), None);
    }

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
