//! A regular file held open, of which parts are read by their place.
//!
//! A database may be too large to be read as a whole, and is written to meanwhile. It is never mapped:
//! whoever cuts it short would kill the reader.

use std::os::fd::{AsFd, OwnedFd};

use bstr::{BStr, BString};
use rustix::io::Errno;

use crate::capture::Place;
use crate::error::ReadError;
use crate::look::Look;
use crate::root::Root;

/// A file that is open for reading.
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
    shown: BString,
    look: Look,
    place: Option<Place>,
}

impl Root {
    /// Holds a regular file of at most `cap` bytes, on the terms of [`Root::read_of_admin`]. It may grow
    /// later.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn hold(&self, rel: &[u8], cap: usize) -> Result<Held, ReadError> {
        let place = self.place_of(rel);
        self.met(place.as_ref(), rel)?;
        let opened = self.told(self.open_of_admin(rel, cap), place.as_ref(), |recorder, key, _| {
            recorder.there(key, false, None);
        });
        let (fd, look) = opened?;
        Ok(Held { fd, shown: self.join(rel), look, place })
    }
}

impl Held {
    /// Reads from the place `at` until `into` is full or the file ends; how many bytes came.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        // No file reaches that far, and the kernel takes no such place (EINVAL).
        if i64::try_from(at.saturating_add(into.len() as u64)).is_err() {
            return Ok(0);
        }
        let mut got = 0;
        while got < into.len() {
            match rustix::io::pread(&self.fd, &mut into[got..], at + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ReadError::from_errno(self.shown.clone(), errno)),
            }
        }
        Ok(got)
    }

    /// Bytes it has now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn size(&self) -> Result<u64, ReadError> {
        let look = Look::of(self.fd.as_fd());
        look.map(|l| l.size).map_err(|e| ReadError::from_errno(self.shown.clone(), e))
    }

    /// The path to show people.
    #[must_use]
    pub fn shown(&self) -> &BStr {
        self.shown.as_ref()
    }

    /// Whether a capture is being made that has not got its content.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let wanted = |place: &Place| Some(place.recorder()?.is_unread(&place.at));
        self.place.as_ref().and_then(wanted).unwrap_or(false)
    }

    /// Writes down for the capture what the file is to hold there, as it is told here: a reader of
    /// parts alone knows which of them belong together, and which are nobody's business.
    pub fn record(&self, content: &[u8]) {
        if let Some((recorder, place)) = self.place.as_ref().and_then(|p| Some((p.recorder()?, p)))
        {
            recorder.as_told(&place.at, content, Some(&self.look));
        }
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use crate::error::Class;
    use crate::root::{Links, Root};

    #[test]
    fn parts_are_read_by_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let root = Root::open(BStr::new(dir.path().as_os_str().as_encoded_bytes()), Links::Never);
        let root = root.unwrap();
        let held = root.hold(b"file", 10).unwrap();
        let mut part = [0; 4];
        assert_eq!((held.read_at(3, &mut part).unwrap(), &part), (4, b"3456"));
        assert_eq!(held.read_at(8, &mut part).unwrap(), 2);
        assert_eq!(held.read_at(u64::MAX / 2, &mut part).unwrap(), 0);
        assert_eq!(held.size().unwrap(), 10);
        std::fs::write(&path, "0").unwrap();
        assert_eq!((held.size().unwrap(), held.read_at(3, &mut part).unwrap()), (1, 0));
        assert!(!held.is_wanted());
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(root.hold(b"file", 9).unwrap_err().class, Class::Malformed);
        assert_eq!(root.hold(b"link", 10).unwrap_err().class, Class::Malformed);
        assert_eq!(root.hold(b"", 10).unwrap_err().class, Class::Malformed);
        assert_eq!(root.hold(b"none", 10).unwrap_err().class, Class::Gone);
    }
}
