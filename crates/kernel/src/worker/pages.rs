//! Whose page it is: page frames of a process and of a file, compared.
//!
//! One inode owns a page of the page cache, so equal frames are one inode. Both sides of the socket
//! use this: nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::seam::page::Page;

/// The page of a file that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its frame.
    Frame(u64),
    /// The file ends before it.
    Beyond,
    /// It is not in the page cache.
    NotCached,
    /// It was taken away again.
    Taken,
}

impl Found {
    /// As it goes over the wire; frames have 55 bits.
    pub(super) fn word(self) -> u64 {
        match self {
            Self::Frame(frame) => frame,
            Self::Beyond => u64::MAX,
            Self::NotCached => u64::MAX - 1,
            Self::Taken => u64::MAX - 2,
        }
    }

    pub(super) fn of(word: u64) -> Self {
        let others = [Self::Beyond, Self::NotCached, Self::Taken];
        others.into_iter().find(|found| found.word() == word).unwrap_or(Self::Frame(word))
    }
}

/// The frame of a pagemap entry that is present and a file's (Documentation/admin-guide/mm/
/// pagemap.rst): 0 where the kernel hides it.
pub(super) fn page_entry(entry: u64) -> Option<u64> {
    let (present, file) = (1 << 63, 1 << 61);
    (entry & present != 0 && entry & file != 0).then_some(entry & ((1 << 55) - 1))
}

/// The frame of page number `index`, of the process whose `pagemap` it is.
pub(super) fn frame_at(pagemap: &OwnedFd, index: u64) -> Result<Option<u64>, Errno> {
    let mut entry = [0_u8; 8];
    let n = rustix::io::pread(pagemap, &mut entry, index * 8)?;
    Ok(if n == 8 { page_entry(u64::from_ne_bytes(entry)) } else { None })
}

/// The `pagemap` of this process.
pub(super) fn own_pagemap() -> Result<OwnedFd, Errno> {
    rustix::fs::open(c"/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens for reading what is held as `O_PATH` and known to be a regular file.
pub(super) fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut name = [0_u8; 32];
    let name = magic(fd, &mut name)?;
    let flags = OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(name, flags, Mode::empty()),
        other => other,
    }
}

/// The frame of a file's page at `offset`, which lies in the page cache if the file is the right
/// one: no disk is waited for.
pub(super) fn frame_of(
    file: &OwnedFd,
    offset: u64,
    page_size: u64,
    own_pagemap: &OwnedFd,
) -> Result<Found, Errno> {
    let size = usize::try_from(page_size).map_err(|_| Errno::INVAL)?;
    let mut byte = [0_u8; 1];
    let mut into = [std::io::IoSliceMut::new(&mut byte)];
    match rustix::io::preadv2(file, &mut into, offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => return Ok(Found::Beyond),
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(Errno::AGAIN) => return Ok(Found::NotCached),
        Err(errno) => return Err(errno),
    }
    let mine = Page::map(file.as_fd(), offset, size)?;
    mine.populate()?;
    let frame = frame_at(own_pagemap, mine.address() / page_size)?;
    Ok(frame.map_or(Found::Taken, Found::Frame))
}

/// The magic link of a descriptor.
pub(super) fn magic<'s>(fd: BorrowedFd<'_>, space: &'s mut [u8]) -> Result<&'s CStr, Errno> {
    let number = u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    c_decimal(b"/proc/self/fd/", number, space)
}

/// A number in decimal after `prefix`, as a C string in `space`.
pub(super) fn c_decimal<'s>(prefix: &[u8], n: u32, space: &'s mut [u8]) -> Result<&'s CStr, Errno> {
    let (mut digits, mut count, mut rest) = ([0_u8; 10], 0, n);
    loop {
        digits[count] = b'0' + u8::try_from(rest % 10).map_err(|_| Errno::INVAL)?;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let length = prefix.len() + count;
    if space.len() <= length {
        return Err(Errno::INVAL);
    }
    space[..prefix.len()].copy_from_slice(prefix);
    for (slot, digit) in space[prefix.len()..].iter_mut().zip(digits[..count].iter().rev()) {
        *slot = *digit;
    }
    space[length] = 0;
    CStr::from_bytes_with_nul(&space[..=length]).map_err(|_| Errno::INVAL)
}

/// A range of addresses after `prefix` as /proc/PID/map_files calls it, as a C string in `space`: in
/// hexadecimal, without zeroes before it.
pub(super) fn c_range<'s>(
    prefix: &[u8],
    (from, to): (u64, u64),
    space: &'s mut [u8],
) -> Result<&'s CStr, Errno> {
    let room = space.len();
    let mut rest = &mut *space;
    let mut put = |byte: u8| -> Result<(), Errno> {
        let (slot, more) = std::mem::take(&mut rest).split_first_mut().ok_or(Errno::INVAL)?;
        (*slot, rest) = (byte, more);
        Ok(())
    };
    prefix.iter().try_for_each(|byte| put(*byte))?;
    for (number, end) in [(from, b'-'), (to, 0)] {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for at in (0..digits).rev() {
            let digit = u8::try_from(number >> (4 * at) & 0xf).map_err(|_| Errno::INVAL)?;
            put(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })?;
        }
        put(end)?;
    }
    let used = room - rest.len();
    CStr::from_bytes_with_nul(&space[..used]).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::{Found, c_decimal, c_range};

    #[test]
    fn ranges_are_called_as_the_kernel_calls_them() {
        let mut space = [0xff; 48];
        let mut name =
            |from, to| c_range(b"map_files/", (from, to), &mut space).unwrap().to_owned();
        assert_eq!(name(0x0040_0000, 0x0058_5000).as_c_str(), c"map_files/400000-585000");
        assert_eq!(name(0, u64::MAX).as_c_str(), c"map_files/0-ffffffffffffffff");
        let high = name(0x7fff_ffff_f000, 0xffff_ffff_ff60_0000);
        assert_eq!(high.as_c_str(), c"map_files/7ffffffff000-ffffffffff600000");
        assert!(c_range(b"map_files/", (1 << 60, 1 << 61), &mut [0; 30]).is_err());
    }

    #[test]
    fn what_was_found_goes_over_the_wire() {
        for found in [Found::Frame(7), Found::Beyond, Found::NotCached, Found::Taken] {
            assert_eq!(Found::of(found.word()), found);
        }
    }

    #[test]
    fn numbers_as_c_strings() {
        let mut space = [0xff; 16];
        assert_eq!(c_decimal(b"", 0, &mut space).unwrap(), c"0");
        assert_eq!(c_decimal(b"a/", 4_194_304, &mut space).unwrap(), c"a/4194304");
        assert!(c_decimal(b"0123456789", 4_294_967, &mut space[..12]).is_err());
    }
}
