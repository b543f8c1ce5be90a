//! Roots that a path leads to. What is in one is believed of that root alone: somebody may have made
//! it.

use bstr::BStr;
use whose_kernel::root::Root;

use super::Roots;
use crate::index::Index;
use crate::model::{Engine, Gap};
use crate::runtime::{Hints, StateRoot, by_engine};

impl Index<'_> {
    /// The number of an engine's root at this path, opened if it was not known yet.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub(in crate::index) fn root_at(
        &mut self,
        engine: Engine,
        path: &BStr,
    ) -> Result<Option<usize>, Gap> {
        let Some(runtime) = by_engine(engine) else { return Ok(None) };
        let found = runtime.roots(self.host, Hints::At(path));
        if let Some(gap) = found.gaps.first() {
            return Err(gap.clone());
        }
        let before = self.roots.known.len();
        let typed = self.roots.typed.clone();
        self.roots.add(runtime, found);
        self.roots.typed.extend(typed);
        self.roots.typed.extend(before..self.roots.known.len());
        let identity = |root: &Root, rel: &[u8]| root.look(rel).map(|l| (l.device, l.ino)).ok();
        let wanted = identity(self.host.root(), path);
        let is_it = |(e, r): &(Engine, StateRoot)| *e == engine && identity(&r.root, b"") == wanted;
        Ok(wanted.and_then(|_| self.roots.known.iter().position(is_it)))
    }

    /// Whether the host's own configuration, daemons or processes lead to a root, and not a path alone,
    /// which may name what somebody made.
    pub(in crate::index) fn is_hosts(&mut self, number: usize) -> bool {
        while self.roots.typed.contains(&number) && self.roots.look_further(self.host, number) {}
        !self.roots.typed.contains(&number)
    }

    /// Looks for the tree of what runs, where a path led to the other one: shims work in it.
    pub(in crate::index) fn find_run_of(&mut self, number: usize) {
        let is_half = |roots: &Roots| roots.get(number).is_some_and(|(_, r)| r.run.is_none());
        while is_half(&self.roots) && self.roots.look_further(self.host, number) {}
        if is_half(&self.roots) && self.roots.walked.is_none() && !self.host.out_of_time() {
            self.roots_from_cgroups();
        }
    }
}
