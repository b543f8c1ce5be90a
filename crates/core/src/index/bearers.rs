//! Who bears a name, by the word of whose container it is.

use std::collections::HashSet;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::Class;

use super::Index;
use super::lookup::Container;
use super::search::{Hit, Search};
use crate::model::{Described, Description, Gap};

impl Index<'_> {
    /// Leaves out who has this name only by the word of somebody whose word does not count: a user may
    /// give the name to another's id. Where that can't be told there is a gap.
    pub(super) fn keep_bearers(&mut self, search: &mut Search, name: &BStr) {
        let mut bearers = Vec::new();
        for hit in std::mem::take(&mut search.found) {
            if self.roots_of(hit.engine).all(|root| root.users_own().is_none()) {
                bearers.push(hit);
                continue;
            }
            if self.host().out_of_time() {
                search.late = Some(self.late());
                break;
            }
            let bears = match search.is_hearsay {
                true => self.is_called(&hit, name),
                false => self.bears(&hit, name),
            };
            match bears {
                Ok(true) => bearers.push(hit),
                Ok(false) => {}
                Err(gap) => search.gaps.push(gap),
            }
        }
        search.found = bearers;
    }

    /// Whether the container has this name by the word of whose it is.
    fn bears(&mut self, hit: &Hit, name: &BStr) -> Result<bool, Gap> {
        let (engine, key) = (hit.engine, BStr::new(&hit.key));
        let is_inside = !self.found_within(engine, key).is_empty();
        let Some(user) = &hit.user else {
            // The host's word counts everywhere.
            return if is_inside { self.is_called(hit, name) } else { Ok(true) };
        };
        let told = self.users_word(hit, user, Needs::NONE).and_then(Result::ok);
        let has_cgroup = |index: &Self| {
            let all = index.roots.walked.as_ref();
            all.is_none_or(|all| all.iter().any(|(e, id)| *e == engine && id == key))
        };
        match told {
            // Nothing runs of it, so that it is nobody else's either.
            Some(told) if told.is_believed_down() && !has_cgroup(self) => {
                Ok(told.name.is_some_and(|own| own == name))
            }
            _ => self.is_called(hit, name),
        }
    }

    fn is_called(&mut self, hit: &Hit, name: &BStr) -> Result<bool, Gap> {
        let owner = self.container_found(hit, Needs::NONE).owner;
        let own = owner.description().and_then(|d| d.name.as_ref());
        match &owner.described {
            Described::Unread(gap) if gap.class != Class::Gone => Err(gap.clone()),
            _ => Ok(own.is_some_and(|own| own == name) || owner.has_key(name)),
        }
    }

    /// The containers that a search found, each once by the word of whose it is, whoever else says that
    /// he has it; and why not all were looked at: a user's state may have as many as he likes.
    pub fn containers_found(
        &mut self,
        hits: &[Hit],
        needs: Needs,
    ) -> (Vec<Container>, Option<Gap>) {
        let (mut containers, mut seen) = (Vec::new(), HashSet::new());
        for hit in hits {
            if !containers.is_empty() && self.host().out_of_time() {
                return (containers, Some(self.late()));
            }
            let container = self.container_found(hit, needs);
            let owner = &container.owner;
            let place = (owner.within.clone(), owner.cgroup.clone());
            if seen.insert((owner.runtime, owner.key(), place, owner.user().cloned())) {
                containers.push(container);
            }
        }
        (containers, None)
    }

    /// What the engine of the user in whose state a container was found says of it.
    pub(super) fn users_word(
        &mut self,
        hit: &Hit,
        user: &BString,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let uid = self.uid_named(user.as_ref())?;
        self.users_description(hit.engine, hit.key.as_ref(), uid, (None, needs))
    }
}
