//! `config.toml`, as far as it says where containerd keeps its state.
//!
//! Source: containerd cmd/containerd/server/config. `root`, `state` and `imports` are top-level keys
//! in every version of it.

use bstr::{BStr, BString, ByteSlice};
use serde::Deserialize;
use whose_kernel::Host;

/// Largest file taken, bytes.
const CAP: usize = 1 << 20;
/// Files that others may import.
const MOST: usize = 16;
/// Entries that a directory of such files may have.
const MOST_LISTED: usize = 4096;

/// Where the two trees are, as far as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The tree of what lasts.
    pub root: Option<String>,
    /// The tree of what is true while it runs.
    pub state: Option<String>,
    /// Files that are read besides, and outrank this one.
    imports: Option<Vec<String>>,
}

/// Parses `config.toml`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Config, String> {
    let text = bytes.to_str().map_err(|_| "not UTF-8")?;
    toml::from_str(text).map_err(|e| e.message().lines().next().unwrap_or("not TOML").to_owned())
}

/// What the file says, with those that it imports, by name or by a pattern of names in a directory.
#[must_use]
pub fn read(host: &Host, path: &BStr) -> Option<Config> {
    // Where it is may be a daemon's word.
    let text = |path: &BStr| host.guard(path).and_then(|()| host.root().read(path, CAP)).ok();
    let mut config = parse(&text(path)?).ok()?;
    let dir = path.rsplit_once_str("/").map_or(&b""[..], |(dir, _)| dir);
    let mut files: Vec<BString> = Vec::new();
    for import in config.imports.take().unwrap_or_default() {
        let file = match import.starts_with('/') {
            true => BString::from(import),
            false => [dir, b"/", import.as_bytes()].concat().into(),
        };
        files.extend(matching(host, &file));
    }
    for file in files.into_iter().take(MOST) {
        let Some(other) = text(file.as_ref()).and_then(|b| parse(&b).ok()) else { continue };
        config.root = other.root.or(config.root);
        config.state = other.state.or(config.state);
    }
    Some(config)
}

/// The files that an import stands for, in the order in which containerd takes them: `*` and `?` are
/// any characters and any one of a name; in directories' names they are not followed.
fn matching(host: &Host, import: &BString) -> Vec<BString> {
    let (dir, name) = import.rsplit_once_str("/").unwrap_or((b"", import));
    if !name.iter().any(|b| b"*?".contains(b)) {
        return vec![import.clone()];
    }
    let listed = host.guard(dir).and_then(|()| host.root().list(dir, MOST_LISTED));
    let mut entries = listed.unwrap_or_default();
    entries.retain(|entry| fits(name, &entry.name));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.into_iter().map(|entry| [dir, b"/", &entry.name].concat().into()).collect()
}

/// Whether a name fits a pattern.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[from] => {
                (at, from) = (at + 1, from + 1);
            }
            _ => {
                // The last `*` takes one more.
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, from) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{fits, parse};

    #[test]
    fn patterns_are_of_one_name() {
        for (pattern, name) in
            [("*.toml", "a.toml"), ("*", ""), ("a?c*", "abcd"), ("*a*b", "aabab"), ("x", "x")]
        {
            assert!(fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*.toml", "a.tom"), ("?", ""), ("a?c", "ac"), ("*a*b", "aba")] {
            assert!(!fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn trees_are_top_level() {
        let config = parse(
            b"version = 2\nroot = \"/lab/root\"\nstate = \"/lab/state\"\n[grpc]\n  address = \"/a\"\n\
              [plugins.\"io.containerd.grpc.v1.cri\"]\n  root = \"x\"\n",
        )
        .unwrap();
        assert_eq!(config.root.as_deref(), Some("/lab/root"));
        assert_eq!(config.state.as_deref(), Some("/lab/state"));
        assert_eq!(parse(b"version = 3\n").unwrap().root, None);
    }

    #[test]
    fn damage_is_named() {
        for bad in [&b"root = "[..], b"root = 7", b"\xff", b"= ="] {
            assert!(!parse(bad).unwrap_err().is_empty());
        }
    }
}
