//! rkt pods: `machine-rkt-<uuid>.scope`, escaped as systemd does; the apps are units inside (rkt
//! Documentation/devel/inspect-containers.md).
//!
//! State: `/var/lib/rkt/pods/<phase>/<uuid>/` (Documentation/devel/pod-lifecycle.md). rkt tells what runs from what
//! has ended by a lock on that directory; here the kernel tells it, and no lock is asked for.

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::query::look_through;
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, place, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::containerd::bundle::parse_pid;
use crate::state::{json, rkt as files, unrecorded};

/// See the module.
#[derive(Debug)]
pub(super) struct Rkt;

const ENGINE: Engine = Engine("rkt");
/// Where pods are, unless a configuration says otherwise.
const PODS: &str = "var/lib/rkt/pods";
/// Directories of pods, with rkt's word for what is in them and what that means.
const PHASES: [(&str, &str, ContainerState); 6] = [
    ("run", "running", ContainerState::Running),
    ("exited-garbage", "exited", ContainerState::Exited),
    ("prepared", "prepared", ContainerState::Created),
    ("prepare", "preparing", ContainerState::Created),
    ("embryo", "embryo", ContainerState::Created),
    ("garbage", "prepare-failed", ContainerState::Dead),
];
/// Pods of one host.
const MOST: usize = 100_000;

impl Runtime for Rkt {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let scope = segment::between(place.text(), "machine-", ".scope")?;
            let machine = segment::unescape(scope)?;
            let id = machine.strip_prefix(b"rkt-").filter(|id| segment::is_uuid(id, b'-'))?;
            Some(Owner::new(OwnerKind::Container, ENGINE, id))
        });
        levels.into()
    }

    fn has_state(&self) -> bool {
        true
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, [PODS.into()])),
            _ => FoundRoots::default(),
        }
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let name = |id: &BString| describe(root, id.as_ref()).map(|described| described.name);
        let late = || {
            let why = "not all pods were looked through in time";
            ReadError::new(root.root.shown(), Class::TimedOut, why)
        };
        look_through(host, query, || self.list(root), |id| id, name, late)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let mut ids = Vec::new();
        for (dir, ..) in PHASES {
            match root.root.list(dir.as_bytes(), MOST) {
                Ok(entries) => ids.extend(entries.into_iter().map(|e| e.name)),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(e),
            }
        }
        ids.retain(|id| segment::is_uuid(id, b'-'));
        // It may go from one to the next between two looks.
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }

    fn cgroups_of(&self, _: &StateRoot, id: &BStr) -> Vec<BString> {
        let escaped = id.to_string().replace('-', "\\x2d");
        vec![format!("/machine.slice/machine-rkt\\x2d{escaped}.scope").into()]
    }
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no pod of rkt's");
    if !segment::is_uuid(id, b'-') {
        return Err(gone());
    }
    let dir = |phase: &str| [phase.as_bytes(), b"/", id].concat();
    let mut phases = PHASES.into_iter();
    let (phase, word, state) =
        phases.find(|(phase, ..)| root.root.has_dir(&dir(phase))).ok_or_else(gone)?;
    let file = |name: &str| [&dir(phase)[..], b"/", name.as_bytes()].concat();
    let manifest = file("pod");
    let pod = match unrecorded::read(&root.root, &manifest, json::CAP) {
        Ok(bytes) => files::parse(&bytes)
            .map_err(|why| ReadError::new(root.root.join(&manifest), Class::Malformed, why))?,
        // It is only being made.
        Err(e) if e.class == Class::Gone && state == ContainerState::Created => {
            files::Pod::default()
        }
        Err(e) => return Err(e),
    };
    // Of several applications none is the pod.
    let only = pod.apps.first().filter(|_| pod.apps.len() == 1);
    let changed = |name: &str| {
        let mtime = root.root.look(&file(name)).ok()?.mtime;
        i64::try_from(mtime / 1_000_000).ok()
    };
    let ran = matches!(state, ContainerState::Running | ContainerState::Exited);
    let pid = |name: &str| parse_pid(&root.root.read(&file(name), 64).ok()?).ok();
    Ok(Description {
        name: only.map(|(name, _)| name.clone()),
        image: only.and_then(|(_, image)| image.clone()),
        labels: pod.annotations.clone(),
        engine_state: Some(word),
        believed: Some(state),
        // rkt itself takes these times of files for it (pkg/pod/pods.go).
        created: changed("pod-created").or_else(|| changed("pod")),
        started: ran.then(|| changed("pid").or_else(|| changed("ppid"))).flatten(),
        pid: (state == ContainerState::Running).then(|| pid("pid")).flatten(),
        path: root.root.join(&manifest),
        ..Description::default()
    })
}
