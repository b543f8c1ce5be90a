//! One page, with those it runs over into, and its elements.

use std::cell::OnceCell;

use super::meta::{HEADER, u16_at, u32_at, u64_at};
use super::view::{Trouble, View};

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// Bytes of an element's header, of both kinds.
const ELEMENT: usize = 16;
/// Flag of a leaf's element: its value is a bucket.
const IS_BUCKET: u32 = 0x01;

/// A page that was read, or that stands in a bucket's value.
#[derive(Debug)]
pub(super) struct Page {
    id: u64,
    is_leaf: bool,
    count: usize,
    /// Bytes of all of it.
    size: usize,
    /// Its beginning: the first of several, which mostly is enough.
    first: Vec<u8>,
    /// All of it, once something behind the first was asked for.
    all: OnceCell<Vec<u8>>,
}

/// A leaf's element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) is_bucket: bool,
    key: (usize, usize),
    value: (usize, usize),
}

impl Page {
    /// Reads a page.
    pub(super) fn read(view: &View<'_>, id: u64) -> Result<Self, Trouble> {
        let of = |what| Trouble::Damaged { page: id, what };
        let page_size = view.meta.page_size as usize;
        if id < 2 || id >= view.meta.end {
            return Err(of("beyond the pages in use"));
        }
        let first = view.bytes(id, page_size)?;
        if u64_at(&first, 0) != id {
            return Err(of("another page's number"));
        }
        let overflow = u32_at(&first, 12);
        if view.meta.end - id <= u64::from(overflow) {
            return Err(of("runs over the pages in use"));
        }
        let size = (overflow as usize + 1).checked_mul(page_size);
        let size = size.filter(|s| *s <= super::limits::PAGE).ok_or(Trouble::TooMuch)?;
        Self::new(id, size, first, view)
    }

    /// The page that follows a bucket's header in its value. It has no number.
    pub(super) fn inline(bytes: &[u8], view: &View<'_>) -> Result<Self, Trouble> {
        let page = Self::new(0, bytes.len(), bytes.to_vec(), view)?;
        let is_one = page.is_leaf && u64_at(bytes, 0) == 0 && u32_at(bytes, 12) == 0;
        if is_one { Ok(page) } else { Err(page.damaged("no inline page")) }
    }

    fn new(id: u64, size: usize, first: Vec<u8>, view: &View<'_>) -> Result<Self, Trouble> {
        let of = |what| Trouble::Damaged { page: id, what };
        let is_leaf = match u16_at(&first, 8) {
            LEAF if first.len() >= HEADER => true,
            BRANCH => false,
            _ => return Err(of("neither branch nor leaf")),
        };
        let count = usize::from(u16_at(&first, 10));
        if HEADER + count * ELEMENT > size {
            return Err(of("more elements than bytes"));
        }
        if !is_leaf && count == 0 {
            return Err(of("a branch without children"));
        }
        let page = Self { id, is_leaf, count, size, first, all: OnceCell::new() };
        page.check_order(view)?;
        Ok(page)
    }

    /// Keys rise, as far as they are there without a further read: searches rely on it.
    fn check_order(&self, view: &View<'_>) -> Result<(), Trouble> {
        let mut last: Option<&[u8]> = None;
        for index in 0..self.count {
            if HEADER + (index + 1) * ELEMENT > self.first.len() {
                break;
            }
            let (from, len) = self.key_place(index, view)?;
            if from + len > self.first.len() {
                break;
            }
            let key = self.slice((from, len), view)?;
            if last.is_some_and(|last| last >= key) {
                return Err(self.damaged("keys out of order"));
            }
            last = Some(key);
        }
        Ok(())
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.is_leaf
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn damaged(&self, what: &'static str) -> Trouble {
        Trouble::Damaged { page: self.id, what }
    }

    /// The key of an element.
    pub(super) fn key<'p>(&'p self, index: usize, view: &View<'_>) -> Result<&'p [u8], Trouble> {
        self.slice(self.key_place(index, view)?, view)
    }

    fn key_place(&self, index: usize, view: &View<'_>) -> Result<(usize, usize), Trouble> {
        let at = HEADER + index * ELEMENT;
        let element = self.slice((at, ELEMENT), view)?;
        let (pos, len) = match self.is_leaf {
            true => (u32_at(element, 4), u32_at(element, 8)),
            false => (u32_at(element, 0), u32_at(element, 4)),
        };
        self.place(at, pos, len)
    }

    /// The child of a branch.
    pub(super) fn child(&self, index: usize, view: &View<'_>) -> Result<u64, Trouble> {
        let element = self.slice((HEADER + index * ELEMENT, ELEMENT), view)?;
        Ok(u64_at(element, 8))
    }

    /// An element of a leaf.
    pub(super) fn leaf(&self, index: usize, view: &View<'_>) -> Result<Leaf, Trouble> {
        let at = HEADER + index * ELEMENT;
        let element = self.slice((at, ELEMENT), view)?;
        let (flags, pos) = (u32_at(element, 0), u32_at(element, 4));
        let (key_len, value_len) = (u32_at(element, 8), u32_at(element, 12));
        let key = self.place(at, pos, key_len)?;
        let value = self.place(key.0 + key.1, 0, value_len)?;
        Ok(Leaf { is_bucket: flags & IS_BUCKET != 0, key, value })
    }

    pub(super) fn key_of<'p>(&'p self, leaf: Leaf, view: &View<'_>) -> Result<&'p [u8], Trouble> {
        self.slice(leaf.key, view)
    }

    pub(super) fn value_of<'p>(&'p self, leaf: Leaf, view: &View<'_>) -> Result<&'p [u8], Trouble> {
        self.slice(leaf.value, view)
    }

    /// Where in the file an element's value lies, and its length; nothing for an inline page.
    pub(super) fn value_place(&self, leaf: Leaf, view: &View<'_>) -> Option<(u64, usize)> {
        let page = self.id.checked_mul(u64::from(view.meta.page_size))?;
        (self.id != 0).then_some((page + leaf.value.0 as u64, leaf.value.1))
    }

    /// Pages it takes.
    pub(super) fn pages(&self, view: &View<'_>) -> u64 {
        (self.size / view.meta.page_size as usize) as u64
    }

    /// Bytes that lie `pos` behind `at`, if all of them are in the page and behind its header.
    fn place(&self, at: usize, pos: u32, len: u32) -> Result<(usize, usize), Trouble> {
        let (pos, len) = (pos as usize, len as usize);
        let from = at.checked_add(pos).filter(|from| from.checked_add(len) <= Some(self.size));
        from.map(|from| (from, len)).ok_or_else(|| self.damaged("an element outside its page"))
    }

    /// Bytes of the page; what is behind the first one is read when it is asked for.
    fn slice<'p>(
        &'p self,
        (from, len): (usize, usize),
        view: &View<'_>,
    ) -> Result<&'p [u8], Trouble> {
        if let Some(bytes) = self.first.get(from..from + len) {
            return Ok(bytes);
        }
        let all = match self.all.get() {
            Some(all) => all,
            None if self.id == 0 => return Err(self.damaged("an element outside its page")),
            None => {
                let all = view.bytes(self.id, self.size)?;
                if all.get(..HEADER) != self.first.get(..HEADER) {
                    return Err(self.damaged("another page than before"));
                }
                self.all.get_or_init(|| all)
            }
        };
        all.get(from..from + len).ok_or_else(|| self.damaged("an element outside its page"))
    }
}
