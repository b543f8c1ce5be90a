//! Snaps: `snap.<snap>.<app>-<uuid>.scope` (a dot before the UUID in older releases), hooks
//! `snap.<snap>.hook.<hook>-<uuid>.scope`, services `snap.<snap>.<app>.service` (snapd
//! sandbox/cgroup/scanning.go, tracking.go). The UUID is a nonce; the security tag is the id.
//!
//! No file says what runs. Every installed revision of a snap is mounted at `/snap/<snap>/<revision>`, and the link
//! `current` there leads to the newest one, which is not the one of a process that began before it came. So the
//! revision is the one that the process's own file is in.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Host;
use whose_kernel::parse::mountinfo::{Mount, strip};

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Snap;

const ENGINE: Engine = Engine("snap");

impl Runtime for Snap {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (tag, name) = tag(place.text())?;
            let mut owner = Owner::new(OwnerKind::App, ENGINE, tag);
            owner.name = Some(name);
            Some(owner)
        });
        levels.into()
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::App
    }

    fn has_state(&self) -> bool {
        true
    }

    fn shown_by(&self, host: &Host, owner: &Owner, pid: u32) -> Option<Description> {
        let snap = owner.name.as_ref()?;
        let process = host.process(pid).ok()?;
        let exe = process.link_text("exe").ok()?;
        let revision = revision(snap, exe.as_ref())?;
        // The file has to be in that revision's file system, and not in a directory called so.
        let mounts = process.mountinfo().ok()?;
        let at = |dir: &str| [dir.as_bytes(), b"/", snap, b"/", &revision].concat();
        let places: Vec<Vec<u8>> = PLACES.iter().map(|dir| at(dir)).collect();
        let mount = mounts.iter().rfind(|m| strip(&m.point, &exe).is_some())?;
        let is_image = |m: &Mount| m.fs_type.ends_with(b"squashfs") || m.fs_type.ends_with(b"fuse");
        // What a user has mounted there in a namespace of his own is no revision.
        let is_its = |m: &Mount| {
            let is_there = places.iter().any(|place| m.point == place.as_slice());
            is_there && (m.device, &m.root) == (mount.device, &mount.root) && is_image(m)
        };
        if !is_its(mount) || !host.mounts().ok()?.iter().any(is_its) {
            return None;
        }
        let image = BString::from([snap.as_slice(), b"_", &revision].concat());
        let file = [b"var/lib/snapd/snaps/", image.as_slice(), b".snap"].concat();
        let is_there = host.root().look(&file).is_ok_and(|look| look.is_file());
        let own = format!("proc/{pid}/exe");
        Some(Description {
            name: Some(snap.clone()),
            image: Some(image),
            image_id: Some(revision),
            believed: Some(ContainerState::Running),
            path: host.shown(if is_there { &file } else { own.as_bytes() }),
            ..Description::default()
        })
    }
}

/// Where snaps are mounted, by distribution (snapd dirs/dirs.go).
const PLACES: [&str; 2] = ["/snap", "/var/lib/snapd/snap"];

/// The revision of a snap that has this file: a number, or `x` and a number for one of the user's own making.
fn revision(snap: &BString, exe: &BStr) -> Option<BString> {
    let rest = PLACES.iter().find_map(|dir| strip(dir.as_bytes(), exe))?;
    let mut parts = rest.strip_prefix(b"/")?.split_str("/");
    let is_its = parts.next() == Some(snap.as_slice());
    let revision = parts.next().filter(|_| is_its && parts.next().is_some())?;
    let digits = revision.strip_prefix(b"x").unwrap_or(revision);
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| revision.into())
}

/// Security tag and snap.
fn tag(text: &[u8]) -> Option<(BString, BString)> {
    let unit = match text.strip_suffix(b".scope") {
        Some(scope) => {
            let (unit, nonce) = scope.split_at_checked(scope.len().checked_sub(36)?)?;
            let unit = unit.strip_suffix(b"-").or_else(|| unit.strip_suffix(b"."))?;
            segment::is_uuid(nonce, b'-').then_some(unit)?
        }
        None => text.strip_suffix(b".service")?,
    };
    let tag = segment::unescape(unit)?;
    let parts: Vec<&[u8]> = tag.split_str(".").collect();
    let (snap, rest) = match parts.as_slice() {
        [b"snap", snap, b"hook", hook] => (*snap, *hook),
        [b"snap", snap, app] => (*snap, *app),
        _ => return None,
    };
    let is_word = |part: &[u8]| {
        !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || b"-_+".contains(b))
    };
    (is_word(snap) && is_word(rest)).then(|| (tag.clone(), snap.into()))
}

#[cfg(test)]
mod tests {
    use super::{revision, tag};

    #[test]
    fn revisions_are_those_of_the_file() {
        let of = |exe: &str| revision(&"a_key".into(), exe.into()).map(|r| r.to_string());
        assert_eq!(of("/snap/a_key/4173/usr/bin/a").as_deref(), Some("4173"));
        assert_eq!(of("/var/lib/snapd/snap/a_key/x1/a").as_deref(), Some("x1"));
        for none in [
            "/snap/b/1/a",
            "/snap/a_key/current/a",
            "/snap/a_key/1",
            "/usr/bin/a",
            "/snap/a_key/x/a",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn tags_of_apps_hooks_and_services() {
        let uuid = "5a2822d3-6a9b-58bc-ba51-c1d15ddd2b5f";
        let of = |text: String| tag(text.as_bytes()).map(|(t, s)| (t.to_string(), s.to_string()));
        let both = |tag: &str, snap: &str| Some((tag.to_owned(), snap.to_owned()));
        assert_eq!(of(format!("snap.a-b.c.{uuid}.scope")), both("snap.a-b.c", "a-b"));
        let hook = of(format!("snap.a.hook.install-{uuid}.scope"));
        assert_eq!(hook, both("snap.a.hook.install", "a"));
        assert_eq!(of("snap.a_key.b.service".to_owned()), both("snap.a_key.b", "a_key"));
        for none in [
            format!("snap.a-{uuid}.scope"),
            format!("snap.a.b{uuid}.scope"),
            "snap.a.b.scope".to_owned(),
            "snap.a.service".to_owned(),
            "snap..b.service".to_owned(),
            "snapd.service".to_owned(),
            "snap-a-1.mount".to_owned(),
        ] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }
}
