//! Containers that runc itself was told to run with systemd's driver: `runc-<id>.scope` (runc
//! libcontainer/specconv/spec_linux.go). With cgroupfs a bare id shows, which could be anything.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Runc;

const ENGINE: Engine = Engine("runc");

impl Runtime for Runc {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), "runc")?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }
}
