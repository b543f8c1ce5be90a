//! OpenVZ and Virtuozzo containers (libvzctl lib/cgroup.c, lib/systemd.c). Two hierarchies that no other
//! kernel has, `ve` and `beancounter`, have a directory a container, called by its id: a UUID, or a
//! number of old. The other controllers have it in `machine.slice`, or where `VE_CGROUP_SLICE` says.
//! Names are in a file a container.

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::root::Links;
use whose_kernel::{Class, Host, Mode, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::query::look_through;
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, segment};
use crate::model::gap::what;
use crate::model::{Description, Engine, Gap, Owner, OwnerKind};
use crate::state::openvz as files;

/// See the module.
#[derive(Debug)]
pub(super) struct OpenVz;

const ENGINE: Engine = Engine("openvz");
/// Containers of one host.
const MOST: usize = 100_000;

impl Runtime for OpenVz {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            is_container(place).then(|| Owner::new(OwnerKind::Machine, ENGINE, place.text()))
        });
        levels.into()
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn has_state(&self) -> bool {
        true
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let mut found = FoundRoots::default();
        if !matches!(hints, Hints::Default) || !host.root().has_dir(files::DIR.as_bytes()) {
            return found;
        }
        if let Err(e) = host.guard(files::DIR.as_bytes()) {
            found.gaps.push(Gap::from_read(what::CONTAINERS, &e));
            return found;
        }
        // The files may be links to others of the host's, so that its whole tree is the state's: unless
        // what they lead to may not answer, then no link is followed.
        let asks = host.guard(files::PLACE.as_bytes()).is_err();
        let links = if asks { Links::Never } else { Links::Within };
        let owner = (host.mode() != Mode::Saved).then_some(0);
        match host.root().descend(b"", links, owner) {
            Ok(root) => found.roots.push(StateRoot::new(root, None, None)),
            Err(e) => found.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
        found
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let name = |id: &BString| files::read(&root.root, id).map(|config| config.name);
        let late = || {
            let why = "not all containers were looked through in time";
            ReadError::new(root.root.join(files::DIR.as_bytes()), Class::TimedOut, why)
        };
        look_through(host, query, || self.list(root), |id| id, name, late)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        let entries = root.root.list(files::DIR.as_bytes(), MOST)?;
        let id = |name: &BString| Some(BString::from(name.strip_suffix(b".conf")?));
        Ok(entries.iter().filter_map(|e| id(&e.name)).filter(|id| is_id(id)).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        if !is_id(id) {
            let path = root.root.join(files::DIR.as_bytes());
            return Some(Err(ReadError::new(path, Class::Gone, "no id of a container")));
        }
        let described = |config: files::Config| Description {
            name: config.name,
            image: config.template,
            path: root.root.join(&files::file(id)),
            ..Description::default()
        };
        Some(files::read(&root.root, id).map(described))
    }

    fn cgroups_of(&self, _: &StateRoot, id: &BStr) -> Vec<BString> {
        ["/machine.slice/", "/"].map(|above| [above.as_bytes(), id].concat().into()).into()
    }
}

fn is_container(place: Place<'_>) -> bool {
    let own = place.line.controllers.split(|b| *b == b',');
    let is_own = own.into_iter().any(|c| c == b"ve" || c == b"beancounter");
    if is_own {
        // What runs in it may make cgroups below it in its turn.
        return is_id(place.text()) && !place.above().any(is_id);
    }
    // A number may be anybody's there, and systemd's units have endings.
    place.parent() == b"machine.slice" && segment::is_uuid(place.text(), b'-')
}

fn is_id(text: &[u8]) -> bool {
    let number = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
    segment::is_uuid(text, b'-') || (number && !text.starts_with(b"0"))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::OpenVz;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn only_in_its_own_hierarchies_or_in_the_slice() {
        let uuid = "8f2f9a47-2ec5-4a25-9c1e-6a0f3f1f2b10";
        let id = |line: String| {
            let lines = parse(format!("{line}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            match OpenVz.claim(&subject) {
                Claim::Mine(mine) => Some(mine.levels[0].owner.id.to_string()),
                _ => None,
            }
        };
        assert_eq!(id(format!("3:ve:/{uuid}")).as_deref(), Some(uuid));
        assert_eq!(id("4:beancounter:/101/system.slice".into()).as_deref(), Some("101"));
        assert_eq!(id("3:ve:/101/102".into()).as_deref(), Some("101"));
        assert_eq!(id(format!("5:memory:/machine.slice/{uuid}/x")).as_deref(), Some(uuid));
        for none in [
            "3:ve:/".to_owned(),
            "3:ve:/0".to_owned(),
            "3:ve:/a".to_owned(),
            "5:memory:/101".to_owned(),
            "5:memory:/machine.slice/101".to_owned(),
            format!("5:memory:/machine.slice/{}", &uuid[1..]),
            format!("5:memory:/system.slice/{uuid}"),
        ] {
            assert_eq!(id(none.clone()), None, "{none}");
        }
    }
}
