//! Owners of what other tools' output names: an id, a cgroup's path, a namespace. One that is
//! named there may be gone by now.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree;

use super::Index;
use super::lookup::chain_in;
use super::search::Scope;
use crate::model::{Fact, Membership, Owner, OwnerKind, Row};
use crate::runtime::Query;
use crate::runtime::segment::{is_hex, is_hex64};

/// The owner of a cgroup that somebody named.
#[derive(Clone, Debug)]
pub struct CgroupOwner {
    /// All levels, as a row has them.
    pub row: Row,
    /// Whether nothing but the path is left of the container: no process, no directory, no state.
    pub is_removed: bool,
}

impl Index<'_> {
    /// The container with this id, or whose id alone begins so; `None` when no engine's state has it.
    /// For a whole id engines are looked for in the cgroup tree too, once: what begins so may be any
    /// number, and is not worth that.
    pub fn container_with_id(&mut self, id: &BStr, needs: Needs) -> Option<Rc<Owner>> {
        if !is_hex(id) {
            return None;
        }
        let is_whole = is_hex64(id);
        let query = if is_whole { Query::Id(id) } else { Query::IdPrefix(id) };
        let found = self.search(query, Scope::default(), is_whole).found;
        let first = found.first()?;
        if found.iter().any(|hit| (hit.engine, &hit.key) != (first.engine, &first.key)) {
            return None;
        }
        let (mut containers, late) = self.containers_found(&found, needs);
        let container = containers.pop().filter(|_| containers.is_empty() && late.is_none())?;
        Some(container.owner)
    }

    /// The owner of a cgroup, by one of its processes if there is one, else by its path.
    pub fn owner_of_cgroup(&mut self, path: &BStr, needs: Needs) -> Option<CgroupOwner> {
        let path: BString = match path.first() {
            Some(b'/') => path.into(),
            _ => [b"/", path.as_ref() as &[u8]].concat().into(),
        };
        let hierarchies = self.hierarchies().map(<[_]>::to_vec).unwrap_or_default();
        let dirs = hierarchies.iter().filter_map(|h| h.dir(&path));
        let mut exists = false;
        for dir in dirs {
            exists |= self.host().root().has_dir(&dir);
            let Some(pid) = cgroup_tree::any_member(self.host(), &dir) else { continue };
            if let Ok(Some(row)) = self.row(pid, needs.and(Needs::OWNER))
                && row.owner().is_some()
            {
                return Some(CgroupOwner { row, is_removed: false });
            }
        }
        let line = Line { hierarchy: 0, controllers: "".into(), path, deleted: false };
        let mut chain: Vec<Rc<Owner>> = chain_in(&line).into_iter().map(Rc::new).collect();
        let owner = Rc::clone(chain.last()?);
        let mut is_removed = false;
        if owner.kind.contains() || owner.kind == OwnerKind::Unknown {
            match self.container_with_id(owner.id.as_ref(), needs) {
                Some(known) => {
                    chain.pop();
                    chain.push(known);
                }
                None => is_removed = !exists,
            }
        }
        let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
        Some(CgroupOwner { row: Row { membership, ..Row::default() }, is_removed })
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
