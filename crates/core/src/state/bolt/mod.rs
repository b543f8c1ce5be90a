//! bbolt databases, read beside the engine that has them open.
//!
//! File format version 2, as etcd-io/bbolt has it (internal/common/{page,meta,bucket}.go): pages of a
//! size that the meta page states, a B+ tree a bucket, buckets within buckets; numbers in the byte
//! order of the host that wrote it, little-endian on all that this program runs on.
//!
//! # Why no lock is needed
//!
//! The engine holds the file's lock as long as it runs, so a reader that waited for it would wait for
//! ever. What is read is true all the same, if the meta pages say the same after it as before:
//!
//! - Transaction T is made from tree T-1. It writes each changed page to a place that is free, then the
//!   meta page (tx.go: `Commit` calls `write`, then `writeMeta`), in turn into page 0 and page 1
//!   (meta.go: `txid % 2`). There is one writer at a time.
//! - Free to T are at most the pages that no tree needs any more, T-1 being the youngest: what T itself
//!   frees is only `pending` (freelist: `Free`), and is let go when the next one begins (db.go:
//!   `beginRWTx`, `ReleasePendingPages`), or not even then, if a reader inside the engine needs it. So T
//!   overwrites no page of tree T-1, nor does a transaction that fails or is rolled back; a page of
//!   tree T-2 it may. When the file is opened, the free pages are those that the youngest tree does not
//!   reach, which gives the same.
//! - So the first that may overwrite a page of tree N is transaction N+2, and it begins after meta page
//!   N+1 was written as a whole. All read through the page cache, in the order they call: if, after the
//!   last page was read, the meta page of N+1 is not there or not whole (its checksum tells), then
//!   nothing of tree N had been overwritten until then.
//!
//! It holds without fsync too (`NoSync`): the order of writes counts, not that of the disk. A meta page
//! torn by a write under way has a wrong checksum, and the other one counts, as it does for bbolt.
//! What looks damaged while the meta page has changed is read again, from the start; while it has not, it
//! is damaged. An engine that commits all the time can win a number of times, after which that is said.
//!
//! # What a hostile file gets
//!
//! Each page is checked before it is used (its own number, its kind, every place it points to, the order
//! of keys). What one view may read, hold and visit is limited, and so is depth: see [`limits`].

mod copy;
mod meta;
mod page;
mod tree;
mod view;

use bstr::{BStr, BString};
use whose_kernel::error::CHANGING;
use whose_kernel::held::Held;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use meta::Meta;
pub use tree::{Bucket, Item};
pub use view::Trouble;
use view::{Spent, View};

/// What is taken of a file, however large it says it is.
pub mod limits {
    /// Largest file, bytes.
    pub const FILE: usize = 512 << 20;
    /// Largest page with those it runs over into, bytes. containerd takes messages of 16 MiB.
    pub const PAGE: usize = 32 << 20;
    /// Bytes read for one view, all tries together, which is also the most that is held.
    pub const VIEW: usize = 128 << 20;
    /// Pages and elements visited in one view, all tries together.
    pub const VISITS: u64 = 1 << 21;
    /// Pages from a bucket's root down to a leaf. A branch has two children at least.
    pub const DEPTH: usize = 32;
    /// Times that a view is begun while the file changes.
    pub const TRIES: u32 = 32;
}

/// Where the bytes of a database come from.
pub trait Source {
    /// Reads from the place `at` until `into` is full or the file ends; how many bytes came.
    ///
    /// # Errors
    /// The kernel's.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError>;

    /// The path to show people.
    fn shown(&self) -> &BStr;
}

impl Source for Held {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        Held::read_at(self, at, into)
    }

    fn shown(&self) -> &BStr {
        Held::shown(self)
    }
}

/// A database in memory.
impl Source for Vec<u8> {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        let from = usize::try_from(at).map_or(self.len(), |at| at.min(self.len()));
        let rest = &self[from..];
        let got = rest.len().min(into.len());
        into[..got].copy_from_slice(&rest[..got]);
        Ok(got)
    }

    fn shown(&self) -> &BStr {
        BStr::new("memory")
    }
}

/// A file with a database in it; see the module.
#[derive(Debug)]
pub struct Database<S> {
    source: S,
}

impl Database<Held> {
    /// Opens a database beneath the root. Nothing is locked or written.
    ///
    /// # Errors
    /// The read's.
    pub fn open(root: &Root, rel: &[u8]) -> Result<Self, ReadError> {
        let database = Self::open_unrecorded(root, rel)?;
        if database.source.is_wanted()
            && let Some(content) = database.copy()
        {
            database.source.record(&content);
        }
        Ok(database)
    }

    /// As [`Database::open`], of one that no capture is to have: its values hold secrets in a form that
    /// `redact` does not know.
    ///
    /// # Errors
    /// The read's.
    pub fn open_unrecorded(root: &Root, rel: &[u8]) -> Result<Self, ReadError> {
        Ok(Self { source: root.hold(rel, limits::FILE)? })
    }
}

impl<S: Source> Database<S> {
    /// A database over these bytes.
    pub fn over(source: S) -> Self {
        Self { source }
    }

    /// Asks of the tree as it was at one moment. `ask` gets the root bucket; it is called anew, and what
    /// it gave is dropped, when the file has changed meanwhile.
    ///
    /// # Errors
    /// The read's; `malformed` for damage and what is beyond the limits, `timed-out` when it changed all
    /// the time, `unsupported` for another version of the format.
    pub fn view<T>(
        &self,
        mut ask: impl FnMut(&Bucket<'_>) -> Result<T, Trouble>,
    ) -> Result<T, ReadError> {
        let mut before = self.meta()?;
        let mut spent = Spent::default();
        for tries in 0..limits::TRIES {
            let view = View::new(&self.source, before.clone(), spent);
            let told = ask(&Bucket::top(&view));
            spent = view.spent();
            let after = self.meta()?;
            match told {
                // What was read before may have been what was too much.
                Err(Trouble::TooMuch) if tries > 0 => break,
                // Nothing but the kernel's own word outlives a change.
                Err(Trouble::Unread(error)) => return Err(error),
                told if after == before => return told.map_err(|trouble| trouble.of(self.shown())),
                _ => before = after,
            }
        }
        Err(ReadError::new(self.shown(), Class::TimedOut, CHANGING))
    }

    /// The path to show people.
    pub fn shown(&self) -> BString {
        self.source.shown().into()
    }

    fn meta(&self) -> Result<Meta, ReadError> {
        Meta::read(&self.source)
    }
}

#[cfg(test)]
mod tests;
