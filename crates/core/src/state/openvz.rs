//! Configuration files of OpenVZ's containers, `/etc/vz/conf/ID.conf`: a shell's assignments, one a line
//! (libvzctl lib/config.c). In Virtuozzo they are links to `ve.conf` beside the container's files, which is
//! root's all the same.

use bstr::{BString, ByteSlice};
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

/// Where the files are, beneath the host's root.
pub const DIR: &str = "etc/vz/conf";
/// Where containers' files are, and what such links lead to.
pub const PLACE: &str = "vz/private";
/// Longest file.
const CAP: usize = 1 << 20;

/// What is used of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `NAME`, which the administrator may give.
    pub name: Option<BString>,
    /// `OSTEMPLATE`, what it was made of.
    pub template: Option<BString>,
}

/// Reads the assignments; the last one of a name counts, and other lines say nothing.
#[must_use]
pub fn parse(bytes: &[u8]) -> Config {
    let mut config = Config::default();
    for line in bytes.lines().map(<[u8]>::trim_ascii) {
        let Some((key, value)) = line.split_once_str("=") else { continue };
        let value = value.trim_ascii();
        let quoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
        let value = Some(BString::from(quoted.unwrap_or(value))).filter(|v| !v.is_empty());
        match key.trim_ascii() {
            b"NAME" => config.name = value,
            b"OSTEMPLATE" => config.template = value,
            _ => {}
        }
    }
    config
}

/// The path of a container's file beneath the host's root.
#[must_use]
pub fn file(id: &[u8]) -> Vec<u8> {
    [DIR.as_bytes(), b"/", id, b".conf"].concat()
}

/// Reads a container's file.
///
/// # Errors
/// The read's; `unsupported` where it is a link to elsewhere.
pub fn read(root: &Root, id: &[u8]) -> Result<Config, ReadError> {
    let file = file(id);
    if let Ok(target) = root.read_link(&file) {
        let rest = target.strip_prefix(b"/").and_then(|path| strip(PLACE.as_bytes(), path));
        if rest.is_none_or(|rest| rest.split_str("/").any(|part| part == b"..")) {
            let why = format!("it leads out of /{PLACE}");
            return Err(ReadError::new(root.join(&file), Class::Unsupported, why));
        }
    }
    Ok(parse(&root.read(&file, CAP)?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn assignments_and_nothing_else() {
        let text = b"# NAME=\"no\"\n ONBOOT=\"yes\"\nNAME=\"old\"\nNAME=\"web 1\"\nOSTEMPLATE=centos-7\nHOSTNAME=\"\"\nNAME\n";
        let config = parse(text);
        assert_eq!(config.name.unwrap(), "web 1");
        assert_eq!(config.template.unwrap(), "centos-7");
        assert_eq!(parse(b"NAME=\"").name.unwrap(), "\"");
    }
}
