//! Machines of systemd-nspawn without a unit of their own: their cgroup does not tell one from another,
//! and only their supervisors know what they are called.

use std::collections::HashMap;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::Class;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::read::cgroup_tree::{self, Hierarchy};

use super::Index;
use super::describe::Members;
use super::lookup::Container;
use crate::model::gap::what;
use crate::model::{Engine, Evidence, Fact, Gap, Owner, OwnerKind, Process, Source};
use crate::runtime::{REGISTRY, nspawn};

/// Where the first process of a machine is, with systemd in it or without, and its supervisor.
const INITS: [&str; 2] = ["/payload", "/payload/init.scope"];
const SUPERVISORS: &str = "/supervisor";
/// Ancestors looked at for a supervisor.
const MOST_ANCESTORS: usize = 32;

/// A supervisor and the name that its options give to its machine.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    pid: u32,
    name: BString,
}

/// What is known of machines that share a cgroup.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// The supervisor above each process that was asked about.
    above: HashMap<u32, Option<Supervisor>>,
    /// The machine of each supervisor, as the owner of what is in one of its cgroups.
    owners: HashMap<(u32, BString), Rc<Owner>>,
}

impl Index<'_> {
    /// Tells which of the machines in one cgroup a process is in, by the supervisor above it.
    pub(super) fn tell_machine(&mut self, chain: &mut [Rc<Owner>], p: &Process) {
        let Some(shared) = chain.first().filter(|o| o.name.is_none()).cloned() else { return };
        let ppid = p.stat.known().map_or(0, |stat| stat.ppid);
        let Some(supervisor) = self.supervisor_above(ppid) else { return };
        let key = (supervisor.pid, shared.cgroup.clone());
        let name = supervisor.name;
        let own = || {
            let id = name.clone();
            Rc::new(Owner { id, name: Some(name), ..Owner::clone(&shared) })
        };
        chain[0] = Rc::clone(self.machines.owners.entry(key).or_insert_with(own));
    }

    /// The supervisor among a process's ancestors, itself counted.
    fn supervisor_above(&mut self, pid: u32) -> Option<Supervisor> {
        let (mut way, mut at, mut found) = (Vec::new(), pid, None);
        for _ in 0..MOST_ANCESTORS {
            if at <= 1 {
                break;
            }
            if let Some(known) = self.machines.above.get(&at) {
                found.clone_from(known);
                break;
            }
            way.push(at);
            let Ok(stat) = self.host().process(at).and_then(|p| p.stat()) else { break };
            // One inside another machine is not the host's own.
            let is_one = stat.comm == nspawn::SUPERVISOR;
            found = is_one.then(|| self.supervisor_at(at)).flatten();
            if found.is_some() {
                break;
            }
            at = stat.ppid;
        }
        for pid in way {
            self.machines.above.insert(pid, found.clone());
        }
        found
    }

    /// The supervisor that a process is, if it is the host's own and says what its machine is called.
    fn supervisor_at(&self, pid: u32) -> Option<Supervisor> {
        let process = self.host().process(pid).ok()?;
        process.stat().ok().filter(|stat| stat.comm == nspawn::SUPERVISOR)?;
        let status = process.status().ok()?;
        let outermost = status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
        if status.euid != 0 || !outermost {
            return None;
        }
        let lines = process.cgroup().ok()?;
        lines.iter().find(|l| l.path.ends_with(SUPERVISORS.as_bytes()))?;
        let args = self.args_of(pid)?;
        let name = REGISTRY.iter().find_map(|runtime| runtime.watched(&args))?;
        Some(Supervisor { pid, name })
    }

    /// Whom a supervisor without a unit serves: the machine's id.
    pub(super) fn served(&self, pid: u32) -> Option<BString> {
        match self.supervisor() {
            Some(only) if only.pid == pid => None,
            _ => self.supervisor_at(pid).map(|s| s.name),
        }
    }

    /// The machines of this name that nobody registered: their supervisors say it.
    pub(super) fn machines_named(&self, name: &[u8]) -> Vec<(Engine, BString)> {
        let found = self.supervised(name);
        found.map(|_| (nspawn::ENGINE, name.into())).into_iter().collect()
    }

    /// The supervisor of the machine with this name, and where its payload is.
    fn supervised(&self, name: &[u8]) -> Option<(Supervisor, Hierarchy, BString)> {
        let host = self.host();
        for hierarchy in self.hierarchies().ok()? {
            let top = hierarchy.dir(SUPERVISORS.as_bytes());
            let all = || {
                let walk = cgroup_tree::subtree(host, &hierarchy.point);
                walk.map(|walk| walk.dirs).unwrap_or_default()
            };
            for dir in top.into_iter().chain(all()) {
                let Some(parent) = dir.strip_suffix(SUPERVISORS.as_bytes()) else { continue };
                let pids = cgroup_tree::members(host, &dir).unwrap_or_default();
                let mut supervisors = pids.into_iter().filter_map(|pid| self.supervisor_at(pid));
                if let Some(supervisor) = supervisors.find(|s| s.name == name) {
                    let payload = [parent, b"/", nspawn::PAYLOAD.as_bytes()].concat();
                    return Some((supervisor, hierarchy.clone(), payload.into()));
                }
            }
        }
        None
    }

    /// A machine that nobody registered, with its processes: those below its supervisor.
    pub(super) fn machine_container(&mut self, name: &[u8], needs: Needs) -> Option<Container> {
        let (supervisor, hierarchy, payload) = self.supervised(name)?;
        let (dirs, mut pids) = match self.members_below(&payload) {
            Ok(found) => found,
            Err(e) if e.class == Class::Gone => return None,
            Err(e) => {
                let owner = Rc::new(Owner::new(OwnerKind::Machine, nspawn::ENGINE, name));
                let pids = Err(Gap::from_read(what::PIDS, &e));
                return Some(Container { owner, hierarchy: Some(hierarchy), dirs: vec![], pids });
            }
        };
        let ppid = |pid: u32| self.host().process(pid).and_then(|p| p.stat()).map(|s| s.ppid).ok();
        let init = pids.iter().copied().find(|pid| ppid(*pid) == Some(supervisor.pid))?;
        let all = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let row = self.row(init, all).ok()??;
        let is_it = |o: &&Rc<Owner>| {
            o.runtime == nspawn::ENGINE && o.best_name().is_some_and(|n| n == name)
        };
        let owner = row.membership.known()?.chain.iter().find(is_it).cloned()?;
        pids.retain(|pid| {
            let above = self.supervisor_above(*pid);
            above.is_none_or(|above| above.pid == supervisor.pid)
        });
        let mut owner = self.described(&owner, Members::Has(init), needs);
        // No state tells it.
        if owner.init_pid.known().is_none() {
            owner = Rc::new(Owner { init_pid: Fact::Known(init), ..(*owner).clone() });
        }
        Some(Container { owner, hierarchy: Some(hierarchy), dirs, pids: Ok(pids) })
    }

    /// Gives the machine in a chain its name, if it is the only one in its cgroup.
    pub(super) fn name_machine(&self, chain: &mut [Owner]) {
        if let Some(owner) = chain.iter_mut().find(|o| nspawn::is_shared(o)) {
            owner.name = self.supervisor().map(|s| s.name.clone());
        }
    }

    /// What shows a machine's name.
    pub(super) fn name_evidence(&self, owner: &Owner) -> Option<Evidence> {
        if !nspawn::is_shared(owner) {
            return None;
        }
        let supervisor = self.supervisor()?;
        let path = self.host().shown(format!("proc/{}/cmdline", supervisor.pid).as_bytes());
        let detail = format!("its supervisor {} calls it {}", supervisor.pid, supervisor.name);
        Some(Evidence::agreeing(Source::Ancestry, detail, path))
    }

    fn supervisor(&self) -> Option<&Supervisor> {
        self.supervisor.get_or_init(|| self.only_supervisor()).as_ref()
    }

    /// The supervisor of the machine, if there is one machine. Its child is the first process of a PID
    /// namespace; a machine whose supervisor was killed has nobody who knows its name.
    fn only_supervisor(&self) -> Option<Supervisor> {
        let host = self.host();
        let mut inits: Vec<u32> = Vec::new();
        for hierarchy in self.hierarchies().ok()? {
            for dir in INITS.iter().filter_map(|path| hierarchy.dir(path.as_bytes())) {
                inits.extend(cgroup_tree::members(host, &dir).unwrap_or_default());
            }
        }
        inits.sort_unstable();
        inits.dedup();
        let is_first = |pid: &u32| {
            let status = host.process(*pid).and_then(|p| p.status());
            status.ok().and_then(|s| s.nspid).is_some_and(|pids| pids[1..] == [1])
        };
        inits.retain(is_first);
        let [init] = inits[..] else { return None };
        let pid = host.process(init).and_then(|p| p.stat()).ok()?.ppid;
        let lines = host.process(pid).and_then(|p| p.cgroup()).ok()?;
        lines.iter().find(|l: &&Line| l.path == SUPERVISORS)?;
        self.supervisor_at(pid)
    }
}

/// Whether the text puts a process into such a machine and its PIDs say that it is in none: anyone who
/// may can move it there.
pub(super) fn is_outside(outermost: &Owner, p: &Process) -> bool {
    nspawn::is_shared(outermost) && p.nspid().is_some_and(|pids| pids.len() == 1)
}

/// Whether the text leaves room for a machine of systemd-nspawn in the innermost container: below its
/// cgroup is one as a supervisor makes it for its machine.
pub(super) fn may_be_in_another(chain: &[Rc<Owner>], lines: &[Line]) -> bool {
    let Some(inner) = chain.last().filter(|o| o.kind.has_root()) else { return false };
    lines.iter().any(|line| {
        let below = strip(&inner.cgroup, &line.path).map(|rest| rest.as_bytes().to_vec());
        let mut segments = below.iter().flat_map(|rest| rest.split_str("/"));
        !inner.cgroup.is_empty() && segments.any(|s| s == nspawn::PAYLOAD.as_bytes())
    })
}
