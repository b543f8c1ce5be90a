//! btrfs of containers/storage: a subvolume a layer (container-libs storage/drivers/btrfs/btrfs.go).

use super::graph::Graph;

/// See the module.
pub(in crate::storage) const BTRFS: Graph =
    Graph { name: "btrfs", stores: &["btrfs/subvolumes"], folders: None };
