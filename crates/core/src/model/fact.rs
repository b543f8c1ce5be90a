//! A value with the reasons why it may be missing.

use whose_fields::Cell;

use super::Gap;

/// A fact about something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// Nobody asked.
    #[default]
    Unasked,
    /// It does not apply.
    Absent,
    /// It is this.
    Known(T),
    /// It applies and could not be read.
    Unread(Gap),
}

impl<T> Fact<T> {
    /// The value, if known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// The gap, if unread.
    pub fn gap(&self) -> Option<&Gap> {
        match self {
            Self::Unread(gap) => Some(gap),
            _ => None,
        }
    }

    /// The field's cell: `of` makes it from a known value.
    pub fn cell<'s>(&'s self, of: impl FnOnce(&'s T) -> Cell<'s>) -> Cell<'s> {
        match self {
            Self::Known(value) => of(value),
            Self::Unread(gap) => Cell::Unread(gap.class.name()),
            Self::Unasked | Self::Absent => Cell::Absent,
        }
    }
}

impl<T> From<Option<T>> for Fact<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Known)
    }
}
