//! What an open descriptor holds, read to its end: a file's bytes, a directory's names.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// Bytes read at once, at least and at most.
const CHUNK: (usize, usize) = (4096, 256 * 1024);

/// Reads from the descriptor's position to its end, or until more than `cap` bytes are there.
///
/// # Errors
/// The kernel's.
pub(crate) fn read_to_end(fd: BorrowedFd<'_>, into: &mut Vec<u8>, cap: usize) -> Result<(), Errno> {
    while into.len() <= cap {
        if read_some(fd, into)?.0 == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads a file that the kernel makes in one piece (`single_open` of fs/seq_file.c), as `stat`,
/// `status` and `cgroup` of a process are: what is shorter than the buffer is all of it.
///
/// # Errors
/// The kernel's.
pub(crate) fn read_whole(fd: BorrowedFd<'_>, into: &mut Vec<u8>, cap: usize) -> Result<(), Errno> {
    let (got, room) = read_some(fd, into)?;
    if got < room { Ok(()) } else { read_to_end(fd, into, cap) }
}

/// Reads a regular file of `size` bytes, which may change: that many and no more to be had is all. What the
/// kernel makes while it is read has none.
pub(crate) fn read_regular(
    fd: BorrowedFd<'_>,
    into: &mut Vec<u8>,
    size: usize,
    cap: usize,
) -> Result<(), Errno> {
    into.reserve(if size == 0 { CHUNK.0 } else { size.min(cap) + 1 });
    let (got, room) = read_some(fd, into)?;
    if got == 0 || (got == size && got < room) { Ok(()) } else { read_to_end(fd, into, cap) }
}

/// One read: how many bytes came, and for how many there was room. The buffer grows as what it
/// holds does; what it does not need yet is not touched.
fn read_some(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> Result<(usize, usize), Errno> {
    if into.len() == into.capacity() {
        into.reserve(into.len().clamp(CHUNK.0, CHUNK.1));
    }
    let room = into.capacity() - into.len();
    loop {
        match rustix::io::read(fd, rustix::buffer::spare_capacity(into)) {
            Err(Errno::INTR) => {}
            read => return read.map(|got| (got, room)),
        }
    }
}

/// Calls `each` with name, kind and inode of every entry of an open directory but `.` and `..`.
///
/// # Errors
/// The kernel's.
pub(crate) fn for_each_entry(
    fd: BorrowedFd<'_>,
    each: &mut dyn FnMut(&[u8], FileType, u64),
) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut dir = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name, entry.file_type(), entry.ino());
        }
    }
    Ok(())
}
