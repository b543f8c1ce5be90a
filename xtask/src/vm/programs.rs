//! The programs that run in a machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::tools;

/// Where they were built.
#[derive(Debug)]
pub(super) struct Programs {
    /// `whose` as it is released.
    pub(super) whose: PathBuf,
    /// The live tests of `whose exe`.
    pub(super) cases: PathBuf,
    /// This program.
    pub(super) xtask: PathBuf,
}

/// Builds what is not up to date.
pub(super) fn build(root: &Path) -> Result<Programs> {
    let whose = executable(root, &["build", "--release", "--package", "whose"], "whose")?;
    let test = ["test", "--no-run", "--profile", "ci", "--package", "whose-live-tests", "--test"];
    let words: Vec<&str> = test.into_iter().chain(["exe"]).collect();
    let cases = executable(root, &words, "exe")?;
    let xtask = std::env::current_exe().context("the path of xtask")?;
    Ok(Programs { whose, cases, xtask })
}

impl Programs {
    /// Name and code of each, without what only a debugger reads.
    pub(super) fn stripped(&self, place: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut all = Vec::new();
        for (name, path) in [("whose", &self.whose), ("cases", &self.cases), ("xtask", &self.xtask)]
        {
            let small = place.join(name);
            tools::output(Command::new("strip").arg("-o").args([&small, path]))?;
            all.push((name, std::fs::read(&small).with_context(|| format!("reading {name}"))?));
        }
        Ok(all)
    }
}

/// Has cargo build a target, and reads from its messages where that is.
fn executable(root: &Path, words: &[&str], target: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(root)
        .args(words)
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    ensure!(built.status.success(), "{target} does not build");
    let text = String::from_utf8_lossy(&built.stdout);
    let path = text.lines().filter_map(|line| path_in(line, target)).next_back();
    path.with_context(|| format!("cargo told no program {target}"))
}

fn path_in(line: &str, target: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let fits = message["target"]["name"] == target;
    message["executable"].as_str().filter(|_| fits).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::path_in;

    #[test]
    fn cargo_tells_where_a_program_is() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"exe"},"executable":"/t/exe-1"}"#;
        assert_eq!(path_in(line, "exe").unwrap().to_str(), Some("/t/exe-1"));
        assert_eq!(path_in(line, "whose"), None);
        assert_eq!(path_in(r#"{"target":{"name":"exe"},"executable":null}"#, "exe"), None);
    }
}
