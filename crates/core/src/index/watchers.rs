//! Containers that no cgroup names: told by the monitor above their processes.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::stat::Stat;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, parse, scan};

use super::Index;
use super::place::unread;
use super::proven::is_hosts;
use super::roots::Place;
use crate::model::gap::what;
use crate::model::{
    Described, Description, Engine, Evidence, Gap, Owner, OwnerKind, Process, Source,
};
use crate::runtime::segment::down_to;
use crate::runtime::{Monitor, REGISTRY, Runtime, by_engine};

/// Ancestors looked at for a container's monitor.
const MOST_ANCESTORS: usize = 32;

/// A process that watches over a container, by its own word: engine, key, its uid and its PID.
pub(super) type Watcher = (Engine, BString, u32, u32);

/// What a process is that has a monitor's name.
struct Seen {
    /// What it watches over, if its word counts.
    watcher: Option<Watcher>,
    uid: Option<u32>,
    /// Whether no other one above it matters.
    is_last: bool,
}

/// Whether a cgroup's text is all that tells of it.
pub(super) fn is_unclaimed(owner: &Owner) -> bool {
    owner.kind == OwnerKind::Unknown && !owner.cgroup.is_empty() && !owner.id.is_empty()
}

/// The owner that a monitor tells of, in the cgroup that nobody claimed.
pub(super) fn in_cgroup_of(owner: Owner, unclaimed: &Owner) -> Owner {
    if owner.kind == OwnerKind::Unknown {
        // What the engine says of it can't be read.
        return Owner { described: owner.described, ..unclaimed.clone() };
    }
    let (cgroup, hierarchy) = (unclaimed.cgroup.clone(), unclaimed.hierarchy.clone());
    Owner { cgroup, hierarchy, ..owner }
}

impl Index<'_> {
    /// A user's container that no cgroup names, told by the monitor above the process: an engine
    /// without a cgroup of its own makes none for its containers. The monitor's user must have
    /// the container in an engine of his own; where that can't be read, it is unknown whose it is.
    pub(super) fn watched(&mut self, p: &Process) -> Option<(Owner, Evidence)> {
        let (engine, key, uid, pid) = self.watcher_above(p.stat.known()?.ppid)?;
        if uid == 0 {
            return self.watched_by_hosts(p, engine, &key, pid);
        }
        let hint = (Some(p.pid), Needs::NONE);
        let owner = match self.users_description(engine, key.as_ref(), uid, hint)? {
            Ok(description) => {
                let mut owner = Owner::with_key(OwnerKind::Container, engine, &key);
                owner.described = Described::Yes(Box::new(description));
                owner.adopt();
                owner
            }
            Err(gap) => unread(gap),
        };
        let path = self.host.shown(format!("proc/{pid}/cmdline").as_bytes());
        let detail = format!("below its monitor {pid}, which is {}'s", self.name_of_user(uid));
        Some((owner, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// What a cgroup's text calls by an id that no state knows: a user's engine to which nothing is delegated has
    /// its runtime make such a cgroup. The monitor above tells whose it is, if that watches over this id and
    /// its user made the cgroup.
    pub(super) fn tell_unclaimed(
        &mut self,
        p: &Process,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) {
        let Some(unclaimed) = chain.last().filter(|o| is_unclaimed(o) && o.within.is_empty())
        else {
            return;
        };
        let unclaimed = Rc::clone(unclaimed);
        let Some(ppid) = p.stat.known().map(|stat| stat.ppid) else { return };
        let Some((_, key, uid, _)) = self.watcher_above(ppid) else { return };
        // The host's own engines were asked.
        if uid == 0 || key != unclaimed.id || !self.is_cgroup_of(&unclaimed, uid) {
            return;
        }
        let Some((owner, seen)) = self.watched(p) else { return };
        chain.pop();
        chain.push(Rc::new(in_cgroup_of(owner, &unclaimed)));
        evidence.push(seen);
    }

    /// Whether the user with this uid made the owner's cgroup: he may call it what he likes. Root may have made
    /// any.
    pub(super) fn is_cgroup_of(&self, owner: &Owner, uid: u32) -> bool {
        let user = (uid != 0).then(|| self.name_of_user(uid));
        Place::new(self.host, &owner.cgroup).is_in_reach_of_user(user.as_ref())
    }

    /// A container of the host's own engine that no cgroup's text names, or only one that anything may
    /// have: told by the monitor above the process, and by the state which that works in, if that
    /// gives the container the cgroup of the process.
    fn watched_by_hosts(
        &mut self,
        p: &Process,
        engine: Engine,
        key: &BString,
        monitor: u32,
    ) -> Option<(Owner, Evidence)> {
        let runtime = by_engine(engine)?;
        let described = match self.monitored(runtime, p.pid) {
            Some((number, _)) => {
                runtime.describe(&self.roots.get(number)?.1, key.as_ref(), Needs::NONE)?
            }
            // The monitor is root's, and says where it works to nobody else.
            None => Err(self.host.process(monitor).and_then(|m| m.link_text("cwd")).err()?),
        };
        let mut owner = Owner::with_key(OwnerKind::Container, engine, key);
        let usual = BString::from([b"/", key.as_slice()].concat());
        let cgroups = described.as_ref().map_or(std::slice::from_ref(&usual), |d| &d.cgroups);
        let own = |line: &Line| {
            let down = cgroups.iter().find_map(|own| down_to(&line.path, own));
            down.map(|path| (BString::from(path), line.controllers.clone()))
        };
        let lines = p.cgroup.known().map(|lines| lines.as_slice()).unwrap_or_default();
        match lines.iter().rev().find_map(own) {
            Some((cgroup, hierarchy)) => (owner.cgroup, owner.hierarchy) = (cgroup, hierarchy),
            // It asked for none, and is in its monitor's.
            None if cgroups.is_empty() => {}
            // Which it asked for can't be read; a monitor of one container's is that one's all the same.
            None if described.is_err() && runtime.has_monitor_each() => {}
            None => return None,
        }
        owner.described = match described {
            Ok(description) => Described::Yes(Box::new(description)),
            Err(e) if e.class == Class::Gone => return None,
            Err(e) => Described::Unread(Gap::from_read(what::DESCRIPTION, &e)),
        };
        owner.adopt();
        let path = self.host.shown(format!("proc/{monitor}/cmdline").as_bytes());
        let detail = format!("below its monitor {monitor}");
        Some((owner, Evidence::agreeing(Source::Ancestry, detail, path)))
    }

    /// The number of the state that the monitor above a process belongs to, and the key of the container
    /// it watches. Of the host's own engines only.
    pub(super) fn monitored(
        &mut self,
        runtime: &dyn Runtime,
        pid: u32,
    ) -> Option<(usize, BString)> {
        let ppid = self.host.process(pid).and_then(|p| p.stat()).ok()?.ppid;
        let (engine, key, uid, at) = self.watcher_above(ppid)?;
        if uid != 0 || engine != runtime.engine() {
            return None;
        }
        if let Some(known) = self.monitors.get(&at) {
            return known.map(|number| (number, key));
        }
        let host = self.host;
        let dir = host.process(at).ok()?;
        let ask = Ask { file: Slow::Cmdline, pid: at, start_ticks: dir.stat().ok()?.start_ticks };
        let bytes = host.slow_reads(&[ask]).pop()?.ok()?;
        let monitor =
            Monitor { args: parse::cmdline::parse(&bytes), cwd: dir.link_text("cwd").ok() };
        let number = self.root_of_monitor(runtime, &monitor);
        self.monitors.insert(at, number);
        number.map(|number| (number, key))
    }

    /// Whether a process is below the monitor that an engine of the host's gave the container.
    pub(super) fn is_monitored(&mut self, pid: u32, owner: &Owner) -> bool {
        let runtime = by_engine(owner.runtime);
        let monitored = runtime.and_then(|runtime| self.monitored(runtime, pid));
        monitored.is_some_and(|(_, key)| owner.has_key(&key))
    }

    /// The monitor above a process, itself counted, by its own word. Of several that watch over one container
    /// each it is the topmost one of root's or the same user's: the others may be in the container that this
    /// one watches over.
    pub(super) fn watcher_above(&mut self, pid: u32) -> Option<Watcher> {
        let host = self.host;
        let mut way: Vec<(u32, Option<Seen>)> = Vec::new();
        let (mut at, mut above) = (pid, None);
        for _ in 0..MOST_ANCESTORS {
            if at <= 1 {
                break;
            }
            if let Some(known) = self.watchers.get(&at) {
                above.clone_from(known);
                break;
            }
            let Ok(dir) = host.process(at) else { break };
            let Ok(stat) = dir.stat() else { break };
            let seen = self.monitor_seen(&dir, &stat);
            let is_last = seen.as_ref().is_some_and(|seen| seen.is_last);
            way.push((at, seen));
            if is_last {
                break;
            }
            at = stat.ppid;
        }
        for (pid, seen) in way.into_iter().rev() {
            if let Some(seen) = seen {
                above = above.filter(|a: &Watcher| a.2 == 0 || seen.uid == Some(a.2));
                above = above.or(seen.watcher);
            }
            self.watchers.insert(pid, above.clone());
        }
        above
    }

    /// What a process is that has a monitor's name.
    fn monitor_seen(&mut self, dir: &ProcDir<'_>, stat: &Stat) -> Option<Seen> {
        let monitors =
            |r: &&&dyn Runtime| r.monitor().is_some_and(|m| stat.comm.starts_with(m.as_bytes()));
        let mut of_it = REGISTRY.iter().filter(monitors).peekable();
        let is_last = !of_it.peek()?.has_monitor_each();
        let ask = Ask { file: Slow::Cmdline, pid: dir.pid(), start_ticks: stat.start_ticks };
        let bytes = self.host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
        let args = parse::cmdline::parse(&bytes);
        let watched = of_it.find_map(|r| Some((*r, r.watched(&args)?)));
        let status = dir.status().ok();
        let uid = status.as_ref().map(|status| status.euid);
        let enough = watched.as_ref().map(|(r, _)| *r).filter(|r| r.monitor_is_enough());
        let is_told = status.is_some_and(|s| match enough {
            _ if s.euid != 0 => true,
            Some(runtime) => self.is_proven(dir, &s, runtime) && self.is_outside(dir, &s),
            None => is_hosts(dir, &s),
        });
        let watched = watched.filter(|_| is_told).zip(uid);
        let watcher = watched.map(|((r, key), uid)| (r.engine(), key, uid, dir.pid()));
        // The host's own is in no container.
        let is_last = is_last || watcher.as_ref().is_some_and(|w| w.2 == 0);
        Some(Seen { watcher, uid, is_last })
    }

    /// The key that a runtime's monitor above the process says, whoever's that monitor is.
    pub(super) fn says_monitor(&self, runtime: &dyn Runtime, pid: u32) -> Option<BString> {
        let comm = runtime.monitor()?;
        let mut at = pid;
        for _ in 0..MOST_ANCESTORS {
            at = self.host.process(at).and_then(|p| p.stat()).ok()?.ppid;
            let stat = self.host.process(at).and_then(|p| p.stat()).ok()?;
            if stat.comm.starts_with(comm.as_bytes())
                && let Some(key) = self.args_of(at).and_then(|args| runtime.watched(&args))
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether a process is below the monitor of the container, which is that of whose engine has it:
    /// anybody can say that he watches over it.
    pub(super) fn is_watched(&mut self, pid: u32, owner: &Owner) -> bool {
        if !owner.within.is_empty() {
            return self.is_monitored_inside(pid, owner);
        }
        let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { return false };
        let Some((engine, key, uid, _)) = self.watcher_above(stat.ppid) else { return false };
        let user = owner.description().and_then(|d| d.user.as_ref());
        let is_his = match user {
            Some(user) => uid != 0 && self.name_of_user(uid) == *user,
            None => uid == 0,
        };
        is_his && engine == owner.runtime && owner.has_key(&key)
    }

    /// The processes of a container that has no cgroup and runs, by what its engine says of it.
    ///
    /// # Errors
    /// The gap where they can't be listed.
    pub(super) fn pids_without_cgroup(
        &mut self,
        owner: &Owner,
        description: Option<Description>,
    ) -> Result<Vec<u32>, Gap> {
        let Some(runtime) = by_engine(owner.runtime) else { return Ok(Vec::new()) };
        let unread = |e| Gap::from_read(what::PIDS, &e);
        let user = description.as_ref().and_then(|d| d.user.clone());
        let key = owner.key();
        // What a program above has put in a sandbox has no cgroup.
        if runtime.names_jails_of().is_some() {
            let below = self.instance_pids(owner.runtime, key.as_ref(), user.as_ref());
            return below.map_err(unread);
        }
        // A user's engine may have no cgroups to give: then its monitor shows what runs.
        if owner.within.is_empty() {
            let init = description.and_then(|d| d.pid);
            let below = self.watched_pids(owner.runtime, key.as_ref(), user.as_ref(), init);
            return Ok(below.unwrap_or_default());
        }
        if !runtime.has_monitor_each() {
            return Ok(Vec::new());
        }
        // Nor may one in a container.
        let described = description.map_or(Described::No, |d| Described::Yes(Box::new(d)));
        self.inner_pids(&Owner { described, ..owner.clone() }).map_err(unread)
    }

    /// The processes of a container that no cgroup names: all below its monitor. `init` is the PID that
    /// its engine wrote down; a user's may lie about it, and what counts is that the monitor is his. There
    /// is no list of them to be read, so all of /proc is.
    pub(super) fn watched_pids(
        &mut self,
        engine: Engine,
        key: &BStr,
        user: Option<&BString>,
        init: Option<u32>,
    ) -> Option<Vec<u32>> {
        let uid = match user {
            Some(user) => self.host.uid_of(user.as_ref()).or_else(|| parse::decimal32(user))?,
            None => {
                let init = init.filter(|pid| self.is_in(*pid, key))?;
                let ppid = self.host.process(init).and_then(|p| p.stat()).ok()?.ppid;
                self.watcher_above(ppid).filter(|(e, ..)| *e == engine)?.2
            }
        };
        let mut all: Vec<u32> = Vec::new();
        scan::each_process(self.host, &mut |pid, _| all.push(pid)).ok()?;
        let mut pids = Vec::new();
        for pid in all {
            let Ok(stat) = self.host.process(pid).and_then(|p| p.stat()) else { continue };
            if stat.is_dead() || stat.is_kernel_thread() {
                continue;
            }
            let above = self.watcher_above(stat.ppid);
            // Another user's may say the same, and one of his may have started what is in no container.
            let is_below = above.is_some_and(|(e, k, u, _)| (e, u) == (engine, uid) && k == key);
            if is_below && self.is_in(pid, key) {
                pids.push(pid);
            }
        }
        Some(pids)
    }

    /// Whether a process is in the container of this key, which no cgroup names.
    pub(super) fn is_in(&mut self, pid: u32, key: &BStr) -> bool {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let row = self.row(pid, needs).ok().flatten();
        let membership = row.as_ref().and_then(|row| row.membership.known());
        let chain = membership.map(|m| m.chain.as_slice()).unwrap_or_default();
        let is_it = |o: &Rc<Owner>| o.has_key(key) && o.cgroup.is_empty() && o.within.is_empty();
        chain.iter().any(is_it)
    }
}
