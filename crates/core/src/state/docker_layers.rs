//! Docker's layer store: `image/<driver>/layerdb`, `imagedb`, `repositories.json`, and overlay2's own
//! small files.
//!
//! Names are moby's (daemon/internal/layer/filestore.go, image/fs.go, refstore/store.go,
//! graphdriver/overlay2/overlay.go). Each file holds one value, without a newline.

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};
use serde::Deserialize;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::json;

/// Largest of the files that hold one value, bytes.
const SMALL: usize = 4096;
/// Largest `lower`: moby stacks 125 layers at most.
const LOWER: usize = 64 * 1024;
/// Longest name of a layer's directory (`NAME_MAX`).
const LONGEST: usize = 255;

/// The 64 digits of a `sha256:...` digest.
///
/// # Errors
/// What is wrong with it.
pub fn parse_digest(bytes: &[u8]) -> Result<BString, String> {
    match bytes.strip_prefix(b"sha256:") {
        Some(hex) if is_hex64(hex) => Ok(hex.into()),
        _ if bytes.is_empty() => Err("empty".into()),
        _ => Err("no sha256 digest".into()),
    }
}

/// A name of a layer's directory: one component of a path, of letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_name(bytes: &[u8]) -> Result<BString, String> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    match bytes {
        [] => Err("empty".into()),
        b"." | b".." => Err("no name of a layer".into()),
        name if name.len() <= LONGEST && name.iter().all(plain) => Ok(name.into()),
        _ => Err("no name of a layer".into()),
    }
}

/// overlay2's `link`: the short name of a layer, 26 letters and digits.
///
/// # Errors
/// What is wrong with it.
pub fn parse_link(bytes: &[u8]) -> Result<BString, String> {
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if bytes.len() == 26 && bytes.iter().all(plain) {
        return Ok(bytes.into());
    }
    Err(if bytes.is_empty() { "empty".into() } else { "no short name of a layer".into() })
}

/// overlay2's `lower`: the short names of the layers below, the nearest first.
///
/// # Errors
/// What is wrong with it.
pub fn parse_lower(bytes: &[u8]) -> Result<Vec<BString>, String> {
    let short = |part: &[u8]| match part.strip_prefix(b"l/") {
        Some(name) => parse_link(name),
        None => Err("no list of short names".into()),
    };
    if bytes.is_empty() {
        return Err("empty".into());
    }
    bytes.split_str(":").map(short).collect()
}

#[derive(Deserialize)]
struct ImageConfig {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    /// Absent or null for an image without layers.
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// The diff ids of an image's layers, the lowest first, from its configuration.
///
/// # Errors
/// What is wrong with it.
pub fn parse_image(bytes: &[u8]) -> Result<Vec<BString>, String> {
    let config: ImageConfig = json::parse(bytes)?;
    let ids = config.rootfs.diff_ids.unwrap_or_default();
    ids.iter().map(|id| parse_digest(id.as_bytes())).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    #[serde(default)]
    repositories: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

/// The names of images: id (64 digits) to its tags; to references by digest only where it has no
/// tag. Sorted.
///
/// # Errors
/// What is wrong with it.
pub fn parse_repositories(bytes: &[u8]) -> Result<BTreeMap<BString, Vec<BString>>, String> {
    let read: Repositories = json::parse(bytes)?;
    let mut names: BTreeMap<BString, Vec<BString>> = BTreeMap::new();
    for (name, id) in read.repositories.into_iter().flatten().flat_map(|(_, refs)| refs) {
        names.entry(parse_digest(id.as_bytes())?).or_default().push(name.into());
    }
    for of_one in names.values_mut() {
        of_one.sort();
        if of_one.iter().any(|n| !n.contains(&b'@')) {
            of_one.retain(|n| !n.contains(&b'@'));
        }
    }
    Ok(names)
}

/// Reads a file that holds one value.
///
/// # Errors
/// The read's, or `malformed`.
pub fn value<T>(
    root: &Root,
    rel: &[u8],
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<T, ReadError> {
    sized(root, rel, SMALL, parse)
}

/// As [`value`], for a file that need not be there.
///
/// # Errors
/// As there, but for `gone`.
pub fn optional<T>(
    root: &Root,
    rel: &[u8],
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, ReadError> {
    match value(root, rel, parse) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    }
}

/// The short names of the layers below one of overlay2's; empty for a lowest one.
///
/// # Errors
/// The read's, or `malformed`.
pub fn lower(root: &Root, layer: &[u8]) -> Result<Vec<BString>, ReadError> {
    match sized(root, &[layer, b"/lower"].concat(), LOWER, parse_lower) {
        Err(e) if e.class == Class::Gone => Ok(Vec::new()),
        read => read,
    }
}

/// Reads a JSON file of the image store.
///
/// # Errors
/// The read's, or `malformed`.
pub fn document<T>(
    root: &Root,
    rel: &[u8],
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<T, ReadError> {
    sized(root, rel, json::CAP, parse)
}

fn sized<T>(
    root: &Root,
    rel: &[u8],
    cap: usize,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<T, ReadError> {
    let bytes = root.read_of_admin(rel, cap)?;
    parse(&bytes).map_err(|why| ReadError::new(root.join(rel), Class::Malformed, why))
}

/// Whether it is an id of 64 lower case hexadecimal digits.
#[must_use]
pub fn is_hex64(text: &[u8]) -> bool {
    text.len() == 64 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{
        parse_digest, parse_image, parse_link, parse_lower, parse_name, parse_repositories,
    };

    #[test]
    fn digests_are_64_lower_case_digits() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(parse_digest(format!("sha256:{hex}").as_bytes()).unwrap(), hex.as_str());
        for bad in ["", "sha256:", &hex, &format!("sha256:{hex}\n"), &format!("sha512:{hex}")] {
            assert!(parse_digest(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_digest(format!("sha256:{}", hex.to_uppercase()).as_bytes()).is_err());
    }

    #[test]
    fn a_name_is_one_component() {
        for good in ["ab", "mvylmwno7au64ylrz58qvx4g5", "ab-init", "a.b"] {
            assert_eq!(parse_name(good.as_bytes()).unwrap(), good);
        }
        for bad in ["", ".", "..", "a/b", "../x", "a\n", "a b", "\u{e4}", &"a".repeat(256)] {
            assert!(parse_name(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overlays_short_names() {
        let (a, b) = ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "2BCDEFGHIJKLMNOPQRSTUVWXYZ");
        assert_eq!(parse_link(a.as_bytes()).unwrap(), a);
        assert_eq!(parse_lower(format!("l/{a}:l/{b}").as_bytes()).unwrap(), [a, b]);
        for bad in
            ["", "l/", "../x", &format!("{a}:{b}"), &format!("l/{a}:"), &format!("l/{a}:l/..")]
        {
            assert!(parse_lower(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_and_their_names() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let config = format!(
            r#"{{"config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{a}","sha256:{b}"]}}}}"#
        );
        assert_eq!(parse_image(config.as_bytes()).unwrap(), [a.as_str(), b.as_str()]);
        assert!(parse_image(br#"{"rootfs":{"type":"layers"}}"#).unwrap().is_empty());
        assert!(
            parse_image(br#"{"rootfs":{"type":"layers","diff_ids":null}}"#).unwrap().is_empty()
        );
        for bad in ["", "{}", r#"{"rootfs":{"diff_ids":["../x"]}}"#] {
            assert!(parse_image(bad.as_bytes()).is_err(), "{bad}");
        }
        let names = format!(
            r#"{{"Repositories":{{"app":{{"app:2":"sha256:{a}","app:1":"sha256:{a}","app@sha256:{b}":"sha256:{a}"}},
               "lib":{{"lib@sha256:{b}":"sha256:{b}"}}}}}}"#
        );
        let names = parse_repositories(names.as_bytes()).unwrap();
        assert_eq!(names[a.as_bytes()], ["app:1", "app:2"]);
        assert_eq!(names[b.as_bytes()], [format!("lib@sha256:{b}")]);
        assert!(parse_repositories(br#"{"Repositories":{"a":{"a:1":"x"}}}"#).is_err());
        assert!(parse_repositories(b"{}").unwrap().is_empty());
    }
}
