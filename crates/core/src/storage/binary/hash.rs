//! Content of a file: its SHA-256 and its build id.

use std::time::Duration;

use bstr::BString;
use sha2::{Digest, Sha256};
use whose_kernel::object::Object;
use whose_kernel::parse::elf;
use whose_kernel::{Class, Host, ReadError};

use crate::model::gap::what;
use crate::model::{Fact, Gap};

/// Bytes looked through for the notes with the build id: linkers put them first.
const HEAD: usize = 1 << 20;
/// Bytes that nearly always have them.
const FIRST: usize = 16 << 10;

/// What the content of a file says.
#[derive(Debug)]
pub struct Hashes {
    /// SHA-256, lower case hexadecimal.
    pub sha256: Fact<String>,
    /// GNU build id, lower case hexadecimal; absent when the file has none.
    pub build_id: Fact<String>,
}

/// Reads the whole file, within `time` where that is given. It may grow or shrink meanwhile: then it is not the file that was looked at.
#[must_use]
pub fn of(host: &Host, file: &Object, time: Option<Duration>) -> Hashes {
    let size = |o: &Object| o.look().map(|l| (l.size, l.mtime)).ok();
    let before = size(file);
    let mut digest = Sha256::new();
    let mut head: Vec<u8> = Vec::new();
    let read = host.content(file, 0, u64::MAX, time, &mut |part| {
        digest.update(part);
        let room = HEAD.saturating_sub(head.len()).min(part.len());
        head.extend_from_slice(&part[..room]);
    });
    let path = file.path().ok().flatten().unwrap_or_default();
    let gap = |e: &ReadError| Gap::from_read(what::HASH, e);
    if let Err(errno) = read {
        let gap = gap(&ReadError::from_errno(path, errno));
        return Hashes { sha256: Fact::Unread(gap.clone()), build_id: Fact::Unread(gap) };
    }
    if size(file) != before {
        let gap = gap(&ReadError::new(path, Class::Malformed, "changed while it was read"));
        return Hashes { sha256: Fact::Unread(gap.clone()), build_id: Fact::Unread(gap) };
    }
    let sha256 = data_encoding::HEXLOWER.encode(&digest.finalize());
    Hashes { sha256: Fact::Known(sha256), build_id: in_head(&head, path) }
}

/// The build id alone, for which the beginning of the file is enough.
#[must_use]
pub fn build_id(host: &Host, file: &Object, time: Option<Duration>) -> Fact<String> {
    let path = || file.path().ok().flatten().unwrap_or_default();
    let mut told = Fact::Absent;
    for length in [FIRST, HEAD] {
        let mut head: Vec<u8> = Vec::new();
        let take = &mut |part: &[u8]| head.extend_from_slice(part);
        if let Err(errno) = host.content(file, 0, length as u64, time, take) {
            let error = ReadError::from_errno(path(), errno);
            return Fact::Unread(Gap::from_read(what::HASH, &error));
        }
        told = in_head(&head, path());
        if told.known().is_some() || head.len() < length {
            break;
        }
    }
    told
}

/// The parts of a file that are loaded to be run; none where its first bytes do not tell.
#[must_use]
pub fn segments(host: &Host, file: &Object, time: Option<Duration>) -> Vec<elf::Segment> {
    let mut head: Vec<u8> = Vec::new();
    let take = &mut |part: &[u8]| head.extend_from_slice(part);
    match host.content(file, 0, FIRST as u64, time, take) {
        Ok(()) => elf::parse_segments(&head).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// The build id in the beginning of a file; what is no ELF file has none.
fn in_head(head: &[u8], path: BString) -> Fact<String> {
    match elf::parse_build_id(head) {
        Ok(Some(id)) => Fact::Known(data_encoding::HEXLOWER.encode(&id)),
        Ok(None) => Fact::Absent,
        Err(malformed) => Fact::Unread(Gap::from_read(what::HASH, &malformed.at(path))),
    }
}
