//! The build id of an ELF file (elf(5)): a note of type 3 and name `GNU`.

use crate::error::Malformed;

/// Longest build id taken, bytes; linkers write 8 to 20.
const LONGEST: usize = 64;

/// The build id, from the file's first bytes. `None` when it is no ELF file or has none among its
/// notes that lie in these bytes.
///
/// # Errors
/// [`Malformed`] when the headers contradict themselves, or a note lies beyond these bytes.
pub fn parse_build_id(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let [0x7f, b'E', b'L', b'F', class, order, ..] = bytes else { return Ok(None) };
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
        if read.word32(at)? != 4 {
            continue; // not PT_NOTE
        }
        let (from, length) = if wide {
            (read.word64(at + 8)?, read.word64(at + 32)?)
        } else {
            (u64::from(read.word32(at + 4)?), u64::from(read.word32(at + 16)?))
        };
        let from = usize::try_from(from).map_err(|_| OUTSIDE)?;
        let length = usize::try_from(length).map_err(|_| OUTSIDE)?;
        let end = from.checked_add(length).ok_or(OUTSIDE)?;
        let notes = bytes.get(from..end).ok_or(OUTSIDE)?;
        if let Some(id) = in_notes(&Reader { bytes: notes, big: read.big }) {
            return Ok(Some(id));
        }
    }
    Ok(None)
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
    use super::parse_build_id;

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
}
