//! Children for what may never end: clone(2) with this program's memory, and fork(2).
#![allow(unsafe_code, reason = "neither has a safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

/// Bytes of stack of a child that shares this program's memory; what it does not touch costs nothing.
const STACK: usize = 256 * 1024;
/// Bytes below it that nobody may touch.
const GUARD: usize = 64 * 1024;

/// What a child has of this program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The memory itself, as a thread has it; but it is a process of its own, for which nobody has to
    /// wait. That costs a third of a fork, which copies tables, and pages when they are written to.
    ///
    /// Whoever changes mappings holds a lock of theirs: such a child must neither map a file that may
    /// not answer nor touch one that is mapped, or it could hold this program up. To open one and to
    /// read it takes no such lock.
    Shared,
    /// A copy.
    Copied,
}

/// What the child is given, and what it does with it. It must only make system calls that leave
/// `errno` alone, and touch what it was given: with shared memory this program goes on meanwhile,
/// with a copy another thread may have held a lock at that moment.
pub type Run<J> = fn(BorrowedFd<'_>, &mut J);

/// A child. Dropped without being reaped it goes on, and keeps what it was given for ever.
#[derive(Debug)]
#[must_use]
pub struct Child {
    pid: u32,
    shared: Option<Shared>,
}

/// What a child uses of this program's memory. It has no destructor: only [`Child::reap`] knows that
/// the child has ended.
#[derive(Debug)]
struct Shared {
    stack: *mut libc::c_void,
    given: *mut libc::c_void,
    free: unsafe fn(*mut libc::c_void),
}

struct Given<J> {
    run: Run<J>,
    fd: i32,
    job: J,
}

impl Child {
    /// Starts one that runs `run` on its descriptor and `job`, and ends when that returns. All
    /// descriptors are the child's, too; `fd` is closed here.
    ///
    /// # Errors
    /// The kernel's: `EAGAIN` at a process limit, `ENOMEM`.
    pub fn start<J: Send + 'static>(
        memory: Memory,
        fd: OwnedFd,
        job: J,
        run: Run<J>,
    ) -> Result<Self, Errno> {
        // A child that could not close what it has inherited at once would set errno.
        if memory == Memory::Shared && can_close_range() {
            Self::beside(&fd, job, run)
        } else {
            Self::fork(&fd, job, run)
        }
    }

    fn beside<J: Send + 'static>(fd: &OwnedFd, job: J, run: Run<J>) -> Result<Self, Errno> {
        let stack = map_stack()?;
        let top = stack.wrapping_byte_add(GUARD + STACK);
        let given = Box::into_raw(Box::new(Given { run, fd: fd.as_raw_fd(), job })).cast();
        let shared = Shared { stack, given, free: free::<J> };
        // SAFETY: `enter` gets the pointer that it expects, to a value that this side does not touch
        // before the child has ended; `top` is the aligned end of a mapping that is the child's own.
        let pid = unsafe { libc::clone(enter::<J>, top, libc::CLONE_VM | libc::SIGCHLD, given) };
        match u32::try_from(pid) {
            Ok(pid) => Ok(Self { pid, shared: Some(shared) }),
            Err(_) => {
                shared.free();
                Err(Errno::AGAIN)
            }
        }
    }

    fn fork<J: Send + 'static>(fd: &OwnedFd, job: J, run: Run<J>) -> Result<Self, Errno> {
        let mut given = Given { run, fd: fd.as_raw_fd(), job };
        // SAFETY: fork takes no arguments. The child only runs `run`, bound by the rule above, and
        // then _exit, so no destructor or exit handler of the parent runs a second time.
        let pid = unsafe { libc::fork() };
        match u32::try_from(pid) {
            Ok(0) => {
                given.go();
                // SAFETY: _exit has no other effect.
                unsafe { libc::_exit(0) }
            }
            Ok(pid) => Ok(Self { pid, shared: None }),
            Err(_) => Err(Errno::AGAIN),
        }
    }

    /// Waits until it has ended, and frees what it was given.
    pub fn reap(mut self) {
        // Should somebody else have reaped it, nothing says that it has ended.
        if let (true, Some(shared)) = (self.wait(), self.shared.take()) {
            shared.free();
        }
    }

    /// Waits until it has ended; says whether it has. What it was given is kept for ever.
    pub fn wait(&mut self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let waited = loop {
            match rustix::process::waitpid(pid, WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        matches!(waited, Ok(Some(_)))
    }
}

impl<J> Given<J> {
    fn go(&mut self) {
        // SAFETY: the descriptor was open when the child was made, which has a table of its own and
        // closes everything but this one.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        (self.run)(fd, &mut self.job);
    }
}

impl Shared {
    fn free(self) {
        // SAFETY: both were made in `beside`, and the child, if it ever ran, has ended.
        unsafe {
            (self.free)(self.given);
            libc::munmap(self.stack, GUARD + STACK);
        }
    }
}

/// Where a child with shared memory begins; clone's wrapper ends it with what is returned.
extern "C" fn enter<J>(given: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `beside` passes a pointer to a `Given<J>` that nobody else uses as long as this runs.
    unsafe { &mut *given.cast::<Given<J>>() }.go();
    0
}

/// # Safety
/// The pointer must come from `Box::into_raw` of a `Given<J>`, and nobody may use it any more.
unsafe fn free<J>(given: *mut libc::c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(given.cast::<Given<J>>()) });
}

fn map_stack() -> Result<*mut libc::c_void, Errno> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
    let kind = kind | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the address, so no memory in use is replaced.
    let stack = unsafe { libc::mmap(std::ptr::null_mut(), GUARD + STACK, access, kind, -1, 0) };
    if stack == libc::MAP_FAILED {
        return Err(Errno::NOMEM);
    }
    // SAFETY: the range is part of the mapping just made.
    unsafe { libc::mprotect(stack, GUARD, libc::PROT_NONE) };
    Ok(stack)
}

/// Whether descriptors can be closed by range (close_range(2), kernel 5.9).
fn can_close_range() -> bool {
    // SAFETY: there is no descriptor of this number to be closed.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) == 0 }
}

/// Closes every descriptor from `first` to `last` of this process; before 5.9 the descriptors one by
/// one up to 1024.
pub fn close_range(first: u32, last: u32) {
    if first > last {
        return;
    }
    // SAFETY: called only by a child, which owns no Rust value for these descriptors that it will
    // use again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done != 0 {
        for fd in first..=last.min(1024) {
            // SAFETY: as above; closing a number that is not open only fails.
            unsafe { libc::syscall(libc::SYS_close, fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::{Child, Memory, close_range};

    fn add(fd: BorrowedFd<'_>, number: &mut u8) {
        // This side's end is open there too, and would keep the socket from closing.
        let own = fd.as_raw_fd().unsigned_abs();
        close_range(0, own.saturating_sub(1));
        close_range(own + 1, u32::MAX);
        let mut byte = [0];
        while rustix::io::read(fd, &mut byte) == Ok(1) {
            *number += byte[0];
            let _ = rustix::io::write(fd, &[*number]);
        }
    }

    #[test]
    fn both_kinds_answer_and_end() {
        for memory in [Memory::Shared, Memory::Copied] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let child = Child::start(memory, OwnedFd::from(theirs), 40, add).unwrap();
            let mut byte = [0];
            for expected in [41, 42] {
                ours.write_all(&[1]).unwrap();
                ours.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [expected], "{memory:?}");
            }
            drop(ours);
            child.reap();
        }
    }
}
