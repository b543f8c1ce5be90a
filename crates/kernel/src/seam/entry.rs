//! Where a program starts: at C's `main`, without what std does before Rust's.
#![allow(unsafe_code, reason = "main's name and its arguments are C's")]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Starts a program at a `fn(Vec<OsString>) -> u8` that takes its arguments, its name first, and gives
/// its exit status. The file that uses it has `#![no_main]`.
///
/// std finds out before `main` where the stack ends, to tell why a program was killed if it ever runs
/// over that: it reads and parses `/proc/self/maps`, which takes a twenty-fifth of a short command.
/// What else it does, and this program needs, [`start`] does.
#[macro_export]
macro_rules! start_at {
    ($run:path) => {
        /// Where the C library goes.
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: ::std::ffi::c_int,
            arguments: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: the C library's own arguments are handed on.
            unsafe { $crate::seam::entry::start(count, arguments, $run) }
        }
    };
}

/// Runs a program: descriptors 0 to 2 are open, a closed pipe is an error of write(2) and no signal, and
/// what was printed is flushed.
///
/// # Safety
/// `arguments` are `count` C strings, as `main` gets them, and no other thread runs yet.
#[must_use]
pub unsafe fn start(
    count: c_int,
    arguments: *const *const c_char,
    run: fn(Vec<OsString>) -> u8,
) -> c_int {
    open_standard_descriptors();
    // SAFETY: it only sets what happens to a signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let count = usize::try_from(count).unwrap_or(0);
    let arguments = (0..count).map(|at| {
        // SAFETY: there are so many pointers to strings, and they live as long as the program.
        let argument = unsafe { CStr::from_ptr(*arguments.add(at)) };
        OsStr::from_bytes(argument.to_bytes()).to_os_string()
    });
    let code = run(arguments.collect());
    // Nobody is left who could be told of an error.
    let _ = std::io::stdout().flush();
    c_int::from(code)
}

/// Opens /dev/null in place of each of descriptors 0, 1 and 2 that is closed, since the next file that
/// is opened would get its number, and what is said on stderr would be written to it.
fn open_standard_descriptors() {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: it writes to the array, whose length it is told.
    let polled = unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) };
    for fd in fds {
        // Where poll is not allowed, each is asked for.
        let is_closed = if polled < 0 {
            // SAFETY: it reads one flag of a number.
            unsafe { libc::fcntl(fd.fd, libc::F_GETFD) < 0 }
        } else {
            fd.revents & libc::POLLNVAL != 0
        };
        // The lowest number that is free is this one: those below are open.
        // SAFETY: the path is a C string.
        if is_closed && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } < 0 {
            std::process::abort();
        }
    }
}
