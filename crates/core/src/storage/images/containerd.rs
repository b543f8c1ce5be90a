//! containerd's store: blobs and what is being written, the bundles of tasks, what the CRI plugin keeps for a
//! container, and the databases.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::containerd_contents::{BUILDKIT, contents};
use super::{Item, ItemInfo, Of, Store, first, parts};
use crate::model::{Engine, Standing, StoredKind};
use crate::state::containerd::bundle::{TASKS, is_identifier};
use crate::state::containerd::metadata::{self, Blob, BlobPart, Contents, Metadata};
use crate::state::docker_layers::is_hex64;
use crate::storage::table::{Image, User};

const ENGINE: Engine = Engine("containerd");
/// The namespace of the CRI plugin's containers.
const PODS: &[u8] = b"k8s.io";
/// Largest text that says what is being written, bytes.
const REF: usize = 4096;

/// See the module.
pub(super) struct Containerd;

impl Store for Containerd {
    fn engines(&self) -> &'static [Engine] {
        &[ENGINE]
    }

    fn item(&self, rel: &BStr) -> Option<Item> {
        let parts = parts(rel);
        let plugin = parts[0].strip_prefix(b"io.containerd.")?;
        let rest = &parts[1..];
        let item = |kind, of, count| Some(Item::new(kind, of, b"", &first(&parts, count)));
        let container =
            |namespace: &[u8], id: &[u8]| Of::Container([namespace, b"/", id].concat().into());
        match (plugin, rest) {
            (b"content.v1.content", [b"blobs", algorithm, digits]) if !digits.is_empty() => {
                let digest = [*algorithm, b":", *digits].concat();
                item(StoredKind::Blob, Of::Blob(digest.into()), 4)
            }
            (b"content.v1.content", [] | [b"blobs" | b"ingest"] | [b"blobs", _]) => {
                item(StoredKind::Table, Of::All, parts.len())
            }
            (b"content.v1.content", [b"ingest", ..]) => item(StoredKind::Begun, Of::Nothing, 3),
            (b"metadata.v1.bolt", [] | [b"meta.db"]) => {
                item(StoredKind::Table, Of::All, parts.len())
            }
            (plugin, [] | [b"metadata.db"]) if plugin.starts_with(b"snapshotter.v1.") => {
                item(StoredKind::Table, Of::All, parts.len())
            }
            // What the container has as its root is a mount, and told as one.
            (b"runtime.v2.task" | b"runtime.v1.linux", [_, _, b"rootfs", ..]) => None,
            (_, [namespace, id, ..])
                if parts[0] == TASKS.as_bytes() || plugin == b"runtime.v1.linux" =>
            {
                match is_identifier(namespace) && is_identifier(id) {
                    true => item(StoredKind::Task, container(namespace, id), 3),
                    false => item(StoredKind::Other, Of::Nothing, parts.len()),
                }
            }
            (b"grpc.v1.cri", [b"containers" | b"sandboxes", id, ..]) if is_hex64(id) => {
                item(StoredKind::ContainerRecord, container(PODS, id), 3)
            }
            _ => item(StoredKind::Other, Of::Nothing, parts.len()),
        }
    }

    fn mark(&self, _item: &Item) -> BString {
        metadata::FILE.into()
    }

    fn tell(&self, root: &Root, item: &Item, info: &mut ItemInfo) -> Result<(), ReadError> {
        match (&item.of, item.kind) {
            (Of::Blob(digest), _) => blob(root, digest, info),
            (Of::Container(key), _) => container(root, key, info),
            (_, StoredKind::Begun) => {
                let file = [item.rel.as_slice(), b"/ref"].concat();
                let text = root.read_of_admin(&file, REF)?;
                info.seen([b"written as ", text.as_slice()].concat(), root.join(&file));
                info.is_changing = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn container(root: &Root, key: &BString, info: &mut ItemInfo) -> Result<(), ReadError> {
    let Some((namespace, id)) = key.split_once_str("/") else { return Ok(()) };
    let metadata = Metadata::open(root)?;
    if metadata.has_container(namespace, id)? {
        info.users = vec![User::new(ENGINE, key.clone())];
        info.standing = Some(Standing::Used);
        let seen = format!("{} in the namespace {}", BStr::new(id), BStr::new(namespace));
        info.seen(seen, metadata.shown());
    } else {
        info.standing = Some(Standing::Orphan);
        info.seen("no container of this id", metadata.shown());
    }
    Ok(())
}

fn blob(root: &Root, digest: &BString, info: &mut ItemInfo) -> Result<(), ReadError> {
    let mut contents = contents(root)?;
    // It is there just before the database says so.
    if !contents.blobs.contains_key(digest) {
        contents = self::contents(root)?;
    }
    let shown = root.join(metadata::FILE);
    let Some(blob) = contents.blobs.get(digest) else {
        info.standing = Some(Standing::Orphan);
        info.seen("no namespace has it", shown);
        return Ok(());
    };
    for namespace in &blob.namespaces {
        info.seen(format!("in the namespace {namespace}"), shown.clone());
    }
    info.kind = blob.part.map(|part| match part {
        BlobPart::Index => StoredKind::Index,
        BlobPart::Manifest => StoredKind::Manifest,
        BlobPart::Config => StoredKind::ImageConfig,
        BlobPart::Layer => StoredKind::LayerBlob,
    });
    info.images = images(blob);
    info.users = users(&contents, &info.images);
    let is_builds = blob.namespaces.iter().all(|name| name == BUILDKIT);
    info.settle(if is_builds { Standing::BuildCache } else { Standing::Unused });
    Ok(())
}

/// The images that need a blob, by what their names stand for.
fn images(blob: &Blob) -> Vec<Image> {
    let mut by_id: BTreeMap<&BString, BTreeSet<&BString>> = BTreeMap::new();
    for (name, id) in &blob.images {
        by_id.entry(id).or_default().insert(name);
    }
    let named = |(id, names): (&BString, BTreeSet<&BString>)| Image {
        id: id.clone(),
        names: names.into_iter().cloned().collect(),
    };
    let mut images: Vec<Image> = by_id.into_iter().map(named).collect();
    images.sort_by(|a, b| a.names.cmp(&b.names));
    images
}

/// The containers made of one of these images.
fn users(contents: &Contents, images: &[Image]) -> Vec<User> {
    let of_them = images.iter().filter_map(|image| contents.used.get(&image.id)).flatten();
    let mut users: Vec<User> = of_them.map(|key| User::new(ENGINE, key.clone())).collect();
    users.sort_by(|a, b| a.key.cmp(&b.key));
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::images;
    use crate::state::containerd::metadata::Blob;

    /// Whoever pulls has as many names for one image as he likes.
    #[test]
    fn images_are_told_by_what_their_names_stand_for() {
        let pair = |name: String, id: &str| (BString::from(name), BString::from(id));
        let mut all: Vec<_> = (0..100_000).rev().map(|n| pair(format!("b:{n:06}"), "2")).collect();
        all.extend([pair("a".into(), "1"), pair("c".into(), "3"), pair("a".into(), "1")]);
        let told = images(&Blob { images: all, ..Blob::default() });
        let told: Vec<(&str, usize, &BString)> = told
            .iter()
            .map(|i| (std::str::from_utf8(&i.id).unwrap(), i.names.len(), &i.names[0]))
            .collect();
        let first = [BString::from("a"), BString::from("b:000000"), BString::from("c")];
        let wanted = [("1", 1, &first[0]), ("2", 100_000, &first[1]), ("3", 1, &first[2])];
        assert_eq!(told, wanted);
    }
}
