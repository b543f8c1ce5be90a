//! vfs of containers/storage: a full copy a layer (container-libs storage/drivers/vfs/driver.go).

use super::graph::Graph;

/// See the module.
pub(in crate::storage) const VFS: Graph =
    Graph { name: "vfs", stores: &["vfs/dir"], folders: None };
