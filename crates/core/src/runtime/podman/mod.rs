//! Podman: containers, pods, and what watches over them, from the kernel and from its files.
//!
//! `libpod-<id>.scope`, with the cgroupfs manager `libpod_parent/libpod-<id>`, with split cgroups
//! (quadlet) `<unit>/libpod-payload-<id>` (podman libpod/container.go,
//! container_internal_linux.go); pods `...libpod_pod_<id>.slice` or `libpod_parent/<id>`
//! (libpod/runtime_pod_linux.go); conmon `libpod-conmon-<id>.scope`, `libpod_parent/conmon` or, for a pod,
//! `libpod_parent/<id>/conmon` (libpod/oci_conmon_linux.go); rootless helpers `podman-pause-<hex>.scope` and
//! `rootless-netns-<hex>.scope` (container-libs common/pkg/systemd).
//!
//! There is no daemon. Names are in a database in the graph root, root's or a user's; what a user's
//! says is his containers' alone.

mod describe;
mod helpers;
mod roots;

pub(super) use roots::{graph_roots, layer_shown};

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Host, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place, Plumbing};
use super::{
    FoundRoots, Helper, Hints, InnerUser, Inside, Matches, Query, Runtime, Service, StateRoot,
    User, segment, service,
};
use crate::model::{Description, Engine, Mounting, Owner, OwnerKind};
use crate::state::podman as files;

/// See the module.
#[derive(Debug)]
pub(super) struct Podman;

const ENGINE: Engine = Engine("podman");
/// The directory of its volumes, below the graph root.
const VOLUMES: &str = "volumes";

impl Runtime for Podman {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |p| container(p).or_else(|| pod(p)));
        let helper = place::plumbing(subject.lines, |p| helper(p.text()));
        // A user's own conmon can't be told from anyone's process of that name, except by cgroup.
        let monitors = place::plumbing(subject.lines, monitors);
        let named = helper.is_none()
            && subject.comm == "conmon"
            && subject.is_hosts_own()
            && (monitors.is_some() || !segment::names_an_id(subject.lines));
        if named {
            // CRI-O's have the same arguments (conmon src/cli.c).
            let Some(args) = subject.args else {
                return Claim::Need(Needs::CMDLINE);
            };
            let id = Subject::flag(args, "c").or_else(|| Subject::flag(args, "cid"));
            let conmon = id.map_or(Plumbing(None), |id| Plumbing::of(&id));
            return place::claim(levels, Some(conmon));
        }
        place::claim(levels, helper.or(monitors))
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("conmon")
    }

    fn watched(&self, args: &[BString]) -> Option<BString> {
        let id = Subject::flag(args, "c").or_else(|| Subject::flag(args, "cid"));
        let id = id.filter(|id| segment::is_hex64(id))?;
        // CRI-O's reports to directories of CRI-O's.
        let ends = |flag: &str, end: &str| {
            Subject::flag(args, flag).is_some_and(|dir| dir.ends_with(end.as_bytes()))
        };
        if ends("exit-dir", "/crio/exits") || ends("socket-dir-path", "/crio") {
            return None;
        }
        let userdata = [b"-containers/", id.as_slice(), b"/userdata"].concat();
        let bundle = Subject::flag(args, "b").or_else(|| Subject::flag(args, "bundle"))?;
        bundle.contains_str(&userdata).then_some(id)
    }

    fn beside(&self) -> &'static [Engine] {
        &[Engine("buildah")]
    }

    fn volumes(&self) -> Option<&'static str> {
        Some(VOLUMES)
    }

    fn has_monitor_each(&self) -> bool {
        true
    }

    fn helper_names(&self) -> &'static [&'static str] {
        &["conmon", "catatonit", "podman", "fuse-overlayfs"]
    }

    fn helps_one(&self, root: &StateRoot, helper: &Helper) -> Option<BString> {
        helpers::of_one(self.watched(&helper.args), root, helper)
    }

    fn helps_all(&self, host: &Host, helper: &Helper) -> bool {
        helpers::is_pause(host, helper)
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        roots::roots(host, hints)
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        describe::find(root, query)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(describe::names(root)?.into_iter().map(|(id, _)| id).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe::describe(root, id))
    }

    fn keeps_mounts(&self) -> bool {
        true
    }

    fn mounts(&self, root: &StateRoot, id: &BStr) -> Option<Result<Vec<Mounting>, ReadError>> {
        Some(describe::mounts(root, id))
    }

    fn services(&self) -> &'static [Service] {
        &[service::PODMAN]
    }

    fn cgroups_of(&self, root: &StateRoot, id: &BStr) -> Vec<BString> {
        let stored = files::container(&describe::places(root), id).ok().flatten();
        let uid = describe::uid_of(root);
        stored.map(|stored| describe::cgroups(&stored.config, uid)).unwrap_or_default()
    }
}

fn container(place: Place<'_>) -> Option<Owner> {
    let bare = || {
        let text = place.text().strip_prefix(b"libpod-")?;
        let id = text.strip_prefix(b"payload-").unwrap_or(text);
        segment::is_hex64(id).then_some(id)
    };
    let id = segment::scope_id(place.text(), "libpod").or_else(bare)?;
    Some(Owner::new(OwnerKind::Container, ENGINE, id))
}

/// A pod of podman's own; it has no uid of Kubernetes.
fn pod(place: Place<'_>) -> Option<Owner> {
    let id = if place.parent() == b"libpod_parent" {
        place.text()
    } else {
        // `machine-` or `user-` comes first, from the slice it is in.
        let stem = place.text().strip_suffix(b".slice")?;
        let at = stem.len().checked_sub(64)?;
        let (before, id) = stem.split_at(at);
        let slice = before.strip_suffix(b"libpod_pod_")?;
        (slice.is_empty() || slice.ends_with(b"-")).then_some(id)?
    };
    segment::is_hex64(id).then(|| Owner::new(OwnerKind::Pod, ENGINE, id))
}

/// Where the cgroupfs manager puts monitors: of a pod's containers they are in the pod's cgroup.
fn monitors(place: Place<'_>) -> Option<Plumbing> {
    let of_its = place.parent() == b"libpod_parent" || segment::is_hex64(place.parent());
    (place.text() == b"conmon" && of_its).then_some(Plumbing(None))
}

fn helper(text: &[u8]) -> Option<Plumbing> {
    let stem = text.strip_suffix(b".scope")?;
    if let Some(id) = stem.strip_prefix(b"libpod-conmon-") {
        return segment::is_hex64(id).then(|| Plumbing::of(id));
    }
    let nonce =
        stem.strip_prefix(b"podman-pause-").or_else(|| stem.strip_prefix(b"rootless-netns-"))?;
    segment::is_hex(nonce).then_some(Plumbing(None))
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Podman;
    use crate::model::{OwnerKind, Role};
    use crate::runtime::{Claim, Mine, Runtime, Serves, Subject};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn mine(path: &str, comm: &str, uid: u32, args: &[BString]) -> Mine {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let (comm, nspid) = (BStr::new(comm), Some(&[7][..]));
        let subject = Subject { lines: &lines, comm, args: Some(args), uid: Some(uid), nspid };
        match Podman.claim(&subject) {
            Claim::Mine(mine) => mine,
            Claim::NotMine => Mine::default(),
            Claim::Need(_) => panic!("has its arguments"),
        }
    }

    #[test]
    fn monitors_say_whom_they_serve() {
        let conmon = |path: &str, uid| {
            let args = ["/usr/bin/conmon", "--api-version", "1", "-c", "x", "-u", "x"];
            let mine = mine(path, "conmon", uid, &args.map(BString::from));
            (mine.role, mine.serves)
        };
        let plumbing = Some(Role::Plumbing);
        let named = |id: &str| (plumbing, Some(Serves::Id(id.into())));
        assert_eq!(conmon(&format!("/machine.slice/libpod-conmon-{ID}.scope"), 0), named(ID));
        assert_eq!(conmon("/libpod_parent/conmon", 0), named("x"));
        assert_eq!(conmon("/libpod_parent/conmon", 1000), (plumbing, None));
        assert_eq!(conmon(&format!("/libpod_parent/{ID}/conmon"), 0), named("x"));
        assert_eq!(conmon(&format!("/libpod_parent/{ID}/libpod-{ID}/conmon"), 0), (None, None));
        assert_eq!(conmon("/system.slice/web.service/runtime", 0), named("x"));
        assert_eq!(conmon("/user.slice/user-1000.slice/session-1.scope", 1000), (None, None));
        assert_eq!(conmon(&format!("/machine.slice/libpod-{ID}.scope"), 0), (None, None));
    }

    #[test]
    fn pods_are_no_containers_and_clients_no_helpers() {
        let pod = |path: &str| mine(path, "", 1000, &[]).levels.pop().map(|l| l.owner.kind);
        assert_eq!(pod(&format!("/libpod_parent/{ID}")), Some(OwnerKind::Pod));
        assert_eq!(pod(&format!("/user-libpod_pod_{ID}.slice")), Some(OwnerKind::Pod));
        assert_eq!(pod(&format!("/xlibpod_pod_{ID}.slice")), None);
        assert_eq!(pod(&format!("/{ID}.slice")), None);
        assert_eq!(mine("/user.slice/podman-20417.scope", "podman", 1000, &[]), Mine::default());
    }
}
