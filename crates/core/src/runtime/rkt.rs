//! rkt pods: `machine-rkt-<uuid>.scope`, escaped as systemd does; the apps are units inside (rkt
//! Documentation/devel/inspect-containers.md).

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Rkt;

const ENGINE: Engine = Engine("rkt");

impl Runtime for Rkt {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let scope = segment::between(place.text(), "machine-", ".scope")?;
            let machine = segment::unescape(scope)?;
            let id = machine.strip_prefix(b"rkt-").filter(|id| segment::is_uuid(id, b'-'))?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }
}
