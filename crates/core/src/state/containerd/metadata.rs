//! containerd's `meta.db`: containers, images and snapshots by namespace.
//!
//! `v1/<namespace>/{containers,images,snapshots,content}/...` (core/metadata/buckets.go). A running
//! container's bundle has most of what is here; labels, the image's digest and stopped containers are
//! here alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bstr::{BString, ByteSlice};
use whose_kernel::ReadError;
use whose_kernel::held::Held;
use whose_kernel::root::Root;

use super::{any, cri_metadata, gotime};
use crate::state::bolt::{Bucket, Database, Trouble};

/// The file beneath containerd's root.
pub const FILE: &[u8] = b"io.containerd.metadata.v1.bolt/meta.db";
/// Most namespaces, and most of anything in one.
const MOST: usize = 100_000;
/// Containers looked at in one view: a longer one may not come to its end while containerd writes.
const AT_ONCE: usize = 32;
/// Blobs followed from an image: an index, a manifest a platform, a configuration each.
const MOST_BLOBS: usize = 4096;

/// Labels of blobs that name what they need (containerd's pkg/gc, core/metadata/gc.go).
const REFERS_CONTENT: &[u8] = b"containerd.io/gc.ref.content";
const REFERS_SNAPSHOT: &[u8] = b"containerd.io/gc.ref.snapshot.";

pub use content::{Blob, BlobPart, Contents};
pub use snapshots::{Holder, User};

/// The database of one containerd.
#[derive(Debug)]
pub struct Metadata {
    database: Database<Held>,
}

/// A container's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id, any string.
    pub id: BString,
    /// Name of the image; empty for none.
    pub image: BString,
    /// Name of the snapshotter; empty for a root file system of another make.
    pub snapshotter: BString,
    /// Key of its own snapshot.
    pub snapshot_key: BString,
    /// Name of the runtime, `io.containerd.runc.v2`.
    pub runtime: BString,
    /// Id of its sandbox, as containerd 1.7 and later know it; empty for none.
    pub sandbox_id: BString,
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<BString, BString>,
    /// What the CRI plugin has to it.
    pub cri: Option<Cri>,
}

/// The CRI plugin's word on a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cri {
    /// A container of a pod.
    Container(Box<cri_metadata::Container>),
    /// A pod's sandbox.
    Sandbox(Box<cri_metadata::Sandbox>),
}

/// A snapshot as a namespace knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The backend's name, which its own database has.
    pub name: BString,
    /// Key of what it lies on; empty for a lowest one.
    pub parent: BString,
    /// Labels.
    pub labels: BTreeMap<BString, BString>,
}

/// Whose a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Ids of containers whose snapshot it is, or lies on it.
    pub containers: Vec<BString>,
    /// Names of images that it is a layer of.
    pub images: Vec<BString>,
}

impl Metadata {
    /// Opens the database beneath containerd's root.
    ///
    /// # Errors
    /// The read's.
    pub fn open(root: &Root) -> Result<Self, ReadError> {
        Ok(Self { database: Database::open(root, FILE)? })
    }

    /// The path to show people.
    #[must_use]
    pub fn shown(&self) -> BString {
        self.database.shown()
    }

    /// All namespaces.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn namespaces(&self) -> Result<Vec<BString>, ReadError> {
        self.database.view(|top| match top.bucket(b"v1")? {
            Some(all) => all.buckets(MOST),
            None => Ok(Vec::new()),
        })
    }

    /// Ids of all containers of a namespace.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn ids(&self, namespace: &[u8]) -> Result<Vec<BString>, ReadError> {
        self.database.view(|top| match top.at(&[b"v1", namespace, b"containers"])? {
            Some(all) => all.buckets(MOST),
            None => Ok(Vec::new()),
        })
    }

    /// A container's record.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn container(&self, namespace: &[u8], id: &[u8]) -> Result<Option<Container>, ReadError> {
        self.database.view(|top| match top.at(&[b"v1", namespace, b"containers"])? {
            Some(all) => container(&all, id),
            None => Ok(None),
        })
    }

    /// Whether a namespace has a container.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn has_container(&self, namespace: &[u8], id: &[u8]) -> Result<bool, ReadError> {
        self.database.view(|top| Ok(top.at(&[b"v1", namespace, b"containers", id])?.is_some()))
    }

    /// The records of all containers of a namespace. Each is as it was at one moment; one that is made
    /// or removed meanwhile may be there or not.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn containers(&self, namespace: &[u8]) -> Result<Vec<Container>, ReadError> {
        self.each(namespace, container)
    }

    /// The containers of a namespace that have this label, nerdctl's names among them. Of others
    /// nothing but the labels is read.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn labelled(
        &self,
        namespace: &[u8],
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<Container>, ReadError> {
        self.each(namespace, |all, id| {
            let labels = all.at(&[id, b"labels"])?;
            let has = match labels {
                Some(labels) => labels.value(key)?.is_some_and(|v| v == value),
                None => false,
            };
            if has { container(all, id) } else { Ok(None) }
        })
    }

    /// The OCI configuration of a container, JSON; `None` where there is no such container, or it has none.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn spec(&self, namespace: &[u8], id: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.database.view(|top| {
            let record = top.at(&[b"v1", namespace, b"containers", id])?;
            let Some(bytes) = record.map_or(Ok(None), |r| r.value(b"spec"))? else {
                return Ok(None);
            };
            Ok(Some(any::parse(&bytes).map_err(Trouble::Wrong)?.value.to_vec()))
        })
    }

    /// The digest that an image's name stands for: of a manifest or an index.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn image(&self, namespace: &[u8], name: &[u8]) -> Result<Option<BString>, ReadError> {
        self.database.view(|top| {
            let target = top.at(&[b"v1", namespace, b"images", name, b"target"])?;
            target.map_or(Ok(None), |target| target.value(b"digest"))
        })
    }

    /// A snapshot of a namespace by its key.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn snapshot(
        &self,
        namespace: &[u8],
        snapshotter: &[u8],
        key: &[u8],
    ) -> Result<Option<Snapshot>, ReadError> {
        self.database.view(|top| {
            let found = top.at(&[b"v1", namespace, b"snapshots", snapshotter, key])?;
            let Some(found) = found else { return Ok(None) };
            let name = found.value(b"name")?;
            let name = name.ok_or_else(|| Trouble::Wrong("a snapshot without name".into()))?;
            let parent = found.value(b"parent")?.unwrap_or_default();
            Ok(Some(Snapshot { name, parent, labels: labels(&found)? }))
        })
    }

    /// The containers and images of a namespace that use a snapshot, all at one moment.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn users(
        &self,
        namespace: &[u8],
        snapshotter: &[u8],
        key: &[u8],
    ) -> Result<Users, ReadError> {
        self.database.view(|top| {
            let mut users = Users::default();
            let Some(here) = top.at(&[b"v1", namespace])? else { return Ok(users) };
            let Some(all) = here.at(&[b"snapshots", snapshotter])? else { return Ok(users) };
            let above = above(&all, key)?;
            if above.is_empty() {
                return Ok(users);
            }
            if let Some(containers) = here.bucket(b"containers")? {
                for id in containers.buckets(MOST)? {
                    let Some(one) = containers.bucket(&id)? else { continue };
                    let is_of = one.value(b"snapshotter")?.is_some_and(|s| s == snapshotter);
                    if is_of && one.value(b"snapshotKey")?.is_some_and(|k| above.contains(&k)) {
                        users.containers.push(id);
                    }
                }
            }
            let (images, blobs) = (here.bucket(b"images")?, here.at(&[b"content", b"blob"])?);
            if let (Some(images), Some(blobs)) = (images, blobs) {
                for name in images.buckets(MOST)? {
                    let target = images.at(&[&name, b"target"])?;
                    let Some(target) = target.map_or(Ok(None), |t| t.value(b"digest"))? else {
                        continue;
                    };
                    if is_topped(&blobs, &target, snapshotter, &above)? {
                        users.images.push(name);
                    }
                }
            }
            Ok(users)
        })
    }

    /// Asks of each container of a namespace, some at a time.
    fn each<T>(
        &self,
        namespace: &[u8],
        mut ask: impl FnMut(&Bucket<'_>, &[u8]) -> Result<Option<T>, Trouble>,
    ) -> Result<Vec<T>, ReadError> {
        let mut told = Vec::new();
        for ids in self.ids(namespace)?.chunks(AT_ONCE) {
            told.extend(self.database.view(|top| {
                let mut some = Vec::new();
                if let Some(all) = top.at(&[b"v1", namespace, b"containers"])? {
                    for id in ids {
                        some.extend(ask(&all, id)?);
                    }
                }
                Ok(some)
            })?);
        }
        Ok(told)
    }
}

fn container(all: &Bucket<'_>, id: &[u8]) -> Result<Option<Container>, Trouble> {
    let Some(record) = all.bucket(id)? else { return Ok(None) };
    let text =
        |key: &[u8]| -> Result<BString, Trouble> { Ok(record.value(key)?.unwrap_or_default()) };
    let runtime = match record.bucket(b"runtime")? {
        Some(runtime) => runtime.value(b"name")?.unwrap_or_default(),
        None => BString::default(),
    };
    Ok(Some(Container {
        id: id.into(),
        image: text(b"image")?,
        snapshotter: text(b"snapshotter")?,
        snapshot_key: text(b"snapshotKey")?,
        runtime,
        sandbox_id: text(b"sandboxid")?,
        created: time(&record, b"createdat")?,
        labels: labels(&record)?,
        cri: cri(&record)?,
    }))
}

/// The CRI plugin's extension.
fn cri(record: &Bucket<'_>) -> Result<Option<Cri>, Trouble> {
    let Some(extensions) = record.bucket(b"extensions")? else { return Ok(None) };
    if let Some(bytes) = extensions.value(cri_metadata::CONTAINER.as_bytes())? {
        let any = any::parse(&bytes).map_err(Trouble::Wrong)?;
        let read = cri_metadata::parse_container(any.value).map_err(Trouble::Wrong)?;
        return Ok(Some(Cri::Container(Box::new(read))));
    }
    if let Some(bytes) = extensions.value(cri_metadata::SANDBOX.as_bytes())? {
        let any = any::parse(&bytes).map_err(Trouble::Wrong)?;
        let read = cri_metadata::parse_sandbox(any.value).map_err(Trouble::Wrong)?;
        return Ok(Some(Cri::Sandbox(Box::new(read))));
    }
    Ok(None)
}

/// The `labels` of a record.
pub(super) fn labels(record: &Bucket<'_>) -> Result<BTreeMap<BString, BString>, Trouble> {
    let mut labels = BTreeMap::new();
    if let Some(bucket) = record.bucket(b"labels")? {
        bucket.walk(&mut |item| {
            if let Some(value) = item.value()? {
                labels.insert(item.key()?.into(), value.into());
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(labels)
}

/// A time of a record, milliseconds since 1970.
pub(super) fn time(record: &Bucket<'_>, key: &[u8]) -> Result<Option<i64>, Trouble> {
    let value = record.value(key)?;
    value.map_or(Ok(None), |bytes| gotime::parse(&bytes).map_err(Trouble::Wrong))
}

/// A snapshot and all that lie on it; empty when there is none of this key.
fn above(all: &Bucket<'_>, key: &[u8]) -> Result<BTreeSet<BString>, Trouble> {
    let mut found = BTreeSet::new();
    let mut next: Vec<BString> = vec![key.into()];
    while let Some(key) = next.pop() {
        let Some(snapshot) = all.bucket(&key)? else { continue };
        if !found.insert(key) {
            continue;
        }
        if let Some(children) = snapshot.bucket(b"children")? {
            children.walk(&mut |item| {
                next.push(item.key()?.into());
                Ok(ControlFlow::Continue(()))
            })?;
        }
    }
    Ok(found)
}

/// Whether one of the blobs that an image's target needs says that one of these snapshots is what it
/// was unpacked to: the configuration of each platform does.
fn is_topped(
    blobs: &Bucket<'_>,
    target: &[u8],
    snapshotter: &[u8],
    tops: &BTreeSet<BString>,
) -> Result<bool, Trouble> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<BString> = vec![target.into()];
    while let Some(digest) = next.pop() {
        let Some(blob) = blobs.bucket(&digest)? else { continue };
        if !seen.insert(digest) {
            continue;
        }
        if seen.len() > MOST_BLOBS {
            return Err(Trouble::TooMuch);
        }
        for (label, value) in labels(&blob)? {
            // `gc.ref.snapshot.<snapshotter>`, and `.../<anything>` for a further one.
            let unpacked = label.strip_prefix(REFERS_SNAPSHOT);
            let unpacked = unpacked.and_then(|l| l.split_str("/").next());
            if unpacked == Some(snapshotter) && tops.contains(&value) {
                return Ok(true);
            }
            let is_layer = label.starts_with(b"containerd.io/gc.ref.content.l.");
            if label.starts_with(REFERS_CONTENT) && !is_layer {
                next.push(value);
            }
        }
    }
    Ok(false)
}

mod content;
mod snapshots;
#[cfg(test)]
mod tests;
