//! From a name to containers, and from a container to its processes.

use std::collections::BTreeSet;
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree::{self, Hierarchy};
use whose_kernel::{Class, ReadError};

use super::Index;
use super::arbitrate::{Confirmed, arbitrate};
use super::describe::Members;
use super::search::{Hit, Scope, Search};
use crate::model::gap::what;
use crate::model::{ContainerState, Described, Engine, Gap, Owner, OwnerKind, is_whole};
use crate::runtime::segment::{down_to, unescape};
use crate::runtime::{Claim, Mine, Proof, Query, REGISTRY, Subject, by_engine, nspawn};

/// A container and where its processes are.
#[derive(Clone, Debug)]
pub struct Container {
    /// The container, described.
    pub owner: Rc<Owner>,
    /// The hierarchy its cgroup was found on.
    pub hierarchy: Option<Hierarchy>,
    /// Its cgroup directories there (itself and all below); empty when it has none.
    pub dirs: Vec<BString>,
    /// Its processes, ascending; or why they can't be told in full.
    pub pids: Result<Vec<u32>, Gap>,
}

/// What a name leads to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Each of them; one that two users have is in it twice.
    pub containers: Vec<Hit>,
    /// State that could not be looked at: with it, an empty result proves nothing.
    pub gaps: Vec<Gap>,
    /// Why not all that bear the name could be looked at: there may be more of them.
    pub late: Option<Gap>,
}

impl From<Search> for Found {
    fn from(search: Search) -> Self {
        Self { containers: search.found, gaps: Vec::new(), late: search.late }
    }
}

impl Index<'_> {
    /// Containers by full id, else by exact name, else by unique beginning of the id, as docker
    /// reads its arguments.
    pub fn containers_named(&mut self, text: &BStr, scope: Scope<'_>) -> Found {
        let mut gaps: Vec<Gap> = Vec::new();
        let hexadecimal = crate::runtime::segment::is_hex(text);
        let mut queries = vec![Query::Name(text)];
        if hexadecimal {
            queries.insert(0, Query::Id(text));
            queries.push(Query::IdPrefix(text));
        }
        let last = queries.len() - 1;
        for (at, query) in queries.into_iter().enumerate() {
            let mut search = self.search(query, scope, at == last);
            if matches!(query, Query::Name(_)) {
                self.keep_bearers(&mut search, text);
            }
            if !search.found.is_empty() {
                return search.into();
            }
            gaps.extend(search.gaps);
            gaps.extend(search.late);
        }
        // The last walk may have found engines that the first queries did not know of.
        if hexadecimal {
            let mut search = self.search(Query::Name(text), scope, false);
            self.keep_bearers(&mut search, text);
            if !search.found.is_empty() {
                return search.into();
            }
            gaps.extend(search.gaps);
            gaps.extend(search.late);
        }
        let mut containers = self.machines_named(text);
        if containers.is_empty() {
            containers =
                if hexadecimal { self.ids_in_cgroups(text) } else { self.names_in_cgroups(text) };
        }
        containers.retain(|(engine, _)| scope.is_of(*engine));
        if !containers.is_empty() {
            let containers = containers.into_iter().map(Hit::from).collect();
            return Found { containers, ..Found::default() };
        }
        let mut told: Vec<Gap> = Vec::new();
        for gap in gaps {
            if !told.contains(&gap) {
                told.push(gap);
            }
        }
        Found { gaps: told, ..Found::default() }
    }

    /// The name of the container with this full id, if some engine's state here gives one.
    pub fn name_of(&mut self, id: &BStr) -> Option<BString> {
        let mut found = self.search(Query::Id(id), Scope::default(), false).found;
        let hit = found.pop().filter(|_| found.is_empty())?;
        let owner = Owner::with_key(OwnerKind::Container, hit.engine, &hit.key);
        self.description_for(&owner, None, Needs::DESCRIPTION)?.ok()?.name
    }

    /// One container with its processes. Nothing but its own cgroup and state is read.
    pub fn container(&mut self, engine: Engine, key: &BStr, needs: Needs) -> Container {
        self.container_found(&Hit { engine, key: key.into(), user: None }, needs)
    }

    /// As [`Index::container`], of one that a search found: without a cgroup, which tells whose word
    /// counts, it is who has it in his state.
    pub fn container_found(&mut self, hit: &Hit, needs: Needs) -> Container {
        let (engine, key) = (hit.engine, BStr::new(&hit.key));
        // Of ids that someone chose two may be meant.
        let user = hit.user.as_ref().filter(|_| !engine.has_chosen_ids());
        let kind = by_engine(engine).map_or(OwnerKind::Container, |r| r.kind());
        let mut owner = Owner::with_key(kind, engine, key);
        owner.within = self.found_within(engine, key);
        let is_free = |gap: &Gap| gap.class == Class::Gone && engine.has_chosen_ids();
        let told = match user {
            Some(user) => self.users_word(hit, user, Needs::NONE),
            None => self.description_for(&owner, None, Needs::NONE),
        };
        let description = match told {
            // Whose processes they would be can't be told.
            Some(Err(gap)) if owner.is_chosen() && !is_free(&gap) => return undecided(owner, gap),
            described => described.and_then(Result::ok),
        };
        // What is only kept may run all the same, unregistered.
        if engine == nspawn::ENGINE
            && description.as_ref().is_none_or(|d| d.pid.is_none())
            && let Some(found) = self.machine_container(key, needs)
        {
            return found;
        }
        let believed_pid = description.as_ref().and_then(|d| d.pid);
        let running = description
            .as_ref()
            .and_then(|d| d.believed)
            .is_none_or(|b| matches!(b, ContainerState::Running | ContainerState::Paused));
        let cgroups = description.as_ref().map(|d| d.cgroups.clone()).unwrap_or_default();
        let by_text = description.is_none();
        let place = self.place_of(&owner, &cgroups, believed_pid, running, by_text);
        let mut dirs = Vec::new();
        let pids = match &place {
            Ok(Some((hierarchy, path))) => {
                owner.cgroup.clone_from(path);
                owner.hierarchy = bstr::join(b",", &hierarchy.controllers).into();
                let dir = hierarchy.dir(path).unwrap_or_default();
                match self.members_below(&dir) {
                    Ok((found, pids)) => {
                        dirs = found;
                        Ok(pids)
                    }
                    Err(e) if e.class == Class::Gone => Ok(Vec::new()),
                    Err(e) => Err(Gap::from_read(what::PIDS, &e)),
                }
            }
            Ok(None) if running => self.pids_without_cgroup(&owner, description),
            Ok(None) => Ok(Vec::new()),
            Err(e) => Err(Gap::from_read(what::PIDS, e)),
        };
        let members = match &pids {
            Ok(pids) => pids.first().map_or(Members::None, |p| Members::Has(*p)),
            Err(_) => Members::Unread,
        };
        let place = place.ok().flatten();
        if let Some((hierarchy, path)) = &place {
            self.adopt_seed(&mut owner, &line_of(hierarchy, path));
        }
        if let Some(user) = user.filter(|_| owner.cgroup.is_empty()) {
            owner.described = match self.users_word(hit, user, needs) {
                None => Described::No,
                Some(Ok(description)) => Described::Yes(Box::new(description)),
                Some(Err(gap)) => Described::Unread(gap),
            };
        }
        let owner = self.described(&owner, members, needs);
        Container { owner, hierarchy: place.map(|(h, _)| h), dirs, pids }
    }

    /// What the cgroup's text says besides: the kind, a name, the pod.
    fn adopt_seed(&self, owner: &mut Owner, line: &Line) {
        let is_it = |o: &Owner| o.id == owner.id || o.cgroup == owner.cgroup;
        let seed = chain_in(line).into_iter().rev().find(is_it);
        if let Some(seed) = seed.filter(|s| s.kind.contains()) {
            owner.kind = seed.kind;
            owner.name = seed.name.filter(|_| seed.id == owner.id);
            owner.pod_uid = seed.pod_uid;
            owner.within = seed.within;
        }
    }

    /// The processes in a container's cgroup and below; none where that can't be told.
    pub(super) fn pids_of(&self, owner: &Owner) -> Vec<u32> {
        let line = Line {
            hierarchy: u32::from(!owner.hierarchy.is_empty()),
            controllers: owner.hierarchy.clone(),
            path: owner.cgroup.clone(),
            deleted: false,
        };
        let hierarchies = self.hierarchies().unwrap_or_default();
        let dir = hierarchies.iter().find(|h| h.holds(&line)).and_then(|h| h.dir(&owner.cgroup));
        let members = dir.filter(|_| !owner.cgroup.is_empty()).map(|d| self.members_below(&d));
        members.and_then(Result::ok).map(|(_, pids)| pids).unwrap_or_default()
    }

    /// The levels around a container, outermost first and without itself, from its cgroup path.
    #[must_use]
    pub fn levels_around(&self, owner: &Owner) -> Vec<Owner> {
        // Without a cgroup only where it was found tells.
        if owner.cgroup.is_empty() {
            let outer = self.outer_named(owner.within.as_ref()).filter(|o| o.id != owner.id);
            let around = outer.map(|o| (self.levels_around(o), o.clone()));
            return around
                .map(|(mut v, o)| {
                    v.push(o);
                    v
                })
                .unwrap_or_default();
        }
        let line = Line {
            hierarchy: u32::from(!owner.hierarchy.is_empty()),
            controllers: owner.hierarchy.clone(),
            path: owner.cgroup.clone(),
            deleted: false,
        };
        let mut chain = chain_in(&line);
        self.name_machine(&mut chain);
        let is_it = |o: &Owner| o.id == owner.id || o.cgroup == owner.cgroup;
        chain.retain(|o| !is_it(o) && o.kind != OwnerKind::Unknown);
        chain
    }

    /// The hierarchy and path of a container's cgroup: from the process its engine wrote down, if
    /// that is one of its own; else where its engine would put it; else by a walk of the tree.
    /// `None` only when all of that was looked through. `by_text`: only the name of a cgroup led to it.
    fn place_of(
        &mut self,
        owner: &Owner,
        cgroups: &[BString],
        pid: Option<u32>,
        running: bool,
        by_text: bool,
    ) -> Result<Option<(Hierarchy, BString)>, ReadError> {
        let hierarchies = match self.hierarchies() {
            Ok(hierarchies) => hierarchies.to_vec(),
            // Its engine says that it does not run, and there is no tree to contradict it.
            Err(_) if !running => return Ok(None),
            Err(e) => return Err(e),
        };
        if hierarchies.is_empty() && running {
            let path = self.host().shown(b"sys/fs/cgroup");
            return Err(ReadError::new(path, Class::Unsupported, "no cgroup hierarchy is mounted"));
        }
        let lines = pid.and_then(|p| self.host().process(p).ok()).and_then(|p| p.cgroup().ok());
        for line in lines.iter().flatten() {
            let Some(hierarchy) = hierarchies.iter().find(|h| h.holds(line)) else { continue };
            // Below the cgroup of a monitor of its own, or beneath a container, it starts elsewhere.
            let fits = |path: &[u8], own: &[u8], below: bool| {
                below || !owner.is_chosen() || !owner.within.is_empty() || is_whole(path, own)
            };
            let below = owner.is_chosen() && pid.is_some_and(|pid| self.is_monitored(pid, owner));
            let own = |own: &BString| {
                down_to(&line.path, own).filter(|path| fits(path, own, below)).map(BString::from)
            };
            let own = cgroups.iter().find_map(own);
            let named = || path_of_id(line, &owner.id).filter(|_| !owner.is_chosen());
            let Some(path) = own.or_else(named) else { continue };
            if hierarchy.dir(&path).is_some_and(|d| self.host().root().has_dir(&d)) {
                return Ok(Some((hierarchy.clone(), path)));
            }
        }
        if owner.runtime.has_chosen_ids() {
            return self.place_by_members(owner, cgroups, &hierarchies, by_text);
        }
        let guessed = match cgroups {
            [] => self.guessed_cgroups(owner.runtime, owner.id.as_ref()),
            told => told.to_vec(),
        };
        for path in guessed {
            for hierarchy in &hierarchies {
                if let Some(dir) = hierarchy.dir(&path)
                    && self.has_members(&dir)?
                {
                    return Ok(Some((hierarchy.clone(), path)));
                }
            }
        }
        // A name that someone chose may be anybody's.
        let by_name = running && !owner.is_chosen();
        if by_name { self.walk_for(owner, &hierarchies) } else { Ok(None) }
    }

    /// The cgroup of a container whose name may be another's too: one is its own if its processes are
    /// said to be the container's. The usual ones are asked first, then all whose name holds its.
    fn place_by_members(
        &mut self,
        owner: &Owner,
        usual: &[BString],
        hierarchies: &[Hierarchy],
        by_text: bool,
    ) -> Result<Option<(Hierarchy, BString)>, ReadError> {
        let places = |h: &Hierarchy| usual.iter().filter_map(|path| h.dir(path)).collect();
        let mut asked: Vec<(Hierarchy, Vec<BString>)> =
            hierarchies.iter().map(|h| (h.clone(), places(h))).collect();
        let mut problem = None;
        for again in [false, true] {
            if again {
                for (hierarchy, dirs) in &mut asked {
                    let walk = cgroup_tree::subtree(self.host(), &hierarchy.point)?;
                    problem = problem.or(walk.problem);
                    *dirs = walk.dirs;
                    dirs.retain(|dir| bears(dir, owner));
                }
            }
            for (hierarchy, dirs) in &asked {
                for dir in dirs {
                    if let Some(path) = self.is_own(owner, hierarchy, dir)? {
                        return Ok(Some((hierarchy.clone(), path)));
                    }
                    // What runs there has led to it, so that it can't be said to have ended.
                    let named = || named_by(hierarchy, dir).into_iter();
                    if by_text
                        && named().any(|(e, key, _)| e == owner.runtime && owner.has_key(&key))
                        && self.has_members(dir)?
                    {
                        let why = "nothing shows whether its processes are the container's";
                        problem.get_or_insert_with(|| {
                            ReadError::new(self.host().shown(dir), Class::Unsupported, why)
                        });
                    }
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }

    /// The path of a cgroup, if its first process is said to be the owner's by it.
    fn is_own(
        &mut self,
        owner: &Owner,
        hierarchy: &Hierarchy,
        dir: &BString,
    ) -> Result<Option<BString>, ReadError> {
        let pids = match self.members_below(dir) {
            Ok((_, pids)) => pids,
            Err(e) if e.class == Class::Gone => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(path) = path_below(hierarchy, dir) else { return Ok(None) };
        let Some(pid) = pids.first() else { return Ok(None) };
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER).and(Needs::DESCRIPTION);
        let Some(row) = self.row(*pid, needs)? else { return Ok(None) };
        let chain = row.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
        let key = owner.key();
        let is_it = |o: &Rc<Owner>| {
            o.runtime == owner.runtime
                && o.has_key(&key)
                && o.within == owner.within
                && o.cgroup == path
        };
        Ok(chain.iter().any(is_it).then_some(path))
    }

    /// The first process of a machine, by its PIDs: its PID namespace is one deeper than what runs it.
    pub(super) fn machine_init(&self, owner: &Owner) -> Option<u32> {
        let first = |pid: &u32| {
            let status = self.host().process(*pid).and_then(|p| p.status());
            let pids = status.ok().and_then(|s| s.nspid)?;
            (pids.len() > 1 && pids.last() == Some(&1)).then_some((pids.len(), *pid))
        };
        self.pids_of(owner).iter().filter_map(first).min().map(|(_, pid)| pid)
    }

    /// The last resort: every cgroup there is. Not found counts only after a complete walk.
    fn walk_for(
        &self,
        owner: &Owner,
        hierarchies: &[Hierarchy],
    ) -> Result<Option<(Hierarchy, BString)>, ReadError> {
        let mut problem = None;
        for hierarchy in hierarchies {
            let walk = match cgroup_tree::subtree(self.host(), &hierarchy.point) {
                Ok(walk) => walk,
                Err(e) => {
                    problem.get_or_insert(e);
                    continue;
                }
            };
            for dir in &walk.dirs {
                let names = named_by(hierarchy, dir);
                if names.iter().any(|(_, key, proof)| *proof != Proof::Guess && owner.has_key(key))
                    && self.has_members(dir)?
                {
                    return Ok(path_below(hierarchy, dir).map(|p| (hierarchy.clone(), p)));
                }
            }
            problem = problem.or(walk.problem);
        }
        problem.map_or(Ok(None), Err)
    }

    /// Whether anyone is in the cgroup or below it.
    fn has_members(&self, dir: &[u8]) -> Result<bool, ReadError> {
        match self.members_below(dir) {
            Ok((_, pids)) => Ok(!pids.is_empty()),
            Err(e) if e.class == Class::Gone => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The processes of a cgroup and of all below it.
    ///
    /// # Errors
    /// When any of them can't be read: the list would not be complete.
    pub fn members_below(&self, dir: &[u8]) -> Result<(Vec<BString>, Vec<u32>), ReadError> {
        let walk = cgroup_tree::subtree(self.host(), dir)?;
        if let Some(problem) = walk.problem {
            return Err(problem);
        }
        let pids = self.members_of(&walk.dirs)?;
        Ok((walk.dirs, pids))
    }

    /// The processes of these cgroups, ascending. One that was removed meanwhile has none.
    ///
    /// # Errors
    /// As [`Index::members_below`].
    pub fn members_of(&self, dirs: &[BString]) -> Result<Vec<u32>, ReadError> {
        let mut pids = BTreeSet::new();
        for (at, dir) in dirs.iter().enumerate() {
            match cgroup_tree::members(self.host(), dir) {
                Ok(members) => pids.extend(members),
                // Removed meanwhile, or threaded: then the domain above lists them.
                Err(e) if at > 0 && (e.class == Class::Gone || cgroup_tree::is_threaded(&e)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(pids.into_iter().collect())
    }

    /// The directories of a container that no container nested in it has; of a pod, those of its own
    /// containers.
    #[must_use]
    pub fn direct_dirs(&self, container: &Container) -> Vec<BString> {
        let Some(hierarchy) = &container.hierarchy else { return Vec::new() };
        let own = |dir: &&BString| {
            let path = path_below(hierarchy, dir).unwrap_or_default();
            let chain = chain_in(&line_of(hierarchy, &path));
            let inner = chain.iter().rfind(|o| o.kind.contains() || o.kind == OwnerKind::Unknown);
            let owner = &container.owner;
            let in_pod =
                |o: &Owner| owner.kind == OwnerKind::Pod && o.pod_uid.as_ref() == Some(&owner.id);
            inner.is_none_or(|o| o.id == owner.id || o.cgroup == owner.cgroup || in_pod(o))
        };
        container.dirs.iter().filter(own).cloned().collect()
    }
}

/// A container of which there are two.
fn undecided(mut owner: Owner, gap: Gap) -> Container {
    let pids = Err(gap.clone().of(what::PIDS));
    owner.described = Described::Unread(gap);
    Container { owner: Rc::new(owner), hierarchy: None, dirs: Vec::new(), pids }
}

fn line_of(hierarchy: &Hierarchy, path: &BString) -> Line {
    Line {
        hierarchy: u32::from(!hierarchy.v2),
        controllers: bstr::join(b",", &hierarchy.controllers).into(),
        path: path.clone(),
        deleted: false,
    }
}

/// The cgroup path of a directory of the cgroup tree.
pub(super) fn path_below(hierarchy: &Hierarchy, dir: &[u8]) -> Option<BString> {
    let rest = whose_kernel::parse::mountinfo::strip(&hierarchy.point, dir)?;
    let root = hierarchy.root.strip_suffix(b"/").unwrap_or(&hierarchy.root);
    Some([root, rest.as_bytes()].concat().into())
}

/// The line that a process in a directory of the cgroup tree has.
pub(super) fn line_at(hierarchy: &Hierarchy, dir: &[u8]) -> Option<Line> {
    path_below(hierarchy, dir).map(|path| line_of(hierarchy, &path))
}

/// Whether a line names a container within another.
pub(super) fn is_nested(line: &Line) -> bool {
    chain_in(line).iter().any(|o| !o.within.is_empty())
}

/// The last segment of a line that holds an id of 64 digits, as that id.
pub(super) fn last_id(line: &Line) -> Option<BString> {
    let words = |s: &BStr| -> Option<BString> {
        let mut words = s.split(|b| !b.is_ascii_alphanumeric());
        words.rfind(|w| crate::runtime::segment::is_hex64(w)).map(BString::from)
    };
    line.segments().filter_map(words).last()
}

/// The level of a line that has this id.
pub(super) fn level_named(line: &Line, id: &BStr) -> Option<Owner> {
    chain_in(line).into_iter().rfind(|o| o.id == id && o.kind.has_root())
}

/// The container around the level of a line that `depth` segments name, by the text alone.
pub(super) fn outer_of(line: &Line, depth: usize) -> Option<Owner> {
    outer_at(line, crate::runtime::claim::path_to(line, depth.saturating_sub(1)))
}

/// The container that a path of the line's hierarchy leads into, by the text alone.
pub(super) fn outer_at(line: &Line, path: BString) -> Option<Owner> {
    let outer = Line { path, ..line.clone() };
    chain_in(&outer).into_iter().rfind(|o| o.kind.has_root())
}

/// Says where a container's cgroup is: a directory of the cgroup tree.
pub(super) fn place(owner: &mut Owner, hierarchy: &Hierarchy, dir: &[u8]) {
    owner.cgroup = path_below(hierarchy, dir).unwrap_or_default();
    owner.hierarchy = bstr::join(b",", &hierarchy.controllers).into();
    let seed = chain_in(&line_of(hierarchy, &owner.cgroup)).into_iter().rfind(|o| o.id == owner.id);
    owner.within = seed.map(|o| o.within).unwrap_or_default();
}

/// The levels that a path's text names.
pub(super) fn chain_in(line: &Line) -> Vec<Owner> {
    let lines = std::slice::from_ref(line);
    let subject = Subject { lines, comm: BStr::new(b""), args: Some(&[]), uid: None, nspid: None };
    let claims: Vec<Mine> = REGISTRY
        .iter()
        .filter_map(|r| match r.claim(&subject) {
            Claim::Mine(mine) => Some(mine),
            Claim::NotMine | Claim::Need(_) => None,
        })
        .collect();
    arbitrate(lines, &claims, &mut |_| Confirmed::No).chain
}

/// The keys of the containers whose own cgroup the directory is, as far as its name tells.
pub(super) fn named_by(hierarchy: &Hierarchy, dir: &[u8]) -> Vec<(Engine, BString, Proof)> {
    let Some(path) = path_below(hierarchy, dir) else {
        return Vec::new();
    };
    let line = line_of(hierarchy, &path);
    let depth = line.segments().count();
    let subject = Subject {
        lines: std::slice::from_ref(&line),
        comm: BStr::new(b""),
        args: Some(&[]),
        uid: None,
        nspid: None,
    };
    let mut named = Vec::new();
    for runtime in REGISTRY {
        if let Claim::Mine(mine) = runtime.claim(&subject) {
            let levels =
                mine.levels.into_iter().filter(|l| l.depth == depth && l.owner.kind.contains());
            named.extend(levels.map(|l| (l.owner.runtime, l.owner.key(), l.proof)));
        }
    }
    named
}

/// Whether a cgroup's name holds the owner's, or that of the unit that a machine's payload is in.
fn bears(dir: &BString, owner: &Owner) -> bool {
    let mut names = dir.rsplit_str("/");
    let own = names.next().unwrap_or_default();
    let above = names.next().filter(|_| own == nspawn::PAYLOAD.as_bytes());
    let holds = |name: &[u8]| unescape(name).is_some_and(|name| name.contains_str(&owner.id));
    holds(own) || above.is_some_and(holds)
}

/// The part of a line's path that ends with the segment holding the id.
fn path_of_id(line: &Line, id: &[u8]) -> Option<BString> {
    let depth = line.segments().position(|s| s.contains_str(id))?;
    Some(crate::runtime::claim::path_to(line, depth + 1))
}
