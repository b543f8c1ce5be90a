//! protobuf messages of which a few fields are looked for (protobuf's encoding.md).

use super::containerd::any::varint;

/// A field with bytes: a text or another message.
pub type Field<'b> = (u64, &'b [u8]);

/// The fields of a message that have bytes, in their order. Numbers are left out. Nothing is kept of them, so that a
/// message of many costs no memory.
#[must_use]
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

/// See [`fields`]. After an error, when it is cut short or no message, there is nothing more.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<Field<'b>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step().transpose();
        if matches!(next, Some(Err(_))) {
            self.rest = &[];
        }
        next
    }
}

impl<'b> Fields<'b> {
    fn step(&mut self) -> Result<Option<Field<'b>>, String> {
        while !self.rest.is_empty() {
            let tag = varint(&mut self.rest)?;
            let len = match tag & 7 {
                0 => {
                    varint(&mut self.rest)?;
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint(&mut self.rest)?).unwrap_or(usize::MAX),
                5 => 4,
                _ => return Err("no protobuf message".into()),
            };
            let split = self.rest.split_at_checked(len);
            let (field, rest) = split.ok_or("a protobuf message cut short")?;
            self.rest = rest;
            if tag & 7 == 2 {
                return Ok(Some((tag >> 3, field)));
            }
        }
        Ok(None)
    }
}

/// What is at the end of these field numbers, one message in another; of one that is there twice the last
/// counts.
///
/// # Errors
/// When one of them is cut short, or no message.
pub fn at<'b>(mut message: &'b [u8], path: &[u64]) -> Result<Option<&'b [u8]>, String> {
    for number in path {
        let mut found = None;
        for field in fields(message) {
            let (own, inner) = field?;
            if own == *number {
                found = Some(inner);
            }
        }
        let Some(inner) = found else { return Ok(None) };
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
        let numbers: Result<Vec<u64>, String> = fields(bytes).map(|f| Ok(f?.0)).collect();
        assert_eq!(numbers, Ok(vec![2, 2]));
        assert_eq!(at(bytes, &[2, 1]), Ok(Some(&b"b"[..])));
        assert_eq!(at(bytes, &[5]), Ok(None));
        // One after the other, none kept.
        assert_eq!(fields(&b"\x0a\x00".repeat(1 << 20)).take(3).count(), 3);
        for wrong in [&b"\x12\x05a"[..], b"\x0b", b"\x12", b"\x1dAA"] {
            let told: Vec<bool> = fields(wrong).map(|field| field.is_err()).collect();
            assert_eq!((told, at(wrong, &[2]).is_err()), (vec![true], true), "{wrong:?}");
        }
    }
}
