//! SQLite databases, read beside the engine that writes them: tables with a rowid, and nothing else.
//!
//! File format 3 (sqlite.org/fileformat2.html): pages of one size, a B+ tree a table, whose leaves hold
//! records; what is too long for a page goes on in a chain of others. Numbers are big-endian. No
//! statement is run: the text that made a table is only asked for the names of its columns, so that
//! views, triggers and virtual tables do nothing.
//!
//! # Why no lock is needed
//!
//! A lock would have the engine's commands wait, and could not be taken without writing to the file's
//! lock bytes. What is read is true all the same, by what is asked after it and then read again:
//!
//! 1. the pages that the answer needs are read, the header among them;
//! 2. at a moment T there is neither a rollback journal nor a write-ahead log beside the file;
//! 3. the same pages are read once more, and all are as they were, and so is the file's size.
//!
//! - In rollback mode the journal is there, its header written, from before the first page of the file
//!   is overwritten until after the last one was; to delete it, to cut it to nothing, or to overwrite
//!   its header with zeros is what commits, or ends the rollback (sqlite.org/atomiccommit.html,
//!   sections 3 and 7.6). So without one, at T, the file is what some transaction committed.
//! - A write-ahead log holds what was committed and is not in the file yet, and only while it is there
//!   pages are copied from it into the file (sqlite.org/walformat.html). Without one, or with an empty
//!   one, the file is the whole database.
//! - A page that was the same before T and after it was so at T, unless it was changed and changed back.
//!   A commit cannot do that: it changes the header's counter, which is among the pages. What was
//!   written and rolled back both before T and again after it, to the same bytes, could; the engine
//!   would have to outgrow its cache twice within one read, and to give up both times.
//!
//! A journal that stays was left by a writer that died, and the file may be half written. Only SQLite
//! could tell, by playing it back, which writes: it is a gap. So is a database that has no journal on
//! disk by its engine's own choice (`journal_mode` `OFF` or `MEMORY`) and is written to all the time;
//! no engine here does so.
//!
//! # What a hostile file gets
//!
//! Every number is checked before it is used. What one view may read, hold and visit is limited, and so
//! is depth: see [`limits`]. Rowids rise, so that no circle of pages is walked twice.

mod copy;
mod file;
mod header;
mod page;
mod record;
mod schema;
mod table;
mod view;

use std::thread;
use std::time::Duration;

use bstr::{BStr, BString};
use whose_kernel::error::CHANGING;
use whose_kernel::{Class, ReadError};

pub use file::File;
pub use record::Value;
pub use table::{Row, Table};
use view::{Spent, View};
pub use view::{Tables, Trouble};

/// What is taken of a file, however large it says it is.
pub mod limits {
    /// Largest file, bytes.
    pub const FILE: usize = 64 << 20;
    /// Largest row, bytes.
    pub const ROW: usize = 16 << 20;
    /// Bytes read for one view, all tries together, which is also the most that is held.
    pub const VIEW: usize = 128 << 20;
    /// Pages and cells visited in one view, all tries together.
    pub const VISITS: u64 = 1 << 21;
    /// Pages from a table's root down to a leaf.
    pub const DEPTH: usize = 20;
    /// Entries of the schema.
    pub const ENTRIES: usize = 10_000;
    /// Columns of a table, as SQLite's own limit is.
    pub const COLUMNS: usize = 2_000;
    /// Times that a view is begun while the file changes.
    pub const TRIES: u32 = 16;
}

/// How long a transaction is waited for. It ends when the disk has it, and then it was short.
const PAUSE: Duration = Duration::from_millis(4);

/// What lies beside a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing that counts.
    Nothing,
    /// A rollback journal: a transaction is under way, or was left unfinished.
    Journal,
    /// A write-ahead log with something in it.
    Log,
}

/// Where the bytes of a database come from.
pub trait Source {
    /// Reads from the place `at` until `into` is full or the file ends; how many bytes came.
    ///
    /// # Errors
    /// The kernel's.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError>;

    /// Bytes it has now.
    ///
    /// # Errors
    /// The kernel's.
    fn size(&self) -> Result<u64, ReadError>;

    /// What lies beside it now.
    ///
    /// # Errors
    /// The kernel's.
    fn beside(&self) -> Result<Beside, ReadError>;

    /// The path to show people.
    fn shown(&self) -> &BStr;
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

    fn size(&self) -> Result<u64, ReadError> {
        Ok(self.len() as u64)
    }

    fn beside(&self) -> Result<Beside, ReadError> {
        Ok(Beside::Nothing)
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

impl<S: Source> Database<S> {
    /// A database over these bytes.
    pub fn over(source: S) -> Self {
        Self { source }
    }

    /// Asks of the tables as they were at one moment. `ask` is called anew, and what it gave is
    /// dropped, when the file has changed meanwhile.
    ///
    /// # Errors
    /// The read's; `malformed` for damage and what is beyond the limits, `timed-out` when it changed
    /// all the time, `unsupported` for what this reader does not know.
    pub fn view<T>(
        &self,
        mut ask: impl FnMut(&Tables<'_>) -> Result<T, Trouble>,
    ) -> Result<T, ReadError> {
        let mut spent = Spent::default();
        let mut why = CHANGING;
        for tries in 0..limits::TRIES {
            let view = View::new(&self.source, spent);
            let told = view.begin().and_then(|()| ask(&Tables::of(&view)));
            if let Err(Trouble::Unread(error)) = told {
                return Err(error);
            }
            // What was read before may have been what was too much.
            if tries > 0 && matches!(told, Err(Trouble::TooMuch)) {
                break;
            }
            match self.source.beside()? {
                Beside::Nothing => {}
                Beside::Journal => {
                    why = "a transaction was under way all the time, or was left unfinished";
                    spent = view.spent();
                    thread::sleep(PAUSE);
                    continue;
                }
                Beside::Log => {
                    let why = "a write-ahead log is beside it, which is not read";
                    return Err(ReadError::new(self.source.shown(), Class::Unsupported, why));
                }
            }
            if view.is_unchanged()? {
                return told.map_err(|trouble| trouble.of(self.shown()));
            }
            why = CHANGING;
            spent = view.spent();
        }
        Err(ReadError::new(self.source.shown(), Class::TimedOut, why))
    }

    /// The path to show people.
    pub fn shown(&self) -> BString {
        self.source.shown().into()
    }
}

#[cfg(test)]
mod tests;
