//! The two meta pages, of which the youngest whole one counts.

use whose_kernel::{Class, ReadError};

use super::Source;

/// Bytes of a page's header: `id u64, flags u16, count u16, overflow u32`.
pub(super) const HEADER: usize = 16;
/// Bytes of a meta page that count: the page's header, then `magic, version, pageSize, flags` (u32),
/// `root, sequence, freelist, pgid, txid, checksum` (u64).
const SIZE: usize = HEADER + 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_PAGE: u16 = 0x04;
/// Page sizes taken. Those of Linux are 4 to 64 KiB.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;
/// What the first read takes: both meta pages where pages have 4 KiB.
const FIRST: usize = 4096 + SIZE;

/// What a meta page says. Two are equal only if they are the same to the last bit, checksum included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Bytes a page.
    pub(super) page_size: u32,
    /// Page of the root bucket.
    pub(super) root: u64,
    /// The root bucket's counter.
    pub(super) sequence: u64,
    /// No page has this number or a higher one.
    pub(super) end: u64,
    /// Number of the transaction that made it.
    pub(super) txid: u64,
    /// The checksum as it stands there.
    checksum: u64,
}

/// Why a page is no meta page that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Not {
    /// It is none, or torn.
    Whole,
    /// It is one, of this version.
    Version(u32),
}

impl Meta {
    /// The youngest whole meta page. One read, where pages have 4 KiB.
    pub(super) fn read(source: &dyn Source) -> Result<Self, ReadError> {
        let mut first = [0; FIRST];
        let got = source.read_at(0, &mut first)?;
        let first = &first[..got];
        if first.is_empty() {
            return Err(ReadError::new(source.shown(), Class::Malformed, "an empty file"));
        }
        let zero = Self::of_page(first, 0);
        let one = match &zero {
            Ok(meta) => Self::second(source, first, meta.page_size)?,
            // Without the first page's word the second one may be at each of these places.
            Err(_) => {
                let mut found = Err(Not::Whole);
                let mut size = *PAGE_SIZES.start();
                while found.is_err() && PAGE_SIZES.contains(&size) {
                    let seen = Self::second(source, first, size)?;
                    found = match seen {
                        Ok(meta) if meta.page_size == size => Ok(meta),
                        Err(Not::Version(version)) => Err(Not::Version(version)),
                        _ => found,
                    };
                    size *= 2;
                }
                found
            }
        };
        match (zero, one) {
            (Ok(zero), Ok(one)) if one.page_size == zero.page_size && one.txid > zero.txid => {
                Ok(one)
            }
            (Ok(zero), _) => Ok(zero),
            (Err(_), Ok(one)) => Ok(one),
            (Err(Not::Version(version)), Err(_)) | (Err(_), Err(Not::Version(version))) => {
                let why = format!("bolt format version {version}, not {VERSION}");
                Err(ReadError::new(source.shown(), Class::Unsupported, why))
            }
            (Err(Not::Whole), Err(Not::Whole)) => {
                let why = "no bolt database: neither meta page is whole";
                Err(ReadError::new(source.shown(), Class::Malformed, why))
            }
        }
    }

    fn second(
        source: &dyn Source,
        first: &[u8],
        page_size: u32,
    ) -> Result<Result<Self, Not>, ReadError> {
        let at = page_size as usize;
        if let Some(page) = first.get(at..at + SIZE) {
            return Ok(Self::of_page(page, 1));
        }
        let mut page = [0; SIZE];
        let got = source.read_at(u64::from(page_size), &mut page)?;
        Ok(Self::of_page(&page[..got], 1))
    }

    /// The meta page with this number, by its first bytes.
    fn of_page(page: &[u8], id: u64) -> Result<Self, Not> {
        let page: &[u8; SIZE] = page.first_chunk().ok_or(Not::Whole)?;
        let (head, body) = page.split_at(HEADER);
        if u32_at(body, 0) != MAGIC || u64_at(head, 0) != id || u16_at(head, 8) != META_PAGE {
            return Err(Not::Whole);
        }
        if u32_at(body, 4) != VERSION {
            return Err(Not::Version(u32_at(body, 4)));
        }
        let meta = Self {
            page_size: u32_at(body, 8),
            root: u64_at(body, 16),
            sequence: u64_at(body, 24),
            end: u64_at(body, 40),
            txid: u64_at(body, 48),
            checksum: u64_at(body, 56),
        };
        let is_whole = meta.checksum == fnv(&body[..56])
            && PAGE_SIZES.contains(&meta.page_size)
            && meta.page_size.is_power_of_two();
        if is_whole { Ok(meta) } else { Err(Not::Whole) }
    }
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Numbers at places that the caller knows to be there; else 0.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}
