//! btrfs: a subvolume a layer, a snapshot of the one below (moby daemon/graphdriver/btrfs/btrfs.go).

use bstr::{BStr, BString};

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Btrfs;

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["btrfs/subvolumes"]
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"btrfs/subvolumes/"[..], name].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Files, Some(rest))
    }
}
