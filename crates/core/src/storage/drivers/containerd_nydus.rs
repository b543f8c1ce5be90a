//! nydus: `snapshots/<number>/{fs,work,mnt}`, with a database of its own (nydus-snapshotter
//! snapshot/snapshot.go).

use super::snapshotter::Snapshotter;

/// See the module.
pub(in crate::storage) const NYDUS: Snapshotter = Snapshotter {
    name: "nydus",
    dir: "io.containerd.snapshotter.v1.nydus",
    stores: &["io.containerd.snapshotter.v1.nydus/snapshots"],
    files: Some("fs"),
    stacks: true,
    hides: Some("a program serves the files of its layers"),
};
