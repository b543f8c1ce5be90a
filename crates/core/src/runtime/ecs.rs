//! Amazon ECS tasks on cgroup v1: `ecs[/<cluster>]/<task>/<id>`, the id 64 digits, or on Fargate
//! the task's 32, a dash and a number (ecs-agent agent/api/task/task_linux.go). On v2 only the
//! slice around Docker's scope is ECS's. The agent runs containers with Docker: where that one's state
//! can be read they are Docker's, with their task in labels. What Fargate runs has none here.

use bstr::ByteSlice;

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{Runtime, Service, segment, service};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Ecs;

const ENGINE: Engine = Engine("ecs");

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

    fn services(&self) -> &'static [Service] {
        &[service::DOCKER]
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
