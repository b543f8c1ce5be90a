//! Scanning all processes: by `/proc` here, by the kernel's task iterator in [`bpf`].

pub mod bpf;
pub mod cgroups;
mod names;
mod source;

pub use cgroups::Memberships;
pub use names::{Listed, Names};
pub use source::{ByProc, Source, tasks};

use crate::error::ReadError;
use crate::host::Host;
use crate::read::process::ProcDir;

/// Calls `each` for every process there is, in ascending PID order on a procfs. A process that ends
/// before it is opened is left out; one that may not be opened is passed on as its error.
///
/// # Errors
/// When the directory of processes itself can't be read.
pub fn each_process<'h>(
    host: &'h Host,
    each: &mut dyn FnMut(u32, Result<ProcDir<'h>, ReadError>),
) -> Result<(), ReadError> {
    for pid in host.pids()? {
        each(pid, host.process(pid));
    }
    Ok(())
}
