//! Whose a process is: evidence gathered, runtimes asked, the rest told apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use super::arbitrate::{Verdict, arbitrate};
use super::entry::Entry;
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

/// How the host itself looks: what PID 1 shows.
#[derive(Debug, Default)]
pub(super) struct HostReference {
    mount_namespace: Option<u64>,
    /// Device and directory of the root mount.
    root: Option<((u32, u32), BString)>,
}

/// What namespaces and mounts say of a process that no cgroup line claims.
enum Place {
    /// The host's own root file system and PID namespace, by this file.
    Host(&'static str, &'static str),
    /// A nested PID namespace, or another root.
    Inside(Evidence),
    /// Another root, but of a kind that services of the host have too.
    OtherRoot(Evidence),
    /// Nothing could be read.
    Unproven,
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
            if needs.has(Needs::EVIDENCE) {
                facts::load_status(self.host, entry, p, Needs::NONE)?;
                evidence.extend(nested_pids(self.host, p));
            }
        } else {
            self.place_outside(entry, p, needs, &mut chain, &mut evidence)?;
        }
        if let Some(part) = part {
            self.set_role(p, &part, &chain, contained);
        }
        Ok(Membership { chain, evidence })
    }

    fn set_role(&mut self, p: &mut Process, part: &Part, chain: &[Rc<Owner>], contained: bool) {
        p.serves = match (&part.role, &part.serves) {
            // The runtime on its way in works for the container it is about to become.
            (Some(_), _) if contained => chain.last().map(|o| o.id.clone()).into(),
            (Some(Role::Plumbing), Some(Serves::Id(id))) => Fact::Known(id.clone()),
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
        let chain = verdict.chain.iter().cloned().map(Rc::new).collect();
        let decision = Rc::new(Decision { verdict, chain, path });
        self.decisions.insert(key, Rc::clone(&decision));
        decision
    }

    /// Asks the runtimes what the process does for them. For root's processes the name counts, since
    /// only those can be plumbing.
    fn part(&mut self, p: &mut Process, lines: &Rc<Vec<Line>>, contained: bool) -> Part {
        let root = p.uid().is_none_or(|uid| uid == 0);
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

    /// What no runtime claims: a host process if that is shown, contained by nobody known, or null.
    fn place_outside(
        &mut self,
        entry: &Entry<'_>,
        p: &mut Process,
        needs: Needs,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) -> Result<(), ReadError> {
        let inner = chain.last();
        let is_unit = inner.is_some();
        let service = inner.filter(|o| o.kind == OwnerKind::Unit).and_then(|o| o.name.as_ref());
        let service = service.is_some_and(|name| name.ends_with_str(".service"));
        if p.status == Fact::Unasked && !entry.is_in_initial_pid_namespace()? {
            facts::load_status(self.host, entry, p, Needs::NONE)?;
        }
        let nested = p.nspid().is_some_and(|n| n.len() > 1);
        if p.is_dead() && (!is_unit || nested) {
            // A zombie's v1 lines all read `/`, whatever it belonged to.
            chain.clear();
            return self.zombie(p, chain, evidence);
        }
        match self.place(entry, p) {
            // What looks like the host is the container this runs in, or was captured in: units are
            // its own, and around them is what nobody here can see.
            Place::Host(..) if self.host.is_outermost() == Some(false) => {
                chain.insert(0, Rc::new(unknown(p)));
                let path = self.host.shown(b"proc/1/ns/pid");
                let detail = "this is not a host's own PID namespace";
                evidence.push(Evidence::agreeing(Source::Namespace, detail, path));
            }
            Place::Host(..) if chain.is_empty() && self.host.is_outermost().is_none() => {
                let why = "nothing shows whether this is a host or a container";
                let path = self.host.shown(b"proc/1/ns/pid");
                return Err(ReadError::new(path, Class::Unsupported, why));
            }
            Place::Host(detail, file) => {
                if chain.is_empty() {
                    chain.push(Rc::clone(&self.host_owner));
                }
                if needs.has(Needs::EVIDENCE) {
                    let file = path(self.host, p.pid, file);
                    evidence.push(Evidence::agreeing(Source::Mount, detail, file));
                }
            }
            // Services may have a root directory of their own and are no containers.
            Place::OtherRoot(seen) if service => evidence.push(seen),
            Place::Inside(seen) | Place::OtherRoot(seen) => {
                let told = match self.watched(p) {
                    // What can't be read of a monitor's may still be a step of a build.
                    Some((owner, above)) if owner.kind == OwnerKind::Unknown => {
                        self.build_step(entry, p).or(Some((owner, above)))
                    }
                    None => self.build_step(entry, p),
                    told => told,
                };
                if let Some((owner, above)) = told {
                    chain.push(Rc::new(owner));
                    evidence.extend([above, seen]);
                    return Ok(());
                }
                chain.push(Rc::new(unknown(p)));
                evidence.push(seen);
            }
            Place::Unproven if is_unit => {}
            Place::Unproven => {
                let why =
                    "the cgroup names no owner, and neither namespaces nor mounts could be read";
                return Err(ReadError::new(
                    path(self.host, p.pid, "cgroup"),
                    Class::Unsupported,
                    why,
                ));
            }
        }
        Ok(())
    }

    /// A zombie without a telling cgroup: its parent's container, if it shares the PID namespace
    /// depth or the parent is that container's shim. Otherwise nothing is known.
    fn zombie(
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

    fn place(&mut self, entry: &Entry<'_>, p: &Process) -> Place {
        if let Some(seen) = nested_pids(self.host, p) {
            return Place::Inside(seen);
        }
        let reference = self.reference.get_or_init(|| HostReference::read(self.host));
        let namespace = entry.mount_namespace();
        if namespace.is_some() && namespace == reference.mount_namespace {
            return Place::Host("in the host's mount namespace", "ns/mnt");
        }
        if namespace.is_some_and(|n| self.hosts_namespaces.contains(&n)) {
            return Place::Host("its root is the host's", "ns/mnt");
        }
        let Ok(mounts) = entry.dir().and_then(ProcDir::mountinfo) else {
            return Place::Unproven;
        };
        let Some(host_root) = &reference.root else {
            return Place::Unproven;
        };
        // A root reached by chroot has no line of its own; that alone contains nothing.
        let same =
            root_mount(&mounts).is_none_or(|m| (m.device, &m.root) == (host_root.0, &host_root.1));
        if same {
            // In the same namespace no other root is to be had but by chroot, which contains nothing.
            self.hosts_namespaces.extend(namespace);
            Place::Host("its root is the host's", "mountinfo")
        } else {
            self.other_root(p, &mounts)
        }
    }

    fn other_root(&self, p: &Process, mounts: &[Mount]) -> Place {
        let Some(root) = root_mount(mounts) else {
            return Place::Unproven;
        };
        let detail = format!("its root is {} {}", root.fs_type, root.root);
        let seen = Evidence::agreeing(Source::Mount, detail, path(self.host, p.pid, "mountinfo"));
        let layered = root.fs_type == "overlay" || root.fs_type.starts_with(b"fuse");
        if layered { Place::Inside(seen) } else { Place::OtherRoot(seen) }
    }
}

impl HostReference {
    fn read(host: &Host) -> Self {
        let mut reference = Self::default();
        if let Ok(init) = host.process(1) {
            reference.mount_namespace = init.namespace("mnt").ok();
            let mounts = init.mountinfo().ok();
            reference.root =
                mounts.as_deref().and_then(root_mount).map(|m| (m.device, m.root.clone()));
        }
        let own = host.mode() == Mode::Live || host.is_captured();
        if reference.root.is_none() && own {
            // PID 1 is hidden (hidepid): this process's own root stands in for the host's.
            let own = host.mounts().ok().and_then(root_mount);
            reference.root = own.map(|m| (m.device, m.root.clone()));
        }
        reference
    }
}

/// What nobody knows, by its place.
pub(super) fn unknown(p: &Process) -> Owner {
    let id = p.cgroup_path.known().map(|path| BString::clone(path)).unwrap_or_default();
    Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, id)
}

fn root_mount(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rfind(|m| m.point == "/")
}

fn path(host: &Host, pid: u32, file: &str) -> BString {
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

fn subject<'s>(p: &'s Process, lines: &'s [Line]) -> Subject<'s> {
    Subject {
        lines,
        comm: BStr::new(p.comm()),
        args: p.args.known().map(Vec::as_slice),
        uid: p.uid(),
        nspid: p.nspid(),
    }
}

fn nested_pids(host: &Host, p: &Process) -> Option<Evidence> {
    let pids = p.nspid().filter(|n| n.len() > 1)?;
    let inner: Vec<String> = pids[1..].iter().map(u32::to_string).collect();
    let detail = format!("pid {} in a nested PID namespace", inner.join(", "));
    Some(Evidence::agreeing(Source::Namespace, detail, path(host, p.pid, "status")))
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
