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

/// What the file says, with those that it imports by name. Patterns are not followed.
#[must_use]
pub fn read(host: &Host, path: &BStr) -> Option<Config> {
    let mut config = parse(&host.root().read(path, CAP).ok()?).ok()?;
    let dir = path.rsplit_once_str("/").map_or(&b""[..], |(dir, _)| dir);
    for import in config.imports.take().unwrap_or_default().into_iter().take(MOST) {
        let file = match import.starts_with('/') {
            true => BString::from(import),
            false => [dir, b"/", import.as_bytes()].concat().into(),
        };
        let bytes = host.root().read(&file, CAP).ok();
        let Some(other) = bytes.and_then(|b| parse(&b).ok()) else { continue };
        config.root = other.root.or(config.root);
        config.state = other.state.or(config.state);
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::parse;

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
