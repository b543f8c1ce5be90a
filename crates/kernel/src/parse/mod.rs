//! Pure parsers: bytes to structs, no I/O. One file a format.

pub mod aufs;
pub mod auxv;
pub mod boot;
pub mod btf;
pub mod capabilities;
pub mod cgroup;
pub mod children;
pub mod cmdline;
pub mod controllers;
pub mod elf;
pub mod handle;
pub mod idmap;
pub mod io;
pub mod maps;
pub mod mountinfo;
pub mod nslink;
pub mod overlay;
pub mod passwd;
pub mod rtnetlink;
pub mod stat;
pub mod statmount;
pub mod status;
pub mod task_record;
pub mod task_usage;

/// A decimal number that is the whole of `bytes`: digits only, no sign, no overflow.
#[must_use]
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 20 {
        return None;
    }
    bytes.iter().try_fold(0_u64, |n, b| {
        let digit = b.checked_sub(b'0').filter(|d| *d < 10)?;
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// [`decimal`] that fits 32 bits.
#[must_use]
pub fn decimal32(bytes: &[u8]) -> Option<u32> {
    decimal(bytes).and_then(|n| u32::try_from(n).ok())
}

/// Where a byte is first. It looks at a machine word at once: what a processor has for longer pieces is
/// asked for by CPUID, which in a virtual machine takes longer than all that a short command searches.
pub(crate) fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    memchr::arch::all::memchr::One::new(byte).find(bytes)
}

/// Where it is last, see [`find`].
pub(crate) fn find_last(byte: u8, bytes: &[u8]) -> Option<usize> {
    memchr::arch::all::memchr::One::new(byte).rfind(bytes)
}

/// The words of a line, split at runs of blanks and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| *b == b' ' || *b == b'\t').filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{decimal, decimal32, find, find_last};

    #[test]
    fn bytes_are_found_in_pieces_of_any_length() {
        for length in 0..70 {
            let mut bytes = vec![b'x'; length];
            assert_eq!((find(b')', &bytes), find_last(b')', &bytes)), (None, None));
            for (first, last) in
                (0..length).flat_map(|first| (first..length).map(move |l| (first, l)))
            {
                (bytes[first], bytes[last]) = (b')', b')');
                assert_eq!(find(b')', &bytes), Some(first));
                assert_eq!(find_last(b')', &bytes), Some(last));
                (bytes[first], bytes[last]) = (b'x', b'x');
            }
        }
    }

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"0x1", b"\xff"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
        assert_eq!(decimal32(b"4294967296"), None);
    }
}
