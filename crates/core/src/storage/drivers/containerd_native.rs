//! containerd's native: a full copy a snapshot, `snapshots/<number>` (containerd
//! plugins/snapshots/native/native.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const NATIVE: Snapshotter = Snapshotter {
    name: "native",
    dir: "io.containerd.snapshotter.v1.native",
    stores: &["io.containerd.snapshotter.v1.native/snapshots"],
    files: None,
    stacks: false,
    hides: None,
};
