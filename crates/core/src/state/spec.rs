//! What an OCI configuration mounts in a container (runtime-spec config.md, "Mounts"). containerd, CRI-O and
//! Podman keep it.

use bstr::{BStr, BString, ByteSlice};
use serde::Deserialize;

use super::json;
use crate::model::Mounting;

/// One of its mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where, from the container's root.
    pub destination: String,
    /// `bind`, `tmpfs` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The host's directory or file, of a bind.
    pub source: String,
    /// `rbind`, `ro` and so on.
    pub options: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    mounts: Option<Vec<Mount>>,
}

impl Mount {
    /// What lies where, by it.
    ///
    /// # Errors
    /// When it names a directory of the host in a way that only its bundle explains.
    pub fn mounting(self) -> Result<Mounting, String> {
        let is_bind = |option: &String| option == "bind" || option == "rbind";
        let at = self.destination.into();
        if self.kind != "bind" && !self.options.iter().flatten().any(is_bind) {
            return Ok(Mounting { at, from: None });
        }
        if !self.source.starts_with('/') {
            return Err(format!("the source of its mount at {at} is not absolute"));
        }
        Ok(Mounting { at, from: Some(plain(self.source.as_bytes().as_bstr())) })
    }
}

/// A path without what does not change it.
fn plain(path: &BStr) -> BString {
    let names = path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    [b"/", &bstr::join("/", names)[..]].concat().into()
}

/// Parses the configuration, for its mounts.
///
/// # Errors
/// What is wrong with it.
pub fn mounts(bytes: &[u8]) -> Result<Vec<Mounting>, String> {
    let spec: Spec = json::parse(bytes)?;
    spec.mounts.unwrap_or_default().into_iter().map(Mount::mounting).collect()
}

#[cfg(test)]
mod tests {
    use super::mounts;

    #[test]
    fn binds_and_what_is_none() {
        let read = mounts(
            br#"{"ociVersion":"1.0.2","mounts":[
                {"destination":"/proc","type":"proc","source":"proc","options":["nosuid"]},
                {"destination":"/etc/hosts","type":"bind","source":"/var//x/./hosts","options":["ro"]},
                {"destination":"/data","type":"none","source":"/srv/d","options":["rbind","rw"]},
                {"destination":"/t","type":"tmpfs","source":"/srv/t","options":null}]}"#,
        )
        .unwrap();
        let told: Vec<(&[u8], Option<&[u8]>)> =
            read.iter().map(|m| (&m.at[..], m.from.as_deref().map(|f| &f[..]))).collect();
        let expected: [(&[u8], Option<&[u8]>); 4] = [
            (b"/proc", None),
            (b"/etc/hosts", Some(b"/var/x/hosts")),
            (b"/data", Some(b"/srv/d")),
            (b"/t", None),
        ];
        assert_eq!(told, expected);
        assert_eq!(mounts(b"{}"), Ok(Vec::new()));
        assert_eq!(mounts(br#"{"mounts":null}"#), Ok(Vec::new()));
    }

    #[test]
    fn what_only_the_bundle_explains() {
        let relative = br#"{"mounts":[{"destination":"/a","type":"bind","source":"b"}]}"#;
        assert!(mounts(relative).unwrap_err().contains("/a"));
        assert!(mounts(b"[").is_err() && mounts(br#"{"mounts":7}"#).is_err());
    }
}
