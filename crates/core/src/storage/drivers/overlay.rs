//! overlay, which moby no longer has: image layers hold all files in `root`, containers have `upper`.

use bstr::{BStr, BString};

use crate::storage::{Driver, Part};

/// See the module.
#[derive(Debug)]
pub(in crate::storage) struct Overlay;

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn stores(&self) -> &'static [&'static str] {
        &["overlay"]
    }

    fn stacks(&self) -> bool {
        true
    }

    fn files(&self, _store: &str, name: &BStr) -> BString {
        [&b"overlay/"[..], name, b"/root"].concat().into()
    }

    fn part<'r>(&self, _store: &str, rest: &'r BStr) -> (Part, Option<&'r BStr>) {
        super::by_folder(rest, &["root", "upper"], Some("merged"))
    }
}
