//! Image stores: what an engine keeps of images, layers and containers beside the layers' files, and who needs
//! it.
//!
//! A store is one file here and one line in [`STORES`]. What a path is, is read from its text alone; whose that
//! is says the engine's own tables.

mod containerd;
pub mod containerd_contents;
mod containers_storage;
mod docker;

use bstr::{BStr, BString};
use whose_kernel::ReadError;
use whose_kernel::root::Root;

use super::Driver;
use super::table::{Image, User};
use crate::model::gap::what;
use crate::model::{Engine, Evidence, Gap, Source, Standing, StoredKind};

/// Every image store.
pub const STORES: &[&dyn Store] =
    &[&docker::Docker, &containers_storage::ContainersStorage, &containerd::Containerd];

/// What an item is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// An image, by its id without the algorithm.
    Image(BString),
    /// A layer, by its name in the store: of Docker its chain id without the algorithm.
    Layer(BString),
    /// A layer's archive, by its digest with the algorithm.
    Archive(BString),
    /// A container, by its key.
    Container(BString),
    /// A blob, by its digest with the algorithm.
    Blob(BString),
    /// All of the engine's.
    All,
    /// Nothing that is known here.
    Nothing,
}

/// A file of a store, as its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: StoredKind,
    /// What it is of.
    pub of: Of,
    /// The storage driver whose it is; empty where a store serves all.
    pub driver: BString,
    /// The file or directory by which it is there, below the data root: of what lies in a directory that one.
    pub rel: BString,
}

impl Item {
    fn new(kind: StoredKind, of: Of, driver: &[u8], rel: &[u8]) -> Self {
        Self { kind, of, driver: driver.into(), rel: rel.into() }
    }
}

/// A layer in whose place an item stands.
#[derive(Clone, Copy)]
pub struct LayerOf {
    /// The driver.
    pub driver: &'static dyn Driver,
    /// The directory of the driver that it lies in.
    pub store: &'static str,
}

/// What an item is, and who needs it.
#[derive(Clone, Debug, Default)]
pub struct ItemInfo {
    /// What it is, where the tables know that better than the path.
    pub kind: Option<StoredKind>,
    /// Who has it; `None` where that could not be read, or where it is of nothing in particular.
    pub standing: Option<Standing>,
    /// The name of the layer's directory that has to be asked about.
    pub layer: Option<BString>,
    /// The images that need it, those with names first.
    pub images: Vec<Image>,
    /// The containers that do.
    pub users: Vec<User>,
    /// It is being made, or its making was broken off: what no table has may be in one soon.
    pub is_changing: bool,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

impl ItemInfo {
    pub(super) fn seen(&mut self, detail: impl Into<BString>, path: BString) {
        self.evidence.push(Evidence::agreeing(Source::StateFile, detail, path));
    }

    fn problems(&mut self, problems: &[ReadError]) {
        for problem in problems {
            let gap = Gap::from_read(what::IMAGES, problem);
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    /// Settles who has it, once images and containers were looked for.
    fn settle(&mut self, otherwise: Standing) {
        let is_used = !(self.images.is_empty() && self.users.is_empty());
        self.standing = match self.gaps.is_empty() {
            _ if is_used => Some(Standing::Used),
            true => Some(otherwise),
            false => None,
        };
    }
}

/// One kind of image store.
pub trait Store: Sync {
    /// The engines that have it. Of several one store may serve all; the first whose it is, is told.
    fn engines(&self) -> &'static [Engine];

    /// What a path below a data root is, without a leading slash; `None` when it is none of the store's.
    fn item(&self, rel: &BStr) -> Option<Item>;

    /// What a data root has if the item is one of this store's.
    fn mark(&self, item: &Item) -> BString;

    /// The storage driver and store of the layer that an item is of.
    fn layer_of(&self, _item: &Item) -> Option<LayerOf> {
        None
    }

    /// Fills in what an item is, and who needs it, by the tables of the data root.
    ///
    /// # Errors
    /// When they can't be read.
    fn tell(&self, root: &Root, item: &Item, info: &mut ItemInfo) -> Result<(), ReadError>;

    /// The containers of another store that have an image of this one's.
    ///
    /// # Errors
    /// When its table can't be read.
    fn through(&self, _other: &Root, _item: &Item) -> Result<Vec<User>, ReadError> {
        Ok(Vec::new())
    }
}

/// A data root, a store and what the path is to it: every reading of a path, the shortest data root first. Text
/// alone; nothing is looked at.
#[must_use]
pub fn readings(path: &BStr) -> Vec<(&BStr, &'static dyn Store, Item)> {
    let mut found = Vec::new();
    for slash in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).skip(1) {
        let (root, rel) = (BStr::new(&path[..slash]), BStr::new(&path[slash + 1..]));
        found.extend(STORES.iter().filter_map(|s| Some((root, *s, s.item(rel)?))));
    }
    found
}

/// The parts of a path.
fn parts(rel: &BStr) -> Vec<&[u8]> {
    rel.split(|b| *b == b'/').collect()
}

/// The first so many parts of a path, joined.
fn first(parts: &[&[u8]], count: usize) -> Vec<u8> {
    parts[..count.min(parts.len())].join(&b'/')
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Of, readings};

    /// The data root, the kind, and what it is of, of the outermost reading.
    fn read(path: &str) -> Option<(String, &'static str, Of)> {
        let all = readings(BStr::new(path));
        let (root, _, item) = all.into_iter().next()?;
        Some((root.to_string(), item.kind.name(), item.of))
    }

    #[test]
    fn dockers_paths() {
        let id = "0123456789abcdef".repeat(4);
        let of = |rest: &str| {
            let (root, kind, of) = read(&format!("/d/image/overlay2/{rest}")).unwrap();
            assert_eq!(root, "/d");
            (kind, of)
        };
        let (image, layer) = (Of::Image(id.as_str().into()), Of::Layer(id.as_str().into()));
        let container = Of::Container(id.as_str().into());
        assert_eq!(of(&format!("imagedb/content/sha256/{id}")), ("image-config", image.clone()));
        assert_eq!(of(&format!("imagedb/metadata/sha256/{id}/parent")), ("image-record", image));
        assert_eq!(of(&format!("layerdb/sha256/{id}/cache-id")), ("layer-record", layer.clone()));
        assert_eq!(of(&format!("layerdb/sha256/{id}/tar-split.json.gz")), ("tar-split", layer));
        assert_eq!(of(&format!("layerdb/mounts/{id}/init-id")), ("container-record", container));
        assert_eq!(of("layerdb/tmp/write-set-1/diff"), ("begun", Of::Nothing));
        let archive = Of::Archive("sha256:aa".into());
        let origin = of("distribution/v2metadata-by-diffid/sha256/aa");
        assert_eq!(origin, ("distribution-record", archive));
        for table in ["repositories.json", "imagedb/content/sha256", "layerdb/mounts", "layerdb"] {
            assert_eq!(of(table), ("table", Of::All), "{table}");
        }
        let odd = [
            format!("imagedb/content/sha256/{id}/x"),
            format!("imagedb/content/sha256/{}", &id[1..]),
        ];
        for other in odd.iter().map(String::as_str).chain(["x", "imagedb/x", "layerdb/x/y/z"]) {
            assert_eq!(of(other), ("other", Of::Nothing), "{other}");
        }
        for none in
            ["/d/image", "/d/image/", "/d/image/nodriver/imagedb", "/image/overlay2", "/d/images"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn paths_of_containers_storage_and_of_containerd() {
        let id = "0123456789abcdef".repeat(4);
        let kind = |path: &str| {
            read(path).map(|(root, kind, _)| {
                assert_eq!(root, "/d");
                kind
            })
        };
        assert_eq!(kind(&format!("/d/overlay-images/{id}")), Some("image-record"));
        assert_eq!(kind(&format!("/d/vfs-images/{id}/manifest")), Some("manifest"));
        assert_eq!(kind(&format!("/d/overlay-layers/{id}.tar-split.gz")), Some("tar-split"));
        assert_eq!(kind(&format!("/d/btrfs-layers/{id}/x")), Some("layer-record"));
        assert_eq!(kind(&format!("/d/zfs-containers/{id}")), Some("container-record"));
        assert_eq!(kind("/d/overlay-containers/volatile-containers.json"), Some("table"));
        assert_eq!(kind("/d/overlay-images/../x"), Some("other"));
        for none in ["/d/other-images/x", "/d/overlay-volumes", "/d/overlay", "/overlay-images"] {
            assert_eq!(kind(none), None, "{none}");
        }
        let blob = read("/d/io.containerd.content.v1.content/blobs/sha256/aa").unwrap();
        assert_eq!((blob.1, blob.2), ("blob", Of::Blob("sha256:aa".into())));
        let task = read("/d/io.containerd.runtime.v2.task/k8s.io/x/init.pid").unwrap();
        assert_eq!((task.1, task.2), ("task", Of::Container("k8s.io/x".into())));
        let rooted = "/d/io.containerd.runtime.v2.task/k8s.io/x/rootfs/etc/hosts";
        assert_eq!(kind(rooted), None, "that is a mount");
        assert_eq!(kind("/d/io.containerd.runtime.v2.task/a..b/x"), Some("other"));
        assert_eq!(kind("/d/io.containerd.snapshotter.v1.native/metadata.db"), Some("table"));
        assert_eq!(kind("/d/io.containerd.snapshotter.v1.native/x"), Some("other"));
        let pod = read(&format!("/d/io.containerd.grpc.v1.cri/sandboxes/{id}/hosts")).unwrap();
        assert_eq!(
            (pod.1, pod.2),
            ("container-record", Of::Container(format!("k8s.io/{id}").into()))
        );
    }

    #[test]
    fn the_outermost_store_comes_first() {
        let id = "0123456789abcdef".repeat(4);
        let inner = format!("/d/volumes/v/_data/image/vfs/imagedb/content/sha256/{id}");
        let path = format!("/a/overlay-images/x{inner}");
        let roots: Vec<String> =
            readings(BStr::new(&path)).iter().map(|(root, ..)| root.to_string()).collect();
        assert_eq!(roots, ["/a", "/a/overlay-images/x/d/volumes/v/_data"]);
    }
}
