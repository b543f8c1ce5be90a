//! Buckets: search and walk.

use std::ops::ControlFlow;
use std::rc::Rc;

use bstr::{BStr, BString};

use super::limits;
use super::meta::u64_at;
use super::page::{Leaf, Page};
use super::view::{Trouble, View};

/// Bytes of a bucket's header in its value: `root u64, sequence u64`.
const HEADER: usize = 16;

/// A bucket in one view of a database.
#[derive(Clone)]
pub struct Bucket<'v> {
    view: &'v View<'v>,
    root: Start,
    sequence: u64,
}

#[derive(Clone)]
enum Start {
    Page(u64),
    Inline(Rc<Page>),
}

/// An element of a bucket.
pub struct Item<'v> {
    view: &'v View<'v>,
    page: Rc<Page>,
    leaf: Leaf,
}

impl<'v> Item<'v> {
    /// The key.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn key(&self) -> Result<&BStr, Trouble> {
        self.page.key_of(self.leaf, self.view).map(BStr::new)
    }

    /// Whether it is a bucket.
    #[must_use]
    pub fn is_bucket(&self) -> bool {
        self.leaf.is_bucket
    }

    /// The value; `None` for a bucket.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn value(&self) -> Result<Option<&[u8]>, Trouble> {
        if self.leaf.is_bucket {
            return Ok(None);
        }
        self.page.value_of(self.leaf, self.view).map(Some)
    }

    /// The bucket; `None` for a value.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn bucket(&self) -> Result<Option<Bucket<'v>>, Trouble> {
        if !self.leaf.is_bucket {
            return Ok(None);
        }
        let value = self.page.value_of(self.leaf, self.view)?;
        let Some((header, rest)) = value.split_at_checked(HEADER) else {
            return Err(self.page.damaged("a bucket cut short"));
        };
        let root = match u64_at(header, 0) {
            0 => Start::Inline(Rc::new(Page::inline(rest, self.view)?)),
            id => Start::Page(id),
        };
        Ok(Some(Bucket { view: self.view, root, sequence: u64_at(header, 8) }))
    }

    /// Where in the file the value lies; `None` for what stands in another value.
    pub(super) fn place(&self) -> Option<(u64, usize)> {
        self.page.value_place(self.leaf, self.view)
    }
}

impl<'v> Bucket<'v> {
    pub(super) fn top(view: &'v View<'v>) -> Self {
        let (root, sequence) = (Start::Page(view.meta.root), view.meta.sequence);
        Self { view, root, sequence }
    }

    pub(super) fn view(&self) -> &'v View<'v> {
        self.view
    }

    /// The bucket's counter, which numbers what is put in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The element of this key.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn item(&self, key: &[u8]) -> Result<Option<Item<'v>>, Trouble> {
        let mut page = self.first()?;
        let mut least: Option<Vec<u8>> = None;
        for _ in 0..limits::DEPTH {
            check_least(&page, least.as_deref(), self.view)?;
            let at = self.search(&page, key)?;
            if page.is_leaf() {
                let Ok(index) = at else { return Ok(None) };
                let leaf = page.leaf(index, self.view)?;
                return Ok(Some(Item { view: self.view, page, leaf }));
            }
            let index = at.unwrap_or_else(|next| next.saturating_sub(1));
            least = Some(page.key(index, self.view)?.to_vec());
            page = self.view.page(page.child(index, self.view)?)?;
        }
        Err(Trouble::TooMuch)
    }

    /// The value of this key; `None` where there is none, or a bucket.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn value(&self, key: &[u8]) -> Result<Option<BString>, Trouble> {
        let Some(item) = self.item(key)? else { return Ok(None) };
        Ok(item.value()?.map(BString::from))
    }

    /// The bucket of this key; `None` where there is none, or a value.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn bucket(&self, key: &[u8]) -> Result<Option<Self>, Trouble> {
        self.item(key)?.map_or(Ok(None), |item| item.bucket())
    }

    /// The bucket at the end of these keys.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn at(&self, path: &[&[u8]]) -> Result<Option<Self>, Trouble> {
        let mut here = self.clone();
        for key in path {
            let Some(next) = here.bucket(key)? else { return Ok(None) };
            here = next;
        }
        Ok(Some(here))
    }

    /// Calls `each` for the elements in the order of their keys, until it breaks off.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn walk(
        &self,
        each: &mut dyn FnMut(Item<'v>) -> Result<ControlFlow<()>, Trouble>,
    ) -> Result<(), Trouble> {
        let mut way = vec![(self.first()?, 0)];
        let mut last: Option<Vec<u8>> = None;
        while let Some((page, index)) = way.pop() {
            if index == page.count() {
                continue;
            }
            way.push((Rc::clone(&page), index + 1));
            if !page.is_leaf() {
                if way.len() >= limits::DEPTH {
                    return Err(Trouble::TooMuch);
                }
                let child = self.view.page(page.child(index, self.view)?)?;
                check_least(&child, Some(page.key(index, self.view)?), self.view)?;
                way.push((child, 0));
                continue;
            }
            self.view.visit()?;
            let leaf = page.leaf(index, self.view)?;
            let key = page.key_of(leaf, self.view)?;
            if last.as_deref().is_some_and(|last| last >= key) {
                return Err(page.damaged("keys out of order"));
            }
            last = Some(key.to_vec());
            if each(Item { view: self.view, page, leaf })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The keys of the buckets in this one, at most `most`.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn buckets(&self, most: usize) -> Result<Vec<BString>, Trouble> {
        let mut keys = Vec::new();
        self.walk(&mut |item| {
            if item.is_bucket() {
                if keys.len() == most {
                    return Err(Trouble::TooMuch);
                }
                keys.push(item.key()?.into());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys)
    }

    fn first(&self) -> Result<Rc<Page>, Trouble> {
        match &self.root {
            Start::Page(id) => self.view.page(*id),
            Start::Inline(page) => Ok(Rc::clone(page)),
        }
    }

    /// The element with this key, or the one that it would be put before.
    fn search(&self, page: &Page, key: &[u8]) -> Result<Result<usize, usize>, Trouble> {
        let (mut from, mut to) = (0, page.count());
        while from < to {
            self.view.visit()?;
            let middle = from + (to - from) / 2;
            match page.key(middle, self.view)?.cmp(key) {
                std::cmp::Ordering::Equal => return Ok(Ok(middle)),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(Err(from))
    }
}

/// No key beneath a branch is before the one it has for it (bbolt's own check, tx_check.go).
fn check_least(page: &Page, least: Option<&[u8]>, view: &View<'_>) -> Result<(), Trouble> {
    if let (Some(least), true) = (least, page.count() > 0)
        && page.key(0, view)? < least
    {
        return Err(page.damaged("keys before those of its branch"));
    }
    Ok(())
}
