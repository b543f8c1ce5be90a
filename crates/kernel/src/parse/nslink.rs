//! The text of `/proc/PID/ns/*` links (namespaces(7)): `pid:[4026531836]`.

use super::decimal;
use crate::error::Malformed;

/// The namespace's inode number. `kind` is the word before the colon.
///
/// # Errors
/// [`Malformed`] when the text is not `kind:[N]`.
pub fn parse(bytes: &[u8], kind: &[u8]) -> Result<u64, Malformed> {
    let inner = bytes
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix(b":["))
        .and_then(|rest| rest.strip_suffix(b"]"));
    inner.and_then(decimal).ok_or(Malformed("not a namespace link"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_the_inode() {
        assert_eq!(parse(b"pid:[4026531836]", b"pid"), Ok(4_026_531_836));
        for bad in [&b"mnt:[1]"[..], b"pid:[]", b"pid:[1", b"pid:[x]", b"", b"/etc"] {
            assert!(parse(bad, b"pid").is_err());
        }
    }
}
