//! Files that a user names to be read as a stream, as cat(1) would.

use std::os::fd::{AsFd, OwnedFd};

use bstr::BStr;
use rustix::fs::{FileType, Mode, OFlags};

use crate::error::ReadError;

/// Opens a file, a FIFO or a device for reading. Never becomes the controlling terminal.
///
/// # Errors
/// As open(2).
pub fn open(path: &BStr) -> Result<OwnedFd, ReadError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path_bytes: &[u8] = path.as_ref();
    let opened = rustix::fs::open(path_bytes, flags, Mode::empty());
    opened.map_err(|e| ReadError::from_errno(path, e))
}

/// When a regular file was written last, milliseconds since 1970; `None` for a stream.
#[must_use]
pub fn written(file: impl AsFd) -> Option<i64> {
    let stat = rustix::fs::fstat(file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let nanos = i64::try_from(stat.st_mtime_nsec).ok()?;
    stat.st_mtime.checked_mul(1000)?.checked_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bstr::BStr;

    use super::{open, written};

    #[test]
    fn a_file_has_a_time_and_a_stream_has_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"x").unwrap();
        let opened = open(BStr::new(file.path().as_os_str().as_encoded_bytes())).unwrap();
        assert!(written(&opened).is_some_and(|ms| ms > 1_700_000_000_000));
        let null = open(BStr::new("/dev/null")).unwrap();
        assert_eq!(written(&null), None);
        assert!(open(BStr::new("/nonexistent")).is_err());
    }
}
