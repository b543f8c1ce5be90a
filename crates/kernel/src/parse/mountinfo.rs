//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::collections::{BTreeMap, HashSet};

use bstr::{BStr, BString, ByteSlice};

use super::{decimal32, words};
use crate::error::Malformed;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Mount id, unique while mounted.
    pub id: u32,
    /// Id of the mount it is attached to.
    pub parent: u32,
    /// Device number of the file system, major and minor.
    pub device: (u32, u32),
    /// The directory of the file system that is mounted.
    pub root: BString,
    /// Where, relative to the process's root.
    pub point: BString,
    /// File system type, such as `ext4` or `fuse.sshfs`.
    pub fs_type: BString,
    /// What was mounted, `none` where it means nothing.
    pub source: BString,
    /// The file system's own options, still with the kernel's octal escapes: an escaped comma does
    /// not separate two of them.
    pub super_options: BString,
}

impl Mount {
    /// Whether the super options hold `option` as one comma-separated word.
    #[must_use]
    pub fn has_option(&self, option: &[u8]) -> bool {
        self.super_options.split(|b| *b == b',').any(|o| o == option)
    }
}

/// Parses the whole file, undoing the kernel's octal escapes once, but for the super options.
///
/// # Errors
/// [`Malformed`] when a line lacks a field.
pub fn parse(bytes: &[u8]) -> Result<Vec<Mount>, Malformed> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
}

fn line(text: &[u8]) -> Result<Mount, Malformed> {
    let mut fields = words(text);
    let mut next = || fields.next().ok_or(Malformed("mountinfo line is cut short"));
    let number = |field: &[u8]| decimal32(field).ok_or(Malformed("mountinfo holds a bad number"));
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let device = next()?;
    let colon = super::find(b':', device).ok_or(Malformed("mountinfo holds a bad device"))?;
    let device = (number(&device[..colon])?, number(&device[colon + 1..])?);
    let (root, point) = (unescape(next()?), unescape(next()?));
    next()?; // per-mount options
    while next()? != b"-" {} // optional fields
    let fs_type = unescape(next()?);
    // An empty source leaves two blanks, and so one field less.
    let (a, b) = (next()?, fields.next());
    let (source, super_options) = match b {
        Some(options) => (unescape(a), options.into()),
        None => (BString::default(), a.into()),
    };
    Ok(Mount { id, parent, device, root, point, fs_type, source, super_options })
}

/// Undoes the kernel's `\ooo` escapes (seq_file.c, mangle): blank, tab, newline, backslash and `#`.
#[must_use]
pub fn unescape(field: &[u8]) -> BString {
    if !field.contains(&b'\\') {
        return field.into();
    }
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while let Some(&byte) = field.get(at) {
        match octal(&field[at..]) {
            Some(code) => {
                out.push(code);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out.into()
}

fn octal(text: &[u8]) -> Option<u8> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = text else {
        return None;
    };
    Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
}

/// The mount that is on top at `path`, by the longest mount point that is `path` or above it; of
/// equal ones the last, which hides the others.
#[must_use]
pub fn mount_of<'m>(mounts: &'m [Mount], path: &[u8]) -> Option<&'m Mount> {
    let mut best: Option<&Mount> = None;
    for mount in mounts {
        if strip(&mount.point, path).is_some()
            && best.is_none_or(|b| mount.point.len() >= b.point.len())
        {
            best = Some(mount);
        }
    }
    best
}

/// The id of the mount in which a process that has this table ends up at `path`: from its root down, each time into what is
/// mounted nearest on the way, as the kernel walks (fs/namei.c). Unlike [`mount_of`] it tells what lies below another mount.
/// The path is one without links. `None` where the table does not tell: without a top, with several, or with two mounts that
/// are attached to one at the same point, which no kernel has since 4.11.
#[must_use]
pub fn walk(mounts: &[Mount], path: &[u8]) -> Option<u32> {
    let ids: HashSet<u32> = mounts.iter().map(|m| m.id).collect();
    let is_top = |m: &&Mount| m.parent == m.id || !ids.contains(&m.parent);
    let mut tops = mounts.iter().filter(is_top);
    let (first, second) = (tops.next()?, tops.next());
    // A root that is no mount point (chroot) is in the one mount that all others are attached to, and has no line.
    let mut at = match (first.point == "/", second) {
        (true, None) => first.id,
        (_, second) if second.into_iter().chain(tops).all(|m| m.parent == first.parent) => {
            first.parent
        }
        _ => return None,
    };
    // What lies on the way, by what it is attached to and how deep, which tells at which point: a container may have a hundred
    // thousand mounts.
    let mut on_way: BTreeMap<(u32, usize), Option<u32>> = BTreeMap::new();
    for mount in mounts.iter().filter(|m| m.id != m.parent && strip(&m.point, path).is_some()) {
        let place = on_way.entry((mount.parent, mount.point.len()));
        place.and_modify(|known| *known = None).or_insert(Some(mount.id));
    }
    // What is mounted on the root itself is not entered: a walk begins below it.
    let mut depth = 1;
    while let Some((place, next)) = on_way.range((at, depth + 1)..=(at, usize::MAX)).next() {
        (at, depth) = ((*next)?, place.1);
        while let Some(over) = on_way.remove(&(at, depth)) {
            at = over?;
        }
    }
    Some(at)
}

/// `path` relative to the directory `dir`, if it lies in it: `""` or a text that begins with `/`.
#[must_use]
pub fn strip<'p>(dir: &[u8], path: &'p [u8]) -> Option<&'p BStr> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    let rest = path.strip_prefix(dir)?;
    (rest.is_empty() || rest[0] == b'/').then(|| rest.as_bstr())
}

#[cfg(test)]
mod tests {
    use super::{mount_of, parse, strip, unescape, walk};

    const TEXT: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 master:4 - ext4 /dev/vda rw\n\
147 97 0:61 / /a\\040b\\134040c rw - overlay overlay rw,lowerdir=l/A:l/B,upperdir=/x\\054y\n\
30 22 0:27 /docker/x /sys/fs/cgroup rw - cgroup2  rw,nsdelegate\n";

    #[test]
    fn reads_every_field() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].device), (22, 1, (254, 0)));
        assert_eq!(
            (mounts[0].fs_type.as_slice(), mounts[0].source.as_slice()),
            (&b"ext4"[..], &b"/dev/vda"[..])
        );
        assert_eq!(mounts[1].point, "/a b\\040c");
        assert_eq!(
            (mounts[2].source.as_slice(), mounts[2].root.as_slice()),
            (&b""[..], &b"/docker/x"[..])
        );
        assert!(mounts[2].has_option(b"nsdelegate") && !mounts[2].has_option(b"nsdel"));
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescape(b"\\040\\011\\012\\134"), " \t\n\\");
        assert_eq!(unescape(b"\\134040"), "\\040");
        assert_eq!(unescape(b"a\\9\\04"), "a\\9\\04");
    }

    #[test]
    fn the_top_mount_of_a_path() {
        let mounts = parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n3 1 8:3 / /var rw - xfs c rw\n",
        )
        .unwrap();
        assert_eq!(mount_of(&mounts, b"/var/lib").unwrap().id, 3);
        assert_eq!(mount_of(&mounts, b"/variable").unwrap().id, 1);
        assert_eq!(strip(b"/", b"/a").unwrap(), "/a");
        assert_eq!(strip(b"/a", b"/a").unwrap(), "");
        assert!(strip(b"/a", b"/ab").is_none());
    }

    /// A table of `ID PARENT POINT` lines.
    fn table(lines: &[(u32, u32, &str)]) -> Vec<super::Mount> {
        let line = |(id, parent, point): &(u32, u32, &str)| {
            format!("{id} {parent} 8:{id} / {point} rw - ext4 a rw\n")
        };
        parse(lines.iter().map(line).collect::<String>().as_bytes()).unwrap()
    }

    #[test]
    fn walks_into_what_is_mounted_nearest() {
        let mounts = table(&[
            (2, 1, "/"),
            (3, 2, "/etc/name"),
            (4, 2, "/data"),
            (5, 4, "/data/x"),
            // Something was mounted over the directory that it is in, and below that the same point again.
            (6, 2, "/opt/a/b"),
            (7, 2, "/opt"),
            (8, 7, "/opt/a/b"),
            // One over another, and one that was put beneath it (move_mount(2), MOVE_MOUNT_BENEATH).
            (9, 11, "/twice"),
            (10, 9, "/twice"),
            (11, 2, "/twice"),
            (12, 10, "/twice/in"),
            (13, 11, "/twice/in"),
            // Over the root itself, which nobody walks into.
            (14, 2, "/"),
            (15, 14, "/data"),
        ]);
        for (path, id) in [
            ("/", 2),
            ("/etc", 2),
            ("/etc/name", 3),
            ("/etc/named", 2),
            ("/data/y", 4),
            ("/data/x/y", 5),
            ("/opt/a", 7),
            ("/opt/a/b/c", 8),
            ("/twice", 10),
            ("/twice/in/x", 12),
        ] {
            assert_eq!(walk(&mounts, path.as_bytes()), Some(id), "{path}");
        }
    }

    #[test]
    fn walks_from_a_root_that_is_no_mount() {
        let mounts = table(&[(3, 2, "/proc"), (4, 2, "/data"), (5, 4, "/data/x")]);
        let of = |path: &str| walk(&mounts, path.as_bytes());
        assert_eq!([of("/etc"), of("/data"), of("/data/x")], [Some(2), Some(4), Some(5)]);
        // With something mounted on that root later on, which is not walked into either.
        let mounts = table(&[(3, 2, "/proc"), (4, 2, "/"), (5, 4, "/proc")]);
        let of = |path: &str| walk(&mounts, path.as_bytes());
        assert_eq!([of("/etc"), of("/proc/x")], [Some(2), Some(3)]);
        let alone = table(&[(3, 3, "/")]);
        assert_eq!(walk(&alone, b"/x"), Some(3));
    }

    #[test]
    fn what_a_table_does_not_tell() {
        for unclear in [
            &[][..],
            // Two mounts of one at the same point.
            &[(2, 1, "/"), (3, 2, "/a"), (4, 2, "/a")],
            // Two that nothing holds together.
            &[(2, 1, "/"), (3, 9, "/a")],
        ] {
            assert_eq!(walk(&table(unclear), b"/a/b"), None, "{unclear:?}");
        }
        let stack: Vec<_> = (3..100_000).map(|id| (id, id - 1, "/a")).collect();
        let mounts = table(&[&[(2, 1, "/")], stack.as_slice()].concat());
        assert_eq!(walk(&mounts, b"/a/b"), Some(99_999));
        // Elsewhere it tells.
        let mounts = table(&[(2, 1, "/"), (3, 2, "/a"), (4, 2, "/a")]);
        assert_eq!(walk(&mounts, b"/b"), Some(2));
    }

    #[test]
    fn refuses_short_lines() {
        for bad in [
            "22 1 254:0 / / rw shared:1\n",
            "x\n",
            "1 2 3 / / rw - a b c\n",
            "1 2 0:1 / / rw - ext4\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
