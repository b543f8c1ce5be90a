//! Sandboxes without an engine: only what began them tells whose they are.

use std::collections::HashMap;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::idmap::Extent;
use whose_kernel::parse::status::Status;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, ReadError, parse};

use super::Index;
use super::entry::Entry;
use super::place::unknown_in;
use crate::model::gap::what;
use crate::model::{Described, Engine, Evidence, Gap, Owner, OwnerKind, Process, Source};
use crate::runtime::claim::path_to;
use crate::runtime::nspawn::PAYLOAD;
use crate::runtime::{Jail, REGISTRY, Runtime};

/// Ancestors looked at.
const MOST_ANCESTORS: usize = 32;
/// How the kernel ends the name of a file that was removed, or put aside by an upgrade.
const REMOVED: &[u8] = b" (deleted)";

/// A program above a process that makes sandboxes.
#[derive(Clone, Debug)]
pub(super) struct Jailer {
    pub(super) engine: Engine,
    kind: OwnerKind,
    pub(super) pid: u32,
    /// Its real and its effective uid.
    pub(super) uids: [u32; 2],
    /// Its mount namespace.
    namespace: u64,
    jail: Jail,
}

/// What is above each process that was asked about; whether it is in a container makes a difference.
pub(super) type Jailers = HashMap<(u32, bool), Result<Option<Jailer>, ReadError>>;

impl Index<'_> {
    /// The sandbox of a process in namespaces that no cgroup explains, by the program above it that makes
    /// such and is itself outside. `contained` is a process that a cgroup puts into a container: then the
    /// program may be root's there.
    ///
    /// # Errors
    /// When there is a process of such a name that may not be looked at.
    pub(super) fn jailed(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
        contained: bool,
    ) -> Result<Option<(Owner, Evidence)>, ReadError> {
        let Some(stat) = p.stat.known() else { return Ok(None) };
        let own = match entry.read_mount_namespace() {
            Ok(own) => own,
            Err(e) if e.class == Class::Gone => return Ok(None),
            Err(e) => {
                let above = self.jailer_above(stat.ppid, contained);
                return if matches!(above, Ok(None)) { Ok(None) } else { Err(e) };
            }
        };
        let Some(jailer) = self.jailer_above(stat.ppid, contained)? else { return Ok(None) };
        // Only a program outside has put it there.
        if jailer.namespace == own {
            return Ok(None);
        }
        let path = self.host().shown(format!("proc/{}/exe", jailer.pid).as_bytes());
        let detail = format!("below {} {}", jailer.engine.0, jailer.pid);
        let seen = Evidence::agreeing(Source::Ancestry, detail, path);
        let by_mounts = || BString::from(format!("mnt:[{own}]"));
        let status = entry.status(Needs::NONE)?;
        let is_his = jailer.uids.iter().any(|u| [0, status.ruid, status.euid].contains(u));
        if jailer.kind == OwnerKind::App && !is_his {
            // Who calls himself so speaks for his own processes alone.
            let unknown = Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, by_mounts());
            return Ok(Some((unknown, seen)));
        }
        let described = match self.instance_in(&jailer).filter(|_| !contained) {
            Some(Ok(instance)) => return Ok(Some((instance, seen))),
            Some(Err(gap)) => Described::Unread(gap),
            None => Described::No,
        };
        let id = jailer.jail.id.unwrap_or_else(by_mounts);
        let mut owner = Owner::new(jailer.kind, jailer.engine, id);
        owner.name = jailer.jail.name;
        owner.described = described;
        if owner.kind == OwnerKind::Machine {
            place_payload(&mut owner, p);
        }
        Ok(Some((owner, seen)))
    }

    /// Adds the machine that a process in a container may be in besides.
    pub(super) fn jailed_within(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) {
        let owner = match self.jailed(entry, p, true) {
            Ok(None) => return,
            Ok(Some((owner, above))) => {
                evidence.push(above);
                owner
            }
            Err(e) => {
                let described = Described::Unread(Gap::from_read(what::MEMBERSHIP, &e));
                Owner { described, ..unknown_in(entry, p) }
            }
        };
        let within = chain.last().map(|outer| outer.id.clone()).unwrap_or_default();
        chain.push(Rc::new(Owner { within, ..owner }));
    }

    /// The outermost of the next programs of one runtime that makes sandboxes, among a process's
    /// ancestors, itself counted. Each machine has one supervisor.
    pub(super) fn jailer_above(
        &mut self,
        pid: u32,
        contained: bool,
    ) -> Result<Option<Jailer>, ReadError> {
        let (mut way, mut at, mut found) = (Vec::new(), pid, Ok(None));
        for _ in 0..MOST_ANCESTORS {
            if at <= 1 {
                break;
            }
            if matches!(found, Ok(None))
                && let Some(known) = self.jailers.get(&(at, contained))
            {
                found.clone_from(known);
                break;
            }
            let Ok(process) = self.host().process(at) else { break };
            let Ok(stat) = process.stat() else { break };
            let its = |r: &&&dyn Runtime| r.jailers().iter().any(|jailer| stat.comm == *jailer);
            let named = REGISTRY.iter().find(its).copied();
            let first: Option<Engine> =
                found.as_ref().ok().and_then(Option::as_ref).map(|j| j.engine);
            if first.is_some() && named.map(|r| r.engine()) != first {
                break;
            }
            let one = named.map_or(Ok(None), |r| self.jailer_at(r, &process, contained));
            if first.is_some() && matches!(one, Ok(None)) {
                break;
            }
            way.push(at);
            found = one;
            let is_last = |j: &Jailer| j.kind == OwnerKind::Machine;
            if found.as_ref().map_or(true, |one| one.as_ref().is_some_and(is_last)) {
                break;
            }
            at = stat.ppid;
        }
        for pid in way {
            self.jailers.insert((pid, contained), found.clone());
        }
        found
    }

    /// What a process of this name makes, if it runs the runtime's file and may make that. What it is
    /// called it can choose itself, and whoever has such a file can too: a machine is root's alone.
    fn jailer_at(
        &self,
        runtime: &dyn Runtime,
        process: &ProcDir<'_>,
        contained: bool,
    ) -> Result<Option<Jailer>, ReadError> {
        let Some(status) = there(process.status())? else { return Ok(None) };
        let kind = runtime.kind();
        if kind == OwnerKind::Machine && !is_roots(process, &status, contained) {
            return Ok(None);
        }
        let Some(exe) = there(process.link_text("exe"))? else { return Ok(None) };
        let file = exe.strip_suffix(REMOVED).unwrap_or(&exe).rsplit_str("/").next();
        if !file.is_some_and(|file| runtime.jailers().iter().any(|name| name.as_bytes() == file)) {
            return Ok(None);
        }
        let Some(namespace) = there(process.namespace("mnt"))? else { return Ok(None) };
        let pid = process.pid();
        let args = self.args_of(pid).unwrap_or_default();
        let jail = runtime.jail(self.host(), pid, &args);
        let uids = [status.ruid, status.euid];
        Ok(Some(Jailer { engine: runtime.engine(), kind, pid, uids, namespace, jail }))
    }

    /// The arguments of a process.
    pub(super) fn args_of(&self, pid: u32) -> Option<Vec<BString>> {
        let start_ticks = self.host().process(pid).and_then(|p| p.stat()).ok()?.start_ticks;
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        Some(parse::cmdline::parse(&self.host().slow_reads(&[ask]).pop()?.ok()?))
    }
}

/// What could be read; nothing of what has ended meanwhile.
fn there<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a process is root's: the host's own, or with `contained` a container's, which may have other
/// uids outside. Who maps nobody but himself is no root.
fn is_roots(process: &ProcDir<'_>, status: &Status, contained: bool) -> bool {
    let outermost = || status.nspid.as_ref().is_none_or(|pids| pids.len() == 1);
    if status.ruid != status.euid {
        return false;
    }
    if status.euid == 0 {
        return contained || outermost();
    }
    let is_root = |e: &Extent| e.inside == 0 && e.outside == status.euid && e.count > 1;
    contained && process.uid_map().is_ok_and(|map| map.iter().any(is_root))
}

/// Says where a machine is that a service runs: its supervisor has the cgroup beside.
fn place_payload(owner: &mut Owner, p: &Process) {
    let lines = p.cgroup.known().map(|lines| lines.as_slice()).unwrap_or_default();
    let place = |line: &Line| {
        let depth = line.segments().position(|segment| segment == PAYLOAD)? + 1;
        Some((path_to(line, depth), line.controllers.clone()))
    };
    if let Some((cgroup, hierarchy)) = lines.iter().rev().find_map(place) {
        (owner.cgroup, owner.hierarchy) = (cgroup, hierarchy);
    }
}

#[cfg(test)]
mod tests {
    use whose_testkit::fixture::FixtureHost;

    use crate::index::counted::reads;

    const HOSTS: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";

    #[test]
    fn a_program_above_many_is_looked_at_once() {
        let fixture = FixtureHost::new();
        fixture.boot();
        for pid in 700..730_u32 {
            let comm = if pid == 700 { "bwrap" } else { "sh" };
            let process =
                fixture.process(pid).ppid(if pid == 700 { 1 } else { pid - 1 }).comm(comm);
            process.exe(format!("/usr/bin/{comm}")).in_cgroup("/").write();
        }
        let pids: Vec<u32> = (800..850).collect();
        for pid in &pids {
            let process = fixture.process(*pid).ppid(729).mountinfo(HOSTS).in_cgroup("/");
            process.ns("mnt", 4_026_550_000 + u64::from(*pid)).write();
        }
        let reads = reads(&fixture, &pids);
        let of = |file: &str| -> usize {
            reads.iter().filter(|((_, its), _)| its == file).map(|(_, count)| count).sum()
        };
        assert_eq!((of("exe"), reads[&(700, "exe".to_owned())]), (1, 1), "{reads:?}");
        assert_eq!(reads[&(720, "stat".to_owned())], 1);
        // Its own of each, that of the program, and PID 1's.
        assert_eq!(of("ns/mnt"), pids.len() + 2);
        assert_eq!(of("mountinfo"), pids.len() + 1);
    }

    #[test]
    fn the_namespace_of_a_host_process_is_read_once() {
        let fixture = FixtureHost::new();
        fixture.boot();
        let pids: Vec<u32> = (800..832).collect();
        for pid in &pids {
            fixture.process(*pid).in_cgroup("/").write();
        }
        let reads = reads(&fixture, &pids);
        for pid in &pids {
            assert_eq!(reads[&(*pid, "ns/mnt".to_owned())], 1, "{reads:?}");
            assert_eq!(reads.get(&(*pid, "mountinfo".to_owned())), None);
        }
    }
}
