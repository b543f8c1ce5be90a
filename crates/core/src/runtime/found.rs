//! What a search for roots brings.

use bstr::BString;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::StateRoot;
use crate::model::gap::what;
use crate::model::{Engine, Gap};

/// Roots that were found, and those that may exist but could not be looked at.
#[derive(Debug, Default)]
pub struct FoundRoots {
    /// Trees that are there.
    pub roots: Vec<StateRoot>,
    /// What stood in the way.
    pub gaps: Vec<Gap>,
}

impl FoundRoots {
    /// Adds what was opened; what is there and could not be is a gap.
    pub(super) fn take(&mut self, opened: Result<Root, ReadError>, user: Option<BString>) {
        match opened {
            Ok(root) => self.roots.push(StateRoot::new(root, None, user)),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => self.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
}

/// Another engine's roots that are a runtime's too.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The engine that they are looked for as.
    pub engine: Engine,
    /// Whether one has something of the runtime's.
    pub is_its: fn(&StateRoot) -> bool,
}
