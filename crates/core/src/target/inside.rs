//! A file as a process or a container has it: `web:/etc/hosts`, `4761:/etc/hosts`.

use bstr::{BStr, BString, ByteSlice};

use super::{KINDS, Target, Typed};

/// A path from the root of a process, or of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Whose it is: a PID, a container, a pod with one container.
    pub of: Box<Typed>,
    /// The path, with a leading slash.
    pub path: BString,
}

/// What stands before the first `:/`, and the path: a slash after the colon. Not for host paths, and not
/// for kinds whose value is a path.
#[must_use]
pub fn split(text: &BStr) -> Option<(&BStr, &BStr)> {
    let at = text.windows(2).position(|two| two == b":/");
    let at = at.filter(|at| *at > 0 && !text.starts_with(b"/"))?;
    let (of, path) = (&text[..at], &text[at + 1..]);
    (!KINDS.iter().any(|kind| kind.as_bytes() == of)).then(|| (of.as_bstr(), path.as_bstr()))
}

/// The target, where what stands before is one that has a root directory.
#[must_use]
pub fn of(typed: Typed, path: &BStr) -> Option<Inside> {
    let fits = matches!(typed.target, Target::Pid(_) | Target::Container(_) | Target::Pod(_));
    (fits && !path.contains(&0)).then(|| Inside { of: Box::new(typed), path: path.into() })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::split;

    #[test]
    fn the_first_slash_after_a_colon_counts() {
        for (text, of, path) in [
            ("web:/etc/hosts", "web", "/etc/hosts"),
            ("4761:/", "4761", "/"),
            ("docker/web:/a:/b", "docker/web", "/a:/b"),
            ("pid:7:/x", "pid:7", "/x"),
            ("a:b:/x", "a:b", "/x"),
        ] {
            let parts = split(BStr::new(text));
            assert_eq!(parts, Some((BStr::new(of), BStr::new(path))), "{text}");
        }
        for text in ["/a:/b", ":/a", "path:/a", "volume:/a", "web", "web:etc"] {
            assert_eq!(split(BStr::new(text)), None, "{text}");
        }
    }
}
