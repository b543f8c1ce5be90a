//! The field registry: every column, sort key and JSON key of `whose`, defined once.
//!
//! Columns, sorting, JSON, CSV and help derive from [`FIELDS`]. A record answers
//! [`Record::get`] for a field and does no I/O in it.

mod cell;
mod needs;
mod registry;

pub use cell::{Cell, Pair, Record};
pub use needs::{Needs, Stage};
pub use registry::{FIELDS, Field, FieldId, Type, Unit, closest, find};
