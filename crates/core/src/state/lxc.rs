//! LXC's configuration of a container: `<lxcpath>/<name>/config`, lines of `key = value`
//! (lxc.container.conf(5)), and the comments that lxc-create writes above them (lxc
//! src/lxc/lxccontainer.c).

use bstr::{BStr, BString, ByteSlice};

/// Largest configuration file taken, bytes.
pub const CAP: usize = 1 << 20;

/// What lxc-create writes before the arguments it gave to the template.
const PARAMETERS: &str = "# Parameters passed to the template:";
/// Image names of the template `download` are made of these, in this order.
const DOWNLOAD: [[&str; 2]; 3] = [["-d", "--dist"], ["-r", "--release"], ["-a", "--arch"]];

/// Files that one configuration may include.
const MOST_FILES: usize = 256;

/// What reads the files that a configuration includes.
pub type Reader<'r, E> = dyn FnMut(&BStr) -> Result<Vec<Vec<u8>>, E> + 'r;

/// That more is included than makes sense.
#[derive(Clone, Copy, Debug)]
pub struct TooDeep;

/// A configuration, as far as this file itself goes: what it includes is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Keys and values, in order.
    entries: Vec<(BString, BString)>,
    /// The words after the template's name.
    parameters: Vec<BString>,
}

/// Key of what is read in the place of its own line.
pub const INCLUDE: &str = "lxc.include";

/// Parses a configuration. Lines that are none are left out, as LXC's own comments are.
#[must_use]
pub fn parse(bytes: &[u8]) -> Config {
    let mut config = Config::default();
    for line in bytes.lines().map(<[u8]>::trim_ascii) {
        if let Some(words) = line.strip_prefix(PARAMETERS.as_bytes()) {
            let words = words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            config.parameters = words.map(BString::from).collect();
        }
        if line.starts_with(b"#") {
            continue;
        }
        let Some((key, value)) = line.split_once_str("=") else { continue };
        let value = value.trim_ascii();
        // LXC takes one pair of quotes off (src/lxc/confile.c).
        let bare = ["\"", "'"]
            .iter()
            .find_map(|quote| value.strip_prefix(quote.as_bytes())?.strip_suffix(quote.as_bytes()));
        let pair = (key.trim_ascii().into(), bare.unwrap_or(value).into());
        config.entries.push(pair);
    }
    config
}

impl Config {
    /// The value of a key; of several the last, as LXC has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&BStr> {
        let of_key = self.entries.iter().rfind(|(k, _)| k == key);
        of_key.map(|(_, value)| value.as_bstr()).filter(|value| !value.is_empty())
    }

    /// The values of a key that collects them, in order: an empty one drops those before it.
    #[must_use]
    pub fn all(&self, key: &str) -> Vec<&BStr> {
        let mut all = Vec::new();
        for (_, value) in self.entries.iter().filter(|(k, _)| k == key) {
            if value.is_empty() {
                all.clear();
            } else {
                all.push(value.as_bstr());
            }
        }
        all
    }

    /// The same configuration with what it includes; `read` gives the files that a value names.
    ///
    /// # Errors
    /// That of `read`, and `TooDeep` where files include one another.
    pub fn whole<E: From<TooDeep>>(self, read: &mut Reader<'_, E>) -> Result<Self, E> {
        let (mut whole, mut files) = (Vec::new(), 0);
        let mut rest: Vec<(BString, BString)> = self.entries.into_iter().rev().collect();
        while let Some((key, value)) = rest.pop() {
            if key != INCLUDE {
                whole.push((key, value));
                continue;
            }
            for bytes in read(value.as_ref())?.into_iter().rev() {
                files += 1;
                if files > MOST_FILES {
                    return Err(TooDeep.into());
                }
                rest.extend(parse(&bytes).entries.into_iter().rev());
            }
        }
        Ok(Self { entries: whole, parameters: self.parameters })
    }

    /// The directory that is the container's root, if it is one directory of the host's.
    #[must_use]
    pub fn root_dir(&self) -> Option<&BStr> {
        let path = self.root()?;
        let bare = path.strip_prefix(b"dir:").map_or(path, BStr::new);
        bare.starts_with(b"/").then_some(bare)
    }

    /// What is written to where the root is no directory: of `overlay:LOWER...:UPPER` the last
    /// (src/lxc/storage/overlay.c), of `loop:` the image.
    #[must_use]
    pub fn written(&self) -> Option<&BStr> {
        let (kind, rest) = self.root()?.split_once_str(":")?;
        let path = match kind {
            b"overlay" | b"overlayfs" if rest.contains(&b':') => rest.rsplit_str(":").next()?,
            b"loop" => rest,
            _ => return None,
        };
        path.starts_with(b"/").then(|| path.as_bstr())
    }

    fn root(&self) -> Option<&BStr> {
        self.get("lxc.rootfs.path").or_else(|| self.get("lxc.rootfs"))
    }

    /// `DIST/RELEASE/ARCH` of a container that the template `download` made, when all were given.
    #[must_use]
    pub fn image(&self) -> Option<BString> {
        let given = |names: &[&str; 2]| {
            let at = self.parameters.iter().position(|word| names.iter().any(|n| word == n))?;
            self.parameters.get(at + 1)
        };
        let parts: Option<Vec<&BString>> = DOWNLOAD.iter().map(given).collect();
        Some(bstr::join("/", parts?).into())
    }
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, ByteSlice};

    use super::{TooDeep, parse};

    #[test]
    fn keys_and_comments() {
        let config = parse(
            b"# Template used to create this container: /usr/share/lxc/templates/lxc-download\n\
              # Parameters passed to the template: -d alpine -r 3.18 -a amd64\n\
              lxc.include = /usr/share/lxc/config/common.conf\n\
              lxc.rootfs.path = dir:/var/lib/lxc/a/rootfs\n\
              lxc.uts.name=\"first\"\n  lxc.uts.name = a \nrubbish\n",
        );
        assert_eq!(config.get("lxc.uts.name").unwrap(), "a");
        assert_eq!(config.root_dir().unwrap(), "/var/lib/lxc/a/rootfs");
        assert_eq!(config.image().unwrap(), "alpine/3.18/amd64");
        assert_eq!(config.get("lxc.net"), None);
    }

    #[test]
    fn what_is_included_comes_in_its_place() {
        let config = parse(
            b"lxc.mount.entry = a b none bind\nlxc.include = /one\nlxc.mount.entry = e f none bind\n",
        );
        let mut read = |path: &BStr| -> Result<Vec<Vec<u8>>, TooDeep> {
            Ok(match path.to_str().unwrap() {
                "/one" => vec![b"lxc.mount.entry = c d none bind\nlxc.include = /two\n".to_vec()],
                "/two" => vec![b"lxc.autodev = 0\n".to_vec()],
                _ => vec![b"lxc.include = /circle\n".to_vec()],
            })
        };
        let whole = config.whole(&mut read).unwrap();
        let entries = whole.all("lxc.mount.entry");
        assert_eq!(entries, ["a b none bind", "c d none bind", "e f none bind"]);
        assert_eq!(whole.get("lxc.autodev").unwrap(), "0");
        let cleared = parse(b"lxc.mount.auto = proc\nlxc.mount.auto =\nlxc.mount.auto = sys\n");
        assert_eq!(cleared.all("lxc.mount.auto"), ["sys"]);
        assert!(parse(b"lxc.include = /circle\n").whole(&mut read).is_err());
    }

    #[test]
    fn roots_that_are_no_directory_and_images_half_told() {
        for none in ["overlay:/a:/b", "loop:/x.img", "zfs:tank/a", ""] {
            let text = format!("lxc.rootfs.path = {none}\n");
            assert_eq!(parse(text.as_bytes()).root_dir(), None, "{none}");
        }
        let written = |path: &str| {
            let config = parse(format!("lxc.rootfs.path = {path}\n").as_bytes());
            config.written().map(ToString::to_string)
        };
        assert_eq!(written("overlay:/a:/b:/c").unwrap(), "/c");
        assert_eq!(written("overlayfs:/a:/c").unwrap(), "/c");
        assert_eq!(written("loop:/x.img").unwrap(), "/x.img");
        for none in ["overlay:/a", "overlay:/a:b", "dir:/a", "/a:/b", "zfs:tank/a", "loop:x"] {
            assert_eq!(written(none), None, "{none}");
        }
        let old = parse(b"lxc.rootfs = /srv/a\n");
        assert_eq!(old.root_dir().unwrap(), "/srv/a");
        let half = parse(b"# Parameters passed to the template: -d alpine -r\n");
        assert_eq!(half.image(), None);
    }
}
