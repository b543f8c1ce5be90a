//! Where engines keep their state: found step by step, no further than an answer needs.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::root::Root;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse};

use super::arbitrate::Confirmed;
use super::users::{live_users, manager_of};
use super::{Index, lookup};
use crate::model::gap::what;
use crate::model::{Description, Engine, Gap, Owner, OwnerKind};
use crate::runtime::claim::path_to;
use crate::runtime::{
    FoundRoots, Hints, Level, Monitor, Proof, Query, REGISTRY, Runtime, StateRoot, User, by_engine,
};

mod chosen;
mod order;
mod reach;
mod shared;
mod typed;

pub(super) use reach::Place;

/// The steps that need no hint from a process, cheapest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    #[default]
    Nothing,
    Default,
    Configured,
    Running,
    Users,
}

impl Step {
    fn next(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Default),
            Self::Default => Some(Self::Configured),
            Self::Configured => Some(Self::Running),
            Self::Running => Some(Self::Users),
            Self::Users => None,
        }
    }
}

/// The roots known so far.
#[derive(Debug, Default)]
pub(super) struct Roots {
    pub(super) known: Vec<(Engine, StateRoot)>,
    /// What stood in the way of looking at roots.
    pub(super) gaps: Vec<(Engine, Gap)>,
    /// How far each engine's were looked for.
    steps: HashMap<Engine, Step>,
    /// Those who may have engines of their own, once they were looked for.
    users: Option<Vec<User>>,
    /// Processes whose mounts and monitors were asked for an engine.
    asked: HashSet<(Engine, u32)>,
    /// Those that a path led to, and nothing of the host's own.
    typed: HashSet<usize>,
    /// Cgroups that may be an engine's by their names, and of which no root known so far has a word.
    denied: HashSet<(Engine, BString)>,
    /// Containers that the cgroup tree's text names, once it was walked.
    pub(super) walked: Option<Vec<(Engine, BString)>>,
}

impl Roots {
    /// Takes the next step for those engines that are furthest behind; false when there is none.
    pub(super) fn advance(&mut self, host: &Host) -> bool {
        let step = |r: &&dyn Runtime| self.steps.get(&r.engine()).copied().unwrap_or_default();
        let Some(behind) = REGISTRY.iter().map(step).min() else { return false };
        let theirs: Vec<_> = REGISTRY.iter().filter(|r| step(r) == behind).collect();
        let mut some = false;
        for runtime in theirs {
            some |= self.advance_one(host, *runtime);
        }
        some
    }

    /// Takes the next step for one engine; false when there is none.
    fn advance_one(&mut self, host: &Host, runtime: &dyn Runtime) -> bool {
        let step = self.steps.entry(runtime.engine()).or_default();
        let Some(next) = step.next() else { return false };
        *step = next;
        let hints = match next {
            Step::Default => Hints::Default,
            Step::Configured => Hints::Configured,
            Step::Running => Hints::Running,
            Step::Nothing | Step::Users => {
                let users = self.users.take().unwrap_or_else(|| live_users(host));
                for user in &users {
                    self.add(runtime, runtime.roots(host, Hints::User(user)));
                }
                self.users = Some(users);
                return true;
            }
        };
        self.add(runtime, runtime.roots(host, hints));
        self.share(host, runtime, next);
        true
    }

    /// Takes the next step for the engine of a root, as long as that asks no user.
    fn look_further(&mut self, host: &Host, number: usize) -> bool {
        let engine = self.known.get(number).map(|(engine, _)| *engine);
        engine.and_then(by_engine).is_some_and(|runtime| self.advance_unasked(host, runtime))
    }

    /// Takes the next step for one engine, as long as that asks no user.
    pub(super) fn advance_unasked(&mut self, host: &Host, runtime: &dyn Runtime) -> bool {
        let step = self.steps.get(&runtime.engine()).copied().unwrap_or_default();
        step < Step::Running && self.advance_one(host, runtime)
    }

    pub(super) fn add(&mut self, runtime: &dyn Runtime, found: FoundRoots) -> bool {
        let engine = runtime.engine();
        let before = self.known.len();
        if !found.roots.is_empty() {
            // One that was known may have another of its trees now, or a say that it had not.
            self.denied.clear();
        }
        self.gaps.extend(found.gaps.into_iter().map(|g| (engine, g)));
        for root in found.roots {
            let same = |(e, r): &&mut (Engine, StateRoot)| *e == engine && is_same(r, &root);
            match self.known.iter_mut().position(|known| same(&known)) {
                None => self.known.push((engine, root)),
                Some(number) => {
                    self.typed.remove(&number);
                    // Now both of its trees are known.
                    if self.known[number].1.run.is_none() {
                        self.known[number].1 = root;
                    }
                }
            }
        }
        self.known.len() > before
    }

    /// The number of a root that was found.
    fn position(&self, engine: Engine, root: &StateRoot) -> Option<usize> {
        self.known.iter().position(|(e, r)| *e == engine && is_same(r, root))
    }

    /// The root with this number; they are numbered as they are found.
    pub(super) fn get(&self, number: usize) -> Option<&(Engine, StateRoot)> {
        self.known.get(number)
    }

    /// Those with their numbers that something of the host's own leads to. What a path alone led to has no
    /// say in anything else.
    pub(super) fn told(&self) -> impl Iterator<Item = (usize, &(Engine, StateRoot))> {
        self.known.iter().enumerate().filter(|(number, _)| !self.typed.contains(number))
    }

    pub(super) fn of(&self, engine: Engine) -> impl Iterator<Item = &StateRoot> {
        self.told().filter(move |(_, (e, _))| *e == engine).map(|(_, (_, r))| r)
    }
}

impl Index<'_> {
    /// The container around the level of a line that `depth` segments name, by the text alone. Many
    /// levels are in the same one: each is looked at once.
    fn outer_once(&mut self, line: &Line, depth: usize) -> Option<Owner> {
        let path = path_to(line, depth.saturating_sub(1));
        let key = (line.controllers.clone(), line.deleted, path);
        if let Some(known) = self.outers.get(&key) {
            return known.clone();
        }
        let outer = lookup::outer_at(line, key.2.clone());
        self.outers.insert(key, outer.clone());
        outer
    }

    /// Whether the level's runtime knows its id; `pid` is a process that shows the level.
    pub(super) fn confirm(&mut self, level: &Level, pid: u32, lines: &[Line]) -> Confirmed {
        if let Some(outer) = self.outer_once(&lines[level.line], level.depth) {
            let cgroup = path_to(&lines[level.line], level.depth);
            return self.confirm_inside(&outer, level, &cgroup, pid);
        }
        let engine = level.owner.runtime;
        let Some(runtime) = by_engine(engine) else { return Confirmed::No };
        let key = level.owner.key();
        let id = BStr::new(&key);
        let mut unread = None;
        let host = self.host;
        if host.out_of_time() {
            let why = "no time left to ask its state";
            let late = ReadError::new(host.shown(&level.owner.cgroup), Class::TimedOut, why);
            return Confirmed::Unread(Gap::from_read(what::DESCRIPTION, &late));
        }
        let cgroup = path_to(&lines[level.line], level.depth);
        let is_guess = level.proof == Proof::Guess;
        let denied = (engine, cgroup.clone());
        if is_guess && self.roots.denied.contains(&denied) {
            return Confirmed::No;
        }
        let place = Place::new(host, &cgroup);
        let mut ask = |root: &StateRoot| {
            if !place.is_in_reach_of(root) {
                return None;
            }
            match runtime.find(host, root, Query::Id(id)) {
                Ok(matches) => (!matches.ids.is_empty()).then_some(()),
                Err(e) => {
                    unread = Some(Gap::from_read(what::DESCRIPTION, &e));
                    None
                }
            }
        };
        let mut found = self.roots.known_first(host, engine, &mut ask);
        if is_guess {
            // Anything may be called so. Where the usual places know nothing of it, a monitor may still.
            let asked = found.is_some() || runtime.monitor_is_enough();
            let ask = || self.chosen(runtime, id, &cgroup, (Some(pid), Needs::NONE));
            let described = asked.then(ask).flatten();
            // Of what its files say to root alone its daemon may tell.
            let owner = || Owner { cgroup: cgroup.clone(), ..level.owner.clone() };
            if !matches!(described, Some(Ok(_))) && self.is_told(&owner()) {
                return Confirmed::Yes;
            }
            if !asked && unread.is_none() {
                self.roots.denied.insert(denied);
            }
            return match described {
                Some(Ok(_)) => Confirmed::Yes,
                Some(Err(gap)) => Confirmed::Unread(gap),
                None => unread.map_or(Confirmed::No, Confirmed::Unread),
            };
        }
        if found.is_none() {
            found = self.roots.named_first(host, runtime, &mut ask);
        }
        if found.is_none() && self.roots_from_process(runtime, pid) {
            found = self.roots.of(engine).last().and_then(&mut ask);
        }
        if found.is_none() {
            found = self.roots.first(host, engine, &mut ask);
        }
        match (found, unread) {
            (Some(()), _) => Confirmed::Yes,
            (None, Some(gap)) => Confirmed::Unread(gap),
            (None, None) => Confirmed::No,
        }
    }

    /// What is known of a container: by the state of whoever runs it, and by his daemon where that is
    /// to be asked. `hint` is one of its processes. `None` for a runtime that keeps no state.
    pub(super) fn description_for(
        &mut self,
        owner: &Owner,
        hint: Option<u32>,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let by_state = self.described_by_state(owner, hint, needs);
        self.with_hearsay(owner, by_state, needs)
    }

    /// What the state of whoever runs the container says of it: the engine inside the container
    /// around it, a user's own, else the host's.
    fn described_by_state(
        &mut self,
        owner: &Owner,
        hint: Option<u32>,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let (engine, key) = (owner.runtime, owner.key());
        if !owner.within.is_empty() {
            let nested = by_engine(engine).is_some_and(|runtime| runtime.nests());
            let told = nested.then(|| {
                let chain = [owner.within.as_slice(), b"/", &key].concat();
                self.description_of(engine, BStr::new(&chain), &owner.cgroup, hint, needs)
            });
            if let Some(Some(Ok(told))) = told {
                return Some(Ok(told));
            }
            return self.nested_description(owner, hint, needs);
        }
        if owner.kind == OwnerKind::Job
            && let Some(runtime) = by_engine(engine).filter(|runtime| runtime.has_steps())
        {
            return hint.and_then(|pid| self.step_description(runtime, pid));
        }
        let shown = |pid| by_engine(engine)?.shown_by(self.host, owner, pid);
        if let Some(shown) = hint.and_then(shown) {
            return Some(Ok(shown));
        }
        match manager_of(&owner.cgroup) {
            Some(uid) if uid != 0 => {
                self.users_description(engine, key.as_ref(), uid, (hint, needs))
            }
            // A sandbox is described by whoever asked for it.
            _ => match by_engine(engine).map(|r| r.engines()).unwrap_or_default() {
                [] => {
                    let runtime = by_engine(engine)?;
                    if owner.is_chosen() {
                        let described =
                            self.chosen(runtime, key.as_ref(), &owner.cgroup, (hint, needs));
                        return Some(described.unwrap_or_else(|| Err(self.unknown(engine))));
                    }
                    self.description_of(engine, key.as_ref(), &owner.cgroup, hint, needs)
                }
                engines => {
                    let (cgroup, key) = (&owner.cgroup, key.as_ref());
                    let mut unread = None;
                    for name in engines {
                        let Some(engine) = by_name(name) else { continue };
                        match self.description_of(engine, key, cgroup, hint, needs) {
                            Some(Ok(description)) => return Some(Ok(description)),
                            // That none has it is no wonder: it may be another's.
                            Some(Err(gap)) if gap.class != Class::Gone => unread = Some(Err(gap)),
                            Some(Err(_)) | None => {}
                        }
                    }
                    unread
                }
            },
        }
    }

    /// What the host's engines say of a container. `cgroup` is its own; empty while that is not known.
    pub(super) fn description_of(
        &mut self,
        engine: Engine,
        id: &BStr,
        cgroup: &BString,
        hint: Option<u32>,
        needs: Needs,
    ) -> Option<Result<Description, Gap>> {
        let runtime = by_engine(engine)?;
        let mut problem: Option<ReadError> = None;
        let stateless = Cell::new(false);
        let host = self.host;
        let place = Place::new(host, cgroup);
        let mut ask = |root: &StateRoot| {
            if !place.is_in_reach_of(root) {
                return None;
            }
            match runtime.describe(root, id, needs) {
                None => stateless.set(true),
                Some(Ok(description)) => return Some(description),
                // What is there and can't be read tells more than what is not there.
                Some(Err(e)) if e.class != Class::Gone && problem.is_none() => problem = Some(e),
                Some(Err(_)) => {}
            }
            None
        };
        // A process of the container shows its engine's directory exactly, unless it has made namespaces of its own
        // and mounts what it likes: what the host itself says comes first.
        let mut found = None;
        if cgroup.is_empty() {
            // Then a user has a say in it too, but not before the host's own.
            let mut ask = |root: &StateRoot| root.users_own().map_or_else(|| ask(root), |_| None);
            found = self.roots.known_first(host, engine, &mut ask);
        }
        if found.is_none() {
            found = self.roots.known_first(host, engine, &mut ask);
        }
        if found.is_none() && !stateless.get() {
            found = self.roots.named_first(host, runtime, &mut ask);
        }
        if found.is_none()
            && !stateless.get()
            && let Some(pid) = hint
            && self.roots_from_process(runtime, pid)
        {
            found = self.roots.of(engine).last().and_then(&mut ask);
        }
        if found.is_none() && !stateless.get() {
            found = self.roots.first(host, engine, &mut ask);
        }
        if stateless.get() {
            return None;
        }
        if let Some(description) = found {
            let current = match hint {
                Some(pid) if description.is_believed_down() => {
                    self.current(runtime, id, &place, (pid, needs))
                }
                _ => None,
            };
            return Some(Ok(current.unwrap_or(description)));
        }
        let gap = problem.map(|e| Gap::from_read(what::DESCRIPTION, &e));
        Some(Err(gap.unwrap_or_else(|| self.unknown(engine))))
    }

    /// What a state says that believes a container to run, which has the process `pid`. State that was
    /// copied when it was moved, and left behind, has the same containers, as they were then.
    fn current(
        &mut self,
        runtime: &dyn Runtime,
        id: &BStr,
        place: &Place<'_>,
        (pid, needs): (u32, Needs),
    ) -> Option<Description> {
        let engine = runtime.engine();
        let ask = |roots: &Roots| {
            let near = roots.of(engine).filter(|root| place.is_in_reach_of(root));
            let mut told = near.filter_map(|root| runtime.describe(root, id, needs)?.ok());
            told.find(Description::is_believed_up)
        };
        loop {
            let current = ask(&self.roots);
            if current.is_some() {
                return current;
            }
            if !self.roots.advance_unasked(self.host, runtime) {
                break;
            }
        }
        if self.roots_from_process(runtime, pid) { ask(&self.roots) } else { None }
    }

    /// The gap where no state of an engine's knows a container.
    fn unknown(&self, engine: Engine) -> Gap {
        match self.roots.gaps.iter().find(|(e, _)| *e == engine) {
            Some((_, gap)) => gap.clone().of(what::DESCRIPTION),
            None => Gap::new(
                what::DESCRIPTION,
                Class::Gone,
                self.host.shown(b""),
                format!("no {} state directory here knows it", engine.0),
                None,
            ),
        }
    }

    /// Learns of engines by a process of a container: by its mounts and its monitor.
    pub(super) fn roots_from_process(&mut self, runtime: &dyn Runtime, pid: u32) -> bool {
        let before = self.roots.known.len();
        if !self.roots_from_mounts(runtime, pid) && runtime.monitor().is_some() {
            self.monitored(runtime, pid);
        }
        self.roots.known.len() > before
    }

    /// The state that the monitor above a process belongs to, by what the monitor shows.
    pub(super) fn root_of_monitor(
        &mut self,
        runtime: &dyn Runtime,
        monitor: &Monitor,
    ) -> Option<usize> {
        for beside in runtime.beside().iter().filter_map(|engine| by_engine(*engine)) {
            self.roots.add(beside, beside.roots(self.host, Hints::Monitor(monitor)));
        }
        let mut found = runtime.roots(self.host, Hints::Monitor(monitor));
        let root = found.roots.pop()?;
        self.roots.denied.clear();
        let engine = runtime.engine();
        if let Some(number) = self.roots.position(engine, &root) {
            // Of one that was found by its other tree both are known now.
            let known = self.roots.known.get_mut(number).map(|(_, known)| known);
            if let Some(known) = known.filter(|known| known.run.is_none() && root.run.is_some()) {
                *known = root;
            }
            self.roots.typed.remove(&number);
            return Some(number);
        }
        self.roots.known.push((engine, root));
        Some(self.roots.known.len() - 1)
    }

    pub(super) fn roots_from_mounts(&mut self, runtime: &dyn Runtime, pid: u32) -> bool {
        if !self.roots.asked.insert((runtime.engine(), pid)) {
            return false;
        }
        let Ok(dir) = self.host.process(pid) else { return false };
        // The mounts of what a container runs are that container's work: they say nothing of the
        // host's engines.
        let lines = dir.cgroup().unwrap_or_default();
        if lines.iter().any(super::lookup::is_nested) {
            return false;
        }
        if !runtime.maps_users() && !dir.is_in_hosts_users() {
            let why =
                "it made a user namespace of its own, so that its mounts say nothing of the engine";
            let path = self.host.shown(format!("proc/{pid}/ns/user").as_bytes());
            let gap = Gap::new(what::CONTAINERS, Class::Unsupported, path, why, None);
            self.roots.gaps.push((runtime.engine(), gap));
            return false;
        }
        let Ok(mounts) = dir.mountinfo() else { return false };
        for beside in runtime.beside().iter().filter_map(|engine| by_engine(*engine)) {
            self.roots.add(beside, beside.roots(self.host, Hints::Mounts(&mounts)));
        }
        let found = runtime.roots(self.host, Hints::Mounts(&mounts));
        self.roots.add(runtime, found)
    }

    /// Tries `ask` on every root, step by step as [`Index::search`] finds them, until it answers;
    /// with what stood in the way of looking at roots.
    pub(super) fn each_root<T>(
        &mut self,
        ask: &mut dyn FnMut(usize, Engine, &StateRoot) -> Option<T>,
    ) -> (Option<T>, Vec<Gap>) {
        let mut tried = HashSet::new();
        loop {
            for (number, (engine, root)) in self.roots.told() {
                if !tried.insert(number) {
                    continue;
                }
                if let Some(answer) = ask(number, *engine, root) {
                    return (Some(answer), Vec::new());
                }
            }
            if !self.roots.advance(self.host) && !self.look_everywhere(true) {
                break;
            }
        }
        let late = self.host.out_of_time().then(|| self.late());
        let gaps = self.roots.gaps.iter().map(|(_, gap)| gap.clone());
        (None, gaps.chain(self.uncaptured()).chain(late).collect())
    }

    /// Learns of engines by the binds of a container's process.
    pub(super) fn learn_from_mounts(&mut self, runtime: &dyn Runtime, pid: u32) {
        self.roots_from_mounts(runtime, pid);
    }

    /// Looks for all roots of an engine that no process is needed for.
    pub(super) fn find_all(&mut self, engine: Engine) {
        let Some(runtime) = by_engine(engine) else { return };
        while self.roots.advance_one(self.host, runtime) {}
    }

    /// Adds roots that were found.
    pub(super) fn add_roots(&mut self, runtime: &dyn Runtime, found: FoundRoots) {
        self.roots.add(runtime, found);
    }

    /// The roots of an engine that are known by now.
    pub(super) fn roots_of(&self, engine: Engine) -> impl Iterator<Item = &StateRoot> {
        self.roots.of(engine)
    }

    /// Takes all steps; the gaps met so far, and every root with its engine.
    pub(super) fn all_roots(&mut self) -> (Vec<Gap>, &[(Engine, StateRoot)]) {
        while self.roots.advance(self.host) {}
        let gaps = self.roots.gaps.iter().map(|(_, gap)| gap.clone()).collect();
        (gaps, &self.roots.known)
    }

    /// Learns of engines from the arguments of daemons seen in a scan.
    pub(super) fn roots_from_daemon(&mut self, pid: u32, start_ticks: u64) {
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
        let Some(Ok(bytes)) = self.host.slow_reads(&[ask]).pop() else {
            return;
        };
        let args = parse::cmdline::parse(&bytes);
        for runtime in REGISTRY {
            let found = runtime.roots(self.host, Hints::Args(&args));
            self.roots.add(*runtime, found);
        }
    }

    /// Cgroup paths a container without known processes may have.
    pub(super) fn guessed_cgroups(&self, engine: Engine, id: &BStr) -> Vec<BString> {
        let Some(runtime) = by_engine(engine) else {
            return Vec::new();
        };
        self.roots.of(engine).flat_map(|root| runtime.cgroups_of(root, id)).collect()
    }
}

/// The engine of this name.
fn by_name(name: &str) -> Option<Engine> {
    REGISTRY.iter().map(|r| r.engine()).find(|e| e.0 == name)
}

/// Whether two are the state of one engine: they have a tree in common.
fn is_same(one: &StateRoot, other: &StateRoot) -> bool {
    let identity = |root: &Root| root.look(b"").map(|l| (l.device, l.ino)).ok();
    match (&one.run, &other.run) {
        (Some(one), Some(other)) => identity(one) == identity(other),
        _ => identity(&one.root) == identity(&other.root),
    }
}
