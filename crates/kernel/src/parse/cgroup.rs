//! `/proc/PID/cgroup` (cgroups(7)).

use bstr::{BStr, BString};

use crate::error::Malformed;

/// One line: a hierarchy and the process's place in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Hierarchy id; 0 for cgroup v2.
    pub hierarchy: u32,
    /// Controllers or `name=...`, comma separated; empty for cgroup v2.
    pub controllers: BString,
    /// The path, relative to the root of the reader's cgroup namespace. May hold colons.
    pub path: BString,
    /// The kernel marked the cgroup as removed (v2, a zombie's).
    pub deleted: bool,
}

impl Line {
    /// Whether this is the cgroup v2 line.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.hierarchy == 0 && self.controllers.is_empty()
    }

    /// The path's segments, without empty ones.
    pub fn segments(&self) -> impl Iterator<Item = &BStr> {
        self.path.split(|b| *b == b'/').filter(|s| !s.is_empty()).map(BStr::new)
    }

    /// Whether the line names one of `controllers` (such as `freezer` or `name=systemd`).
    #[must_use]
    pub fn has_controller(&self, controller: &[u8]) -> bool {
        self.controllers.split(|b| *b == b',').any(|c| c == controller)
    }
}

/// Longest line taken, bytes: a path is at most `PATH_MAX`, the controllers' names are few.
const LONGEST: usize = 4096 + 1024;

/// Parses the whole file. Only the first two colons of a line separate fields.
///
/// # Errors
/// [`Malformed`] when a line has no three fields, a bad hierarchy number, or a path that does not
/// begin with a slash. A final line without its newline counts.
pub fn parse(bytes: &[u8]) -> Result<Vec<Line>, Malformed> {
    let mut lines = Vec::new();
    for text in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        if text.len() > LONGEST {
            return Err(Malformed("cgroup line is longer than the kernel writes"));
        }
        let mut fields = text.splitn(3, |b| *b == b':');
        let hierarchy = fields.next().and_then(super::decimal32);
        let hierarchy = hierarchy.ok_or(Malformed("cgroup line has no hierarchy number"))?;
        let controllers = fields.next().ok_or(Malformed("cgroup line has no controllers"))?;
        let path = fields.next().ok_or(Malformed("cgroup line has no path"))?;
        if !path.starts_with(b"/") {
            return Err(Malformed("cgroup path does not begin with a slash"));
        }
        let (path, deleted) = match path.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        lines.push(Line { hierarchy, controllers: controllers.into(), path: path.into(), deleted });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn splits_at_the_first_two_colons_only() {
        let lines = parse(b"11:cpu,cpuacct:/a:b/c:d\n1:name=systemd:/x\n0::/:youki:n\n").unwrap();
        assert_eq!(lines[0].path, "/a:b/c:d");
        assert!(lines[0].has_controller(b"cpuacct") && !lines[0].has_controller(b"cpua"));
        assert!(lines[1].has_controller(b"name=systemd"));
        assert!(lines[2].is_v2() && !lines[0].is_v2());
        assert_eq!(lines[2].segments().next().unwrap(), ":youki:n");
    }

    #[test]
    fn a_removed_cgroup_is_marked() {
        let lines = parse(b"0::/a.scope (deleted)").unwrap();
        assert_eq!(lines[0].path, "/a.scope");
        assert!(lines[0].deleted);
    }

    #[test]
    fn empty_is_no_line_and_prose_is_malformed() {
        assert_eq!(parse(b"").unwrap(), []);
        for bad in ["This is not valid\n", "0:\n", "0::\n", "0::relative\n", "x::/\n", ":\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn ten_thousand_lines_are_read() {
        let text: String = (1..=10_000).map(|n| format!("{n}:c{n}:/a/{n}\n")).collect();
        assert_eq!(parse(text.as_bytes()).unwrap().len(), 10_000);
    }
}
