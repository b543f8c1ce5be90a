//! What aufs tells of its branches: in the options of a mount, and in `/sys/fs/aufs/si_ID/brN` (aufs4-linux
//! fs/aufs/super.c, `aufs_show_options`; fs/aufs/sysfs.c, `sysaufs_si_br`).

use bstr::{BStr, BString, ByteSlice};

use super::mountinfo::unescape;
use crate::error::Malformed;

/// A directory that aufs puts into its union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its path, as whoever reads it sees it.
    pub path: BString,
    /// Whether it is written to.
    pub writable: bool,
    /// Whether its marks of what was removed are obeyed.
    pub whiteouts: bool,
}

/// Where the branches of a mount are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branches {
    /// In `/sys/fs/aufs/si_ID`, a file each: the id, in hexadecimal digits.
    InSysfs(BString),
    /// In the options, top first: where sysfs has none (`brs=0`).
    Named(Vec<Branch>),
}

/// Parses `super_options` of mountinfo, still with its octal escapes.
///
/// # Errors
/// Neither an id nor branches, or one of them without permissions.
pub fn options(options: &BStr) -> Result<Branches, Malformed> {
    // The branches are printed last: a comma in a path separates nothing.
    for before in [&b",br:"[..], b",dirs="] {
        if let Some(at) = options.find(before) {
            let list = &options[at + before.len()..];
            let all = list.split(|b| *b == b':').map(branch);
            return all.collect::<Result<_, _>>().map(Branches::Named);
        }
    }
    let ids = options.split(|b| *b == b',').filter_map(|option| option.strip_prefix(b"si="));
    let is_id = |id: &&[u8]| (1..=16).contains(&id.len()) && id.iter().all(u8::is_ascii_hexdigit);
    let id = ids.into_iter().find(is_id).ok_or(Malformed("names no branches"))?;
    Ok(Branches::InSysfs(id.into()))
}

/// Parses one branch, `PATH=PERMISSION`, with or without its newline.
///
/// # Errors
/// No absolute path, or no permission that aufs has.
pub fn branch(text: &[u8]) -> Result<Branch, Malformed> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let at = text.rfind_byte(b'=').ok_or(Malformed("no permission of a branch"))?;
    let (path, mut words) = (unescape(&text[..at]), text[at + 1..].split(|b| *b == b'+'));
    let permission = words.next().unwrap_or_default();
    if !path.starts_with(b"/") {
        return Err(Malformed("a branch without a path"));
    }
    let writable = match permission {
        b"rw" => true,
        b"ro" | b"rr" => false,
        _ => return Err(Malformed("an unknown permission of a branch")),
    };
    let whiteouts = writable || words.any(|word| word == b"wh");
    Ok(Branch { path, writable, whiteouts })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Branch, Branches, branch, options};

    fn is(path: &str, writable: bool, whiteouts: bool) -> Branch {
        Branch { path: path.into(), writable, whiteouts }
    }

    #[test]
    fn branches_of_sysfs() {
        assert_eq!(branch(b"/d/aufs/diff/x=rw\n").unwrap(), is("/d/aufs/diff/x", true, true));
        assert_eq!(branch(b"/d/x-init=ro+wh\n").unwrap(), is("/d/x-init", false, true));
        assert_eq!(branch(b"/d/x=ro").unwrap(), is("/d/x", false, false));
        assert_eq!(branch(b"/cd=rr+nolwh+wh").unwrap(), is("/cd", false, true));
        assert_eq!(branch(b"/a=b\\040c=rw+moo").unwrap(), is("/a=b c", true, true));
        for bad in ["", "/d", "/d=", "/d=xx", "=rw", "d=rw", "/d\n=rw\n\n"] {
            assert!(branch(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn branches_of_a_mount() {
        let of = |text: &str| options(BStr::new(text));
        let id = Branches::InSysfs("2f9e7dcbb5e3ab2c".into());
        assert_eq!(of("rw,si=2f9e7dcbb5e3ab2c,dio,dirperm1").unwrap(), id);
        let all = vec![is("/a,b", true, true), is("/c", false, true), is("/d:e", false, false)];
        assert_eq!(of("rw,si=1,br:/a,b=rw:/c=ro+wh:/d\\072e=ro").unwrap(), Branches::Named(all));
        for bad in
            ["rw", "", "si=", "rw,si=../../x", "rw,si=00000000000000001", "rw,br:", "rw,br:/a"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
