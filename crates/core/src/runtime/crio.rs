//! CRI-O: `crio-<id>.scope`, with the cgroupfs manager `crio-<id>`; the monitors are
//! `crio-conmon-<id>` (cri-o internal/config/cgmgr).

use super::claim::{Claim, Subject};
use super::place::{self, Plumbing};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct CriO;

const ENGINE: Engine = Engine("cri-o");

impl Runtime for CriO {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let bare = || place.text().strip_prefix(b"crio-").filter(|id| segment::is_hex64(id));
            let id = segment::scope_id(place.text(), "crio").or_else(bare)?;
            let mut owner = Owner::new(OwnerKind::Container, ENGINE, id);
            owner.pod_uid = segment::pod_uid_of_slice(place.text()).map(Into::into);
            Some(owner)
        });
        let monitor = place::plumbing(subject.lines, |place| {
            let text = place.text().strip_prefix(b"crio-conmon-")?;
            let id = text.strip_suffix(b".scope").unwrap_or(text);
            segment::is_hex64(id).then(|| Plumbing::of(id))
        });
        let daemon = subject.comm == "crio"
            && subject.is_hosts_own()
            && !segment::names_an_id(subject.lines);
        place::claim(levels, monitor.or(daemon.then_some(Plumbing(None))))
    }
}
