//! containerd's zfs: a dataset a snapshot, named by its number, below the one that the snapshotter's directory is, and no
//! directory at all (containerd/zfs zfs.go). It is mounted at the root of the container's bundle.

use super::snapshotter::Volumes;
use crate::storage::volume::Volume;

const DIR: &str = "io.containerd.snapshotter.v1.zfs";

/// See the module.
pub(in crate::storage) const ZFS: Volumes = Volumes {
    name: "zfs",
    dir: DIR,
    stores: &["io.containerd.snapshotter.v1.zfs/snapshots"],
    volume: |_, name| Volume::dataset(name).below_the_one_at(DIR),
};
