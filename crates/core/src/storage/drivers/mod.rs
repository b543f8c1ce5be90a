//! The drivers: one file each.

pub(super) mod aufs;
pub(super) mod btrfs;
pub(super) mod devicemapper;
pub(super) mod fuse_overlayfs;
pub(super) mod overlay;
pub(super) mod overlay2;
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
