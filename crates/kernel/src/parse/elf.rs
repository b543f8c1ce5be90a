//! ELF files (elf(5)): the build id, a note of type 3 and name `GNU`, and what is loaded of one.

use crate::error::Malformed;

/// Longest build id taken, bytes; linkers write 8 to 20.
const LONGEST: usize = 64;
/// `PT_LOAD` and `PT_NOTE`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// `PF_X`.
const EXECUTE: u32 = 1;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// A part of a file that is loaded to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// The virtual address that the file has for that.
    pub address: u64,
    /// Bytes of the file.
    pub size: u64,
}

impl Segment {
    /// The address at which the file's address 0 lies where this part of it is mapped: the load bias,
    /// `dlpi_addr` of dl_iterate_phdr(3). `start` and `offset` are the mapping's; `None` when it is another
    /// part's.
    #[must_use]
    pub fn load_address(&self, start: u64, offset: u64, page: u64) -> Option<u64> {
        let first = self.offset / page.max(1) * page;
        let last = self.offset.checked_add(self.size)?;
        // The kernel counts addresses modulo 2^64, too: a file's may be higher than where it lies.
        (first <= offset && offset < last).then(|| {
            start.wrapping_sub(self.address).wrapping_add(self.offset.wrapping_sub(offset))
        })
    }
}

/// The parts that are loaded to be run, from the file's first bytes; none when it is no ELF file.
///
/// # Errors
/// [`Malformed`] when the headers do not lie in these bytes.
pub fn parse_segments(bytes: &[u8]) -> Result<Vec<Segment>, Malformed> {
    let mut segments = Vec::new();
    headers(bytes, &mut |_, header| {
        let Header { kind, flags, offset, address, size } = header;
        if kind == LOAD && flags & EXECUTE != 0 {
            segments.push(Segment { offset, address, size });
        }
        Ok(true)
    })?;
    Ok(segments)
}

/// The build id, from the file's first bytes. `None` when it is no ELF file or has none among its
/// notes that lie in these bytes.
///
/// # Errors
/// [`Malformed`] when the headers contradict themselves, or a note lies beyond these bytes.
pub fn parse_build_id(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut found = None;
    headers(bytes, &mut |read, header| {
        if header.kind != NOTE {
            return Ok(true);
        }
        let from = usize::try_from(header.offset).map_err(|_| OUTSIDE)?;
        let length = usize::try_from(header.size).map_err(|_| OUTSIDE)?;
        let end = from.checked_add(length).ok_or(OUTSIDE)?;
        let notes = bytes.get(from..end).ok_or(OUTSIDE)?;
        found = in_notes(&Reader { bytes: notes, big: read.big });
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Goes through the program headers as long as `each` says so.
fn headers(
    bytes: &[u8],
    each: &mut dyn FnMut(&Reader<'_>, Header) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let [0x7f, b'E', b'L', b'F', class, order, ..] = bytes else { return Ok(()) };
    let wide = match class {
        1 => false,
        2 => true,
        _ => return Err(Malformed("ELF file of an unknown class")),
    };
    let read = Reader { bytes, big: *order == 2 };
    let (table, size, count) = if wide {
        (read.word64(32)?, read.word16(54)?, read.word16(56)?)
    } else {
        (u64::from(read.word32(28)?), read.word16(42)?, read.word16(44)?)
    };
    for n in 0..u64::from(count) {
        let at = table.checked_add(n * u64::from(size)).ok_or(OUTSIDE)?;
        let at = usize::try_from(at).map_err(|_| OUTSIDE)?;
        let kind = read.word32(at)?;
        if kind != LOAD && kind != NOTE {
            continue;
        }
        let short = |offset: usize| read.word32(at + offset).map(u64::from);
        let header = if wide {
            let (offset, address) = (read.word64(at + 8)?, read.word64(at + 16)?);
            Header {
                kind,
                flags: read.word32(at + 4)?,
                offset,
                address,
                size: read.word64(at + 32)?,
            }
        } else {
            let (offset, address) = (short(4)?, short(8)?);
            Header { kind, flags: read.word32(at + 24)?, offset, address, size: short(16)? }
        };
        if !each(&read, header)? {
            return Ok(());
        }
    }
    Ok(())
}

const OUTSIDE: Malformed = Malformed("ELF file whose headers point outside it");

/// Notes: name size, content size, type, then both padded to 4 bytes.
fn in_notes(read: &Reader<'_>) -> Option<Vec<u8>> {
    let mut at = 0_usize;
    loop {
        let name = usize::try_from(read.word32(at).ok()?).ok()?;
        let content = usize::try_from(read.word32(at + 4).ok()?).ok()?;
        let kind = read.word32(at + 8).ok()?;
        let from = at.checked_add(12)?.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = from.checked_add(content)?;
        if kind == 3 && read.bytes.get(at + 12..at + 12 + name)? == b"GNU\0" {
            let id = read.bytes.get(from..end)?;
            return (!id.is_empty() && id.len() <= LONGEST).then(|| id.to_vec());
        }
        at = from.checked_add(content.checked_next_multiple_of(4)?)?;
    }
}

struct Reader<'r> {
    bytes: &'r [u8],
    big: bool,
}

impl Reader<'_> {
    fn part<const N: usize>(&self, at: usize) -> Result<[u8; N], Malformed> {
        let part = self.bytes.get(at..).and_then(|b| b.first_chunk::<N>()).ok_or(OUTSIDE)?;
        let mut part = *part;
        if self.big {
            part.reverse();
        }
        Ok(part)
    }

    fn word16(&self, at: usize) -> Result<u16, Malformed> {
        self.part(at).map(u16::from_le_bytes)
    }

    fn word32(&self, at: usize) -> Result<u32, Malformed> {
        self.part(at).map(u32::from_le_bytes)
    }

    fn word64(&self, at: usize) -> Result<u64, Malformed> {
        self.part(at).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, parse_build_id, parse_segments};

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0_u8; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 4;
        bytes[64 + 8] = 120;
        bytes[64 + 32] = 24;
        bytes.extend([4, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0]);
        bytes.extend(b"GNU\0\x01\x02\x03\x04\x05\x06\0\0");
        bytes
    }

    #[test]
    fn the_note_is_found_or_damage_told() {
        assert_eq!(parse_build_id(&sample()), Ok(Some(vec![1, 2, 3, 4, 5, 6])));
        assert_eq!(parse_build_id(b"#!/bin/sh\n"), Ok(None));
        for n in 6..sample().len() - 2 {
            assert!(parse_build_id(&sample()[..n]).is_err(), "{n}");
        }
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(parse_build_id(&own).is_ok());
    }

    #[test]
    fn where_the_file_lies_in_memory() {
        // A program at fixed addresses, mapped by whole pages: its code begins within one.
        let code = Segment { offset: 0x1f40, address: 0x40_1f40, size: 0x800 };
        assert_eq!(code.load_address(0x40_1000, 0x1000, 4096), Some(0));
        assert_eq!(code.load_address(0x40_2000, 0x2000, 4096), Some(0));
        assert_eq!(code.load_address(0x7f00_0000_1000, 0x1000, 4096), Some(0x7eff_ffc0_0000));
        assert_eq!(code.load_address(0x40_3000, 0x3000, 4096), None);
        assert_eq!(code.load_address(0x40_0000, 0, 4096), None);
        // Its own, by what the kernel says of it.
        let own = std::fs::read("/proc/self/exe").unwrap();
        let segments = parse_segments(&own).unwrap();
        assert!(!segments.is_empty() && parse_segments(b"#!/bin/sh").unwrap().is_empty());
        for n in 6..60 {
            assert!(parse_segments(&own[..n]).is_err(), "{n}");
        }
    }
}
