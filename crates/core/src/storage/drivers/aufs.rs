//! aufs, which moby no longer has: `aufs/{diff,mnt,layers}/<name>` (moby 20.10 daemon/graphdriver/aufs/aufs.go).

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::storage::binary::stored::Kind;
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

    fn kind(&self, _root: &Root) -> Kind {
        Kind::Aufs
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
