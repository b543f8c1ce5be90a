//! Engines inside containers: their state lies beneath the outer container's own root, and is
//! believed about what that container runs and about nothing else.

use std::collections::{HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, parse};

use super::arbitrate::Confirmed;
use super::search::{Find, Scope, Search};
use super::users::manager_of;
use super::{Index, lookup};
use crate::model::gap::what;
use crate::model::{Described, Description, Engine, Gap, Owner};
use crate::runtime::segment::is_hex64;
use crate::runtime::{
    FoundRoots, Hints, InnerUser, Inside, Level, Proof, Query, REGISTRY, StateRoot, by_engine,
};

/// Ancestors looked at for one that is in the outer container.
const MOST_ANCESTORS: usize = 32;
/// Processes of one container by which engines in it are looked for.
const MOST_TRIED: usize = 8;
/// Roots in one container up to which its monitors are asked for more.
const MOST_ROOTS: usize = 64;
/// Bytes of a list of users.
const PASSWD: usize = 16 << 20;

/// One engine's root in a container.
#[derive(Debug)]
pub(super) struct Nested {
    /// Id of the container.
    pub(super) outer: BString,
    /// The engine.
    pub(super) engine: Engine,
    /// The uid there of the user whose own it is; `None` for the system's.
    pub(super) uid: Option<u32>,
    /// Its state.
    pub(super) root: StateRoot,
    /// PID namespaces down to the engine's, the host's counted: its PIDs are those of the last.
    depth: usize,
}

/// What is known of engines inside containers.
#[derive(Debug, Default)]
pub(super) struct NestedRoots {
    pub(super) known: Vec<Nested>,
    /// What stood in the way, by outer container, engine and the user there.
    gaps: Vec<(BString, Option<Engine>, Option<u32>, Gap)>,
    /// Processes by which each was looked into.
    tried: HashMap<BString, Vec<u32>>,
    climbed: HashSet<(BString, u32)>,
    /// Users whose engines were looked for, by outer container and a process there.
    users: HashSet<(BString, u32, u32)>,
    /// The containers that were looked into, and a process of each.
    outers: HashMap<BString, (Owner, u32)>,
    /// Containers that a search found in them, and the outer container of each.
    hits: HashMap<(Engine, BString), BString>,
}

impl NestedRoots {
    /// Adds the roots that were found in a container: of an engine, of a user there or the system, so many
    /// PID namespaces deep.
    fn add(
        &mut self,
        found: FoundRoots,
        outer: &BString,
        (engine, uid, depth): (Engine, Option<u32>, usize),
    ) {
        self.gaps.extend(found.gaps.into_iter().map(|g| (outer.clone(), Some(engine), uid, g)));
        for root in found.roots {
            let place = |r: &StateRoot| r.root.look(b"").map(|l| (l.device, l.ino)).ok();
            let new = place(&root);
            let same = |n: &Nested| n.engine == engine && n.outer == *outer;
            if !self.known.iter().any(|n| same(n) && place(&n.root) == new) {
                self.known.push(Nested { outer: outer.clone(), engine, uid, root, depth });
            }
        }
    }
}

impl Index<'_> {
    /// Learns of engines in the container `outer` by one of its processes; `mounts` are those of a
    /// container that they run.
    pub(super) fn roots_inside(&mut self, outer: &Owner, pid: u32, mounts: Vec<Mount>) {
        // Any process may call itself an engine.
        let tried = self.nested.tried.entry(outer.id.clone()).or_default();
        if tried.len() >= MOST_TRIED || tried.contains(&pid) {
            return;
        }
        tried.push(pid);
        let bare = Owner { described: Described::No, ..outer.clone() };
        self.nested.outers.entry(outer.id.clone()).or_insert((bare, pid));
        let outer = &outer.id;
        let host = self.host;
        let Ok(process) = host.process(pid) else { return };
        let Ok(stat) = process.stat() else { return };
        let depth = process.status().ok().and_then(|s| s.nspid).map_or(1, |n| n.len());
        let mut args = Vec::new();
        if stat.comm == "dockerd" || stat.comm.starts_with(b"containerd") {
            let ask = Ask { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks };
            let bytes = host.slow_reads(&[ask]).pop().and_then(Result::ok).unwrap_or_default();
            args = parse::cmdline::parse(&bytes);
        }
        self.systems_inside(outer, Inside { process, args, mounts }, depth);
    }

    /// Learns of the system's engines in the container `outer`.
    fn systems_inside(&mut self, outer: &BString, inside: Inside<'_>, depth: usize) {
        for runtime in REGISTRY {
            let found = runtime.roots(self.host, Hints::Inside(&inside));
            self.nested.add(found, outer, (runtime.engine(), None, depth));
        }
    }

    /// Learns of the engines in the container `outer` for which a monitor there works, which is of the user
    /// with this uid there; `top` is the topmost process there.
    pub(super) fn monitored_inside(&mut self, outer: &Owner, uid: u32, (top, pid): (u32, u32)) {
        // A user's may have mounts of its own.
        self.roots_inside(outer, if uid == 0 { pid } else { top }, Vec::new());
        // Each root is held open, and there may be any number of monitors.
        let known = self.nested.known.iter().filter(|n| n.outer == outer.id).count();
        if known >= MOST_ROOTS || !self.nested.users.insert((outer.id.clone(), uid, pid)) {
            return;
        }
        let args = self.args_of(pid).unwrap_or_default();
        if uid != 0 {
            return self.users_inside(&outer.id, uid, top, args);
        }
        let Ok(process) = self.host.process(pid) else { return };
        let depth = process.status().ok().and_then(|s| s.nspid).map_or(1, |n| n.len());
        self.systems_inside(&outer.id, Inside { process, args, mounts: Vec::new() }, depth);
    }

    /// Learns of the engines of the user in whose manager's cgroup in the container around it the owner is;
    /// `pid` is a process of the owner. His uid there, unless it is root or nobody.
    fn users_roots_inside(&mut self, owner: &Owner, pid: Option<u32>) -> Option<u32> {
        let outer = &owner.within;
        let mut segments = owner.cgroup.split_str("/");
        segments.find(|segment| segment.contains_str(outer))?;
        let uid = segments.find_map(manager_of).filter(|uid| *uid != 0)?;
        let Some(pid) = pid.and_then(|pid| self.topmost_in(outer.as_ref(), pid)) else {
            return Some(uid);
        };
        let outer = outer.clone();
        if self.nested.users.insert((outer.clone(), uid, pid)) {
            self.users_inside(&outer, uid, pid, Vec::new());
        }
        Some(uid)
    }

    /// Learns of the engines of the user with this uid in the container `outer`, by the topmost process there;
    /// `args` are those of a monitor of his.
    fn users_inside(&mut self, outer: &BString, uid: u32, pid: u32, args: Vec<BString>) {
        let host = self.host;
        let Ok(process) = host.process(pid) else { return };
        let depth = process.status().ok().and_then(|s| s.nspid).map_or(1, |n| n.len());
        let passwd =
            process.directory(BStr::new("etc")).and_then(|dir| dir.read(b"passwd", PASSWD));
        let passwd = match passwd {
            Ok(passwd) => passwd,
            Err(e) => {
                let gap = Gap::from_read(what::CONTAINERS, &e);
                self.nested.gaps.push((outer.clone(), None, Some(uid), gap));
                return;
            }
        };
        let of_uid = |all: Vec<(u32, BString)>| all.into_iter().find(|(id, _)| *id == uid);
        let Some((_, home)) = of_uid(parse::passwd::homes(&passwd)) else { return };
        let name = of_uid(parse::passwd::parse(&passwd));
        let name = name.map_or_else(|| uid.to_string().into(), |(_, name)| name);
        let inside = Inside { process, args, mounts: Vec::new() };
        let user = InnerUser { uid, name, home };
        for runtime in REGISTRY {
            let found = runtime.roots(host, Hints::UserInside(&inside, &user));
            self.nested.add(found, outer, (runtime.engine(), Some(uid), depth));
        }
    }

    /// Learns of the engines around a container that a walk came by, and of its user's there too.
    pub(super) fn learn_around(&mut self, owner: &Owner, pid: u32) {
        if !owner.within.is_empty() {
            self.roots_above(owner.within.as_ref(), pid);
            self.users_roots_inside(owner, Some(pid));
        }
    }

    /// Learns of them by a process of a container that `outer` runs: its monitor is in `outer`.
    pub(super) fn roots_above(&mut self, outer: &BStr, pid: u32) {
        if !self.nested.climbed.insert((outer.into(), pid)) {
            return;
        }
        let host = self.host;
        let mounts = host.process(pid).and_then(|p| p.mountinfo()).unwrap_or_default();
        let above = self.above_in(outer, pid);
        let owner = above.and_then(|(at, line)| Some((lookup::level_named(&line, outer)?, at)));
        if let Some((owner, at)) = owner {
            self.roots_inside(&owner, at, mounts);
        }
    }

    /// The next process above that is in `outer` and in nothing it runs, and a line that says so.
    fn above_in(&self, outer: &BStr, pid: u32) -> Option<(u32, Line)> {
        let mut at = pid;
        for _ in 0..MOST_ANCESTORS {
            at = self.host.process(at).and_then(|p| p.stat()).ok()?.ppid;
            let lines = self.host.process(at).and_then(|p| p.cgroup()).ok()?;
            let mut inside = lines.iter().filter(|l| l.segments().any(|s| s.contains_str(outer)));
            let first = inside.clone().next()?;
            // Only the text is asked: what lies deeper may be anybody's, so it must name nothing.
            let plain = !is_hex64(outer);
            if inside.all(|l| lookup::last_id(l).map_or(plain, |id| id == outer)) {
                return Some((at, first.clone()));
            }
        }
        None
    }

    /// The topmost process above that is in `outer`: it has the namespaces that are the container's, where
    /// a user's own engine has some of its own.
    fn topmost_in(&self, outer: &BStr, pid: u32) -> Option<u32> {
        let (mut top, _) = self.above_in(outer, pid)?;
        for _ in 0..MOST_ANCESTORS {
            let Some((above, _)) = self.above_in(outer, top) else { break };
            top = above;
        }
        Some(top)
    }

    /// Whether an engine inside `outer` knows the level's id; `pid` is a process that shows it. What
    /// anything may be called must have the level's cgroup too.
    pub(super) fn confirm_inside(
        &mut self,
        outer: &Owner,
        level: &Level,
        cgroup: &BString,
        pid: u32,
    ) -> Confirmed {
        let engine = level.owner.runtime;
        let Some(runtime) = by_engine(engine) else { return Confirmed::No };
        let knows = |n: &Nested| n.outer == outer.id && n.engine == engine && n.uid.is_none();
        if !self.nested.known.iter().any(knows) {
            self.roots_above(outer.id.as_ref(), pid);
        }
        let mut answer = Confirmed::No;
        let key = level.owner.key();
        // A number behind its name may be the runtime's or the name's.
        let says = (level.proof == Proof::Guess && runtime.monitor_is_enough())
            .then(|| self.says_monitor(runtime, pid))
            .flatten();
        let is_in = |root: &StateRoot| match level.proof {
            Proof::Guess if says.is_some() => says.as_ref() == Some(&key),
            Proof::Guess => runtime
                .describe(root, key.as_ref(), Needs::NONE)
                .is_some_and(|d| d.is_ok_and(|d| d.may_be_in(cgroup))),
            _ => true,
        };
        for nested in self.nested.known.iter().filter(|n| knows(n)) {
            match runtime.find(self.host, &nested.root, Query::Id(key.as_ref())) {
                Ok(matches) if !matches.ids.is_empty() => {
                    if is_in(&nested.root) {
                        return Confirmed::Yes;
                    }
                }
                Ok(_) => {}
                Err(e) => answer = Confirmed::Unread(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        answer
    }

    /// What the engine inside the outer container says of the owner; `hint` is one of its processes.
    pub(super) fn nested_description(
        &mut self,
        owner: &Owner,
        hint: Option<u32>,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let uid = self.users_roots_inside(owner, hint);
        // While its cgroup is not known all there have a say.
        let his = |its: Option<u32>| its == uid || owner.cgroup.is_empty();
        let knows = |n: &Nested| n.outer == owner.within && n.engine == owner.runtime && his(n.uid);
        // Without a cgroup of its own, what is above it may be in it.
        if let Some(pid) = hint.filter(|_| !owner.cgroup.is_empty())
            && !self.nested.known.iter().any(knows)
        {
            self.roots_above(owner.within.as_ref(), pid);
        }
        self.told_inside(owner, hint, needs, &his)
    }

    /// What those engines in the container around it say of the owner whose users there `his` picks.
    pub(super) fn told_inside(
        &mut self,
        owner: &Owner,
        hint: Option<u32>,
        needs: Needs,
        his: &dyn Fn(Option<u32>) -> bool,
    ) -> Option<Result<Description, Gap>> {
        let runtime = by_engine(owner.runtime)?;
        let outer = BStr::new(&owner.within);
        let knows = |n: &Nested| n.outer == outer && n.engine == owner.runtime && his(n.uid);
        let (mut problem, mut found) = (None, None);
        // What the system's has is no user's.
        let [systems, users] = [true, false]
            .map(|systems| self.nested.known.iter().filter(move |n| n.uid.is_none() == systems));
        for nested in systems.chain(users).filter(|n| knows(n)) {
            // As for the host's own: what has no task has no processes.
            if owner.is_chosen() && !owner.cgroup.is_empty() {
                let may = runtime.may_run(&nested.root, owner.key().as_ref());
                if !may.unwrap_or(true) {
                    continue;
                }
            }
            match runtime.describe(&nested.root, owner.key().as_ref(), needs)? {
                Ok(description)
                    if owner.is_chosen()
                        && !runtime.monitor_is_enough()
                        && !description.may_be_in(&owner.cgroup) => {}
                Ok(description) => {
                    found = Some((description, nested.depth));
                    break;
                }
                Err(e) if e.class == Class::Gone => {}
                Err(e) => problem = Some(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        if let Some((mut description, depth)) = found {
            // A path in there is none of the host's.
            description.log = None;
            let believed = description.pid;
            description.pid = believed.and_then(|pid| self.outside(pid, depth, owner, hint));
            return Some(Ok(description));
        }
        let stood = |(o, e, uid, _): &&(BString, Option<Engine>, Option<u32>, Gap)| {
            o == outer && e.is_none_or(|e| e == owner.runtime) && his(*uid)
        };
        let told = || self.nested.gaps.iter().find(stood).map(|(.., gap)| gap.clone());
        let gap = problem.or_else(told).map(|g| g.of(what::DESCRIPTION));
        let unknown = || {
            let why = format!("no {} state in the container around it knows it", owner.runtime.0);
            Gap::new(what::DESCRIPTION, Class::Gone, self.host.shown(b""), why, None)
        };
        Some(Err(gap.unwrap_or_else(unknown)))
    }

    /// The PID here of the owner's process that an engine `depth` PID namespaces deep calls `pid`.
    fn outside(&mut self, pid: u32, depth: usize, owner: &Owner, hint: Option<u32>) -> Option<u32> {
        let is_it = |host_pid: &u32| {
            let status = self.host.process(*host_pid).and_then(|p| p.status());
            let pids = status.ok().and_then(|s| s.nspid).unwrap_or_else(|| vec![*host_pid]);
            depth.checked_sub(1).and_then(|at| pids.get(at)) == Some(&pid)
        };
        let mut found = hint.filter(is_it);
        if found.is_none() {
            found = match owner.cgroup.is_empty() {
                true => self.init_inside(owner, pid, depth),
                false => self.pids_of(owner).iter().copied().find(is_it),
            };
        }
        found
    }

    /// A process in the container `outer`, given one of a container that it runs.
    pub(super) fn process_in(&mut self, outer: &BStr, pid: u32) -> Option<u32> {
        if !self.nested.outers.contains_key(outer) {
            self.roots_above(outer, pid);
        }
        self.nested.outers.get(outer).map(|(_, pid)| *pid)
    }

    /// A process in a container that was looked into.
    pub(super) fn outer_process(&self, id: &BStr) -> Option<u32> {
        self.nested.outers.get(id).map(|(_, pid)| *pid)
    }

    /// The container with this id that was looked into.
    pub(super) fn outer_named(&self, id: &BStr) -> Option<&Owner> {
        self.nested.outers.get(id).map(|(owner, _)| owner)
    }

    /// Every root of an engine in a container, with that container's id.
    pub(super) fn nested_roots(&self) -> impl Iterator<Item = (&BString, Engine, &StateRoot)> {
        self.nested.known.iter().map(|n| (&n.outer, n.engine, &n.root))
    }

    /// What stood in the way of looking into containers.
    pub(super) fn nested_gaps(&self) -> impl Iterator<Item = &Gap> {
        let known = |outer: &BString| self.nested.known.iter().any(|n| n.outer == *outer);
        self.nested.gaps.iter().filter(move |(outer, ..)| !known(outer)).map(|(.., gap)| gap)
    }

    /// Searches the engines inside containers, once the host's own know nothing.
    pub(super) fn search_nested(
        &mut self,
        scope: Scope<'_>,
        find: &mut Find<'_>,
        search: &mut Search,
    ) {
        let asked = |n: &&Nested| scope.user.is_none() && scope.is_of(n.engine);
        for nested in self.nested.known.iter().filter(asked) {
            let Some(runtime) = by_engine(nested.engine) else { continue };
            match find(runtime, &nested.root) {
                Ok(matches) => {
                    for id in matches.ids {
                        let hit = (nested.engine, id);
                        self.nested.hits.insert(hit.clone(), nested.outer.clone());
                        search.found.push(hit.into());
                    }
                    search.gaps.extend(matches.gaps);
                }
                Err(e) if e.class == Class::Gone => {}
                Err(e) => search.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
            }
        }
    }

    /// Remembers the container around one, as a search does.
    pub(super) fn note_within(&mut self, owner: &Owner) {
        if !owner.within.is_empty() {
            let hit = (owner.runtime, owner.id.clone());
            self.nested.hits.insert(hit, owner.within.clone());
        }
    }

    /// The container around one that a search found inside it.
    pub(super) fn found_within(&self, engine: Engine, id: &BStr) -> BString {
        self.nested.hits.get(&(engine, id.into())).cloned().unwrap_or_default()
    }
}
