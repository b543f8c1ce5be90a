//! containerd's word on a snapshot's directory: the snapshotter's `metadata.db` says which snapshot
//! has this number and what it lies on, `meta.db` which namespaces, containers and images have it.
//!
//! Names and numbers count within one root only. A snapshotter that keeps its own root elsewhere
//! (stargz as a service) has no `meta.db` beside it: then whose a snapshot is, is a gap.

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::Driver;
use super::table::{Asked, Image, Kind, LayerId, LayerInfo, Table, User};
use crate::model::{Engine, LayerKind};
use crate::state::containerd::metadata::{self, Holder, Metadata};
use crate::state::containerd::snapshotter::{self, Snapshot, Snapshotter};

const ENGINE: Engine = Engine("containerd");
/// The namespace of BuildKit's workers.
const BUILDKIT: &[u8] = b"buildkit";
/// How the key begins of what an image's layer is unpacked to (containerd
/// pkg/unpack/unpacker.go, core/snapshots/snapshotter.go: `UnpackKeyPrefix`).
const UNPACKING: &[u8] = b"extract-";
/// How the names of directories begin that are being made, and removed
/// (plugins/snapshots/overlay/overlay.go).
const NEW: &[u8] = b"new-";
const REMOVED: &[u8] = b"rm-";
/// Entries that a directory of snapshots may have.
const MOST: usize = 400_000;

/// The table of a snapshotter.
pub(super) fn open(root: &Root, driver: &dyn Driver) -> Result<Box<dyn Table>, ReadError> {
    let database = Snapshotter::at(root, &driver.table().mark(driver))?;
    let metadata = match Metadata::open(root) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.class == Class::Gone => None,
        Err(e) => return Err(e),
    };
    let snapshotter = match driver.table() {
        Kind::Snapshots { snapshotter, .. } => snapshotter,
        _ => "",
    };
    Ok(Box::new(Snapshots { snapshotter, database, metadata, chains: HashMap::new() }))
}

struct Snapshots {
    /// Its name in containerd's configuration.
    snapshotter: &'static str,
    database: Snapshotter,
    metadata: Option<Metadata>,
    /// Numbers of a snapshot and those below, by the name of the first.
    chains: HashMap<BString, Vec<u64>>,
}

impl Table for Snapshots {
    fn tell(&mut self, asked: &Asked<'_>, info: &mut LayerInfo) {
        if asked.name.starts_with(REMOVED) {
            info.layer.kind = Some(LayerKind::Removing);
            return;
        }
        if let Err(e) = self.look_up(asked, info) {
            info.problem(&e);
        }
    }

    fn named(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        id: &LayerId<'_>,
    ) -> Result<Vec<(&'static str, BString)>, ReadError> {
        // No number has as many digits as a name that may be given.
        let (LayerId::Digest(digits), Some(metadata)) = (id, &self.metadata) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in metadata.chains(self.snapshotter.as_bytes(), digits)? {
            let Some(snapshot) = self.database.snapshot(&name)? else { continue };
            let number: BString = snapshot.id.to_string().into();
            let has = |store: &&&str| root.look(&super::entry(store, number.as_ref())).is_ok();
            let stores = driver.layers();
            let store = stores.iter().find(has).or(stores.first()).copied().unwrap_or_default();
            found.push((store, number));
        }
        Ok(found)
    }

    fn known(&mut self, _root: &Root) -> Result<Vec<BString>, ReadError> {
        let numbers = self.database.numbers()?;
        Ok(numbers.into_iter().map(|number| number.to_string().into()).collect())
    }

    fn stack(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        key: &BStr,
    ) -> Result<Option<Vec<(&'static str, BString)>>, ReadError> {
        let (Some((namespace, id)), Some(metadata)) = (key.rsplit_once_str("/"), &self.metadata)
        else {
            return Ok(None);
        };
        let Some(own) = metadata.own_snapshot(namespace, id, self.snapshotter.as_bytes())? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for snapshot in self.database.chain(&own)? {
            let number = BString::from(snapshot.id.to_string());
            let has = |store: &&&str| root.look(&super::entry(store, number.as_ref())).is_ok();
            let stores = driver.layers();
            let store = stores.iter().find(has).or(stores.first()).copied().unwrap_or_default();
            names.push((store, number));
            if !driver.stacks() {
                break;
            }
        }
        Ok(Some(names))
    }
}

impl Snapshots {
    fn look_up(&mut self, asked: &Asked<'_>, info: &mut LayerInfo) -> Result<(), ReadError> {
        let shown = self.database.shown();
        let Some(number) = number(asked.name) else {
            info.is_changing = asked.name.starts_with(NEW);
            info.seen("its name is no snapshot's number", shown);
            info.layer.kind = Some(LayerKind::Orphan);
            return Ok(());
        };
        // A directory is there before what says so is written.
        let last = self.database.last()?;
        let Some(snapshot) = self.database.by_id(number)? else {
            info.is_changing = number > last || is_adding(asked);
            info.seen("no snapshot has this number", shown);
            info.layer.kind = Some(LayerKind::Orphan);
            return Ok(());
        };
        info.seen(format!("the snapshot {}", snapshot.name), shown);
        let Some(metadata) = &self.metadata else {
            let why =
                "it is not beside the snapshotter, so that whose its snapshots are is not known";
            return Err(ReadError::new(asked.root.join(metadata::FILE), Class::Gone, why));
        };
        let shown = metadata.shown();
        // The container's own are few reads away.
        let own = match (asked.container, snapshot.place()) {
            (Some(of), Some((namespace, _))) => self.own(of, namespace, number)?,
            _ => None,
        };
        let only = own.as_ref().filter(|_| !asked.users);
        let metadata = self.metadata.as_ref().ok_or_else(|| gone(asked.root))?;
        let snapshotter = self.snapshotter.as_bytes();
        let mut holders = metadata.holders(snapshotter, &snapshot.name, only.is_none())?;
        if let Some(own) = only
            && let Some(holder) = holders.iter_mut().find(|h| h.namespace == own.namespace)
        {
            holder.containers.push(own.user.clone());
        }
        for holder in &holders {
            let Holder { namespace, key, .. } = holder;
            info.seen(format!("{key} in the namespace {namespace}"), shown.clone());
        }
        if holders.is_empty() {
            // It is made before containerd gives it a name, and removed after that.
            info.is_changing = number >= last;
            info.seen("no namespace has it", shown);
            info.layer.kind = Some(LayerKind::Orphan);
            return Ok(());
        }
        self.fill(asked, &snapshot, &holders, info)
    }

    /// What a snapshot is that containerd has a name for.
    fn fill(
        &mut self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        holders: &[Holder],
        info: &mut LayerInfo,
    ) -> Result<(), ReadError> {
        let users = || holders.iter().flat_map(|h| h.containers.iter().map(move |c| (h, c)));
        let is_own = users().any(|(_, user)| user.snapshot == snapshot.name);
        let mut all: Vec<User> = users().map(|(h, c)| user(&h.namespace, &c.id)).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup();
        info.held_by(images(holders));
        let idle = all.is_empty() && info.images.is_empty();
        let is_init = match all.as_slice() {
            [only] => {
                let id = only.key.rsplit_once_str("/").map_or(only.key.as_slice(), |(_, id)| id);
                holders.iter().all(|h| h.key.strip_suffix(b"-init") == Some(id))
            }
            _ => false,
        };
        info.is_changing = idle && holders.iter().any(|h| h.key.starts_with(UNPACKING));
        info.layer.kind = match snapshot.kind {
            _ if idle && holders.iter().all(|h| h.namespace == BUILDKIT) => {
                Some(LayerKind::BuildCache)
            }
            _ if idle => Some(LayerKind::Unused),
            snapshotter::Kind::View => Some(LayerKind::View),
            snapshotter::Kind::Active if is_own => Some(LayerKind::Upper),
            snapshotter::Kind::Committed if is_init => Some(LayerKind::Init),
            snapshotter::Kind::Committed => Some(LayerKind::Image),
            snapshotter::Kind::Active | snapshotter::Kind::Other(_) => None,
        };
        let chain = holders.iter().find(|h| h.key.starts_with(b"sha256:"));
        info.layer.chain_id = chain.map(|h| h.key.clone());
        let lower = matches!(info.layer.kind, Some(LayerKind::Image | LayerKind::Init));
        if lower && asked.driver.stacks() {
            let is_it = |h: &Holder, id: &BString| match asked.container {
                Some(of) => is_key(of, &h.namespace, id),
                None => true,
            };
            let counts: Vec<BString> =
                users().filter(|(h, c)| is_it(h, &c.id)).map(|(_, c)| c.snapshot.clone()).collect();
            let mut places: Vec<(usize, usize)> = Vec::new();
            for top in counts {
                let chain = self.lowers(&top)?;
                let at = chain.iter().position(|id| *id == snapshot.id);
                places.extend(at.map(|at| (at, chain.len())).filter(|p| !places.contains(p)));
            }
            info.placed(&places);
        }
        info.used_by(all);
        Ok(())
    }

    /// The container, if a snapshot is its own or lies below that.
    fn own(&self, key: &BStr, namespace: &BStr, number: u64) -> Result<Option<Own>, ReadError> {
        let (of, id) = key.rsplit_once_str("/").unwrap_or((namespace, key));
        let Some(metadata) = self.metadata.as_ref().filter(|_| namespace == of) else {
            return Ok(None);
        };
        let name = metadata.own_snapshot(namespace, id, self.snapshotter.as_bytes())?;
        let Some(name) = name else { return Ok(None) };
        let chain = self.database.chain(&name)?;
        let has = chain.iter().any(|s| s.id == number);
        let user = metadata::User { id: id.into(), snapshot: name };
        Ok(has.then(|| Own { namespace: namespace.into(), user }))
    }

    /// Numbers of what lies below a container's own snapshot, the topmost first.
    fn lowers(&mut self, own: &BString) -> Result<Vec<u64>, ReadError> {
        let Some(own) = self.database.snapshot(own)? else { return Ok(Vec::new()) };
        if own.parent.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(known) = self.chains.get(&own.parent) {
            return Ok(known.clone());
        }
        let chain: Vec<u64> = self.database.chain(&own.parent)?.iter().map(|s| s.id).collect();
        self.chains.insert(own.parent, chain.clone());
        Ok(chain)
    }
}

/// A container in whose stack a snapshot is.
struct Own {
    namespace: BString,
    user: metadata::User,
}

fn gone(root: &Root) -> ReadError {
    ReadError::new(root.join(metadata::FILE), Class::Gone, "it went meanwhile")
}

fn user(namespace: &BString, id: &BString) -> User {
    User::new(ENGINE, [namespace.as_slice(), b"/", id].concat())
}

/// Whether a container's key, or its bare id, is this one's.
fn is_key(key: &BStr, namespace: &[u8], id: &[u8]) -> bool {
    match key.rsplit_once_str("/") {
        Some((of, its)) => of == namespace && its == id,
        None => key == id,
    }
}

/// A directory's number, as it is written.
fn number(name: &[u8]) -> Option<u64> {
    let text = name.to_str().ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    let plain = text.len() == 1 || !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// Whether a directory is being made right now, or its making was broken off.
fn is_adding(asked: &Asked<'_>) -> bool {
    let stores = asked.driver.stores().iter();
    let entries = stores.filter_map(|store| asked.root.list(store.as_bytes(), MOST).ok());
    entries.flatten().any(|e| e.name.starts_with(NEW))
}

/// Images by what their names stand for.
fn images(holders: &[Holder]) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for (name, digest) in holders.iter().flat_map(|h| &h.images) {
        match images.iter_mut().find(|i| i.id == *digest) {
            Some(image) if image.names.contains(name) => {}
            Some(image) => image.names.push(name.clone()),
            None => images.push(Image { id: digest.clone(), names: vec![name.clone()] }),
        }
    }
    for image in &mut images {
        image.names.sort();
    }
    images.sort_by(|a, b| a.names.cmp(&b.names));
    images
}
