//! containerd's overlayfs: `snapshots/<number>/{fs,work}` (containerd
//! plugins/snapshots/overlay/overlay.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const OVERLAYFS: Snapshotter = Snapshotter {
    name: "overlayfs",
    dir: "io.containerd.snapshotter.v1.overlayfs",
    stores: &["io.containerd.snapshotter.v1.overlayfs/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: None,
};
