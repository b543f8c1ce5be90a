//! Names that break programs.

use super::rng::Rng;

/// Each follows a plain name that makes the whole one of its kind.
const ODD: &[&[u8]] = &[
    b" with space",
    b":colon",
    b",comma",
    b"\nnewline",
    b"\\backslash",
    b"\\012",
    b" (deleted)",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"\"quote",
    b"#hash",
    b"\ttab",
    b"%41",
    b"=equals",
    b"\\:\\,",
    b"//deleted",
];

/// A name that is `plain`, or begins so.
pub(super) fn name(rng: &mut Rng, plain: &str, odd_percent: usize) -> Vec<u8> {
    let mut name = plain.as_bytes().to_vec();
    if rng.chance(odd_percent)
        && let Some(odd) = rng.pick(ODD)
    {
        name.extend(odd.iter().filter(|byte| **byte != b'/'));
    }
    name
}

/// `dir/name`, or `name` alone below nothing.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The path's directory (empty at the top) and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// What follows `dir/` in `path`.
pub(super) fn below<'a>(dir: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    path.strip_prefix(dir)?.strip_prefix(b"/")
}
