//! JSON of limited size from files that anything may have happened to.

use serde::de::DeserializeOwned;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

/// Largest JSON file taken, bytes.
pub const CAP: usize = 8 << 20;

/// Reads a file beneath the root into `T`. Nesting is limited by the parser (128 levels).
///
/// # Errors
/// The read's, or `malformed` when it is not JSON of that shape or not UTF-8.
pub fn read<T: DeserializeOwned>(root: &Root, rel: &[u8]) -> Result<T, ReadError> {
    let bytes = root.read_of_admin(rel, CAP)?;
    parse(&bytes).map_err(|why| ReadError::new(root.join(rel), Class::Malformed, why))
}

/// Parses bytes into `T`.
///
/// # Errors
/// What is wrong, and at which line and column.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.is_empty() {
        return Err("empty".into());
    }
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = match e.classify() {
            serde_json::error::Category::Eof => "JSON cut short",
            serde_json::error::Category::Syntax => "not JSON",
            _ => "JSON of another shape",
        };
        format!("{kind} at line {} column {}", e.line(), e.column())
    })
}
