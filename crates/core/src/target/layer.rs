//! A layer of an engine's store: `layer:NAME`, `layer:sha256:DIGITS`, or a beginning of either.

use bstr::{BStr, BString};

/// Fewest characters of a beginning.
const FEWEST: usize = 12;
/// Longest name of a directory (`NAME_MAX`).
const MOST: usize = 255;

/// What names a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its directory's name, or the beginning.
    Directory(BString),
    /// The digits of its chain id or diff id, or the beginning.
    Digest(BString),
}

/// What follows `layer:`.
#[must_use]
pub fn long(text: &BStr) -> Option<Name> {
    if let Some(digits) = text.strip_prefix(b"sha256:") {
        let hexadecimal = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let fits = (FEWEST..=64).contains(&digits.len());
        return (hexadecimal && fits).then(|| Name::Digest(digits.into()));
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let fits = (FEWEST..=MOST).contains(&text.len()) && text.iter().all(plain);
    fits.then(|| Name::Directory(text.into()))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Name, long};

    #[test]
    fn names_and_digests() {
        let of = |text: &str| long(BStr::new(text));
        assert_eq!(of("733b57e47063"), Some(Name::Directory("733b57e47063".into())));
        assert_eq!(of("733b57e47063-init"), Some(Name::Directory("733b57e47063-init".into())));
        assert_eq!(of("sha256:733b57e47063"), Some(Name::Digest("733b57e47063".into())));
        for bad in ["", "733b57e4706", "sha256:", "sha256:733b57e4706", "sha256:733B57E47063"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for bad in ["../../../../../etc", "aaaaaaaaaaaa/diff", "aaaaaaaaaaaa\n"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(of(&"a".repeat(256)), None);
        assert_eq!(of(&format!("sha256:{}", "a".repeat(65))), None);
    }
}
