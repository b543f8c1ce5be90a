//! BuildKit steps, of a dockerd or of a buildkitd of its own.
//!
//! They look like containers and are none: `docker-<25 base-36>.scope` with the systemd driver,
//! `.../buildkit/<25 base-36>` with cgroupfs (moby/buildkit executor/oci/spec.go).

use bstr::ByteSlice;

use super::claim::{Claim, Proof, Subject, each_segment};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct BuildKit;

const ENGINE: Engine = Engine("buildkit");

impl Runtime for BuildKit {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = each_segment(subject.lines, &mut |previous, text| {
            let scope = segment::between(text, "docker-", ".scope");
            let bare = (previous.is_some_and(|p| p == "buildkit")).then_some(text.as_bytes());
            let id = scope.or(bare).filter(|id| segment::is_buildkit_id(id))?;
            Some((Owner::new(OwnerKind::Job, ENGINE, id), Proof::Text))
        });
        levels.into()
    }
}
