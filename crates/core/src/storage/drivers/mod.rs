//! The drivers: one file each.

pub(super) mod aufs;
pub(super) mod btrfs;
pub(super) mod containerd_blockfile;
pub(super) mod containerd_btrfs;
pub(super) mod containerd_devmapper;
pub(super) mod containerd_erofs;
pub(super) mod containerd_fuse_overlayfs;
pub(super) mod containerd_native;
pub(super) mod containerd_nydus;
pub(super) mod containerd_overlayfs;
pub(super) mod containerd_stargz;
pub(super) mod containerd_stargz_service;
pub(super) mod containerd_zfs;
pub(super) mod devicemapper;
pub(super) mod fuse_overlayfs;
mod graph;
pub(super) mod graph_btrfs;
pub(super) mod graph_overlay;
pub(super) mod graph_vfs;
pub(super) mod graph_zfs;
pub(super) mod overlay;
pub(super) mod overlay2;
mod snapshotter;
pub(super) mod vfs;
pub(super) mod zfs;

use bstr::BStr;

use super::{Part, cut};

/// The part by the name of a layer's sub-directory: files, merged view, or the driver's own.
fn by_folder<'r>(rest: &'r BStr, files: &[&str], merged: Option<&str>) -> (Part, Option<&'r BStr>) {
    let (folder, inside) = cut(rest);
    if folder.is_empty() {
        return (Part::Whole, None);
    }
    if files.iter().any(|f| f.as_bytes() == folder) {
        return (Part::Files, Some(inside));
    }
    match merged {
        Some(name) if name.as_bytes() == folder => (Part::Merged, Some(inside)),
        _ => (Part::Own, None),
    }
}
