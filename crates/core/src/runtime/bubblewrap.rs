//! bubblewrap: it has no cgroup and keeps no state. The process that made a sandbox waits for it, and is
//! its ancestor.

use super::Runtime;
use super::claim::{Claim, Subject};
use crate::model::{Engine, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Bubblewrap;

/// Its name.
pub(super) const ENGINE: Engine = Engine("bubblewrap");

impl Runtime for Bubblewrap {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::App
    }

    fn claim(&self, _subject: &Subject<'_>) -> Claim {
        Claim::NotMine
    }

    fn jailers(&self) -> &'static [&'static str] {
        &["bwrap"]
    }
}
