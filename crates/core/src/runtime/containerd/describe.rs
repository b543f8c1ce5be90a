//! What containerd's files say of one container.
//!
//! Annotations: containerd internal/cri/annotations/annotations.go, nerdctl pkg/labels/labels.go. What
//! the bundle lacks is in the database alone: image and labels of what is not CRI's, all of what has
//! no task; see `record`.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::{Class, ReadError};

use super::{CRI, record};
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

    /// Namespace and id.
    pub(super) fn parts(&self) -> (&BString, &BString) {
        (&self.namespace, &self.id)
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
            names.retain(|n| !segment::is_others_namespace(n));
            Ok(names)
        }
        other => other,
    }
}

/// Where a key or a bare id is: in one namespace, in several, or nowhere. The database is asked last,
/// since what has a task is in no other place.
pub(super) fn place_of(root: &StateRoot, key: &[u8]) -> Result<Vec<Place>, ReadError> {
    let places = place_in_files(root, key)?;
    if places.is_empty() { record::places(root, key) } else { Ok(places) }
}

/// Where a key or a bare id is by the bundles and by CRI's files.
pub(super) fn place_in_files(root: &StateRoot, key: &[u8]) -> Result<Vec<Place>, ReadError> {
    let mut places = Vec::new();
    let (namespaces, id) = match key.rsplit_once_str("/") {
        Some((namespace, _)) if segment::is_others_namespace(namespace) => return Ok(places),
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
pub(super) fn describe(
    root: &StateRoot,
    key: &BStr,
    needs: Needs,
) -> Result<Description, ReadError> {
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
    of_place(root, places.pop().ok_or_else(none)?, needs)
}

/// What is known of a container whose place is known.
pub(super) fn of_place(
    root: &StateRoot,
    place: Place,
    needs: Needs,
) -> Result<Description, ReadError> {
    let none = || {
        let tree = root.run.as_ref().unwrap_or(&root.root);
        ReadError::new(tree.join(bundle::TASKS.as_bytes()), Class::Gone, "no namespace has it")
    };
    let spec = match &root.run {
        Some(run) => match bundle::spec(run, &place.namespace, &place.id) {
            Err(e) if e.class == Class::Gone => None,
            spec => Some(spec?),
        },
        None => None,
    };
    let described = match &spec {
        Some(spec) => {
            let mut described = of_bundle(root, &place, spec);
            record::complete(root, &place, needs, &mut described);
            described
        }
        // It has none, or that was removed between two reads.
        None => without_task(root, &place, needs)?.ok_or_else(none)?,
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
    of_cri(spec, "container-name").or_else(pods).or_else(|| spec.annotation(record::NERDCTL_NAME))
}

/// The pod that it is in or holds.
pub(super) fn pod(spec: &Spec) -> Option<Pod> {
    of_cri(spec, "sandbox-name").map(|name| Pod {
        name: Some(name),
        namespace: of_cri(spec, "sandbox-namespace"),
        uid: of_cri(spec, "sandbox-uid"),
        container: of_cri(spec, "container-name"),
        ..Pod::default()
    })
}

fn of_bundle(root: &StateRoot, place: &Place, spec: &Spec) -> Description {
    let Place { namespace, id } = place;
    let is_sandbox = is_sandbox(spec);
    // Only of a pod's containers is there a status.
    let status = of_cri(spec, "container-type").filter(|_| !is_sandbox);
    let status = status.map(|_| cri::status(&root.root, id)).transpose();
    let problem = status.as_ref().err().filter(|e| e.class != Class::Gone).cloned();
    let status = status.ok().flatten();
    let run = root.run.as_ref().unwrap_or(&root.root);
    let pid = bundle::init_pid(run, namespace, id);
    let words = status.map(|s| s.words());
    // Its first process is written down before it runs; what became of it the kernel tells.
    let by_task = if pid.is_some() { ContainerState::Running } else { ContainerState::Created };
    let log = spec.annotation("nerdctl/log-uri");
    let log = log.and_then(|uri| uri.strip_prefix(b"file://").map(BString::from));
    let image = of_cri(spec, "image-name").or_else(|| of_cri(spec, "podsandbox.image-name"));
    let mut described = Description {
        // An id that someone chose is a name.
        name: name(spec).or_else(|| (!segment::is_hex64(id)).then(|| id.clone())),
        image,
        engine_state: words.map(|w| w.0),
        believed: Some(words.map_or(by_task, |w| w.1)),
        created: status.and_then(|s| cri::time(s.created_at)),
        started: status.and_then(|s| cri::time(s.started_at)),
        pid: pid.or_else(|| status.map(|s| s.pid).filter(|pid| *pid > 0)),
        pod: pod(spec),
        log,
        cgroups: segment::of_cgroups_path(spec.cgroups_path()),
        is_sandbox,
        path: run.join(&bundle::file(namespace, id, "config.json")),
        ..Description::default()
    };
    if let Some(e) = problem {
        record::unread(&mut described, OF_STATUS, &e);
    }
    described
}

/// What the status alone says of a pod's container.
const OF_STATUS: [FieldId; 3] = [FieldId::EngineState, FieldId::Created, FieldId::Started];

/// A container that has no task: by its record, and what CRI keeps of a pod's. `None` where neither is.
fn without_task(
    root: &StateRoot,
    place: &Place,
    needs: Needs,
) -> Result<Option<Description>, ReadError> {
    let by_files = by_cri(root, place);
    let record =
        match record::database(root).and_then(|all| all.container(&place.namespace, &place.id)) {
            Ok(record) => record,
            Err(e) => {
                let Some(mut described) = by_files else {
                    return if e.class == Class::Gone { Ok(None) } else { Err(e) };
                };
                record::unread_all(&mut described, needs, &e);
                return Ok(Some(described));
            }
        };
    let Some(record) = record else {
        return Ok(by_files.map(|mut described| {
            record::no_record(root, place, needs, &mut described);
            described
        }));
    };
    let Some(mut described) = by_files else {
        return Ok(Some(record::without_task(root, place, &record, needs)));
    };
    record::fill(root, place, &record, needs, &mut described);
    Ok(Some(described))
}

/// What CRI's own files say of a pod's container or sandbox.
fn by_cri(root: &StateRoot, place: &Place) -> Option<Description> {
    let id = &place.id;
    if place.namespace != CRI || !segment::is_hex64(id) {
        return None;
    }
    let path = root.root.join(&cri::status_file(id));
    match cri::status(&root.root, id) {
        Ok(status) => {
            let (word, believed) = status.words();
            return Some(Description {
                engine_state: Some(word),
                believed: Some(believed),
                created: cri::time(status.created_at),
                started: cri::time(status.started_at),
                path,
                ..Description::default()
            });
        }
        Err(e) if e.class == Class::Gone => {}
        Err(e) => {
            let mut described = Description { path, ..Description::default() };
            record::unread(&mut described, OF_STATUS, &e);
            return Some(described);
        }
    }
    cri::has_sandbox(&root.root, id).then(|| Description {
        believed: root.run.as_ref().map(|_| ContainerState::Exited),
        is_sandbox: true,
        path: root.root.join(&cri::sandbox_dir(id)),
        ..Description::default()
    })
}
