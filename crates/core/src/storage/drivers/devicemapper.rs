//! devicemapper, which moby no longer has: a thin volume a layer, mounted while it is in use.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct DeviceMapper;

impl Driver for DeviceMapper {
    fn name(&self) -> &'static str {
        "devicemapper"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["devicemapper/mnt", "devicemapper/metadata"]
    }

    fn hides(&self, _root: &Root) -> Option<&'static str> {
        Some("its volume is mounted only while it runs")
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"devicemapper/mnt/"[..], name, b"/rootfs"].concat().into()
    }

    fn part<'r>(&self, store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        if store == "devicemapper/mnt" {
            super::by_folder(rest, &["rootfs"], None)
        } else {
            (Part::Own, None)
        }
    }
}
