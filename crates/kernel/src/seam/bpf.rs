//! bpf(2): what it takes to run a task iterator. Nothing is pinned; all ends with the descriptors.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;
use rustix::io::Errno;

// Of include/uapi/linux/bpf.h: `enum bpf_cmd`, `bpf_map_type`, `bpf_prog_type`, `bpf_attach_type`.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const BTF_LOAD: libc::c_int = 18;
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;
const PERCPU_ARRAY: u32 = 6;
const TRACING: u32 = 26;
const TRACE_ITER: u32 = 28;

/// The program's licence, which some helpers ask for.
const LICENCE: &CStr = c"Dual MIT/GPL";

/// `union bpf_attr`: words at the places that the header gives them.
#[repr(C, align(8))]
struct Attr([u32; 32]);

impl Attr {
    fn new(words: &[(usize, u32)]) -> Self {
        let mut attr = Self([0; 32]);
        for (offset, word) in words {
            attr.0[offset / 4] = *word;
        }
        attr
    }

    /// Puts the address and length of memory that has to outlive the call.
    fn memory(mut self, offset: usize, start: *const u8) -> Self {
        let address = start as u64;
        for (n, half) in address.to_ne_bytes().chunks_exact(4).enumerate() {
            self.0[offset / 4 + n] = half.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        }
        self
    }
}

/// A program of an iterator.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its instructions, relocated.
    pub instructions: &'a [bpf_insn],
    /// The kernel's BTF id of the function it is attached to.
    pub target: u32,
    /// Its own BTF with the functions in it, which a program with a callback needs: the descriptor,
    /// `struct bpf_func_info` by `struct bpf_func_info`, and the length of one.
    pub functions: Option<(BorrowedFd<'a>, &'a [u8], u32)>,
}

/// Hands BTF to the kernel.
///
/// # Errors
/// `EPERM` without the privilege, `EINVAL` when the kernel does not understand it.
pub fn load_btf(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let attr = Attr::new(&[(16, length(bytes)?)]).memory(0, bytes.as_ptr());
    // SAFETY: `btf` (0) and `btf_size` (16) are the bytes, which outlive the call.
    unsafe { bpf(BTF_LOAD, &attr) }
}

/// A map with one `u64` for each CPU.
///
/// # Errors
/// `EPERM` without the privilege; before 5.11 also when the limit of locked memory is reached.
pub fn per_cpu_map() -> Result<OwnedFd, Errno> {
    let attr = Attr::new(&[(0, PERCPU_ARRAY), (4, 4), (8, 8), (12, 1)]);
    // SAFETY: type, size of key and value and number of entries are the whole of it.
    unsafe { bpf(MAP_CREATE, &attr) }
}

/// Loads a program. What the verifier says goes to `log` if that is not empty.
///
/// # Errors
/// `EPERM` as [`per_cpu_map`]; `EACCES`, `EINVAL` and others from the verifier; `ENOSPC` when `log` is
/// too short.
pub fn load(program: &Program<'_>, log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let count = u32::try_from(program.instructions.len()).map_err(|_| Errno::TOOBIG)?;
    let words = [(0, TRACING), (4, count), (68, TRACE_ITER), (108, program.target)];
    let mut attr = Attr::new(&words)
        .memory(8, program.instructions.as_ptr().cast())
        .memory(16, LICENCE.as_ptr().cast());
    if let Some((btf, functions, each)) = program.functions {
        attr.0[72 / 4] = btf.as_raw_fd().cast_unsigned();
        attr.0[76 / 4] = each;
        attr.0[88 / 4] = length(functions)?.checked_div(each).unwrap_or(0);
        attr = attr.memory(80, functions.as_ptr());
    }
    if !log.is_empty() {
        attr.0[24 / 4] = 1; // level
        attr.0[28 / 4] = length(log)?;
        attr = attr.memory(32, log.as_mut_ptr());
    }
    // SAFETY: `insns` (8) are `insn_cnt` (4) instructions, `license` (16) ends with a NUL, `func_info`
    // (80) is `func_info_cnt` (88) records, `log_buf` (32) is `log_size` (28) writable bytes; all
    // outlive the call. The kernel checks what the instructions do.
    unsafe { bpf(PROG_LOAD, &attr) }
}

/// Starts a loaded program's iterator: what it writes is read from the descriptor.
///
/// # Errors
/// `EPERM` without the privilege.
pub fn iterate(program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let attr = Attr::new(&[(0, program.as_raw_fd().cast_unsigned()), (8, TRACE_ITER)]);
    // SAFETY: the program's descriptor (0) and the attach type (8) are the whole of it.
    let link = unsafe { bpf(LINK_CREATE, &attr) }?;
    let attr = Attr::new(&[(0, link.as_raw_fd().cast_unsigned())]);
    // SAFETY: the link's descriptor (0) is the whole of it.
    unsafe { bpf(ITER_CREATE, &attr) }
}

fn length(bytes: &[u8]) -> Result<u32, Errno> {
    u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)
}

/// # Safety
/// `command` gives a new descriptor, and the addresses in `attr` are good for what it does with them.
unsafe fn bpf(command: libc::c_int, attr: &Attr) -> Result<OwnedFd, Errno> {
    // SAFETY: `attr` is as long as is said; the rest is the caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<Attr>()) };
    match i32::try_from(fd) {
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => {
            let raw = std::io::Error::last_os_error().raw_os_error();
            Err(Errno::from_raw_os_error(raw.unwrap_or(libc::EIO)))
        }
    }
}
