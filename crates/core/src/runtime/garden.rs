//! Cloud Foundry's Garden: `garden/<handle>`, with CPU throttling `garden/good/<handle>` or `bad`,
//! `garden-<tag>` when it is tagged (guardian guardiancmd/command_linux.go,
//! rundmc/bundlerules/cgroup_path.go). A handle of its own making is a UUID cut to four digits at
//! the end; a client may give one, usually a UUID.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Garden;

const ENGINE: Engine = Engine("garden");

impl Runtime for Garden {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let garden = match place.parent() {
                b"good" | b"bad" => place.grandparent(),
                parent => parent,
            };
            let below = garden == b"garden" || garden.starts_with(b"garden-");
            let fits = below && is_handle(place.text());
            fits.then(|| Owner::new(OwnerKind::Container, ENGINE, place.text()))
        });
        levels.into()
    }
}

fn is_handle(text: &[u8]) -> bool {
    let short = text.len() == 28
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => segment::is_hex(&[*b]),
        });
    short || segment::is_uuid(text, b'-')
}

#[cfg(test)]
mod tests {
    use super::is_handle;

    #[test]
    fn handles_are_whole() {
        assert!(is_handle(b"6f265890-5165-7fab-6b52-18d1"));
        assert!(is_handle(b"6f265890-5165-7fab-6b52-18d118d118d1"));
        for other in ["6f265890-5165-7fab-6b52-18d", "6f265890-5165-7fab-6b52-18d1a", "good"] {
            assert!(!is_handle(other.as_bytes()), "{other}");
        }
    }
}
