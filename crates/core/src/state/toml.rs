//! TOML of engines' configuration files.

use serde::de::DeserializeOwned;

/// Largest configuration file taken, bytes.
pub const CAP: usize = 1 << 20;

/// Parses bytes into `T`.
///
/// # Errors
/// What is wrong, on one line.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    toml::from_str(text).map_err(|e| format!("not TOML: {}", e.message().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::parse;

    #[test]
    fn tables_and_damage() {
        let parsed: BTreeMap<String, String> = parse(b"a = \"b\"\n").unwrap();
        assert_eq!(parsed["a"], "b");
        let fails = |bytes: &[u8]| parse::<BTreeMap<String, String>>(bytes).unwrap_err();
        assert_eq!(fails(b"\xff"), "not UTF-8");
        assert!(fails(b"[a").starts_with("not TOML: "));
        assert!(fails(b"a = 1").starts_with("not TOML: "));
        let deep = [&b"a = "[..], &b"[".repeat(100_000)].concat();
        assert!(!fails(&deep).contains('\n'));
    }
}
