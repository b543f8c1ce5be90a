//! What is said of containers whose ids someone chose.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::Class;

use super::Place;
use crate::index::Index;
use crate::index::users::manager_of;
use crate::model::gap::what;
use crate::model::{Description, Gap};
use crate::runtime::Runtime;

/// Processes of a cgroup that are asked for the monitor above them.
const MOST_MEMBERS: usize = 8;

impl Index<'_> {
    /// What the host's engines say of a container whose id someone chose. Two engines, and two
    /// namespaces of one, may have the same id: what is told is of the state that gives it this
    /// cgroup, and that the monitor of the process `hint` belongs to. `None` where none does.
    pub(super) fn chosen(
        &mut self,
        runtime: &dyn Runtime,
        key: &BStr,
        cgroup: &BString,
        (hint, needs): (Option<u32>, Needs),
    ) -> Option<Result<Description, Gap>> {
        let engine = runtime.engine();
        // What a text proves was asked of no state so far.
        let _: Option<()> = self.roots.known_first(self.host, engine, &mut |_| None);
        let mut monitored = hint.and_then(|pid| self.monitored(runtime, pid));
        let enough = runtime.monitor_is_enough();
        if monitored.is_none() && enough && hint.is_some() {
            // What was attached to it is below whoever did that.
            let members = self.some_members(cgroup);
            monitored = members.into_iter().find_map(|pid| self.monitored(runtime, pid));
        }
        if enough && monitored.as_ref().is_some_and(|(_, its)| its != key) {
            return None;
        }
        // Whoever makes cgroups in his own can end their paths as he likes. What a container has is its own
        // root's, so that the one around it tells.
        let around = cgroup.rsplit_once_str("/").map_or(&b""[..], |(around, _)| around).into();
        let is_users = manager_of(cgroup).is_some_and(|uid| uid != 0)
            || (enough && Place::new(self.host, &around).is_a_users());
        let its_own = |d: &Description| {
            let named = monitored.as_ref().is_some_and(|(_, its)| its == key);
            named && !(enough && is_users) && (enough || d.may_be_in(cgroup))
        };
        // Without a process that shows whose it is, all that can be found have a say.
        while monitored.is_none() && hint.is_none() && self.roots.advance_one(self.host, runtime) {}
        let mut problem = None;
        let mut found: Vec<Description> = Vec::new();
        for (number, (_, root)) in self.roots.told().filter(|(_, (e, _))| *e == engine) {
            let others = monitored.as_ref().is_some_and(|(its, _)| *its != number);
            // A user's engine has no say in what is in a cgroup of the host's.
            if others || (root.user.is_some() && !cgroup.is_empty()) {
                continue;
            }
            // Processes are of what has a task; of what a database alone knows they can't be.
            let may = cgroup.is_empty() || runtime.may_run(root, key).unwrap_or(true);
            if !may {
                continue;
            }
            match runtime.describe(root, key, needs)? {
                Ok(description) if its_own(&description) || description.is_in(cgroup) => {
                    found.push(description);
                }
                Ok(_) => {}
                Err(e) if e.class == Class::Gone => {}
                Err(e) => problem = Some(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        if let Some((_, its)) = &monitored {
            let namespace = its.rsplit_once_str("/").map_or(&b""[..], |(namespace, _)| namespace);
            let own = |d: &Description| d.namespace.as_ref().map_or(&b""[..], |n| n).to_owned();
            found.retain(|d| own(d) == namespace);
        }
        if found.len() > 1 {
            let why = format!("{} {} engines have a container of this name", found.len(), engine.0);
            let path = found.pop().map(|d| d.path).unwrap_or_default();
            return Some(Err(Gap::new(what::DESCRIPTION, Class::Unsupported, path, why, None)));
        }
        found.pop().map(Ok).or(problem.map(Err))
    }

    /// Some processes of a cgroup and of those below it, the oldest PIDs first.
    fn some_members(&self, cgroup: &BString) -> Vec<u32> {
        if cgroup.is_empty() {
            return Vec::new();
        }
        let hierarchies = self.hierarchies().unwrap_or_default();
        let dirs = hierarchies.iter().filter_map(|h| h.dir(cgroup));
        let pids = dirs.filter_map(|dir| self.members_below(&dir).ok()).map(|(_, pids)| pids);
        pids.flatten().take(MOST_MEMBERS).collect()
    }
}
