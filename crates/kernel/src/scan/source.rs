//! Which way all processes are read.

use super::bpf::{self, Scan, Unavailable, Wanted};
use crate::host::{Host, Mode};

/// Tasks, threads included, up to which /proc is read sooner than a program is loaded.
const FEW: u64 = 500;

/// How all processes are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// By the kernel's task iterator where that is faster and everyone could see the same, else
    /// by /proc.
    #[default]
    Auto,
    /// By /proc.
    Proc,
    /// By the kernel's task iterator whenever it can be used.
    Bpf,
}

/// Why /proc is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByProc {
    /// It was asked for.
    #[error("it was asked for")]
    Asked,
    /// The iterator knows no `hidepid`, so that it is taken for root only unless asked for.
    #[error("the task iterator is for root")]
    NotRoot,
    /// Loading a program takes longer.
    #[error("for {0} tasks it is faster than loading a program")]
    Few(u64),
    /// The iterator can't be used.
    #[error("no task iterator: {0}")]
    Unavailable(#[from] Unavailable),
}

/// Asks the kernel for all processes, if that is how they are to be read.
///
/// # Errors
/// Why /proc is to be read instead, which gives the same rows.
pub fn tasks(host: &Host, wanted: Wanted) -> Result<Scan, ByProc> {
    if host.mode() != Mode::Live {
        return Err(Unavailable::Mode(host.mode()).into());
    }
    match host.source() {
        Source::Proc => return Err(ByProc::Asked),
        Source::Bpf => {}
        Source::Auto => {
            if host.live().euid() != Ok(0) {
                return Err(ByProc::NotRoot);
            }
            if let Ok(count @ 0..=FEW) = host.task_count() {
                return Err(ByProc::Few(count));
            }
        }
    }
    Ok(bpf::tasks(host, wanted)?)
}
