//! fuse-overlayfs for containerd: as overlayfs, mounted by a program (containerd/fuse-overlayfs-snapshotter
//! fuseoverlayfs.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const FUSE_OVERLAYFS: Snapshotter = Snapshotter {
    name: "fuse-overlayfs",
    dir: "io.containerd.snapshotter.v1.fuse-overlayfs",
    stores: &["io.containerd.snapshotter.v1.fuse-overlayfs/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: None,
};
