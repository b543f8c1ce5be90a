//! A file of sysfs that never changes, in this process's memory without a copy.
#![allow(unsafe_code, reason = "mapping memory has no safe wrapper")]

use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `SYSFS_MAGIC` of include/uapi/linux/magic.h.
const SYSFS: u64 = 0x6265_6572;
const WRITABLE: u32 = 0o222;

/// A whole file, mapped read-only; unmapped when dropped.
#[derive(Debug)]
pub struct Constant {
    at: *mut libc::c_void,
    size: usize,
}

impl Constant {
    /// Maps a file of sysfs that nobody may write. `None` for any other, and when the kernel does not
    /// map it (before 6.16 none): it has to be read.
    #[must_use]
    pub fn map(file: BorrowedFd<'_>) -> Option<Self> {
        let system = rustix::fs::fstatfs(file).ok()?;
        #[allow(clippy::useless_conversion, reason = "f_type is narrower on some architectures")]
        let is_sysfs = u64::try_from(system.f_type).is_ok_and(|magic| magic == SYSFS);
        let stat = rustix::fs::fstat(file).ok()?;
        if !is_sysfs || stat.st_mode & WRITABLE != 0 {
            return None;
        }
        let size = usize::try_from(stat.st_size).ok().filter(|size| *size > 0)?;
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), size, read, private, file.as_raw_fd(), 0) };
        (at != libc::MAP_FAILED).then_some(Self { at, size })
    }
}

impl Deref for Constant {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel has mapped `size` bytes there, until they are unmapped by `drop`. Sysfs
        // maps two kinds of files: the memory of PCI devices, whose files can be written, and the
        // kernel's BTF (fs/sysfs, kernel/bpf/sysfs_btf.c), which is a constant of the kernel: it
        // neither changes nor ends, and all of its pages are there.
        unsafe { std::slice::from_raw_parts(self.at.cast::<u8>(), self.size) }
    }
}

impl Drop for Constant {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives the value.
        unsafe { libc::munmap(self.at, self.size) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::Constant;

    #[test]
    fn only_what_never_changes_is_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(Constant::map(file.as_fd()).is_none());
        let proc = std::fs::File::open("/proc/version").unwrap();
        assert!(Constant::map(proc.as_fd()).is_none());
    }

    #[test]
    fn a_mapped_file_is_what_is_read() {
        let path = "/sys/kernel/btf/vmlinux";
        let Ok(file) = std::fs::File::open(path) else {
            assert!(!std::path::Path::new(path).exists());
            return;
        };
        if let Some(mapped) = Constant::map(file.as_fd()) {
            assert!(mapped[..] == std::fs::read(path).unwrap()[..]);
        }
    }
}
