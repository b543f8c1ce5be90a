//! Where Podman's graph roots are: the system's, a user's, those in containers.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::idmap;
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, ReadError, parse};

use super::describe::has_some;
use super::{InnerUser, Inside, StateRoot, User, segment};
use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::docker::{name_of, of_admin, open_all};
use crate::runtime::{FoundRoots, Hints, Subject};
use crate::state::containers_storage as storage;
use crate::state::{podman as files, toml};

/// The system's graph root when nothing moves it.
const PLACE: &str = "var/lib/containers/storage";
/// A user's, in his home unless `$XDG_DATA_HOME` moves it.
const USERS_PLACE: &str = ".local/share/containers/storage";
/// Where the library's configuration says where stores are; what comes later counts.
const CONF: [&str; 2] = ["usr/share/containers/storage.conf", "etc/containers/storage.conf"];
/// The run root when nothing moves it.
const RUN_ROOT: &str = "run/containers/storage";
/// Where containers are configured, and the directory of files that overrule it in the order of names.
const HOSTS_CONF: [&str; 2] =
    ["usr/share/containers/containers.conf", "etc/containers/containers.conf"];
const HOSTS_CONF_DIR: &[u8] = b"etc/containers/containers.conf.d";
/// The file in a user's directory.
const CONTAINERS_CONF: &[u8] = b"containers.conf";
/// Files that a directory of configuration may hold.
const MOST_FILES: usize = 1_000;
/// The directory of a user's own, and its name there.
const USERS_CONF: (&str, &[u8]) = (".config/containers", b"storage.conf");

/// Roots by one kind of hint: those that have to do with Podman.
pub(super) fn roots(host: &Host, hints: Hints<'_>) -> FoundRoots {
    // Whoever has one of a container's passwd has nothing to do with the host's of that name.
    let is_inside = matches!(hints, Hints::Inside(_) | Hints::UserInside(..));
    let mut found = graph_roots(host, hints);
    for root in found.roots.iter_mut().filter(|_| !is_inside) {
        look_beside(host, root);
    }
    // Others keep containers in stores of the same kind.
    found.roots.retain(has_some);
    found
}

/// Finds what belongs to a graph root and lies elsewhere, by the configuration of whose it is: its
/// database in a `static_dir` or in the run root of a transient store
/// (libpod/sqlite_state_internal.go), and further stores of images. For root's the former is true of the
/// one graph root which that names too.
fn look_beside(host: &Host, root: &mut StateRoot) {
    let read = |path: &str| host.root().read(path.as_bytes(), toml::CAP).ok();
    let system = CONF.map(read);
    let uid = |user: &BString| host.uid_of(user).or_else(|| parse::decimal32(user));
    let Some(uid) = root.users_own().and_then(uid) else {
        let elsewhere = elsewhere(&system, &containers_conf(host), RUN_ROOT);
        root.further = elsewhere.further;
        let identity = |look: whose_kernel::look::Look| (look.device, look.ino);
        let place = configured(host).unwrap_or_else(|| PLACE.into());
        let is_it = host.root().look(&place).map(identity).ok();
        if is_it.is_some() && is_it == root.root.look(b"").map(identity).ok() {
            let of_admin = |found: StateRoot| found.users_own().is_none().then_some(found.root);
            let opened = open_all(host, elsewhere.databases).roots.into_iter();
            root.beside = opened.filter_map(of_admin).collect();
        }
        return;
    };
    let Some(home) = host.home_of(uid) else { return };
    let conf = host.owned_dir(home.as_ref(), BStr::new(USERS_CONF.0), uid).ok();
    let read = |name: &[u8]| conf.as_ref()?.read(name, toml::CAP).ok();
    // His own file stands instead of the system's.
    let storage = read(USERS_CONF.1).map_or_else(|| system.to_vec(), |own| vec![Some(own)]);
    let run_root = format!("/run/user/{uid}/containers");
    let elsewhere = elsewhere(&storage, &[read(CONTAINERS_CONF)], &run_root);
    root.further = elsewhere.further;
    let text = |place: BString| place.replace("$HOME", &home).replace("$UID", uid.to_string());
    let own = |place: BString| {
        let place = text(place);
        let is_whole = place.starts_with(b"/");
        host.owned_dir(BStr::new("/"), BStr::new(&place), uid).ok().filter(|_| is_whole)
    };
    root.beside = elsewhere.databases.into_iter().filter_map(own).collect();
}

/// The files in which a host's administrator configures containers; what comes later counts.
fn containers_conf(host: &Host) -> Vec<Option<Vec<u8>>> {
    let mut paths: Vec<BString> = HOSTS_CONF.map(BString::from).into();
    let mut entries = host.root().list(HOSTS_CONF_DIR, MOST_FILES).unwrap_or_default();
    entries.retain(|entry| !entry.is_dir && entry.name.ends_with(b".conf"));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    paths.extend(entries.iter().map(|entry| [HOSTS_CONF_DIR, b"/", &entry.name].concat().into()));
    paths.iter().map(|path| host.root().read(path, toml::CAP).ok()).collect()
}

/// What configuration files say lies elsewhere.
struct Elsewhere {
    databases: Vec<BString>,
    further: Vec<BString>,
}

/// Reads files that say where stores are, and files that configure containers; what comes later counts.
fn elsewhere(
    storage: &[Option<Vec<u8>>],
    containers: &[Option<Vec<u8>>],
    run_root: &str,
) -> Elsewhere {
    let (mut run_root, mut is_transient, mut further) = (run_root.to_owned(), false, Vec::new());
    for bytes in storage.iter().flatten() {
        let places = storage::parse_config(bytes).unwrap_or_default().storage;
        run_root = places.runroot.filter(|place| !place.is_empty()).unwrap_or(run_root);
        is_transient |= places.transient_store;
        further = places.options.additionalimagestores.unwrap_or(further);
    }
    let mut static_dir = None;
    for bytes in containers.iter().flatten() {
        let engine = files::parse_conf(bytes).unwrap_or_default().engine;
        static_dir = engine.static_dir.filter(|place| !place.is_empty()).or(static_dir);
    }
    let transient = is_transient.then_some(run_root);
    let databases = static_dir.into_iter().chain(transient).map(BString::from).collect();
    Elsewhere { databases, further: further.into_iter().map(BString::from).collect() }
}

/// Graph roots by one kind of hint, whosever containers are in them.
pub(in crate::runtime) fn graph_roots(host: &Host, hints: Hints<'_>) -> FoundRoots {
    match hints {
        Hints::Default => of_admin(open_all(host, [PLACE.into()])),
        Hints::Configured => of_admin(open_all(host, configured(host))),
        Hints::Running => FoundRoots::default(),
        Hints::Mounts(mounts) => open(host, shown_by(host, mounts)),
        Hints::At(path) => open_all(host, [path.into()]),
        Hints::Args(args) => open_all(host, of_podman(args)),
        Hints::User(user) => of_user(host, user),
        Hints::Inside(inside) => inside_of(inside),
        Hints::UserInside(inside, user) => users_inside(inside, user),
        Hints::Moved(_) => FoundRoots::default(),
        Hints::Monitor(monitor) => open_all(host, of_monitor(&monitor.args)),
    }
}

/// The graph root that `podman --root` names.
fn of_podman(args: &[BString]) -> Option<BString> {
    let program = args.first()?.rsplit_str("/").next()?;
    (program == b"podman").then(|| Subject::flag(args, "root"))?
}

/// The graph root for the command that a conmon of Podman's runs when its container has ended
/// (libpod/oci_conmon_common.go).
fn of_monitor(args: &[BString]) -> Option<BString> {
    let pairs = args.windows(2).filter(|pair| pair[0] == "--exit-command-arg");
    let command: Vec<BString> = pairs.map(|pair| pair[1].clone()).collect();
    Subject::flag(&command, "root")
}

fn configured(host: &Host) -> Option<BString> {
    let graph_root = |path: &&str| {
        let bytes = host.root().read(path.as_bytes(), toml::CAP).ok()?;
        storage::parse_config(&bytes).ok()?.storage.graphroot
    };
    let places = CONF.iter().filter_map(graph_root).filter(|place| !place.is_empty());
    places.last().map(BString::from)
}

/// A user's graph root: where his monitor or his own configuration says, and in his home. What is not
/// his does not count, nor is anything outside it read.
fn of_user(host: &Host, user: &User) -> FoundRoots {
    let mut found = FoundRoots::default();
    let mut take = |opened| found.take(opened, Some(name_of(host, user.uid)));
    let moved = of_monitor(&user.args).or_else(|| users_own(host, user));
    if let Some(path) = moved.filter(|path| path.starts_with(b"/")) {
        take(host.owned_dir(BStr::new("/"), path.as_ref(), user.uid));
    }
    take(host.owned_dir(user.home.as_ref(), BStr::new(USERS_PLACE), user.uid));
    found
}

/// The graph root in a user's configuration.
fn users_own(host: &Host, user: &User) -> Option<BString> {
    let (dir, file) = USERS_CONF;
    let dir = host.owned_dir(user.home.as_ref(), BStr::new(dir), user.uid).ok()?;
    let bytes = dir.read(file, toml::CAP).ok()?;
    let places = storage::parse_config(&bytes).ok()?.storage;
    let place = places.graphroot.filter(|p| !p.is_empty())?;
    // As the library puts them in (storage/types/options.go).
    let text = place.replace("$HOME", &user.home.to_str_lossy());
    Some(text.replace("$UID", &user.uid.to_string()).into())
}

/// Roots at paths that someone's mounts show: a user's is opened as one of his.
fn open(host: &Host, paths: Vec<BString>) -> FoundRoots {
    let mut found = FoundRoots::default();
    // All of a saved tree belongs to who unpacked it, if that was not root.
    let admin = host.root().look(b"").map_or(0, |look| look.uid);
    for path in paths {
        // Where it leads is the mounter's text.
        if let Err(e) = host.guard(&path) {
            found.gaps.push(Gap::from_read(what::CONTAINERS, &e));
            continue;
        }
        let uid = host.root().look(&path).map_or(0, |look| look.uid);
        let more = match uid {
            uid if uid == 0 || uid == admin => open_all(host, [path]),
            uid => {
                let opened = host.owned_dir(BStr::new("/"), path.as_ref(), uid);
                let user = || Some(name_of(host, uid));
                let roots = opened.map(|root| StateRoot::new(root, None, user()));
                FoundRoots { roots: roots.into_iter().collect(), gaps: Vec::new() }
            }
        };
        found.roots.extend(more.roots);
        found.gaps.extend(more.gaps);
    }
    found
}

/// The layer that is a container's root, as its root mount shows it: the first one, which the engine made.
struct Shown {
    /// The graph root: the mounter's text, or a path of the mount's file system.
    graph: BString,
    layer: BString,
}

/// An overlay's upper directory is `<graph root>/overlay/<layer>/diff`; a directory of the driver vfs is
/// `<graph root>/vfs/dir/<layer>` of some file system, whose own mount says where that is.
fn shown(root: &Mount) -> Option<Shown> {
    let below = |path: &[u8], below: &str| -> Option<Shown> {
        let (store, layer) = path.rsplit_once_str("/")?;
        let graph = store.strip_suffix(below.as_bytes())?;
        segment::is_hex64(layer).then(|| Shown { graph: graph.into(), layer: layer.into() })
    };
    if root.fs_type != "overlay" {
        return below(&root.root, "/vfs/dir");
    }
    let upper = parse::overlay::parse(root.super_options.as_ref()).upper;
    let shown = below(upper.as_ref()?.strip_suffix(b"/diff")?, "/overlay")?;
    shown.graph.starts_with(b"/").then_some(shown)
}

/// The layer that a container's root mount shows to be its own.
pub(in crate::runtime) fn layer_shown(mounts: &[Mount]) -> Option<BString> {
    shown(mounts.iter().find(|m| m.point == "/")?).map(|shown| shown.layer)
}

/// Graph roots by the root mount of a container.
fn shown_by(host: &Host, mounts: &[Mount]) -> Vec<BString> {
    let Some(root) = mounts.iter().find(|m| m.point == "/") else { return Vec::new() };
    let Some(Shown { graph, .. }) = shown(root) else { return Vec::new() };
    if root.fs_type == "overlay" {
        return vec![graph];
    }
    let of_it = host.mounts().unwrap_or_default().iter().filter(|m| m.device == root.device);
    let path = |mount: &Mount| {
        let rest = strip(&mount.root, &graph)?;
        let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
        Some(BString::from([point, rest.as_bytes()].concat()))
    };
    of_it.filter_map(path).collect()
}

/// The system's graph roots in a container: where a monitor there says, and the usual one.
fn inside_of(inside: &Inside<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    found.roots.extend(named_inside(inside, 0).map(|root| StateRoot::new(root, None, None)));
    found.take(inside.process.directory(BStr::new(PLACE)), None);
    found
}

/// The graph roots of a user in a container that are his there: where his monitor says, and in his home.
fn users_inside(inside: &Inside<'_>, user: &InnerUser) -> FoundRoots {
    let mut found = FoundRoots::default();
    let at_home = BString::from([user.home.as_slice(), b"/", USERS_PLACE.as_bytes()].concat());
    let his = || Some(user.name.clone());
    found.roots.extend(named_inside(inside, user.uid).map(|r| StateRoot::new(r, None, his())));
    found.take(owned_inside(inside, at_home.as_ref(), user.uid), his());
    found
}

/// The directory that a monitor in a container names, if it belongs to this uid there: he can name any.
fn named_inside(inside: &Inside<'_>, uid: u32) -> Option<Root> {
    owned_inside(inside, of_monitor(&inside.args)?.as_ref(), uid).ok()
}

/// A directory in a container, if it belongs to this uid there.
fn owned_inside(inside: &Inside<'_>, place: &BStr, uid: u32) -> Result<Root, ReadError> {
    let root = inside.process.directory(place)?;
    let owner = match root.recorded_owner(b"") {
        Some(owner) => owner,
        None => root.look(b"")?.uid,
    };
    let own = idmap::inside(&inside.process.uid_map()?, owner);
    let why = format!("its owner is not uid {uid} there");
    let others = || ReadError::new(root.shown(), Class::Malformed, why);
    if own == Some(uid) { Ok(root) } else { Err(others()) }
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::{of_monitor, of_podman};

    fn args(text: &str) -> Vec<BString> {
        text.split(' ').map(BString::from).collect()
    }

    #[test]
    fn roots_in_arguments() {
        let conmon = "conmon --api-version 1 -c x --root /no --exit-command /usr/bin/podman \
                      --exit-command-arg --root --exit-command-arg /srv/c --exit-command-arg rm";
        assert_eq!(of_monitor(&args(conmon)).unwrap(), "/srv/c");
        assert_eq!(of_monitor(&args("conmon --root /no")), None);
        assert_eq!(of_podman(&args("/usr/bin/podman --root=/a run")).unwrap(), "/a");
        assert_eq!(of_podman(&args("containerd --root /a")), None);
        assert_eq!(of_podman(&[]), None);
    }
}
