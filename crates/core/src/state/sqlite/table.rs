//! Tables and their rows.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use bstr::BString;

use super::header::u32_at;
use super::limits;
use super::page::{Cell, Page};
use super::record::{self, Value, varint};
use super::view::{Trouble, View};

/// A table in one view of a database.
pub struct Table<'v> {
    view: &'v View<'v>,
    name: BString,
    root: u32,
    columns: Vec<BString>,
}

/// A row of a table.
pub struct Row<'v> {
    view: &'v View<'v>,
    page: Rc<Page>,
    cell: Cell,
    /// All of it, once something outside its page was asked for.
    all: OnceCell<Vec<u8>>,
}

impl<'v> Table<'v> {
    pub(super) fn new(view: &'v View<'v>, name: BString, root: u32, columns: Vec<BString>) -> Self {
        Self { view, name, root, columns }
    }

    /// Places of the columns of these names, whatever their case.
    ///
    /// # Errors
    /// `Unknown` where there is none.
    pub fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N], Trouble> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let is_it = |column: &BString| column.eq_ignore_ascii_case(name.as_bytes());
            *place = self.columns.iter().position(is_it).ok_or_else(|| {
                Trouble::Unknown(format!("its table {} has no column {name}", self.name))
            })?;
        }
        Ok(places)
    }

    /// Calls `each` for the rows in the order of their rowids, until it breaks off.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn rows(
        &self,
        each: &mut dyn FnMut(&Row<'v>) -> Result<ControlFlow<()>, Trouble>,
    ) -> Result<(), Trouble> {
        let mut way = vec![(Rc::new(Page::read(self.view, self.root)?), 0)];
        let mut last: Option<i64> = None;
        while let Some((page, index)) = way.pop() {
            if index == page.count() {
                continue;
            }
            way.push((Rc::clone(&page), index + 1));
            self.view.visit()?;
            if !page.is_leaf() {
                if way.len() >= limits::DEPTH {
                    return Err(Trouble::TooMuch);
                }
                let child = page.child(index)?;
                way.push((Rc::new(Page::read(self.view, child)?), 0));
                continue;
            }
            let (cell, _) = page.cell(index)?;
            if last.is_some_and(|last| last >= cell.rowid) {
                return Err(page.damaged("rows out of order"));
            }
            last = Some(cell.rowid);
            let row = Row { view: self.view, page, cell, all: OnceCell::new() };
            if each(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` for every page of its tree.
    pub(super) fn pages(
        &self,
        each: &mut dyn FnMut(&Page) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut way = vec![(self.root, 1)];
        while let Some((number, depth)) = way.pop() {
            if depth > limits::DEPTH {
                return Err(Trouble::TooMuch);
            }
            let page = Page::read(self.view, number)?;
            each(&page)?;
            if !page.is_leaf() {
                for index in 0..page.count() {
                    self.view.visit()?;
                    way.push((page.child(index)?, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// The first row whose column has this text.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn find(&self, column: usize, text: &[u8]) -> Result<Option<Row<'v>>, Trouble> {
        let mut found = None;
        self.rows(&mut |row| {
            if row.bytes(column)?.is_some_and(|own| own == text) {
                found = Some(row.clone());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

impl Clone for Row<'_> {
    fn clone(&self) -> Self {
        let (view, cell, all) = (self.view, self.cell, self.all.clone());
        Self { view, page: Rc::clone(&self.page), cell, all }
    }
}

impl Row<'_> {
    /// The rowid.
    #[must_use]
    pub fn rowid(&self) -> i64 {
        self.cell.rowid
    }

    /// A column's value.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn value(&self, column: usize) -> Result<Value, Trouble> {
        let wrong = || self.page.damaged("a record that is none");
        // The header's length, then a serial type a column, then the values.
        let (head, mut at) = varint(self.slice(0, 9.min(self.cell.len))?, 0).ok_or_else(wrong)?;
        let head = usize::try_from(head).ok().filter(|h| *h >= at && *h <= self.cell.len);
        let head = head.ok_or_else(wrong)?;
        let header = self.slice(0, head)?;
        let mut from = head;
        for index in 0..limits::COLUMNS {
            if at == head {
                return Ok(Value::Null);
            }
            let (serial, next) = varint(header, at).ok_or_else(wrong)?;
            let len = record::len_of(serial).ok_or_else(wrong)?;
            let end = from.checked_add(len).filter(|end| *end <= self.cell.len);
            let end = end.ok_or_else(wrong)?;
            if index == column {
                return Ok(record::value(serial, self.slice(from, len)?));
            }
            (at, from) = (next, end);
        }
        Err(Trouble::TooMuch)
    }

    /// The bytes of a column's text or blob; `None` for another value.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, Trouble> {
        self.value(column).map(Value::into_bytes)
    }

    /// The whole record.
    pub(super) fn all(&self) -> Result<&[u8], Trouble> {
        if let Some(all) = self.all.get() {
            return Ok(all);
        }
        let mut all = Vec::with_capacity(self.cell.len);
        for (page, from, len) in self.places()? {
            let page = self.view.page(page)?;
            all.extend_from_slice(page.get(from..from + len).unwrap_or_default());
        }
        if all.len() != self.cell.len {
            return Err(self.page.damaged("a record cut short"));
        }
        Ok(self.all.get_or_init(|| all))
    }

    /// Where the record lies: page, first byte and length of each piece.
    pub(super) fn places(&self) -> Result<Vec<(u32, usize, usize)>, Trouble> {
        let (from, local) = self.cell.local;
        let mut places = vec![(self.page.number(), from, local)];
        let (mut rest, mut next) = (self.cell.len - local, self.cell.overflow);
        // Each page takes some of what is left, so that a circle comes to its end.
        while rest > 0 {
            let page = self.view.page(next)?;
            let len = rest.min(self.view.usable() - 4);
            places.push((next, 4, len));
            rest -= len;
            next = u32_at(&page, 0);
        }
        Ok(places)
    }

    fn slice(&self, from: usize, len: usize) -> Result<&[u8], Trouble> {
        let (at, local) = self.cell.local;
        let damaged = || self.page.damaged("a record cut short");
        if from + len <= local {
            let at = at + from;
            return self.page.bytes().get(at..at + len).ok_or_else(damaged);
        }
        self.all()?.get(from..from + len).ok_or_else(damaged)
    }
}
