//! Mounts of other namespaces: statmount(2) (kernel 6.8; with a namespace id 6.11) and the id of a
//! mount namespace.
#![allow(unsafe_code, reason = "the call and the ioctl have no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// The number of statmount(2): calls added since 5.1 have the same one on every architecture but
/// alpha, which Rust does not run on.
const STATMOUNT: libc::c_long = 457;
/// `NS_GET_MNTNS_ID` of include/uapi/linux/nsfs.h: `_IOR(0xb7, 0x5, __u64)`.
const NS_GET_MNTNS_ID: libc::c_ulong = 0x8008_b705;

/// `NS_GET_USERNS` of the same file: `_IO(0xb7, 0x1)` (kernel 4.9).
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// `struct mnt_id_req`.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
    namespace: u64,
}

/// The 64-bit id of a mount namespace, from a descriptor of `/proc/PID/ns/mnt`.
///
/// # Errors
/// `ENOTTY` before 6.11.
pub fn namespace_id(ns: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut id = 0_u64;
    // SAFETY: the ioctl writes one u64, and `id` is one.
    let done = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_MNTNS_ID as _, &raw mut id) };
    if done == 0 { Ok(id) } else { Err(last()) }
}

/// The user namespace that owns a namespace, from a descriptor of the latter.
///
/// # Errors
/// `EPERM` when it is out of this process's reach.
pub fn owner(ns: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the ioctl takes no argument.
    let fd = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_USERNS as _) };
    // SAFETY: when the call succeeds, this is a new descriptor that nobody else owns.
    if fd >= 0 { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) } else { Err(last()) }
}

/// Fills `buffer` with the kernel's `struct statmount` for a mount of a namespace, by their 64-bit
/// ids; `mask` says what is wanted. Needs CAP_SYS_ADMIN over the namespace.
///
/// # Errors
/// `ENOSYS` before 6.8, `EINVAL` before 6.11, `EOVERFLOW` when the buffer is too small, `ENOENT` for
/// a mount that is not there, `EPERM`.
pub fn statmount(mount: u64, namespace: u64, mask: u64, buffer: &mut [u64]) -> Result<(), Errno> {
    let request = Request { size: 32, spare: 0, mount, param: mask, namespace };
    // SAFETY: the request is as long as it says; the kernel writes no more than the given length
    // into the buffer, which is aligned for the structure's u64 fields.
    let done = unsafe {
        libc::syscall(
            STATMOUNT,
            &raw const request,
            buffer.as_mut_ptr(),
            size_of_val(buffer),
            0_u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(libc::EIO))
}
