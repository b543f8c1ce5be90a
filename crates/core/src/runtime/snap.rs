//! Snaps: `snap.<snap>.<app>-<uuid>.scope` (a dot before the UUID in older releases), hooks
//! `snap.<snap>.hook.<hook>-<uuid>.scope`, services `snap.<snap>.<app>.service` (snapd
//! sandbox/cgroup/scanning.go, tracking.go). The UUID is a nonce; the security tag is the id.

use bstr::{BString, ByteSlice};

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

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
    use super::tag;

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
