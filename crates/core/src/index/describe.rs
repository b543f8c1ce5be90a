//! From owners as the kernel shows them to owners with names and states.

use std::rc::Rc;

use bstr::{BStr, ByteSlice};
use whose_fields::Needs;
use whose_kernel::Class;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::read::cgroup_tree;

use super::Index;
use crate::model::gap::what;
use crate::model::{
    ContainerState, Described, Description, Evidence, Fact, Gap, Owner, OwnerKind, Role, Row,
    Source,
};
use crate::runtime::{by_engine, nspawn};

/// What a description may lack.
const DETAILS: Needs = Needs::DESCRIBED.without(Needs::DESCRIPTION);
/// How much of an owner is told.
const DEPTH: Needs = DETAILS.and(Needs::LIVENESS);

/// What was found about a container's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// It has some: this process is one.
    Has(u32),
    /// It has none.
    None,
    /// It could not be read.
    Unread,
}

impl Index<'_> {
    /// Describes the owners of all rows, each once.
    pub(super) fn describe_rows(&mut self, rows: &mut [Row], needs: Needs) {
        for row in rows.iter_mut().filter(|_| needs.has(Needs::ROLE)) {
            self.settle_sandbox_role(row);
            self.settle_helper_role(row);
        }
        if !needs.has(Needs::DESCRIPTION) {
            return;
        }
        for row in rows {
            let pid = row.process.pid;
            let Fact::Known(membership) = &mut row.membership else {
                continue;
            };
            let depth = needs.only(DEPTH);
            for at in 0..membership.chain.len() {
                let owner = Rc::clone(&membership.chain[at]);
                if !self.can_be_described(&owner) {
                    continue;
                }
                let place = (Rc::as_ptr(&owner), depth);
                if let Some((_, known)) = self.described.get(&place) {
                    membership.chain[at] = Rc::clone(known);
                    continue;
                }
                // What runs inside it shows another engine's files than its own do.
                let is_outer = membership.chain.iter().any(|o| o.within == owner.id);
                let member = is_outer.then(|| self.process_in(owner.id.as_ref(), pid));
                let member = member.flatten().unwrap_or(pid);
                let described = self.described(&owner, Members::Has(member), needs);
                membership.chain[at] = Rc::clone(&described);
                self.described.insert(place, (owner, described));
            }
            self.name_pods(&mut membership.chain);
            let Some(owner) = membership.chain.last().cloned() else {
                continue;
            };
            if needs.has(Needs::EVIDENCE) {
                membership.evidence.extend(pod_evidence(&owner));
                let unproven = unproven(&owner, &membership.evidence);
                membership.evidence.extend(unproven);
            }
            if let Some(description) = owner.description().filter(|_| needs.has(Needs::EVIDENCE)) {
                let name = owner.best_name().map(|name| name.as_bstr());
                membership.evidence.extend(description.evidence(owner.runtime, name));
                let believed = description.believed;
                let stopped =
                    [ContainerState::Exited, ContainerState::Created, ContainerState::Dead];
                if believed.is_some_and(|b| stopped.contains(&b)) {
                    let detail =
                        format!("it says {}", description.engine_state.unwrap_or("stopped"));
                    let (source, path) = (description.source(), description.path.clone());
                    membership.evidence.push(Evidence::against(source, detail, path));
                }
            }
            settle_role(row, &owner);
        }
    }

    /// Whether something may tell more of an owner: a state, or a daemon.
    pub(super) fn can_be_described(&self, owner: &Owner) -> bool {
        let runtime = || by_engine(owner.runtime);
        let has_state = || runtime().is_some_and(|r| r.has_state());
        let is_heard =
            || self.asking.is_some() && runtime().is_some_and(|r| !r.services().is_empty());
        match owner.kind {
            OwnerKind::Container | OwnerKind::Sandbox => true,
            kind => kind.contains() && (has_state() || is_heard()),
        }
    }

    /// The owner with its description, and its state when that is asked for.
    pub(super) fn described(&mut self, owner: &Owner, members: Members, needs: Needs) -> Rc<Owner> {
        let depth = needs.only(DEPTH);
        let user = owner.description().and_then(|d| d.user.clone());
        let name = super::containers::name_in_key(owner);
        let place = [owner.cgroup.clone(), owner.within.clone()];
        let key = (owner.runtime, name, place, user, depth);
        if let Some(known) = self.owners.get(&key) {
            return Rc::clone(known);
        }
        let mut owner = owner.clone();
        let hint = match members {
            Members::Has(pid) => Some(pid),
            Members::None | Members::Unread => None,
        };
        match &owner.described {
            Described::No => {
                owner.described = match self.description_for(&owner, hint, needs) {
                    None => Described::No,
                    Some(Ok(description)) => Described::Yes(Box::new(description)),
                    // Who registered nothing is not missing from what was registered.
                    Some(Err(gap)) if gap.class == Class::Gone && is_registered(&owner) => {
                        Described::No
                    }
                    // What only a daemon could have told was not asked of a state.
                    Some(Err(_)) if !is_kept(&owner) => Described::No,
                    Some(Err(gap)) => Described::Unread(gap),
                };
            }
            // By whom it was found out, who needed no more of it than whose it is.
            Described::Yes(known) if hint.is_some() && !needs.only(DETAILS).is_empty() => {
                let told = self.description_for(&owner, hint, needs);
                let whole = told.and_then(Result::ok);
                let is_it = |d: &Description| d.path == known.path && d.user == known.user;
                if let Some(whole) = whole.filter(is_it) {
                    owner.described = Described::Yes(Box::new(whole));
                }
            }
            Described::Yes(_) | Described::Unread(_) => {}
        }
        owner.adopt();
        owner.seen_pod = self.seen_pod(&owner, hint);
        if needs.has(Needs::LIVENESS) {
            owner.state = match self.unseen(&owner, members) {
                Some(gap) => Fact::Unread(gap),
                None => self.state(&owner, members),
            };
            owner.init_pid = self.init_pid(&owner, members);
        }
        let owner = Rc::new(owner);
        self.owners.insert(key, Rc::clone(&owner));
        owner
    }

    /// The gap in the state of a container that its engine says runs, and of which nothing may be seen
    /// here: it is in another container's sandbox.
    fn unseen(&mut self, owner: &Owner, members: Members) -> Option<Gap> {
        let runs = owner.description().is_some_and(Description::is_believed_up);
        let hidden = (runs && members == Members::None).then(|| self.hidden(owner, None))??;
        Some(hidden.gap().of(what::STATE))
    }

    /// A container around another one: it runs, since something in it does.
    pub fn outer(&mut self, owner: &Owner) -> Rc<Owner> {
        let member = self.outer_process(owner.id.as_ref());
        self.described(owner, member.map_or(Members::Unread, Members::Has), Needs::DESCRIBED)
    }

    /// The state. The kernel's facts win: processes there are, or none, or frozen ones.
    pub(super) fn state(&self, owner: &Owner, members: Members) -> Fact<ContainerState> {
        let believed = owner.description().and_then(|d| d.believed);
        match members {
            Members::Has(_) => match self.is_frozen(owner) {
                Ok(true) => Fact::Known(ContainerState::Paused),
                Ok(false) => Fact::Known(ContainerState::Running),
                Err(gap) => match believed {
                    Some(ContainerState::Paused) => Fact::Known(ContainerState::Paused),
                    Some(_) => Fact::Known(ContainerState::Running),
                    None => Fact::Unread(gap),
                },
            },
            Members::None => Fact::Known(match believed {
                Some(ContainerState::Running | ContainerState::Paused) => ContainerState::Exited,
                Some(other) => other,
                // Whoever keeps no word of what runs has started it again and again, or never.
                None if owner.kind == OwnerKind::Machine => ContainerState::Exited,
                None => ContainerState::Unknown,
            }),
            Members::Unread => {
                let why = "whether it has processes could not be read";
                Fact::Unread(Gap::new(
                    what::STATE,
                    Class::Unsupported,
                    owner.cgroup.clone(),
                    why,
                    None,
                ))
            }
        }
    }

    /// Whether the owner's processes are frozen: by its own line's hierarchy on v2, by the freezer
    /// at the same path on v1.
    fn is_frozen(&self, owner: &Owner) -> Result<bool, Gap> {
        let gap = |e: &whose_kernel::ReadError| Gap::from_read(what::STATE, e);
        let hierarchies = self.hierarchies().map_err(|e| gap(&e))?;
        // Without a cgroup of its own it is in that of the container around it.
        let base =
            (owner.cgroup.is_empty() && !owner.within.is_empty()).then(|| self.base_of(owner));
        let base = base.flatten();
        let owner = base.as_ref().unwrap_or(owner);
        let own = Line {
            hierarchy: u32::from(!owner.hierarchy.is_empty()),
            controllers: owner.hierarchy.clone(),
            path: owner.cgroup.clone(),
            deleted: false,
        };
        let freezer = hierarchies
            .iter()
            .filter(|h| (h.v2 && h.holds(&own)) || h.controllers.iter().any(|c| c == "freezer"));
        let mut problem = None;
        let mut read = false;
        for hierarchy in freezer {
            match cgroup_tree::is_frozen(self.host, hierarchy, &owner.cgroup) {
                Ok(true) => return Ok(true),
                Ok(false) => read = true,
                Err(e) if e.class == Class::Gone => {}
                Err(e) => problem = Some(gap(&e)),
            }
        }
        match problem {
            Some(gap) if !read => Err(gap),
            None if !read => {
                let why = "no freezer is mounted for it";
                Err(Gap::new(what::STATE, Class::Unsupported, owner.cgroup.clone(), why, None))
            }
            _ => Ok(false),
        }
    }

    /// The init process: the engine's word for it, if that process is in the container's cgroup.
    fn init_pid(&mut self, owner: &Owner, members: Members) -> Fact<u32> {
        if members == Members::None {
            return Fact::Absent;
        }
        let believed = match &owner.described {
            Described::Yes(description) => description,
            Described::Unread(gap) => return Fact::Unread(gap.clone()),
            Described::No => return Fact::Absent,
        };
        let Some(pid) = believed.pid else {
            let is_machine = owner.kind == OwnerKind::Machine;
            return is_machine.then(|| self.machine_init(owner)).flatten().into();
        };
        if believed.pid_start.is_some() {
            // Another process may have its PID by now, even in the same container.
            let stat = self.host.process(pid).and_then(|p| p.stat());
            if !stat.is_ok_and(|s| believed.is_init(pid, s.start_ticks)) {
                return Fact::Absent;
            }
        }
        if members == Members::Has(pid) {
            return Fact::Known(pid);
        }
        let is_own = |line: &Line| match owner.is_chosen() {
            // A short name is in many a path.
            true => !owner.cgroup.is_empty() && strip(&owner.cgroup, &line.path).is_some(),
            false => line.segments().any(|s| s.contains_str(&owner.id)),
        };
        let lines = self.host.process(pid).and_then(|p| p.cgroup());
        let is_member = lines.is_ok_and(|lines| lines.iter().any(is_own));
        // Without a cgroup of its own a container's processes are those below its monitor.
        let is_below = |index: &mut Self| match owner.kind {
            OwnerKind::App => index.is_in(pid, owner.key().as_ref()),
            _ => index.is_watched(pid, owner),
        };
        let is_member = is_member || (owner.cgroup.is_empty() && is_below(self));
        is_member.then_some(pid).into()
    }
}

/// Whether nobody keeps word of such a machine or job but while it runs, or of such a sandbox but if it was named.
pub(super) fn is_registered(owner: &Owner) -> bool {
    [nspawn::ENGINE.0, "libvirt-lxc", "apptainer", "slurm"].contains(&owner.runtime.0)
}

/// Whether a state has such an owner.
fn is_kept(owner: &Owner) -> bool {
    owner.kind != OwnerKind::Machine || by_engine(owner.runtime).is_some_and(|r| r.has_state())
}

/// What is said of an owner's pod, as evidence: by the kubelet's files, and by an engine's state when
/// the cgroup says otherwise.
#[must_use]
pub fn pod_evidence(owner: &Owner) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    if let Some(seen) = owner.seen_pod.known() {
        let detail = match owner.pod().and_then(|p| p.full_name()) {
            Some(_) => format!("the kubelet calls it {}", owner.label()),
            None => "the kubelet has its pod".into(),
        };
        evidence.push(Evidence::agreeing(seen.source, detail, seen.path.clone()));
    }
    let uid = owner.pod_uid.as_ref();
    let told = owner.description().and_then(|d| Some((d, d.pod.as_ref()?)));
    if let Some((description, pod)) = told.filter(|(_, pod)| !pod.is_of(uid)) {
        let other = pod.uid.as_ref().map_or(BStr::new(b""), |u| u.as_bstr());
        let detail = format!("it says pod {other}");
        let path = description.path.clone();
        evidence.push(Evidence::against(Source::StateFile, detail, path));
    }
    evidence
}

/// What is said where nothing but a cgroup's name puts a process of the host's namespaces into a
/// container: anyone who may make cgroups can call them so.
fn unproven(owner: &Owner, evidence: &[Evidence]) -> Option<Evidence> {
    if !owner.kind.contains() || owner.description().is_some() {
        return None;
    }
    let namespace = evidence.iter().find(|e| e.source == Source::Namespace && !e.agrees)?;
    let detail = format!("not proven: only a cgroup's name says {}", owner.runtime.0);
    Some(Evidence::against(Source::Namespace, detail, namespace.path.clone()))
}

/// What only the engine's word for the init process settles: with `--pid=host` init has no PID of
/// its own inside, with a joined PID namespace it is not 1.
fn settle_role(row: &mut Row, owner: &Owner) {
    let Fact::Known(role @ (Role::Exec | Role::Workload | Role::Init)) = row.process.role else {
        return;
    };
    if owner.kind == OwnerKind::Sandbox {
        row.process.role = Fact::Known(Role::Sandbox);
    }
    if owner.kind != OwnerKind::Container {
        return;
    }
    let Some(description) = owner.description() else {
        // Without it, a child of the shim may be init as well as exec'd.
        if role == Role::Exec {
            row.process.role = Fact::Known(Role::Workload);
        }
        return;
    };
    if description.is_init(row.process.pid, row.process.start_ticks()) {
        row.process.role = Fact::Known(Role::Init);
    }
}
