//! `/proc/PID/uid_map` and `gid_map` (user_namespaces(7)).

use super::{decimal32, words};
use crate::error::Malformed;

/// One extent: ids `inside..inside+count` are `outside..outside+count` for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First id inside the user namespace.
    pub inside: u32,
    /// First id as the reader's user namespace sees it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Parses the file; at most 340 extents (kernel 4.15).
///
/// # Errors
/// [`Malformed`] when a line has no three numbers.
pub fn parse(bytes: &[u8]) -> Result<Vec<Extent>, Malformed> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).map(extent).collect()
}

fn extent(line: &[u8]) -> Result<Extent, Malformed> {
    let mut fields = words(line);
    let mut next = || fields.next().and_then(decimal32).ok_or(Malformed("bad id map line"));
    let extent = Extent { inside: next()?, outside: next()?, count: next()? };
    if fields.next().is_some() { Err(Malformed("bad id map line")) } else { Ok(extent) }
}

/// The id inside for an id outside, if it is mapped.
#[must_use]
pub fn inside(map: &[Extent], outside: u32) -> Option<u32> {
    map.iter().find_map(|e| {
        let offset = outside.checked_sub(e.outside).filter(|o| *o < e.count)?;
        e.inside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::{Extent, inside, parse};

    #[test]
    fn maps_both_ends_of_an_extent() {
        let map =
            parse(b"         0       1000          1\n         1     100000      65536\n").unwrap();
        assert_eq!(map[1], Extent { inside: 1, outside: 100_000, count: 65_536 });
        assert_eq!(inside(&map, 1000), Some(0));
        assert_eq!(inside(&map, 165_535), Some(65_536));
        assert_eq!(inside(&map, 165_536), None);
        assert_eq!(inside(&map, 0), None);
    }

    #[test]
    fn refuses_bad_lines() {
        for bad in ["1 2\n", "1 2 3 4\n", "a b c\n", "-1 0 1\n"] {
            assert!(parse(bad.as_bytes()).is_err());
        }
        assert_eq!(parse(b"").unwrap(), []);
    }
}
