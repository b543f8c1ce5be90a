//! protobuf's `Any`: the name of a type (field 1) and a value (field 2).

use bstr::BStr;

/// An `Any`; a field that is not there is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Any<'b> {
    /// The type's name.
    pub type_url: &'b BStr,
    /// The value's bytes.
    pub value: &'b [u8],
}

/// Parses a message. Fields that are not known are left out, and of one that is there twice the last
/// one counts, as protobuf has it.
///
/// # Errors
/// What is wrong with it.
pub fn parse(mut bytes: &[u8]) -> Result<Any<'_>, String> {
    let mut any = Any::default();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => take(&mut bytes, 8)?,
            2 => {
                let len = varint(&mut bytes)?;
                take(&mut bytes, usize::try_from(len).unwrap_or(usize::MAX))?
            }
            5 => take(&mut bytes, 4)?,
            _ => return Err("no protobuf message".into()),
        };
        match tag {
            0x0a => any.type_url = field.into(),
            0x12 => any.value = field,
            _ => {}
        }
    }
    Ok(any)
}

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8], String> {
    let (field, rest) = bytes.split_at_checked(len).ok_or("a protobuf message cut short")?;
    *bytes = rest;
    Ok(field)
}

/// An unsigned number of 7 bits a byte, the lowest first; the same as Go's `binary.Uvarint`.
///
/// # Errors
/// When it is cut short or has more than 64 bits.
pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && *byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(number);
        }
    }
    Err("a number cut short or too large".into())
}

#[cfg(test)]
mod tests {
    use super::{Any, parse, varint};

    #[test]
    fn two_fields_and_unknown_ones() {
        let bytes = b"\x0a\x03abc\x12\x04\xff\x00{}";
        assert_eq!(parse(bytes), Ok(Any { type_url: "abc".into(), value: b"\xff\x00{}" }));
        assert_eq!(parse(b""), Ok(Any::default()));
        // Field 3 of each kind before, and the value twice.
        let bytes = b"\x18\x96\x01\x19AAAAAAAA\x1dBBBB\x1a\x01C\x12\x01a\x12\x01b";
        assert_eq!(parse(bytes).unwrap().value, b"b");
        for bad in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x1b\x1c",
            b"\x80",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_have_64_bits() {
        let of = |mut bytes: &[u8]| varint(&mut bytes).map(|n| (n, bytes.len()));
        assert_eq!(of(b"\x00\x01"), Ok((0, 1)));
        assert_eq!(of(b"\xac\x02"), Ok((300, 0)));
        assert_eq!(of(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok((u64::MAX, 0)));
        assert!(of(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").is_err());
        assert!(of(b"\x80").is_err() && of(b"").is_err());
    }
}
