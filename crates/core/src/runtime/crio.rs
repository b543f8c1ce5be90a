//! CRI-O, from the kernel and from its files; its daemon is never asked.
//!
//! `crio-<id>.scope`, with the cgroupfs manager `crio-<id>`; the monitors are `crio-conmon-<id>`,
//! or conmon in CRI-O's own cgroup (cri-o internal/config/cgmgr, internal/oci/runtime_oci.go). Its
//! containers lie in a containers/storage store, perhaps beside Podman's: the metadata that CRI-O
//! keeps in the store's table tells them apart, and the annotations in `config.json`
//! (internal/storage/runtime.go, internal/factory/container/container.go).

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::root::Root;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, ReadError, parse};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::place::{self, Plumbing};
use super::{FoundRoots, Hints, Inside, Matches, PodQuery, Query, Runtime, StateRoot, segment};
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Engine, Gap, Mounting, Owner, OwnerKind, Pod};
use crate::state::containers_storage::{self as storage, Store};
use crate::state::{crio as files, docker::time, json, spec, toml};

/// See the module.
#[derive(Debug)]
pub(super) struct CriO;

const ENGINE: Engine = Engine("cri-o");

/// The graph root when nothing moves it, and the run root, which has a table of containers if the
/// store is transient.
const PLACES: [&str; 2] = ["var/lib/containers/storage", "run/containers/storage"];
/// Where the library's configuration says where stores are; what comes later counts.
const STORAGE_CONF: [&str; 2] =
    ["usr/share/containers/storage.conf", "etc/containers/storage.conf"];
/// CRI-O's own configuration, and the directory of files that overrule it in the order of their names.
const CONF: &str = "etc/crio/crio.conf";
const CONF_DIR: &str = "etc/crio/crio.conf.d";
/// What a host with CRI-O has and one with Podman alone has not.
const TRACES: [&str; 4] = ["etc/crio", "var/lib/crio", "run/crio", "var/run/crio"];
/// The unit's own cgroup, on v2 and on v1 or hybrid hosts.
const UNIT_PROCS: [&str; 3] = [
    "sys/fs/cgroup/system.slice/crio.service/cgroup.procs",
    "sys/fs/cgroup/unified/system.slice/crio.service/cgroup.procs",
    "sys/fs/cgroup/systemd/system.slice/crio.service/cgroup.procs",
];
/// Files that a directory of configuration may hold.
const MOST_FILES: usize = 1_000;
/// The kubelet's count of restarts, which CRI-O has among the annotations as all of the kubelet's.
const RESTARTS: &str = "io.kubernetes.container.restartCount";

impl Runtime for CriO {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let bare = || place.text().strip_prefix(b"crio-").filter(|id| segment::is_hex64(id));
            let id = segment::scope_id(place.text(), "crio").or_else(bare)?;
            let mut owner = Owner::new(OwnerKind::Container, ENGINE, id);
            owner.pod_uid = segment::pod_uid_of_slice(place.text()).map(Into::into);
            Some(owner)
        });
        let monitor = place::plumbing(subject.lines, |place| {
            let text = place.text().strip_prefix(b"crio-conmon-")?;
            let id = text.strip_suffix(b".scope").unwrap_or(text);
            segment::is_hex64(id).then(|| Plumbing::of(id))
        });
        if monitor.is_some() || !subject.is_hosts_own() || segment::names_an_id(subject.lines) {
            return place::claim(levels, monitor);
        }
        match subject.comm.as_bytes() {
            b"crio" => place::claim(levels, Some(Plumbing(None))),
            b"conmon" => match subject.args {
                None => Claim::Need(Needs::CMDLINE),
                Some(args) => place::claim(levels, watched(args)),
            },
            _ => levels.into(),
        }
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let found = match hints {
            Hints::Default => of_admin(open_all(host, PLACES.map(BString::from))),
            Hints::Configured => of_admin(open_all(host, configured(host, CONF, CONF_DIR))),
            Hints::Running => open_all(host, running(host)),
            Hints::Mounts(mounts) => {
                let mut found = open_all(host, graph_root_of(mounts));
                // The text is the mounter's: only what is root's own is believed.
                found.roots.retain(|r| r.user.is_none());
                found
            }
            Hints::At(path) => open_all(host, [path.into()]),
            Hints::Args(args) => open_all(host, places_in(host, args)),
            // It is the system's, or nobody's; conmon's arguments do not tell the store.
            Hints::User(_) | Hints::Monitor(_) | Hints::UserInside(..) | Hints::Moved(_) => {
                return FoundRoots::default();
            }
            Hints::Inside(inside) => return inner_roots(inside),
        };
        only_its_own(host, found)
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        match query {
            Query::Id(id) if segment::is_hex64(id) => match describe(root, id) {
                Ok(_) => matches.ids.push(id.into()),
                Err(e) if e.class == Class::Gone => {}
                // It is there, whatever else may be wrong with it.
                Err(e) if e.class == Class::Malformed => matches.ids.push(id.into()),
                Err(e) => return Err(e),
            },
            Query::Id(_) | Query::Address(_) | Query::Volume(_) => {}
            Query::IdPrefix(prefix) => {
                matches.ids = self.list(root)?;
                matches.ids.retain(|id| id.starts_with(prefix));
            }
            Query::Name(name) => {
                let is_named = |known: &Known| {
                    let names = known.container.names.iter().flatten();
                    known.metadata.metadata_name.as_bytes() == name.as_bytes()
                        || names.into_iter().any(|n| n.as_bytes() == name.as_bytes())
                };
                let found = containers(&root.root)?.into_iter().filter(is_named);
                matches.ids = found.map(|known| known.container.id.into()).collect();
            }
        }
        Ok(matches)
    }

    fn find_in_pods(
        &self,
        host: &Host,
        root: &StateRoot,
        query: PodQuery<'_>,
    ) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        for known in containers(&root.root)? {
            let pod = match known.pod() {
                Some(pod) => Ok(Some(pod)),
                None if host.out_of_time() => {
                    let why = "not all containers were looked through in time";
                    Err(ReadError::new(root.root.shown(), Class::TimedOut, why))
                }
                // Names that can't be taken apart: its own files have the labels.
                None => describe(root, known.container.id.as_bytes().into()).map(|d| d.pod),
            };
            match pod {
                Ok(Some(pod)) if query.fits(&pod) => matches.ids.push(known.container.id.into()),
                Ok(_) => {}
                Err(e) if e.class == Class::Gone => {} // removed meanwhile
                Err(e) => matches.gaps.push(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        Ok(matches)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let all = containers(&root.root)?;
        Ok(all.into_iter().map(|known| known.container.id.into()).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }

    fn keeps_mounts(&self) -> bool {
        true
    }

    fn mounts(&self, root: &StateRoot, id: &BStr) -> Option<Result<Vec<Mounting>, ReadError>> {
        // As it was made for the runtime: in the directory of what lasts.
        Some(spec_of(&root.root, id).and_then(|(driver, ..)| {
            let rel = Store { root: &root.root, driver: &driver }.userdata(id, "config.json");
            read(&root.root, &rel, spec::mounts)
        }))
    }

    fn cgroups_of(&self, root: &StateRoot, id: &BStr) -> Vec<BString> {
        let path = spec_of(&root.root, id).ok().and_then(|(_, spec, _)| spec.linux);
        let path = path.map(|l| l.cgroups_path).unwrap_or_default();
        if path.is_empty() {
            return Vec::new();
        }
        match segment::colon_form(path.as_bytes(), "crio") {
            Some((slice, name)) => {
                let slice =
                    segment::slice_path(if slice.is_empty() { b"system.slice" } else { slice });
                vec![[slice.as_slice(), b"/crio-", name, b".scope"].concat().into()]
            }
            None => vec![format!("/{}", path.trim_start_matches('/')).into()],
        }
    }
}

/// Whom a conmon works for that CRI-O started: it is told to report to CRI-O's directories (cri-o
/// internal/oci/runtime_oci.go).
fn watched(args: &[BString]) -> Option<Plumbing> {
    let exits = Subject::flag(args, "exit-dir").is_some_and(|d| d.ends_with(b"/crio/exits"));
    let socket = Subject::flag(args, "socket-dir-path").is_some_and(|d| d.ends_with(b"/crio"));
    (exits || socket).then(|| match Subject::flag(args, "c") {
        Some(id) => Plumbing::of(&id),
        None => Plumbing(None),
    })
}

/// Roots that are CRI-O's: on a host that has it, or with a container of its own. What stands in the
/// way of others is none of its affair.
fn only_its_own(host: &Host, mut found: FoundRoots) -> FoundRoots {
    let traces = TRACES.iter().any(|t| host.root().look(t.as_bytes()).is_ok());
    if !traces {
        found.gaps.clear();
    }
    let graph = |root: &Root| storage::drivers(root).is_ok_and(|d| !d.is_empty());
    let has_some = |root: &Root| containers(root).is_ok_and(|c| !c.is_empty());
    // A run root has directories by the same names, and tables only if the store is transient.
    let is_run = |r: &StateRoot| r.root.shown().ends_with(b"/run/containers/storage");
    found.roots.retain(|r| match traces && !is_run(r) {
        true => graph(&r.root) || containers(&r.root).is_err(),
        false => has_some(&r.root),
    });
    found
}

fn inner_roots(inside: &Inside<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    match inside.process.directory(BStr::new(PLACES[0])) {
        Ok(root) if containers(&root).is_ok_and(|c| c.is_empty()) => {}
        Ok(root) => found.roots.push(StateRoot::new(root, None, None)),
        Err(e) if e.class == Class::Gone => {}
        Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
    }
    found
}

/// Graph and run root as the configuration has them, if it moves them.
fn configured(host: &Host, conf: &str, dir: &str) -> Vec<BString> {
    // Where it is may be a daemon's word.
    let read = |path: &[u8]| host.guard(path).and_then(|()| host.root().read(path, toml::CAP)).ok();
    let mut places: [Option<String>; 2] = [None, None];
    let mut take = |graph: Option<String>, run: Option<String>| {
        for (place, new) in places.iter_mut().zip([graph, run]) {
            // What is empty leaves what was said before (cri-o pkg/config/config.go).
            *place = new.filter(|p| !p.is_empty()).or(place.take());
        }
    };
    for path in STORAGE_CONF {
        let parsed = read(path.as_bytes()).and_then(|b| storage::parse_config(&b).ok());
        let storage = parsed.unwrap_or_default().storage;
        take(storage.graphroot, storage.runroot);
    }
    let mut confs: Vec<BString> = vec![conf.into()];
    let listed =
        host.guard(dir.as_bytes()).and_then(|()| host.root().list(dir.as_bytes(), MOST_FILES));
    let mut entries = listed.unwrap_or_default();
    entries.retain(|e| !e.is_dir);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    confs.extend(entries.into_iter().map(|e| format!("{dir}/{}", e.name).into()));
    for path in confs {
        let parsed = read(&path).and_then(|b| files::parse_config(&b).ok());
        let crio = parsed.unwrap_or_default().crio;
        take(crio.root, crio.runroot);
    }
    places.into_iter().flatten().map(BString::from).collect()
}

/// The places that a daemon's arguments name, itself or in the configuration they name.
fn places_in(host: &Host, args: &[BString]) -> Vec<BString> {
    let program = args.first().map(|a| a.rsplit_str("/").next().unwrap_or_default());
    if program != Some(b"crio") {
        return Vec::new();
    }
    let flag = |names: [&str; 2]| names.iter().find_map(|n| Subject::flag(args, n));
    let conf = flag(["config", "c"]);
    let dir = flag(["config-dir", "d"]);
    let mut places = Vec::new();
    if conf.is_some() || dir.is_some() {
        let text = |path: Option<BString>, usual: &str| {
            path.map_or_else(|| usual.to_owned(), |p| p.to_str_lossy().into_owned())
        };
        places = configured(host, &text(conf, CONF), &text(dir, CONF_DIR));
    }
    places.extend(flag(["root", "r"]));
    places.extend(Subject::flag(args, "runroot"));
    places
}

/// The places that the arguments of the daemon in CRI-O's unit name.
fn running(host: &Host) -> Vec<BString> {
    let mut asks: Vec<Ask> = Vec::new();
    for path in UNIT_PROCS {
        let bytes = host.root().read(path.as_bytes(), 64 * 1024).unwrap_or_default();
        for pid in bytes.lines().filter_map(parse::decimal32) {
            let stat = host.process(pid).and_then(|p| p.stat());
            let Some(stat) = stat.ok().filter(|s| s.comm == "crio") else { continue };
            asks.push(Ask { file: Slow::Cmdline, pid, start_ticks: stat.start_ticks });
        }
    }
    let args = host.slow_reads(&asks).into_iter().flatten().map(|b| parse::cmdline::parse(&b));
    args.flat_map(|args| places_in(host, &args)).collect()
}

/// The graph root by the root mount of a container: its upper directory is
/// `<graph root>/overlay/<layer>/diff`. The first mount counts, which the engine made.
fn graph_root_of(mounts: &[Mount]) -> Option<BString> {
    let root = mounts.iter().find(|m| m.point == "/" && m.fs_type == "overlay")?;
    let upper = parse::overlay::parse(root.super_options.as_ref()).upper?;
    let layer = upper.strip_suffix(b"/diff")?;
    let (store, name) = layer.rsplit_once_str("/")?;
    let graph = store.strip_suffix(b"/overlay").filter(|g| g.starts_with(b"/"))?;
    segment::is_hex64(name).then(|| graph.into())
}

/// A container of the store's table that is CRI-O's.
struct Known {
    container: storage::Container,
    metadata: files::Metadata,
}

impl Known {
    fn is_sandbox(&self) -> bool {
        self.metadata.pod_id == self.container.id
    }

    /// The pod as the table alone has it.
    fn pod(&self) -> Option<Pod> {
        let pod = pod_of(&self.metadata.pod_name)?;
        if self.is_sandbox() {
            return Some(pod);
        }
        let container = Some(self.metadata.metadata_name.as_str()).filter(|n| !n.is_empty());
        let container = container.map(BString::from);
        Some(Pod { container, restarts: Some(self.metadata.attempt), ..pod })
    }
}

/// CRI-O's containers in the tables of every driver.
fn containers(root: &Root) -> Result<Vec<Known>, ReadError> {
    let mut known = Vec::new();
    for driver in storage::drivers(root)? {
        for container in (Store { root, driver: &driver }).containers()? {
            let metadata = files::parse_metadata(&container.metadata);
            let metadata = metadata.filter(|_| segment::is_hex64(container.id.as_bytes()));
            known.extend(metadata.map(|metadata| Known { container, metadata }));
        }
    }
    Ok(known)
}

/// A container's configuration, if CRI-O wrote it, with its driver and its path.
fn spec_of(root: &Root, id: &BStr) -> Result<(BString, files::Spec, BString), ReadError> {
    let gone = || ReadError::new(root.shown(), Class::Gone, "no container of cri-o");
    if !segment::is_hex64(id) {
        return Err(gone());
    }
    for driver in storage::drivers(root)? {
        let rel = Store { root, driver: &driver }.userdata(id, "config.json");
        match read(root, &rel, files::parse_spec) {
            Ok(spec) if spec.own("ContainerType").is_some() && !spec.is_podmans() => {
                return Ok((driver, spec, root.join(&rel)));
            }
            Ok(_) => {} // another engine's
            Err(e) if e.class == Class::Gone => {}
            Err(e) => return Err(e),
        }
    }
    Err(gone())
}

fn read<T>(root: &Root, rel: &[u8], parse: fn(&[u8]) -> Result<T, String>) -> Result<T, ReadError> {
    let bytes = root.read_of_admin(rel, json::CAP)?;
    parse(&bytes).map_err(|why| ReadError::new(root.join(rel), Class::Malformed, why))
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let store = &root.root;
    let (driver, spec, path) = match spec_of(store, id) {
        Ok(found) => found,
        Err(e) if e.class == Class::Gone => return by_table(root, id).and_then(|d| d.ok_or(e)),
        Err(e) => return Err(e),
    };
    let store = Store { root: store, driver: &driver };
    let state = match read(store.root, &store.userdata(id, "state.json"), files::parse_state) {
        Ok(state) => state,
        Err(e) if e.class == Class::Gone => files::State::default(),
        Err(e) => return Err(e),
    };
    let malformed = |why: String| ReadError::new(path.clone(), Class::Malformed, why);
    let labels = spec.own("Labels").map(files::parse_labels).transpose().map_err(malformed)?;
    let labels = labels.unwrap_or_default();
    let sandbox = spec.own("ContainerType") == Some("sandbox");
    let pod = pod(&spec, &labels, sandbox);
    let words = state_words(&state.status);
    // A pod without a pause process of its own runs all the same.
    let spoofed = ["spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"];
    let spoofed = sandbox && spoofed.iter().any(|key| spec.get(key) == Some("true"));
    let pid = if state.pid > 0 { state.init_pid.max(state.pid) } else { 0 };
    let image_id = spec.own("ImageRef");
    Ok(Description {
        rootfs: None,
        name: pod.as_ref().and_then(|p| if sandbox { p.name.clone() } else { p.container.clone() }),
        image: image(&spec, &store)?,
        image_id: image_id.map(with_algorithm),
        labels: labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        engine_state: words.map(|w| w.0),
        believed: words.map(|w| w.1).filter(|_| !spoofed),
        created: spec.own("Created").and_then(time),
        started: time(&state.started),
        pid: u32::try_from(pid).ok().filter(|p| *p > 0),
        pid_start: state.start_ticks(),
        is_sandbox: sandbox,
        pod,
        log: spec.own("LogPath").map(BString::from),
        run_dir: run_dir(&state, &spec, sandbox),
        user: root.user.clone(),
        path,
        ..Description::default()
    })
}

/// Its directory in the run root: what its runtime was given (cri-o server/container_create_linux.go). Of a pod without
/// a process no runtime was given any, but its host name is kept there (server/sandbox_run_linux.go).
fn run_dir(state: &files::State, spec: &files::Spec, sandbox: bool) -> Option<BString> {
    let of_pod = || spec.own("HostnamePath").filter(|_| sandbox)?.strip_suffix("/hostname");
    Some(state.bundle.as_str()).filter(|dir| !dir.is_empty()).or_else(of_pod).map(BString::from)
}

/// What the store's table says of a container whose configuration was not written yet, or is gone.
fn by_table(root: &StateRoot, id: &BStr) -> Result<Option<Description>, ReadError> {
    let is_it = |k: &Known| k.container.id.as_bytes() == id.as_bytes();
    let Some(known) = containers(&root.root)?.into_iter().find(is_it) else {
        return Ok(None);
    };
    let (sandbox, pod) = (known.is_sandbox(), known.pod());
    let Known { container, metadata } = known;
    let name: BString = metadata.metadata_name.into();
    Ok(Some(Description {
        name: Some(name).filter(|n| !n.is_empty()),
        image_id: Some(with_algorithm(&container.image)).filter(|_| !container.image.is_empty()),
        created: time(&container.created),
        is_sandbox: sandbox,
        pod,
        user: root.user.clone(),
        path: root.root.shown().into(),
        ..Description::default()
    }))
}

/// The engine's word, and ours (cri-o internal/oci/oci.go).
fn state_words(status: &str) -> Option<(&'static str, ContainerState)> {
    match status {
        "created" => Some(("created", ContainerState::Created)),
        "running" => Some(("running", ContainerState::Running)),
        "paused" => Some(("paused", ContainerState::Paused)),
        "stopped" => Some(("stopped", ContainerState::Exited)),
        _ => None,
    }
}

fn with_algorithm(id: &str) -> BString {
    if segment::is_hex64(id.as_bytes()) { format!("sha256:{id}").into() } else { id.into() }
}

/// The image as it was asked for; the kubelet asks by id, and then a name that the image has.
fn image(spec: &files::Spec, store: &Store<'_>) -> Result<Option<BString>, ReadError> {
    let is_id =
        |text: &str| segment::is_hex64(text.strip_prefix("sha256:").unwrap_or(text).as_bytes());
    let asked = spec.own("Image");
    if let Some(name) = asked.filter(|name| !is_id(name)).or_else(|| spec.own("ImageName")) {
        return Ok(Some(name.into()));
    }
    let Some(id) = spec.own("ImageRef") else { return Ok(asked.map(BString::from)) };
    let named = store.images()?.into_iter().find(|i| i.id == id);
    let name = named.and_then(|i| i.names.unwrap_or_default().into_iter().next());
    Ok(name.map(BString::from).or(asked.map(BString::from)))
}

/// The pod: by the name of its sandbox, which CRI-O makes of what it was told; by the kubelet's labels
/// where somebody chose names that this can't be taken apart from.
fn pod(spec: &files::Spec, labels: &BTreeMap<String, String>, sandbox: bool) -> Option<Pod> {
    let label =
        |name: &str| labels.get(&format!("io.kubernetes.{name}")).map(|v| v.as_str().into());
    let named = spec.own("SandboxName").and_then(pod_of);
    let mut pod = named.or_else(|| {
        let name = label("pod.name").or_else(|| spec.own("KubeName").map(BString::from))?;
        let namespace = label("pod.namespace").or_else(|| spec.own("Namespace").map(BString::from));
        let uid = label("pod.uid");
        Some(Pod { name: Some(name), namespace, uid, ..Pod::default() })
    })?;
    if !sandbox {
        let (name, attempt) = spec.own("Name").and_then(container_of).unzip();
        pod.container = name.or_else(|| label("container.name"));
        let counted = spec.get(RESTARTS).and_then(|n| parse::decimal32(n.as_bytes()));
        pod.restarts = counted.or(attempt.flatten());
    }
    Some(pod)
}

/// The pod in `k8s_POD_NAMESPACE_UID_ATTEMPT`.
fn pod_of(name: &str) -> Option<Pod> {
    let parts: Vec<&str> = name.split('_').collect();
    let ["k8s", pod, namespace, uid, _] = parts[..] else { return None };
    let text = |t: &str| Some(BString::from(t)).filter(|t| !t.is_empty());
    Some(Pod { name: text(pod), namespace: text(namespace), uid: text(uid), ..Pod::default() })
}

/// The container in `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, and how many came before it.
fn container_of(name: &str) -> Option<(BString, Option<u32>)> {
    let parts: Vec<&str> = name.split('_').collect();
    match parts[..] {
        ["k8s", container, _, _, _, attempt] if !container.is_empty() => {
            Some((container.into(), parse::decimal32(attempt.as_bytes())))
        }
        _ => None,
    }
}
