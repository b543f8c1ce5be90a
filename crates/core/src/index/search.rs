//! Searching the state of all engines, and for engines that nothing else tells of.

use std::collections::HashSet;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::read::cgroup_tree;
use whose_kernel::{Class, ReadError};

use super::Index;
use super::roots::Place;
use crate::model::gap::what;
use crate::model::{Engine, Gap, Owner, OwnerKind};
use crate::runtime::{Matches, PodQuery, Proof, Query, Runtime, StateRoot, by_engine};

/// Processes of a container by which engines in it are looked for: one is enough where all have the
/// same root.
const MOST_MEMBERS: usize = 4;

impl Index<'_> {
    /// The container that has this address, if exactly one running one does.
    pub(super) fn owner_of_address(&mut self, address: &BStr) -> Option<BString> {
        let mut found = self.search(Query::Address(address), Scope::default(), false).found;
        found.dedup_by(|a, b| (a.engine, &a.key) == (b.engine, &b.key));
        (found.len() == 1).then(|| found.remove(0).key)
    }

    /// Searches the state of those engines that are asked, step by step until something is found. With
    /// `everywhere` the cgroup tree is walked as a last resort, for engines whose roots nothing else
    /// names.
    pub(super) fn search(
        &mut self,
        query: Query<'_>,
        scope: Scope<'_>,
        everywhere: bool,
    ) -> Search {
        let host = self.host;
        let mut search =
            self.search_by(scope, everywhere, &mut |runtime, root| runtime.find(host, root, query));
        if search.found.is_empty() {
            search.found = self.told_of(query, scope).into_iter().map(Hit::from).collect();
            search.is_hearsay = true;
        }
        search
    }

    /// As [`Index::search`], everywhere, for containers in pods.
    pub(super) fn search_pods(&mut self, query: PodQuery<'_>) -> Search {
        let host = self.host;
        let scope = Scope::default();
        self.search_by(scope, true, &mut |runtime, root| runtime.find_in_pods(host, root, query))
    }

    fn search_by(&mut self, scope: Scope<'_>, everywhere: bool, find: &mut Find<'_>) -> Search {
        let mut search = Search::default();
        if let Some(uid) = scope.user.and_then(|user| self.uid_named(user)) {
            self.roots_of_user(uid, Vec::new());
        }
        let mut tried = HashSet::new();
        // A user can give his own the name of anybody's container: that one may be in a state of the
        // host's which nothing has led to yet.
        let mut settled = false;
        loop {
            let asked = |(_, root): &(usize, &(Engine, StateRoot))| scope.has(root.0, &root.1);
            for (number, (engine, root)) in self.roots.told().filter(asked) {
                if !tried.insert(number) {
                    continue;
                }
                let Some(runtime) = by_engine(*engine) else {
                    continue;
                };
                match find(runtime, root) {
                    Ok(Matches { ids, gaps }) => {
                        // Where one user is asked, he is who may say so.
                        let counts = root.users_own().is_none() || scope.user.is_some();
                        settled |= !ids.is_empty() && counts;
                        let user = root.users_own();
                        let hit = |key| Hit { engine: *engine, key, user: user.cloned() };
                        search.found.extend(ids.into_iter().map(hit));
                        search.gaps.extend(gaps);
                    }
                    Err(e) if e.class == Class::Gone => {}
                    Err(e) => search.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
                }
            }
            if settled {
                // What has ended may be of state that was left behind when it was moved.
                let has_more = scope.user.is_none() && self.have_ended(&mut search);
                if !has_more || !self.advance_found(&search.found) {
                    break;
                }
                continue;
            }
            if self.roots.advance(self.host) {
                continue;
            }
            let walks = everywhere || !search.found.is_empty();
            if !walks || !self.look_everywhere(search.found.is_empty()) {
                break;
            }
        }
        if search.found.is_empty() {
            self.search_nested(scope, find, &mut search);
        }
        search.gaps.extend(self.gaps_in(scope));
        search.gaps.extend(self.uncaptured());
        search.gaps.extend(self.host.out_of_time().then(|| self.late()));
        search.found.sort();
        // What the host's own has is nobody else's, whoever says so.
        let is_known = |other: &Hit, first: &Hit| {
            (other.engine, &other.key) == (first.engine, &first.key)
                && (first.user.is_none() || first.user == other.user)
        };
        search.found.dedup_by(|other, first| is_known(other, first));
        search
    }

    /// Takes the next step of looking for roots when all steps for each engine were taken: the cgroup tree,
    /// then, for what nothing else knows, monitors. False when there is none, or no time for it.
    pub(super) fn look_everywhere(&mut self, is_unknown: bool) -> bool {
        if self.host.out_of_time() {
            return false;
        }
        if self.roots.walked.is_none() {
            self.roots_from_cgroups();
            return true;
        }
        // Where there are no cgroups, nothing but monitors tells of a root that was moved.
        is_unknown && self.roots_from_monitors()
    }

    /// Whether each of these has ended, by the word of its engine.
    fn have_ended(&mut self, search: &mut Search) -> bool {
        for hit in &search.found {
            if self.host.out_of_time() {
                search.late = Some(self.late());
                return false;
            }
            let owner = Owner::with_key(OwnerKind::Container, hit.engine, &hit.key);
            let told = self.description_for(&owner, None, Needs::NONE);
            if !told.and_then(Result::ok).is_some_and(|d| d.is_believed_down()) {
                return false;
            }
        }
        true
    }

    /// The gap where not all that there is could be looked at.
    pub fn late(&self) -> Gap {
        let why = "no time left to look at all of them";
        let late = ReadError::new(self.host.shown(b""), Class::TimedOut, why);
        Gap::from_read(what::CONTAINERS, &late)
    }

    /// Looks for more state of the engines that have these; no user's is asked.
    fn advance_found(&mut self, found: &[Hit]) -> bool {
        let mut engines: Vec<Engine> = found.iter().map(|hit| hit.engine).collect();
        engines.dedup();
        let host = self.host;
        let mut some = false;
        for runtime in engines.into_iter().filter_map(by_engine) {
            some |= self.roots.advance_unasked(host, runtime);
        }
        some
    }

    /// What stood in the way of looking at the roots that are asked.
    fn gaps_in(&self, scope: Scope<'_>) -> Vec<Gap> {
        if let Some(user) = scope.user {
            let uid = self.uid_named(user);
            return uid.map(|uid| self.gaps_of_user(uid, scope.engine)).unwrap_or_default();
        }
        let asked = |(engine, _): &&(Engine, Gap)| scope.is_of(*engine);
        self.roots.gaps.iter().filter(asked).map(|(_, gap)| gap.clone()).collect()
    }

    /// Walks the cgroup tree for containers that no known root has, and learns their engines' roots
    /// from the mounts of one process each. Costs one directory read a cgroup, none a process.
    pub(super) fn roots_from_cgroups(&mut self) {
        let host = self.host;
        self.roots.walked = Some(Vec::new()); // once, whatever comes of it
        let Ok(hierarchies) = self.hierarchies().map(<[_]>::to_vec) else {
            return;
        };
        let mut seen: HashSet<(Engine, BString)> = HashSet::new();
        for hierarchy in hierarchies {
            let Ok(walk) = cgroup_tree::subtree(host, &hierarchy.point) else {
                continue;
            };
            for dir in walk.dirs {
                for (engine, id, proof) in super::lookup::named_by(&hierarchy, &dir) {
                    if !seen.insert((engine, id.clone())) {
                        continue;
                    }
                    // Of a bare id below a pod another engine only thinks that it may know it.
                    if proof == Proof::Text {
                        self.roots.walked.get_or_insert_default().push((engine, id.clone()));
                    }
                    if host.out_of_time() {
                        continue;
                    }
                    let Some(runtime) = by_engine(engine) else {
                        continue;
                    };
                    if proof == Proof::Guess {
                        // Anything may be called so; a monitor above it is somebody's all the same.
                        if let Some(pid) = cgroup_tree::any_member(host, &dir) {
                            self.monitored(runtime, pid);
                            // In a container it is an engine's there.
                            if runtime.monitor_is_enough() {
                                let mut own = Owner::new(OwnerKind::Machine, engine, id.clone());
                                super::lookup::place(&mut own, &hierarchy, &dir);
                                self.learn_around(&own, pid);
                            }
                        }
                        continue;
                    }
                    let members = cgroup_tree::members(host, &dir).unwrap_or_default();
                    for pid in members.iter().take(MOST_MEMBERS) {
                        let mut outer = Owner::new(OwnerKind::Container, engine, id.clone());
                        super::lookup::place(&mut outer, &hierarchy, &dir);
                        self.roots_inside(&outer, *pid, Vec::new());
                        if members.first() == Some(pid) {
                            self.learn_around(&outer, *pid);
                        }
                    }
                    let cgroup = super::lookup::path_below(&hierarchy, &dir).unwrap_or_default();
                    let place = Place::new(host, &cgroup);
                    // What a user says that he knows is no reason not to look for who does.
                    let knows = |root: &StateRoot| {
                        let query = Query::Id(id.as_ref());
                        place.is_in_reach_of(root)
                            && runtime.find(host, root, query).is_ok_and(|m| !m.ids.is_empty())
                    };
                    if self.roots.of(engine).any(knows) {
                        continue;
                    }
                    if let Some(pid) = members.first() {
                        self.roots_from_process(runtime, *pid);
                    }
                }
            }
        }
    }

    /// Containers whose id begins with `prefix` by the text of the cgroup tree alone: what is left
    /// when no state can be read.
    pub(super) fn ids_in_cgroups(&mut self, prefix: &[u8]) -> Vec<(Engine, BString)> {
        if self.roots.walked.is_none() {
            self.roots_from_cgroups();
        }
        let mut ids = self.roots.walked.clone().unwrap_or_default();
        ids.retain(|(_, id)| id.starts_with(prefix));
        ids.sort();
        ids.dedup();
        ids
    }

    /// Containers of this very id by the text of the cgroup tree alone.
    pub(super) fn names_in_cgroups(&mut self, name: &[u8]) -> Vec<(Engine, BString)> {
        let mut ids = self.ids_in_cgroups(name);
        ids.retain(|(_, id)| id == name);
        ids
    }
}

/// Whose state is asked; all of it unless told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'s> {
    /// Only this engine's.
    pub engine: Option<Engine>,
    /// Only that of this user's own engines.
    pub user: Option<&'s BStr>,
}

impl Scope<'_> {
    fn has(self, engine: Engine, root: &StateRoot) -> bool {
        let is_his = |user: &BStr| root.users_own().is_some_and(|own| own == user);
        self.is_of(engine) && self.user.is_none_or(is_his)
    }

    /// Whether the engine is asked.
    #[must_use]
    pub fn is_of(self, engine: Engine) -> bool {
        self.engine.is_none_or(|asked| asked == engine)
    }
}

/// What is asked of each root of a runtime.
pub(super) type Find<'f> = dyn FnMut(&dyn Runtime, &StateRoot) -> Result<Matches, ReadError> + 'f;

/// A container that a search found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Its engine.
    pub engine: Engine,
    /// Its key in that engine's state.
    pub key: BString,
    /// The user in whose own engine's state it was found; `None` for one of the host's, or where
    /// something else tells of it.
    pub user: Option<BString>,
}

impl From<(Engine, BString)> for Hit {
    fn from((engine, key): (Engine, BString)) -> Self {
        Self { engine, key, user: None }
    }
}

/// What a search brought.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The containers found.
    pub(super) found: Vec<Hit>,
    /// Whether no state has them and daemons told of them, whosever those are.
    pub(super) is_hearsay: bool,
    /// Why not all of them could be looked at.
    pub(super) late: Option<Gap>,
    /// What could not be looked at: with these, an empty result proves nothing.
    pub(super) gaps: Vec<Gap>,
}
