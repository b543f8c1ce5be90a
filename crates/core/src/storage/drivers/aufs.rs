//! aufs, which moby no longer has: `aufs/{diff,mnt,layers}/<name>`.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Aufs;

impl Driver for Aufs {
    fn name(&self) -> &'static str {
        "aufs"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["aufs/diff", "aufs/mnt", "aufs/layers"]
    }

    fn hides(&self, _root: &Root) -> Option<&'static str> {
        Some("the marks of aufs are not read")
    }

    fn stacks(&self) -> bool {
        true
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"aufs/diff/"[..], name].concat().into()
    }

    fn part<'r>(&self, store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        match store {
            "aufs/diff" => (Part::Files, Some(rest)),
            "aufs/mnt" => (Part::Merged, Some(rest)),
            _ => (Part::Own, None),
        }
    }
}
