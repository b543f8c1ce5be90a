//! What LXC's monitors say in their arguments.
//!
//! A monitor calls itself `[lxc monitor] LXCPATH NAME` where the kernel lets it (lxc
//! src/lxc/lxccontainer.c); else it is `lxc-start` or `lxc-execute` as it was called, or `lxd forkstart
//! NAME DIR CONFIG` (lxd lxd/main_forkstart.go), which Incus has too.

use bstr::{BStr, BString, ByteSlice};

use crate::runtime::segment;

/// How the title begins.
const TITLE: &str = "[lxc monitor] ";
/// Where containers are unless told otherwise.
pub(in crate::runtime) const PLACE: &str = "/var/lib/lxc";

/// The directory of containers and the name that a monitor's title has.
pub(in crate::runtime) fn titled(args: &[BString]) -> Option<(BString, BString)> {
    let title = args.first()?.strip_prefix(TITLE.as_bytes())?;
    // What the title did not need of the old arguments may follow.
    let title = title.split_str("\0").next()?.trim_ascii_end();
    let (path, name) = title.rsplit_once_str(" ")?;
    named(path.as_bstr(), name)
}

/// Those that `lxc-start` and `lxc-execute` were called with.
pub(super) fn called(args: &[BString]) -> Option<(BString, BString)> {
    let program = args.first()?.rsplit_str("/").next()?;
    if program != b"lxc-start" && program != b"lxc-execute" {
        return None;
    }
    let (mut path, mut name) = (BString::from(PLACE), None);
    let mut words = args[1..].iter();
    while let Some(word) = words.next() {
        let mut value = |short: &str, long: &str| {
            if word == short || word == long {
                return words.next().cloned();
            }
            let long = || word.strip_prefix(long.as_bytes())?.strip_prefix(b"=");
            let short = || word.strip_prefix(short.as_bytes()).filter(|v| !v.starts_with(b"-"));
            long().or_else(short).map(BString::from)
        };
        if word == "--" {
            break;
        }
        if let Some(value) = value("-n", "--name") {
            name = Some(value);
        } else if let Some(value) = value("-P", "--lxcpath") {
            path = value;
        }
    }
    named(path.as_ref(), &name?)
}

/// Those of a monitor that LXD or Incus forked and that has no title.
pub(in crate::runtime) fn forked(args: &[BString]) -> Option<(BString, BString)> {
    let [_, command, name, path, ..] = args else { return None };
    (command == "forkstart").then(|| named(path.as_ref(), name))?
}

fn named(path: &BStr, name: &[u8]) -> Option<(BString, BString)> {
    let name = segment::chosen(name)?;
    path.starts_with(b"/").then(|| (path.into(), name.into()))
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::{called, forked, titled};

    fn words(text: &[&str]) -> Vec<BString> {
        text.iter().map(|word| BString::from(*word)).collect()
    }

    fn pair(found: Option<(BString, BString)>) -> Option<String> {
        found.map(|(path, name)| format!("{path} {name}"))
    }

    #[test]
    fn titles() {
        let title = |text: &str| pair(titled(&words(&[text])));
        assert_eq!(title("[lxc monitor] /var/lib/lxc web").unwrap(), "/var/lib/lxc web");
        assert_eq!(title("[lxc monitor] /srv/a b web").unwrap(), "/srv/a b web");
        for none in ["[lxc monitor] web", "[lxc monitor] rel web", "lxc monitor /a b", ""] {
            assert_eq!(title(none), None, "{none}");
        }
    }

    #[test]
    fn calls() {
        let call = |text: &str| pair(called(&words(&text.split(' ').collect::<Vec<_>>())));
        assert_eq!(call("lxc-start -F -n web").unwrap(), "/var/lib/lxc web");
        assert_eq!(call("/usr/bin/lxc-start -P /a -nweb").unwrap(), "/a web");
        assert_eq!(call("lxc-execute --lxcpath=/a --name web -- -n no").unwrap(), "/a web");
        for none in ["lxc-start web", "lxc-attach -n web", "x -n web", "lxc-start -n a/b"] {
            assert_eq!(call(none), None, "{none}");
        }
        assert_eq!(pair(forked(&words(&["lxd", "forkstart", "c1", "/a", "/b"]))).unwrap(), "/a c1");
        assert_eq!(forked(&words(&["lxd", "forkexec", "c1", "/a"])), None);
    }
}
