//! From a pod's name or uid to its cgroups, processes and containers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree::{self, Hierarchy};
use whose_kernel::{Class, ReadError};

use super::Index;
use super::lookup::{self, Container};
use super::pods::{kubelet_roots, pod_owner};
use super::search::{Hit, Scope};
use super::users::manager_of;
use crate::model::gap::what;
use crate::model::{Fact, Gap, Owner, Pod, SeenPod, Source};
use crate::runtime::{PodQuery, kubernetes};
use crate::state::kubelet;

/// A pod that is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFound {
    /// Its uid.
    pub uid: BString,
    /// Id of the container that its node is; empty on the host.
    pub within: BString,
    /// Its names and who says so; `None` when only its cgroup is known.
    pub seen: Option<SeenPod>,
}

/// What a query for pods leads to.
#[derive(Clone, Debug, Default)]
pub struct FoundPods {
    /// The pods, each once.
    pub pods: Vec<PodFound>,
    /// What could not be looked at: with it, an empty result proves nothing.
    pub gaps: Vec<Gap>,
}

/// A cgroup of a pod, or of a container in it where the pod has none of its own.
#[derive(Clone, Debug)]
pub(super) struct Place {
    uid: BString,
    within: BString,
    /// The container that the node is.
    outer: Option<Owner>,
    hierarchy: Hierarchy,
    dir: BString,
    /// Whether it is the pod's own.
    is_pods: bool,
    /// Whether it lies in the cgroups of some user's manager.
    is_users: bool,
}

/// A pod's cgroup with all below it, and the processes there.
type Filled = (Place, Vec<BString>, Vec<u32>);

/// The pods that the cgroup tree shows.
#[derive(Debug, Default)]
pub(super) struct Walked {
    places: Vec<Place>,
    problem: Option<ReadError>,
}

impl Index<'_> {
    /// Pods by name or uid. The host's kubelet is asked first; with `everywhere` also engines, and the
    /// kubelets of nodes that are containers, until one knows it.
    pub fn pods_named(&mut self, query: PodQuery<'_>, everywhere: bool) -> FoundPods {
        let host = self.host();
        let mut found = FoundPods::default();
        let of_pod = PodQuery { container: None, ..query };
        let none = BString::default();
        self.pods_of_kubelet(&none, None, of_pod, &mut found);
        if !found.pods.is_empty() || !everywhere {
            return found;
        }
        if let Some(uid) = query.uid
            && self.knows_uid(uid)
        {
            let within = self.within_of(uid);
            found.add(PodFound { uid: uid.into(), within, seen: None });
        }
        if found.pods.is_empty() {
            for (node, pid) in self.nodes() {
                self.pods_of_kubelet(&node, Some(pid), of_pod, &mut found);
            }
        }
        if found.pods.is_empty() {
            self.pods_of_engines(of_pod, &mut found);
        }
        if found.pods.is_empty()
            && let Some(problem) = self.walked_pods().problem.clone()
        {
            found.gaps.push(Gap::from_read(what::PODS, &problem));
        }
        if host.out_of_time() && found.pods.is_empty() {
            let late = ReadError::new(host.shown(b""), Class::TimedOut, "no time left to look");
            found.gaps.push(Gap::from_read(what::PODS, &late));
        }
        found
    }

    /// The containers that are nodes, by the pods in them, and a process of each. Engines in them are
    /// learnt of too.
    fn nodes(&mut self) -> Vec<(BString, u32)> {
        let mut outers: Vec<(Owner, Hierarchy, BString)> = Vec::new();
        for place in &self.walked_pods().places {
            let Some(outer) = &place.outer else { continue };
            if !outers.iter().any(|(o, ..)| o.id == outer.id) {
                outers.push((outer.clone(), place.hierarchy.clone(), place.dir.clone()));
            }
        }
        let mut nodes = Vec::new();
        for (outer, hierarchy, dir) in outers {
            // An engine with moved directories is known by what serves a pod of its.
            let first = self.members_below(&dir).ok().and_then(|(_, pids)| pids.first().copied());
            if let Some(pid) = first {
                self.roots_above(outer.id.as_ref(), pid);
            }
            let Some(pid) = self.process_of_node(&outer, hierarchy) else { continue };
            self.roots_inside(&outer, pid, Vec::new());
            nodes.push((outer.id, pid));
        }
        nodes
    }

    /// A process in the container and in none that is nested in it.
    fn process_of_node(&self, outer: &Owner, hierarchy: Hierarchy) -> Option<u32> {
        let (dirs, pids) = self.members_below(&hierarchy.dir(&outer.cgroup)?).ok()?;
        let owner = Rc::new(outer.clone());
        let container = Container { owner, hierarchy: Some(hierarchy), dirs, pids: Ok(pids) };
        let first = |dir: &BString| {
            cgroup_tree::members(self.host(), dir).ok().and_then(|pids| pids.first().copied())
        };
        self.direct_dirs(&container).iter().find_map(first)
    }

    fn pods_of_kubelet(
        &mut self,
        within: &BString,
        node: Option<u32>,
        query: PodQuery<'_>,
        found: &mut FoundPods,
    ) {
        let host = self.host();
        let Some(files) = self.kubelet(within, node) else { return };
        match files.dirs(host) {
            Ok(None) => {}
            Ok(Some((root, dirs))) => {
                for (uid, (name, pod)) in dirs.iter().filter(|(_, (_, pod))| query.fits(pod)) {
                    let path = root.join(name);
                    let seen = SeenPod { pod: pod.clone(), source: Source::StateFile, path };
                    let seen = Some(seen).filter(|s| s.pod.name.is_some());
                    found.add(PodFound { uid: uid.clone(), within: within.clone(), seen });
                }
            }
            Err(gap) => found.gaps.push(gap.clone()),
        }
        found.pods.sort_by(|a, b| a.uid.cmp(&b.uid));
    }

    /// Pods that only an engine names: those of a kubelet with logs in another place, or of none.
    fn pods_of_engines(&mut self, query: PodQuery<'_>, found: &mut FoundPods) {
        let host = self.host();
        let search = self.search_pods(query);
        found.gaps.extend(search.gaps);
        for Hit { engine, key: id, .. } in search.found {
            if host.out_of_time() {
                found.gaps.push(self.late());
                break;
            }
            let within = self.found_within(engine, id.as_ref());
            let mut owner = Owner::with_key(crate::model::OwnerKind::Container, engine, &id);
            owner.within.clone_from(&within);
            let Some(Ok(description)) = self.description_for(&owner, None, Needs::DESCRIPTION)
            else {
                continue;
            };
            let pod = description.pod.unwrap_or_default();
            let Some(uid) = pod.uid.clone() else { continue };
            let pod = Pod { container: None, restarts: None, ..pod };
            let seen = SeenPod { pod, source: Source::StateFile, path: description.path };
            found.add(PodFound { uid, within, seen: Some(seen) });
        }
    }

    /// Containers in pods by the name they have there: by the links to their logs, then by engines.
    pub fn containers_in_pods(&mut self, name: &BStr, everywhere: bool) -> lookup::Found {
        let host = self.host();
        let mut found = lookup::Found::default();
        let files = self.kubelet(&BString::default(), None);
        let mut ids: Vec<BString> = Vec::new();
        match files.as_ref().map(|files| files.links(host)) {
            Some(Ok(Some((_, links)))) => {
                let fits = |pod: &Pod| pod.container.as_ref().is_some_and(|c| c == name);
                ids.extend(
                    links.iter().filter(|(_, (_, pod))| fits(pod)).map(|(id, _)| id.clone()),
                );
            }
            Some(Err(gap)) => found.gaps.push(gap.clone()),
            _ => {}
        }
        ids.sort();
        for id in ids {
            // A link may outlive its container.
            found
                .containers
                .extend(self.containers_named(id.as_ref(), Scope::default()).containers);
        }
        if found.containers.is_empty() && everywhere {
            let search =
                self.search_pods(PodQuery { container: Some(name), ..PodQuery::default() });
            found.containers = search.found;
            found.gaps.extend(search.gaps);
        }
        found
    }

    /// The pod with its cgroup and processes.
    pub fn pod(&mut self, found: &PodFound) -> Container {
        let mut owner = pod_owner(&found.uid, &found.within);
        let is_hosts = found.within.is_empty() && self.host_has_logs_of(&found.uid);
        let places = self.places_of_pod(&found.uid, &found.within).map(|mut places| {
            places.retain(|(place, ..)| !(is_hosts && place.is_users));
            places
        });
        let mut dirs = Vec::new();
        let mut all = BTreeSet::new();
        for (_, below, pids) in places.iter().flatten() {
            dirs.extend(below.iter().cloned());
            all.extend(pids.iter().copied());
        }
        let first = places.as_ref().ok().and_then(|p| p.first()).map(|(place, ..)| place);
        let hierarchy = first.map(|p| p.hierarchy.clone());
        if let Some(place) = first.filter(|p| p.is_pods) {
            lookup::place(&mut owner, &place.hierarchy, &place.dir);
            owner.within.clone_from(&found.within);
        }
        let pids = match &places {
            Err(e) => Err(Gap::from_read(what::PIDS, e)),
            Ok(_) => Ok(all.into_iter().collect()),
        };
        let owner = match &found.seen {
            Some(seen) => {
                owner.seen_pod = Fact::Known(seen.clone());
                owner.name.clone_from(&seen.pod.name);
                Rc::new(owner)
            }
            None => {
                let inner = self.first_inside(&found.uid, &dirs);
                self.named_pod(&owner, inner.as_deref())
            }
        };
        Container { owner, hierarchy, dirs, pids }
    }

    /// Whether the host's own kubelet has logs of the pod: then no user made it in his cgroups.
    fn host_has_logs_of(&mut self, uid: &BString) -> bool {
        let host = self.host();
        let files = self.kubelet(&BString::default(), None);
        let has = |dirs: &Result<Option<(_, HashMap<BString, _>)>, Gap>| {
            dirs.as_ref().is_ok_and(|d| d.as_ref().is_some_and(|(_, d)| d.contains_key(uid)))
        };
        files.is_some_and(|files| has(files.dirs(host)))
    }

    /// One container of the pod, described, for the names that it tells.
    fn first_inside(&mut self, uid: &BString, dirs: &[BString]) -> Option<Rc<Owner>> {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER).and(Needs::DESCRIPTION);
        self.inside(uid, dirs, needs, 1).pop()
    }

    /// The containers in a pod that run, each once: one process a cgroup is looked at.
    pub fn containers_of_pod(&mut self, pod: &Container) -> Vec<Rc<Owner>> {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER).and(Needs::DESCRIPTION);
        self.inside(&pod.owner.id, &pod.dirs, needs, usize::MAX)
    }

    fn inside(
        &mut self,
        uid: &BString,
        dirs: &[BString],
        needs: Needs,
        most: usize,
    ) -> Vec<Rc<Owner>> {
        let mut found: Vec<Rc<Owner>> = Vec::new();
        for dir in dirs {
            if found.len() >= most || self.host().out_of_time() {
                break;
            }
            let members = cgroup_tree::members(self.host(), dir).unwrap_or_default();
            let row = members.first().and_then(|pid| self.row(*pid, needs).ok().flatten());
            let mut chain = row.iter().filter_map(|r| r.membership.known()).flat_map(|m| &m.chain);
            let of_pod = |o: &&Rc<Owner>| o.kind.contains() && o.pod_uid.as_ref() == Some(uid);
            let Some(owner) = chain.rfind(of_pod) else { continue };
            if !found.iter().any(|o| o.id == owner.id && o.runtime == owner.runtime) {
                found.push(Rc::clone(owner));
            }
        }
        found
    }

    /// One container by what is known of it.
    pub fn container_of(&mut self, owner: &Owner, needs: Needs) -> Container {
        self.note_within(owner);
        self.container(owner.runtime, owner.key().as_ref(), needs)
    }

    /// Whether there is anything of a kubelet's here: logs of pods, or their cgroups.
    pub fn has_pods(&mut self) -> bool {
        let host = self.host();
        let files = self.kubelet(&BString::default(), None);
        let has_logs = |listed: &Result<Option<_>, Gap>| !matches!(listed, Ok(None));
        files.is_some_and(|files| has_logs(files.dirs(host)))
            || !self.walked_pods().places.is_empty()
    }

    /// Containers of a pod that an engine knows, running or not.
    pub fn known_in_pod(&mut self, query: PodQuery<'_>) -> Vec<Hit> {
        self.search_pods(query).found
    }

    /// Whether a pod's cgroup or a kubelet's directory for it is there.
    fn knows_uid(&mut self, uid: &BStr) -> bool {
        let host = self.host();
        let has_dir = |root: BString| {
            let dir = [root.as_slice(), b"/pods/", uid.as_bytes()].concat();
            host.guard(&dir).is_ok() && host.root().has_dir(&dir)
        };
        let none = BString::default();
        kubelet_roots(host).any(has_dir)
            || self.guessed_places(uid, &none).is_ok_and(|places| !places.is_empty())
            || self.walked_pods().places.iter().any(|p| p.uid == uid)
    }

    /// The node that a pod is on, by its cgroups.
    fn within_of(&self, uid: &BStr) -> BString {
        let none = BString::default();
        if self.guessed_places(uid, &none).is_ok_and(|places| !places.is_empty()) {
            return none;
        }
        let place = self.walked_pods().places.iter().find(|p| p.uid == uid);
        place.map(|p| p.within.clone()).unwrap_or_default()
    }

    /// The pod's cgroups on the first hierarchy that has processes of it: where a kubelet puts them, else
    /// by a walk of the tree, which finds them below any other root and where the drivers do not match.
    fn places_of_pod(&self, uid: &BString, within: &BString) -> Result<Vec<Filled>, ReadError> {
        let guessed = self.guessed_places(uid.as_ref(), within)?;
        if !guessed.is_empty() {
            return Ok(guessed);
        }
        let walked = self.walked_pods();
        if let Some(problem) = &walked.problem {
            return Err(problem.clone());
        }
        let mut places: Vec<Filled> = Vec::new();
        for place in walked.places.iter().filter(|p| p.uid == *uid && p.within == *within) {
            places.extend(self.filled(place.clone())?);
        }
        // What a user makes in his own cgroups stands behind what the host has.
        if places.iter().any(|(p, ..)| !p.is_users) {
            places.retain(|(p, ..)| !p.is_users);
        }
        let first = places.first().map(|(p, ..)| p.hierarchy.clone());
        places.retain(|(p, ..)| Some(&p.hierarchy) == first.as_ref());
        Ok(places)
    }

    /// Where a kubelet puts it, on the first hierarchy that has processes of it there: a change of
    /// drivers leaves what ran before in the old place.
    fn guessed_places(&self, uid: &BStr, within: &BString) -> Result<Vec<Filled>, ReadError> {
        if !within.is_empty() || !kubelet::is_uid(uid) {
            return Ok(Vec::new());
        }
        let paths = kubernetes::cgroups_of(uid);
        for hierarchy in self.hierarchies()? {
            let mut places = Vec::new();
            for dir in paths.iter().filter_map(|path| hierarchy.dir(path)) {
                let (uid, within, outer) = (uid.into(), within.clone(), None);
                let (hierarchy, is_pods, is_users) = (hierarchy.clone(), true, false);
                let place = Place { uid, within, outer, hierarchy, dir, is_pods, is_users };
                places.extend(self.filled(place)?);
            }
            if !places.is_empty() {
                return Ok(places);
            }
        }
        Ok(Vec::new())
    }

    /// A cgroup with all below it, if anyone is there.
    fn filled(&self, place: Place) -> Result<Option<Filled>, ReadError> {
        match self.members_below(&place.dir) {
            Ok((_, pids)) if pids.is_empty() => Ok(None),
            Ok((dirs, pids)) => Ok(Some((place, dirs, pids))),
            Err(e) if e.class == Class::Gone => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every pod of the cgroup tree: one directory read a cgroup, none a process; once a command.
    fn walked_pods(&self) -> &Walked {
        self.pods.walked.get_or_init(|| {
            let mut walked = Walked::default();
            let hierarchies = match self.hierarchies() {
                Ok(hierarchies) => hierarchies,
                Err(e) => {
                    walked.problem = Some(e);
                    return walked;
                }
            };
            for hierarchy in hierarchies {
                match cgroup_tree::subtree(self.host(), &hierarchy.point) {
                    Ok(walk) => {
                        walked.places.extend(walk.dirs.iter().filter_map(|d| place(hierarchy, d)));
                        walked.problem = walked.problem.take().or(walk.problem);
                    }
                    Err(e) => walked.problem = Some(e),
                }
            }
            let mut own: HashSet<(BString, BString)> = HashSet::new();
            own.extend(
                walked.places.iter().filter(|p| p.is_pods).map(|p| (p.uid.clone(), p.dir.clone())),
            );
            // A container's cgroup below its pod's is counted with that one.
            let below = |p: &Place| {
                own.iter().any(|(uid, dir)| {
                    *uid == p.uid && p.dir != *dir && p.dir.starts_with(dir.as_slice())
                })
            };
            walked.places.retain(|p| !below(p));
            walked
        })
    }
}

impl FoundPods {
    fn add(&mut self, found: PodFound) {
        let same = |p: &&mut PodFound| p.uid == found.uid && p.within == found.within;
        match self.pods.iter_mut().find(same) {
            Some(known) if known.seen.is_none() => *known = found,
            Some(_) => {}
            None => self.pods.push(found),
        }
    }
}

/// The pod whose cgroup a directory is, or that of a container in it.
fn place(hierarchy: &Hierarchy, dir: &BString) -> Option<Place> {
    let line = lookup::line_at(hierarchy, dir)?;
    let depth = line.segments().count();
    let text = line.segments().last()?;
    let parent = depth.checked_sub(2).and_then(|at| line.segments().nth(at));
    let uid = kubernetes::pod(text, parent.map_or(&b""[..], |p| p.as_bytes()))?;
    let outer = lookup::outer_of(&line, depth);
    Some(Place {
        uid: uid.into(),
        within: outer.as_ref().map(|o| o.id.clone()).unwrap_or_default(),
        outer,
        hierarchy: hierarchy.clone(),
        dir: dir.clone(),
        is_pods: !text.contains(&b':'),
        is_users: is_users(&line),
    })
}

fn is_users(line: &Line) -> bool {
    manager_of(&line.path).is_some_and(|uid| uid != 0)
}
