//! Storage drivers: where an engine keeps the files of its layers, and whose those are.
//!
//! A driver is one file in `drivers/` and one line in [`DRIVERS`]. It knows names and no content:
//! what a directory below an engine's data root is. Whose a layer is says the engine's own join
//! table, through [`table`].

pub mod binary;
mod containerd_snapshots;
mod containers_storage;
mod docker;
pub mod docker_layerdb;
mod drivers;
pub mod images;
pub mod table;
pub mod volume;

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use binary::stored::Kind;
use volume::Volume;

/// Every driver.
pub const DRIVERS: &[&dyn Driver] = &[
    &drivers::overlay2::Overlay2,
    &drivers::fuse_overlayfs::FuseOverlayfs,
    &drivers::btrfs::Btrfs,
    &drivers::zfs::Zfs,
    &drivers::vfs::Vfs,
    &drivers::overlay::Overlay,
    &drivers::aufs::Aufs,
    &drivers::devicemapper::DeviceMapper,
    &drivers::containerd_overlayfs::OVERLAYFS,
    &drivers::containerd_native::NATIVE,
    &drivers::containerd_btrfs::BTRFS,
    &drivers::containerd_fuse_overlayfs::FUSE_OVERLAYFS,
    &drivers::containerd_erofs::EROFS,
    &drivers::containerd_blockfile::Blockfile,
    &drivers::containerd_devmapper::DEVMAPPER,
    &drivers::containerd_zfs::ZFS,
    &drivers::containerd_nydus::NYDUS,
    &drivers::containerd_stargz::STARGZ,
    &drivers::containerd_stargz_service::STARGZ_SERVICE,
    &drivers::graph_overlay::OVERLAY,
    &drivers::graph_vfs::VFS,
    &drivers::graph_btrfs::BTRFS,
    &drivers::graph_zfs::ZFS,
];

/// What a path in a layer's directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The layer's directory itself.
    Whole,
    /// The files of the layer.
    Files,
    /// The merged view of a container.
    Merged,
    /// What the driver keeps for itself: `work`, `link`, `lower`.
    Own,
}

/// A path, as a driver reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory of the driver, below the data root, that the layer lies in.
    pub store: &'static str,
    /// The layer's name.
    pub name: BString,
    /// What part of the layer it is.
    pub part: Part,
    /// For files: the path from the root of them, with a leading slash.
    pub inside: Option<BString>,
}

/// A storage driver; see the module.
pub trait Driver: Sync {
    /// The engine's name for it.
    fn name(&self) -> &'static str;

    /// The engines that have it. Of several one store may serve all; the first whose it is, is told.
    fn engines(&self) -> &'static [Engine] {
        &[Engine("docker")]
    }

    /// What has the engine's word on its layers.
    fn table(&self) -> table::Kind {
        table::Kind::Layerdb
    }

    /// The directories below the data root that hold one entry a layer.
    fn stores(&self) -> &'static [&'static str];

    /// Those of them that layers are told apart by: each has an entry in one.
    fn layers(&self) -> &'static [&'static str] {
        self.stores().get(..1).unwrap_or_default()
    }

    /// Whether layers are put on top of one another when a container starts. Others hold in each
    /// directory all files of the layers below.
    fn stacks(&self) -> bool;

    /// Why what a container of this data root shows can't be told from its layers' directories while it does
    /// not run; `None` where it can.
    fn hides(&self, _root: &Root) -> Option<&'static str> {
        None
    }

    /// Whether a program, fuse-overlayfs, and not the kernel puts the layers of this data root on top of one
    /// another: it has marks of its own besides the kernel's.
    fn is_mounted_by_program(&self, _root: &Root) -> bool {
        false
    }

    /// How the layers of a container of this data root are put together.
    fn kind(&self, root: &Root) -> Kind {
        match self.stacks() {
            false => Kind::Tree,
            true if self.is_mounted_by_program(root) => Kind::Fuse,
            true => Kind::Overlay,
        }
    }

    /// Whether each layer has an entry in one of the [`Driver::stores`].
    fn has_directories(&self) -> bool {
        true
    }

    /// The file system that a layer is by itself, where that is so; it is mounted only while something uses it.
    fn volume(&self, _root: &Root, _name: &BStr) -> Option<Volume> {
        None
    }

    /// The directory of a layer's files, below the data root; `store` is one of [`Driver::layers`].
    fn files(&self, store: &str, name: &BStr) -> BString;

    /// What `rest`, below a layer's entry in `store` and without a leading slash, is; with the
    /// path from the root of the files where it is one.
    fn part<'r>(&self, store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>);

    /// What a path below the data root is, if it is in a layer.
    fn place(&self, rel: &BStr) -> Option<Place> {
        for store in self.stores() {
            let Some(below) = rel.strip_prefix(store.as_bytes()) else { continue };
            let Some(below) = below.strip_prefix(b"/") else { continue };
            let (name, rest) = cut(below);
            if is_layer(name) {
                let (part, inside) = self.part(store, rest);
                let inside = inside.map(|i| [&b"/"[..], i].concat().into());
                return Some(Place { store, name: name.into(), part, inside });
            }
        }
        None
    }
}

/// The first component of a path, and the rest.
fn cut(path: &[u8]) -> (&[u8], &BStr) {
    match path.iter().position(|b| *b == b'/') {
        Some(slash) => (&path[..slash], BStr::new(&path[slash + 1..])),
        None => (path, BStr::new(b"")),
    }
}

/// What lies beside the layers and is none: overlay2's short names, and what quotas need.
fn is_layer(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b".." | b"l" | b"backingFsBlockDev" | b"quotas")
}

/// Whether a name says that the layer is being removed, as moby renames some before it deletes
/// them.
#[must_use]
pub fn is_removing(name: &[u8]) -> bool {
    name.ends_with(b"-removing")
}

/// A data root, a driver and what the path is to it: every reading of a path, the shortest data
/// root first. Text alone; nothing is looked at.
#[must_use]
pub fn readings(path: &BStr) -> Vec<(&BStr, &'static dyn Driver, Place)> {
    let mut found = Vec::new();
    for slash in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at) {
        let (root, rel) = (BStr::new(&path[..slash]), BStr::new(&path[slash + 1..]));
        let of_root = DRIVERS.iter().filter_map(|d| Some((root, *d, d.place(rel)?)));
        found.extend(of_root.filter(|(root, _, _)| !root.is_empty()));
    }
    found
}

/// A layer's directory, below the data root.
#[must_use]
pub fn entry(store: &str, name: &BStr) -> BString {
    [store.as_bytes(), b"/", name].concat().into()
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::root::{Links, Root};

    use super::{DRIVERS, Part, readings};

    fn read(path: &str) -> Option<(String, &'static str, String, Part, Option<String>)> {
        let all = readings(BStr::new(path));
        let (root, driver, place) = all.first()?;
        let inside = place.inside.as_ref().map(ToString::to_string);
        Some((root.to_string(), driver.name(), place.name.to_string(), place.part, inside))
    }

    #[test]
    fn every_drivers_paths() {
        let of = |name: &'static str, part, inside: Option<&str>| {
            Some(("/d".to_owned(), name, "x".to_owned(), part, inside.map(str::to_owned)))
        };
        let files = |name| of(name, Part::Files, Some("/bin/a"));
        assert_eq!(read("/d/overlay2/x/diff/bin/a"), files("overlay2"));
        assert_eq!(read("/d/fuse-overlayfs/x/diff/bin/a"), files("fuse-overlayfs"));
        assert_eq!(read("/d/btrfs/subvolumes/x/bin/a"), files("btrfs"));
        assert_eq!(read("/d/zfs/graph/x/bin/a"), files("zfs"));
        assert_eq!(read("/d/vfs/dir/x/bin/a"), files("vfs"));
        assert_eq!(read("/d/overlay/x/root/bin/a"), files("overlay"));
        assert_eq!(read("/d/overlay/x/upper/bin/a"), files("overlay"));
        assert_eq!(read("/d/aufs/diff/x/bin/a"), files("aufs"));
        assert_eq!(read("/d/devicemapper/mnt/x/rootfs/bin/a"), files("devicemapper"));
        let merged = |name| of(name, Part::Merged, Some("/bin/a"));
        assert_eq!(read("/d/overlay2/x/merged/bin/a"), merged("overlay2"));
        assert_eq!(read("/d/aufs/mnt/x/bin/a"), merged("aufs"));
        assert_eq!(read("/d/overlay2/x"), of("overlay2", Part::Whole, None));
        assert_eq!(read("/d/overlay2/x/diff"), of("overlay2", Part::Files, Some("/")));
        assert_eq!(read("/d/overlay2/x/work/work"), of("overlay2", Part::Own, None));
        assert_eq!(read("/d/aufs/layers/x"), of("aufs", Part::Own, None));
    }

    #[test]
    fn every_snapshotters_paths() {
        let base = "/d/io.containerd.snapshotter.v1.";
        let of = |name: &'static str, part, inside: Option<&str>| {
            Some(("/d".to_owned(), name, "12".to_owned(), part, inside.map(str::to_owned)))
        };
        for name in ["overlayfs", "fuse-overlayfs", "erofs", "nydus"] {
            let read = |rest: &str| read(&format!("{base}{name}/snapshots/12{rest}"));
            assert_eq!(read("/fs/bin/a"), of(name, Part::Files, Some("/bin/a")));
            assert_eq!(read("/fs"), of(name, Part::Files, Some("/")));
            assert_eq!(read("/work"), of(name, Part::Own, None));
            assert_eq!(read(""), of(name, Part::Whole, None));
        }
        let native = format!("{base}native/snapshots/12/bin/a");
        assert_eq!(read(&native), of("native", Part::Files, Some("/bin/a")));
        for dir in ["active", "view", "snapshots"] {
            let path = format!("{base}btrfs/{dir}/12/bin/a");
            assert_eq!(read(&path), of("btrfs", Part::Files, Some("/bin/a")));
        }
        let file = format!("{base}blockfile/snapshots/12");
        assert_eq!(read(&file), of("blockfile", Part::Whole, None));
        let lazy = format!("{base}stargz/snapshotter/snapshots/12/fs/a");
        assert_eq!(read(&lazy), of("stargz", Part::Files, Some("/a")));
        let lazy = "/d/snapshotter/snapshots/12/fs/a";
        assert_eq!(read(lazy), of("stargz", Part::Files, Some("/a")));
        for none in ["overlayfs", "overlayfs/snapshots", "overlayfs/metadata.db", "btrfs/x/12"] {
            assert_eq!(read(&format!("{base}{none}")), None, "{none}");
        }
    }

    #[test]
    fn one_path_may_be_of_two_engines_stores() {
        let engines = |path: &str| -> Vec<&str> {
            readings(BStr::new(path)).iter().map(|(_, driver, _)| driver.engines()[0].0).collect()
        };
        assert_eq!(engines("/d/overlay/x/diff/a"), ["docker", "podman"]);
        for path in ["/d/vfs/dir/x/a", "/d/btrfs/subvolumes/x/a", "/d/zfs/graph/x/a"] {
            assert_eq!(engines(path), ["docker", "podman"], "{path}");
        }
        assert_eq!(engines("/d/overlay2/x/diff/a"), ["docker"]);
    }

    #[test]
    fn what_is_beside_the_layers_is_none() {
        for path in [
            "/d/overlay2",
            "/d/overlay2/",
            "/d/overlay2/l/ABC",
            "/d/overlay2/backingFsBlockDev",
            "/d/btrfs/x",
            "/overlay2/x/diff",
            "/etc/passwd",
            "/",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn what_keeps_files_elsewhere_or_marks_them_otherwise_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let dir = BString::from(temp.path().to_str().unwrap());
        let root = Root::open(dir.as_ref(), Links::Never).unwrap();
        let hiding = |root: &Root| -> Vec<(&str, &str)> {
            let all = DRIVERS.iter().filter(|d| d.hides(root).is_some());
            all.map(|d| (d.engines()[0].0, d.name())).collect()
        };
        let (docker, containerd, podman) = ("docker", "containerd", "podman");
        let all = vec![
            (containerd, "erofs"),
            (containerd, "blockfile"),
            (containerd, "nydus"),
            (containerd, "stargz"),
            (containerd, "stargz"),
        ];
        assert_eq!(hiding(&root), all);
        let volumes = DRIVERS.iter().filter(|d| d.volume(&root, BStr::new("x")).is_some());
        let volumes: Vec<_> = volumes.map(|d| (d.engines()[0].0, d.name())).collect();
        let all = [
            (docker, "zfs"),
            (docker, "devicemapper"),
            (containerd, "devmapper"),
            (containerd, "zfs"),
            (podman, "zfs"),
        ];
        assert_eq!(volumes, all);
        let served = |root: &Root| -> Vec<(&str, &str)> {
            let all = DRIVERS.iter().filter(|d| d.is_mounted_by_program(root));
            all.map(|d| (d.engines()[0].0, d.name())).collect()
        };
        let mut all = vec![(docker, "fuse-overlayfs"), (containerd, "fuse-overlayfs")];
        assert_eq!(served(&root), all);
        let flag = temp.path().join("overlay/.has-mount-program");
        std::fs::create_dir(flag.parent().unwrap()).unwrap();
        std::fs::write(&flag, "false").unwrap();
        assert_eq!(served(&root), all);
        all.push((podman, "overlay"));
        std::fs::write(&flag, "true").unwrap();
        assert_eq!(served(&root), all);
    }

    #[test]
    fn the_outermost_root_comes_first() {
        let inner = "/d/overlay2/x/diff/var/lib/docker/overlay2/y/diff/z";
        assert_eq!(read(inner).unwrap().2, "x");
        assert_eq!(readings(BStr::new(inner)).len(), 2);
    }

    #[test]
    fn a_layers_files_are_where_its_paths_say() {
        for driver in DRIVERS {
            for store in driver.layers() {
                let files = driver.files(store, BStr::new("x"));
                let place = driver.place(files.as_ref()).unwrap();
                assert!(matches!(place.part, Part::Files | Part::Whole), "{}", driver.name());
                assert_eq!(place.name, "x");
            }
        }
    }
}
