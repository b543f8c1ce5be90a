//! Containers that runsc itself was told to run with systemd's driver: `runsc-<id>.scope` (gvisor
//! g3doc/user_guide/systemd.md). What shows on the host is the sentry and the gofer.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Gvisor;

const ENGINE: Engine = Engine("gvisor");

impl Runtime for Gvisor {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), "runsc")?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }
}
