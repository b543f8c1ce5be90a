//! `struct statmount` of include/uapi/linux/mount.h, as statmount(2) fills it (kernel 6.8).

use bstr::{BString, ByteSlice};

use super::mountinfo::Mount;
use crate::error::Malformed;

/// What is asked for: super block, mount, its root and point, type, subtype, source, options in both
/// forms.
pub const MASK: u64 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x80 | 0x100 | 0x200 | 0x400;
/// What must have been given: all but the subtype and the source, which not every mount has.
const REQUIRED: u64 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20;
/// The options as mountinfo has them: kernel 6.11.
const OPTIONS: u64 = 0x80;
/// The options, one by one and as they were typed: kernel 6.13.
const OPTION_ARRAY: u64 = 0x400;
/// Bytes before the strings.
const FIXED: usize = 512;

/// Parses it into what a line of mountinfo says, the mount point from the namespace's root. Before
/// 6.13 the source is not given, and the point is empty where that root does not lead to it.
///
/// # Errors
/// [`Malformed`] when a field that was asked for is missing, or a string has no end.
pub fn parse(bytes: &[u8]) -> Result<Mount, Malformed> {
    let short = Malformed("statmount is cut short");
    let word = |at: usize| {
        let part = bytes.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).ok_or(short)?;
        Ok::<u32, Malformed>(u32::from_ne_bytes(*part))
    };
    let mask = u64::from_ne_bytes(*bytes.get(8..16).and_then(|b| b.first_chunk()).ok_or(short)?);
    if mask & REQUIRED != REQUIRED {
        return Err(Malformed("statmount lacks a field"));
    }
    let text = |at: usize, bit: u64| -> Result<BString, Malformed> {
        if mask & bit == 0 {
            return Ok(BString::default());
        }
        let from = FIXED.saturating_add(word(at)? as usize);
        let rest = bytes.get(from..).ok_or(short)?;
        Ok(rest[..rest.find_byte(0).ok_or(short)?].into())
    };
    let mut fs_type = text(36, 0x20)?;
    let subtype = text(120, 0x100)?;
    if !subtype.is_empty() {
        fs_type.push(b'.');
        fs_type.extend_from_slice(&subtype);
    }
    let super_options = if mask & OPTION_ARRAY == 0 {
        text(4, OPTIONS)?
    } else {
        options(bytes, word(128)?, word(132)?)?
    };
    Ok(Mount {
        id: word(56)?,
        parent: word(60)?,
        device: (word(16)?, word(20)?),
        root: text(104, 0x8)?,
        point: text(108, 0x10)?,
        fs_type,
        source: text(124, 0x200)?,
        super_options,
    })
}

/// Joins the options, with commas and backslashes in them escaped as mountinfo escapes them.
fn options(bytes: &[u8], count: u32, at: u32) -> Result<BString, Malformed> {
    let short = Malformed("statmount is cut short");
    let mut rest = bytes.get(FIXED.saturating_add(at as usize)..).ok_or(short)?;
    let mut joined = Vec::new();
    for n in 0..count {
        let end = rest.find_byte(0).ok_or(short)?;
        if n > 0 {
            joined.push(b',');
        }
        for byte in &rest[..end] {
            match byte {
                b',' => joined.extend_from_slice(b"\\054"),
                b'\\' => joined.extend_from_slice(b"\\134"),
                other => joined.push(*other),
            }
        }
        rest = &rest[end + 1..];
    }
    Ok(joined.into())
}

#[cfg(test)]
mod tests {
    use super::{FIXED, MASK, parse};
    use crate::parse::overlay;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0_u8; FIXED];
        let mut put = |at: usize, text: &[u8]| {
            let offset = u32::try_from(bytes.len() - FIXED).unwrap();
            bytes[at..at + 4].copy_from_slice(&offset.to_ne_bytes());
            bytes.extend_from_slice(text);
            bytes.push(0);
        };
        put(36, b"overlay");
        put(120, b"");
        put(104, b"/");
        put(108, b"/m n");
        put(124, b"src");
        put(132, b"lowerdir=/a,b:/c\\:d\0upperdir=/u");
        for (at, number) in [(16, 0_u32), (20, 42), (56, 7), (60, 1), (128, 2)] {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes[8..16].copy_from_slice(&MASK.to_ne_bytes());
        bytes
    }

    #[test]
    fn as_a_line_of_mountinfo() {
        let mount = parse(&sample()).unwrap();
        assert_eq!((mount.id, mount.device), (7, (0, 42)));
        assert_eq!(
            (mount.point.as_slice(), mount.fs_type.as_slice()),
            (&b"/m n"[..], &b"overlay"[..])
        );
        let overlay = overlay::parse(mount.super_options.as_ref());
        assert_eq!(overlay.lowers, ["/a,b", "/c:d"]);
        assert_eq!(overlay.upper.unwrap(), "/u");
    }

    #[test]
    fn options_in_one_text_where_there_is_no_array() {
        let mut bytes = sample();
        bytes[8..16].copy_from_slice(&(MASK & !0x600).to_ne_bytes());
        let at = u32::try_from(bytes.len() - FIXED).unwrap();
        bytes[4..8].copy_from_slice(&at.to_ne_bytes());
        bytes.extend_from_slice(b"ro,lowerdir=/a\\054b:/c,upperdir=/u\0");
        let mount = parse(&bytes).unwrap();
        assert_eq!(mount.source, "");
        let overlay = overlay::parse(mount.super_options.as_ref());
        assert_eq!(overlay.lowers, ["/a,b", "/c"]);
        assert_eq!(overlay.upper.unwrap(), "/u");
    }

    #[test]
    fn any_cut_is_refused() {
        let whole = sample();
        for n in 0..whole.len() {
            assert!(parse(&whole[..n]).is_err(), "{n}");
        }
    }
}
