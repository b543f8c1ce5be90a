//! zfs: a data set a layer, mounted at `zfs/graph/<name>` while it is in use (moby
//! daemon/graphdriver/zfs/zfs.go).

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::storage::volume::Volume;
use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Zfs;

impl Driver for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["zfs/graph"]
    }

    fn volume(&self, _root: &Root, name: &BStr) -> Option<Volume> {
        Some(Volume::dataset(name))
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"zfs/graph/"[..], name].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Files, Some(rest))
    }
}
