//! Joining: claims to owners, owners to their state, names to processes.
//!
//! An [`Index`] lives for one command. It keeps what was found out, so that an owner is worked out
//! once a cgroup and a state file read once a container.

pub mod arbitrate;
mod bearers;
pub mod binds;
pub mod busy;
pub mod containers;
#[cfg(test)]
mod counted;
pub mod daemons;
pub mod describe;
pub mod disk;
pub mod engines;
mod entry;
mod facts;
pub mod held;
mod helpers;
pub mod image_store;
mod inner;
mod instances;
pub mod interfaces;
mod jailed;
mod joined;
pub mod layers;
pub mod lookup;
mod machines;
mod membership;
pub mod mentions;
mod mounting;
mod named;
mod nested;
pub mod paths;
mod place;
pub mod plan;
pub mod pod_lookup;
pub mod pods;
mod proven;
mod rooted;
mod roots;
pub mod sandboxes;
pub mod scan;
pub mod search;
mod steps;
pub mod stored;
mod users;
pub mod volumes;
mod watchers;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bstr::BString;
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::read::cgroup_tree::{self, Hierarchy};
use whose_kernel::{Class, Host, ReadError};

use crate::model::gap::what;
use crate::model::{Engine, Fact, File, Gap, Owner, OwnerKind, Row};
use crate::state::facts as facts_of_capture;
use entry::Entry;
use membership::{Decision, Part, Shared};
use place::HostReference;
use roots::Roots;

/// What identifies an owner on this host: two engines may know the same id.
/// The last parts: its cgroup, the container around it, the user who says so, and whether its live state was
/// asked for.
type OwnerKey = (Engine, BString, [BString; 2], Option<BString>, Needs);

/// An owner that was described, and what came of it. Both are found again by where the first one is;
/// that it is kept makes sure that no other comes to be there.
type Described = (Rc<Owner>, Rc<Owner>);

/// Everything found out about a host during one command.
#[derive(Debug)]
pub struct Index<'h> {
    host: &'h Host,
    roots: Roots,
    nested: nested::NestedRoots,
    pods: pods::Pods,
    asking: Option<daemons::Asking<'h>>,
    users_seen: HashSet<(u32, bool)>,
    /// What stood in the way of looking at users' own engines.
    users_gaps: Vec<(u32, Engine, Gap)>,
    /// How many roots each user's monitors led to; one more once there is a gap for the rest.
    users_monitored: HashMap<u32, usize>,
    watchers: HashMap<u32, Option<watchers::Watcher>>,
    /// Monitors in containers.
    inner: inner::Monitors,
    jailers: jailed::Jailers,
    /// How the names of machines' monitors begin.
    monitors_of_machines: Vec<&'static [u8]>,
    instances: instances::Instances,
    /// The root of the state that each monitor of the host's own engines belongs to.
    monitors: HashMap<u32, Option<usize>>,
    /// Addresses of engines that monitors named.
    addresses: HashSet<BString>,
    /// Texts of cgroup files and their lines, so that equal ones are the same ones.
    texts: HashMap<Vec<u8>, Rc<Vec<Line>>>,
    decisions: HashMap<Shared, Rc<Decision>>,
    parts: HashMap<(Shared, BString), Part>,
    /// The containers around what a line names, by controllers and path: many have the same.
    outers: HashMap<(BString, bool, BString), Option<Owner>>,
    host_owner: Rc<Owner>,
    owners: HashMap<OwnerKey, Rc<Owner>>,
    sandboxes: HashMap<(Engine, BString), Option<sandboxes::Hidden>>,
    described: HashMap<(*const Owner, Needs), Described>,
    reference: OnceCell<HostReference>,
    /// Containers by their mount namespaces, once that was asked.
    by_mounts: Option<joined::ByMounts>,
    /// Mount namespaces whose root is the host's.
    hosts_namespaces: HashSet<u64>,
    parents: HashMap<u32, Option<membership::Parent>>,
    hierarchies: OnceCell<Result<Vec<Hierarchy>, ReadError>>,
    supervisor: OnceCell<Option<machines::Supervisor>>,
    machines: machines::Machines,
    binaries: OnceCell<Result<HashMap<facts_of_capture::Process, File>, ReadError>>,
}

impl<'h> Index<'h> {
    /// An empty index of a host.
    #[must_use]
    pub fn new(host: &'h Host) -> Self {
        Self {
            host,
            roots: Roots::default(),
            nested: nested::NestedRoots::default(),
            pods: pods::Pods::default(),
            asking: None,
            users_seen: HashSet::new(),
            users_gaps: Vec::new(),
            users_monitored: HashMap::new(),
            watchers: HashMap::new(),
            inner: inner::Monitors::default(),
            jailers: jailed::Jailers::new(),
            instances: instances::Instances::new(),
            monitors: HashMap::new(),
            addresses: HashSet::new(),
            texts: HashMap::new(),
            decisions: HashMap::new(),
            parts: HashMap::new(),
            outers: HashMap::new(),
            monitors_of_machines: users::monitors_of_machines(),
            host_owner: Rc::new(Owner::host()),
            described: HashMap::new(),
            owners: HashMap::new(),
            sandboxes: HashMap::new(),
            reference: OnceCell::new(),
            by_mounts: None,
            hosts_namespaces: HashSet::new(),
            parents: HashMap::new(),
            hierarchies: OnceCell::new(),
            supervisor: OnceCell::new(),
            machines: machines::Machines::default(),
            binaries: OnceCell::new(),
        }
    }

    /// The host it is of.
    #[must_use]
    pub fn host(&self) -> &'h Host {
        self.host
    }

    /// The mounted cgroup hierarchies.
    ///
    /// # Errors
    /// When the mount table can't be read.
    pub fn hierarchies(&self) -> Result<&[Hierarchy], ReadError> {
        let read = || cgroup_tree::hierarchies(self.host);
        self.hierarchies.get_or_init(read).as_deref().map_err(Clone::clone)
    }

    /// The file that a process ran when this tree was captured; `None` when the capture does not have
    /// it.
    ///
    /// # Errors
    /// When the capture's facts can't be read.
    pub fn recorded_binary(&self, pid: u32, start_ticks: u64) -> Result<Option<File>, ReadError> {
        if !self.host.is_captured() {
            return Ok(None);
        }
        let binaries = self.binaries.get_or_init(|| facts_of_capture::binaries(self.host));
        let binaries = binaries.as_ref().map_err(Clone::clone)?;
        Ok(binaries.get(&(pid, start_ticks)).cloned())
    }

    /// The gap that a capture of some targets leaves: what else the host had is not in it.
    #[must_use]
    pub fn uncaptured(&self) -> Option<Gap> {
        self.host.is_partial().then(|| {
            let why =
                "the whole host was not captured: only some targets, or what there was time for";
            let path = self.host.shown(crate::state::manifest::PATH.as_bytes());
            Gap::new(what::OUTSIDE_CAPTURE, Class::Unsupported, path, why, None)
        })
    }

    /// Gaps about the whole host: what this `whose` can't see wherever it looks.
    #[must_use]
    pub fn host_gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if self.host.is_outermost() == Some(false) {
            let why = "whose runs in a container's PID namespace";
            let remedy = Some("run it on the host, or with the host's PID namespace");
            let path = self.host.shown(b"proc/self/ns/pid");
            gaps.push(Gap::new(what::OUTSIDE, Class::Unsupported, path, why, remedy));
        }
        gaps.extend(self.hidden_processes());
        gaps.extend(self.daemon_gaps().cloned());
        gaps
    }

    /// The gap that a /proc leaves which does not show others' processes to this user, or a capture
    /// that does not have them.
    #[must_use]
    pub fn hidden_processes(&self) -> Option<Gap> {
        if let Some(gap) = self.uncaptured() {
            return Some(gap);
        }
        self.host.hides_processes().then(|| {
            let why = "mounted with hidepid: other users' processes are not shown";
            let remedy = Some("run as root: sudo whose ...");
            Gap::new(what::PROCESS, Class::Forbidden, self.host.shown(b"proc"), why, remedy)
        })
    }

    /// Reads what is needed of one process. `None` when there is no such process, or it ended
    /// while it was read.
    ///
    /// # Errors
    /// When it may not be looked at at all (`hidepid`).
    pub fn row(&mut self, pid: u32, needs: Needs) -> Result<Option<Row>, ReadError> {
        let dir = match self.host.process(pid) {
            Ok(dir) => dir,
            Err(e) if e.class == Class::Gone => return Ok(None),
            Err(e) => return Err(e),
        };
        let entry = Entry::opened(self.host, dir);
        let Some(mut row) = self.begin(&entry, needs)? else {
            return Ok(None);
        };
        self.prefetch_slow(&row, needs);
        if !self.finish(&entry, &mut row, needs)? {
            return Ok(None);
        }
        self.read_slow(std::slice::from_mut(&mut row), needs);
        self.describe_rows(std::slice::from_mut(&mut row), needs);
        // All reads hung off one descriptor; this says whether the process outlived them.
        let still = entry.dir().and_then(|dir| dir.still(row.process.start_ticks()));
        let gone = still.is_err_and(|e| e.class == Class::Gone);
        if gone && !self.host.is_loose() {
            return Ok(None);
        }
        Ok(Some(row))
    }

    /// The first stage: facts of the process itself. `None` when it is gone.
    ///
    /// # Errors
    /// When it may not be looked at at all.
    fn begin(&self, entry: &Entry<'_>, needs: Needs) -> Result<Option<Row>, ReadError> {
        match facts::load(self.host, entry, needs) {
            Ok(process) => Ok(Some(Row { process, membership: Fact::Unasked })),
            Err(e) if e.class == Class::Gone => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The second stage: membership, and what only the process's own directory shows. False when
    /// the process is gone.
    ///
    /// # Errors
    /// None of its own; a forbidden read is a gap of the row.
    fn finish(
        &mut self,
        entry: &Entry<'_>,
        row: &mut Row,
        needs: Needs,
    ) -> Result<bool, ReadError> {
        if needs.has(Needs::OWNER) {
            match self.membership(entry, &mut row.process, needs) {
                Ok(membership) => row.membership = Fact::Known(membership),
                Err(e) if e.class == Class::Gone && !self.host.is_loose() => {
                    return Ok(false);
                }
                Err(e) => {
                    let gap = Gap::from_read(what::MEMBERSHIP, &e);
                    let p = &mut row.process;
                    if p.cgroup_path == Fact::Unasked {
                        p.cgroup_path = Fact::Unread(gap.clone());
                    }
                    p.role = Fact::Unread(gap.clone());
                    row.membership = Fact::Unread(gap);
                }
            }
        }
        // Where a host process's binary lies is plain from its arguments; inside it is not.
        let inside = row.owner().is_some_and(|o| o.kind.contains() || o.kind == OwnerKind::Unknown);
        let needs = if inside { needs } else { needs.without(Needs::LINKS) };
        Ok(facts::load_rest(self.host, entry, &mut row.process, needs))
    }
}
