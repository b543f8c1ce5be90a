//! Pods by the kubelet's own files, whoever runs their containers: what engines call them comes first,
//! and the kernel's word for a pod's uid before both.
//!
//! A container costs one listing of links and the text of one link; a pod that no container of its
//! names, one listing of directories. Each is listed once a command.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::{Links, Root};
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use super::Index;
use super::users::manager_of;
use crate::model::gap::what;
use crate::model::{Fact, Gap, Owner, OwnerKind, Pod, SeenPod, Source};
use crate::runtime::{Subject, kubernetes};
use crate::state::kubelet;

/// Where a container's messages for the kubelet are mounted, unless its pod says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Largest configuration of a kubelet, bytes.
const CONFIG: usize = 1 << 20;

/// The unit's own cgroup, on v2 and on v1 or hybrid hosts.
const UNIT_PROCS: [&str; 3] = [
    "sys/fs/cgroup/system.slice/kubelet.service/cgroup.procs",
    "sys/fs/cgroup/unified/system.slice/kubelet.service/cgroup.procs",
    "sys/fs/cgroup/systemd/system.slice/kubelet.service/cgroup.procs",
];
/// Largest list of its processes, bytes, and how many of them are looked at.
const PROCS: usize = 64 * 1024;
const MOST_IN_UNIT: usize = 64;

/// Names in a directory, by what they name.
type Names = HashMap<BString, (BString, Pod)>;
/// A directory with what its names say; `None` when it is not there.
type Listed = Result<Option<(Root, Names)>, Gap>;

/// The files of kubelets: the host's own, and those of nodes that are containers.
#[derive(Debug, Default)]
pub(super) struct Pods {
    files: HashMap<BString, Rc<Files>>,
    /// Owners of pods' cgroups that have a name.
    named: HashMap<(BString, BString), Rc<Owner>>,
    /// Pods that the cgroup tree shows, once it was walked.
    pub(super) walked: OnceCell<super::pod_lookup::Walked>,
}

/// One kubelet's files, listed when they are needed.
#[derive(Debug)]
pub(super) struct Files {
    /// A process of the node, if that is a container.
    node: Option<u32>,
    links: OnceCell<Listed>,
    dirs: OnceCell<Listed>,
}

impl Files {
    /// Containers by id.
    pub(super) fn links(&self, host: &Host) -> &Listed {
        self.links.get_or_init(|| self.list(host, BStr::new(kubelet::LINKS), kubelet::links))
    }

    /// Pods by uid.
    pub(super) fn dirs(&self, host: &Host) -> &Listed {
        self.dirs.get_or_init(|| {
            let usual = self.list(host, BStr::new(kubelet::LOGS), kubelet::log_dirs)?;
            if usual.as_ref().is_some_and(|(_, names)| !names.is_empty()) {
                return Ok(usual);
            }
            match self.moved(host) {
                Some(dir) => self.list(host, BStr::new(&dir), kubelet::log_dirs),
                None => Ok(usual),
            }
        })
    }

    /// Where the kubelet's configuration says that logs are.
    fn moved(&self, host: &Host) -> Option<BString> {
        let usual = |root: &&str| {
            let root = self.open(host, BStr::new(root)).ok()?;
            root.read(b"config.yaml", CONFIG).ok()
        };
        let named = |args: Vec<BString>| {
            let path = Subject::flag(&args, "config")?;
            host.guard(&path).ok()?;
            host.root().read(&path, CONFIG).ok()
        };
        let of_node = || kubelet::ROOTS.iter().find_map(usual);
        let bytes = match self.node {
            Some(_) => of_node(),
            None => running(host).into_iter().find_map(named).or_else(of_node),
        };
        kubelet::parse_config(&bytes?)
    }

    fn list(
        &self,
        host: &Host,
        dir: &BStr,
        names: impl Fn(&Root, &BStr) -> Result<Names, ReadError>,
    ) -> Listed {
        let listed = self.open(host, dir).and_then(|root| {
            let names = names(&root, BStr::new(""))?;
            Ok((root, names))
        });
        match listed {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.class == Class::Gone => Ok(None),
            // A node's files are not in every saved tree.
            Err(e) if self.node.is_some() && e.class == Class::Unsupported => Ok(None),
            Err(e) => Err(Gap::from_read(what::PODS, &e)),
        }
    }

    /// A directory of the kubelet's, in which no link is followed. On a host it has to be root's: a
    /// group may be allowed to make names in /var/log.
    fn open(&self, host: &Host, dir: &BStr) -> Result<Root, ReadError> {
        if let Some(pid) = self.node {
            return host.process(pid)?.directory(dir);
        }
        host.guard(dir)?;
        let root = host.root().descend(dir, Links::Never, None)?;
        if host.mode() == Mode::Saved {
            return Ok(root);
        }
        let owner = root.look(b"")?.uid;
        if owner == 0 {
            return host.root().descend(dir, Links::Never, Some(0));
        }
        let why = format!("owned by uid {owner}, not root");
        Err(ReadError::new(root.shown(), Class::Malformed, why))
    }
}

impl Index<'_> {
    /// The files of the kubelet that runs on the host, or in the container `within`, of which `pid` is
    /// a process.
    pub(super) fn kubelet(&mut self, within: &BString, pid: Option<u32>) -> Option<Rc<Files>> {
        if let Some(known) = self.pods.files.get(within) {
            return Some(Rc::clone(known));
        }
        if !within.is_empty() && pid.is_none() {
            return None;
        }
        let files = Files { node: pid, links: OnceCell::new(), dirs: OnceCell::new() };
        let files = Rc::new(files);
        self.pods.files.insert(within.clone(), Rc::clone(&files));
        Some(files)
    }

    /// What the kubelet's files say of a container's pod. `hint` is one of the container's processes.
    pub(super) fn seen_pod(&mut self, owner: &Owner, hint: Option<u32>) -> Fact<SeenPod> {
        let Some(uid) = owner.pod_uid.as_ref().filter(|uid| kubelet::is_uid(uid)) else {
            return Fact::Absent;
        };
        let known = owner.pod().unwrap_or_default();
        let named = known.name.is_some() && known.namespace.is_some();
        let is_sandbox = owner.kind == OwnerKind::Sandbox;
        if named && (is_sandbox || (known.container.is_some() && known.restarts.is_some())) {
            return Fact::Absent;
        }
        let Some(files) = self.kubelet_of(owner, hint) else { return Fact::Absent };
        let seen = seen(self.host, &files, &owner.id, uid);
        let has_container = |seen: &SeenPod| seen.pod.container.is_some();
        if is_sandbox
            || known.container.is_some()
            || seen.as_ref().is_ok_and(|s| s.as_ref().is_some_and(has_container))
        {
            return fact(seen);
        }
        // A name of 255 bytes has lost the id; the kubelet's own mounts name the container too.
        let mounted = hint.and_then(|pid| self.mounted_pod(pid, uid));
        match (seen, mounted) {
            (Ok(Some(seen)), Some(mounted)) => {
                Fact::Known(SeenPod { pod: seen.pod.or(&mounted.pod), ..seen })
            }
            (Ok(None), mounted) => mounted.into(),
            (seen, _) => fact(seen),
        }
    }

    /// The files of the kubelet that may have made an owner; not the host's for what a user made in
    /// his own cgroups, where he can give any name to anything.
    fn kubelet_of(&mut self, owner: &Owner, hint: Option<u32>) -> Option<Rc<Files>> {
        if owner.within.is_empty() {
            let users = manager_of(&owner.cgroup).is_some_and(|uid| uid != 0);
            return if users { None } else { self.kubelet(&owner.within, None) };
        }
        let inside = BStr::new(&owner.within);
        let node = match hint {
            Some(pid) => self.process_in(inside, pid),
            None => self.outer_process(inside),
        };
        self.kubelet(&owner.within, node)
    }

    /// The container by the mounts that the kubelet makes in it. Only the first mount at the point
    /// counts, since a container may put another on top.
    fn mounted_pod(&self, pid: u32, uid: &BString) -> Option<SeenPod> {
        let mounts = self.host.process(pid).ok()?.mountinfo().ok()?;
        let first = mounts.iter().find(|m| m.point == TERMINATION_LOG)?;
        if first.fs_type == "overlay" || first.fs_type.starts_with(b"fuse") {
            return None;
        }
        let pod = kubelet::parse_mount(&first.root).filter(|p| p.uid.as_ref() == Some(uid))?;
        let path = self.host.shown(format!("proc/{pid}/mountinfo").as_bytes());
        Some(SeenPod { pod, source: Source::Mount, path })
    }

    /// Gives the pods of a chain their names, by the containers in them or by the kubelet's files.
    pub(super) fn name_pods(&mut self, chain: &mut [Rc<Owner>]) {
        for at in 0..chain.len() {
            let (above, inner) = chain.split_at_mut(at + 1);
            let Some(pod) = above.last_mut() else { continue };
            if pod.kind == OwnerKind::Pod && pod.runtime == kubernetes::ENGINE {
                let inner = inner.iter().find(|o| o.pod_uid.as_ref() == Some(&pod.id));
                *pod = self.named_pod(pod, inner.map(Rc::as_ref));
            } else if pod.kind == OwnerKind::Pod && pod.name.is_none() {
                let inner = inner.iter().find(|o| own_name(pod, o).is_some());
                *pod = self.named_pod(pod, inner.map(Rc::as_ref));
            }
        }
    }

    /// A pod with its name: as a container in it has it, else by the kubelet's files.
    pub fn named_pod(&mut self, pod: &Owner, inner: Option<&Owner>) -> Rc<Owner> {
        let key = (pod.id.clone(), pod.cgroup.clone());
        if let Some(known) = self.pods.named.get(&key) {
            return Rc::clone(known);
        }
        let mut named = pod.clone();
        if pod.runtime != kubernetes::ENGINE {
            named.name = named.name.or(inner.and_then(|inner| own_name(pod, inner)));
            return Rc::new(named);
        }
        named.seen_pod = match inner.and_then(of_pod) {
            Some(seen) => Fact::Known(seen),
            None => match self.kubelet_of(pod, None) {
                Some(files) => fact(by_dirs(self.host, &files, &pod.id)),
                None => Fact::Absent,
            },
        };
        named.name = named.pod().and_then(|p| p.name);
        let named = Rc::new(named);
        if named.name.is_some() {
            self.pods.named.insert(key, Rc::clone(&named));
        }
        named
    }
}

fn fact(seen: Result<Option<SeenPod>, Gap>) -> Fact<SeenPod> {
    match seen {
        Ok(seen) => seen.into(),
        Err(gap) => Fact::Unread(gap),
    }
}

/// The name of an engine's own pod, by the state of a container in it.
fn own_name(pod: &Owner, inner: &Owner) -> Option<BString> {
    let told = inner.description()?.pod.as_ref()?;
    told.name.clone().filter(|_| told.uid.as_ref() == Some(&pod.id))
}

/// What a container says of its pod, without itself.
fn of_pod(inner: &Owner) -> Option<SeenPod> {
    let pod = inner.pod().filter(|p| p.name.is_some() && p.namespace.is_some())?;
    let pod = Pod { container: None, restarts: None, ..pod };
    let seen = inner.seen_pod.known().filter(|s| s.pod.name.is_some());
    let names = |told: &Pod| told.name.is_some() && told.is_of(inner.pod_uid.as_ref());
    let told = inner.description().filter(|d| d.pod.as_ref().is_some_and(names));
    let (source, path) = match (told, seen) {
        (Some(description), _) => (description.source(), description.path.clone()),
        (None, Some(seen)) => (seen.source, seen.path.clone()),
        (None, None) => return None,
    };
    Some(SeenPod { pod, source, path })
}

/// A container by the link to its log. The link's name has no uid in it: what it leads to has, or the
/// directory of the pod's logs; without either, or with another uid, it does not count.
fn seen(host: &Host, files: &Files, id: &BString, uid: &BString) -> Result<Option<SeenPod>, Gap> {
    let links = files.links(host).as_ref().map_err(Clone::clone)?;
    let Some((root, (name, pod))) = links.as_ref().and_then(|(r, l)| Some((r, l.get(id)?))) else {
        return by_dirs(host, files, uid);
    };
    let path = root.join(name);
    let told = kubelet::linked(root, BStr::new(""), name);
    let same = |a: &Option<BString>, b: &Option<BString>| a.is_none() || b.is_none() || a == b;
    let agrees = |told: &Pod| {
        told.uid.as_ref() == Some(uid)
            && same(&told.name, &pod.name)
            && same(&told.namespace, &pod.namespace)
            && same(&told.container, &pod.container)
    };
    if let Some(told) = told {
        let seen = || SeenPod { pod: pod.clone().or(&told), source: Source::StateFile, path };
        return if agrees(&told) { Ok(Some(seen())) } else { by_dirs(host, files, uid) };
    }
    let by_dir = by_dirs(host, files, uid)?;
    let same_pod = |dir: &SeenPod| dir.pod.full_name() == pod.full_name();
    if !by_dir.as_ref().is_some_and(same_pod) {
        return Ok(by_dir);
    }
    let pod = Pod { uid: Some(uid.clone()), ..pod.clone() };
    Ok(Some(SeenPod { pod, source: Source::StateFile, path }))
}

/// A pod by the directory of its logs.
fn by_dirs(host: &Host, files: &Files, uid: &BString) -> Result<Option<SeenPod>, Gap> {
    let dirs = files.dirs(host).as_ref().map_err(Clone::clone)?;
    let found = dirs.as_ref().and_then(|(root, dirs)| Some((root, dirs.get(uid)?)));
    Ok(found.map(|(root, (name, pod))| SeenPod {
        pod: pod.clone(),
        source: Source::StateFile,
        path: root.join(name),
    }))
}

/// The kubelet's own directories: where it runs with another one, and the usual ones.
pub(super) fn kubelet_roots(host: &Host) -> impl Iterator<Item = BString> {
    let named = running(host).into_iter().filter_map(|args| Subject::flag(&args, "root-dir"));
    named.chain(kubelet::ROOTS.map(BString::from))
}

/// The arguments of a kubelet that runs as systemd's unit.
fn running(host: &Host) -> Option<Vec<BString>> {
    let procs = |path: &&str| host.root().read(path.as_bytes(), PROCS).ok();
    let pids = UNIT_PROCS.iter().find_map(procs)?;
    let pids = pids.lines().filter_map(parse::decimal32);
    let is_it = |pid: u32| {
        let stat = host.process(pid).and_then(|p| p.stat()).ok()?;
        let ask = Ask { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks };
        (stat.comm == "kubelet").then_some(ask)
    };
    let ask = pids.take(MOST_IN_UNIT).find_map(is_it)?;
    let bytes = host.slow_reads(&[ask]).pop()?.ok()?;
    Some(parse::cmdline::parse(&bytes))
}

/// The owner that a pod is.
pub(super) fn pod_owner(uid: &BString, within: &BString) -> Owner {
    let mut owner = Owner::new(OwnerKind::Pod, kubernetes::ENGINE, uid.clone());
    owner.pod_uid = Some(uid.clone());
    owner.within.clone_from(within);
    owner
}
