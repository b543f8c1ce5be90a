//! One try to read, what it may cost, and whether it counts.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bstr::BString;
use whose_kernel::{Class, ReadError};

use super::header::{self, Header};
use super::schema;
use super::table::Table;
use super::{Source, limits};

/// Why a view could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The kernel's word.
    Unread(ReadError),
    /// A page is not as it must be.
    Damaged {
        /// Its number; the first is 1.
        page: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The reader of what is in it found it wrong.
    Wrong(String),
    /// It is of a kind that is not read.
    Unknown(String),
    /// It would take more than [`limits`] allow.
    TooMuch,
}

impl Trouble {
    pub(super) fn of(self, path: BString) -> ReadError {
        let (class, why) = match self {
            Self::Unread(error) => return error,
            Self::Damaged { page, what } => {
                (Class::Malformed, format!("damaged at page {page}: {what}"))
            }
            Self::Wrong(why) => (Class::Malformed, why),
            Self::Unknown(why) => (Class::Unsupported, why),
            Self::TooMuch => (Class::Malformed, "larger or deeper than any engine's".into()),
        };
        ReadError::new(path, class, why)
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Unread(error)
    }
}

/// The file as it is while one answer is looked for.
pub(super) struct View<'s> {
    source: &'s dyn Source,
    /// Bytes of the file at the beginning.
    size: Cell<u64>,
    header: OnceCell<Header>,
    pages: RefCell<BTreeMap<u32, Rc<Vec<u8>>>>,
    spent: Cell<Spent>,
    /// It was seen to change already.
    changed: Cell<bool>,
}

/// What was read and visited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    bytes: usize,
    visits: u64,
}

impl<'s> View<'s> {
    /// A view that goes on from what was spent before.
    pub(super) fn new(source: &'s dyn Source, spent: Spent) -> Self {
        Self {
            source,
            size: Cell::new(0),
            header: OnceCell::new(),
            pages: RefCell::default(),
            spent: Cell::new(spent),
            changed: Cell::new(false),
        }
    }

    /// Reads the header. A file without a byte is a database without a table.
    pub(super) fn begin(&self) -> Result<(), Trouble> {
        self.size.set(self.source.size()?);
        if self.size.get() == 0 {
            return Ok(());
        }
        let mut first = [0; header::SIZE];
        let got = self.source.read_at(0, &mut first)?;
        let header = Header::parse(&first[..got])?;
        let own = self.header.get_or_init(|| header);
        // What was parsed must be what the first page has, which is compared in the end.
        if self.page(1)?.get(..header::SIZE) != Some(&first[..]) {
            self.changed.set(true);
            return Err(Trouble::Damaged { page: 1, what: "another header than before" });
        }
        let in_file = self.size.get() / own.page_size as u64;
        if own.pages.is_some_and(|pages| u64::from(pages) > in_file) {
            return Err(Trouble::Damaged { page: 1, what: "more pages than the file has" });
        }
        Ok(())
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent.get()
    }

    /// The header; `None` for a database without a table.
    pub(super) fn header(&self) -> Option<&Header> {
        self.header.get()
    }

    /// Bytes of a page that hold content.
    pub(super) fn usable(&self) -> usize {
        self.header().map_or(0, |h| h.usable)
    }

    /// Pages that there are.
    pub(super) fn count(&self) -> u32 {
        let Some(header) = self.header() else { return 0 };
        let in_file = u32::try_from(self.size.get() / header.page_size as u64).unwrap_or(u32::MAX);
        header.pages.unwrap_or(in_file)
    }

    /// A page, read at most once.
    pub(super) fn page(&self, number: u32) -> Result<Rc<Vec<u8>>, Trouble> {
        self.visit()?;
        if let Some(page) = self.pages.borrow().get(&number) {
            return Ok(Rc::clone(page));
        }
        let damaged = |what| Trouble::Damaged { page: number, what };
        if number == 0 || number > self.count() {
            return Err(damaged("beyond the pages there are"));
        }
        let page = Rc::new(self.read(number)?.ok_or(damaged("the file ends in it"))?);
        self.pages.borrow_mut().insert(number, Rc::clone(&page));
        Ok(page)
    }

    /// Reads a page; `None` when the file ends before it does.
    fn read(&self, number: u32) -> Result<Option<Vec<u8>>, Trouble> {
        let page_size = self.header().map_or(0, |h| h.page_size);
        let mut spent = self.spent.get();
        spent.bytes = spent.bytes.saturating_add(page_size);
        if spent.bytes > limits::VIEW {
            return Err(Trouble::TooMuch);
        }
        self.spent.set(spent);
        let mut bytes = vec![0; page_size];
        let at = u64::from(number - 1) * page_size as u64;
        let whole = self.source.read_at(at, &mut bytes)? == page_size;
        Ok(whole.then_some(bytes))
    }

    /// Counts a page or a cell that is looked at.
    pub(super) fn visit(&self) -> Result<(), Trouble> {
        let mut spent = self.spent.get();
        spent.visits += 1;
        self.spent.set(spent);
        if spent.visits > limits::VISITS { Err(Trouble::TooMuch) } else { Ok(()) }
    }

    /// Whether all that was read is still what the file has.
    pub(super) fn is_unchanged(&self) -> Result<bool, ReadError> {
        if self.changed.get() {
            return Ok(false);
        }
        let mut again = Vec::new();
        for (number, page) in self.pages.borrow().iter() {
            again.resize(page.len(), 0);
            let at = u64::from(*number - 1) * page.len() as u64;
            let got = self.source.read_at(at, &mut again)?;
            if got != page.len() || again != **page {
                return Ok(false);
            }
        }
        // Where not even the first page could be made out, its beginning is all that was read.
        Ok(self.source.size()? == self.size.get())
    }
}

/// The tables of a database in one view.
#[derive(Clone, Copy)]
pub struct Tables<'v> {
    view: &'v View<'v>,
}

impl<'v> Tables<'v> {
    pub(super) fn of(view: &'v View<'v>) -> Self {
        Self { view }
    }

    pub(super) fn view(&self) -> &'v View<'v> {
        self.view
    }

    /// The table of this name, whatever its case; `None` where there is none.
    ///
    /// # Errors
    /// See [`Trouble`]; `Unknown` for a view, a virtual table and one without rowids.
    pub fn table(&self, name: &str) -> Result<Option<Table<'v>>, Trouble> {
        schema::table(self.view, name)
    }

    /// Names of all tables that can be read.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn names(&self) -> Result<Vec<BString>, Trouble> {
        schema::names(self.view)
    }
}
