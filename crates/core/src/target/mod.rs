//! What a user names: one file a kind. Parsing only; nothing is read.

pub mod container;
pub mod inode;
pub mod inside;
pub mod layer;
pub mod path;
pub mod pid;
pub mod pod;
pub mod volume;

use bstr::{BStr, BString, ByteSlice};

/// The kinds that `kind:value` may force.
pub const KINDS: [&str; 18] = [
    "pid",
    "tid",
    "container",
    "pod",
    "compose",
    "image",
    "port",
    "addr",
    "mac",
    "if",
    "path",
    "inode",
    "ns",
    "cgroup",
    "layer",
    "volume",
    "user",
    "unit",
];

/// A target, read but not looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process or thread.
    Pid(pid::Pid),
    /// A container by name or id.
    Container(container::Name),
    /// A pod, or a container in it.
    Pod(pod::Name),
    /// A file or directory of the host.
    Path(path::HostPath),
    /// A file as a process or container has it.
    Inside(inside::Inside),
    /// A layer of an engine's store.
    Layer(layer::Name),
    /// A volume of an engine's own.
    Volume(volume::Name),
    /// A file by its number.
    Inode(inode::Number),
}

/// A target as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The text.
    pub text: BString,
    /// What it means.
    pub target: Target,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Nothing was given.
    #[error("an empty target; name a PID or a container")]
    Empty,
    /// A PID with something else in it, or with too many digits.
    #[error("{0}: not a PID (1 to 4194303)")]
    NotAPid(BString),
    /// A path that is not absolute.
    #[error("{0}: no path of the host: it begins with a slash and has no NUL in it")]
    NotAPath(BString),
    /// A path from the root of something that has none.
    #[error("{0}: no file of a process or container: give PID:/PATH or CONTAINER:/PATH")]
    NotInside(BString),
    /// No name of a pod.
    #[error("{0}: no pod: give pod:NAMESPACE/NAME, pod:NAMESPACE/NAME/CONTAINER or pod:UID")]
    NotAPod(BString),
    /// No name and no digest.
    #[error(
        "{0}: no layer: give its directory's name or sha256:DIGITS, at least 12 characters of either"
    )]
    NotALayer(BString),
    /// No name of a volume.
    #[error("{0}: no volume: give its name, of letters, digits and _ . -")]
    NotAVolume(BString),
    /// No device and number.
    #[error(
        "{0}: no file's number: give MAJOR:MINOR:INODE, or inode:DEVICE:INODE as stat prints them"
    )]
    NotAnInode(BString),
    /// A kind that is well formed and that this version does not answer.
    #[error(
        "{text}: names a {kind}; this version answers for PIDs, containers, pods, paths, files of containers, layers, volumes and inodes (a container may be forced with container:NAME)"
    )]
    Unanswered {
        /// The target.
        text: BString,
        /// Its kind.
        kind: &'static str,
    },
}

/// Reads a target by the rules of the design: 1 to 7 digits are a PID, `kind:value` forces a
/// reading, and what looks like nothing else is a container's id or name.
///
/// # Errors
/// [`BadTarget`].
pub fn parse(text: &BStr) -> Result<Typed, BadTarget> {
    let typed = |target| Typed { text: text.into(), target };
    let unanswered = |kind| BadTarget::Unanswered { text: text.into(), kind };
    if text.is_empty() {
        return Err(BadTarget::Empty);
    }
    if let Some(pid) = pid::bare(text) {
        return Ok(typed(Target::Pid(pid)));
    }
    if let Some((of, path)) = inside::split(text) {
        let inside = parse(of).ok().and_then(|of| inside::of(of, path));
        return match inside {
            Some(inside) => Ok(typed(Target::Inside(inside))),
            None => Err(BadTarget::NotInside(text.into())),
        };
    }
    let forced = text.iter().position(|b| *b == b':').and_then(|colon| {
        let kind = KINDS.iter().find(|k| *k.as_bytes() == text[..colon])?;
        Some((*kind, BStr::new(&text[colon + 1..])))
    });
    match forced {
        Some(("pid" | "tid", value)) => {
            let pid = pid::bare(value).ok_or_else(|| BadTarget::NotAPid(text.into()))?;
            return Ok(typed(Target::Pid(pid)));
        }
        Some(("container", value)) if value.is_empty() => return Err(BadTarget::Empty),
        Some(("container", value)) => return Ok(typed(Target::Container(container::long(value)))),
        Some(("pod", value)) if value.is_empty() => return Err(BadTarget::Empty),
        Some(("pod", value)) => {
            let name = pod::long(value).ok_or_else(|| BadTarget::NotAPod(text.into()))?;
            return Ok(typed(Target::Pod(name)));
        }
        Some(("path", value)) => {
            let path = path::bare(value).ok_or_else(|| BadTarget::NotAPath(text.into()))?;
            return Ok(typed(Target::Path(path)));
        }
        Some(("layer", value)) => {
            let name = layer::long(value).ok_or_else(|| BadTarget::NotALayer(text.into()))?;
            return Ok(typed(Target::Layer(name)));
        }
        Some(("volume", value)) => {
            let name = volume::long(value).ok_or_else(|| BadTarget::NotAVolume(text.into()))?;
            return Ok(typed(Target::Volume(name)));
        }
        Some(("inode", value)) => {
            let number = inode::long(value).ok_or_else(|| BadTarget::NotAnInode(text.into()))?;
            return Ok(typed(Target::Inode(number)));
        }
        // net:[4026531840] is a namespace and net no kind; if:eth0 is an interface.
        Some((kind, _)) => return Err(unanswered(kind)),
        None => {}
    }
    if text.starts_with(b"/") {
        let path = path::bare(text).ok_or_else(|| BadTarget::NotAPath(text.into()))?;
        return Ok(typed(Target::Path(path)));
    }
    if let Some(number) = inode::bare(text) {
        return Ok(typed(Target::Inode(number)));
    }
    if let Some(kind) = shape(text) {
        return Err(unanswered(kind));
    }
    Ok(typed(Target::Container(container::bare(text))))
}

/// Kinds that a text's shape alone gives away.
fn shape(text: &BStr) -> Option<&'static str> {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if text.strip_prefix(b":").is_some_and(digits) {
        return Some("port");
    }
    if text.ends_with(b"]") && text.contains_str(":[") {
        return Some("namespace");
    }
    let parts: Vec<&[u8]> = text.split(|b| *b == b':').collect();
    // No number of a file, such as 0.
    (parts.len() == 3 && parts.into_iter().all(digits)).then_some("inode")
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{BadTarget, KINDS, Target, parse};

    fn container(text: &str) -> Option<String> {
        match parse(BStr::new(text)).unwrap().target {
            Target::Container(name) => Some(name.name.to_string()),
            _ => None,
        }
    }

    #[test]
    fn short_digits_are_a_pid_and_nothing_else() {
        for text in ["1", "4761", "9999999", "0", "pid:77"] {
            assert!(matches!(parse(BStr::new(text)).unwrap().target, Target::Pid(_)), "{text}");
        }
        assert_eq!(container("12345678").as_deref(), Some("12345678"));
        assert_eq!(container("container:4761").as_deref(), Some("4761"));
    }

    #[test]
    fn names_may_be_anything() {
        for text in ["web", "ps", "-rf", "../x", "web_1", "a:b", "net:x", "deadbeef"] {
            assert_eq!(container(text).as_deref(), Some(text));
        }
        assert_eq!(container("container:docker/web").as_deref(), Some("web"));
    }

    #[test]
    fn other_kinds_are_told_and_not_guessed() {
        let texts = [":80", "net:[4026531840]", "8:1:0", "port:80"];
        for text in texts {
            assert!(matches!(parse(BStr::new(text)), Err(BadTarget::Unanswered { .. })), "{text}");
        }
        let answered = ["pid", "tid", "container", "pod", "volume"];
        for kind in KINDS.iter().filter(|k| !answered.contains(k)) {
            assert!(parse(BStr::new(&format!("{kind}:x"))).is_err(), "{kind}");
        }
        for text in ["/", "/var/lib/docker", "path:/a:b", "layer:733b57e47063"] {
            let target = parse(BStr::new(text)).unwrap().target;
            assert!(matches!(target, Target::Path(_) | Target::Layer(_)), "{text}");
        }
        for (text, of) in
            [("web:/etc/hosts", "web"), ("pid:7:/x", "pid:7"), ("pod:a/b:/", "pod:a/b")]
        {
            let Target::Inside(inside) = parse(BStr::new(text)).unwrap().target else {
                panic!("{text}")
            };
            assert_eq!(inside.of.text, of);
        }
        for text in ["layer:733b57e47063:/x", ":80:/x", "port:80:/x", "web:/a\0b"] {
            assert!(matches!(parse(BStr::new(text)), Err(BadTarget::NotInside(_))), "{text}");
        }
        assert!(matches!(parse(BStr::new("pod:prod/web")).unwrap().target, Target::Pod(_)));
        for text in ["8:1:77", "inode:8:1:77", "inode:2049:77"] {
            let target = parse(BStr::new(text)).unwrap().target;
            let Target::Inode(number) = target else { panic!("{text}: {target:?}") };
            assert_eq!((number.device, number.ino), ((8, 1), 77), "{text}");
        }
        assert!(matches!(parse(BStr::new("inode:7")), Err(BadTarget::NotAnInode(_))));
        assert!(matches!(parse(BStr::new("volume:db")).unwrap().target, Target::Volume(_)));
        assert!(matches!(parse(BStr::new("volume:a/b")), Err(BadTarget::NotAVolume(_))));
        assert!(matches!(parse(BStr::new("pod:a/b/c/d")), Err(BadTarget::NotAPod(_))));
        assert_eq!(parse(BStr::new("pod:")), Err(BadTarget::Empty));
        assert_eq!(parse(BStr::new("")), Err(BadTarget::Empty));
        assert!(matches!(parse(BStr::new("pid:x")), Err(BadTarget::NotAPid(_))));
    }
}
