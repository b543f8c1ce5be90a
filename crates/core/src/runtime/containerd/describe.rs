//! What containerd's files say of one container.
//!
//! Annotations: containerd internal/cri/annotations/annotations.go, nerdctl pkg/labels/labels.go. What
//! the bundle lacks is in the database alone: image and labels of what is not CRI's, all of what has
//! no task.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::{Class, ReadError};

use super::CRI;
use crate::model::{ContainerState, Description, Pod};
use crate::runtime::{StateRoot, segment};
use crate::state::containerd::bundle::{self, Spec};
use crate::state::containerd::cri;

/// A container's place in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    namespace: BString,
    id: BString,
}

impl Place {
    pub(super) fn new(namespace: &[u8], id: &[u8]) -> Self {
        Self { namespace: namespace.into(), id: id.into() }
    }

    /// `NAMESPACE/ID`.
    pub(super) fn key(&self) -> BString {
        [self.namespace.as_slice(), b"/", &self.id].concat().into()
    }
}

/// The namespaces that have bundles, without Docker's: what is in those Docker describes.
pub(super) fn namespaces(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let Some(run) = &root.run else { return Ok(Vec::new()) };
    match bundle::namespaces(run) {
        Err(e) if e.class == Class::Gone => Ok(Vec::new()), // nothing was ever run
        Ok(mut names) => {
            names.retain(|n| !segment::is_dockers_namespace(n));
            Ok(names)
        }
        other => other,
    }
}

/// Where a key or a bare id is: in one namespace, in several, or nowhere.
pub(super) fn place_of(root: &StateRoot, key: &[u8]) -> Result<Vec<Place>, ReadError> {
    let mut places = Vec::new();
    let (namespaces, id) = match key.rsplit_once_str("/") {
        Some((namespace, _)) if segment::is_dockers_namespace(namespace) => return Ok(places),
        Some((namespace, id)) => (vec![BString::from(namespace)], id),
        None => (namespaces(root)?, key),
    };
    for namespace in &namespaces {
        let run = root.run.as_ref();
        if run.map_or(Ok(false), |run| bundle::is_there(run, namespace, id))? {
            places.push(Place::new(namespace, id));
        }
    }
    let cris = !key.contains(&b'/') || namespaces.iter().any(|n| n == CRI);
    if places.is_empty() && cris && segment::is_hex64(id) && is_known_to_cri(root, id) {
        places.push(Place::new(CRI, id));
    }
    Ok(places)
}

fn is_known_to_cri(root: &StateRoot, id: &[u8]) -> bool {
    root.root.look(&cri::status_file(id)).is_ok() || cri::has_sandbox(&root.root, id)
}

/// The keys of all that CRI knows, running or not.
pub(super) fn known_to_cri(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let ids = cri::ids(&root.root)?.into_iter().filter(|id| segment::is_hex64(id));
    Ok(ids.map(|id| Place::new(CRI, &id).key()).collect())
}

/// See `Runtime::describe`.
pub(super) fn describe(root: &StateRoot, key: &BStr) -> Result<Description, ReadError> {
    let mut places = place_of(root, key)?;
    let error = |class, why| {
        let tree = root.run.as_ref().unwrap_or(&root.root);
        ReadError::new(tree.join(bundle::TASKS.as_bytes()), class, why)
    };
    if places.len() > 1 {
        let names = places.iter().map(|p| p.namespace.to_string()).collect::<Vec<_>>().join(", ");
        return Err(error(Class::Unsupported, format!("the namespaces {names} all have this id")));
    }
    let none = || error(Class::Gone, "no namespace has it".into());
    let place = places.pop().ok_or_else(none)?;
    let spec = match &root.run {
        Some(run) => match bundle::spec(run, &place.namespace, &place.id) {
            Err(e) if e.class == Class::Gone => None,
            spec => Some(spec?),
        },
        None => None,
    };
    let described = match &spec {
        Some(spec) => of_bundle(root, &place, spec),
        None if place.namespace == CRI => without_task(root, &place.id).ok_or_else(none)?,
        None => return Err(none()), // removed between two reads
    };
    let user = root.user.clone();
    Ok(Description { user, namespace: Some(place.namespace), ..described })
}

/// Whether it is a pod's sandbox.
pub(super) fn is_sandbox(spec: &Spec) -> bool {
    of_cri(spec, "container-type").is_some_and(|kind| kind == "sandbox")
}

fn of_cri(spec: &Spec, key: &str) -> Option<BString> {
    spec.annotation(&format!("io.kubernetes.cri.{key}"))
}

/// The name that a client gave it: its own within the pod, the pod's of a sandbox, nerdctl's.
pub(super) fn name(spec: &Spec) -> Option<BString> {
    let pods = || of_cri(spec, "sandbox-name").filter(|_| is_sandbox(spec));
    of_cri(spec, "container-name").or_else(pods).or_else(|| spec.annotation("nerdctl/name"))
}

fn of_bundle(root: &StateRoot, place: &Place, spec: &Spec) -> Description {
    let Place { namespace, id } = place;
    let is_sandbox = is_sandbox(spec);
    let pod = of_cri(spec, "sandbox-name").map(|name| Pod {
        name: Some(name),
        namespace: of_cri(spec, "sandbox-namespace"),
        uid: of_cri(spec, "sandbox-uid"),
        container: of_cri(spec, "container-name"),
        ..Pod::default()
    });
    // Only of a pod's containers is there a status.
    let status = of_cri(spec, "container-type").filter(|_| !is_sandbox);
    let status = status.and_then(|_| cri::status(&root.root, id).ok());
    let run = root.run.as_ref().unwrap_or(&root.root);
    let pid = bundle::init_pid(run, namespace, id);
    let words = status.map(|s| s.words());
    // Its first process is written down before it runs; what became of it the kernel tells.
    let by_task = if pid.is_some() { ContainerState::Running } else { ContainerState::Created };
    let log = spec.annotation("nerdctl/log-uri");
    let log = log.and_then(|uri| uri.strip_prefix(b"file://").map(BString::from));
    let image = of_cri(spec, "image-name").or_else(|| of_cri(spec, "podsandbox.image-name"));
    Description {
        // An id that someone chose is a name.
        name: name(spec).or_else(|| (!segment::is_hex64(id)).then(|| id.clone())),
        image,
        engine_state: words.map(|w| w.0),
        believed: Some(words.map_or(by_task, |w| w.1)),
        created: status.and_then(|s| cri::time(s.created_at)),
        started: status.and_then(|s| cri::time(s.started_at)),
        pid: pid.or_else(|| status.map(|s| s.pid).filter(|pid| *pid > 0)),
        pod,
        log,
        cgroups: segment::of_cgroups_path(spec.cgroups_path()),
        is_sandbox,
        path: run.join(&bundle::file(namespace, id, "config.json")),
        ..Description::default()
    }
}

/// A pod's container or sandbox whose task is gone.
fn without_task(root: &StateRoot, id: &[u8]) -> Option<Description> {
    if let Ok(status) = cri::status(&root.root, id) {
        let (word, believed) = status.words();
        return Some(Description {
            engine_state: Some(word),
            believed: Some(believed),
            created: cri::time(status.created_at),
            started: cri::time(status.started_at),
            path: root.root.join(&cri::status_file(id)),
            ..Description::default()
        });
    }
    cri::has_sandbox(&root.root, id).then(|| Description {
        believed: root.run.as_ref().map(|_| ContainerState::Exited),
        is_sandbox: true,
        path: root.root.join(&cri::sandbox_dir(id)),
        ..Description::default()
    })
}
