//! Mesos's own containers: `mesos/<uuid>`, nested ones `mesos/<uuid>/mesos/<uuid>` (mesos
//! src/slave/containerizer/mesos/paths.cpp). A renamed `--cgroups_root` can't be told.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Mesos;

const ENGINE: Engine = Engine("mesos");

impl Runtime for Mesos {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let fits = place.parent() == b"mesos" && segment::is_uuid(place.text(), b'-');
            fits.then(|| Owner::new(OwnerKind::Container, ENGINE, place.text()))
        });
        levels.into()
    }
}
