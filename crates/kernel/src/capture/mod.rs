//! Saving what an answer was read from, and answering from that later.
//!
//! While a [`Recorder`] is there, every read beneath a root and of a process is written to its
//! directory as it happens: the saved tree holds what was read and nothing else. What a tree can't
//! hold goes to its manifest, an [`Entry`] a path: owners, devices, what could not be read and why.
//! [`Recorded`] is that manifest when the tree is asked.

mod recorded;
mod recorder;
mod tree;

use std::borrow::Cow;
use std::rc::Rc;

use bstr::BString;

use crate::error::Class;
use crate::look::Look;
pub use recorded::{Clocks, Recorded};
pub use recorder::{Recorder, Redact, Totals};

/// What the manifest of a capture says of one path. Paths are those of the host without the first
/// slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What was told of it without reading it.
    pub look: Option<Look>,
    /// Overlay attributes, `trusted.overlay.*` and `user.overlay.*`.
    pub attributes: Vec<(BString, BString)>,
    /// It is a regular file, and was looked at only.
    pub is_unread: bool,
    /// It is a directory with nothing captured in it.
    pub is_empty: bool,
    /// Why it could not be read.
    pub failure: Option<Failure>,
}

/// A read that failed while the capture was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// The reason, for people.
    pub cause: Cow<'static, str>,
    /// It was not even tried, because of what it lies on.
    pub is_refusal: bool,
    /// What failed to be read, where that is another path.
    pub path: Option<BString>,
}

/// What goes with every read beneath one root.
#[derive(Clone, Debug)]
pub(crate) enum Tape {
    /// It is written down.
    Recording(Rc<Recorder>),
    /// It was written down.
    Recorded(Rc<Recorded>),
}

/// Where in the captured host a root lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tape: Tape,
    /// Its path from the top, without a first slash; empty for the top itself.
    pub(crate) at: BString,
}

impl Place {
    pub(crate) fn recorder(&self) -> Option<&Rc<Recorder>> {
        match &self.tape {
            Tape::Recording(recorder) => Some(recorder),
            Tape::Recorded(_) => None,
        }
    }

    pub(crate) fn recorded(&self) -> Option<&Rc<Recorded>> {
        match &self.tape {
            Tape::Recording(_) => None,
            Tape::Recorded(recorded) => Some(recorded),
        }
    }

    /// The place of a name beneath.
    pub(crate) fn beneath(&self, rel: &[u8]) -> BString {
        joined(&self.at, rel)
    }
}

/// `at` and a name beneath it as one path, without a first slash, `.` and empty parts.
pub(crate) fn joined(at: &[u8], rel: &[u8]) -> BString {
    let parts = at.split(|b| *b == b'/').chain(rel.split(|b| *b == b'/'));
    let parts: Vec<&[u8]> = parts.filter(|p| !p.is_empty() && *p != b".").collect();
    parts.join(&b'/').into()
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn places_have_one_spelling() {
        assert_eq!(joined(b"", b"/var//lib/"), "var/lib");
        assert_eq!(joined(b"var/lib", b"./docker"), "var/lib/docker");
        assert_eq!(joined(b"a", b""), "a");
        assert_eq!(joined(b"", b"."), "");
    }
}
