//! Steps of an image build by Buildah, or by Podman through it.
//!
//! The runtime's container is `buildah-<temporary directory>`, the directory `buildah` and digits
//! (buildah run_linux.go, define/types.go); the working container's id does not show. Drivers of
//! systemd put the runtime's name before it.

use super::claim::{Claim, Subject};
use super::{Runtime, place};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Buildah;

const ENGINE: Engine = Engine("buildah");

impl Runtime for Buildah {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = step(place.text())?;
            Some(Owner::new(OwnerKind::Job, ENGINE, id))
        });
        levels.into()
    }
}

fn step(text: &[u8]) -> Option<&[u8]> {
    let id = match text.strip_suffix(b".scope") {
        Some(scope) => scope.strip_prefix(b"crun-").or_else(|| scope.strip_prefix(b"runc-"))?,
        None => text,
    };
    let number = id.strip_prefix(b"buildah-buildah")?;
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn a_step_is_buildah_twice_and_a_number() {
        let id = Some(&b"buildah-buildah2461284341"[..]);
        assert_eq!(step(b"buildah-buildah2461284341"), id);
        assert_eq!(step(b"crun-buildah-buildah2461284341.scope"), id);
        for other in ["buildah-buildah", "buildah-buildah1x", "buildah.service", "crun-x.scope"] {
            assert_eq!(step(other.as_bytes()), None, "{other}");
        }
    }
}
