//! Containers of engines in containers that give them no cgroup (`cgroups = "disabled"`, as Podman's own
//! image has it): their processes are in the cgroup of the container around. Each has a monitor above it,
//! which is in that container too, and mounts that are not its monitor's.

use std::collections::HashMap;
use std::rc::Rc;

use bstr::BString;
use whose_fields::Needs;
use whose_kernel::parse::idmap;
use whose_kernel::parse::stat::Stat;
use whose_kernel::{Class, Host, ReadError, scan};

use super::entry::Entry;
use super::place::{unknown_in, unread};
use super::users::CONMON;
use super::watchers::{in_cgroup_of, is_unclaimed};
use super::{Index, membership};
use crate::model::gap::what;
use crate::model::{Described, Engine, Evidence, Gap, Owner, OwnerKind, Process, Source};
use crate::runtime::REGISTRY;

/// Ancestors looked at, at most; in a scan each is a parent that was met already.
const MOST_ANCESTORS: usize = 100_000;

/// Monitors above one process that are looked at, and processes above one of those.
const MOST_LEVELS: usize = 1000;

/// A process that says of itself that it watches over one container.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    pid: u32,
    ppid: u32,
    uid: u32,
    engine: Engine,
    key: BString,
    /// Its mount namespace, or why that can't be read.
    namespace: Result<u64, ReadError>,
}

/// Where a process of a monitor's name is.
type Place = (Stat, Option<(Engine, BString)>);

/// What is known of such monitors.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    /// The nearest process with a monitor's name, at or above each.
    nearest: HashMap<u32, Option<u32>>,
    /// Processes that a scan met, ascending. Of those that are not in `nearest` there is none.
    met: Vec<u32>,
    known: HashMap<u32, Option<Rc<Monitor>>>,
    /// Where each is: its parent, and the innermost container that its cgroup names.
    places: HashMap<u32, Option<Place>>,
    /// What each watches over in the container with that id.
    levels: HashMap<(u32, BString), Option<Rc<Owner>>>,
    /// The children of each process in the container with that id.
    children: HashMap<BString, HashMap<u32, Vec<u32>>>,
}

impl Monitors {
    /// Remembers what is above a process that a scan came by: whoever comes later may ask for it, and most
    /// parents come before their children.
    pub(super) fn meet(&mut self, stat: &Stat) {
        if self.met.last().is_some_and(|last| *last >= stat.pid) {
            return;
        }
        let above = self.nearest.get(&stat.ppid).copied();
        if stat.comm == CONMON {
            self.nearest.insert(stat.pid, Some(stat.pid));
        } else if let Some(above) = above {
            self.nearest.insert(stat.pid, above);
        } else if stat.ppid > 1 && self.met.binary_search(&stat.ppid).is_err() {
            return;
        }
        self.met.push(stat.pid);
    }

    /// The nearest process with a monitor's name, at or above this one.
    fn nearest(&mut self, host: &Host, pid: u32) -> Option<u32> {
        let (mut way, mut at) = (Vec::new(), pid);
        let found = loop {
            if at <= 1 || way.len() == MOST_ANCESTORS {
                break None;
            }
            if let Some(known) = self.nearest.get(&at) {
                break *known;
            }
            if self.met.binary_search(&at).is_ok() {
                break None;
            }
            way.push(at);
            let Ok(stat) = host.stat_of(at) else { break None };
            if stat.comm == CONMON {
                break Some(at);
            }
            // Who is come by again is in a circle, as a saved tree may have one.
            self.nearest.insert(at, None);
            at = stat.ppid;
        };
        self.nearest.extend(way.into_iter().map(|pid| (pid, found)));
        found
    }
}

impl Index<'_> {
    /// Adds the containers that an engine in the innermost container runs without a cgroup, and that the
    /// process is in.
    pub(super) fn levels_within(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
        needs: Needs,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) {
        // What a cgroup's text calls by an id that no state knows may be theirs too.
        let unclaimed = chain.last().filter(|o| is_unclaimed(o) && !o.within.is_empty()).cloned();
        let base = chain.len().saturating_sub(1 + usize::from(unclaimed.is_some()));
        let Some(outer) = chain.get(base).filter(|o| o.kind.has_root()).cloned() else { return };
        let Some(stat) = p.stat.known() else { return };
        let found = self.monitors_within(&outer, stat.ppid);
        if found.is_empty() {
            return;
        }
        let unread = found.iter().find_map(|monitor| monitor.namespace.clone().err());
        let own = match unread.map_or_else(|| entry.read_mount_namespace(), Err) {
            Ok(own) => own,
            Err(e) if e.class == Class::Gone => return,
            Err(e) => {
                // Whether it is in one of them is for those to know who may see its namespaces.
                let described = Described::Unread(Gap::from_read(what::MEMBERSHIP, &e));
                let within = outer.id.clone();
                let unknown = unclaimed.map_or_else(|| unknown_in(entry, p), |o| Owner::clone(&o));
                chain.truncate(base + 1);
                chain.push(Rc::new(Owner { described, within, ..unknown }));
                return;
            }
        };
        let mut levels = self.levels_of(outer, &found, own);
        if let Some(unclaimed) = unclaimed {
            let monitors = |(_, pid): &(_, u32)| found.iter().find(|m| m.pid == *pid).cloned();
            let monitor = levels.last().and_then(monitors);
            let is_it =
                |m: &Rc<Monitor>| m.key == unclaimed.id && self.is_cgroup_of(&unclaimed, m.uid);
            if !monitor.as_ref().is_some_and(is_it) {
                return;
            }
            chain.pop();
            if let Some((level, _)) = levels.last_mut() {
                *level = Rc::new(in_cgroup_of(Owner::clone(level), &unclaimed));
            }
        }
        for (level, monitor) in levels {
            chain.push(level);
            if needs.has(Needs::EVIDENCE) {
                let path = self.host.shown(format!("proc/{monitor}/cmdline").as_bytes());
                let detail = format!("below its monitor {monitor} in the container around it");
                evidence.push(Evidence::agreeing(Source::Ancestry, detail, path));
                let path = membership::path(self.host, p.pid, "ns/mnt");
                let detail = format!("in mount namespace {own}, which is not its monitor's");
                evidence.push(Evidence::agreeing(Source::Namespace, detail, path));
            }
        }
    }

    /// Learns of the engine in the container `outer` that a monitor there works for, also where that is a user's
    /// there.
    pub(super) fn engines_around(&mut self, outer: &Owner, pid: u32) {
        let Ok(stat) = self.host.stat_of(pid) else { return };
        let Some(monitor) = self.monitor_at(&stat) else {
            return self.roots_inside(outer, pid, Vec::new());
        };
        let top = self.topmost_of(outer, &monitor, None);
        match self.uid_inside(top, monitor.uid) {
            Ok(uid) => self.monitored_inside(outer, uid, (top, pid)),
            Err(_) => self.roots_inside(outer, pid, Vec::new()),
        }
    }

    /// As [`Index::levels_within`], of a process by its numbers.
    pub(super) fn add_levels(&mut self, stat: &Stat, own: u64, chain: &mut Vec<Rc<Owner>>) {
        let Some(outer) = chain.last().filter(|o| o.kind.has_root()).cloned() else { return };
        let found = self.monitors_within(&outer, stat.ppid);
        chain.extend(self.levels_of(outer, &found, own).into_iter().map(|(level, _)| level));
    }

    /// The containers of these monitors, outermost first, as far as a process in the mount namespace `own` is
    /// in them; each with its monitor.
    fn levels_of(
        &mut self,
        base: Rc<Owner>,
        found: &[Rc<Monitor>],
        own: u64,
    ) -> Vec<(Rc<Owner>, u32)> {
        let mut levels: Vec<(Rc<Owner>, u32)> = Vec::new();
        let (mut around, mut above) = (base, None);
        for (at, monitor) in found.iter().enumerate() {
            // What helps a monitor has its mounts.
            let next = found.get(at + 1).map_or(Some(own), |next| next.namespace.clone().ok());
            let monitors = monitor.namespace.as_ref().ok().copied();
            if next.is_none() || monitors.is_none() || next == monitors {
                continue;
            }
            if let Some(level) = self.level_of(&around, monitor, above) {
                around = Rc::clone(&level);
                above = Some(monitor.pid);
                levels.push((level, monitor.pid));
            }
        }
        levels
    }

    /// The monitors among a process's ancestors, itself counted, that are in this container and in none that
    /// a cgroup of theirs names; outermost first.
    fn monitors_within(&mut self, outer: &Owner, pid: u32) -> Vec<Rc<Monitor>> {
        let (mut found, mut at) = (Vec::new(), pid);
        // Whose monitor is nearest to the host, where that alone tells of the outer container.
        let mut outers = None;
        for _ in 0..MOST_LEVELS {
            let Some(pid) = self.inner.nearest(self.host, at) else { break };
            let Some((stat, around)) = self.place_of_monitor(pid) else { break };
            at = stat.ppid;
            if outer.cgroup.is_empty() {
                let watcher = *outers.get_or_insert_with(|| self.watcher_above(pid).map(|w| w.3));
                if watcher == Some(pid) || around.is_some() {
                    break;
                }
            } else if around.is_none_or(|(engine, id)| engine != outer.runtime || id != outer.id) {
                break;
            }
            let Some(monitor) = self.monitor_at(&stat) else { continue };
            // What a saved tree says of parents may go round in circles.
            if found.iter().any(|known: &Rc<Monitor>| known.pid == pid) {
                break;
            }
            found.push(monitor);
        }
        // Without the outer one's own monitor above them they are in another container.
        if outer.cgroup.is_empty() && !self.is_below_outers(&found, outer) {
            found.clear();
        }
        found.reverse();
        found
    }

    fn is_below_outers(&mut self, found: &[Rc<Monitor>], outer: &Owner) -> bool {
        let Some(last) = found.last() else { return true };
        let watcher = self.watcher_above(last.ppid);
        watcher.is_some_and(|(engine, key, ..)| engine == outer.runtime && outer.has_key(&key))
    }

    /// What a process of a monitor's name says of itself; `None` where that is nothing, or its namespace
    /// can't be read.
    fn monitor_at(&mut self, stat: &Stat) -> Option<Rc<Monitor>> {
        if let Some(known) = self.inner.known.get(&stat.pid) {
            return known.clone();
        }
        let monitor = self.read_monitor(stat).map(Rc::new);
        self.inner.known.insert(stat.pid, monitor.clone());
        monitor
    }

    /// Where a process of a monitor's name is; of the host's own that is all that is read.
    fn place_of_monitor(&mut self, pid: u32) -> Option<Place> {
        if let Some(known) = self.inner.places.get(&pid) {
            return known.clone();
        }
        let place = self.read_place(pid);
        self.inner.places.insert(pid, place.clone());
        place
    }

    fn read_place(&mut self, pid: u32) -> Option<Place> {
        let dir = self.host.process(pid).ok()?;
        let (stat, lines) = (dir.stat().ok()?, Rc::new(dir.cgroup().ok()?));
        let chain = self.container_chain(pid, &lines);
        Some((stat, chain.and_then(|c| c.last().map(|o| (o.runtime, o.id.clone())))))
    }

    fn read_monitor(&mut self, stat: &Stat) -> Option<Monitor> {
        let dir = self.host.process(stat.pid).ok()?;
        let args = self.args_of(stat.pid)?;
        let named = REGISTRY.iter().filter(|r| r.has_monitor_each());
        let (engine, key) =
            named.into_iter().find_map(|r| Some((r.engine(), r.watched(&args)?)))?;
        let (uid, namespace) = (dir.status().ok()?.euid, dir.namespace("mnt"));
        if namespace.as_ref().is_err_and(|e| e.class == Class::Gone) {
            return None;
        }
        dir.still(stat.start_ticks).ok()?;
        Some(Monitor { pid: stat.pid, ppid: stat.ppid, uid, engine, key, namespace })
    }

    /// What a monitor in `outer` watches over, if an engine there has it, or may have it and can't be asked;
    /// `above` is the monitor of `outer` itself. What a user there runs is believed of his own engine's alone.
    fn level_of(
        &mut self,
        outer: &Rc<Owner>,
        monitor: &Monitor,
        above: Option<u32>,
    ) -> Option<Rc<Owner>> {
        let key = (monitor.pid, outer.id.clone());
        if let Some(known) = self.inner.levels.get(&key) {
            return known.clone();
        }
        let level = self.read_level(outer, monitor, above).map(Rc::new);
        self.inner.levels.insert(key, level.clone());
        level
    }

    fn read_level(
        &mut self,
        outer: &Owner,
        monitor: &Monitor,
        above: Option<u32>,
    ) -> Option<Owner> {
        let mut owner = Owner::with_key(OwnerKind::Container, monitor.engine, &monitor.key);
        owner.within.clone_from(&outer.id);
        let top = self.topmost_of(outer, monitor, above);
        let uid = match self.uid_inside(top, monitor.uid) {
            Ok(uid) => uid,
            Err(e) => {
                let gap = Gap::from_read(what::DESCRIPTION, &e);
                return Some(Owner { within: owner.within, ..unread(gap) });
            }
        };
        self.monitored_inside(outer, uid, (top, monitor.pid));
        let user = (uid != 0).then_some(uid);
        let user = |its: Option<u32>| its == user;
        owner.described = match self.told_inside(&owner, None, Needs::NONE, &user)? {
            Ok(description) => Described::Yes(Box::new(description)),
            // The engine there was asked and has no such container.
            Err(gap) if gap.class == Class::Gone => return None,
            // He may have named anybody's.
            Err(gap) if uid != 0 => return Some(Owner { within: owner.within, ..unread(gap) }),
            Err(gap) => Described::Unread(gap),
        };
        owner.adopt();
        Some(owner)
    }

    /// The uid in a container, by one of its processes, of one that has `uid` here.
    fn uid_inside(&self, pid: u32, uid: u32) -> Result<u32, ReadError> {
        let process = self.host.process(pid)?;
        let map = process.uid_map()?;
        let path = membership::path(self.host, pid, "uid_map");
        let unmapped = || ReadError::new(path, Class::Malformed, format!("{uid} is not mapped"));
        idmap::inside(&map, uid).ok_or_else(unmapped)
    }

    /// The topmost process above a monitor that is in `outer`, whose own monitor is `above`: it has the
    /// namespaces that are the container's.
    fn topmost_of(&mut self, outer: &Owner, monitor: &Monitor, above: Option<u32>) -> u32 {
        let mut top = (monitor.pid, monitor.ppid);
        let named = !outer.cgroup.is_empty();
        let above = above.or_else(|| self.watcher_above(monitor.ppid).map(|w| w.3));
        for _ in 0..MOST_LEVELS {
            let at = top.1;
            if at <= 1 || (!named && Some(at) == above) {
                break;
            }
            let Ok(dir) = self.host.process(at) else { break };
            let Ok(stat) = dir.stat() else { break };
            if named {
                let Ok(lines) = dir.cgroup().map(Rc::new) else { break };
                let chain = self.container_chain(at, &lines).unwrap_or_default();
                if !chain.iter().any(|o| o.runtime == outer.runtime && o.id == outer.id) {
                    break;
                }
            }
            top = (at, stat.ppid);
        }
        top.0
    }

    /// The container around one without a cgroup that something else than a monitor in a container tells of.
    pub(super) fn base_of(&self, owner: &Owner) -> Option<Owner> {
        let mut at = self.outer_named(owner.within.as_ref())?;
        // Each is deeper than the one around it.
        for _ in 0..MOST_ANCESTORS {
            if is_base(at) {
                return Some(at.clone());
            }
            at = self.outer_named(at.within.as_ref())?;
        }
        None
    }

    /// Whether a process is below the monitor of a container that has no cgroup in the one around it.
    pub(super) fn is_monitored_inside(&mut self, pid: u32, owner: &Owner) -> bool {
        let Some(base) = self.base_of(owner) else { return false };
        let Ok(stat) = self.host.stat_of(pid) else { return false };
        self.is_in_level(&stat, &base, owner)
    }

    fn is_in_level(&mut self, stat: &Stat, base: &Owner, owner: &Owner) -> bool {
        let found = self.monitors_within(base, stat.ppid);
        if !found.iter().any(|m| m.engine == owner.runtime && owner.has_key(&m.key)) {
            return false;
        }
        let dir = self.host.process(stat.pid);
        let Ok(own) = dir.and_then(|dir| dir.namespace("mnt")) else { return false };
        let levels = self.levels_of(Rc::new(base.clone()), &found, own);
        levels.iter().any(|(level, _)| is_same(level, owner))
    }

    /// The processes of a container that has no cgroup in the one around it, ascending: those below its
    /// monitor among those of the outer one.
    ///
    /// # Errors
    /// When those can't be listed.
    pub(super) fn inner_pids(&mut self, owner: &Owner) -> Result<Vec<u32>, ReadError> {
        let Some(base) = self.base_of(owner) else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        for pid in self.members_within(&base)? {
            let Ok(stat) = self.host.stat_of(pid) else { continue };
            if !stat.is_dead() && self.is_in_level(&stat, &base, owner) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// Leaves those of `pids` that are in the container and in none that an engine in it runs without a cgroup.
    ///
    /// # Errors
    /// When the mount namespace of one below a monitor can't be read.
    pub fn without_inner(&mut self, owner: &Owner, pids: &mut Vec<u32>) -> Result<(), ReadError> {
        let base = if is_base(owner) { Some(owner.clone()) } else { self.base_of(owner) };
        let Some(base) = base.filter(|base| base.kind.has_root()).map(Rc::new) else {
            return Ok(());
        };
        let mut own = Vec::new();
        for pid in pids.drain(..) {
            let Ok(stat) = self.host.stat_of(pid) else { continue };
            let found = self.monitors_within(&base, stat.ppid);
            if found.is_empty() {
                own.push(pid);
                continue;
            }
            let unread = found.iter().find_map(|monitor| monitor.namespace.clone().err());
            let read = || self.host.process(pid).and_then(|dir| dir.namespace("mnt"));
            let namespace = match unread.map_or_else(read, Err) {
                Ok(namespace) => namespace,
                Err(e) if e.class == Class::Gone => continue,
                Err(e) => return Err(e),
            };
            let levels = self.levels_of(Rc::clone(&base), &found, namespace);
            if is_same(levels.last().map_or(&*base, |(level, _)| level), owner) {
                own.push(pid);
            }
        }
        *pids = own;
        Ok(())
    }

    /// The processes of a container that was looked into, those of the containers in it too.
    fn members_within(&self, outer: &Owner) -> Result<Vec<u32>, ReadError> {
        if !outer.cgroup.is_empty() {
            return Ok(self.pids_of(outer));
        }
        let mut all = Vec::new();
        scan::each_process(self.host, &mut |pid, _| all.push(pid))?;
        Ok(all)
    }

    /// The PID here of the process that an engine, `depth` PID namespaces deep, calls `pid` and has put below
    /// the monitor of the container.
    pub(super) fn init_inside(&mut self, owner: &Owner, pid: u32, depth: usize) -> Option<u32> {
        let base = self.base_of(owner)?;
        let id = base.id.clone();
        if !self.inner.children.contains_key(&base.id) {
            let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
            for pid in self.members_within(&base).unwrap_or_default() {
                let Ok(stat) = self.host.stat_of(pid) else { continue };
                children.entry(stat.ppid).or_default().push(pid);
            }
            self.inner.children.insert(base.id, children);
        }
        let watches =
            |monitor: &Monitor| monitor.engine == owner.runtime && owner.has_key(&monitor.key);
        let is_it = |child: &&u32| {
            let status = self.host.process(**child).and_then(|p| p.status());
            let pids = status.ok().and_then(|s| s.nspid).unwrap_or_else(|| vec![**child]);
            depth.checked_sub(1).and_then(|at| pids.get(at)) == Some(&pid)
        };
        let known = self.inner.known.values().flatten().filter(|m| watches(m));
        let children = self.inner.children.get(&id)?;
        known.filter_map(|m| children.get(&m.pid)).flatten().find(is_it).copied()
    }
}

/// Whether something else than a monitor in a container tells of it.
fn is_base(owner: &Owner) -> bool {
    !owner.cgroup.is_empty() || owner.within.is_empty()
}

/// Two users in a container may name the same id: the files that describe it tell.
fn is_same(one: &Owner, other: &Owner) -> bool {
    let file = |owner: &Owner| owner.description().map(|d| d.path.clone());
    one.runtime == other.runtime
        && one.key() == other.key()
        && one.within == other.within
        && (is_base(one) || file(one) == file(other))
}
