//! `cargo xtask bpf`: builds the object of the kernel's task iterator. It lies in the tree, so that
//! nothing else needs clang; the same compiler makes the same bytes of it wherever the clone lies.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What is built, beneath the root.
const SOURCE: &str = "crates/kernel/bpf/tasks.bpf.c";
const OBJECT: &str = "crates/kernel/bpf/tasks.bpf.o";
/// Others write another object.
const CLANG: &str = "clang-14";
const STRIP: &str = "llvm-strip-14";

/// Builds the object; with `--check` compares it with the one in the tree instead. False when they
/// differ.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    let is_check = match words {
        [] => false,
        [word] if word == "--check" => true,
        _ => bail!("usage: cargo xtask bpf [--check]"),
    };
    let scratch = std::env::temp_dir().join(format!("whose-bpf-{}", std::process::id()));
    std::fs::create_dir(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let built = build(root, &scratch.join("tasks.bpf.o"));
    let removed = std::fs::remove_dir_all(&scratch);
    let built = built?;
    removed.with_context(|| format!("{}", scratch.display()))?;
    let object = root.join(OBJECT);
    if !is_check {
        std::fs::write(&object, &built).with_context(|| format!("{}", object.display()))?;
        println!("{OBJECT}: {} bytes", built.len());
        return Ok(true);
    }
    let present = std::fs::read(&object).with_context(|| format!("{}", object.display()))?;
    let same = built == present;
    if same {
        println!("{OBJECT} is what {SOURCE} makes");
    } else {
        println!("{OBJECT} is not what {SOURCE} makes; build it with: cargo xtask bpf");
    }
    Ok(same)
}

/// Compiles to `out` and reads it back. Paths are relative to the root, and DWARF, which holds the
/// root, is stripped; BTF stays.
fn build(root: &Path, out: &Path) -> Result<Vec<u8>> {
    let map = format!("-ffile-prefix-map={}=.", root.display());
    let mut clang = Command::new(CLANG);
    clang.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v2", &map]);
    finish(clang.args(["-c", SOURCE, "-o"]).arg(out), root, CLANG, "clang-14")?;
    finish(Command::new(STRIP).arg("-g").arg(out), root, STRIP, "llvm-14")?;
    std::fs::read(out).with_context(|| format!("{}", out.display()))
}

fn finish(command: &mut Command, root: &Path, name: &str, package: &str) -> Result<()> {
    let status = command.current_dir(root).status();
    let status = status.with_context(|| format!("{name} (Debian package {package})"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}
