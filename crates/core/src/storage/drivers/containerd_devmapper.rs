//! containerd's devmapper: a thin volume a snapshot, `POOL-snap-NUMBER`, and no directory at all (containerd
//! plugins/snapshots/devmapper/snapshotter.go). It is mounted at the root of the container's bundle. What is kept of the pool
//! is in `POOL.db` (pool_device.go), beside the table: other pools have snapshots of the same numbers.

use bstr::{BStr, BString};
use whose_kernel::root::Root;

use crate::model::Engine;
use crate::storage::table::Kind;
use crate::storage::volume::Volume;
use crate::storage::{Driver, Part, entry};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Devmapper;

const DIR: &str = "io.containerd.snapshotter.v1.devmapper";
/// The table of snapshots there.
const TABLE: &str = "metadata.db";
/// Entries there at most.
const MOST: usize = 1000;

impl Driver for Devmapper {
    fn name(&self) -> &'static str {
        "devmapper"
    }

    fn engines(&self) -> &'static [Engine] {
        &[Engine("containerd")]
    }

    fn table(&self) -> Kind {
        Kind::Snapshots { dir: DIR, snapshotter: "devmapper" }
    }

    fn stores(&self) -> &'static [&'static str] {
        &["io.containerd.snapshotter.v1.devmapper/snapshots"]
    }

    fn has_directories(&self) -> bool {
        false
    }

    fn volume(&self, root: &Root, name: &BStr) -> Option<Volume> {
        let pool = pool(root);
        let pool = pool.as_ref().map(|pool| pool.as_ref());
        Some(Volume::device_of_pool(pool, format!("-snap-{name}").as_bytes()))
    }

    fn stacks(&self) -> bool {
        false
    }

    fn files(&self, store: &str, name: &BStr) -> BString {
        entry(store, name)
    }

    fn part<'r>(&self, _store: &str, _rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        (Part::Whole, None)
    }
}

/// The pool's name; of several databases none tells it.
fn pool(root: &Root) -> Option<BString> {
    let entries = root.list(DIR.as_bytes(), MOST).ok()?;
    let stem = |name: &BString| Some(BString::from(name.strip_suffix(b".db")?));
    let mut pools =
        entries.iter().filter(|e| !e.is_dir && e.name != TABLE).filter_map(|e| stem(&e.name));
    pools.next().filter(|_| pools.next().is_none())
}
