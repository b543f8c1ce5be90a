//! Containers that youki itself was told to run: `youki-<id>.scope` with systemd's driver (youki
//! crates/libcgroups/src/systemd/manager.rs), with cgroupfs `:youki:<id>` taken literally
//! (crates/libcontainer/src/utils.rs).

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Youki;

const ENGINE: Engine = Engine("youki");

impl Runtime for Youki {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), "youki")?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }
}
