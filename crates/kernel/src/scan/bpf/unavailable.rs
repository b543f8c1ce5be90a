//! Why there is no task iterator.

use rustix::io::Errno;

use crate::error::{Class, ReadError};
use crate::host::Mode;

/// Why the task iterator can't be used; /proc gives the same. In the order in which it is found out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Another mode than live.
    #[error("only the running host's kernel can be asked, and this one is {}", .0.name())]
    Mode(Mode),
    /// What is read goes to a capture.
    #[error("a capture is made of what is read from files")]
    Recorded,
    /// The object is for 64-bit little-endian machines.
    #[error("it is built for 64-bit little-endian machines")]
    Machine,
    /// The numbers would be another namespace's.
    #[error("this is not the initial PID namespace")]
    Namespace,
    /// Without `CAP_BPF` and `CAP_PERFMON`, or `CAP_SYS_ADMIN`; or a security module forbids it.
    #[error("no permission: it needs CAP_BPF and CAP_PERFMON")]
    Forbidden,
    /// Kernel lockdown in its mode `confidentiality` (kernel_lockdown(7)).
    #[error("kernel lockdown: confidentiality mode forbids reading kernel memory")]
    Lockdown,
    /// The kernel does not describe its types (`CONFIG_DEBUG_INFO_BTF`).
    #[error("no kernel BTF: {0}")]
    NoBtf(ReadError),
    /// The kernel has no task iterator.
    #[error("this kernel has no task iterator (5.8)")]
    TooOld,
    /// `RLIMIT_MEMLOCK` is too low and may not be raised (before 5.11).
    #[error("the limit of locked memory is reached (ulimit -l)")]
    Memlock,
    /// The program does not fit this kernel, or its verifier refused it.
    #[error("this kernel refuses the program: {0}")]
    Refused(String),
    /// Reading failed.
    #[error("reading failed: {}", std::io::Error::from(*.0))]
    Unreadable(Errno),
    /// Whether it told of all processes can't be known without the list of them.
    #[error("/proc can't be listed: {}", .0.name())]
    NoList(Class),
    /// The time that the command may take is over.
    #[error("time ran out")]
    TimedOut,
    /// It says something else of this very process than /proc does.
    #[error("it says something else of this process than /proc does")]
    Disagrees,
}
