//! A volume of an engine's own: `volume:NAME`.

use bstr::{BStr, BString};

/// Longest name of a directory (`NAME_MAX`).
const MOST: usize = 255;

/// What names a volume, in whichever store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub BString);

/// What follows `volume:`, by the rule that all engines have for it (moby
/// daemon/names/names.go, podman libpod/define/config.go).
#[must_use]
pub fn long(text: &BStr) -> Option<Name> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let begins = text.first().is_some_and(u8::is_ascii_alphanumeric);
    (begins && text.len() <= MOST && text.iter().all(plain)).then(|| Name(text.into()))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::long;

    #[test]
    fn names_of_volumes() {
        let of = |text: &str| long(BStr::new(text)).map(|name| name.0);
        for name in ["a", "db_data-1.x", "4761", &"f".repeat(64)] {
            assert_eq!(of(name).unwrap(), name);
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "../x", "a b", &"a".repeat(256)] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
