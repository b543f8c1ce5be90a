//! One page of a file, brought into this process's memory, and its page frame number.
#![allow(
    unsafe_code,
    reason = "mapping memory has no safe wrapper; nothing here reads the mapping"
)]

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// One page of a file, mapped read-only; unmapped when dropped.
#[derive(Debug)]
pub struct Page {
    at: *mut libc::c_void,
    size: usize,
}

impl Page {
    /// Maps `size` bytes of the file at `offset`, a multiple of the page size.
    ///
    /// # Errors
    /// The kernel's.
    pub fn map(file: BorrowedFd<'_>, offset: u64, size: usize) -> Result<Self, Errno> {
        let (read, private) = (ProtFlags::READ, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses the address, so no memory in use is replaced. The mapping is
        // never read through, since its file may shrink at any moment.
        let at = unsafe { mmap(std::ptr::null_mut(), size, read, private, file, offset) }?;
        Ok(Self { at, size })
    }

    /// Where it is mapped.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at as u64
    }

    /// Brings the page in, without an access that could fault.
    ///
    /// # Errors
    /// `EFAULT` when the file has no such page (any more).
    pub fn populate(&self) -> Result<(), Errno> {
        // `MADV_POPULATE_READ` (kernel 5.14) faults pages in and says so when it can't, where a plain
        // access would end the process with SIGBUS.
        // SAFETY: the range is this value's own mapping, and populating changes no content.
        match unsafe { madvise(self.at, self.size, Advice::LinuxPopulateRead) } {
            Err(Errno::INVAL) => self.copy_byte(),
            other => other,
        }
    }

    /// Before 5.14: a copy by the kernel faults the page in, and fails instead of a SIGBUS.
    fn copy_byte(&self) -> Result<(), Errno> {
        let mut byte = 0_u8;
        let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let remote = libc::iovec { iov_base: self.at, iov_len: 1 };
        // SAFETY: `local` is one valid byte; `remote` is this process's own mapping, which the kernel
        // checks as it copies.
        let n = unsafe {
            libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        if n == 1 { Ok(()) } else { Err(last()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it was ever made.
        let _ = unsafe { munmap(self.at, self.size) };
    }
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::Page;

    #[test]
    fn a_page_that_is_not_there_is_an_error_and_no_signal() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let page = Page::map(file.as_fd(), 0, 4096).unwrap();
        page.populate().unwrap();
        page.copy_byte().unwrap();
        assert!(page.address().is_multiple_of(4096));
        let gone = Page::map(file.as_fd(), 8192, 4096).unwrap();
        assert!(gone.populate().is_err() && gone.copy_byte().is_err());
    }
}
