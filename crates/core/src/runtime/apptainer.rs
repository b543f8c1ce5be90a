//! Apptainer containers that have resource limits: `apptainer-<pid>.scope`, in OCI mode
//! `apptainer-oci-<name>.scope` or `apptainer-oci/<name>` (apptainer
//! internal/pkg/cgroups/manager_linux.go). Without limits there is no cgroup of their own: the program that made
//! one stays above it.
//!
//! State: named instances alone, `.apptainer/instances/app/<host>/<user>/<name>/<name>.json` in the user's home
//! (internal/pkg/instance/instance_linux.go). Several hosts may share a home.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::name_of;
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::{apptainer as files, json};

/// See the module.
#[derive(Debug)]
pub(super) struct Apptainer;

const ENGINE: Engine = Engine("apptainer");
/// The directory of instances in a home.
const INSTANCES: &str = ".apptainer/instances/app";
/// This host's name.
const HOSTNAME: &str = "proc/sys/kernel/hostname";
/// Instances that one directory may have.
const MOST: usize = 100_000;

impl Runtime for Apptainer {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::App
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            Some(Owner::new(OwnerKind::App, ENGINE, container(place)?))
        });
        levels.into()
    }

    fn jailers(&self) -> &'static [&'static str] {
        &["starter", "starter-suid"]
    }

    fn names_jails_of(&self) -> Option<Engine> {
        Some(ENGINE)
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let mut found = FoundRoots::default();
        let Hints::User(user) = hints else { return found };
        let Ok(name) = host.root().read(HOSTNAME.as_bytes(), 4096) else { return found };
        let user_name = name_of(host, user.uid);
        let (name, plain) = (name.trim_ascii(), |word: &[u8]| segment::chosen(word).is_some());
        if !plain(name) || !plain(&user_name) {
            return found;
        }
        let place = [INSTANCES.as_bytes(), b"/", name, b"/", &user_name].concat();
        let opened = host.owned_dir(user.home.as_ref(), BStr::new(&place), user.uid);
        found.take(opened, (user.uid != 0).then_some(user_name));
        found
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let (Query::Id(name) | Query::Name(name)) = query else { return Ok(Matches::default()) };
        match read(root, name) {
            Ok(_) => Ok(Matches { ids: vec![name.into()], gaps: Vec::new() }),
            Err(e) if e.class == Class::Gone => Ok(Matches::default()),
            Err(e) => Err(e),
        }
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let entries = root.root.list(b"", MOST)?.into_iter();
        Ok(entries
            .filter(|e| e.is_dir && segment::chosen(&e.name).is_some())
            .map(|e| e.name)
            .collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        let instance = match read(root, id) {
            Ok(instance) => instance,
            // The number in a scope is no instance's name.
            Err(e) if e.class == Class::Gone && id.iter().all(u8::is_ascii_digit) => return None,
            Err(e) => return Some(Err(e)),
        };
        Some(Ok(Description {
            name: Some(instance.name),
            image: instance.image,
            log: instance.log,
            // Its directory goes when it ends in an orderly way.
            believed: Some(ContainerState::Running),
            pid: instance.pid,
            user: root.user.clone(),
            path: root.root.join(&file_of(id)),
            ..Description::default()
        }))
    }

    fn has_state(&self) -> bool {
        true
    }
}

fn file_of(id: &BStr) -> Vec<u8> {
    [id.as_bytes(), b"/", id, b".json"].concat()
}

/// An instance's file, which must be its own.
fn read(root: &StateRoot, id: &BStr) -> Result<files::Instance, ReadError> {
    if segment::chosen(id).is_none() {
        return Err(ReadError::new(root.root.shown(), Class::Gone, "no instance of Apptainer's"));
    }
    let file = file_of(id);
    let malformed = |why: String| ReadError::new(root.root.join(&file), Class::Malformed, why);
    let instance = files::parse(&root.root.read(&file, json::CAP)?).map_err(malformed)?;
    if instance.name != id {
        return Err(malformed("it is of another instance".into()));
    }
    Ok(instance)
}

fn container(place: Place<'_>) -> Option<&[u8]> {
    if place.parent() == b"apptainer-oci" {
        return segment::chosen(place.text());
    }
    let scope = segment::between(place.text(), "apptainer-", ".scope")?;
    match scope.strip_prefix(b"oci-") {
        Some(name) => segment::chosen(name),
        None => (!scope.is_empty() && scope.iter().all(u8::is_ascii_digit)).then_some(scope),
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Apptainer;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn numbers_and_oci_names() {
        let id = |path: &str| {
            let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            match Apptainer.claim(&subject) {
                Claim::Mine(mine) => Some(mine.levels[0].owner.id.to_string()),
                _ => None,
            }
        };
        assert_eq!(id("/user.slice/apptainer-oci-web.scope"), Some("web".into()));
        assert_eq!(id("/apptainer-oci/web/x"), Some("web".into()));
        assert_eq!(id("/user.slice/apptainer-oci-.scope"), None);
        assert_eq!(id("/user.slice/apptainer-12a.scope"), None);
        assert_eq!(id("/apptainer-oci"), None);
    }
}
