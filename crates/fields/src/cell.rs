//! Values of fields.

use std::borrow::Cow;

use crate::registry::FieldId;

/// A name and its value.
pub type Pair<'r> = (Cow<'r, [u8]>, Cow<'r, [u8]>);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'r> {
    /// It does not apply, or was not asked for: an omitted key.
    Absent,
    /// It applies and could not be read: null and a gap. Holds the gap's class.
    Unread(&'static str),
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A number with a fraction.
    Float(f64),
    /// Bytes that are usually text.
    Bytes(Cow<'r, [u8]>),
    /// Milliseconds since 1970, UTC.
    Time(i64),
    /// Several values.
    List(Vec<Cell<'r>>),
    /// Names and values, sorted by name.
    Map(Vec<Pair<'r>>),
}

impl<'r> Cell<'r> {
    /// A text cell that borrows.
    #[must_use]
    pub fn text(bytes: &'r (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::Bytes(Cow::Borrowed(bytes.as_ref()))
    }

    /// The order of sorting: numbers by value, bytes by bytes, missing values last.
    #[must_use]
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        use std::cmp::Ordering;
        let missing = |c: &Self| matches!(c, Self::Absent | Self::Unread(_));
        match (self, other) {
            (a, b) if missing(a) || missing(b) => missing(a).cmp(&missing(b)),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Uint(a), Self::Uint(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => {
                let each = a.iter().zip(b).map(|(a, b)| a.order(b));
                each.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            _ => Ordering::Equal, // a field has one type
        }
    }

    /// Whether there is nothing to compare.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Absent | Self::Unread(_))
    }
}

/// Something that has fields.
pub trait Record {
    /// The field's value; no I/O.
    fn get(&self, field: FieldId) -> Cell<'_>;
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Cell;

    #[test]
    fn numbers_by_value_and_missing_last() {
        assert_eq!(Cell::Uint(9).order(&Cell::Uint(10)), Ordering::Less);
        assert_eq!(Cell::Absent.order(&Cell::Uint(10)), Ordering::Greater);
        assert_eq!(Cell::Uint(1).order(&Cell::Unread("gone")), Ordering::Less);
        assert_eq!(Cell::text("a").order(&Cell::text("b")), Ordering::Less);
        assert_eq!(Cell::Float(0.5).order(&Cell::Float(0.25)), Ordering::Greater);
    }
}
