//! Apptainer containers that have resource limits: `apptainer-<pid>.scope`, in OCI mode
//! `apptainer-oci-<name>.scope` or `apptainer-oci/<name>` (apptainer
//! internal/pkg/cgroups/manager_linux.go). Without limits there is no cgroup of their own.

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Apptainer;

const ENGINE: Engine = Engine("apptainer");

impl Runtime for Apptainer {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            Some(Owner::new(OwnerKind::App, ENGINE, container(place)?))
        });
        levels.into()
    }
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
