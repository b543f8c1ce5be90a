//! A captured tree's own word: what could not be read, whom files belonged to, what time it was.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};

use super::{Entry, Failure};
use crate::error::{Class, ReadError};
use crate::live::{Known, Live};
use crate::look::Look;

/// The clocks and limits of the host at the time of the capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Nanoseconds since boot, suspended time included.
    pub since_boot: u64,
    /// The moment of the boot, nanoseconds since 1970.
    pub boot_moment: i128,
    /// Clock ticks a second.
    pub ticks_per_second: u64,
    /// Bytes a page.
    pub page_size: u64,
    /// The effective uid that the capture was made by.
    pub euid: u32,
}

impl Live for Clocks {
    fn since_boot(&self) -> Known<(u64, u32)> {
        let nanos = u32::try_from(self.since_boot % 1_000_000_000).map_err(|_| Class::Malformed)?;
        Ok((self.since_boot / 1_000_000_000, nanos))
    }

    fn boot_moment(&self) -> Known<i128> {
        Ok(self.boot_moment)
    }

    fn ticks_per_second(&self) -> Known<u64> {
        Ok(self.ticks_per_second)
    }

    fn page_size(&self) -> Known<u64> {
        Ok(self.page_size)
    }

    fn euid(&self) -> Known<u32> {
        Ok(self.euid)
    }
}

/// The manifest of a saved tree that was captured.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The whole host was captured, and not only what was asked for.
    pub is_whole: bool,
    /// Other users' processes were hidden from who made it.
    pub hides_processes: bool,
    /// The host's clocks.
    pub clocks: Clocks,
    /// By path; see [`Entry`].
    pub entries: HashMap<BString, Entry>,
    /// Where the tree lies now; set when a host is opened for it.
    pub top: BString,
}

impl Recorded {
    /// The read error that was met at this path when the capture was made; `shown` is its path here.
    pub(crate) fn failure(
        &self,
        key: &BString,
        shown: impl FnOnce() -> BString,
    ) -> Option<ReadError> {
        let entry = self.entries.get(key)?;
        if let Some(failure) = entry.failure.as_ref().filter(|f| !f.is_refusal) {
            return Some(self.error(failure, shown));
        }
        let unread = || ReadError::new(shown(), Class::Unsupported, "its content was not captured");
        entry.is_unread.then(unread)
    }

    /// A failure as an error of this tree.
    fn error(&self, failure: &Failure, shown: impl FnOnce() -> BString) -> ReadError {
        let elsewhere = |path: &BString| {
            let top = self.top.trim_end_with(|c| c == '/');
            BString::from([top, b"/", path].concat())
        };
        let path = failure.path.as_ref().map_or_else(shown, elsewhere);
        ReadError::new(path, failure.class, failure.cause.clone())
    }

    /// Why a read of this tree failed: as it did when the capture was made, or because nobody asked
    /// for that file then. What is not there at all is only known for processes and cgroups, of which
    /// the capture tells that too; an engine has no file that it must have.
    pub(crate) fn explain(&self, key: &BString, error: ReadError) -> ReadError {
        if let Some(met) = self.failure(key, || error.path.clone()) {
            return met;
        }
        let of_kernel = key.starts_with(b"sys/");
        if error.class == Class::Gone && of_kernel {
            return ReadError::new(error.path, Class::Unsupported, "it was not captured");
        }
        error
    }

    /// Whether a process ended while the capture was made.
    pub(crate) fn gone(&self, key: &BString) -> bool {
        let failure = self.entries.get(key).and_then(|e| e.failure.as_ref());
        failure.is_some_and(|f| f.class == Class::Gone)
    }

    /// Why what lies at this path was not touched.
    pub(crate) fn refusal(
        &self,
        key: &BString,
        shown: impl FnOnce() -> BString,
    ) -> Option<ReadError> {
        let failure = self.entries.get(key)?.failure.as_ref().filter(|f| f.is_refusal)?;
        Some(self.error(failure, shown))
    }

    /// What was told of a path without reading it.
    pub(crate) fn look(&self, key: &BString) -> Option<Look> {
        self.entries.get(key)?.look
    }
}
