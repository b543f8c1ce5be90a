//! The project's files, read once for all rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::source::Source;

/// Every file git tracks or would track.
pub(super) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
    sources: Vec<Source>,
    unparsed: Vec<(String, usize, String)>,
}

impl Tree {
    /// Reads the working tree at `root`.
    pub(super) fn load(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for path in listed(root)? {
            let full = root.join(&path);
            // A file may be deleted but not yet staged; a link is judged by
            // its name only, for it may point anywhere.
            let Ok(about) = full.symlink_metadata() else {
                continue;
            };
            let bytes = if about.is_file() {
                std::fs::read(&full).with_context(|| format!("reading {path}"))?
            } else {
                Vec::new()
            };
            files.push((path, bytes));
        }
        Ok(Self::of(files))
    }

    /// A tree of these files.
    pub(super) fn of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut tree = Self {
            paths: BTreeSet::new(),
            texts: BTreeMap::new(),
            sources: Vec::new(),
            unparsed: Vec::new(),
        };
        for (path, bytes) in files {
            tree.paths.insert(path.clone());
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            if text.contains('\0') {
                continue;
            }
            if path.ends_with(".rs") && !path.starts_with("fixtures/") {
                match Source::parse(&path, &text) {
                    Ok(source) => tree.sources.push(source),
                    Err((line, why)) => tree.unparsed.push((path.clone(), line, why)),
                }
            }
            tree.texts.insert(path, text);
        }
        tree.mark_test_files();
        tree
    }

    /// A file behind `#[cfg(test)] mod name;` is test code as a whole.
    fn mark_test_files(&mut self) {
        let mut marked: BTreeSet<String> = BTreeSet::new();
        for source in &self.sources {
            marked.extend(source.test_module_files());
        }
        for source in &mut self.sources {
            let below = |stem: &String| {
                source.path == format!("{stem}.rs") || source.path.starts_with(&format!("{stem}/"))
            };
            if marked.iter().any(below) {
                source.all_test = true;
            }
        }
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether `path` is a file, or a folder with a file in it.
    pub(super) fn holds(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.iter().any(|file| file.starts_with(&folder))
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// All text files, as path and text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All Rust files that parse.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The Rust files that do not parse: path, line and reason.
    pub(super) fn unparsed(&self) -> &[(String, usize, String)] {
        &self.unparsed
    }

    /// The manifests of the workspace's members, as path and parsed table; one
    /// that is no TOML is cargo's to report.
    pub(super) fn manifests(&self) -> Vec<(&str, &str, toml::Table)> {
        self.texts()
            .filter(|(path, _)| path.ends_with("/Cargo.toml") && !path.starts_with("fixtures/"))
            .filter_map(|(path, text)| Some((path, text, text.parse().ok()?)))
            .collect()
    }
}

/// The first line of `text` that `wanted` accepts, or 0.
pub(super) fn line_of(text: &str, wanted: impl Fn(&str) -> bool) -> usize {
    text.lines().position(wanted).map_or(0, |position| position + 1)
}

/// The paths git tracks, and those it neither tracks nor ignores.
fn listed(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        // A clone may belong to another user than the one who checks it.
        .arg("-c")
        .arg(format!("safe.directory={}", root.display()))
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .stdin(Stdio::null())
        .output()
        .context("running git")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let paths: BTreeSet<String> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    ensure!(!paths.is_empty(), "git lists no file");
    Ok(paths.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::Tree;

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())))
    }

    #[test]
    fn a_file_behind_a_test_module_is_test_code() {
        let tree = tree(&[
            ("crates/core/src/lib.rs", "#[cfg(test)] mod checks; mod model;"),
            ("crates/core/src/checks.rs", ""),
            ("crates/core/src/model.rs", "#[cfg(test)] mod deep;"),
            ("crates/core/src/model/deep.rs", ""),
        ]);
        let tests: Vec<&str> = tree
            .sources()
            .iter()
            .filter(|source| source.all_test)
            .map(|source| source.path.as_str())
            .collect();
        assert_eq!(tests, ["crates/core/src/checks.rs", "crates/core/src/model/deep.rs"]);
    }

    #[test]
    fn folders_are_held_too() {
        let tree = tree(&[("docs/a/b.md", "")]);
        assert!(tree.holds("docs/a/b.md") && tree.holds("docs/a/") && tree.holds("docs"));
        assert!(!tree.holds("docs/a/b"));
    }

    #[test]
    fn what_does_not_parse_is_kept_with_its_line() {
        let tree = tree(&[("xtask/src/x.rs", "fn a() {}\nfn {}")]);
        assert_eq!(tree.unparsed()[0].1, 2);
    }
}
