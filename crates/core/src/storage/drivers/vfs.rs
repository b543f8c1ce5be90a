//! vfs: a full copy a layer (moby daemon/graphdriver/vfs/driver.go).

use bstr::{BStr, BString};

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Vfs;

impl Driver for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["vfs/dir"]
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"vfs/dir/"[..], name].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Files, Some(rest))
    }
}
