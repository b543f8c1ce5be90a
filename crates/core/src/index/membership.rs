//! Whose a process is: evidence gathered, runtimes asked, the rest told apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse};

use super::arbitrate::{Verdict, arbitrate};
use super::entry::Entry;
use super::place::nested_pids;
use super::watchers::is_unclaimed;
use super::{Index, facts, machines};
use crate::model::{Engine, Evidence, Fact, Membership, Owner, OwnerKind, Process, Role, Source};
use crate::runtime::{Claim, Level, Mine, REGISTRY, Runtime, Serves, Subject, nspawn};

/// The lines of a cgroup file, as what they are shared by: whoever was given the same ones is judged
/// once.
#[derive(Clone, Debug)]
pub(super) struct Shared(Rc<Vec<Line>>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

/// What is known by a cgroup text alone.
#[derive(Debug, Default)]
pub(super) struct Decision {
    verdict: Verdict,
    /// The verdict's chain.
    chain: Vec<Rc<Owner>>,
    /// The path that the answer rests on, else the v2 line's.
    path: Option<Rc<BString>>,
    /// It puts whoever has it into a container, and nothing else of him can tell more: unless he is below
    /// a monitor there.
    is_enough: bool,
}

/// A process's part in what its owner does.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    role: Option<Role>,
    serves: Option<Serves>,
    /// The runtime that says so.
    engine: Option<Engine>,
}

/// What is remembered of a process that others ask about.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    comm: BString,
}

impl Index<'_> {
    /// Whose a process is. Sets its cgroup path; its role and whom it serves when that is needed.
    ///
    /// # Errors
    /// When membership could not be read: null, and a gap.
    pub(super) fn membership(
        &mut self,
        entry: &Entry<'_>,
        p: &mut Process,
        needs: Needs,
    ) -> Result<Membership, ReadError> {
        if p.is_kernel() {
            p.role = Fact::Known(Role::Kernel);
            p.cgroup_path = Fact::Absent;
            let mut evidence = Vec::new();
            if needs.has(Needs::EVIDENCE) {
                let stat = path(self.host, p.pid, "stat");
                evidence.push(Evidence::agreeing(Source::Namespace, "a kernel thread", stat));
            }
            return Ok(Membership { chain: vec![Rc::clone(&self.host_owner)], evidence });
        }
        let lines = self.lines(entry)?;
        let decision = self.decide(p.pid, &lines);
        p.cgroup_path = decision.path.clone().into();
        p.cgroup = Fact::Known(Rc::clone(&lines));
        let mut contained = decision.verdict.is_contained();
        let mut chain = decision.chain.clone();
        if let Some(outermost) = chain.first().filter(|o| nspawn::is_shared(o)) {
            facts::load_status(self.host, entry, p, Needs::NONE)?;
            if machines::is_outside(outermost, p) {
                contained = false;
                chain.clear();
            } else {
                self.tell_machine(&mut chain, p);
            }
        }
        let mut part = None;
        if needs.has(Needs::ROLE) {
            facts::load_status(self.host, entry, p, Needs::NONE)?;
            part = Some(self.part(p, &lines, contained));
        }
        let mut evidence = Vec::new();
        if needs.has(Needs::EVIDENCE) {
            let file = path(self.host, p.pid, "cgroup");
            evidence = cgroup_evidence(&decision.verdict, &lines, &file);
            evidence.extend(chain.first().and_then(|o| self.name_evidence(o)));
        }
        if contained {
            self.tell_unclaimed(p, &mut chain, &mut evidence);
            if machines::may_be_in_another(&chain, &lines) {
                self.jailed_within(entry, p, &mut chain, &mut evidence);
            }
            if needs.has(Needs::EVIDENCE) {
                facts::load_status(self.host, entry, p, Needs::NONE)?;
                evidence.extend(nested_pids(self.host, p).or_else(|| self.with_host(entry)));
            }
        } else {
            self.place_outside(entry, p, needs, &mut chain, &mut evidence)?;
        }
        self.levels_within(entry, p, needs, &mut chain, &mut evidence);
        if let Some(part) = part {
            self.set_role(p, &part, &chain, contained);
        }
        Ok(Membership { chain, evidence })
    }

    fn set_role(&mut self, p: &mut Process, part: &Part, chain: &[Rc<Owner>], contained: bool) {
        p.serves = match (&part.role, &part.serves) {
            // The runtime on its way in works for the container it is about to become.
            (Some(_), _) if contained => chain.last().map(|o| o.id.clone()).into(),
            (Some(Role::Plumbing), Some(Serves::Id(id))) => {
                let own = (part.engine == Some(nspawn::ENGINE) && id == nspawn::PAYLOAD)
                    .then(|| self.served(p.pid));
                Fact::Known(own.flatten().unwrap_or_else(|| id.clone()))
            }
            (Some(Role::Plumbing), Some(Serves::Address(ip))) => {
                self.owner_of_address(ip.as_ref()).into()
            }
            _ => Fact::Absent,
        };
        let described = chain.last().is_some_and(|o| o.description().is_some());
        p.role = match part.role {
            Some(role) if contained => Fact::Known(role),
            _ if contained || described => Fact::Known(self.role_inside(p, chain)),
            role => role.or(outside_role(chain)).into(),
        };
    }

    /// The lines of a process's cgroup file; equal ones are the same ones.
    fn lines(&mut self, entry: &Entry<'_>) -> Result<Rc<Vec<Line>>, ReadError> {
        if let Some(known) = entry.cgroups() {
            return known.clone();
        }
        let dir = entry.dir()?;
        let text = dir.cgroup_text()?;
        if let Some(known) = self.texts.get(&text) {
            return Ok(Rc::clone(known));
        }
        let lines = Rc::new(dir.cgroup_lines(&text)?);
        self.texts.insert(text, Rc::clone(&lines));
        Ok(lines)
    }

    /// Whether the text alone says that a process of it is in a container.
    pub(super) fn names_a_container(&mut self, pid: u32, lines: &Rc<Vec<Line>>) -> bool {
        self.decide(pid, lines).verdict.is_contained()
    }

    /// Whether the text alone tells in which container a process of it is, unless that is below a monitor
    /// in there.
    pub(super) fn is_told_by_text(&mut self, pid: u32, lines: &Rc<Vec<Line>>) -> bool {
        self.decide(pid, lines).is_enough
    }

    /// The levels of a process that the text alone puts into a container.
    pub(super) fn container_chain(
        &mut self,
        pid: u32,
        lines: &Rc<Vec<Line>>,
    ) -> Option<Vec<Rc<Owner>>> {
        let decision = self.decide(pid, lines);
        let contains = decision.verdict.owner().is_some_and(|o| o.kind.contains());
        contains.then(|| decision.chain.clone())
    }

    /// Asks the runtimes whose the text is, or remembers what they said; `pid` is a process that
    /// shows it.
    fn decide(&mut self, pid: u32, lines: &Rc<Vec<Line>>) -> Rc<Decision> {
        let key = Shared(Rc::clone(lines));
        if let Some(known) = self.decisions.get(&key) {
            return Rc::clone(known);
        }
        let (distinct, places) = distinct(lines);
        let lines = lines.as_slice();
        let (comm, args, uid, nspid) = (BStr::new(""), None, None, None);
        let bare = Subject { lines: &distinct, comm, args, uid, nspid };
        let claim = |runtime: &&dyn Runtime| match runtime.claim(&bare) {
            Claim::Mine(mine) => Some(mine),
            Claim::NotMine | Claim::Need(_) => None, // asked for by the name alone, and it has none
        };
        let claims: Vec<Mine> = REGISTRY.iter().filter_map(claim).collect();
        let confirm = &mut |level: &Level| self.confirm(level, pid, &distinct);
        let mut verdict = arbitrate(&distinct, &claims, confirm);
        self.name_machine(&mut verdict.chain);
        verdict.line = verdict.line.map(|at| places[at]);
        verdict.against.iter_mut().for_each(|(at, _)| *at = places[*at]);
        let v2 = lines.iter().find(|l| l.is_v2()).or(lines.first());
        let path = verdict.line.map(|at| &lines[at]).or(v2).map(|l| Rc::new(l.path.clone()));
        let chain: Vec<_> = verdict.chain.iter().cloned().map(Rc::new).collect();
        let is_enough = verdict.owner().is_some_and(|owner| owner.kind.contains())
            && !chain.iter().any(|owner| nspawn::is_shared(owner) || is_unclaimed(owner))
            && !machines::may_be_in_another(&chain, lines);
        let decision = Rc::new(Decision { verdict, chain, path, is_enough });
        self.decisions.insert(key, Rc::clone(&decision));
        decision
    }

    /// Asks the runtimes what the process does for them. For root's processes the name counts, since
    /// only those can be plumbing.
    fn part(&mut self, p: &mut Process, lines: &Rc<Vec<Line>>, contained: bool) -> Part {
        let root = started_by(p).is_none_or(|uid| uid == 0);
        let comm: BString = if root { p.comm().into() } else { BString::default() };
        let key = (Shared(Rc::clone(lines)), comm);
        if let Some(known) = self.parts.get(&key) {
            return known.clone();
        }
        let mut part = Part::default();
        let mut asked_args = false;
        for runtime in REGISTRY {
            let mut claim = runtime.claim(&subject(p, lines));
            if let Claim::Need(needs) = claim {
                asked_args = true;
                self.fetch(p, needs);
                claim = runtime.claim(&subject(p, lines));
            }
            if let Claim::Mine(Mine { role: Some(role), serves, .. }) = claim {
                part = Part { role: Some(role), serves, engine: Some(runtime.engine()) };
                break;
            }
        }
        if contained && !p.comm().starts_with(b"runc:[") {
            // Whoever has a cgroup of his own can name what is below it after an engine's monitor.
            part = Part::default();
        }
        if !asked_args {
            self.parts.insert(key, part.clone());
        }
        part
    }

    /// Evidence that a runtime asked for.
    fn fetch(&self, p: &mut Process, needs: Needs) {
        if needs.has(Needs::CMDLINE) && p.args.known().is_none() && !p.is_dead() {
            let (pid, start_ticks) = p.reader();
            let ask = Ask { file: Slow::Cmdline, pid, start_ticks };
            if let Some(Ok(bytes)) = self.host.slow_reads(&[ask]).pop() {
                p.args = Fact::Known(parse::cmdline::parse(&bytes));
            }
        }
        if p.args.known().is_none() {
            // Asked for and not to be had: the runtime sees no arguments rather than ask for ever.
            p.args = Fact::Known(Vec::new());
        }
    }

    /// Init, exec or workload. Whether a child of the shim is init or exec'd only its PID inside
    /// tells, or the engine's state ([`Index::describe_rows`] settles those).
    fn role_inside(&mut self, p: &Process, chain: &[Rc<Owner>]) -> Role {
        let kind = chain.last().map(|o| o.kind);
        if kind == Some(OwnerKind::Sandbox) {
            return Role::Sandbox;
        }
        let nspid = p.nspid().unwrap_or_default();
        if nspid.len() > 1 && nspid.last() == Some(&1) {
            return Role::Init;
        }
        let ppid = p.stat.known().map_or(0, |s| s.ppid);
        match self.parent(ppid) {
            Some(parent)
                if parent.comm.starts_with(b"containerd-shim") || parent.comm == "conmon" =>
            {
                Role::Exec
            }
            _ => Role::Workload,
        }
    }

    fn parent(&mut self, pid: u32) -> Option<Parent> {
        let host = self.host;
        let read = || {
            let stat = host.process(pid).and_then(|p| p.stat()).ok()?;
            Some(Parent { comm: stat.comm })
        };
        self.parents.entry(pid).or_insert_with(read).clone()
    }

    /// A zombie without a telling cgroup: its parent's container, if it shares the PID namespace
    /// depth or the parent is that container's shim. Otherwise nothing is known.
    pub(super) fn zombie(
        &mut self,
        p: &Process,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) -> Result<(), ReadError> {
        let unproven = || {
            let why = "a zombie whose cgroup is gone, and its parent does not tell";
            Err(ReadError::new(path(self.host, p.pid, "cgroup"), Class::Unsupported, why))
        };
        let Some(stat) = p.stat.known().filter(|s| s.ppid > 0) else {
            return unproven();
        };
        let depth = p.nspid().map_or(0, <[u32]>::len);
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        let Ok(dir) = self.host.process(stat.ppid) else {
            return unproven();
        };
        let above = Entry::opened(self.host, dir);
        let Some(mut parent) = self.begin(&above, needs)? else {
            return unproven();
        };
        if parent.process.is_dead() || !self.finish(&above, &mut parent, needs)? {
            return unproven();
        }
        let seen = |detail: String| {
            Evidence::agreeing(Source::Ancestry, detail, path(self.host, p.pid, "stat"))
        };
        let same_depth = parent.process.nspid().map_or(0, <[u32]>::len) == depth && depth > 0;
        let contained = parent.owner().is_some_and(|o| o.kind.contains());
        if contained && same_depth {
            let owners = parent.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
            chain.extend(owners.iter().cloned());
            evidence.push(seen(format!("child of {} in it", stat.ppid)));
            return Ok(());
        }
        let lines = parent.process.cgroup.known().cloned().unwrap_or_default();
        let shim = self.part(&mut parent.process, &lines, contained);
        if let (Some(Serves::Id(id)), Some(engine), true) = (&shim.serves, shim.engine, depth > 1) {
            chain.push(Rc::new(Owner::new(OwnerKind::Container, engine, id.clone())));
            evidence.push(seen(format!("child of its shim {}", stat.ppid)));
            return Ok(());
        }
        unproven()
    }
}

pub(super) fn path(host: &Host, pid: u32, file: &str) -> BString {
    host.shown(format!("proc/{pid}/{file}").as_bytes())
}

/// The lines that say different things, and where each stands: v1 hierarchies mostly repeat each other.
/// Of those alike systemd's own counts, since it is the first to be asked.
fn distinct(lines: &[Line]) -> (Vec<Line>, Vec<usize>) {
    let mut places: Vec<usize> = Vec::new();
    let mut known: HashMap<(&BString, bool), usize> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        match known.entry((&line.path, line.is_v2())) {
            Vacant(new) => {
                new.insert(places.len());
                places.push(at);
            }
            Occupied(old) => {
                let place = &mut places[*old.get()];
                if is_systemds(line) && !is_systemds(&lines[*place]) {
                    *place = at;
                }
            }
        }
    }
    (places.iter().map(|at| lines[*at].clone()).collect(), places)
}

fn is_systemds(line: &Line) -> bool {
    line.has_controller(b"name=systemd")
}

/// Whose a process is. Of root's setuid programs he who started it, since he chooses what it is called.
fn started_by(p: &Process) -> Option<u32> {
    p.status.known().map(|status| if status.euid == 0 { status.ruid } else { status.euid })
}

fn subject<'s>(p: &'s Process, lines: &'s [Line]) -> Subject<'s> {
    Subject {
        lines,
        comm: BStr::new(p.comm()),
        args: p.args.known().map(Vec::as_slice),
        uid: started_by(p),
        nspid: p.nspid(),
    }
}

fn cgroup_evidence(verdict: &Verdict, lines: &[Line], file: &BString) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let named = verdict.line.map(|l| &lines[l]);
    if let Some(line) = named {
        evidence.push(Evidence::agreeing(Source::Cgroup, line.path.clone(), file.clone()));
    }
    for (at, _) in &verdict.against {
        evidence.push(Evidence::against(Source::Cgroup, lines[*at].path.clone(), file.clone()));
    }
    evidence
}

fn outside_role(chain: &[Rc<Owner>]) -> Option<Role> {
    match chain.last()?.kind {
        OwnerKind::Unit | OwnerKind::Session | OwnerKind::Host => Some(Role::Host),
        OwnerKind::Container => Some(Role::Workload), // a zombie, by its parent
        _ => Some(Role::Workload),
    }
}
