//! LXD's and Incus' copy of an instance's configuration: `backup.yaml` beside its root file system
//! (incus internal/server/backup/config/backup_config.go; LXD 4 and 5 write the same).

use bstr::BString;

use super::docker::time;
use super::yaml;

/// An instance, as far as the file has it. It is written when the instance is changed: its state is not
/// told by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its name in its project.
    pub name: BString,
    /// Its project; empty where the file does not say.
    pub project: BString,
    /// What the image calls itself.
    pub image: Option<BString>,
    /// Fingerprint of the image.
    pub fingerprint: Option<BString>,
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// The storage pool.
    pub pool: Option<BString>,
}

/// Parses the file.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Instance, String> {
    let document = yaml::parse(bytes)?;
    // LXD calls it `instance` in releases that keep virtual machines' in the same words.
    let of = |keys: &[&str]| {
        let way = |top: &'static str| {
            let keys: Vec<&str> = [&[top], keys].concat();
            document.get(&keys).filter(|value| !value.is_empty())
        };
        way("container").or_else(|| way("instance")).cloned()
    };
    let name = of(&["name"]).ok_or("no instance's name")?;
    let config = |key: &str| of(&["config", key]);
    let release = || {
        let os = config("image.os")?;
        Some(match config("image.release") {
            Some(release) => [&os[..], b"/", &release].concat().into(),
            None => os,
        })
    };
    Ok(Instance {
        name,
        project: of(&["project"]).unwrap_or_default(),
        image: config("image.description").or_else(release),
        fingerprint: config("volatile.base_image"),
        created: of(&["created_at"]).and_then(|text| time(str::from_utf8(&text).ok()?)),
        pool: document.get(&["pool", "name"]).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_lxd_writes() {
        let text = "container:\n  config:\n    image.os: Debian\n    image.release: bookworm\n    \
                    volatile.base_image: 6d25\n  created_at: 2026-11-26T01:41:00.431407392Z\n  \
                    name: c3\n  project: proj\npool:\n  name: fast\n";
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!((&read.name[..], &read.project[..]), (&b"c3"[..], &b"proj"[..]));
        assert_eq!(read.image.unwrap(), "Debian/bookworm");
        assert_eq!(read.fingerprint.unwrap(), "6d25");
        assert_eq!(read.created, Some(1_795_657_260_431));
        assert_eq!(read.pool.unwrap(), "fast");
        assert!(parse(b"pool:\n  name: x\n").is_err());
        assert_eq!(parse(b"instance:\n  name: a\n").unwrap().name, "a");
    }
}
