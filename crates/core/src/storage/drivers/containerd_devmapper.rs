//! containerd's devmapper: a thin volume a snapshot, `POOL-snap-NUMBER`, and no directory at all (containerd
//! plugins/snapshots/devmapper/snapshotter.go). It is mounted at the root of the container's bundle.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::volume::Volume;
use crate::storage::{Driver, Part, entry};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Devmapper;

const DIR: &str = "io.containerd.snapshotter.v1.devmapper";

impl Driver for Devmapper {
    fn name(&self) -> &'static str {
        "devmapper"
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        Kind::Snapshots { dir: DIR, snapshotter: "devmapper" }
    }

    fn stores(&self) -> &'static [&'static str] {
        &["io.containerd.snapshotter.v1.devmapper/snapshots"]
    }

    fn has_directories(&self) -> bool {
        false
    }

    fn volume(&self, _root: &Root, name: &BStr) -> Option<Volume> {
        Some(Volume::device(b"", format!("-snap-{name}").as_bytes(), None))
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
