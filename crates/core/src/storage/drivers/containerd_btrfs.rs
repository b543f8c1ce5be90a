//! containerd's btrfs: a subvolume a snapshot, in a directory by its kind (containerd
//! plugins/snapshots/btrfs/btrfs.go). Numbers are unique over all three.

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const BTRFS: Snapshotter = Snapshotter {
    name: "btrfs",
    dir: "io.containerd.snapshotter.v1.btrfs",
    stores: &[
        "io.containerd.snapshotter.v1.btrfs/active",
        "io.containerd.snapshotter.v1.btrfs/snapshots",
        "io.containerd.snapshotter.v1.btrfs/view",
    ],
    files: None,
    stacks: false,
    hides: None,
};
