//! What chores build: the program under judgement, and small C programs, for what needs fork or wait4
//! is no safe Rust.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The program to judge or to measure, and whether it was built for that: the one named, that of
/// `WHOSE_BIN`, or a fresh release build.
pub(crate) fn whose(root: &Path, named: Option<&PathBuf>) -> Result<(PathBuf, bool)> {
    let named = named.cloned().or_else(|| std::env::var_os("WHOSE_BIN").map(PathBuf::from));
    let built = named.is_none();
    let path = match named {
        Some(path) => path,
        None => {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .current_dir(root)
                .args(["build", "--quiet", "--locked", "--release", "--package", "whose"])
                .stdin(Stdio::null())
                .status()
                .context("running cargo")?;
            ensure!(status.success(), "whose does not build");
            std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| root.join("target"), PathBuf::from)
                .join("release/whose")
        }
    };
    ensure!(path.is_file(), "there is no program {}", path.display());
    Ok((path.canonicalize().context("the path of the program")?, built))
}

/// Flags of a program without libraries: a process of it is small, and runs whatever its root is.
pub(crate) const STATIC: &[&str] = &["-static"];

/// Compiles a C program into `dir`, with these flags of the compiler.
pub(crate) fn c_program(dir: &Path, name: &str, source: &str, flags: &[&str]) -> Result<PathBuf> {
    let code = dir.join(format!("{name}.c"));
    let path = dir.join(name);
    std::fs::write(&code, source).with_context(|| format!("writing {}", code.display()))?;
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(cc)
        .args(["-O1", "-Wall"])
        .args(flags)
        .arg("-o")
        .args([&path, &code])
        .stdin(Stdio::null())
        .status()
        .context("running cc; set CC to a C compiler")?;
    ensure!(status.success(), "{name}.c does not compile");
    Ok(path)
}
