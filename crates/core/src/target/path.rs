//! A path of the host: a leading slash, or `path:/...`.

use bstr::{BStr, BString};

/// An absolute path, not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath(pub BString);

/// The path that a text with a leading slash is. No path has a NUL in it.
#[must_use]
pub fn bare(text: &BStr) -> Option<HostPath> {
    (text.starts_with(b"/") && !text.contains(&0)).then(|| HostPath(text.into()))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::bare;

    #[test]
    fn only_absolute_ones() {
        assert!(bare(BStr::new("/")).is_some() && bare(BStr::new("/a/../b c")).is_some());
        for text in ["", "a", "./a", "~/a", "/a\0b"] {
            assert!(bare(BStr::new(text)).is_none(), "{text:?}");
        }
    }
}
