//! From a path of the host to the containers that mount it, by what their engines' state says: of those that do not run nothing
//! else tells, and of those without a cgroup nothing else leads to them.

use std::collections::HashMap;

use bstr::{BStr, BString};
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::{Class, ReadError};

use super::Index;
use super::layers::User;
use super::stored::mounts_told;
use crate::model::gap::what;
use crate::model::{Gap, Mounting};
use crate::runtime::{REGISTRY, Runtime};

/// A container whose engine's state says that it mounts something which a path lies in.
pub(crate) struct Mounter {
    /// The number of its engine's root.
    pub(crate) root: usize,
    /// The container.
    pub(crate) user: User,
    /// Whether only a user says so, of what is not his.
    pub(crate) is_hearsay: bool,
}

impl Index<'_> {
    /// The containers that mount what a path of the host lies in, running or not, by the state of their engines; with what could
    /// not be read. Something else may lie over it there.
    pub(crate) fn mounting(&mut self, path: &BStr) -> (Vec<Mounter>, Vec<Gap>) {
        while self.roots.advance(self.host()) {}
        if self.roots.walked.is_none() {
            self.roots_from_cgroups();
        }
        let (mut found, mut gaps) = (Vec::new(), Vec::new());
        let mut real: HashMap<BString, BString> = HashMap::new();
        let theirs = REGISTRY.iter().filter(|runtime| runtime.keeps_mounts());
        for runtime in theirs {
            let of = |engine| engine == runtime.engine();
            let unseen = self.roots.gaps.iter().filter(|(engine, _)| of(*engine));
            gaps.extend(unseen.map(|(_, gap)| gap.clone()));
            let told = self.roots.told().filter(|(_, (engine, _))| of(*engine));
            let numbers: Vec<usize> = told.map(|(number, _)| number).collect();
            for root in numbers {
                for key in self.keys_of(*runtime, root, &mut gaps) {
                    if self.host().out_of_time() {
                        gaps.push(self.late().of(what::PATH));
                        return (found, gaps);
                    }
                    let Some(mounts) = self.mountings_of(*runtime, root, &key, &mut gaps) else {
                        continue;
                    };
                    if mounts.iter().any(|mount| self.leads_to(root, mount, path, &mut real)) {
                        let is_hearsay = !self.may_tell_of(root, path);
                        let user = User::new(runtime.engine(), key);
                        found.push(Mounter { root, user, is_hearsay });
                    }
                }
            }
        }
        (found, gaps)
    }

    /// The keys of a root's containers, running or not.
    fn keys_of(&self, runtime: &dyn Runtime, root: usize, gaps: &mut Vec<Gap>) -> Vec<BString> {
        let Some((_, state)) = self.roots.get(root) else { return Vec::new() };
        let mut keys: Vec<BString> = Vec::new();
        for part in [runtime.list(state), runtime.ended(state)] {
            match part {
                Ok(part) => keys.extend(part),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => gaps.push(Gap::from_read(what::CONTAINERS, &e)),
            }
        }
        keys
    }

    /// What a container mounts; `None` where that can't be read, which is a gap, and where the engine does not have it: it was
    /// removed meanwhile, or is another's in the same store.
    fn mountings_of(
        &self,
        runtime: &dyn Runtime,
        root: usize,
        key: &BString,
        gaps: &mut Vec<Gap>,
    ) -> Option<Vec<Mounting>> {
        let (_, state) = self.roots.get(root)?;
        let key = BStr::new(key);
        match mounts_told(runtime, state, key)? {
            Ok(mounts) => Some(mounts),
            Err(e) if e.class == Class::Gone => None,
            Err(e) => {
                let cause = format!("what {key} mounts can't be told: {}", e.cause);
                gaps.push(Gap::from_read(what::PATH, &ReadError { cause: cause.into(), ..e }));
                None
            }
        }
    }

    /// Whether a path lies in what is mounted, by its source or where that leads to. A user's links are not followed: what he
    /// names is his.
    fn leads_to(
        &mut self,
        root: usize,
        mount: &Mounting,
        path: &BStr,
        real: &mut HashMap<BString, BString>,
    ) -> bool {
        let Some(from) = &mount.from else { return false };
        if strip(from, path).is_some() {
            return true;
        }
        if self.roots.get(root).is_none_or(|(_, state)| state.users_own().is_some()) {
            return false;
        }
        if !real.contains_key(from) {
            let resolved = self.resolve(from.as_ref()).map(|resolved| resolved.path);
            real.insert(from.clone(), resolved.unwrap_or_else(|_| from.clone()));
        }
        real.get(from).is_some_and(|from| strip(from, path).is_some())
    }

    /// Whether a root's word counts for a path of the host: a user may name anybody's, and his own are his.
    fn may_tell_of(&self, root: usize, path: &BStr) -> bool {
        let state = self.roots.get(root).map(|(_, state)| state);
        state.is_some_and(|state| strip(state.root.shown(), path).is_some())
            || self.may_have(root, path)
    }
}
