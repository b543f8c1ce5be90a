//! Owners of what other tools' output names: an id, a cgroup's path, a namespace. One that is
//! named there may be gone by now.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::Class;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree;

use super::Index;
use super::describe::{Members, is_registered};
use super::lookup::chain_in;
use super::search::{Hit, Scope};
use crate::model::gap::what;
use crate::model::{Described, Fact, Gap, Membership, Owner, OwnerKind, Row};
use crate::runtime::segment::{is_hex, is_hex64};
use crate::runtime::{Query, by_engine};

/// The owner of a cgroup that somebody named.
#[derive(Clone, Debug)]
pub struct CgroupOwner {
    /// All levels, as a row has them.
    pub row: Row,
    /// Whether nothing but the path is left of the container: no process, no directory, no state.
    pub is_removed: bool,
}

/// What an id led to.
#[derive(Clone, Debug, Default)]
pub struct IdOwner {
    /// The container; `None` when no engine's state has it, or more than one.
    pub owner: Option<Rc<Owner>>,
    /// What could not be looked at where none was found.
    pub gaps: Vec<Gap>,
}

/// The gap of something that was not looked up, since so much before it led to nobody.
#[must_use]
pub fn overlooked() -> Gap {
    let why = "more ids at once that no engine here knows than are looked up";
    Gap::new(what::CONTAINERS, Class::Unsupported, "", why, None)
}

/// What is left of a container whose cgroup has no process.
enum Left {
    /// Its engine has it.
    State(Rc<Owner>),
    /// Its engine was asked, and has nothing of it.
    Nothing,
    /// Its engine could not be asked.
    Unread(Gap),
    /// There is nobody to ask.
    Untold,
}

impl Index<'_> {
    /// The container with this id, or whose id alone begins so. For a whole id engines are looked for in
    /// the cgroup tree too, once, and what could not be looked at is told: what begins so may be any
    /// number, and is not worth that.
    pub fn container_with_id(&mut self, id: &BStr, needs: Needs) -> IdOwner {
        if !is_hex(id) {
            return IdOwner::default();
        }
        let is_whole = is_hex64(id);
        let query = if is_whole { Query::Id(id) } else { Query::IdPrefix(id) };
        let search = self.search(query, Scope::default(), is_whole);
        let Some(first) = search.found.first() else {
            let gaps = if is_whole { search.gaps } else { Vec::new() };
            return IdOwner { owner: None, gaps };
        };
        let same = |hit: &Hit| (hit.engine, &hit.key) == (first.engine, &first.key);
        let nobody = IdOwner { owner: None, gaps: Vec::new() };
        if !search.found.iter().all(same) {
            return nobody;
        }
        let (mut containers, late) = self.containers_found(&search.found, needs);
        match containers.pop().filter(|_| containers.is_empty() && late.is_none()) {
            Some(container) => IdOwner { owner: Some(container.owner), gaps: Vec::new() },
            None => nobody,
        }
    }

    /// The owner of a cgroup, by one of its processes if there is one, else by its path.
    pub fn owner_of_cgroup(&mut self, path: &BStr, needs: Needs) -> Option<CgroupOwner> {
        let path: BString = match path.first() {
            Some(b'/') => path.into(),
            _ => [b"/", path.as_ref() as &[u8]].concat().into(),
        };
        let mut exists = false;
        let mut unseen = None;
        let hierarchies = match self.hierarchies() {
            Ok(hierarchies) => hierarchies.to_vec(),
            Err(e) => {
                unseen = Some(Gap::from_read(what::MEMBERSHIP, &e));
                Vec::new()
            }
        };
        for dir in hierarchies.iter().filter_map(|h| h.dir(&path)) {
            match self.host().root().look(&dir) {
                Ok(_) => exists = true,
                Err(e) if e.class == Class::Gone => continue,
                Err(e) => unseen = Some(Gap::from_read(what::MEMBERSHIP, &e)),
            }
            let Some(pid) = cgroup_tree::any_member(self.host(), &dir) else { continue };
            if let Ok(Some(row)) = self.row(pid, needs.and(Needs::OWNER))
                && row.owner().is_some()
            {
                return Some(CgroupOwner { row, is_removed: false });
            }
        }
        let line = Line { hierarchy: 0, controllers: "".into(), path, deleted: false };
        let mut chain: Vec<Rc<Owner>> = chain_in(&line).into_iter().map(Rc::new).collect();
        let owner = chain.pop()?;
        let mut is_removed = false;
        let owner = match self.left_of(&owner, needs) {
            Left::State(known) => known,
            Left::Nothing => match unseen {
                None => {
                    is_removed = !exists;
                    owner
                }
                Some(gap) => unread(&owner, gap),
            },
            Left::Unread(gap) => unread(&owner, gap),
            Left::Untold => owner,
        };
        chain.push(owner);
        self.name_pods(&mut chain);
        let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
        Some(CgroupOwner { row: Row { membership, ..Row::default() }, is_removed })
    }

    /// What the engine of a container has of it, by whose cgroup that is: others' engines may know the same
    /// id, and not this container.
    fn left_of(&mut self, owner: &Owner, needs: Needs) -> Left {
        let is_unknown = owner.kind == OwnerKind::Unknown;
        if !is_unknown && (!owner.kind.contains() || !self.can_be_described(owner)) {
            return Left::Untold;
        }
        loop {
            let told = match is_unknown {
                true => None,
                false => self.description_for(owner, None, needs),
            };
            match told {
                Some(Ok(_)) => return Left::State(self.described(owner, Members::None, needs)),
                Some(Err(gap)) if gap.class != Class::Gone => return Left::Unread(gap),
                // Of what is only registered while it runs nothing tells whether it is there still.
                Some(Err(_)) if is_registered(owner) => return Left::Untold,
                Some(Err(_)) | None => {}
            }
            // Nothing but another container of the same engine may show where its state is.
            if !self.look_everywhere(true) {
                break;
            }
        }
        match is_unknown || owner.is_chosen() {
            true => self.left_by_id(owner, needs),
            false => self.uncaptured().map_or(Left::Nothing, Left::Unread),
        }
    }

    /// The same of a container whose cgroup may be that of several engines.
    fn left_by_id(&mut self, owner: &Owner, needs: Needs) -> Left {
        let id = BStr::new(&owner.id);
        if !owner.within.is_empty() {
            return Left::Untold;
        }
        let query = if is_hex64(id) { Query::Id(id) } else { Query::Name(id) };
        let mut search = self.search(query, Scope::default(), true);
        search.found.retain(|hit| is_hex64(id) || hit.engine.has_chosen_ids());
        // Whose it is, the cgroup tells.
        search.found.dedup_by(|a, b| (a.engine, &a.key) == (b.engine, &b.key));
        let are_others = !search.found.is_empty();
        let mut known = Vec::new();
        for Hit { engine, key, .. } in search.found {
            let kind = by_engine(engine).map_or(OwnerKind::Container, |runtime| runtime.kind());
            let (cgroup, hierarchy) = (owner.cgroup.clone(), owner.hierarchy.clone());
            let seed = Owner { cgroup, hierarchy, ..Owner::with_key(kind, engine, &key) };
            match self.description_for(&seed, None, needs) {
                Some(Ok(_)) => known.push(seed),
                Some(Err(gap)) if gap.class != Class::Gone => return Left::Unread(gap),
                Some(Err(_)) | None => {}
            }
        }
        match (known.as_slice(), search.gaps.pop()) {
            ([seed], _) => Left::State(self.described(seed, Members::None, needs)),
            ([], Some(gap)) => Left::Unread(gap),
            // One of the same name may be this one or another.
            ([], None) if !are_others || is_hex64(id) => Left::Nothing,
            _ => Left::Untold,
        }
    }

    /// A process in the namespace of this kind and inode: the first one, which has made it or is the
    /// oldest left. All processes are looked at, since the kernel does not tell it otherwise.
    pub fn process_in_namespace(&self, kind: &str, inode: u64) -> Option<u32> {
        let host = self.host();
        let is_in = |pid: &u32| {
            !host.out_of_time()
                && host.process(*pid).and_then(|dir| dir.namespace(kind)).is_ok_and(|n| n == inode)
        };
        host.pids().ok()?.into_iter().find(is_in)
    }
}

/// An owner of whom nothing more could be read.
fn unread(owner: &Owner, gap: Gap) -> Rc<Owner> {
    let described = Described::Unread(gap.of(what::DESCRIPTION));
    Rc::new(Owner { described, ..owner.clone() })
}
