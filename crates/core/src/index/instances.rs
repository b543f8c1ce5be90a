//! Sandboxes without a cgroup that have a name in their user's own files: Flatpak's, which are bubblewrap's
//! besides, and Apptainer's. What counts is the process that such a file names: the sandbox is that instance
//! if the same program of that user's is above both.

use std::collections::HashMap;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::{Class, ReadError, scan};

use super::Index;
use super::jailed::Jailer;
use super::users::user;
use crate::model::gap::what;
use crate::model::{Described, Engine, Gap, Owner, OwnerKind, Row};
use crate::runtime::{REGISTRY, Runtime, StateRoot};

/// A user's instances by the PID of the program above their processes, and what could not be read.
type Found = (HashMap<u32, Owner>, Option<Gap>);

/// Each user's instances by the program above their processes, or what stood in the way.
pub(super) type Instances = HashMap<(Engine, u32), Found>;

/// Whether a process of this name makes sandboxes that its user's files may name.
pub(super) fn makes_instances(comm: &[u8]) -> bool {
    let own = |r: &&&dyn Runtime| r.names_jails_of() == Some(r.engine());
    let mut names = REGISTRY.iter().filter(own).flat_map(|r| r.jailers());
    names.any(|name| name.as_bytes() == comm)
}

impl Index<'_> {
    /// Learns where a user who makes such sandboxes has their names.
    pub(super) fn learn_instances(&mut self, uid: u32) {
        let Some(user) = user(self.host, uid, Vec::new()) else { return };
        for runtime in REGISTRY.iter().filter(|r| r.names_jails_of() == Some(r.engine())) {
            self.add_users_roots(&user, *runtime);
        }
    }

    /// The instance that a program's sandbox is, by the files of the user who started it; or why these can't
    /// be read, which may have a name for it.
    pub(super) fn instance_in(&mut self, jailer: &Jailer) -> Option<Result<Owner, Gap>> {
        let names = |r: &&&dyn Runtime| r.names_jails_of() == Some(jailer.engine);
        let mut doubt = None;
        for runtime in REGISTRY.iter().filter(names) {
            let key = (runtime.engine(), jailer.uids[0]);
            if !self.instances.contains_key(&key) {
                let found = self.instances_of(*runtime, jailer.uids[0]);
                self.instances.insert(key, found);
            }
            match self.instances.get(&key) {
                Some((all, _)) if all.contains_key(&jailer.pid) => {
                    return all.get(&jailer.pid).cloned().map(Ok);
                }
                Some((_, gap)) => doubt = doubt.or_else(|| gap.clone()),
                None => {}
            }
        }
        doubt.map(Err)
    }

    fn instances_of(&mut self, runtime: &dyn Runtime, uid: u32) -> Found {
        let Some(user) = user(self.host, uid, Vec::new()) else { return Found::default() };
        self.add_users_roots(&user, runtime);
        if let Some(gap) = self.gaps_of_user(uid, Some(runtime.engine())).pop() {
            return (HashMap::new(), Some(gap));
        }
        let unread = |e: &ReadError| Gap::from_read(what::DESCRIPTION, e);
        let name = (uid != 0).then(|| self.name_of_user(uid));
        let his = |r: &&StateRoot| r.user == name;
        let (mut told, mut spoilt) = (Vec::new(), None);
        for root in self.roots_of(runtime.engine()).filter(his) {
            let ids = match runtime.list(root) {
                Ok(ids) => ids,
                Err(e) => {
                    spoilt = Some(unread(&e));
                    continue;
                }
            };
            for id in ids {
                if self.host.out_of_time() {
                    spoilt = Some(self.late());
                    break;
                }
                match runtime.describe(root, id.as_ref(), Needs::NONE) {
                    Some(Ok(description)) => told.push((id, description)),
                    // Begun or ended just now, or none.
                    None => {}
                    Some(Err(e)) if e.class == Class::Gone => {}
                    Some(Err(e)) => spoilt = Some(unread(&e)),
                }
            }
        }
        let mut all = HashMap::new();
        for (id, description) in told {
            let Some(pid) = description.pid else { continue };
            let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { continue };
            // A PID in it may be another's by now: nobody's sandbox but his own gets the name.
            let Ok(Some(above)) = self.jailer_above(stat.ppid, false) else { continue };
            if above.uids[0] != uid || Some(above.engine) != runtime.names_jails_of() {
                continue;
            }
            let mut owner = Owner::with_key(OwnerKind::App, runtime.engine(), &id);
            owner.name.clone_from(&description.name);
            owner.described = Described::Yes(Box::new(description));
            all.insert(above.pid, owner);
        }
        (all, spoilt)
    }

    /// The processes of an instance that has no cgroup: those below the program that made its sandbox.
    /// There is no list of them to be read, so all of /proc is.
    ///
    /// # Errors
    /// When what is above some process may not be looked at.
    pub(super) fn instance_pids(
        &mut self,
        engine: Engine,
        key: &BStr,
        user: Option<&BString>,
    ) -> Result<Vec<u32>, ReadError> {
        let mut all: Vec<u32> = Vec::new();
        scan::each_process(self.host, &mut |pid, _| all.push(pid))?;
        let mut pids = Vec::new();
        for pid in all {
            let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { continue };
            if stat.is_dead() || stat.is_kernel_thread() {
                continue;
            }
            match self.jailer_above(stat.ppid, false) {
                Ok(None) => continue,
                Ok(Some(_)) => {}
                Err(e) if e.class == Class::Gone => continue,
                Err(e) => return Err(e),
            }
            let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
            let row = self.row(pid, needs)?;
            let owner = row.as_ref().and_then(Row::owner);
            let is_it = |o: &Owner| o.runtime == engine && o.has_key(key) && o.user() == user;
            if owner.is_some_and(|owner| is_it(owner)) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}
