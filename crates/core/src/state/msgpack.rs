//! MessagePack, as far as one looks for a few values in a large one (msgpack/msgpack spec.md). Nothing is
//! recursive: what is nested as deep as its writer likes is skipped by counting.

/// Most elements of one list that are taken.
const MOST: usize = 100_000;

/// What a value begins with; of a list or a map that is its head, and what is in it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'b> {
    /// A string, or bytes: old writers do not tell one from the other.
    Text(&'b [u8]),
    /// A whole number.
    Int(i128),
    /// So many elements.
    List(usize),
    /// So many pairs.
    Map(usize),
    /// Anything else.
    Other,
}

/// Reads one head and goes past it.
///
/// # Errors
/// When it is cut short, or no MessagePack.
pub fn head<'b>(bytes: &mut &'b [u8]) -> Result<Head<'b>, String> {
    let code = take(bytes, 1)?[0];
    // Numbers of 1, 2, 4 and 8 bytes have neighbouring codes.
    let wide = |from: u8| 1_usize << (code - from);
    Ok(match code {
        0x00..=0x7f => Head::Int(i128::from(code)),
        0x80..=0x8f => Head::Map(usize::from(code & 0x0f)),
        0x90..=0x9f => Head::List(usize::from(code & 0x0f)),
        0xa0..=0xbf => Head::Text(take(bytes, usize::from(code & 0x1f))?),
        0xc4..=0xc6 => text(bytes, wide(0xc4))?,
        0xc7..=0xc9 => {
            let len = length(bytes, wide(0xc7))?;
            take(bytes, len.saturating_add(1))?;
            Head::Other
        }
        0xca => other(bytes, 4)?,
        0xcb => other(bytes, 8)?,
        0xcc..=0xcf => Head::Int(i128::from(number(bytes, wide(0xcc))?)),
        0xd0..=0xd3 => {
            let wide = wide(0xd0);
            let bits = 64 - 8 * u32::try_from(wide).unwrap_or(8);
            let number = number(bytes, wide)? << bits;
            Head::Int(i128::from(number.cast_signed() >> bits))
        }
        0xd4..=0xd8 => other(bytes, wide(0xd4) + 1)?,
        0xd9..=0xdb => text(bytes, wide(0xd9))?,
        0xdc | 0xdd => Head::List(length(bytes, wide(0xdc) * 2)?),
        0xde | 0xdf => Head::Map(length(bytes, wide(0xde) * 2)?),
        0xe0..=0xff => Head::Int(i128::from(code.cast_signed())),
        0xc0..=0xc3 => Head::Other,
    })
}

/// The value under these names, one map in another; `None` where there is no such name, or no map.
///
/// # Errors
/// When it is cut short, or no MessagePack.
pub fn at<'b>(mut value: &'b [u8], path: &[&str]) -> Result<Option<&'b [u8]>, String> {
    for name in path {
        let Some(inner) = field(value, name)? else { return Ok(None) };
        value = inner;
    }
    Ok(Some(value))
}

/// The text under these names; `None` for an empty one too.
///
/// # Errors
/// As [`at`].
pub fn text_at<'b>(value: &'b [u8], path: &[&str]) -> Result<Option<&'b [u8]>, String> {
    let Some(mut found) = at(value, path)? else { return Ok(None) };
    Ok(match head(&mut found)? {
        Head::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    })
}

/// The whole number under these names.
///
/// # Errors
/// As [`at`].
pub fn int_at(value: &[u8], path: &[&str]) -> Result<Option<i128>, String> {
    let Some(mut found) = at(value, path)? else { return Ok(None) };
    Ok(match head(&mut found)? {
        Head::Int(number) => Some(number),
        _ => None,
    })
}

/// The elements of a list; none of anything else.
///
/// # Errors
/// When it is cut short, no MessagePack, or has too many.
pub fn elements(mut value: &[u8]) -> Result<Vec<&[u8]>, String> {
    let Head::List(count) = head(&mut value)? else { return Ok(Vec::new()) };
    if count > MOST {
        return Err("a list of more elements than any of these has".into());
    }
    (0..count).map(|_| whole(&mut value)).collect()
}

fn field<'b>(mut map: &'b [u8], name: &str) -> Result<Option<&'b [u8]>, String> {
    let Head::Map(pairs) = head(&mut map)? else { return Ok(None) };
    for _ in 0..pairs {
        let mut key = whole(&mut map)?;
        let value = whole(&mut map)?;
        if head(&mut key)? == Head::Text(name.as_bytes()) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The bytes of one whole value, gone past.
fn whole<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], String> {
    let before = *bytes;
    let mut pending = 1_usize;
    while pending > 0 {
        pending -= 1;
        pending = pending.saturating_add(match head(bytes)? {
            Head::List(count) => count,
            Head::Map(pairs) => pairs.saturating_mul(2),
            _ => 0,
        });
        // Each takes a byte at least.
        if pending > bytes.len() {
            return Err(SHORT.into());
        }
    }
    Ok(&before[..before.len() - bytes.len()])
}

const SHORT: &str = "MessagePack cut short";

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8], String> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(SHORT)?;
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8], len: usize) -> Result<u64, String> {
    Ok(take(bytes, len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn length(bytes: &mut &[u8], len: usize) -> Result<usize, String> {
    Ok(usize::try_from(number(bytes, len)?).unwrap_or(usize::MAX))
}

fn text<'b>(bytes: &mut &'b [u8], wide: usize) -> Result<Head<'b>, String> {
    let len = length(bytes, wide)?;
    take(bytes, len).map(Head::Text)
}

fn other<'b>(bytes: &mut &'b [u8], len: usize) -> Result<Head<'b>, String> {
    take(bytes, len).map(|_| Head::Other)
}

#[cfg(test)]
mod tests {
    use super::{Head, at, elements, head, int_at, text_at};

    #[test]
    fn heads_of_every_kind() {
        fn one(mut bytes: &[u8]) -> Result<Head<'_>, String> {
            let read = head(&mut bytes);
            assert!(read.is_err() || bytes.is_empty(), "{bytes:?}");
            read
        }
        assert_eq!(one(b"\x07"), Ok(Head::Int(7)));
        assert_eq!(one(b"\xff"), Ok(Head::Int(-1)));
        assert_eq!(one(b"\xa3abc"), Ok(Head::Text(b"abc")));
        assert_eq!(one(b"\xd9\x01a"), Ok(Head::Text(b"a")));
        assert_eq!(one(b"\xda\x00\x01a"), Ok(Head::Text(b"a")));
        assert_eq!(one(b"\xdb\x00\x00\x00\x01a"), Ok(Head::Text(b"a")));
        assert_eq!(one(b"\xc5\x00\x01a"), Ok(Head::Text(b"a")));
        assert_eq!(one(b"\xcd\x01\x00"), Ok(Head::Int(256)));
        assert_eq!(one(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(Head::Int(u64::MAX.into())));
        assert_eq!(one(b"\xd0\xfe"), Ok(Head::Int(-2)));
        assert_eq!(one(b"\xd3\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(Head::Int(-2)));
        assert_eq!(one(b"\xdc\x01\x00"), Ok(Head::List(256)));
        assert_eq!(one(b"\xdf\x00\x01\x00\x00"), Ok(Head::Map(65536)));
        for other in [&b"\xc0"[..], b"\xc3", b"\xcaAAAA", b"\xcbAAAAAAAA", b"\xd4\x01A"] {
            assert_eq!(one(other), Ok(Head::Other), "{other:?}");
        }
        assert_eq!(one(b"\xd8\x01AAAAAAAAAAAAAAAA"), Ok(Head::Other));
        assert_eq!(one(b"\xc7\x02\x01AA"), Ok(Head::Other));
        for short in [&b""[..], b"\xa3ab", b"\xcd\x01", b"\xd9", b"\xc7\x02\x01A", b"\xdd\x00"] {
            assert!(one(short).is_err(), "{short:?}");
        }
    }

    #[test]
    fn values_by_their_names() {
        // {"a": {"x": [1, {}], "b": "text", "n": -3}, "e": ""}
        let bytes = b"\x82\xa1a\x83\xa1x\x92\x01\x80\xa1b\xa4text\xa1n\xfd\xa1e\xa0";
        assert_eq!(text_at(bytes, &["a", "b"]), Ok(Some(&b"text"[..])));
        assert_eq!(int_at(bytes, &["a", "n"]), Ok(Some(-3)));
        assert_eq!(text_at(bytes, &["e"]), Ok(None));
        assert_eq!(at(bytes, &["a", "b", "c"]), Ok(None));
        assert_eq!(at(bytes, &["none"]), Ok(None));
        let list = at(bytes, &["a", "x"]).unwrap().unwrap();
        assert_eq!(elements(list), Ok(vec![&b"\x01"[..], b"\x80"]));
        assert_eq!(elements(b"\xa1a"), Ok(vec![]));
        assert!(at(&bytes[..8], &["a", "b"]).is_err());
    }

    #[test]
    fn neither_depth_nor_counts_cost_anything() {
        let deep = [vec![0x91; 4 << 20], vec![0x01]].concat();
        assert_eq!(elements(&deep).unwrap().len(), 1);
        // A list that says it has more than there are bytes.
        assert!(elements(b"\x91\xdd\xff\xff\xff\xff\x01").is_err());
        assert!(elements(b"\xdd\xff\xff\xff\xff\x01").is_err());
        assert!(at(b"\xdf\xff\xff\xff\xff\x01\x01", &["a"]).is_err());
    }
}
