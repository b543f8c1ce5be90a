//! A file by its number: `MAJ:MIN:INODE`, as mountinfo and lsblk have a device; `inode:DEVICE:INODE` with the
//! decimal number that stat(1) prints for one.

use bstr::{BStr, ByteSlice};
use whose_kernel::parse;

/// A device and the number of a file on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Major and minor.
    pub device: (u32, u32),
    /// The inode's number.
    pub ino: u64,
}

/// `MAJ:MIN:INODE`.
#[must_use]
pub fn bare(text: &BStr) -> Option<Number> {
    let mut parts = text.split(|b| *b == b':');
    let device = (parse::decimal32(parts.next()?)?, parse::decimal32(parts.next()?)?);
    let ino = parse::decimal(parts.next()?).filter(|ino| *ino > 0)?;
    parts.next().is_none().then_some(Number { device, ino })
}

/// What follows `inode:`.
#[must_use]
pub fn long(text: &BStr) -> Option<Number> {
    if let Some(number) = bare(text) {
        return Some(number);
    }
    let (device, ino) = text.split_once_str(":")?;
    let device = parse::decimal(device)?;
    // Bits of the two as in gnu_dev_major(3).
    let part = |high: u64, low: u64| u32::try_from(high | low).ok();
    let major = part(device >> 32 & 0xffff_f000, device >> 8 & 0xfff)?;
    let minor = part(device >> 12 & 0xffff_ff00, device & 0xff)?;
    let ino = parse::decimal(ino).filter(|ino| *ino > 0)?;
    Some(Number { device: (major, minor), ino })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Number, bare, long};

    #[test]
    fn numbers_of_files() {
        let is = |major, minor, ino| Some(Number { device: (major, minor), ino });
        assert_eq!(bare(BStr::new("8:1:77")), is(8, 1, 77));
        assert_eq!(long(BStr::new("0:45:18446744073709551615")), is(0, 45, u64::MAX));
        assert_eq!(long(BStr::new("2049:77")), is(8, 1, 77));
        assert_eq!(long(BStr::new("64769:2")), is(253, 1, 2));
        // makedev(259, 1_000_000)
        let device = (259_u64 & 0xfff) << 8 | (1_000_000 & 0xff) | (1_000_000 & !0xff) << 12;
        assert_eq!(long(BStr::new(&format!("{device}:5"))), is(259, 1_000_000, 5));
        for bad in ["", "8:1", "8:1:0", "8:1:77:3", "a:1:77", "8:1:", "-8:1:7", "4294967296:1:7"] {
            assert_eq!(bare(BStr::new(bad)), None, "{bad}");
        }
        for bad in ["", "77", "2049:0", ":77", "2049:", "8:1:77:3"] {
            assert_eq!(long(BStr::new(bad)), None, "{bad}");
        }
    }
}
