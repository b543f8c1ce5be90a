//! stargz, as part of containerd: as overlayfs; the files of a lazy layer are a FUSE mount
//! (stargz-snapshotter snapshot/snapshot.go; k3s has it so).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const STARGZ: Snapshotter = Snapshotter {
    name: "stargz",
    dir: "io.containerd.snapshotter.v1.stargz/snapshotter",
    stores: &["io.containerd.snapshotter.v1.stargz/snapshotter/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: Some("a program serves the files of its layers"),
};
