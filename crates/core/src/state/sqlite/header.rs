//! The first 100 bytes of the file.

use super::view::Trouble;

/// Bytes it has.
pub(super) const SIZE: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Fewest bytes of a page that hold content.
const LEAST_USABLE: usize = 480;

/// What it says, as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes a page.
    pub(super) page_size: usize,
    /// Bytes of each that hold content.
    pub(super) usable: usize,
    /// Pages of the database, if the header says so.
    pub(super) pages: Option<u32>,
}

impl Header {
    /// Takes it apart.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Trouble> {
        let bytes: &[u8; SIZE] = bytes.first_chunk().ok_or(Trouble::Wrong("no header".into()))?;
        if !bytes.starts_with(MAGIC) {
            return Err(Trouble::Wrong("no SQLite database".into()));
        }
        let damaged = |what| Trouble::Damaged { page: 1, what };
        // 1 stands for 65536, which has no place in two bytes.
        let page_size = match u16_at(bytes, 16) {
            1 => 65536,
            size => usize::from(size),
        };
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
            return Err(damaged("a page size that there is not"));
        }
        if bytes[19] > 2 {
            return Err(Trouble::Unknown(format!("read version {}, not 1 or 2", bytes[19])));
        }
        if bytes[21..24] != [64, 32, 32] {
            return Err(damaged("payload fractions of another format"));
        }
        let usable = page_size - usize::from(bytes[20]);
        if usable < LEAST_USABLE {
            return Err(damaged("too little of a page is used"));
        }
        let format = u32_at(bytes, 44);
        if format > 4 {
            return Err(Trouble::Unknown(format!("schema format {format}, not 1 to 4")));
        }
        // 0 is in a database without a table.
        let encoding = u32_at(bytes, 56);
        if encoding > 1 {
            return Err(Trouble::Unknown(format!("text encoding {encoding}, not UTF-8")));
        }
        // The size counts if whoever wrote last knew of it.
        let is_valid = u32_at(bytes, 24) == u32_at(bytes, 92);
        let pages = Some(u32_at(bytes, 28)).filter(|pages| is_valid && *pages > 0);
        Ok(Self { page_size, usable, pages })
    }
}

/// Numbers at places that the caller knows to be there; else 0.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}
