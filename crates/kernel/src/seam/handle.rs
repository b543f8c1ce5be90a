//! File handles: name_to_handle_at(2) and open_by_handle_at(2).
#![allow(unsafe_code, reason = "neither call has a safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::parse::handle::Handle;

/// `MAX_HANDLE_SZ` of include/linux/exportfs.h.
const LONGEST: usize = 128;
/// `AT_HANDLE_FID`: a handle to compare, not necessarily to open (kernel 6.5; overlays from 6.6).
const FID: libc::c_int = 0x200;

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct Raw {
    /// Bytes that follow: [`LONGEST`] when asking.
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; LONGEST],
}

/// The handle of an open file; `O_PATH` will do. Asked for as an identity first, which an overlay
/// gives also without `nfs_export`. Needs no privilege and does not block, on FUSE neither.
///
/// # Errors
/// `EOPNOTSUPP` when the file system gives none, `EINVAL` from an overlay before 6.6.
pub fn handle_of(fd: BorrowedFd<'_>) -> Result<Handle, Errno> {
    match ask(fd, libc::AT_EMPTY_PATH | FID) {
        Err(Errno::INVAL) => ask(fd, libc::AT_EMPTY_PATH),
        other => other,
    }
}

fn ask(fd: BorrowedFd<'_>, flags: libc::c_int) -> Result<Handle, Errno> {
    let mut raw = Raw { length: 128, kind: 0, bytes: [0; LONGEST] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the path is a NUL-terminated empty string; `raw` has the layout of struct file_handle
    // and room for the length it says; `mount` is a valid int. All three outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    };
    if done != 0 {
        return Err(last());
    }
    let length = usize::try_from(raw.length).unwrap_or(0).min(LONGEST);
    Ok(Handle { kind: raw.kind, bytes: raw.bytes[..length].to_vec() })
}

/// Opens the file of a handle as `O_PATH`, on the file system of this process's working directory.
/// Needs `CAP_DAC_READ_SEARCH` in the initial user namespace.
///
/// # Errors
/// `ESTALE` when the file system has no such file, `EPERM` without the capability.
pub fn open_here(kind: i32, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    if bytes.len() > LONGEST {
        return Err(Errno::INVAL);
    }
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    let mut raw = Raw { length, kind, bytes: [0; LONGEST] };
    raw.bytes[..bytes.len()].copy_from_slice(bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of struct file_handle and as many bytes as it says.
    let fd =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, &raw mut raw, flags) };
    match i32::try_from(fd) {
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last()),
    }
}

/// The same on the file system of a directory, which may be held as `O_PATH`: the call wants one that
/// was opened for reading, and that can be held up by who watches opens; the working directory will
/// do. It is this program's only for the time of the call.
///
/// # Errors
/// As [`open_here`].
pub fn open_on(dir: BorrowedFd<'_>, kind: i32, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let before = rustix::fs::open(c".", flags, Mode::empty())?;
    rustix::process::fchdir(dir)?;
    let opened = open_here(kind, bytes);
    rustix::process::fchdir(before)?;
    opened
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::handle_of;

    #[test]
    fn one_file_has_one_handle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let open = |name| std::fs::File::open(dir.path().join(name)).unwrap();
        let (a, b) = (handle_of(open("a").as_fd()).unwrap(), handle_of(open("b").as_fd()).unwrap());
        assert_eq!(a, b);
        assert_ne!(a, handle_of(std::fs::File::open(dir.path()).unwrap().as_fd()).unwrap());
    }
}
