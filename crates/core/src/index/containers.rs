//! All containers of the host: those whose processes the kernel shows, and those that only an
//! engine's state knows.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::{Class, Host, ReadError};

use super::Index;
use super::describe::Members;
use super::facts::soft;
use super::plan::{Filter, Plan};
use super::users::manager_of;
use crate::model::gap::what;
use crate::model::{
    ContainerState, Described, Description, Engine, Fact, Gap, Listed, Membership, Owner,
    OwnerKind, Row, TOTALS,
};
use crate::runtime::{StateRoot, by_engine};

/// Containers and what is missing from the list.
#[derive(Debug, Default)]
pub struct Containers {
    /// The containers, by what they are called.
    pub rows: Vec<Listed>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

/// What tells one container from all others: the levels down to it that contain.
type Key = Vec<(Engine, BString, Option<BString>)>;

/// Containers as they are gathered.
struct Gathered<'h> {
    host: &'h Host,
    rows: Vec<Listed>,
    at: HashMap<Key, usize>,
    /// Where those are that have an engine's id.
    by_id: HashMap<(Engine, BString), Vec<usize>>,
    gaps: Vec<Gap>,
    /// Of every process it is known whose it is.
    saw_all: bool,
    /// What is summed up, and what has to be read for it.
    totals: Vec<FieldId>,
    needs: Needs,
}

/// A container that a state knows: its root's owner, and the container its engine is in.
struct Known {
    engine: Engine,
    /// As the engine's state has it: its id, in a namespace where there are some.
    key: BString,
    user: Option<BString>,
    within: BString,
    described: Result<Description, Gap>,
}

impl Index<'_> {
    /// Lists containers and machines; with `all` also those without a process, and sandboxes and
    /// applications. Build steps and other jobs are none. `needs` are those of the columns: what can be
    /// summed up is read of every process in a container, other facts of each container's first one.
    ///
    /// # Errors
    /// When /proc itself can't be read.
    pub fn containers(&mut self, all: bool, needs: Needs) -> Result<Containers, ReadError> {
        let also = Needs::STAT.and(Needs::OWNER).and(Needs::DESCRIPTION).and(Needs::LIVENESS);
        let filters = vec![Filter::NoKernelThreads];
        let totals: Vec<FieldId> =
            TOTALS.into_iter().filter(|f| needs.has(f.field().needs)).collect();
        let summed = totals.iter().fold(Needs::NONE, |n, f| n.and(f.field().needs));
        // What the scan does not need for itself is read of those in containers only.
        let also = also.and(summed.without(DEAR)).and(needs.only(Needs::DESCRIBED));
        let listing = self.scan(&Plan { filters, also, ..Plan::default() })?;
        let mut gathered = Gathered {
            host: self.host,
            rows: Vec::new(),
            at: HashMap::new(),
            by_id: HashMap::new(),
            gaps: listing.gaps,
            saw_all: false,
            totals,
            needs: summed,
        };
        // Whose a zombie was changes nothing: it is in no list.
        let living = listing.rows.into_iter().filter(|r| !r.process.is_dead());
        let (mut inside, outside): (Vec<Row>, Vec<Row>) = living.partition(is_inside);
        self.read_dear(&mut inside, summed);
        gathered.gaps.extend(inside.iter().chain(&outside).flat_map(Row::gaps).cloned());
        let unseen = |g: &Gap| g.what == what::MEMBERSHIP || g.what == what::PROCESS;
        gathered.saw_all = !self.host.is_partial() && !gathered.gaps.iter().any(unseen);
        for row in &inside {
            gathered.add_process(row);
        }
        self.add_known(&mut gathered, all, needs);
        gathered.rows.retain(|listed| is_shown(listed, all));
        self.complete(&mut gathered.rows, needs.without(also).without(DEAR));
        let mut seen = HashSet::new();
        let mut gaps = gathered.gaps;
        gaps.retain(|gap| seen.insert(gap.clone()));
        let mut rows = gathered.rows;
        rows.sort_by_cached_key(|r| (r.label(), r.owner().map(|o| o.id.clone())));
        Ok(Containers { rows, gaps })
    }

    /// Adds what the state of all engines knows besides.
    fn add_known(&mut self, gathered: &mut Gathered<'_>, all: bool, needs: Needs) {
        for known in self.known_containers(gathered, all, needs) {
            let present = gathered.has(&known);
            if present {
                continue;
            }
            let kind = by_engine(known.engine).map_or(OwnerKind::Container, |r| r.kind());
            let mut owner = Owner::with_key(kind, known.engine, &known.key);
            owner.within.clone_from(&known.within);
            let pid = known.described.as_ref().ok().filter(|d| d.is_believed_up());
            let pid = pid.and_then(|d| d.pid).filter(|_| known.within.is_empty());
            owner.described = match known.described {
                Ok(description) => Described::Yes(Box::new(description)),
                Err(gap) => {
                    gathered.gaps.push(gap.clone());
                    Described::Unread(gap)
                }
            };
            // It may have been started since the scan.
            if let Some(mut row) =
                pid.and_then(|pid| self.started_meanwhile(pid, &owner, &known.user))
            {
                self.read_dear(std::slice::from_mut(&mut row), gathered.needs);
                gathered.gaps.extend(row.gaps().cloned());
                gathered.add_process(&row);
                continue;
            }
            let ran = owner.description().is_some_and(Description::is_believed_up);
            let members = if gathered.saw_all || !ran { Members::None } else { Members::Unread };
            let described = self.described(&owner, members, Needs::LIVENESS);
            let mut chain = gathered.chain_of(&known.within);
            chain.push(described);
            gathered.add(chain);
        }
    }

    /// The process an engine wrote down, if it is in that container.
    fn started_meanwhile(
        &mut self,
        pid: u32,
        owner: &Owner,
        user: &Option<BString>,
    ) -> Option<Row> {
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let needs = needs.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
        let row = self.row(pid, needs).ok()??;
        // The PID may be one that another user's state claims.
        let is_it = |o: &Rc<Owner>| o.id == owner.id && user_of(self.host, o) == *user;
        row.owner().is_some_and(is_it).then_some(row)
    }

    /// Every container in the state of every engine that can be found.
    fn known_containers(
        &mut self,
        gathered: &mut Gathered<'_>,
        all: bool,
        needs: Needs,
    ) -> Vec<Known> {
        let host = self.host;
        let mut known = Vec::new();
        let (gaps, roots) = self.all_roots();
        gathered.gaps.extend(gaps);
        let none = BString::default();
        let asked = (all, needs);
        let mut late = false;
        let hosts = roots.iter().map(|(engine, root)| (&none, *engine, root));
        for (within, engine, root) in hosts {
            late |= list(within, (engine, root), asked, &mut known, gathered);
        }
        for (within, engine, root) in self.nested_roots() {
            late |= list(within, (engine, root), asked, &mut known, gathered);
        }
        gathered.gaps.extend(self.nested_gaps().cloned());
        if late {
            let remedy = Some("try again with a longer --timeout");
            let why = "not all containers were read in time";
            let path = host.shown(b"");
            gathered.gaps.push(Gap::new(what::CONTAINERS, Class::TimedOut, path, why, remedy));
        }
        known
    }

    /// Reads what is dear and summed up. A process that is gone by now adds nothing.
    fn read_dear(&self, rows: &mut [Row], needs: Needs) {
        if needs.has(Needs::FDS) {
            for p in rows.iter_mut().map(|row| &mut row.process) {
                let count = self.host.process(p.pid).and_then(|dir| {
                    let count = dir.descriptor_count()?;
                    dir.still(p.start_ticks()).map(|()| count)
                });
                p.fds = soft(what::FDS, count);
            }
        }
        self.read_slow(rows, needs);
    }

    /// Reads what the columns ask for of each container's first process.
    fn complete(&mut self, rows: &mut [Listed], needs: Needs) {
        if needs.is_empty() {
            return;
        }
        for listed in rows {
            let pid = listed.row.process.pid;
            let needs = needs.and(Needs::STAT).and(Needs::STATUS);
            let Ok(Some(row)) = self.row(pid, needs) else { continue };
            let start = listed.row.process.start_ticks();
            if pid != 0 && row.process.start_ticks() == start {
                listed.row.process = row.process;
            }
        }
    }
}

/// What costs another read a process.
const DEAR: Needs = Needs::IO.and(Needs::FDS);

fn is_inside(row: &Row) -> bool {
    row.membership.known().is_some_and(|m| m.chain.iter().any(|o| o.kind.contains()))
}

/// Lists one root; true when the time ran out.
fn list(
    within: &BString,
    (engine, root): (Engine, &StateRoot),
    (all, needs): (bool, Needs),
    known: &mut Vec<Known>,
    gathered: &mut Gathered<'_>,
) -> bool {
    let Some(runtime) = by_engine(engine) else { return false };
    let mut ids = match runtime.list(root) {
        Ok(ids) => ids,
        Err(e) if e.class == Class::Gone => return false,
        Err(e) => {
            gathered.gaps.push(Gap::from_read(what::CONTAINERS, &e));
            return false;
        }
    };
    if all {
        match runtime.ended(root) {
            Ok(ended) => ids.extend(ended),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => gathered.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
    for id in ids {
        if gathered.host.out_of_time() {
            return true;
        }
        let described = match runtime.describe(root, BStr::new(&id), needs) {
            Some(Ok(description)) => Ok(description),
            Some(Err(e)) if e.class == Class::Gone => continue, // removed meanwhile
            Some(Err(e)) => Err(Gap::from_read(what::DESCRIPTION, &e)),
            None => continue,
        };
        let (user, within) = (root.user.clone(), within.clone());
        known.push(Known { engine, key: id, user, within, described });
    }
    false
}

impl Known {
    /// Whether the owner is this container.
    fn is(&self, host: &Host, owner: &Owner) -> bool {
        let same_user = match user_of(host, owner) {
            None if owner.description().is_none() => true,
            user => user == self.user,
        };
        // Two engines may have the same names.
        let other = |own: &Description| {
            let theirs = owner.description().filter(|_| owner.is_chosen());
            theirs.is_some_and(|d| d.path != own.path)
        };
        owner.runtime == self.engine
            && owner.has_key(&self.key)
            && owner.within == self.within
            && same_user
            && !self.described.as_ref().is_ok_and(other)
    }
}

impl Gathered<'_> {
    /// Counts a process for every container it is in.
    fn add_process(&mut self, row: &Row) {
        let Some(membership) = row.membership.known() else { return };
        let totals = self.totals.clone();
        for (at, owner) in membership.chain.iter().enumerate() {
            if !owner.kind.contains() {
                continue;
            }
            let listed = self.add(membership.chain[..=at].to_vec());
            listed.add(row, &totals);
            let first = &mut listed.row.process;
            let init = owner.init_pid.known();
            let older = row.process.start_ticks() < first.start_ticks();
            if first.pid == 0
                || init == Some(&row.process.pid)
                || (older && init != Some(&first.pid))
            {
                *first = row.process.clone();
            }
        }
    }

    /// Whether what a state knows is in the list.
    fn has(&self, known: &Known) -> bool {
        let id = known.key.rsplit_once_str("/").map_or(known.key.as_slice(), |(_, id)| id);
        let places = self.by_id.get(&(known.engine, BString::from(id)));
        let mut listed = places.into_iter().flatten().filter_map(|at| self.rows.get(*at));
        listed.any(|listed| listed.owner().is_some_and(|owner| known.is(self.host, owner)))
    }

    fn add(&mut self, chain: Vec<Rc<Owner>>) -> &mut Listed {
        let host = self.host;
        let user = |o: &Owner| user_of(host, o);
        let inside = chain.iter().filter(|o| o.kind.contains());
        let key: Key = inside.map(|o| (o.runtime, name_in_key(o), user(o))).collect();
        let at = *self.at.entry(key).or_insert_with(|| {
            let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
            let row = Row { membership, ..Row::default() };
            let listed = Listed { row, ..Listed::default() };
            if let Some(owner) = listed.owner() {
                let places = self.by_id.entry((owner.runtime, owner.id.clone())).or_default();
                places.push(self.rows.len());
            }
            self.rows.push(listed);
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// The levels down to the container with this id.
    fn chain_of(&self, id: &BString) -> Vec<Rc<Owner>> {
        if id.is_empty() {
            return Vec::new();
        }
        let outer = self.rows.iter().find(|r| r.owner().is_some_and(|o| o.id == *id));
        outer.and_then(|r| r.row.membership.known()).map(|m| m.chain.clone()).unwrap_or_default()
    }
}

/// What tells a container of one engine from the others: an id that was chosen is one of many, but
/// the file that describes it is not.
pub(super) fn name_in_key(owner: &Owner) -> BString {
    if !owner.is_chosen() {
        return owner.id.clone();
    }
    let path = owner.description().map_or(&b""[..], |d| &d.path);
    [owner.key().as_slice(), b"\0", path].concat().into()
}

/// The user whose container it is: by his engine, or because it is in his manager's cgroup, where he
/// can give any name to anything.
fn user_of(host: &Host, owner: &Owner) -> Option<BString> {
    let manager = manager_of(&owner.cgroup).filter(|uid| *uid != 0 && owner.within.is_empty());
    let name = |uid: u32| host.user_name(uid).map_or_else(|| uid.to_string().into(), Into::into);
    manager.map(name).or_else(|| owner.description().and_then(|d| d.user.clone()))
}

fn is_shown(listed: &Listed, all: bool) -> bool {
    let Some(owner) = listed.owner() else { return false };
    match owner.kind {
        OwnerKind::Container | OwnerKind::Machine => {}
        OwnerKind::Sandbox | OwnerKind::App if all => {}
        _ => return false,
    }
    let between_runs = owner.state.known() == Some(&ContainerState::Restarting);
    all || !listed.pids.is_empty() || between_runs
}
