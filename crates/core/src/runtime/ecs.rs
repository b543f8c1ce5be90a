//! Amazon ECS tasks on cgroup v1: `ecs[/<cluster>]/<task>/<id>`, the id 64 digits, or on Fargate
//! the task's 32, a dash and a number (ecs-agent agent/api/task/task_linux.go). On v2 only the
//! slice around Docker's scope is ECS's. The agent runs containers with Docker: where that one's state
//! can be read they are Docker's, with their task in labels. Else the agent's own database names those that
//! have a cgroup of ECS's; what Fargate runs has no state here.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, Service, StateRoot, segment, service};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::ecs as files;

/// See the module.
#[derive(Debug)]
pub(super) struct Ecs;

const ENGINE: Engine = Engine("ecs");
/// The agent's directory on the host (amazon-ecs-init).
const AGENT: &str = "var/lib/ecs";

impl Runtime for Ecs {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let fits = is_container(place);
            fits.then(|| Owner::new(OwnerKind::Container, ENGINE, place.text()))
        });
        levels.into()
    }

    fn has_state(&self) -> bool {
        true
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, [AGENT.into()])),
            _ => FoundRoots::default(),
        }
    }

    /// By its id alone: a name leads to Docker's, which has the container.
    fn find(&self, _: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let Query::Id(id) = query else { return Ok(Matches::default()) };
        let ids = own(root, id)?.into_iter().map(|own| own.id).collect();
        Ok(Matches { ids, gaps: Vec::new() })
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        let gone =
            || ReadError::new(root.root.join(files::FILE), Class::Gone, "no container of it");
        Some(own(root, id).and_then(|own| own.map(|own| described(root, own)).ok_or_else(gone)))
    }

    fn services(&self) -> &'static [Service] {
        &[service::DOCKER]
    }
}

fn own(root: &StateRoot, id: &BStr) -> Result<Option<files::Container>, ReadError> {
    if !segment::is_hex64(id) {
        return Ok(None);
    }
    match files::container(&root.root, id) {
        Err(e) if e.class == Class::Gone => Ok(None),
        own => own,
    }
}

fn described(root: &StateRoot, own: files::Container) -> Description {
    let (word, believed) = match own.status.as_slice() {
        b"NONE" | b"PULLED" | b"MANIFEST_PULLED" | b"CREATED" => {
            ("CREATED", ContainerState::Created)
        }
        b"RUNNING" | b"RESOURCES_PROVISIONED" => ("RUNNING", ContainerState::Running),
        b"STOPPED" | b"ZOMBIE" => ("STOPPED", ContainerState::Exited),
        _ => ("", ContainerState::Unknown),
    };
    // The labels that the agent gives in Docker (agent/engine/docker_task_engine.go), of those that its state has.
    let label = |key: &str, value| (format!("com.amazonaws.ecs.{key}").into(), value);
    let labels: [Option<(BString, BString)>; 2] = [
        Some(label("container-name", own.name.clone())).filter(|(_, name)| !name.is_empty()),
        own.task.map(|task| label("task-arn", task)),
    ];
    let name = [own.docker_name, own.name].into_iter().find(|name| !name.is_empty());
    Description {
        name,
        image: own.image,
        image_id: own.image_id,
        labels: labels.into_iter().flatten().collect(),
        engine_state: Some(word).filter(|word| !word.is_empty()),
        believed: Some(believed),
        path: root.root.join(files::FILE),
        ..Description::default()
    }
}

fn is_container(place: Place<'_>) -> bool {
    // Task and cluster may stand between.
    if !place.above().take(3).any(|s| s == b"ecs") {
        return false;
    }
    let task = place.parent();
    let task = (task.len() == 32 && segment::is_hex(task)) || segment::is_uuid(task, b'-');
    (task && segment::is_hex64(place.text())) || is_fargate_id(place.text())
}

fn is_fargate_id(text: &[u8]) -> bool {
    text.split_once_str("-").is_some_and(|(task, number)| {
        task.len() == 32
            && segment::is_hex(task)
            && !number.is_empty()
            && number.iter().all(u8::is_ascii_digit)
    })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Ecs;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn only_below_a_task_of_ecs() {
        let id = "0123456789abcdef".repeat(4);
        let task = &id[..32];
        let found = |path: String| {
            let lines = parse(format!("5:memory:{path}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            Ecs.claim(&subject) != Claim::NotMine
        };
        assert!(found(format!("/ecs/{task}-4015103728")));
        assert!(found(format!("/ecs/f32682ec-384a-5d72-8208-b68b20c5568a/{id}")));
        assert!(!found(format!("/ecs/{task}")));
        assert!(!found(format!("/ecs/{task}-")));
        assert!(!found(format!("/ecs/{task}-1a")));
        assert!(!found(format!("/{task}/{id}")));
        assert!(!found(format!("/xecs/{task}/{id}")));
    }
}
