//! A database in a file, and what lies beside it.

use bstr::{BStr, BString};
use whose_kernel::held::Held;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{Beside, Database, Source, limits};

/// First bytes of a journal: those of its magic number. Zeros say that it was ended.
const MAGIC: usize = 8;

/// A database's file, held open, and the directory it is in.
#[derive(Debug)]
pub struct File<'r> {
    held: Held,
    root: &'r Root,
    journal: BString,
    log: BString,
}

impl Source for File<'_> {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        self.held.read_at(at, into)
    }

    fn size(&self) -> Result<u64, ReadError> {
        self.held.size()
    }

    fn beside(&self) -> Result<Beside, ReadError> {
        if self.size_of(&self.log)? > 0 {
            return Ok(Beside::Log);
        }
        if self.size_of(&self.journal)? == 0 {
            return Ok(Beside::Nothing);
        }
        // Its size does not matter, since no more is read of it.
        match self.root.hold(&self.journal, usize::MAX) {
            Ok(journal) => {
                let mut first = [0; MAGIC];
                let got = journal.read_at(0, &mut first)?;
                let ended = first[..got].iter().all(|b| *b == 0);
                Ok(if ended { Beside::Nothing } else { Beside::Journal })
            }
            Err(e) if e.class == Class::Gone => Ok(Beside::Nothing),
            Err(e) => Err(e),
        }
    }

    fn shown(&self) -> &BStr {
        self.held.shown()
    }
}

impl File<'_> {
    /// Bytes of a file beside it; 0 when there is none.
    fn size_of(&self, rel: &[u8]) -> Result<u64, ReadError> {
        match self.root.look(rel) {
            Ok(look) => Ok(look.size),
            Err(e) if e.class == Class::Gone => Ok(0),
            Err(e) => Err(e),
        }
    }
}

impl<'r> Database<File<'r>> {
    /// Opens a database beneath the root. Nothing is locked or written.
    ///
    /// # Errors
    /// The read's.
    pub fn open(root: &'r Root, rel: &[u8]) -> Result<Self, ReadError> {
        let held = root.hold(rel, limits::FILE)?;
        let beside = |end: &str| BString::from([rel, end.as_bytes()].concat());
        let (journal, log) = (beside("-journal"), beside("-wal"));
        let database = Self { source: File { held, root, journal, log } };
        if database.source.held.is_wanted()
            && let Some(content) = database.copy()
        {
            database.source.held.record(&content);
        }
        Ok(database)
    }
}
