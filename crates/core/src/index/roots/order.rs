//! In which order an engine's roots are asked: where they usually are, where the host itself says, and what else is
//! found.

use std::collections::HashSet;

use whose_kernel::Host;

use super::{Roots, Step};
use crate::model::Engine;
use crate::runtime::{Runtime, StateRoot, by_engine};

impl Roots {
    /// Tries `ask` on every root of an engine, finding more roots until it answers.
    pub(super) fn first<T>(
        &mut self,
        host: &Host,
        engine: Engine,
        ask: &mut dyn FnMut(&StateRoot) -> Option<T>,
    ) -> Option<T> {
        let mut tried = HashSet::new();
        loop {
            let new = |(number, (e, _)): &(usize, &(Engine, StateRoot))| {
                *e == engine && tried.insert(*number)
            };
            let answer = self.told().filter(new).find_map(|(_, (_, root))| ask(root));
            if answer.is_some() {
                return answer;
            }
            if !by_engine(engine).is_some_and(|runtime| self.advance_one(host, runtime)) {
                return None;
            }
        }
    }

    /// Like [`Roots::first`], but only roots that are known or lie in their default place.
    pub(super) fn known_first<T>(
        &mut self,
        host: &Host,
        engine: Engine,
        ask: &mut dyn FnMut(&StateRoot) -> Option<T>,
    ) -> Option<T> {
        if self.steps.get(&engine).copied().unwrap_or_default() == Step::Nothing
            && let Some(runtime) = by_engine(engine)
        {
            self.advance_one(host, runtime);
        }
        self.of(engine).find_map(ask)
    }

    /// Like [`Roots::first`], but only roots that the host's own configuration and daemons name, and that were not known
    /// before.
    pub(super) fn named_first<T>(
        &mut self,
        host: &Host,
        runtime: &dyn Runtime,
        ask: &mut dyn FnMut(&StateRoot) -> Option<T>,
    ) -> Option<T> {
        loop {
            let before = self.known.len();
            if !self.advance_unasked(host, runtime) {
                return None;
            }
            let engine = runtime.engine();
            let new = self.told().filter(|(number, (e, _))| *number >= before && *e == engine);
            let answer = new.map(|(_, (_, root))| root).find_map(&mut *ask);
            if answer.is_some() {
                return answer;
            }
        }
    }
}
