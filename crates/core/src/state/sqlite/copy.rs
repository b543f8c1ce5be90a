//! What a capture keeps of a database: the rows of its tables, and no environment.
//!
//! Free pages, and what is free in others, still hold what was deleted: zeros stand for it, and for
//! indexes, which nobody here reads.

use std::ops::ControlFlow;

use super::header;
use super::page::Page;
use super::table::Table;
use super::view::{Trouble, View};
use super::{Database, Source, limits};
use crate::state::redact;

impl<S: Source> Database<S> {
    /// The file with the rows of its tables, values of environment variables blanked; `None` when it
    /// can't be read as a whole.
    #[must_use]
    pub fn copy(&self) -> Option<Vec<u8>> {
        let copied = self.view(|tables| {
            let view = tables.view();
            let Some(header) = view.header() else { return Ok(Vec::new()) };
            let mut copy = Copy { view, page_size: header.page_size, content: Vec::new() };
            let len = (view.count() as usize).checked_mul(header.page_size);
            let len = len.filter(|len| *len <= limits::FILE).ok_or(Trouble::TooMuch)?;
            copy.content = vec![0; len];
            copy.take(1, 0, header::SIZE)?;
            let schema = Table::new(view, "sqlite_schema".into(), 1, Vec::new());
            copy.rows(&schema)?;
            for name in tables.names()? {
                if let Some(table) = tables.table(&name.to_string())? {
                    copy.rows(&table)?;
                }
            }
            Ok(copy.content)
        });
        copied.ok()
    }
}

/// A copy that is being made.
struct Copy<'v> {
    view: &'v View<'v>,
    page_size: usize,
    content: Vec<u8>,
}

impl Copy<'_> {
    fn put(&mut self, page: u32, from: usize, bytes: &[u8]) -> Result<(), Trouble> {
        let at = (page as usize - 1) * self.page_size + from;
        let place = self.content.get_mut(at..at + bytes.len()).ok_or(Trouble::TooMuch)?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    /// Takes bytes of a page as they are.
    fn take(&mut self, page: u32, from: usize, to: usize) -> Result<(), Trouble> {
        let bytes = self.view.page(page)?;
        let piece = bytes.get(from..to).ok_or(Trouble::TooMuch)?;
        self.put(page, from, piece)
    }

    fn rows(&mut self, table: &Table<'_>) -> Result<(), Trouble> {
        let mut pages = Vec::new();
        table.pages(&mut |page: &Page| {
            pages.push(page.number());
            let (from, to) = page.skeleton();
            // The file's header before the first page's own was taken already.
            self.take(page.number(), from, to)?;
            for (from, to) in page.cells()? {
                self.take(page.number(), from, to)?;
            }
            Ok(())
        })?;
        let mut pieces = Vec::new();
        table.rows(&mut |row| {
            let mut record = row.all()?.to_vec();
            redact::blank_environment(&mut record);
            pieces.push((row.places()?, record));
            Ok(ControlFlow::Continue(()))
        })?;
        for (places, record) in pieces {
            let mut rest = record.as_slice();
            for (at, (page, from, len)) in places.into_iter().enumerate() {
                if at > 0 {
                    self.take(page, 0, 4)?;
                }
                let (piece, more) = rest.split_at_checked(len).ok_or(Trouble::TooMuch)?;
                self.put(page, from, piece)?;
                rest = more;
            }
        }
        Ok(())
    }
}
