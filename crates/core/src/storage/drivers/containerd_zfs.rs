//! containerd's zfs: a dataset a snapshot, named by its number, below the one that the snapshotter's directory is, and no
//! directory at all (containerd/zfs zfs.go). It is mounted at the root of the container's bundle.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::volume::Volume;
use crate::storage::{Driver, Part, entry};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Zfs;

const DIR: &str = "io.containerd.snapshotter.v1.zfs";

impl Driver for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        Kind::Snapshots { dir: DIR, snapshotter: "zfs" }
    }

    fn stores(&self) -> &'static [&'static str] {
        &["io.containerd.snapshotter.v1.zfs/snapshots"]
    }

    fn has_directories(&self) -> bool {
        false
    }

    fn volume(&self, _root: &Root, name: &BStr) -> Option<Volume> {
        Some(Volume::dataset(name).below_the_one_at(DIR))
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        entry(store, name)
    }

    fn part<'r>(&self, _store: &str, _rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Whole, None)
    }
}
