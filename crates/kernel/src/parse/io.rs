//! `/proc/PID/io` (proc_pid_io(5)); needs ptrace read access.

use super::decimal;
use crate::error::Malformed;

/// Bytes moved to and from storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// `read_bytes`.
    pub read_bytes: u64,
    /// `write_bytes`.
    pub write_bytes: u64,
}

/// Parses the file.
///
/// # Errors
/// [`Malformed`] when either line is missing or holds no number.
pub fn parse(bytes: &[u8]) -> Result<Io, Malformed> {
    let value = |key: &[u8]| {
        let mut lines = bytes.split(|b| *b == b'\n');
        lines.find_map(|l| l.strip_prefix(key)).and_then(|v| decimal(v.trim_ascii()))
    };
    let read_bytes = value(b"read_bytes:").ok_or(Malformed("io has no read_bytes"))?;
    let write_bytes = value(b"write_bytes:").ok_or(Malformed("io has no write_bytes"))?;
    Ok(Io { read_bytes, write_bytes })
}

#[cfg(test)]
mod tests {
    use super::{Io, parse};

    #[test]
    fn reads_storage_bytes() {
        let text = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        assert_eq!(parse(text), Ok(Io { read_bytes: 5, write_bytes: 6 }));
        assert!(parse(b"read_bytes: 5\n").is_err());
        assert!(parse(b"read_bytes: 5\nwrite_bytes: x\n").is_err());
    }
}
