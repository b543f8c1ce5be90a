//! What containerd's database says besides: of what runs, that which its bundle lacks; of what has no
//! task, all.
//!
//! It is opened once a command, and only when something is asked for that nothing else tells.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::{Class, ReadError};

use super::describe::Place;
use super::{BUILDKIT, CRI};
use crate::model::gap::what;
use crate::model::{Compose, ContainerState, Description, Gap, Mounting, Pod};
use crate::runtime::{StateRoot, segment};
use crate::state::containerd::bundle::{self, is_identifier};
use crate::state::containerd::cri_metadata::{self, PodName};
use crate::state::containerd::metadata::{self, Container, Cri, Metadata};
use crate::state::spec;

/// nerdctl's name for a container (nerdctl pkg/labels/labels.go).
pub(super) const NERDCTL_NAME: &str = "nerdctl/name";
/// Labels that the kubelet gives (kubernetes pkg/kubelet/types/labels.go).
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
/// Where compose's project and service are.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// The database of a root.
pub(super) fn database(root: &StateRoot) -> Result<&Metadata, ReadError> {
    let opened = root.metadata.get_or_init(|| Metadata::open(&root.root));
    opened.as_ref().map_err(Clone::clone)
}

/// The namespaces that the database has, without Docker's; none where there is no database.
pub(super) fn namespaces(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    match database(root).and_then(Metadata::namespaces) {
        Err(e) if e.class == Class::Gone => Ok(Vec::new()),
        names => names.map(|mut names| {
            names.retain(|n| is_identifier(n) && !segment::is_others_namespace(n));
            names
        }),
    }
}

/// Where the database has a key or a bare id.
pub(super) fn places(root: &StateRoot, key: &[u8]) -> Result<Vec<Place>, ReadError> {
    let (namespaces, id) = match key.rsplit_once_str("/") {
        Some((namespace, id)) => (vec![BString::from(namespace)], id),
        None => (namespaces(root)?, key),
    };
    let mut places = Vec::new();
    for namespace in namespaces.iter().filter(|n| !segment::is_others_namespace(n)) {
        if is_identifier(id) && of(root, namespace, id)?.is_some() {
            places.push(Place::new(namespace, id));
        }
    }
    Ok(places)
}

/// A container's record; none where there is no database.
pub(super) fn of(
    root: &StateRoot,
    namespace: &[u8],
    id: &[u8],
) -> Result<Option<Container>, ReadError> {
    match database(root).and_then(|all| all.container(namespace, id)) {
        Err(e) if e.class == Class::Gone => Ok(None),
        record => record,
    }
}

/// What a container mounts over its own files, by the configuration in its record.
pub(super) fn mounts(root: &StateRoot, key: &BStr) -> Result<Vec<Mounting>, ReadError> {
    let all = database(root)?;
    let fail = |class, why| ReadError::new(all.shown(), class, why);
    let (namespace, id) = key.rsplit_once_str("/").unwrap_or((b"", key));
    let spec = all.spec(namespace, id)?;
    let Some(spec) = spec else {
        let class = match of(root, namespace, id)? {
            Some(_) => Class::Malformed,
            None => Class::Gone,
        };
        return Err(fail(class, format!("has no configuration of {key}")));
    };
    spec::mounts(&spec).map_err(|why| fail(Class::Malformed, why))
}

/// The keys of all records.
pub(super) fn keys(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let mut keys = Vec::new();
    for namespace in namespaces(root)? {
        let is_step = |id: &BString| namespace == BUILDKIT && segment::is_buildkit_id(id);
        let ids = database(root)?.ids(&namespace)?.into_iter();
        let ids = ids.filter(|id| is_identifier(id) && !is_step(id));
        keys.extend(ids.map(|id| Place::new(&namespace, &id).key()));
    }
    Ok(keys)
}

/// What is asked for and not there yet.
fn lacking(d: &Description, needs: Needs) -> Vec<FieldId> {
    let mut lacking = Vec::new();
    let mut check = |need: Needs, field, is_there: bool| {
        if needs.has(need) && !is_there {
            lacking.push(field);
        }
    };
    check(Needs::DESCRIPTION, FieldId::Name, d.name.is_some());
    check(Needs::IMAGE, FieldId::Image, d.image.is_some());
    check(Needs::RECORD, FieldId::ImageId, d.image_id.is_some());
    check(Needs::RECORD, FieldId::Labels, !d.labels.is_empty());
    check(Needs::RECORD, FieldId::Created, d.created.is_some());
    check(Needs::RECORD, FieldId::Log, d.log.is_some());
    let pod = d.pod.as_ref().filter(|_| !d.is_sandbox);
    check(Needs::RECORD, FieldId::Restarts, pod.is_none_or(|pod| pod.restarts.is_some()));
    lacking
}

/// Adds what the bundle lacks, or that it could not be read.
pub(super) fn complete(root: &StateRoot, place: &Place, needs: Needs, d: &mut Description) {
    let lacking = lacking(d, needs);
    if lacking.is_empty() {
        return;
    }
    let (namespace, id) = place.parts();
    match database(root).and_then(|all| all.container(namespace, id)) {
        Ok(Some(record)) => fill(root, place, &record, needs, d),
        Ok(None) => no_record(root, place, needs, d),
        Err(e) => unread(d, lacking, &e),
    }
}

/// Says of these fields why they are not known.
pub(super) fn unread(
    d: &mut Description,
    fields: impl IntoIterator<Item = FieldId>,
    e: &ReadError,
) {
    let gap = Gap::from_read(what::DESCRIPTION, e);
    d.unread.extend(fields.into_iter().map(|field| (field, gap.clone())));
}

/// Says that the database has nothing of a container whose files are there: made or removed this moment,
/// or not by containerd. Then its labels are unknown, and not none.
pub(super) fn no_record(root: &StateRoot, place: &Place, needs: Needs, d: &mut Description) {
    let Ok(all) = database(root) else { return };
    let cause = format!("has no record of {}", place.key().as_bstr());
    unread(d, lacking(d, needs), &ReadError::new(all.shown(), Class::Gone, cause));
}

/// All fields that may come from the database.
pub(super) fn unread_all(d: &mut Description, needs: Needs, e: &ReadError) {
    let lacking = lacking(d, needs);
    unread(d, lacking, e);
}

/// Takes over what the record says and nothing else did.
pub(super) fn fill(
    root: &StateRoot,
    place: &Place,
    record: &Container,
    needs: Needs,
    d: &mut Description,
) {
    let (namespace, _) = place.parts();
    let label = |key: &str| record.labels.get(BStr::new(key)).filter(|v| !v.is_empty());
    d.created = d.created.or(record.created);
    d.labels = record.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    match &record.cri {
        Some(Cri::Container(cri)) => of_container(root, cri, d),
        Some(Cri::Sandbox(cri)) => {
            d.is_sandbox = true;
            d.pod = Some(d.pod.take().unwrap_or_default().or(&pod_of(&cri.config.metadata)));
            d.name = d.name.take().or_else(|| text(&cri.config.metadata.name));
        }
        None => {}
    }
    d.name = d.name.take().or_else(|| label(NERDCTL_NAME).cloned());
    d.image = d.image.take().or_else(|| Some(record.image.clone()).filter(|i| !i.is_empty()));
    let log = || label("nerdctl/log-uri").and_then(|uri| uri.strip_prefix(b"file://"));
    d.log = d.log.take().or_else(|| log().map(BString::from));
    d.compose = label(PROJECT)
        .map(|project| Compose { project: project.clone(), service: label(SERVICE).cloned() });
    if d.image_id.is_none() && needs.has(Needs::RECORD) && !record.image.is_empty() {
        match database(root).and_then(|all| all.image(namespace, &record.image)) {
            Ok(digest) => d.image_id = digest,
            Err(e) => unread(d, [FieldId::ImageId], &e),
        }
    }
    let known = |field: &FieldId| match field {
        FieldId::Created => d.created.is_some(),
        _ => false,
    };
    let known: Vec<FieldId> = d.unread.iter().map(|(field, _)| *field).filter(known).collect();
    d.unread.retain(|(field, _)| !known.contains(field));
}

/// What the CRI plugin has to a container of a pod.
fn of_container(root: &StateRoot, cri: &cri_metadata::Container, d: &mut Description) {
    let config = &cri.config;
    let own = Pod {
        container: text(&config.metadata.name),
        restarts: Some(config.metadata.attempt),
        ..Pod::default()
    };
    let mut pod = d.pod.take().unwrap_or_default().or(&own);
    if pod.full_name().is_none() || pod.uid.is_none() {
        let sandbox = of(root, CRI, cri.sandbox_id.as_bytes());
        let its = match sandbox {
            Ok(Some(Container { cri: Some(Cri::Sandbox(sandbox)), .. })) => {
                pod_of(&sandbox.config.metadata)
            }
            _ => pod_by_labels(config.labels.as_ref()),
        };
        pod = pod.or(&its);
    }
    d.name = d.name.take().or_else(|| pod.container.clone());
    d.pod = Some(pod);
    d.image_id = d.image_id.take().or_else(|| text(&cri.image_ref));
    d.log = d.log.take().or_else(|| text(&cri.log_path));
    // The kubelet asks by id; the pod's own word for it may be there too.
    let image = &config.image;
    let asked = [&image.user_specified_image, &image.image].map(|i| text(i));
    let is_id = |i: &BString| segment::is_hex64(i.strip_prefix(b"sha256:").unwrap_or(i));
    d.image = d.image.take().or_else(|| asked.into_iter().flatten().find(|i| !is_id(i)));
}

fn text(text: &str) -> Option<BString> {
    (!text.is_empty()).then(|| text.into())
}

fn pod_of(name: &PodName) -> Pod {
    Pod {
        name: text(&name.name),
        namespace: text(&name.namespace),
        uid: text(&name.uid),
        ..Pod::default()
    }
}

fn pod_by_labels(labels: Option<&BTreeMap<String, String>>) -> Pod {
    let label = |key: &str| labels.and_then(|all| all.get(key)).and_then(|value| text(value));
    Pod {
        name: label(POD_NAME),
        namespace: label(POD_NAMESPACE),
        uid: label(POD_UID),
        ..Pod::default()
    }
}

/// The pods that CRI's records tell of, each with the id that tells it.
pub(super) fn pods(root: &StateRoot) -> Result<Vec<(BString, Pod)>, ReadError> {
    let records = match database(root).and_then(|all| all.containers(CRI)) {
        Err(e) if e.class == Class::Gone => Vec::new(),
        records => records?,
    };
    let sandboxes: BTreeMap<&BStr, Pod> = records
        .iter()
        .filter_map(|record| match &record.cri {
            Some(Cri::Sandbox(cri)) => Some((record.id.as_bstr(), pod_of(&cri.config.metadata))),
            _ => None,
        })
        .collect();
    let pod = |record: &Container| match record.cri.as_ref()? {
        Cri::Sandbox(cri) => Some(pod_of(&cri.config.metadata)),
        Cri::Container(cri) => {
            let its = sandboxes.get(BStr::new(&cri.sandbox_id)).cloned();
            let its = its.unwrap_or_else(|| pod_by_labels(cri.config.labels.as_ref()));
            Some(Pod { container: text(&cri.config.metadata.name), ..its })
        }
    };
    Ok(records.iter().filter_map(|record| Some((record.id.clone(), pod(record)?))).collect())
}

/// A container that has no task, by its record. containerd keeps no word on whether it ever ran: what is
/// left of a task that was not deleted shows that it did, and without that it is what containerd made
/// and no more.
pub(super) fn without_task(
    root: &StateRoot,
    place: &Place,
    record: &Container,
    needs: Needs,
) -> Description {
    let (namespace, id) = place.parts();
    let ran = root.root.has_dir(&bundle::file(namespace, id, ""));
    let state = if ran { ContainerState::Exited } else { ContainerState::Created };
    let mut d = Description {
        name: (!segment::is_hex64(id)).then(|| id.clone()),
        // Without the tree of what runs it may run.
        believed: root.run.as_ref().map(|_| state),
        path: root.root.join(metadata::FILE),
        ..Description::default()
    };
    fill(root, place, record, needs, &mut d);
    d
}
