//! Settings of a machine of systemd-nspawn: `NAME.nspawn` (systemd.nspawn(5)), as far as they say what is mounted.

use bstr::{BString, ByteSlice};

use crate::model::Mounting;

/// Largest file taken, bytes.
pub const CAP: usize = 1 << 20;

/// What of the machine's files are its own (`Volatile=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All.
    #[default]
    No,
    /// All but those in `/var`.
    State,
    /// None; it has its `/usr`.
    Yes,
    /// All, and what changes is lost.
    Overlay,
}

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `Volatile=`.
    pub volatile: Mode,
    /// What is mounted besides what every machine has.
    pub mounts: Vec<Mounting>,
    /// Why what is mounted can't be told.
    pub problem: Option<&'static str>,
}

/// Parses the file. What says nothing of mounts is left out.
#[must_use]
pub fn parse(bytes: &[u8]) -> Settings {
    let mut settings = Settings::default();
    let mut is_files = false;
    for line in bytes.lines().map(<[u8]>::trim_ascii) {
        if let Some(section) = line.strip_prefix(b"[") {
            is_files = section == b"Files]";
        }
        let Some((key, value)) = line.split_once_str("=").filter(|_| is_files) else { continue };
        let value = value.trim_ascii();
        match key.trim_ascii() {
            b"Volatile" => match value {
                b"overlay" => settings.volatile = Mode::Overlay,
                b"state" => settings.volatile = Mode::State,
                b"yes" | b"true" | b"on" | b"1" => settings.volatile = Mode::Yes,
                _ => settings.volatile = Mode::No,
            },
            b"Bind" | b"BindReadOnly" if !value.is_empty() => match bind(value) {
                Some(mounting) => settings.mounts.push(mounting),
                None => settings.problem = Some("one of its binds is not understood"),
            },
            b"TemporaryFileSystem" | b"Inaccessible" if !value.is_empty() => {
                match words(value).into_iter().next().filter(|at| at.starts_with(b"/")) {
                    Some(at) => settings.mounts.push(Mounting { at, from: None }),
                    None => settings.problem = Some("one of its mounts is not understood"),
                }
            }
            b"Overlay" | b"OverlayReadOnly" if !value.is_empty() => {
                settings.problem = Some("an overlay lies over some of its files");
            }
            _ => {}
        }
    }
    settings
}

/// `SOURCE[:DESTINATION[:OPTIONS]]`. A source that is empty is a new directory; one may be missing, or be the
/// machine's own.
fn bind(value: &[u8]) -> Option<Mounting> {
    let mut words = words(value).into_iter();
    let source = words.next()?;
    let at = words.next().filter(|at| !at.is_empty());
    if source.is_empty() {
        let at = at.filter(|at| at.starts_with(b"/"));
        return at.map(|at| Mounting { at, from: None });
    }
    let at = at.unwrap_or_else(|| source.clone());
    // With `-` it need not be there, with `+` it is below the machine's root.
    (source.starts_with(b"/") && at.starts_with(b"/"))
        .then_some(Mounting { at, from: Some(source) })
}

/// The words between colons; a backslash takes the next byte as it is.
fn words(value: &[u8]) -> Vec<BString> {
    let mut words = vec![BString::default()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        let word = match (byte, words.last_mut()) {
            (b':', _) => {
                words.push(BString::default());
                continue;
            }
            (_, Some(word)) => word,
            (_, None) => continue,
        };
        match byte {
            b'\\' => word.extend(bytes.next()),
            byte => word.push(*byte),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{Mode, parse};

    #[test]
    fn binds_and_memory() {
        let read = parse(
            b"[Exec]\nBoot=no\nBind=/none\n[Files]\nVolatile=state\nBind=/srv/a\\:b:/data:norbind\n\
              BindReadOnly = /etc/x\nTemporaryFileSystem=/mem:mode=0755\nBind=:/new\n[Network]\nBind=/no\n",
        );
        let told: Vec<(String, Option<String>)> = read
            .mounts
            .iter()
            .map(|m| (m.at.to_string(), m.from.as_ref().map(ToString::to_string)))
            .collect();
        let is = |at: &str, from: Option<&str>| (at.to_owned(), from.map(str::to_owned));
        let all = [
            is("/data", Some("/srv/a:b")),
            is("/etc/x", Some("/etc/x")),
            is("/mem", None),
            is("/new", None),
        ];
        assert_eq!(told, all);
        assert_eq!((read.volatile, read.problem), (Mode::State, None));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for bad in ["Bind=+/own", "Bind=-/may/be", "Overlay=/a:/b:/c", "OverlayReadOnly=/a:/b"] {
            assert!(parse(format!("[Files]\n{bad}\n").as_bytes()).problem.is_some(), "{bad}");
        }
        assert_eq!(parse(b"Bind=/a\n[Files]\nBind=\n"), super::Settings::default());
    }
}
