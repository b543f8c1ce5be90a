//! Where Podman's graph roots are: the system's, a user's, those in containers.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, parse};

use super::describe::has_some;
use super::{Inside, StateRoot, User, segment};
use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::docker::{name_of, of_admin, open_all};
use crate::runtime::{FoundRoots, Hints, Subject};
use crate::state::containers_storage as storage;
use crate::state::toml;

/// The system's graph root when nothing moves it.
const PLACE: &str = "var/lib/containers/storage";
/// A user's, in his home unless `$XDG_DATA_HOME` moves it.
const USERS_PLACE: &str = ".local/share/containers/storage";
/// Where the library's configuration says where stores are; what comes later counts.
const CONF: [&str; 2] = ["usr/share/containers/storage.conf", "etc/containers/storage.conf"];
/// The directory of a user's own, and its name there.
const USERS_CONF: (&str, &[u8]) = (".config/containers", b"storage.conf");

/// Roots by one kind of hint.
pub(super) fn roots(host: &Host, hints: Hints<'_>) -> FoundRoots {
    let mut found = match hints {
        Hints::Default => of_admin(open_all(host, [PLACE.into()])),
        Hints::Configured => of_admin(open_all(host, configured(host))),
        Hints::Running => return FoundRoots::default(),
        Hints::Mounts(mounts) => open(host, shown_by(host, mounts)),
        Hints::At(path) => open_all(host, [path.into()]),
        Hints::Args(args) => open_all(host, of_podman(args)),
        Hints::User(user) => of_user(host, user),
        Hints::Inside(inside) => inside_of(inside),
        Hints::Monitor(monitor) => open_all(host, of_monitor(&monitor.args)),
    };
    // Others keep containers in stores of the same kind.
    found.roots.retain(|r| has_some(&r.root));
    found
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
    let mut take = |opened: Result<Root, whose_kernel::ReadError>| match opened {
        Ok(root) => {
            let user = Some(name_of(host, user.uid));
            found.roots.push(StateRoot::new(root, None, user));
        }
        Err(e) if e.class == Class::Gone => {}
        Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
    };
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
    for path in paths {
        // Where it leads is the mounter's text.
        if let Err(e) = host.guard(&path) {
            found.gaps.push(Gap::from_read(what::CONTAINERS, &e));
            continue;
        }
        let uid = host.root().look(&path).map_or(0, |look| look.uid);
        let more = match uid {
            0 => open_all(host, [path]),
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

/// Graph roots by the root mount of a container, the first one, which the engine made: an overlay's
/// upper directory is `<graph root>/overlay/<layer>/diff`; a directory of the driver vfs is
/// `<graph root>/vfs/dir/<layer>` of some file system, whose own mount says where that is.
fn shown_by(host: &Host, mounts: &[Mount]) -> Vec<BString> {
    let Some(root) = mounts.iter().find(|m| m.point == "/") else { return Vec::new() };
    let graph_root = |path: &[u8], below: &str| -> Option<BString> {
        let (store, layer) = path.rsplit_once_str("/")?;
        let graph = store.strip_suffix(below.as_bytes())?;
        segment::is_hex64(layer).then(|| graph.into())
    };
    if root.fs_type == "overlay" {
        let upper = parse::overlay::parse(root.super_options.as_ref()).upper;
        let layer = upper.as_ref().and_then(|u| u.strip_suffix(b"/diff"));
        let graph = layer.and_then(|layer| graph_root(layer, "/overlay"));
        return graph.filter(|g| g.starts_with(b"/")).into_iter().collect();
    }
    let Some(graph) = graph_root(&root.root, "/vfs/dir") else { return Vec::new() };
    let of_it = host.mounts().unwrap_or_default().iter().filter(|m| m.device == root.device);
    let path = |mount: &Mount| {
        let rest = strip(&mount.root, &graph)?;
        let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
        Some(BString::from([point, rest.as_bytes()].concat()))
    };
    of_it.filter_map(path).collect()
}

fn inside_of(inside: &Inside<'_>) -> FoundRoots {
    let mut found = FoundRoots::default();
    match inside.process.directory(BStr::new(PLACE)) {
        Ok(root) => found.roots.push(StateRoot::new(root, None, None)),
        Err(e) if e.class == Class::Gone => {}
        Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
    }
    found
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
