//! Steps of an image build by Buildah, or by Podman through it.
//!
//! The runtime's container is `buildah-<temporary directory>`, the directory `buildah` and digits
//! (buildah run_linux.go, define/types.go); the working container's id does not show. Drivers of
//! systemd put the runtime's name before it. A user's step, and any with the isolation `chroot`, has no
//! cgroup: the temporary directory shows in its mounts.
//!
//! Working containers are in the store's table with a name, an image and a layer, beside Podman's and
//! CRI-O's, and have a file of Buildah's (buildah.go). Nothing runs in one but such steps: the layer that a
//! step has as its root is its working container's.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::podman::{graph_roots, layer_shown};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, place, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::containers_storage::{self as storage, Store};
use crate::state::{buildah as files, docker::time};

/// See the module.
#[derive(Debug)]
pub(super) struct Buildah;

const ENGINE: Engine = Engine("buildah");

/// Where a step has files of its own mounted, and what they are in its temporary directory
/// (buildah run_common.go).
const FILES: [(&str, &str); 4] = [
    ("/run/.containerenv", "/run/.containerenv"),
    ("/etc/hostname", "/hostname"),
    ("/etc/resolv.conf", "/resolv.conf"),
    ("/etc/hosts", "/hosts"),
];
/// What the processes that run a step call themselves: that of the OCI runtime, and those of the isolation
/// `chroot` (buildah run_common.go, chroot/run_common.go).
const RUNNERS: [&str; 3] = ["buildah-oci-runtime", "buildah-chroot-runtime", "buildah-chroot-exec"];

impl Runtime for Buildah {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = step(place.text())?;
            Some(Owner::new(OwnerKind::Job, ENGINE, id))
        });
        levels.into()
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let is_path = matches!(hints, Hints::At(_));
        let mut found = graph_roots(host, hints);
        // Of a path it is known that it leads into a store, and that is all.
        let may = |root: &Root| is_path || working(root).map_or(true, |all| !all.is_empty());
        found.roots.retain(|r| may(&r.root));
        // What stands in the way is the same for Podman, which says so.
        found.gaps.clear();
        found
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let fits = |working: &Working| match query {
            Query::Id(wanted) => wanted == working.container.id.as_bytes(),
            Query::IdPrefix(prefix) => working.container.id.as_bytes().starts_with(prefix),
            Query::Name(wanted) => {
                working.container.names.iter().flatten().any(|n| wanted == n.as_bytes())
            }
            Query::Address(_) | Query::Volume(_) => false,
        };
        let found = working(&root.root)?.into_iter().filter(fits);
        Ok(Matches { ids: found.map(|w| w.container.id.into()).collect(), gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(working(&root.root)?.into_iter().map(|w| w.container.id.into()).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        // A step has no state of its own.
        segment::is_hex64(id).then(|| describe(root, id))
    }

    fn step_in(&self, mounts: &[Mount]) -> Option<Owner> {
        let own = |(point, file): &(&str, &str)| {
            let mount = mounts.iter().find(|m| m.point == *point)?;
            let dir = mount.root.strip_suffix(file.as_bytes())?;
            let id = [b"buildah-", dir.rsplit_once_str("/")?.1].concat();
            step(&id).map(|id| Owner::new(OwnerKind::Job, ENGINE, id))
        };
        FILES.iter().find_map(own)
    }

    fn has_state(&self) -> bool {
        true
    }

    fn has_steps(&self) -> bool {
        true
    }

    fn works_in(&self, root: &StateRoot, mounts: &[Mount]) -> Result<Option<BString>, ReadError> {
        let Some(layer) = layer_shown(mounts) else { return Ok(None) };
        let mut all = working(&root.root)?.into_iter();
        let own = all.find(|working| working.container.layer.as_bytes() == layer);
        Ok(own.map(|working| working.container.id.into()))
    }

    fn runs_steps(&self, args: &[BString]) -> bool {
        args.first().is_some_and(|first| RUNNERS.iter().any(|runner| first == runner))
    }
}

/// A working container of the store's table, and the driver whose table that is.
#[derive(Clone, Debug)]
pub(crate) struct Working {
    container: storage::Container,
    driver: BString,
}

fn working(root: &Root) -> Result<Vec<Working>, ReadError> {
    let mut all = stored(root)?;
    all.retain(|of| files::is_its(&Store { root, driver: &of.driver }, &of.container));
    Ok(all)
}

/// All containers of the store's tables, whosever they are, by their ids.
fn stored(root: &Root) -> Result<Vec<Working>, ReadError> {
    let mut all = Vec::new();
    for driver in storage::drivers(root)? {
        let containers = (Store { root, driver: &driver }).containers()?.into_iter();
        let sound = containers.filter(|c| segment::is_hex64(c.id.as_bytes()));
        all.extend(sound.map(|container| Working { container, driver: driver.clone() }));
    }
    all.sort_by(|one, other| one.container.id.cmp(&other.container.id));
    Ok(all)
}

/// The working container of this id. A user's table may be as long as he likes, so that it is not read for each in it
/// anew: but for one that has come since.
fn one(root: &StateRoot, id: &BStr) -> Result<Option<Working>, ReadError> {
    let of = |all: &[Working]| {
        let from = all.partition_point(|of| of.container.id.as_bytes() < id.as_bytes());
        let same = all.get(from..).unwrap_or_default().iter();
        let mut same = same.take_while(|of| id == of.container.id.as_bytes());
        let store = |driver| Store { root: &root.root, driver };
        same.find(|of| files::is_its(&store(&of.driver), &of.container)).cloned()
    };
    let known = root.stored.get_or_init(|| stored(&root.root));
    match of(known.as_ref().map_err(ReadError::clone)?) {
        Some(known) => Ok(Some(known)),
        None => Ok(of(&stored(&root.root)?)),
    }
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no working container of buildah");
    let Working { container, driver } = one(root, id)?.ok_or_else(gone)?;
    let store = Store { root: &root.root, driver: &driver };
    let builder = files::of(&store, id)?.unwrap_or_default();
    let text = |text: String| Some(BString::from(text)).filter(|t| !t.is_empty());
    let image_id = text(container.image).or_else(|| text(builder.image_id));
    Ok(Description {
        name: container.names.and_then(|names| text(names.into_iter().next()?)),
        image: text(builder.image),
        image_id: image_id.map(|id| match segment::is_hex64(&id) {
            true => [b"sha256:", id.as_slice()].concat().into(),
            false => id,
        }),
        believed: Some(ContainerState::Created),
        created: time(&container.created),
        user: root.user.clone(),
        path: root.root.join(&[&driver[..], b"-containers/containers.json"].concat()),
        ..Description::default()
    })
}

fn step(text: &[u8]) -> Option<&[u8]> {
    let id = match text.strip_suffix(b".scope") {
        Some(scope) => scope.strip_prefix(b"crun-").or_else(|| scope.strip_prefix(b"runc-"))?,
        None => text,
    };
    let number = id.strip_prefix(b"buildah-buildah")?;
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(id)
}

#[cfg(test)]
mod tests {
    use bstr::BString;
    use whose_kernel::parse::mountinfo::parse;

    use super::{Buildah, step};
    use crate::runtime::Runtime;

    #[test]
    fn a_step_by_its_own_files() {
        let step = |root: &str, point: &str| {
            let line = format!("9 8 254:0 {root} {point} rw - ext4 /dev/vda rw\n");
            Buildah.step_in(&parse(line.as_bytes()).unwrap()).map(|owner| owner.id)
        };
        let id = Some(BString::from("buildah-buildah770976400"));
        assert_eq!(step("/var/tmp/buildah770976400/hostname", "/etc/hostname"), id);
        assert_eq!(step("/x/buildah770976400/run/.containerenv", "/run/.containerenv"), id);
        for (root, point) in [
            ("/var/tmp/buildah770976400/hostname", "/etc/hosts"),
            ("/var/tmp/buildah7x/hostname", "/etc/hostname"),
            ("/var/tmp/buildah7/a/hostname", "/etc/hostname"),
            ("buildah7/hostname", "/etc/hostname"),
        ] {
            assert_eq!(step(root, point), None, "{root} {point}");
        }
        let runs = |word: &str| Buildah.runs_steps(&[word.into()]);
        assert!(runs("buildah-oci-runtime") && !runs("buildah") && !Buildah.runs_steps(&[]));
    }

    #[test]
    fn a_step_is_buildah_twice_and_a_number() {
        let id = Some(&b"buildah-buildah2461284341"[..]);
        assert_eq!(step(b"buildah-buildah2461284341"), id);
        assert_eq!(step(b"crun-buildah-buildah2461284341.scope"), id);
        for other in ["buildah-buildah", "buildah-buildah1x", "buildah.service", "crun-x.scope"] {
            assert_eq!(step(other.as_bytes()), None, "{other}");
        }
    }
}
