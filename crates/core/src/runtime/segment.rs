//! Shapes of cgroup path segments that several runtimes share. Whole segments only: 63 or 65 digits
//! are no id.

use bstr::{BString, ByteSlice};
use whose_kernel::parse::cgroup::Line;

use crate::state::kubelet;
pub use crate::state::kubelet::is_uuid;

/// Whether the text is 64 lower-case hexadecimal digits: the container ids of Docker, Podman,
/// CRI-O and containerd's CRI.
#[must_use]
pub fn is_hex64(text: &[u8]) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether the text is lower-case hexadecimal digits, at least one.
#[must_use]
pub fn is_hex(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

/// Whether the text is 25 base-36 digits: ids of BuildKit steps.
#[must_use]
pub fn is_buildkit_id(text: &[u8]) -> bool {
    text.len() == 25 && text.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

/// Whether a namespace of containerd's is Docker's: its containers', its plugins', and those of an
/// engine with remapped users (moby cmd/dockerd/daemon.go, daemon_unix.go).
#[must_use]
pub fn is_dockers_namespace(namespace: &[u8]) -> bool {
    let name = namespace.strip_prefix(b"plugins.").unwrap_or(namespace);
    name == b"moby" || name.starts_with(b"moby-")
}

/// The namespace of containerd's in which Garden has its containers (guardian guardiancmd).
pub const GARDEN: &[u8] = b"garden";

/// Whether a namespace of containerd's is another engine's, which describes what is in it.
#[must_use]
pub fn is_others_namespace(namespace: &[u8]) -> bool {
    namespace == GARDEN || is_dockers_namespace(namespace)
}

/// The middle of a segment between `prefix` and `suffix`.
#[must_use]
pub fn between<'s>(segment: &'s [u8], prefix: &str, suffix: &str) -> Option<&'s [u8]> {
    segment.strip_prefix(prefix.as_bytes())?.strip_suffix(suffix.as_bytes())
}

/// The 64 digits of `<prefix>-<id>.scope`, which runc-like drivers make of the cgroupsPath
/// `slice:prefix:id`, or of that path taken literally, as it is when the engine means systemd's
/// driver and the runtime uses cgroupfs (opencontainers/cgroups systemd/common.go).
#[must_use]
pub fn scope_id<'s>(segment: &'s [u8], prefix: &str) -> Option<&'s [u8]> {
    own_scope(segment, prefix).filter(|id| is_hex64(id))
}

/// Slice (may be empty) and name of `slice:prefix:name`.
#[must_use]
pub fn colon_form<'s>(segment: &'s [u8], prefix: &str) -> Option<(&'s [u8], &'s [u8])> {
    let mut parts = segment.rsplitn(3, |b| *b == b':');
    let (name, found, slice) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = found == prefix.as_bytes() && (slice.is_empty() || slice.ends_with(b".slice"));
    fits.then_some((slice, name))
}

/// The name in the scope that an OCI runtime makes when nobody tells it a cgroup, and in the path
/// that scope comes from, taken literally.
#[must_use]
pub fn own_scope<'s>(segment: &'s [u8], runtime: &str) -> Option<&'s [u8]> {
    let scope =
        || segment.strip_prefix(runtime.as_bytes())?.strip_prefix(b"-")?.strip_suffix(b".scope");
    let name = scope().or_else(|| colon_form(segment, runtime).map(|(_, name)| name))?;
    chosen(name)
}

/// The text as a name that someone chose: not empty, and no step in a path.
#[must_use]
pub fn chosen(text: &[u8]) -> Option<&[u8]> {
    (!matches!(text, b"" | b"." | b"..") && !text.contains(&b'/')).then_some(text)
}

/// A chosen name out of a unit name, in which systemd writes some bytes as `\\xNN`
/// (systemd-escape(1)).
#[must_use]
pub fn unescape(text: &[u8]) -> Option<BString> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escaped = after
            .strip_prefix(b"x")
            .and_then(|x| x.get(..2))
            .filter(|digits| *first == b'\\' && is_hex(digits))
            .and_then(|digits| u8::from_str_radix(digits.to_str().ok()?, 16).ok());
        name.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    chosen(&name).map(BString::from)
}

/// A pod's uid with dashes, from one with dashes or, in a slice's name, with `_`; 32 digits for a
/// static pod (kubernetes pkg/kubelet/cm).
#[must_use]
pub fn pod_uid(text: &[u8]) -> Option<Vec<u8>> {
    if kubelet::is_uid(text) {
        return Some(text.to_vec());
    }
    is_uuid(text, b'_').then(|| text.replace("_", "-"))
}

/// The uid in `kubepods-burstable-pod<uid>.slice`, whatever stands before `kubepods`; also in the
/// form `...slice:cri-containerd:<id>` that a mismatch of drivers leaves.
#[must_use]
pub fn pod_uid_of_slice(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.find(b".slice")?;
    let stem = &text[..end];
    let at = stem.rfind(b"-pod")?;
    stem[..at].contains_str("kubepods").then(|| pod_uid(&stem[at + 4..])).flatten()
}

/// Where systemd puts a slice: `a-b.slice` is `/a.slice/a-b.slice`.
#[must_use]
pub fn slice_path(slice: &[u8]) -> BString {
    let stem = slice.strip_suffix(b".slice").unwrap_or(slice);
    let mut path = Vec::new();
    let dashes = stem.iter().enumerate().filter(|(_, b)| **b == b'-').map(|(i, _)| i);
    for end in dashes.chain([stem.len()]) {
        path.push(b'/');
        path.extend_from_slice(&stem[..end]);
        path.extend_from_slice(b".slice");
    }
    path.into()
}

/// The cgroup paths that `linux.cgroupsPath` of an OCI configuration may come to: `slice:prefix:name`
/// is a scope for systemd's driver and that very text for the other (opencontainers/cgroups
/// systemd/common.go); whatever else it says is the path.
#[must_use]
pub fn of_cgroups_path(text: &[u8]) -> Vec<BString> {
    let path = text.trim_with(|c| c == '/');
    if path.is_empty() {
        return Vec::new();
    }
    let literal = BString::from([b"/", path].concat());
    let parts: Vec<&[u8]> = path.split(|b| *b == b':').collect();
    let [slice, prefix, name] = parts[..] else { return vec![literal] };
    let unit = match (prefix, name.ends_with(b".slice")) {
        (_, true) => name.to_vec(),
        (b"", _) => [name, b".scope"].concat(),
        _ => [prefix, b"-", name, b".scope"].concat(),
    };
    // Without a slice it is root's `system.slice`, or a user's `user.slice`.
    let slices: &[&[u8]] =
        if slice.is_empty() { &[b"system.slice", b"user.slice"] } else { &[slice] };
    let scopes = slices.iter().map(|s| [slice_path(s).as_slice(), b"/", &unit].concat().into());
    scopes.chain([literal]).collect()
}

/// The part of a cgroup path that ends where `own` does, a path as the engine sees it; `None` when
/// `path` is neither that cgroup nor below it.
#[must_use]
pub fn down_to<'p>(path: &'p [u8], own: &[u8]) -> Option<&'p [u8]> {
    let ends = path.find_iter(own).map(|at| at + own.len());
    let whole = |end: &usize| path.get(*end).is_none_or(|b| *b == b'/');
    ends.filter(whole).last().filter(|_| own.starts_with(b"/")).map(|end| &path[..end])
}

/// Whether a segment holds 64 hexadecimal digits as a word. Who runs in an engine's cgroup is not
/// the engine's daemon, even if it shares the host's PID namespace.
#[must_use]
pub fn names_an_id(lines: &[Line]) -> bool {
    lines.iter().any(|l| l.path.split(|b| !b.is_ascii_alphanumeric()).any(is_hex64))
}

#[cfg(test)]
mod tests {
    use whose_kernel::parse::cgroup::parse;

    use super::{
        between, colon_form, down_to, is_buildkit_id, is_dockers_namespace, is_hex64, is_uuid,
        names_an_id, of_cgroups_path, own_scope, pod_uid_of_slice, scope_id, unescape,
    };

    #[test]
    fn ids_are_whole_and_lower_case() {
        let id = "0123456789abcdef".repeat(4);
        assert!(is_hex64(id.as_bytes()));
        assert!(!is_hex64(&id.as_bytes()[1..]));
        assert!(!is_hex64(format!("{id}0").as_bytes()));
        assert!(!is_hex64(id.to_uppercase().as_bytes()));
        assert!(is_buildkit_id(b"h29yeoqbvnowz93v5f60g4uwy"));
        assert!(!is_buildkit_id(b"h29yeoqbvnowz93v5f60g4uw"));
    }

    #[test]
    fn uuids_and_middles() {
        assert!(is_uuid(b"f32682ec_384a_5d72_8208_b68b20c5568a", b'_'));
        assert!(!is_uuid(b"f32682ec-384a-5d72-8208-b68b20c5568a", b'_'));
        assert_eq!(between(b"docker-x.scope", "docker-", ".scope"), Some(&b"x"[..]));
        assert_eq!(between(b"docker.service", "docker-", ".scope"), None);
    }

    #[test]
    fn uids_of_slices() {
        let uid =
            |text: &str| pod_uid_of_slice(text.as_bytes()).map(|u| String::from_utf8(u).unwrap());
        let with = |before: &str, after: &str| {
            uid(&format!("{before}podf32682ec_384a_5d72_8208_b68b20c5568a.slice{after}"))
        };
        let expected = Some("f32682ec-384a-5d72-8208-b68b20c5568a".to_owned());
        assert_eq!(with("kubepods-burstable-", ""), expected);
        assert_eq!(with("kubelet-kubepods-", ""), expected);
        assert_eq!(with("kubepods-", ":cri-containerd:x"), expected);
        assert_eq!(with("machine-", ""), None);
        assert_eq!(uid("kubepods-burstable.slice"), None);
    }

    #[test]
    fn names_are_unescaped_once_and_stay_names() {
        let name = |text: &str| unescape(text.as_bytes());
        assert_eq!(name("web\\x2dfront").unwrap(), "web-front");
        assert_eq!(name("a\\x5cx2d").unwrap(), "a\\x2d");
        assert_eq!(name("a\\x2").unwrap(), "a\\x2");
        assert_eq!(name("a\\xzz\\").unwrap(), "a\\xzz\\");
        assert_eq!(name("\\xff").unwrap(), &b"\xff"[..]);
        assert_eq!([name(""), name(".."), name("a\\x2fb")], [None, None, None]);
    }

    #[test]
    fn scopes_and_the_path_they_are_made_of() {
        let id = "0123456789abcdef".repeat(4);
        let found = |text: &str| scope_id(text.as_bytes(), "crio").is_some();
        assert!(found(&format!("crio-{id}.scope")));
        assert!(found(&format!("system.slice:crio:{id}")));
        assert!(found(&format!(":crio:{id}")));
        for other in [
            format!("crio-{id}"),
            format!("crio{id}.scope"),
            format!("crio-{id}.scopes"),
            format!("crio-{id}0.scope"),
            format!("crio:{id}"),
            format!("x:crio:{id}"),
            format!("system.slice:x:{id}"),
        ] {
            assert!(!found(&other), "{other}");
        }
        for none in ["runc-.scope", "runc-x", "xrunc-x.scope", ":runc:", "runc.scope"] {
            assert_eq!(own_scope(none.as_bytes(), "runc"), None, "{none}");
        }
        assert_eq!(colon_form(b":youki:n", "youki"), Some((&b""[..], &b"n"[..])));
    }

    #[test]
    fn ids_are_words() {
        let id = "0123456789abcdef".repeat(4);
        let has = |path: String| names_an_id(&parse(format!("0::{path}").as_bytes()).unwrap());
        assert!(has(format!("/libpod-{id}.scope/container")));
        assert!(has(format!("/a/{id}")));
        assert!(!has(format!("/a/{id}0")));
        assert!(!has("/system.slice/containerd.service".to_owned()));
    }

    #[test]
    fn namespaces_of_docker() {
        for its in ["moby", "plugins.moby", "moby-165536.165536"] {
            assert!(is_dockers_namespace(its.as_bytes()), "{its}");
        }
        for other in ["", "default", "mobydick", "moby.x", "plugins", "k8s.io"] {
            assert!(!is_dockers_namespace(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn paths_an_engine_asked_for() {
        let of = |text: &str| of_cgroups_path(text.as_bytes());
        assert_eq!(of("/default/lab-ctr"), ["/default/lab-ctr"]);
        assert_eq!(of("anything"), ["/anything"]);
        assert_eq!(
            of("kubepods-burstable-podx.slice:cri-containerd:ab"),
            [
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/\
                 cri-containerd-ab.scope",
                "/kubepods-burstable-podx.slice:cri-containerd:ab"
            ]
        );
        assert_eq!(
            of(":nerdctl:ab"),
            ["/system.slice/nerdctl-ab.scope", "/user.slice/nerdctl-ab.scope", "/:nerdctl:ab"]
        );
        assert_eq!(of("a.slice::n"), ["/a.slice/n.scope", "/a.slice::n"]);
        assert_eq!([of(""), of("/")], [vec![], Vec::<bstr::BString>::new()]);
    }

    #[test]
    fn a_path_is_followed_down_to_whole_segments() {
        let to = |path: &str, own: &str| {
            down_to(path.as_bytes(), own.as_bytes()).map(|p| String::from_utf8(p.into()).unwrap())
        };
        assert_eq!(to("/default/x", "/default/x").unwrap(), "/default/x");
        assert_eq!(to("/docker/ab/default/x/y", "/default/x").unwrap(), "/docker/ab/default/x");
        assert_eq!(to("/a/x/a/x/b", "/a/x").unwrap(), "/a/x/a/x");
        for (path, own) in [("/default/xy", "/default/x"), ("/x", "/default/x"), ("/a", "")] {
            assert_eq!(to(path, own), None, "{path} {own}");
        }
    }
}
