//! Whose a process is: evidence gathered, runtimes asked, the rest told apart.

use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::cgroup::Line;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use super::Index;
use super::arbitrate::{Verdict, arbitrate};
use crate::model::{Engine, Evidence, Fact, Membership, Owner, OwnerKind, Process, Role, Source};
use crate::runtime::{Claim, Mine, REGISTRY, Serves, Subject};

/// What decides a verdict: the cgroup text, and for root's processes the name too, since only those
/// can be plumbing.
pub(super) type Key = (Vec<Line>, BString);

/// A verdict with what the runtimes say of the process's part.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision {
    verdict: Verdict,
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
    /// The host's own root file system and PID namespace.
    Host(Evidence),
    /// A nested PID namespace, or another root.
    Inside(Evidence),
    /// Another root, but of a kind that services of the host have too.
    OtherRoot(Evidence),
    /// Nothing could be read.
    Unproven,
}

impl Index<'_> {
    /// Whose a process is. Sets its cgroup path, role and whom it serves.
    ///
    /// # Errors
    /// When membership could not be read: null, and a gap.
    pub(super) fn membership(
        &mut self,
        dir: &ProcDir<'_>,
        p: &mut Process,
    ) -> Result<Membership, ReadError> {
        if p.is_kernel() {
            p.role = Fact::Known(Role::Kernel);
            p.cgroup_path = Fact::Absent;
            let seen = Evidence::agreeing(
                Source::Namespace,
                "a kernel thread",
                path(self.host, p.pid, "stat"),
            );
            return Ok(Membership { chain: vec![Rc::new(Owner::host())], evidence: vec![seen] });
        }
        let lines = dir.cgroup()?;
        let v2 = lines.iter().find(|l| l.is_v2()).or(lines.first());
        p.cgroup_path = v2.map(|l| l.path.clone()).into();
        let decision = self.decide(p, &lines);
        if let Some(line) = decision.verdict.line {
            p.cgroup_path = Fact::Known(lines[line].path.clone());
        }
        let file = path(self.host, p.pid, "cgroup");
        let mut evidence = cgroup_evidence(&decision.verdict, &lines, &file);
        let mut chain = decision.verdict.chain.clone();
        p.cgroup = Fact::Known(lines);
        p.serves = match (&decision.role, &decision.serves) {
            (Some(Role::Plumbing), Some(Serves::Id(id))) => Fact::Known(id.clone()),
            (Some(Role::Plumbing), Some(Serves::Address(ip))) => {
                self.owner_of_address(ip.as_ref()).into()
            }
            _ => Fact::Absent,
        };
        if decision.verdict.is_contained() {
            if decision.role.is_some() {
                // The runtime on its way in works for the container it is about to become.
                p.role = decision.role.into();
                p.serves = chain.last().map(|o| o.id.clone()).into();
            } else {
                p.role = Fact::Known(self.role_inside(p, &chain));
            }
            if let Some(seen) = nested_pids(self.host, p) {
                evidence.push(seen);
            }
        } else {
            self.place_outside(dir, p, &mut chain, &mut evidence)?;
            p.role = match chain.last() {
                Some(owner) if owner.description().is_some() => {
                    Fact::Known(self.role_inside(p, &chain))
                }
                _ => decision.role.or(outside_role(&chain)).into(),
            };
        }
        Ok(Membership { chain: chain.into_iter().map(Rc::new).collect(), evidence })
    }

    /// Asks the runtimes, or remembers what they said of the same text.
    fn decide(&mut self, p: &mut Process, lines: &[Line]) -> Rc<Decision> {
        let root = p.uid().is_none_or(|uid| uid == 0);
        let comm: BString = if root { p.comm().into() } else { BString::default() };
        let key = (lines.to_vec(), comm);
        if let Some(known) = self.decisions.get(&key) {
            return Rc::clone(known);
        }
        let mut claims: Vec<Mine> = Vec::new();
        let mut decision = Decision::default();
        let mut asked_args = false;
        for runtime in REGISTRY {
            let mut claim = runtime.claim(&subject(p, lines));
            if let Claim::Need(needs) = claim {
                asked_args = true;
                self.fetch(p, needs);
                claim = runtime.claim(&subject(p, lines));
            }
            if let Claim::Mine(mine) = claim {
                if decision.role.is_none() && mine.role.is_some() {
                    decision.role = mine.role;
                    decision.serves.clone_from(&mine.serves);
                    decision.engine = Some(runtime.engine());
                }
                claims.push(mine);
            }
        }
        let pid = p.pid;
        let entering = p.comm().starts_with(b"runc:[");
        decision.verdict = arbitrate(lines, &claims, &mut |level| self.confirm(level, pid, lines));
        if decision.verdict.is_contained() && !entering {
            // Whoever has a cgroup of his own can name what is below it after an engine's monitor.
            decision.role = None;
            decision.serves = None;
        }
        let decision = Rc::new(decision);
        if !asked_args {
            self.decisions.insert(key, Rc::clone(&decision));
        }
        decision
    }

    /// Evidence that a runtime asked for.
    fn fetch(&self, p: &mut Process, needs: Needs) {
        if needs.has(Needs::CMDLINE) && p.args.known().is_none() && !p.is_dead() {
            let ask = Ask { file: Slow::Cmdline, pid: p.pid, start_ticks: p.start_ticks() };
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
    fn role_inside(&mut self, p: &Process, chain: &[Owner]) -> Role {
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
            Some(parent) if parent.comm.starts_with(b"containerd-shim") => Role::Exec,
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
        dir: &ProcDir<'_>,
        p: &Process,
        chain: &mut Vec<Owner>,
        evidence: &mut Vec<Evidence>,
    ) -> Result<(), ReadError> {
        let unit = chain.last().map(|o| (o.kind, o.name.clone()));
        let nested = p.nspid().is_some_and(|n| n.len() > 1);
        if p.is_dead() && (unit.is_none() || nested) {
            // A zombie's v1 lines all read `/`, whatever it belonged to.
            chain.clear();
            return self.zombie(p, chain, evidence);
        }
        let service =
            matches!(&unit, Some((OwnerKind::Unit, Some(n))) if n.ends_with_str(".service"));
        match self.place(dir, p) {
            // What looks like the host is the container this runs in, or was captured in: units are
            // its own, and around them is what nobody here can see.
            Place::Host(_) if self.host.is_outermost() == Some(false) => {
                let id = p.cgroup_path.known().cloned().unwrap_or_default();
                chain.insert(0, Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, id));
                let path = self.host.shown(b"proc/1/ns/pid");
                let detail = "this is not a host's own PID namespace";
                evidence.push(Evidence::agreeing(Source::Namespace, detail, path));
            }
            Place::Host(_) if chain.is_empty() && self.host.is_outermost().is_none() => {
                let why = "nothing shows whether this is a host or a container";
                let path = self.host.shown(b"proc/1/ns/pid");
                return Err(ReadError::new(path, Class::Unsupported, why));
            }
            Place::Host(seen) => {
                if chain.is_empty() {
                    chain.push(Owner::host());
                }
                evidence.push(seen);
            }
            // Services may have a root directory of their own and are no containers.
            Place::OtherRoot(seen) if service => evidence.push(seen),
            Place::Inside(seen) | Place::OtherRoot(seen) => {
                if let Some((owner, above)) = self.watched(p) {
                    chain.push(owner);
                    evidence.extend([above, seen]);
                    return Ok(());
                }
                let id = p.cgroup_path.known().cloned().unwrap_or_default();
                chain.push(Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, id));
                evidence.push(seen);
            }
            Place::Unproven if unit.is_some() => {}
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
        chain: &mut Vec<Owner>,
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
        let Some(mut parent) = self.begin(&dir, needs)? else {
            return unproven();
        };
        if parent.process.is_dead() || !self.finish(&dir, &mut parent, needs)? {
            return unproven();
        }
        let seen = |detail: String| {
            Evidence::agreeing(Source::Ancestry, detail, path(self.host, p.pid, "stat"))
        };
        let same_depth = parent.process.nspid().map_or(0, <[u32]>::len) == depth && depth > 0;
        let contained = parent.owner().is_some_and(|o| o.kind.contains());
        if contained && same_depth {
            let owners = parent.membership.known().map(|m| m.chain.as_slice()).unwrap_or_default();
            chain.extend(owners.iter().map(|o| Owner::clone(o)));
            evidence.push(seen(format!("child of {} in it", stat.ppid)));
            return Ok(());
        }
        let lines = parent.process.cgroup.known().cloned().unwrap_or_default();
        let shim = self.decide(&mut parent.process, &lines);
        if let (Some(Serves::Id(id)), Some(engine), true) = (&shim.serves, shim.engine, depth > 1) {
            chain.push(Owner::new(OwnerKind::Container, engine, id.clone()));
            evidence.push(seen(format!("child of its shim {}", stat.ppid)));
            return Ok(());
        }
        unproven()
    }

    fn place(&mut self, dir: &ProcDir<'_>, p: &Process) -> Place {
        if let Some(seen) = nested_pids(self.host, p) {
            return Place::Inside(seen);
        }
        let host_seen = |detail: &str, file: &str| {
            Place::Host(Evidence::agreeing(Source::Mount, detail, path(self.host, p.pid, file)))
        };
        let reference = self.reference.get_or_init(|| HostReference::read(self.host));
        let namespace = dir.namespace("mnt").ok();
        if namespace.is_some() && namespace == reference.mount_namespace {
            return host_seen("in the host's mount namespace", "ns/mnt");
        }
        if namespace.is_some_and(|n| self.hosts_namespaces.contains(&n)) {
            return host_seen("its root is the host's", "ns/mnt");
        }
        let Ok(mounts) = dir.mountinfo() else {
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
            host_seen("its root is the host's", "mountinfo")
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

fn root_mount(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rfind(|m| m.point == "/")
}

fn path(host: &Host, pid: u32, file: &str) -> BString {
    host.shown(format!("proc/{pid}/{file}").as_bytes())
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

fn outside_role(chain: &[Owner]) -> Option<Role> {
    match chain.last()?.kind {
        OwnerKind::Unit | OwnerKind::Session | OwnerKind::Host => Some(Role::Host),
        OwnerKind::Container => Some(Role::Workload), // a zombie, by its parent
        _ => Some(Role::Workload),
    }
}
