//! What the drivers of containers/storage have in common: an entry a layer, which has the layer's id
//! for a name, and tables beside it.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::volume::Volume;
use crate::storage::{Driver, Part, entry};

/// Whether a program does what the kernel's overlay would.
const PROGRAM: &[u8] = b"overlay/.has-mount-program";

/// A driver of containers/storage.
#[derive(Debug)]
pub(in crate::storage) struct Graph {
    /// Its name.
    pub(super) name: &'static str,
    /// Where its layers are.
    pub(super) stores: &'static [&'static str],
    /// The sub-directory of a layer's files, and that of the merged view; without, the files are in
    /// the layer's directory.
    pub(super) folders: Option<(&'static str, &'static str)>,
}

impl Driver for Graph {
    fn name(&self) -> &'static str {
        self.name
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("podman"), Engine("cri-o"), Engine("buildah")]
    }

    fn table(&self) -> Kind {
        Kind::ContainersStorage
    }

    fn stores(&self) -> &'static [&'static str] {
        self.stores
    }

    fn volume(&self, _root: &Root, name: &BStr) -> Option<Volume> {
        (self.name == "zfs").then(|| Volume::dataset(name))
    }

    fn is_mounted_by_program(&self, root: &Root) -> bool {
        // storage/drivers/overlay/overlay.go
        let flag = || root.read(PROGRAM, 16).is_ok_and(|flag| flag.trim_ascii() == b"true");
        self.name == "overlay" && flag()
    }

    fn stacks(&self) -> bool {
        self.folders.is_some()
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        let mut files = entry(store, name);
        if let Some((below, _)) = self.folders {
            files.extend_from_slice(b"/");
            files.extend_from_slice(below.as_bytes());
        }
        files
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        match self.folders {
            Some((files, merged)) => super::by_folder(rest, &[files], Some(merged)),
            None => (Part::Files, Some(rest)),
        }
    }
}
