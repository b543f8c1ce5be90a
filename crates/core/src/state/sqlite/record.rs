//! Records: what a row's bytes say.

use bstr::BString;

/// A column's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None; also a column that was added to the table after the row, and one that is the rowid.
    Null,
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text, in UTF-8 as its writer had it.
    Text(BString),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// The bytes of a text or blob: which of both a program binds is its own affair.
    #[must_use]
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Blob(bytes) => Some(bytes),
            Self::Null | Self::Int(_) | Self::Real(_) => None,
        }
    }
}

/// A number of 1 to 9 bytes, and where it ends.
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut number = 0_u64;
    for n in 0..8 {
        let byte = *bytes.get(at + n)?;
        number = number << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some((number.cast_signed(), at + n + 1));
        }
    }
    let last = *bytes.get(at + 8)?;
    Some(((number << 8 | u64::from(last)).cast_signed(), at + 9))
}

/// Bytes that a value of this serial type has; `None` for one that there is not.
pub(super) fn len_of(serial: i64) -> Option<usize> {
    match serial {
        0 | 8 | 9 => Some(0),
        1..=4 => usize::try_from(serial).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        12.. => usize::try_from((serial - 12) / 2).ok(),
        _ => None,
    }
}

/// A value of this serial type, whose bytes are these.
pub(super) fn value(serial: i64, bytes: &[u8]) -> Value {
    match serial {
        8 => Value::Int(0),
        9 => Value::Int(1),
        1..=6 => {
            // The sign is the first bit's.
            let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
            let start = if negative { -1 } else { 0 };
            Value::Int(bytes.iter().fold(start, |n: i64, byte| n << 8 | i64::from(*byte)))
        }
        7 => {
            let real = bytes.first_chunk().map_or(0.0, |b| f64::from_be_bytes(*b));
            Value::Real(real)
        }
        12.. if serial % 2 == 0 => Value::Blob(bytes.to_vec()),
        13.. => Value::Text(bytes.into()),
        _ => Value::Null,
    }
}
