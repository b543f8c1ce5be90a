//! Flatpak applications: `app-flatpak-<application>-<instance>.scope`, where a user's systemd is
//! reachable (flatpak common/flatpak-run.c).
//!
//! Elsewhere it has no cgroup, and a sandbox of bubblewrap's is told to be its by the process that the user's files name.
//!
//! State: `.flatpak/<instance>` in the user's runtime directory, as long as the instance runs
//! (flatpak common/flatpak-instance.c).

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::name_of;
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, bubblewrap, place, segment};
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Engine, Gap, Owner, OwnerKind};
use crate::state::{flatpak as files, json};

/// See the module.
#[derive(Debug)]
pub(super) struct Flatpak;

const ENGINE: Engine = Engine("flatpak");
/// The directory of instances in a runtime directory.
const INSTANCES: &str = ".flatpak";
/// Instances that one directory may have.
const MOST: usize = 100_000;

impl Runtime for Flatpak {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::App
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

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let mut found = FoundRoots::default();
        let Hints::User(user) = hints else { return found };
        let base = format!("/run/user/{}", user.uid);
        let opened = host.owned_dir(BStr::new(&base), BStr::new(INSTANCES), user.uid);
        found.take(opened, Some(name_of(host, user.uid)));
        found
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        match query {
            Query::Id(id) => matches.ids.extend(has(root, id)?.then(|| id.into())),
            Query::Name(name) => {
                for id in list(root)? {
                    match read(root, id.as_ref()) {
                        Ok(its) if its.application.as_ref().is_some_and(|a| a == name) => {
                            matches.ids.push(id);
                        }
                        Ok(_) => {}
                        Err(e) if e.class == Class::Gone => {}
                        Err(e) => matches.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
                    }
                }
            }
            Query::IdPrefix(_) | Query::Address(_) | Query::Volume(_) => {}
        }
        Ok(matches)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        list(root)
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn names_jails_of(&self) -> Option<Engine> {
        Some(bubblewrap::ENGINE)
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn instance(text: &[u8]) -> Option<(&[u8], BString)> {
    let scope = segment::between(text, "app-flatpak-", ".scope")?;
    // A dash in the application's name is escaped.
    let (application, instance) = scope.rsplit_once_str("-")?;
    Some((instance, segment::unescape(application)?)).filter(|_| is_number(instance))
}

fn list(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let entries = root.root.list(b"", MOST)?.into_iter();
    Ok(entries.filter(|e| e.is_dir && is_number(&e.name)).map(|e| e.name).collect())
}

fn has(root: &StateRoot, id: &BStr) -> Result<bool, ReadError> {
    match read(root, id) {
        Ok(_) => Ok(true),
        Err(e) if e.class == Class::Gone => Ok(false),
        Err(e) => Err(e),
    }
}

/// An instance's key file, which must be its own.
fn read(root: &StateRoot, id: &BStr) -> Result<files::Instance, ReadError> {
    if !is_number(id) {
        return Err(ReadError::new(root.root.shown(), Class::Gone, "no instance of Flatpak's"));
    }
    let file = [id.as_bytes(), b"/info"].concat();
    let instance = files::parse(&root.root.read(&file, files::CAP)?);
    if instance.id.as_ref().is_some_and(|its| its != id) {
        let why = "it is of another instance";
        return Err(ReadError::new(root.root.join(&file), Class::Malformed, why));
    }
    Ok(instance)
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let instance = read(root, id)?;
    let file = [id.as_bytes(), b"/bwrapinfo.json"].concat();
    let malformed = |why: String| ReadError::new(root.root.join(&file), Class::Malformed, why);
    // bubblewrap writes it when the sandbox is made.
    let pid = match root.root.read(&file, json::CAP) {
        Ok(bytes) => files::child(&bytes).map_err(malformed)?,
        Err(e) if e.class == Class::Gone => None,
        Err(e) => return Err(e),
    };
    Ok(Description {
        image: instance.reference(),
        image_id: instance.commit,
        name: instance.application,
        // Its directory goes when nothing of it runs any more, or later.
        believed: Some(ContainerState::Running),
        pid,
        user: root.user.clone(),
        path: root.root.join(&[id.as_bytes(), b"/info"].concat()),
        ..Description::default()
    })
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
