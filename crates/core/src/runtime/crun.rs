//! Containers that crun itself was told to run with systemd's driver: `crun-<id>.scope` (crun
//! src/libcrun/cgroup-systemd.c). With cgroupfs a bare id shows, which could be anything.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Crun;

const ENGINE: Engine = Engine("crun");

impl Runtime for Crun {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), "crun")?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }
}
