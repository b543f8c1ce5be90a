//! Who has a backend's snapshot, in all namespaces: several may have the same one (containerd
//! core/metadata/snapshot.go, the label `containerd.io/snapshot.ref`).

use std::ops::ControlFlow;

use bstr::BString;
use whose_kernel::ReadError;

use super::{MOST, Metadata, above, is_topped};
use crate::state::bolt::{Bucket, Trouble};

/// A namespace that has a backend's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The namespace.
    pub namespace: BString,
    /// The snapshot's key there.
    pub key: BString,
    /// Its containers whose snapshot it is, or lies on it.
    pub containers: Vec<User>,
    /// Its images that it is a layer of: name, and digest of what that stands for.
    pub images: Vec<(BString, BString)>,
}

/// A container that uses a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: BString,
    /// The backend's name of its own snapshot.
    pub snapshot: BString,
}

impl Metadata {
    /// All namespaces that have the backend's snapshot `name`, at one moment; with their containers
    /// if they are asked for.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn holders(
        &self,
        snapshotter: &[u8],
        name: &[u8],
        containers: bool,
    ) -> Result<Vec<Holder>, ReadError> {
        self.database.view(|top| {
            let mut holders = Vec::new();
            let Some(all) = top.bucket(b"v1")? else { return Ok(holders) };
            for namespace in all.buckets(MOST)? {
                let Some(here) = all.bucket(&namespace)? else { continue };
                let Some(snapshots) = here.at(&[b"snapshots", snapshotter])? else { continue };
                for key in keys_of(&snapshots, name)? {
                    let above = above(&snapshots, &key)?;
                    let mut users = Vec::new();
                    if containers && let Some(known) = here.bucket(b"containers")? {
                        for id in known.buckets(MOST)? {
                            let own = own_key(&known, &id, snapshotter)?;
                            let Some(own) = own.filter(|own| above.contains(own)) else { continue };
                            users.push(User { id, snapshot: name_of(&snapshots, &own)? });
                        }
                    }
                    let mut images = Vec::new();
                    let blobs = here.at(&[b"content", b"blob"])?;
                    if let (Some(known), Some(blobs)) = (here.bucket(b"images")?, blobs) {
                        for image in known.buckets(MOST)? {
                            let target = known.at(&[&image, b"target"])?;
                            let digest = target.map_or(Ok(None), |t| t.value(b"digest"))?;
                            let Some(digest) = digest else { continue };
                            if is_topped(&blobs, &digest, snapshotter, &above)? {
                                images.push((image, digest));
                            }
                        }
                    }
                    let (namespace, containers) = (namespace.clone(), users);
                    holders.push(Holder { namespace, key, containers, images });
                }
            }
            Ok(holders)
        })
    }

    /// The backend's name of a container's own snapshot; `None` when there is no such container, or it
    /// has none of this snapshotter.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn own_snapshot(
        &self,
        namespace: &[u8],
        id: &[u8],
        snapshotter: &[u8],
    ) -> Result<Option<BString>, ReadError> {
        self.database.view(|top| {
            let Some(here) = top.at(&[b"v1", namespace])? else { return Ok(None) };
            let known = here.bucket(b"containers")?;
            let snapshots = here.at(&[b"snapshots", snapshotter])?;
            let (Some(known), Some(snapshots)) = (known, snapshots) else { return Ok(None) };
            match own_key(&known, id, snapshotter)? {
                Some(key) if snapshots.bucket(&key)?.is_some() => {
                    name_of(&snapshots, &key).map(Some)
                }
                _ => Ok(None),
            }
        })
    }

    /// The backend's names of the layers whose chain id begins with these digits, in all namespaces.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn chains(&self, snapshotter: &[u8], digits: &[u8]) -> Result<Vec<BString>, ReadError> {
        let wanted = [b"sha256:", digits].concat();
        self.database.view(|top| {
            let mut names = Vec::new();
            let Some(all) = top.bucket(b"v1")? else { return Ok(names) };
            for namespace in all.buckets(MOST)? {
                let snapshots = all.at(&[&namespace, b"snapshots", snapshotter])?;
                let Some(snapshots) = snapshots else { continue };
                for key in snapshots.buckets(MOST)? {
                    if key.starts_with(&wanted) {
                        names.push(name_of(&snapshots, &key)?);
                    }
                }
            }
            names.sort();
            names.dedup();
            Ok(names)
        })
    }
}

/// The key of a container's own snapshot, if that is this snapshotter's.
fn own_key(
    containers: &Bucket<'_>,
    id: &[u8],
    snapshotter: &[u8],
) -> Result<Option<BString>, Trouble> {
    let Some(one) = containers.bucket(id)? else { return Ok(None) };
    let is_its = one.value(b"snapshotter")?.is_some_and(|s| s == snapshotter);
    if is_its { one.value(b"snapshotKey") } else { Ok(None) }
}

fn name_of(snapshots: &Bucket<'_>, key: &[u8]) -> Result<BString, Trouble> {
    let one = snapshots.bucket(key)?;
    let name = one.map_or(Ok(None), |one| one.value(b"name"))?;
    name.ok_or_else(|| Trouble::Wrong("a snapshot without name".into()))
}

/// The keys that a namespace has for a backend's snapshot.
fn keys_of(snapshots: &Bucket<'_>, name: &[u8]) -> Result<Vec<BString>, Trouble> {
    let mut keys = Vec::new();
    snapshots.walk(&mut |item| {
        if let Some(one) = item.bucket()? {
            match one.value(b"name")? {
                Some(of) if of == name => keys.push(item.key()?.into()),
                Some(_) => {}
                None => return Err(Trouble::Wrong("a snapshot without name".into())),
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}
