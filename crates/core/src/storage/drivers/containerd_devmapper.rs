//! containerd's devmapper: a thin volume a snapshot, `POOL-snap-NUMBER`, and no directory at all (containerd
//! plugins/snapshots/devmapper/snapshotter.go). It is mounted at the root of the container's bundle. What is kept of the pool
//! is in `POOL.db` (pool_device.go), beside the table: other pools have snapshots of the same numbers.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use super::snapshotter::Volumes;
use crate::storage::volume::Volume;

const DIR: &str = "io.containerd.snapshotter.v1.devmapper";
/// The table of snapshots there.
const TABLE: &str = "metadata.db";
/// Entries there at most.
const MOST: usize = 1000;

/// See the module.
pub(in crate::storage) const DEVMAPPER: Volumes = Volumes {
    name: "devmapper",
    dir: DIR,
    stores: &["io.containerd.snapshotter.v1.devmapper/snapshots"],
    volume,
};

fn volume(root: &Root, name: &BStr) -> Volume {
    let pool = pool(root);
    let pool = pool.as_ref().map(|pool| pool.as_ref());
    Volume::device_of_pool(pool, format!("-snap-{name}").as_bytes())
}

/// The pool's name; of several databases none tells it.
fn pool(root: &Root) -> Option<BString> {
    let entries = root.list(DIR.as_bytes(), MOST).ok()?;
    let stem = |name: &BString| Some(BString::from(name.strip_suffix(b".db")?));
    let mut pools =
        entries.iter().filter(|e| !e.is_dir && e.name != TABLE).filter_map(|e| stem(&e.name));
    pools.next().filter(|_| pools.next().is_none())
}
