//! One try to read the tree of one transaction, and what it may cost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bstr::BString;
use whose_kernel::{Class, ReadError};

use super::meta::Meta;
use super::page::Page;
use super::{Source, limits};

/// Why a view could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The kernel's word.
    Unread(ReadError),
    /// A page is not as it must be.
    Damaged {
        /// Its number; 0 for a page within a value.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The reader of a value found it wrong.
    Wrong(String),
    /// It would take more than [`limits`] allow.
    TooMuch,
}

impl Trouble {
    pub(super) fn of(self, path: BString) -> ReadError {
        let why = match self {
            Self::Unread(error) => return error,
            Self::Damaged { page, what } => format!("damaged at page {page}: {what}"),
            Self::Wrong(why) => why,
            Self::TooMuch => "larger or deeper than any engine's".into(),
        };
        ReadError::new(path, Class::Malformed, why)
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Unread(error)
    }
}

/// The tree of one meta page, with the pages that were read of it.
pub(super) struct View<'s> {
    source: &'s dyn Source,
    pub(super) meta: Meta,
    pages: RefCell<BTreeMap<u64, Rc<Page>>>,
    spent: Cell<Spent>,
}

/// What was read and visited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    bytes: usize,
    visits: u64,
}

impl<'s> View<'s> {
    /// A view that goes on from what was spent before.
    pub(super) fn new(source: &'s dyn Source, meta: Meta, spent: Spent) -> Self {
        Self { source, meta, pages: RefCell::default(), spent: Cell::new(spent) }
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent.get()
    }

    /// A page, read at most once.
    pub(super) fn page(&self, id: u64) -> Result<Rc<Page>, Trouble> {
        self.visit()?;
        if let Some(page) = self.pages.borrow().get(&id) {
            return Ok(Rc::clone(page));
        }
        let page = Rc::new(Page::read(self, id)?);
        self.pages.borrow_mut().insert(id, Rc::clone(&page));
        Ok(page)
    }

    /// Counts a page or an element that is looked at.
    pub(super) fn visit(&self) -> Result<(), Trouble> {
        let mut spent = self.spent.get();
        spent.visits += 1;
        self.spent.set(spent);
        if spent.visits > limits::VISITS { Err(Trouble::TooMuch) } else { Ok(()) }
    }

    /// Bytes from the beginning of a page on, all of them.
    pub(super) fn bytes(&self, page: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let mut spent = self.spent.get();
        spent.bytes = spent.bytes.saturating_add(len);
        if spent.bytes > limits::VIEW {
            return Err(Trouble::TooMuch);
        }
        self.spent.set(spent);
        let damaged = |what| Trouble::Damaged { page, what };
        let at = page.checked_mul(u64::from(self.meta.page_size));
        let at = at.ok_or(damaged("beyond the pages in use"))?;
        let mut bytes = vec![0; len];
        if self.source.read_at(at, &mut bytes)? < len {
            return Err(damaged("the file ends in it"));
        }
        Ok(bytes)
    }

    /// Numbers of the pages that were read, and how many each takes.
    pub(super) fn pages_read(&self) -> Vec<(u64, u64)> {
        self.pages.borrow().iter().map(|(id, page)| (*id, page.pages(self))).collect()
    }
}
