//! Containers whose own processes the host does not see: another kernel runs them.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, parse};

use super::Index;
use crate::model::gap::what;
use crate::model::{Engine, Evidence, Fact, Gap, Owner, OwnerKind, Role, Row, Source};
use crate::runtime::{REGISTRY, Sandbox, by_engine};

/// Ancestors looked at for a container's shim.
const MOST_ANCESTORS: usize = 8;

/// The sandbox of a container, and whose it is.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// What runs it: gVisor, Kata, Firecracker.
    pub by: Engine,
    /// Where the container's own processes are.
    pub what: &'static str,
    /// By its files; without any, by the cgroup.
    pub sandbox: Sandbox,
}

impl Hidden {
    /// The gap that it is: of the container's own processes nothing can be told.
    #[must_use]
    pub fn gap(&self) -> Gap {
        let path = self.sandbox.path.clone();
        Gap::new(what::GUEST, Class::Unsupported, path, self.what, None)
    }

    /// The same as evidence; `None` where only the cgroup says so, which is evidence already.
    #[must_use]
    pub fn evidence(&self, owner: &Owner) -> Option<Evidence> {
        if self.sandbox.path == owner.cgroup {
            return None;
        }
        let detail = format!("in a sandbox of {}", self.by.0);
        Some(Evidence::agreeing(Source::StateFile, detail, self.sandbox.path.clone()))
    }
}

/// Whether a process of this name may run a sandbox.
fn may_run_one(comm: &[u8]) -> bool {
    REGISTRY.iter().any(|r| r.sandbox_names().iter().any(|name| name.as_bytes() == comm))
}

impl Index<'_> {
    /// What hides the owner's own processes from the host, if anything does; `hint` is one of the
    /// processes that the host sees of it.
    pub fn hidden(&mut self, owner: &Owner, hint: Option<u32>) -> Option<Hidden> {
        // What runs in a container has its files there.
        if !owner.kind.contains() || !owner.within.is_empty() {
            return None;
        }
        let key = (owner.runtime, owner.id.clone());
        if let Some(known) = self.sandboxes.get(&key) {
            return known.clone();
        }
        let shim = hint.map(|pid| self.shim_of(pid));
        let host = self.host;
        let by_files = REGISTRY.iter().find_map(|runtime| {
            let what = runtime.hides()?;
            let sandbox = runtime.sandbox(host, BStr::new(&owner.id), shim.as_deref())?;
            Some(Hidden { by: runtime.engine(), what, sandbox })
        });
        let hidden = by_files.or_else(|| {
            let what = by_engine(owner.runtime)?.hides()?;
            let sandbox = Sandbox { path: owner.cgroup.clone(), ..Sandbox::default() };
            Some(Hidden { by: owner.runtime, what, sandbox })
        });
        self.sandboxes.insert(key, hidden.clone());
        hidden
    }

    /// As [`Index::hidden`], of the owner of a process, which itself must be one that runs a sandbox.
    pub fn hidden_by(&mut self, row: &Row) -> Option<(Hidden, Rc<Owner>)> {
        let owner = row.owner()?;
        let may = owner.kind == OwnerKind::Sandbox || may_run_one(row.process.comm());
        let hidden = may.then(|| self.hidden(owner, Some(row.process.pid)))??;
        Some((hidden, Rc::clone(owner)))
    }

    /// What the mounts of a process in a user namespace of its own show of a runtime that helps its
    /// container's engine.
    pub fn helper(&self, row: &Row) -> Option<Evidence> {
        let p = &row.process;
        let inside = row.owner().is_some_and(|o| o.kind == OwnerKind::Container);
        if !inside || p.inside_uid.known().is_none_or(|uid| Some(*uid) == p.uid()) {
            return None;
        }
        let mounts = self.host.process(p.pid).and_then(|p| p.mountinfo()).ok()?;
        let seen = REGISTRY.iter().find_map(|r| r.seen_in(&mounts))?;
        let path = self.host.shown(format!("proc/{}/mountinfo", p.pid).as_bytes());
        Some(Evidence::agreeing(Source::Mount, seen, path))
    }

    /// The arguments of the shim above a container's process.
    fn shim_of(&self, pid: u32) -> Vec<BString> {
        let mut at = pid;
        for _ in 0..MOST_ANCESTORS {
            let above = self.host.process(at).and_then(|p| p.stat()).map(|s| s.ppid);
            let stat = above.and_then(|pid| self.host.process(pid)?.stat());
            let Ok(stat) = stat else { break };
            at = stat.pid;
            if stat.comm.starts_with(b"containerd-shim") {
                let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: stat.start_ticks };
                let bytes = self.host.slow_reads(&[ask]).pop().and_then(Result::ok);
                return parse::cmdline::parse(&bytes.unwrap_or_default());
            }
        }
        Vec::new()
    }

    /// The part of a process that runs a sandbox: what it would be in a container it is not here.
    pub(super) fn settle_sandbox_role(&mut self, row: &mut Row) {
        let inside = row.owner().is_some_and(|o| o.kind == OwnerKind::Container);
        let Some((hidden, owner)) = inside.then(|| self.hidden_by(row)).flatten() else { return };
        let pid = row.process.pid;
        let serves = hidden.sandbox.helpers.contains(&pid);
        row.process.role = Fact::Known(if serves { Role::Plumbing } else { Role::Sandbox });
        row.process.serves = if serves { Fact::Known(owner.id.clone()) } else { Fact::Absent };
    }
}
