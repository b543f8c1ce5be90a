//! overlay2: `overlay2/<name>/{diff,link,lower,work,merged,committed}`, and `overlay2/l/<short>`, a
//! link to `../<name>/diff` (moby daemon/graphdriver/overlay2/overlay.go).

use bstr::{BStr, BString};

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Overlay2;

impl Driver for Overlay2 {
    fn name(&self) -> &'static str {
        "overlay2"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["overlay2"]
    }

    fn stacks(&self) -> bool {
        true
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"overlay2/"[..], name, b"/diff"].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        super::by_folder(rest, &["diff"], Some("merged"))
    }
}
