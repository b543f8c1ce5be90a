//! What runs beside a user's own containers: monitors, what holds his namespaces, file servers. Anyone may
//! give a process such a name, so that it counts if his own engine's state bears it out.

use bstr::BString;
use whose_fields::Needs;
use whose_kernel::parse;
use whose_kernel::worker::{Ask, Slow};

use super::Index;
use super::search::Scope;
use crate::model::{Fact, OwnerKind, Role, Row};
use crate::runtime::{Helper, Query, REGISTRY, Runtime, Serves, StateRoot};

impl Index<'_> {
    /// The part of a user's process that helps an engine of his own.
    pub(super) fn settle_helper_role(&mut self, row: &mut Row) {
        let p = &row.process;
        let Some(uid) = p.uid().filter(|uid| *uid != 0) else { return };
        let outside = |kind| matches!(kind, OwnerKind::Unit | OwnerKind::Session | OwnerKind::Host);
        if p.role.known() != Some(&Role::Host) || !row.owner().is_some_and(|o| outside(o.kind)) {
            return;
        }
        let may = |r: &&&dyn Runtime| r.helper_names().iter().any(|n| n.as_bytes() == p.comm());
        let mut runtimes = REGISTRY.iter().filter(may).peekable();
        if runtimes.peek().is_none() {
            return;
        }
        let ask = Ask { file: Slow::Cmdline, pid: p.pid, start_ticks: p.start_ticks() };
        let bytes = self.host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
        let helper = Helper { pid: p.pid, uid, args: parse::cmdline::parse(&bytes) };
        let Some(serves) = runtimes.find_map(|runtime| self.helps(*runtime, &helper)) else {
            return;
        };
        row.process.role = Fact::Known(Role::Plumbing);
        row.process.serves = match serves {
            Some(Serves::Id(id)) => Fact::Known(id),
            _ => Fact::Absent,
        };
    }

    /// Whether a user's process helps this engine of his, and whom if that is one container alone.
    fn helps(&mut self, runtime: &dyn Runtime, helper: &Helper) -> Option<Option<Serves>> {
        let user: BString = self.name_of_user(helper.uid);
        self.roots_of_user(helper.uid, Vec::new());
        if runtime.watched(&helper.args).is_some() {
            self.users_monitor(helper.uid, helper.pid);
        }
        let engine = runtime.engine();
        let is_his = |r: &&StateRoot| r.users_own() == Some(&user);
        let of_one =
            self.roots_of(engine).filter(is_his).find_map(|root| runtime.helps_one(root, helper));
        match of_one {
            // A monitor is one of a container that runs below it, or another that he has with it.
            Some(id) if runtime.watched(&helper.args).is_some() => {
                self.has_watched(runtime, &id, helper).then_some(Some(Serves::Id(id)))
            }
            Some(id) => Some(Some(Serves::Id(id))),
            None => runtime.helps_all(self.host, helper).then_some(None),
        }
    }

    /// Whether the container's init, as the user's engine has it, is below a monitor of his of that container.
    fn has_watched(&mut self, runtime: &dyn Runtime, id: &BString, helper: &Helper) -> bool {
        let engine = runtime.engine();
        let needs = (None, Needs::NONE);
        let told = self.users_description(engine, id.as_ref(), helper.uid, needs);
        let Some(Ok(description)) = told else { return false };
        let Some(init) = description.pid else { return false };
        let Ok(stat) = self.host.process(init).and_then(|dir| dir.stat()) else { return false };
        let above = self.watcher_above(stat.ppid);
        above.is_some_and(|(e, key, uid, _)| (e, uid) == (engine, helper.uid) && key == *id)
    }

    /// The name of the container that a process of plumbing works for; a user's works for his own.
    pub fn name_served(&mut self, row: &Row) -> Option<BString> {
        let id = row.process.serves.known()?.clone();
        let user = row.process.uid().filter(|uid| *uid != 0).map(|uid| self.name_of_user(uid));
        let Some(user) = user else { return self.name_of(id.as_ref()) };
        let scope = Scope { engine: None, user: Some(user.as_ref()) };
        let hit = self.search(Query::Id(id.as_ref()), scope, false).found.pop()?;
        let (uid, needs) = (row.process.uid()?, Needs::DESCRIPTION);
        let told = self.users_description(hit.engine, hit.key.as_ref(), uid, (None, needs));
        told?.ok()?.name
    }
}
