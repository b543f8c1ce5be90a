//! fuse-overlayfs: as overlay2, mounted by a program (moby
//! daemon/graphdriver/fuse-overlayfs/fuseoverlayfs.go).

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct FuseOverlayfs;

impl Driver for FuseOverlayfs {
    fn name(&self) -> &'static str {
        "fuse-overlayfs"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["fuse-overlayfs"]
    }

    fn is_mounted_by_program(&self, _root: &Root) -> bool {
        true
    }

    fn stacks(&self) -> bool {
        true
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"fuse-overlayfs/"[..], name, b"/diff"].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        super::by_folder(rest, &["diff"], Some("merged"))
    }
}
