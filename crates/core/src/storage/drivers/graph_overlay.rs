//! overlay of containers/storage: `overlay/<layer>/{diff,link,lower,work,merged}`, and `overlay/l/<short>`
//! (container-libs storage/drivers/overlay/overlay.go).

use super::graph::Graph;

/// See the module.
pub(in crate::storage) const OVERLAY: Graph =
    Graph { name: "overlay", stores: &["overlay"], folders: Some(("diff", "merged")) };
