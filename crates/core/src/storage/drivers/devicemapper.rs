//! devicemapper, which moby no longer has: a thin volume a layer, `docker-MAJ:MIN-INO-NAME` by the device and inode of
//! its directory, mounted while it is in use (moby 20.10 daemon/graphdriver/devmapper/deviceset.go).

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::Root;

use crate::storage::volume::Volume;
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

    fn volume(&self, root: &Root, name: &BStr) -> Option<Volume> {
        let look = root.look(b"devicemapper").ok();
        let exact = look.map(|l| format!("docker-{}:{}-{}-{name}", l.device.0, l.device.1, l.ino));
        let volume = Volume::device(b"docker-", &[b"-", name.as_bytes()].concat(), exact);
        Some(volume.with_files_in("rootfs"))
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
