//! The small C programs: what needs fork and wait4 is no safe Rust.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Compiles one into `dir`, static: a process of it is small, and runs whatever its root is.
pub(crate) fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf> {
    let code = dir.join(format!("{name}.c"));
    let path = dir.join(name);
    std::fs::write(&code, source).with_context(|| format!("writing {}", code.display()))?;
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(cc)
        .args(["-O1", "-Wall", "-static", "-o"])
        .args([&path, &code])
        .stdin(Stdio::null())
        .status()
        .context("running cc; set CC to a C compiler")?;
    ensure!(status.success(), "{name}.c does not compile");
    Ok(path)
}
