//! Docker's own image store: `image/<driver>/{imagedb,layerdb,distribution,repositories.json}`, and
//! `containers/<id>`.
//!
//! Names are moby's (daemon/internal/image/fs.go, layer/filestore.go, daemon/internal/distribution/metadata).

use std::collections::HashSet;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{Item, ItemInfo, LayerOf, Of, Store, first, parts};
use crate::model::{Engine, Standing, StoredKind};
use crate::state::docker::{Config, container_file};
use crate::state::docker_layers::{self as files, is_hex64};
use crate::state::json;
use crate::storage::docker_layerdb::{LayerDb, Read};
use crate::storage::table::{Image, Kind, User};
use crate::storage::{DRIVERS, Driver, is_removing};

const ENGINE: Engine = Engine("docker");
/// Containers that a data root may have.
const MOST: usize = 200_000;

/// See the module.
pub(super) struct Docker;

impl Store for Docker {
    fn engines(&self) -> &'static [Engine] {
        &[ENGINE]
    }

    fn item(&self, rel: &BStr) -> Option<Item> {
        let parts = parts(rel);
        let of_driver =
            |kind, of, count| Some(Item::new(kind, of, parts[1], &first(&parts, count)));
        match parts.as_slice() {
            [b"containers", id, ..] if is_hex64(id) => {
                let of = Of::Container(BString::from(*id));
                Some(Item::new(StoredKind::ContainerRecord, of, b"", &first(&parts, 2)))
            }
            [b"image", driver, ..] if driver_of(driver).is_none() => None,
            [b"image", _, b"imagedb", b"content", b"sha256", id] if is_hex64(id) => {
                of_driver(StoredKind::ImageConfig, Of::Image(BString::from(*id)), 6)
            }
            [b"image", _, b"imagedb", b"metadata", b"sha256", id, ..] if is_hex64(id) => {
                of_driver(StoredKind::ImageRecord, Of::Image(BString::from(*id)), 6)
            }
            [b"image", _, b"layerdb", b"sha256", name, rest @ ..] if !name.is_empty() => {
                let kind = match rest {
                    [b"tar-split.json.gz"] => StoredKind::TarSplit,
                    _ => StoredKind::LayerRecord,
                };
                of_driver(kind, Of::Layer(BString::from(*name)), 5)
            }
            [b"image", _, b"layerdb", b"mounts", id, ..] if !id.is_empty() => {
                of_driver(StoredKind::ContainerRecord, Of::Container(BString::from(*id)), 5)
            }
            [b"image", _, b"layerdb", b"tmp", name, ..] if !name.is_empty() => {
                of_driver(StoredKind::Begun, Of::Nothing, 5)
            }
            [b"image", _, b"distribution", dir, algorithm, digits]
                if matches!(*dir, b"diffid-by-digest" | b"v2metadata-by-diffid") =>
            {
                let digest = [*algorithm, b":", *digits].concat();
                of_driver(StoredKind::Distribution, Of::Archive(digest.into()), 6)
            }
            // The file of names, and the directories above what is told apart.
            [b"image", _] | [b"image", _, b"repositories.json"] => {
                of_driver(StoredKind::Table, Of::All, parts.len())
            }
            [b"image", _, b"imagedb" | b"layerdb" | b"distribution", rest @ ..]
                if rest.len() < 3 && !is_file(rest) =>
            {
                of_driver(StoredKind::Table, Of::All, parts.len())
            }
            [b"image", _, ..] => of_driver(StoredKind::Other, Of::Nothing, parts.len()),
            _ => None,
        }
    }

    fn mark(&self, item: &Item) -> BString {
        match item.driver.is_empty() {
            true => "image".into(),
            false => [b"image/", item.driver.as_slice(), b"/layerdb"].concat().into(),
        }
    }

    fn layer_of(&self, item: &Item) -> Option<LayerOf> {
        let driver = driver_of(&item.driver).filter(|_| matches!(item.of, Of::Layer(_)))?;
        Some(LayerOf { driver, store: driver.layers().first().copied().unwrap_or_default() })
    }

    fn tell(&self, root: &Root, item: &Item, info: &mut ItemInfo) -> Result<(), ReadError> {
        if let Of::Container(id) = &item.of {
            return container(root, item, id, info);
        }
        let driver = driver_of(&item.driver);
        let db = driver.map_or(Ok(None), |driver| LayerDb::open(root, driver))?;
        let Some(mut db) = db else { return Ok(()) };
        match &item.of {
            Of::Image(id) => image(root, item, &mut db, id, info),
            Of::Layer(name) if is_hex64(name) => {
                info.layer = Some(db.chain(root, name.as_ref())?.cache);
                Ok(())
            }
            Of::Layer(name) => {
                let name = BStr::new(name);
                info.standing = is_removing(name).then_some(Standing::Removing);
                info.seen("its name says that its removal has begun", root.join(&item.rel));
                Ok(())
            }
            Of::Archive(digest) => archive(root, item, &mut db, digest, info),
            _ => {
                info.is_changing = item.kind == StoredKind::Begun;
                Ok(())
            }
        }
    }
}

/// The driver of Docker's with this name.
fn driver_of(name: &[u8]) -> Option<&'static dyn Driver> {
    let mut all = DRIVERS.iter().filter(|d| d.table() == Kind::Layerdb);
    all.find(|driver| driver.name().as_bytes() == name).copied()
}

/// Whether what lies so high in a store is a file, of which it has none there.
fn is_file(rest: &[&[u8]]) -> bool {
    const DIRS: [&[u8]; 9] = [
        b"",
        b"content",
        b"metadata",
        b"sha256",
        b"mounts",
        b"tmp",
        b"diffid-by-digest",
        b"v2metadata-by-diffid",
        b"sha512",
    ];
    rest.iter().any(|part| !DIRS.contains(part))
}

fn container(root: &Root, item: &Item, id: &BString, info: &mut ItemInfo) -> Result<(), ReadError> {
    if is_removing(id) {
        info.standing = Some(Standing::Removing);
        info.seen("its name says that its removal has begun", root.join(&item.rel));
        return Ok(());
    }
    let config = container_file(id, "config.v2.json");
    match root.look(&config) {
        Ok(_) => {
            info.users = vec![User::new(ENGINE, id.clone())];
            info.standing = Some(Standing::Used);
            info.seen(format!("kept for {id}"), root.join(&config));
            Ok(())
        }
        Err(e) if e.class == Class::Gone => {
            // It is made after the container's directory, and that after its layer.
            info.is_changing = !item.driver.is_empty() && root.has_dir(&container_file(id, ""));
            info.standing = Some(Standing::Orphan);
            info.seen("no container of this id", root.join(b"containers"));
            Ok(())
        }
        Err(e) => Err(e),
    }
}

fn image(
    root: &Root,
    item: &Item,
    db: &mut LayerDb,
    id: &BString,
    info: &mut ItemInfo,
) -> Result<(), ReadError> {
    match db.image(root, id.as_ref()) {
        Ok(image) => info.images = vec![with_algorithm(image)],
        Err(e) if e.class == Class::Gone && item.kind == StoredKind::ImageRecord => {
            info.standing = Some(Standing::Orphan);
            info.seen("no image of this id", db.shown_image(root, id.as_ref()));
            return Ok(());
        }
        Err(e) => return Err(e),
    }
    info.seen(format!("the image sha256:{id}"), db.shown_image(root, id.as_ref()));
    let Read { list, problems } = users(root, &HashSet::from([id.as_ref()]));
    info.users = list;
    info.problems(&problems);
    info.settle(Standing::Used);
    let has_none = info.users.is_empty() && info.images.iter().all(|i| i.names.is_empty());
    if has_none && info.gaps.is_empty() && db.is_step(root, id.as_ref()) {
        info.standing = Some(Standing::BuildCache);
    }
    Ok(())
}

/// What is known of where an archive was downloaded from serves the images that have it.
fn archive(
    root: &Root,
    item: &Item,
    db: &mut LayerDb,
    digest: &BString,
    info: &mut ItemInfo,
) -> Result<(), ReadError> {
    let by_digest = item.rel.contains_str("/diffid-by-digest/");
    let diff = match by_digest {
        true => files::value(root, &item.rel, files::parse_digest)?,
        false => files::parse_digest(digest)
            .map_err(|why| ReadError::new(root.join(&item.rel), Class::Malformed, why))?,
    };
    info.seen(format!("the layer of diff id sha256:{diff}"), root.join(&item.rel));
    let images = db.images_with(root, |_, diffs| diffs.contains(&diff));
    info.problems(&images.problems);
    let ids: HashSet<&BStr> = images.list.iter().map(|image| image.id.as_ref()).collect();
    if !ids.is_empty() {
        let Read { list, problems } = users(root, &ids);
        info.users = list;
        info.problems(&problems);
    }
    info.images = images.list.into_iter().map(with_algorithm).collect();
    info.settle(Standing::Unused);
    Ok(())
}

fn with_algorithm(image: Image) -> Image {
    Image { id: [b"sha256:", image.id.as_slice()].concat().into(), ..image }
}

/// The containers made of one of these images.
fn users(root: &Root, images: &HashSet<&BStr>) -> Read<User> {
    let mut users = Read { list: Vec::new(), problems: Vec::new() };
    let entries = match root.list(b"containers", MOST) {
        Ok(entries) => entries,
        Err(e) => {
            users.problems.extend((e.class != Class::Gone).then_some(e));
            return users;
        }
    };
    for id in entries.into_iter().map(|e| e.name).filter(|name| is_hex64(name)) {
        let read: Result<Config, ReadError> =
            json::read(root, &container_file(&id, "config.v2.json"));
        match read {
            Ok(config) if config.id.as_bytes() != id => {
                let path = root.join(&container_file(&id, "config.v2.json"));
                let why = "it is another container's";
                users.problems.push(ReadError::new(path, Class::Malformed, why));
            }
            Ok(config) => {
                let of = config.image.as_bytes().strip_prefix(b"sha256:");
                if of.is_some_and(|of| images.contains(BStr::new(of))) {
                    users.list.push(User::new(ENGINE, id));
                }
            }
            // Being made or removed: it has no image then.
            Err(e) if e.class == Class::Gone => {}
            Err(e) => users.problems.push(e),
        }
    }
    users.list.sort_by(|a, b| a.key.cmp(&b.key));
    users
}
