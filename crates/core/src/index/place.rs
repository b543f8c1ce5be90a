//! Where a process is that no cgroup puts into a container, by its namespaces and mounts.

use std::rc::Rc;

use bstr::{BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::{Class, Host, Mode, ReadError};

use super::entry::Entry;
use super::membership::path;
use super::{Index, facts};
use crate::model::gap::what;
use crate::model::{Described, Engine, Evidence, Fact, Gap, Owner, OwnerKind, Process, Source};

/// Ancestors looked at for the root of one in a root that mountinfo does not show.
const MOST_ANCESTORS: usize = 32;

/// Why nothing tells where a process is.
const UNREAD: &str = "the cgroup names no owner, and neither namespaces nor mounts could be read";
const ROOTLESS: &str =
    "the cgroup names no owner, and it is below a plain directory by chroot: nobody shows its root";

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
    /// Nothing that tells, and why.
    Unproven(&'static str),
}

impl Index<'_> {
    /// The host's own mount namespace, if it can be read.
    pub(super) fn hosts_mounts(&self) -> Option<u64> {
        self.reference.get_or_init(|| HostReference::read(self.host)).mount_namespace
    }

    /// What speaks against a container around a process: it has the host's own namespaces, or mounts of its own
    /// with the host's root, as anybody can have them.
    pub(super) fn with_host(&self, entry: &Entry<'_>) -> Option<Evidence> {
        let own = entry.mount_namespace();
        if own.is_some() && own == self.hosts_mounts() {
            let path = path(self.host, entry.pid(), "ns/mnt");
            let detail = format!("in the host's mount namespace {}", own?);
            return Some(Evidence::against(Source::Namespace, detail, path));
        }
        let reference = self.reference.get_or_init(|| HostReference::read(self.host));
        let (device, dir) = reference.root.as_ref()?;
        let root = entry.mounts().ok().and_then(|mounts| root_mount(mounts))?;
        let link = entry.dir().and_then(|dir| dir.link_text("root")).ok()?;
        if root.device != *device || root.root != *dir || link != "/" {
            return None;
        }
        let path = path(self.host, entry.pid(), "mountinfo");
        Some(Evidence::against(Source::Namespace, "its root is the host's", path))
    }

    /// What no runtime claims: a host process if that is shown, contained by nobody known, or null.
    pub(super) fn place_outside(
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
                self.around_all(p, chain, evidence);
            }
            Place::Host(..) if chain.is_empty() && self.host.is_outermost().is_none() => {
                let why = "nothing shows whether this is a host or a container";
                let path = self.host.shown(b"proc/1/ns/pid");
                return Err(ReadError::new(path, Class::Unsupported, why));
            }
            Place::Host(..) if self.jail_around(entry, p, chain, evidence)? => {
                evidence.extend(nested_pids(self.host, p));
            }
            Place::Host(detail, file) => {
                if chain.is_empty() {
                    chain.push(Rc::clone(&self.host_owner));
                }
                if needs.has(Needs::EVIDENCE) {
                    let file = path(self.host, p.pid, file);
                    evidence.push(Evidence::agreeing(Source::Mount, detail, file));
                    let nested = nested_pids(self.host, p);
                    evidence.extend(nested.map(|seen| Evidence { agrees: false, ..seen }));
                }
            }
            // Services may have a root directory of their own and are no containers.
            Place::OtherRoot(seen) if service => {
                if self.host.is_outermost() == Some(false) {
                    self.around_all(p, chain, evidence);
                }
                evidence.push(seen);
            }
            Place::Inside(seen) | Place::OtherRoot(seen) => {
                self.place_inside(entry, p, seen, chain, evidence);
            }
            Place::Unproven(_) if is_unit => {}
            Place::Unproven(why) => {
                // Root is shown more.
                if let Err(e) = entry.read_mount_namespace()
                    && e.class == Class::Forbidden
                {
                    return Err(e);
                }
                return Err(ReadError::new(
                    path(self.host, p.pid, "cgroup"),
                    Class::Unsupported,
                    why,
                ));
            }
        }
        Ok(())
    }

    /// Adds what is around all that can be seen here.
    fn around_all(&self, p: &Process, chain: &mut Vec<Rc<Owner>>, evidence: &mut Vec<Evidence>) {
        chain.insert(0, Rc::new(unknown(p)));
        let path = self.host.shown(b"proc/1/ns/pid");
        let detail = "this is not a host's own PID namespace";
        evidence.push(Evidence::agreeing(Source::Namespace, detail, path));
    }

    /// Who is contained, and by whom: a monitor above says it, a namespace that a container has, a program
    /// that makes sandboxes; else nobody knows.
    fn place_inside(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
        seen: Evidence,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) {
        // What a monitor says that can't be read may be something else as well.
        let (sure, doubtful) = match self.watched(p) {
            Some(told) if told.0.kind == OwnerKind::Unknown => (None, Some(told)),
            told => (told, None),
        };
        let joined = if sure.is_none() { self.joined(entry) } else { None };
        if let Some((joined, shared)) = joined {
            // Its cgroup says otherwise: it came there from elsewhere, or was moved.
            evidence.retain(|e| e.source != Source::Cgroup);
            *chain = joined;
            evidence.extend([shared, seen]);
            let own = p.cgroup_path.known().map(|path| BString::clone(path)).unwrap_or_default();
            let file = path(self.host(), p.pid, "cgroup");
            evidence.push(Evidence::against(Source::Cgroup, own, file));
            return;
        }
        // What anybody can mount and call himself comes after what the kernel says.
        let (told, unread) = match sure.or_else(|| self.build_step(entry, p)) {
            Some(told) => (Some(told), None),
            None => match self.jailed(entry, p, false) {
                Ok(told) => (told, None),
                Err(e) => (None, Some(Gap::from_read(what::MEMBERSHIP, &e))),
            },
        };
        let is_known = |(owner, _): &(Owner, Evidence)| owner.kind != OwnerKind::Unknown;
        let told = if told.as_ref().is_some_and(is_known) { told } else { doubtful.or(told) };
        if let Some((owner, above)) = told {
            chain.push(Rc::new(owner));
            evidence.extend([above, seen]);
        } else {
            let unknown = unknown_in(entry, p);
            let described = unread.map_or(unknown.described, Described::Unread);
            chain.push(Rc::new(Owner { described, ..unknown }));
            evidence.push(seen);
        }
    }

    /// Adds the sandbox that a program above the process has put it in, one that has the host's own root,
    /// seen through mounts of its own.
    fn jail_around(
        &mut self,
        entry: &Entry<'_>,
        p: &Process,
        chain: &mut Vec<Rc<Owner>>,
        evidence: &mut Vec<Evidence>,
    ) -> Result<bool, ReadError> {
        let namespace = entry.mount_namespace();
        if namespace.is_some() && namespace == self.hosts_mounts() {
            return Ok(false);
        }
        let Some((owner, above)) = self.jailed(entry, p, false)? else { return Ok(false) };
        chain.push(Rc::new(owner));
        evidence.push(above);
        Ok(true)
    }

    /// A nested PID namespace alone contains nothing: browsers give one to their own processes, and
    /// anyone may to his. With a root of its own it does.
    fn place(&mut self, entry: &Entry<'_>, p: &Process) -> Place {
        let nested = nested_pids(self.host, p);
        let reference = self.reference.get_or_init(|| HostReference::read(self.host));
        let namespace = entry.mount_namespace();
        let with_host = namespace.is_some() && namespace == reference.mount_namespace;
        if with_host || namespace.is_some_and(|n| self.hosts_namespaces.contains(&n)) {
            return match nested.filter(|_| runs_below_its_root(entry)) {
                Some(seen) => Place::Inside(seen),
                None if with_host => Place::Host("in the host's mount namespace", "ns/mnt"),
                None => Place::Host("its root is the host's", "ns/mnt"),
            };
        }
        let (Ok(mounts), Some(host_root)) = (entry.mounts(), &reference.root) else {
            return nested.map_or(Place::Unproven(UNREAD), Place::Inside);
        };
        let own = root_mount(mounts).map(|root| (p.pid, root));
        let link = entry.dir().and_then(|dir| dir.link_text("root"));
        // By chroot(2) also the host's root is to be had in a container, if it is mounted there.
        let is_moved = own.is_none() || link.is_ok_and(|link| link != "/");
        let above = if is_moved { self.root_above(p, namespace) } else { None };
        let above = above.as_ref().map(|(pid, root)| (*pid, root));
        // What shows neither its root nor anybody's who shares its mounts may be in a container too.
        let Some((pid, root)) = above.or(own) else {
            return nested.map_or(Place::Unproven(ROOTLESS), Place::Inside);
        };
        if (root.device, &root.root) == (host_root.0, &host_root.1) {
            if !is_moved {
                self.hosts_namespaces.extend(namespace);
            }
            return match nested.filter(|_| runs_below_its_root(entry)) {
                Some(seen) => Place::Inside(seen),
                None => Place::Host("its root is the host's", "mountinfo"),
            };
        }
        match nested {
            Some(seen) => Place::Inside(seen),
            None => self.other_root(pid, root),
        }
    }

    /// The nearest ancestor that shows a root and has the same mounts: of what was put into a plain
    /// directory by chroot(2) `mountinfo` has no line for the root.
    fn root_above(&self, p: &Process, namespace: Option<u64>) -> Option<(u32, Mount)> {
        let own = namespace?;
        let mut at = p.stat.known()?.ppid;
        for _ in 0..MOST_ANCESTORS {
            if at == 0 {
                break;
            }
            let dir = self.host.process(at).ok()?;
            if dir.namespace("mnt").is_ok_and(|its| its == own)
                && let Some(root) = dir.mountinfo().ok().as_deref().and_then(root_mount)
            {
                return Some((at, root.clone()));
            }
            at = dir.stat().ok()?.ppid;
        }
        None
    }

    fn other_root(&self, pid: u32, root: &Mount) -> Place {
        let detail = format!("its root is {} {}", root.fs_type, root.root);
        let seen = Evidence::agreeing(Source::Mount, detail, path(self.host, pid, "mountinfo"));
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
        if reference.mount_namespace.is_none() {
            reference.mount_namespace =
                reference.root.as_ref().and_then(|r| own_namespace(host, r));
        }
        if reference.root.is_none() && own {
            // PID 1 is hidden (hidepid): this process's own root stands in for the host's.
            let own = host.mounts().ok().and_then(root_mount);
            reference.root = own.map(|m| (m.device, m.root.clone()));
        }
        reference
    }
}

/// This program's own mount namespace, where PID 1 does not show its (it may have capabilities that even
/// root has not here) and both have the same root.
fn own_namespace(host: &Host, root: &((u32, u32), BString)) -> Option<u64> {
    let own = host.mode() == Mode::Live || host.is_captured();
    if !own || host.is_outermost() != Some(true) {
        return None;
    }
    let own = host.mounts().ok().and_then(root_mount)?;
    let same = (own.device, &own.root) == (root.0, &root.1);
    same.then(|| host.own_mount_namespace()).flatten()
}

/// What nobody knows, by its place.
pub(super) fn unknown(p: &Process) -> Owner {
    let id = p.cgroup_path.known().map(|path| BString::clone(path)).unwrap_or_default();
    Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, id)
}

/// What may be anybody's, since it could not be looked at.
pub(super) fn unread(gap: Gap) -> Owner {
    let described = Described::Unread(gap);
    Owner { described, ..Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, "") }
}

/// What nobody knows, by the namespaces that make it one; by its place where there are none to be read.
/// Who may not see them does not know whether they are a container's.
pub(super) fn unknown_in(entry: &Entry<'_>, p: &Process) -> Owner {
    let nested = p.nspid().is_some_and(|pids| pids.len() > 1);
    let kinds: &[&str] = if nested { &["pid", "mnt"] } else { &["mnt"] };
    let mut forbidden = None;
    for kind in kinds {
        match entry.dir().and_then(|dir| dir.namespace(kind)) {
            Ok(inode) => {
                let id = format!("{kind}:[{inode}]");
                return Owner::new(OwnerKind::Unknown, Engine::UNKNOWN, id);
            }
            Err(e) if e.class == Class::Forbidden => forbidden = forbidden.or(Some(e)),
            Err(_) => {}
        }
    }
    match forbidden {
        Some(e) => unread(Gap::from_read(what::MEMBERSHIP, &e)),
        None => unknown(p),
    }
}

/// Whether the file that a process runs lies below the root that it was put into by chroot(2). A root
/// without the program in it, as browsers choose for their own processes, is no container's; of a program
/// in memory alone (memfd_create(2)) nobody can say where it lies.
fn runs_below_its_root(entry: &Entry<'_>) -> bool {
    let links = entry.dir().and_then(|dir| Ok((dir.link_text("root")?, dir.link_text("exe")?)));
    links.is_ok_and(|(root, exe)| {
        let below = || exe.strip_prefix(root.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
        root != "/" && (exe.starts_with(b"/memfd:") || below())
    })
}

fn root_mount(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rfind(|m| m.point == "/")
}

pub(super) fn nested_pids(host: &Host, p: &Process) -> Option<Evidence> {
    let pids = p.nspid().filter(|n| n.len() > 1)?;
    let inner: Vec<String> = pids[1..].iter().map(u32::to_string).collect();
    let detail = format!("pid {} in a nested PID namespace", inner.join(", "));
    Some(Evidence::agreeing(Source::Namespace, detail, path(host, p.pid, "status")))
}
