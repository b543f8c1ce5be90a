//! The image store of containers/storage: `<driver>-images`, `<driver>-containers` and `<driver>-layers`.
//!
//! An image's directory is named by its id; in it are the values that its engine keeps under a key each: a key
//! of small letters, digits and dots is the file's name, another one stands behind a `=` in base64
//! (containers/storage images.go). The library for images keeps the configuration under its digest and
//! manifests under `manifest` and `manifest-<digest>` (containers/image storage/).

use std::collections::HashSet;

use bstr::{BStr, BString, ByteSlice};
use data_encoding::BASE64;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{Item, ItemInfo, LayerOf, Of, Store, first, parts};
use crate::model::{Engine, Standing, StoredKind};
use crate::state::containers_storage as files;
use crate::state::docker_layers::is_hex64;
use crate::storage::containers_storage::engine_of;
use crate::storage::table::{Image, Kind, User};
use crate::storage::{DRIVERS, Driver};

/// See the module.
pub(super) struct ContainersStorage;

impl Store for ContainersStorage {
    fn engines(&self) -> &'static [Engine] {
        &[Engine("podman"), Engine("cri-o"), Engine("buildah")]
    }

    fn item(&self, rel: &BStr) -> Option<Item> {
        let parts = parts(rel);
        let (driver, of) = parts[0].rsplit_once_str("-")?;
        let of = driver_of(driver).and(Some(of))?;
        let item = |kind, what, count| Some(Item::new(kind, what, driver, &first(&parts, count)));
        let name = parts.get(1).copied().unwrap_or_default();
        let rest = parts.get(2..).unwrap_or_default();
        match of {
            b"images" | b"containers" | b"layers" if name.is_empty() || is_table(name) => {
                item(StoredKind::Table, Of::All, parts.len())
            }
            b"images" if is_hex64(name) => {
                item(value(name, rest), Of::Image(BString::from(name)), 2)
            }
            b"containers" if is_hex64(name) => {
                item(StoredKind::ContainerRecord, Of::Container(BString::from(name)), 2)
            }
            b"layers" => match name.strip_suffix(b".tar-split.gz") {
                Some(id) if rest.is_empty() && is_hex64(id) => {
                    item(StoredKind::TarSplit, Of::Layer(BString::from(id)), 2)
                }
                None if is_hex64(name) => {
                    item(StoredKind::LayerRecord, Of::Layer(BString::from(name)), 2)
                }
                _ => item(StoredKind::Other, Of::Nothing, parts.len()),
            },
            b"images" | b"containers" => item(StoredKind::Other, Of::Nothing, parts.len()),
            _ => None,
        }
    }

    fn mark(&self, item: &Item) -> BString {
        [item.driver.as_slice(), b"-layers"].concat().into()
    }

    fn layer_of(&self, item: &Item) -> Option<LayerOf> {
        let driver = driver_of(&item.driver).filter(|_| matches!(item.of, Of::Layer(_)))?;
        Some(LayerOf { driver, store: driver.layers().first().copied().unwrap_or_default() })
    }

    fn tell(&self, root: &Root, item: &Item, info: &mut ItemInfo) -> Result<(), ReadError> {
        let store = files::Store { root, driver: &item.driver };
        match &item.of {
            Of::Layer(name) => info.layer = Some(name.clone()),
            Of::Image(id) => image(&store, item, id, info)?,
            Of::Container(id) => {
                let table = root.join(&store.containers_file());
                let all = store.containers()?;
                match all.iter().find(|one| *id == one.id.as_bytes()) {
                    Some(one) => {
                        info.users = vec![User::new(engine_of(&store, one), id.clone())];
                        info.standing = Some(Standing::Used);
                        info.seen(format!("kept for {id}"), table);
                    }
                    None => {
                        // Unless it went meanwhile: that is done after its line was removed.
                        root.look(&item.rel)?;
                        let why = "it does not have this container, and that of a transient store \
                                   lies in the run root, which is not known here";
                        return Err(ReadError::new(table, Class::Unsupported, why));
                    }
                }
            }
            Of::Archive(_) | Of::Blob(_) | Of::All | Of::Nothing => {}
        }
        Ok(())
    }

    fn through(&self, other: &Root, item: &Item) -> Result<Vec<User>, ReadError> {
        let store = files::Store { root: other, driver: &item.driver };
        match &item.of {
            // Of an image that both have, a container has its own store's.
            Of::Image(id) if !store.images()?.iter().any(|i| *id == i.id.as_bytes()) => {
                Ok(users(&store, &store.containers()?, id))
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The driver of containers/storage with this name.
fn driver_of(name: &[u8]) -> Option<&'static dyn Driver> {
    let mut all = DRIVERS.iter().filter(|d| d.table() == Kind::ContainersStorage);
    all.find(|driver| driver.name().as_bytes() == name).copied()
}

/// A table, its lock, and what is mounted.
fn is_table(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"volatile-").unwrap_or(name);
    let stem = name.strip_suffix(b".json").or_else(|| name.strip_suffix(b".lock"));
    matches!(stem, Some(b"images" | b"containers" | b"layers" | b"mountpoints"))
}

/// What the file of a value in an image's directory is.
fn value(image: &[u8], rest: &[&[u8]]) -> StoredKind {
    let [name] = rest else { return StoredKind::ImageRecord };
    let key = match name.strip_prefix(b"=") {
        Some(text) => BASE64.decode(text).unwrap_or_default(),
        None => name.to_vec(),
    };
    let is_config = key.strip_prefix(b"sha256:").is_some_and(|digits| digits == image);
    match key.as_slice() {
        _ if is_config => StoredKind::ImageConfig,
        b"manifest" => StoredKind::Manifest,
        key if key.starts_with(b"manifest-") => StoredKind::Manifest,
        _ => StoredKind::ImageRecord,
    }
}

fn image(
    store: &files::Store<'_>,
    item: &Item,
    id: &BString,
    info: &mut ItemInfo,
) -> Result<(), ReadError> {
    let table = store.root.join(&store.images_file());
    let images = store.images()?;
    let Some(image) = images.into_iter().find(|image| *id == image.id.as_bytes()) else {
        // Unless it went meanwhile: that is done after its line was removed.
        store.root.look(&item.rel)?;
        info.standing = Some(Standing::Orphan);
        info.seen("no image of this id", table);
        return Ok(());
    };
    info.seen(format!("the image {id}"), table);
    let names = image.names.into_iter().flatten().map(BString::from).collect();
    info.images = vec![Image { id: [b"sha256:", id.as_slice()].concat().into(), names }];
    info.standing = Some(Standing::Used);
    let containers = store.containers()?;
    info.users = users(store, &containers, id);
    // A transient store has its containers in a table of its run root.
    let told: HashSet<&[u8]> = containers.iter().map(|one| one.id.as_bytes()).collect();
    let untold = store.directories()?.into_iter().find(|id| !told.contains(id.as_slice()));
    if let Some(id) = untold {
        let path = store.root.join(&store.userdata(&id, ""));
        let why = "its tables do not have a container that has a directory in it";
        info.problems(&[ReadError::new(path, Class::Unsupported, why)]);
    }
    Ok(())
}

/// The containers of a store that are made of an image.
fn users(store: &files::Store<'_>, all: &[files::Container], image: &BString) -> Vec<User> {
    let of_it = all.iter().filter(|one| *image == one.image.as_bytes());
    let mut users: Vec<User> =
        of_it.map(|one| User::new(engine_of(store, one), one.id.as_str())).collect();
    users.sort_by(|a, b| a.key.cmp(&b.key));
    users
}
