//! containerd's blockfile: a file with a file system in it a snapshot, `snapshots/<number>` (containerd
//! plugins/snapshots/blockfile/blockfile.go).

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Blockfile;

const STORE: &str = "io.containerd.snapshotter.v1.blockfile/snapshots";

impl Driver for Blockfile {
    fn name(&self) -> &'static str {
        "blockfile"
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        let dir = "io.containerd.snapshotter.v1.blockfile";
        Kind::Snapshots { dir, snapshotter: "blockfile" }
    }

    fn stores(&self) -> &'static [&'static str] {
        &[STORE]
    }

    fn hides(&self, _root: &Root) -> Option<&'static str> {
        Some("its file system is in a file, which is mounted only while it runs")
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        crate::storage::entry(store, name)
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (if rest.is_empty() { Part::Whole } else { Part::Own }, None)
    }
}
