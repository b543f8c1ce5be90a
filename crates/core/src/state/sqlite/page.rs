//! A page of a table's tree.

use std::rc::Rc;

use super::header::{self, u16_at, u32_at};
use super::limits;
use super::record::varint;
use super::view::{Trouble, View};

const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0D;

/// A page that was read.
pub(super) struct Page {
    number: u32,
    bytes: Rc<Vec<u8>>,
    is_leaf: bool,
    count: usize,
    /// Where its header is: behind the file's in the first page.
    at: usize,
    usable: usize,
}

/// A leaf's cell: a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) rowid: i64,
    /// Bytes of the record.
    pub(super) len: usize,
    /// Where those that lie in this page begin, and how many they are.
    pub(super) local: (usize, usize),
    /// The page with the next ones; 0 when there are no more.
    pub(super) overflow: u32,
}

impl Page {
    pub(super) fn read(view: &View<'_>, number: u32) -> Result<Self, Trouble> {
        let bytes = view.page(number)?;
        let at = if number == 1 { header::SIZE } else { 0 };
        let of = |what| Trouble::Damaged { page: number, what };
        let is_leaf = match bytes.get(at) {
            Some(&LEAF) => true,
            Some(&INTERIOR) => false,
            _ => return Err(of("no page of a table")),
        };
        let (count, usable) = (usize::from(u16_at(&bytes, at + 3)), view.usable());
        let page = Self { number, bytes, is_leaf, count, at, usable };
        if page.end() > usable {
            return Err(of("more cells than bytes"));
        }
        Ok(page)
    }

    /// Where the array of its cells' places ends.
    fn end(&self) -> usize {
        self.first() + self.count * 2
    }

    fn first(&self) -> usize {
        self.at + if self.is_leaf { 8 } else { 12 }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.is_leaf
    }

    /// Rows of a leaf; children of an interior page.
    pub(super) fn count(&self) -> usize {
        if self.is_leaf { self.count } else { self.count + 1 }
    }

    pub(super) fn bytes(&self) -> &Rc<Vec<u8>> {
        &self.bytes
    }

    /// Bytes that a copy must have: the header, and where the cells are.
    pub(super) fn skeleton(&self) -> (usize, usize) {
        (0, self.end())
    }

    pub(super) fn damaged(&self, what: &'static str) -> Trouble {
        Trouble::Damaged { page: self.number, what }
    }

    /// Where a cell begins.
    fn place(&self, index: usize) -> Result<usize, Trouble> {
        let at = usize::from(u16_at(&self.bytes, self.first() + index * 2));
        let is_there = at >= self.end() && at < self.usable;
        if is_there { Ok(at) } else { Err(self.damaged("a cell outside its page")) }
    }

    /// Where the cells begin and end.
    pub(super) fn cells(&self) -> Result<Vec<(usize, usize)>, Trouble> {
        let place = |index| match self.is_leaf {
            true => self.cell(index).map(|(_, place)| place),
            false => {
                let at = self.place(index)?;
                let end = varint(&self.bytes, at + 4).map(|(_, end)| end);
                let end = end.filter(|end| *end <= self.usable);
                Ok((at, end.ok_or_else(|| self.damaged("a cell outside its page"))?))
            }
        };
        (0..self.count).map(place).collect()
    }

    /// A child of an interior page.
    pub(super) fn child(&self, index: usize) -> Result<u32, Trouble> {
        let at = if index < self.count { self.place(index)? } else { self.at + 8 };
        if at + 4 > self.usable {
            return Err(self.damaged("a cell outside its page"));
        }
        Ok(u32_at(&self.bytes, at))
    }

    /// A cell of a leaf, with where it begins and ends.
    pub(super) fn cell(&self, index: usize) -> Result<(Cell, (usize, usize)), Trouble> {
        let outside = || self.damaged("a cell outside its page");
        let from = self.place(index)?;
        let within = self.bytes.get(..self.usable).ok_or_else(outside)?;
        let (len, at) = varint(within, from).ok_or_else(outside)?;
        let (rowid, at) = varint(within, at).ok_or_else(outside)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= limits::ROW);
        let len = len.ok_or(Trouble::TooMuch)?;
        let local = self.local(len);
        let end = at + local + if local < len { 4 } else { 0 };
        if end > self.usable {
            return Err(outside());
        }
        let overflow = if local < len { u32_at(within, at + local) } else { 0 };
        Ok((Cell { rowid, len, local: (at, local), overflow }, (from, end)))
    }

    /// How many bytes of a record of this length lie in the leaf (section 1.6 of the format).
    fn local(&self, len: usize) -> usize {
        if len <= self.usable - 35 {
            return len;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (len - least) % (self.usable - 4);
        if wanted <= self.usable - 35 { wanted } else { least }
    }
}
