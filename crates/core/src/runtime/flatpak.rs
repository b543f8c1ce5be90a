//! Flatpak applications: `app-flatpak-<application>-<instance>.scope`, where a user's systemd is
//! reachable (flatpak common/flatpak-run.c).

use bstr::{BString, ByteSlice};

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Flatpak;

const ENGINE: Engine = Engine("flatpak");

impl Runtime for Flatpak {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (instance, application) = instance(place.text())?;
            let mut owner = Owner::new(OwnerKind::App, ENGINE, instance);
            owner.name = Some(application);
            Some(owner)
        });
        levels.into()
    }
}

fn instance(text: &[u8]) -> Option<(&[u8], BString)> {
    let scope = segment::between(text, "app-flatpak-", ".scope")?;
    // A dash in the application's name is escaped.
    let (application, instance) = scope.rsplit_once_str("-")?;
    let number = !instance.is_empty() && instance.iter().all(u8::is_ascii_digit);
    Some((instance, segment::unescape(application)?)).filter(|_| number)
}

#[cfg(test)]
mod tests {
    use super::instance;

    #[test]
    fn names_are_unescaped_and_instances_are_numbers() {
        let (id, name) = instance(b"app-flatpak-org.x.a\\x2db-12.scope").unwrap();
        assert_eq!((id, name.as_slice()), (&b"12"[..], &b"org.x.a-b"[..]));
        for other in ["app-flatpak-12.scope", "app-flatpak--12.scope", "app-flatpak-a-1b.scope"] {
            assert_eq!(instance(other.as_bytes()), None, "{other}");
        }
    }
}
