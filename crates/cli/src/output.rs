//! Standard output, buffered, and its errors.

use std::io::{self, BufWriter, Write};

use anyhow::Result;

/// Runs `print` over buffered standard output and flushes it.
///
/// # Errors
/// The writer's.
pub(crate) fn with_stdout(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    try_with_stdout(|out| Ok(print(out)?))
}

/// As [`with_stdout`], for what may fail otherwise too.
///
/// # Errors
/// The writer's, and those of `print`.
pub(crate) fn try_with_stdout(print: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    print(&mut out)?;
    out.flush()?;
    Ok(())
}
