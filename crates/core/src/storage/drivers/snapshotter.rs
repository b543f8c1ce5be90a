//! What containerd's snapshotters have in common: `<dir>/metadata.db`, and beside it an entry a
//! snapshot, which has a number for a name.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::volume::Volume;
use crate::storage::{Driver, Part, entry};

/// A snapshotter whose snapshots are directories.
#[derive(Debug)]
pub(in crate::storage) struct Snapshotter {
    /// Its name in containerd's configuration.
    pub(super) name: &'static str,
    /// Its directory below the data root.
    pub(super) dir: &'static str,
    /// Where its snapshots are.
    pub(super) stores: &'static [&'static str],
    /// The sub-directory of a snapshot's files; without, they are in the snapshot's directory.
    pub(super) files: Option<&'static str>,
    /// See [`Driver::stacks`].
    pub(super) stacks: bool,
    /// See [`Driver::hides`].
    pub(super) hides: Option<&'static str>,
}

impl Driver for Snapshotter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        Kind::Snapshots { dir: self.dir, snapshotter: self.name }
    }

    fn stores(&self) -> &'static [&'static str] {
        self.stores
    }

    fn layers(&self) -> &'static [&'static str] {
        self.stores
    }

    fn hides(&self, _root: &Root) -> Option<&'static str> {
        self.hides
    }

    fn is_mounted_by_program(&self, _root: &Root) -> bool {
        self.name == "fuse-overlayfs"
    }

    fn stacks(&self) -> bool {
        self.stacks
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        let mut files = entry(store, name);
        if let Some(below) = self.files {
            files.extend_from_slice(b"/");
            files.extend_from_slice(below.as_bytes());
        }
        files
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        match self.files {
            Some(files) => super::by_folder(rest, &[files], None),
            None => (Part::Files, Some(rest)),
        }
    }
}

/// A snapshotter whose snapshots are file systems of their own, and no directories.
#[derive(Debug)]
pub(in crate::storage) struct Volumes {
    /// Its name in containerd's configuration.
    pub(super) name: &'static str,
    /// Its directory below the data root.
    pub(super) dir: &'static str,
    /// Where its snapshots would be.
    pub(super) stores: &'static [&'static str],
    /// The file system of a snapshot; see [`Driver::volume`].
    pub(super) volume: fn(&Root, &BStr) -> Volume,
}

impl Driver for Volumes {
    fn name(&self) -> &'static str {
        self.name
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        Kind::Snapshots { dir: self.dir, snapshotter: self.name }
    }

    fn stores(&self) -> &'static [&'static str] {
        self.stores
    }

    fn has_directories(&self) -> bool {
        false
    }

    fn volume(&self, root: &Root, name: &BStr) -> Option<Volume> {
        Some((self.volume)(root, name))
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        entry(store, name)
    }

    fn part<'r>(&self, _store: &str, _rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Whole, None)
    }
}
