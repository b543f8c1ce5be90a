//! zfs of containers/storage: a dataset a layer, mounted below `zfs/graph` (container-libs
//! storage/drivers/zfs/zfs.go).

use super::graph::Graph;

/// See the module.
pub(in crate::storage) const ZFS: Graph =
    Graph { name: "zfs", stores: &["zfs/graph"], folders: None };
