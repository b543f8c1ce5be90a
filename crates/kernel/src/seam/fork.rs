//! fork(2) for the worker.
#![allow(
    unsafe_code,
    reason = "fork has no safe wrapper: the child shares nothing but memory copies"
)]

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Forks. The child runs `body` and never returns; the parent gets the child's PID, which it need
/// not reap. `body` must only make system calls and touch memory that is already allocated, since
/// another thread may have held a lock at the moment of the fork.
///
/// `body` owns `fd`; it is closed in the parent.
///
/// # Errors
/// The kernel's: `EAGAIN` at a process limit, `ENOMEM`.
pub fn fork_into(fd: OwnedFd, body: impl FnOnce(OwnedFd)) -> Result<u32, Errno> {
    // SAFETY: fork takes no arguments. The child only runs `body`, bound by the rule above, and
    // then _exit, so no destructor or exit handler of the parent runs a second time.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Ok(0) => {
            body(fd);
            exit()
        }
        Ok(child) => Ok(child),
        Err(_) => Err(Errno::AGAIN),
    }
}

/// Ends this process at once: no destructor runs, no exit handler, nothing is flushed.
pub fn exit() -> ! {
    // SAFETY: _exit has no other effect.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor from `first` to `last` of this process (close_range(2), kernel 5.9;
/// before it, the descriptors one by one up to 1024).
pub fn close_range(first: u32, last: u32) {
    if first > last {
        return;
    }
    // SAFETY: called only by the forked child, which owns no Rust value for these descriptors that
    // it will use again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done != 0 {
        for fd in first..=last.min(1024) {
            // SAFETY: as above; closing a number that is not open only fails.
            unsafe { libc::syscall(libc::SYS_close, fd) };
        }
    }
}
