//! `/proc/PID/maps` (proc_pid_maps(5)).

use bstr::{BString, ByteSlice};

use crate::error::Malformed;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// `rwxp` or `rwxs`, with `-` for what is not allowed.
    pub perms: [u8; 4],
    /// Byte of the file at `start`.
    pub offset: u64,
    /// Device as the kernel prints it here: an overlay's own from about 6.8, the layer's before.
    pub device: (u32, u32),
    /// Inode, by the same rule; 0 for what is no file.
    pub inode: u64,
    /// The name as printed: a newline is `\012`, nothing else is escaped. Empty for anonymous memory.
    pub name: BString,
}

impl Mapping {
    /// Whether it maps a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.inode != 0 || self.name.starts_with(b"/")
    }

    /// Whether it can be written to, so that its pages need not be the file's.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.perms[1] == b'w'
    }

    /// Whether it can be run.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.perms[2] == b'x'
    }

    /// Whether what is written to it is written to the file.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.perms[3] == b's'
    }

    /// Whether it maps the same file as another mapping of the process.
    #[must_use]
    pub fn is_of_the_file(&self, other: &Self) -> bool {
        (self.device, self.inode, &self.name) == (other.device, other.inode, &other.name)
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Parses the whole file.
///
/// # Errors
/// [`Malformed`] when a line is not as the kernel writes it.
pub fn parse(bytes: &[u8]) -> Result<Vec<Mapping>, Malformed> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
}

fn line(text: &[u8]) -> Result<Mapping, Malformed> {
    let short = Malformed("maps line is cut short");
    let mut fields = text.splitn(6, |b| *b == b' ');
    let mut next = || fields.next().ok_or(short);
    let (start, end) = next()?.split_once_str("-").ok_or(short)?;
    let perms =
        <[u8; 4]>::try_from(next()?).map_err(|_| Malformed("maps holds bad permissions"))?;
    let offset = hex(next()?)?;
    let (major, minor) = next()?.split_once_str(":").ok_or(short)?;
    let narrow = |n: u64| u32::try_from(n).map_err(|_| Malformed("maps holds a bad device"));
    let device = (narrow(hex(major)?)?, narrow(hex(minor)?)?);
    let inode = super::decimal(next()?).ok_or(Malformed("maps holds a bad inode"))?;
    // Names are padded to a column with blanks; a name never begins with one.
    let name = fields.next().unwrap_or_default().trim_start_with(|c| c == ' ');
    let (start, end) = (hex(start)?, hex(end)?);
    if end < start {
        return Err(Malformed("maps holds a range that ends before it begins"));
    }
    Ok(Mapping { start, end, perms, offset, device, inode, name: name.into() })
}

fn hex(digits: &[u8]) -> Result<u64, Malformed> {
    let bad = Malformed("maps holds a bad number");
    if digits.is_empty() || digits.len() > 16 {
        return Err(bad);
    }
    let step = |n: u64, b: &u8| Some(n << 4 | u64::from(char::from(*b).to_digit(16)?));
    digits.iter().try_fold(0, step).ok_or(bad)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = b"00400000-00401000 r--p 00000000 00:2a 17                         /bin/a b\n\
            7ffc0000-7ffd0000 rw-p 00000000 00:00 0                          [stack]\n\
            7ffe0000-7ffe1000 r-xp 00000000 00:00 0 \n\
            7fff0000-7fff1000 r--s 0001f000 103:02 99                        /x\\012y (deleted)\n";
        let maps = parse(text).unwrap();
        assert_eq!(maps[0].name, "/bin/a b");
        assert_eq!((maps[0].device, maps[0].inode), ((0, 0x2a), 17));
        assert!(maps[0].is_file() && maps[0].holds(0x0040_0fff) && !maps[0].holds(0x0040_1000));
        assert!(!maps[1].is_file() && maps[1].is_writable() && maps[2].name.is_empty());
        assert_eq!((maps[3].offset, maps[3].device), (0x1f000, (0x103, 2)));
        assert_eq!(maps[3].name, "/x\\012y (deleted)");
    }

    #[test]
    fn damage_is_refused() {
        for bad in [
            "4-",
            "4-5",
            "5-4 r--p 0 0:0 0",
            "4-5 r-- 0 0:0 0",
            "4-5 r--p x 0:0 0",
            "4-5 r--p 0 0:0 x",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"").unwrap().is_empty());
    }
}
