//! containerd's erofs: `snapshots/<number>/{fs,work,layer.erofs}` (containerd
//! plugins/snapshots/erofs/erofs_linux.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const EROFS: Snapshotter = Snapshotter {
    name: "erofs",
    dir: "io.containerd.snapshotter.v1.erofs",
    stores: &["io.containerd.snapshotter.v1.erofs/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: Some("its layers are images, which are mounted only while it runs"),
};
