//! The inodes with several names that were met: each counts once, for the first of the trees that have it.
//!
//! Whoever may write may make as many as the disk has. So little is kept of each, 17 bytes and what the table
//! has to spare; those are forgotten of which all names were met; and there is an end to it ([`MOST`]), past
//! which each name counts, which is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Id, Tree};

/// Inodes that are kept at once: 320 MiB at most.
pub(super) const MOST: usize = 8 << 20;
/// Tables of a device, so that threads seldom wait and none has to grow at a stroke.
const TABLES: usize = 64;

/// One that has names which were not met yet.
struct Met {
    /// The first of the trees that have it, so far.
    tree: u32,
    /// Names that are left.
    left: u32,
}

/// What a name is to its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The first that was met.
    First,
    /// Another one, and the inode counts already.
    Other,
    /// Another one, in a tree before this one, for which it has counted so far.
    Before(usize),
    /// Whether it is another one is not known.
    Untold,
}

pub(super) struct Linked {
    devices: HashMap<u64, usize>,
    tables: Vec<Mutex<HashMap<u64, Met>>>,
    kept: AtomicUsize,
    most: usize,
}

impl Linked {
    pub(super) fn new(trees: &[Tree<'_>], most: usize) -> Self {
        let mut devices = HashMap::new();
        for tree in trees {
            let next = devices.len();
            devices.entry(tree.id.0).or_insert(next);
        }
        let tables = (0..devices.len() * TABLES).map(|_| Mutex::default()).collect();
        Self { devices, tables, kept: AtomicUsize::new(0), most }
    }

    /// A name of an inode with this many was met in a tree.
    pub(super) fn meet(&self, (device, ino): Id, names: u32, tree: usize) -> Name {
        let Some(of) = self.devices.get(&device) else { return Name::Untold };
        let Ok(number) = u32::try_from(tree) else { return Name::Untold };
        // Numbers of files that are made together follow one another.
        let table = of * TABLES + usize::try_from(ino % TABLES as u64).unwrap_or(0);
        let mut met = self.tables[table].lock().unwrap_or_else(PoisonError::into_inner);
        match met.entry(ino) {
            Entry::Occupied(mut known) => {
                let one = known.get_mut();
                let was = one.tree;
                one.tree = was.min(number);
                one.left -= 1;
                if one.left == 0 {
                    known.remove();
                    self.kept.fetch_sub(1, Ordering::Relaxed);
                }
                if number < was { Name::Before(was as usize) } else { Name::Other }
            }
            Entry::Vacant(_) if self.kept.load(Ordering::Relaxed) >= self.most => Name::Untold,
            Entry::Vacant(place) => {
                place.insert(Met { tree: number, left: names - 1 });
                self.kept.fetch_add(1, Ordering::Relaxed);
                Name::First
            }
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}
