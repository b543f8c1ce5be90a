//! Docker (moby), from the kernel and from its files.
//!
//! Sources: moby daemon/oci_linux.go and daemon/daemon_unix.go (cgroup shapes), config_linux.go
//! (roots), container/container.go and container/state.go (state).

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::root::Links;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{Class, Host, Mode, ReadError, parse};

use super::claim::{Claim, Mine, Proof, Serves, Subject, each_segment};
use super::{
    FoundRoots, Hints, Inside, Matches, PodQuery, Query, Runtime, Service, StateRoot, User,
    segment, service,
};
use crate::model::daemon::Told;
use crate::model::gap::what;
use crate::model::{
    Compose, ContainerState, Description, Engine, Gap, Mounting, Owner, OwnerKind, Pod, Role,
};
use crate::state::{docker as files, json};

mod search;

use search::Search;

/// See the module.
#[derive(Debug)]
pub(super) struct Docker;

const ENGINE: Engine = Engine("docker");

/// Data roots of the system's engine when nothing moves them: moby's, and the snap package's.
const DATA_ROOTS: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
/// The data root of a user's own engine, in his home unless `$XDG_DATA_HOME` moves it.
const USERS_ROOT: &str = ".local/share/docker";
/// Where `daemon.json` lies, for both.
const DAEMON_JSON: [&str; 2] =
    ["etc/docker/daemon.json", "var/snap/docker/current/config/daemon.json"];
/// PID files; the second is the first's name before /var/run became a link.
const PID_FILES: [&str; 2] = ["run/docker.pid", "var/run/docker.pid"];
/// The unit's own cgroup, on v2 and on v1 or hybrid hosts.
const UNIT_PROCS: [&str; 3] = [
    "sys/fs/cgroup/system.slice/docker.service/cgroup.procs",
    "sys/fs/cgroup/unified/system.slice/docker.service/cgroup.procs",
    "sys/fs/cgroup/systemd/system.slice/docker.service/cgroup.procs",
];
/// The kubelet's count of restarts, an annotation that cri-dockerd writes down as a label.
const RESTARTS: &str = "annotation.io.kubernetes.container.restartCount";
/// Containers an engine's directory may hold.
const MOST: usize = 200_000;

impl Runtime for Docker {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = each_segment(subject.lines, &mut |previous, text| {
            let (id, proof) = match segment::scope_id(text, "docker") {
                Some(id) => (id, Proof::Text),
                // A bare id below /docker is Docker's; below anything else (--cgroup-parent with
                // the cgroupfs driver, a pod) the text does not say.
                None if previous.is_some_and(|p| p == "docker") => (text.as_bytes(), Proof::Text),
                None => (text.as_bytes(), Proof::State),
            };
            let owner = || Owner::new(OwnerKind::Container, ENGINE, id);
            segment::is_hex64(id).then(|| (owner(), proof))
        });
        let contained = levels.iter().any(|l| l.proof == Proof::Text);
        if let Some(plumbing) = plumbing(subject, contained) {
            return match plumbing {
                Claim::Mine(mine) => Claim::Mine(Mine { levels, ..mine }),
                other => other,
            };
        }
        levels.into()
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, DATA_ROOTS.map(BString::from))),
            Hints::Configured => of_admin(open_all(host, configured(host))),
            Hints::Running => open_all(host, running(host)),
            Hints::Mounts(mounts) => match host.mounts() {
                Ok(table) => open_all(host, from_binds(table, mounts)),
                Err(_) => FoundRoots::default(),
            },
            Hints::At(path) => open_all(host, [path.into()]),
            Hints::Args(args) => open_all(host, data_root_arg(args)),
            Hints::User(user) => of_user(host, user),
            Hints::Inside(inside) => inner_roots(inside),
            Hints::Monitor(_) | Hints::UserInside(..) | Hints::Moved(_) => FoundRoots::default(),
        }
    }

    fn volumes(&self) -> Option<&'static str> {
        Some("volumes")
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("containerd-shim")
    }

    fn watched(&self, args: &[BString]) -> Option<BString> {
        let namespace = Subject::flag(args, "namespace")?;
        let id = Subject::flag(args, "id").filter(|id| segment::is_hex64(id))?;
        segment::is_dockers_namespace(&namespace).then_some(id)
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        match query {
            Query::Id(id) if segment::is_hex64(id) => {
                match root.root.look(&files::container_file(id, "")) {
                    Ok(_) => matches.ids.push(id.into()),
                    Err(e) if e.class == Class::Gone => {}
                    Err(e) => return Err(e),
                }
            }
            Query::Id(_) => {}
            Query::IdPrefix(prefix) => {
                matches.ids = self.list(root)?;
                matches.ids.retain(|id| id.starts_with(prefix));
            }
            Query::Name(name) => {
                let wanted = [b"/", name.as_bytes()].concat();
                let search = Search { host, root, ids: self.list(root)?, needle: name };
                return Ok(search.by_name(|c| c.name.as_bytes() == wanted));
            }
            Query::Volume(volume) => {
                let search = Search { host, root, ids: self.list(root)?, needle: volume };
                return Ok(search.all(|c| {
                    let mut mounted = c.mount_points.iter().flat_map(|m| m.values());
                    mounted.any(|m| m.name.as_bytes() == volume.as_bytes())
                }));
            }
            Query::Address(address) => {
                let search = Search { host, root, ids: self.list(root)?, needle: address };
                return Ok(search.all(|c| {
                    let networks = c.network_settings.networks.iter().flat_map(|n| n.values());
                    c.state.running
                        && networks.into_iter().any(|e| {
                            e.ip_address.as_bytes() == address.as_bytes()
                                || e.global_ipv6_address.as_bytes() == address.as_bytes()
                        })
                }));
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
        let Some(needle) = query.needle() else { return Ok(Matches::default()) };
        let search = Search { host, root, ids: self.list(root)?, needle };
        Ok(search.all(|c| {
            let labels = c.config.labels.iter().flatten();
            let labels: Vec<_> =
                labels.map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
            pod(&labels).is_some_and(|pod| query.fits(&pod))
        }))
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let entries = root.root.list(b"containers", MOST)?;
        Ok(entries.into_iter().map(|e| e.name).filter(|n| segment::is_hex64(n)).collect())
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
        Some(mounts(root, id))
    }

    fn services(&self) -> &'static [Service] {
        &[service::DOCKER]
    }

    fn heard(&self, told: &Told) -> Description {
        let described = service::description(told);
        Description {
            pod: pod(&described.labels),
            is_sandbox: is_sandbox(&described.labels),
            ..described
        }
    }

    fn cgroups_of(&self, root: &StateRoot, id: &BStr) -> Vec<BString> {
        let scope =
            |slice: &[u8]| -> BString { [slice, b"/docker-", id, b".scope"].concat().into() };
        let parent = files::cgroup_parent(&root.root, id).ok().flatten();
        match parent {
            // systemd nests a slice in those its name begins with: a-b.slice is in a.slice.
            Some(parent) if parent.ends_with(b".slice") => {
                vec![scope(&segment::slice_path(&parent))]
            }
            Some(parent) => {
                let parent = [b"/", parent.trim_with(|c| c == '/')].concat();
                vec![[parent.as_slice(), b"/", id].concat().into()]
            }
            None => vec![[b"/docker/", id.as_bytes()].concat().into(), scope(b"/system.slice")],
        }
    }
}

fn not_its_own(path: BString) -> ReadError {
    ReadError::new(path, Class::Malformed, "it is another container's")
}

/// What a process of Docker's machinery is, if it is one. Names alone prove nothing, since anyone
/// can choose his own: only root's processes in the host's PID namespace are considered.
fn plumbing(subject: &Subject<'_>, contained: bool) -> Option<Claim> {
    let mine =
        |serves| Claim::Mine(Mine { levels: Vec::new(), role: Some(Role::Plumbing), serves });
    // runc's first steps run as root, already in the container's cgroup and PID namespace.
    if subject.comm.starts_with(b"runc:[") && subject.uid == Some(0) {
        return Some(mine(None));
    }
    if contained || !subject.is_hosts_own() || segment::names_an_id(subject.lines) {
        return None;
    }
    let name = subject.comm.as_bytes();
    if !matches!(name, b"dockerd" | b"docker-proxy" | b"containerd-shim" | b"containerd") {
        return None;
    }
    let Some(args) = subject.args else {
        return Some(Claim::Need(Needs::CMDLINE));
    };
    match name {
        b"containerd-shim" => {
            let namespace = Subject::flag(args, "namespace")?;
            segment::is_dockers_namespace(&namespace)
                .then(|| mine(Subject::flag(args, "id").map(Serves::Id)))
        }
        b"docker-proxy" => Some(mine(Subject::flag(args, "container-ip").map(Serves::Address))),
        _ => Some(mine(None)),
    }
}

/// Opens data roots that are there, and the remapped ones in them (`--userns-remap` adds a
/// directory `<uid>.<gid>`).
pub(super) fn open_all(host: &Host, paths: impl IntoIterator<Item = BString>) -> FoundRoots {
    let mut found = FoundRoots::default();
    for path in paths {
        match open_root(host, path.as_ref()) {
            Ok(root) => found.roots.push(root),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
    found
}

/// The same data roots, which were found where the administrator has them.
pub(super) fn of_admin(mut found: FoundRoots) -> FoundRoots {
    let of_admin = |found: StateRoot| StateRoot { root: found.root.of_admin(), ..found };
    found.roots = found.roots.into_iter().map(of_admin).collect();
    found
}

/// One data root. Its files count only if they belong to whom the directory belongs to; a user's own
/// engine is his. A saved tree keeps no owners, but a captured one's manifest does.
fn open_root(host: &Host, path: &BStr) -> Result<StateRoot, ReadError> {
    host.guard(path)?;
    let saved = host.mode() == Mode::Saved;
    let owner = |path: &BStr| match saved {
        true => Ok(host.root().recorded_owner(path).unwrap_or(0)),
        false => host.root().look(path).map(|look| look.uid),
    };
    let uid = owner(path)?;
    let root = host.root().descend(path, Links::Never, (!saved).then_some(uid))?;
    let mut found = StateRoot::new(root, None, (uid != 0).then(|| name_of(host, uid)));
    let (dir, name) = path.rsplit_once_str("/").unwrap_or((b"", path));
    found.is_remapped =
        uid != 0 && is_of_remapped(name, uid) && owner(dir.into()).is_ok_and(|above| above == 0);
    Ok(found)
}

/// Whether a directory is called `UID.GID`, as one is that Docker makes for whom root is mapped to.
fn is_of_remapped(name: &[u8], uid: u32) -> bool {
    let numbers = name.split_once_str(".");
    let numbers = numbers.map(|(uid, gid)| (parse::decimal32(uid), parse::decimal32(gid)));
    matches!(numbers, Some((Some(own), Some(_))) if own == uid)
}

/// The data root of a user's own engine: where its arguments say, else in his home
/// (moby pkg/homedir). What is not his does not count.
fn of_user(host: &Host, user: &User) -> FoundRoots {
    let named = data_root_arg(&user.args);
    let open = match &named {
        Some(path) => host.owned_dir(BStr::new("/"), path.as_ref(), user.uid),
        None => host.owned_dir(user.home.as_ref(), BStr::new(USERS_ROOT), user.uid),
    };
    let mut found = FoundRoots::default();
    match open {
        Ok(root) => found.roots.push(StateRoot::new(root, None, Some(name_of(host, user.uid)))),
        Err(e) if e.class == Class::Gone => {}
        Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
    }
    found
}

/// What a user is called.
pub(super) fn name_of(host: &Host, uid: u32) -> BString {
    host.user_name(uid).map_or_else(|| uid.to_string().into(), BString::from)
}

/// The data root of an engine in a container: where its arguments say, else the usual place there,
/// else where its own containers' binds come from.
fn inner_roots(inside: &Inside<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    let mut paths: Vec<BString> = data_root_arg(&inside.args).into_iter().collect();
    if paths.is_empty() {
        if let Ok(table) = inside.process.mountinfo() {
            paths = from_binds(&table, &inside.mounts);
        }
        paths.push(DATA_ROOTS[0].into());
    }
    for path in paths {
        match inside.process.directory(path.as_ref()) {
            Ok(root) => {
                found.roots.push(StateRoot::new(root, None, None));
                break;
            }
            Err(e) if e.class == Class::Gone => {}
            Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
    found
}

/// The data root that `--data-root` (or `-g`, `--graph` of old) names.
fn data_root_arg(args: &[BString]) -> Option<BString> {
    ["data-root", "graph", "g"].iter().find_map(|flag| Subject::flag(args, flag))
}

fn configured(host: &Host) -> Vec<BString> {
    let read = |path: &&str| {
        let bytes = host.root().read(path.as_bytes(), json::CAP).ok()?;
        let daemon = files::parse_daemon(&bytes).ok()?;
        daemon.data_root.or(daemon.graph).map(BString::from)
    };
    DAEMON_JSON.iter().filter_map(read).collect()
}

/// The data roots that the arguments of running daemons name: those with a PID file in its usual
/// place, or in Docker's unit.
fn running(host: &Host) -> Vec<BString> {
    let mut pids: Vec<u32> = Vec::new();
    for path in PID_FILES.iter().chain(&UNIT_PROCS) {
        let Ok(bytes) = host.root().read(path.as_bytes(), 64 * 1024) else {
            continue;
        };
        pids.extend(bytes.split(|b| *b == b'\n').filter_map(|l| parse::decimal32(l.trim_ascii())));
    }
    pids.sort_unstable();
    pids.dedup();
    let daemon = |pid: &u32| {
        let stat = host.process(*pid).and_then(|p| p.stat()).ok()?;
        let ask = Ask { file: Slow::Cmdline, pid: *pid, start_ticks: stat.start_ticks };
        (stat.comm == "dockerd").then_some(ask)
    };
    let asks: Vec<Ask> = pids.iter().filter_map(daemon).collect();
    let args = host.slow_reads(&asks).into_iter().flatten().map(|b| parse::cmdline::parse(&b));
    args.filter_map(|args| data_root_arg(&args)).collect()
}

/// Data roots from the binds that Docker makes into every container: `/etc/hostname` and the like
/// come from `<data root>/containers/<id>/`, its own id or that of one whose network it joined. Only the first mount at each point counts, since
/// whoever has a mount namespace of his own can put another on top; an overlay, which a container
/// can write to, never does.
fn from_binds(table: &[Mount], mounts: &[Mount]) -> Vec<BString> {
    let mut roots: Vec<BString> = Vec::new();
    for point in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        let Some(bind) = mounts.iter().find(|m| m.point == point) else {
            continue;
        };
        if bind.fs_type == "overlay" || bind.fs_type.starts_with(b"fuse") {
            continue;
        }
        let file = point.strip_prefix("/etc").unwrap_or(point);
        // With a joined network the files are another container's of the same engine.
        let Some(dir) = bind.root.strip_suffix(file.as_bytes()) else { continue };
        let Some(slash) = dir.rfind_byte(b'/') else { continue };
        if !segment::is_hex64(&dir[slash + 1..]) {
            continue;
        }
        let Some(inside) = dir[..slash].strip_suffix(b"/containers") else { continue };
        // The root field counts from the top of its file system: find where that is mounted.
        for mount in table.iter().filter(|m| m.device == bind.device) {
            if let Some(rest) = strip(&mount.root, inside) {
                let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
                let path: BString = [point, rest].concat().into();
                if !roots.contains(&path) {
                    roots.push(path);
                }
            }
        }
    }
    roots
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let rel = files::container_file(id, "config.v2.json");
    let config: files::Config = json::read(&root.root, &rel)?;
    let path = root.root.join(&rel);
    if config.id.as_bytes() != id.as_bytes() {
        return Err(not_its_own(path));
    }
    let labels: Vec<(BString, BString)> = config
        .config
        .labels
        .unwrap_or_default()
        .into_iter()
        .map(|(k, v)| (k.into(), v.into()))
        .collect();
    let (engine_state, believed) = state_words(&config.state);
    let text = |s: String| (!s.is_empty()).then(|| BString::from(s));
    Ok(Description {
        name: text(config.name.strip_prefix('/').unwrap_or(&config.name).to_owned()),
        image: text(config.config.image),
        image_id: text(config.image),
        pod: pod(&labels),
        is_sandbox: is_sandbox(&labels),
        compose: compose(&labels),
        labels,
        engine_state: Some(engine_state),
        believed: Some(believed),
        created: files::time(&config.created),
        started: files::time(&config.state.started_at),
        pid: u32::try_from(config.state.pid).ok().filter(|p| *p > 0),
        log: text(config.log_path),
        user: root.user.clone(),
        path,
        ..Description::default()
    })
}

/// Volumes, binds, and the files that Docker keeps for each container.
fn mounts(root: &StateRoot, id: &BStr) -> Result<Vec<Mounting>, ReadError> {
    let config: files::Config =
        json::read(&root.root, &files::container_file(id, "config.v2.json"))?;
    let mounting = |at: &str, from: String| {
        let from = Some(BString::from(from)).filter(|path| path.starts_with(b"/"));
        Mounting { at: at.into(), from }
    };
    let own = [
        ("/etc/hosts", config.hosts_path),
        ("/etc/hostname", config.hostname_path),
        ("/etc/resolv.conf", config.resolv_conf_path),
    ];
    let own = own.into_iter().filter(|(_, path)| !path.is_empty());
    let points = config.mount_points.unwrap_or_default();
    let points = points.into_iter().map(|(at, point)| mounting(&at, point.source));
    Ok(points.chain(own.map(|(at, path)| mounting(at, path))).collect())
}

/// The engine's own word, in the order in which moby decides (container/state.go), and ours.
fn state_words(state: &files::State) -> (&'static str, ContainerState) {
    if state.running {
        return match (state.paused, state.restarting) {
            (true, _) => ("paused", ContainerState::Paused),
            (_, true) => ("restarting", ContainerState::Restarting),
            _ => ("running", ContainerState::Running),
        };
    }
    if state.removal_in_progress {
        return ("removing", ContainerState::Removing);
    }
    if state.dead {
        return ("dead", ContainerState::Dead);
    }
    match files::time(&state.started_at) {
        None => ("created", ContainerState::Created),
        Some(_) => ("exited", ContainerState::Exited),
    }
}

fn label<'l>(labels: &'l [(BString, BString)], name: &str) -> Option<&'l BString> {
    labels.iter().find(|(k, _)| k == name).map(|(_, v)| v)
}

/// Whether cri-dockerd's labels say that it holds a pod's namespaces.
fn is_sandbox(labels: &[(BString, BString)]) -> bool {
    label(labels, "io.kubernetes.docker.type").is_some_and(|t| t == "podsandbox")
}

fn compose(labels: &[(BString, BString)]) -> Option<Compose> {
    let project = label(labels, "com.docker.compose.project")?.clone();
    let service = label(labels, "com.docker.compose.service").cloned();
    Some(Compose { project, service })
}

/// The pod that cri-dockerd's labels name.
fn pod(labels: &[(BString, BString)]) -> Option<Pod> {
    let get = |name: &str| label(labels, &format!("io.kubernetes.{name}")).cloned();
    let name = get("pod.name")?;
    Some(Pod {
        name: Some(name),
        namespace: get("pod.namespace"),
        uid: get("pod.uid"),
        container: get("container.name").filter(|c| c != "POD"),
        restarts: label(labels, RESTARTS).and_then(|n| parse::decimal32(n)),
    })
}

#[cfg(test)]
mod tests {
    use super::is_of_remapped;

    #[test]
    fn a_remapped_tree_is_called_after_whom_root_is_mapped_to() {
        assert!(is_of_remapped(b"100000.100000", 100_000));
        for (name, uid) in [(&b"docker"[..], 1000), (b"1000.1000", 100_000), (b"1000.x", 1000)] {
            assert!(!is_of_remapped(name, uid));
        }
    }
}
