//! protobuf messages of which a few fields are looked for (protobuf's encoding.md).

use super::containerd::any::varint;

/// A field with bytes: a text or another message.
pub type Field<'b> = (u64, &'b [u8]);

/// The fields of a message that have bytes, in their order. Numbers are left out.
///
/// # Errors
/// When it is cut short, or no message.
pub fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let len = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).unwrap_or(usize::MAX),
            5 => 4,
            _ => return Err("no protobuf message".into()),
        };
        let (field, rest) = bytes.split_at_checked(len).ok_or("a protobuf message cut short")?;
        bytes = rest;
        if tag & 7 == 2 {
            fields.push((tag >> 3, field));
        }
    }
    Ok(fields)
}

/// What is at the end of these field numbers, one message in another; of one that is there twice the last
/// counts.
///
/// # Errors
/// As [`fields`].
pub fn at<'b>(mut message: &'b [u8], path: &[u64]) -> Result<Option<&'b [u8]>, String> {
    for number in path {
        let found = fields(message)?.into_iter().rev().find(|(own, _)| own == number);
        let Some((_, inner)) = found else { return Ok(None) };
        message = inner;
    }
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::{at, fields};

    #[test]
    fn fields_by_their_numbers() {
        // 1: 150, 2: {1: "a"}, 2: {1: "b"}, 3: 32 bits, 4: 64 bits
        let bytes = b"\x08\x96\x01\x12\x03\x0a\x01a\x12\x03\x0a\x01b\x1dAAAA\x21BBBBBBBB";
        assert_eq!(fields(bytes).unwrap().len(), 2);
        assert_eq!(at(bytes, &[2, 1]), Ok(Some(&b"b"[..])));
        assert_eq!(at(bytes, &[5]), Ok(None));
        for wrong in [&b"\x12\x05a"[..], b"\x0b", b"\x12", b"\x1dAA"] {
            assert!(fields(wrong).is_err(), "{wrong:?}");
        }
    }
}
