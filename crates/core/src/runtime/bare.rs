//! OCI runtimes that somebody calls without an engine: runc, crun, youki.
//!
//! With systemd's driver a scope has the runtime's name. With cgroupfs the cgroup is called as the
//! container, which could be anything: it counts if the runtime's state gives that very cgroup to a
//! container of that name. Ids of 64 digits there are an engine's, which describes them itself, those of
//! BuildKit's steps are BuildKit's, and those with a handle of Garden's are Garden's.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Level, Proof, Subject};
use super::docker::{name_of, of_admin, open_all};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, segment};
use crate::model::{Description, Engine, Owner, OwnerKind};
use crate::state::json;
use crate::state::oci::Container;

/// One of them.
#[derive(Debug)]
pub(super) struct Bare {
    /// Its name: also that of its directory in `/run` and of its scopes.
    pub(super) name: &'static str,
    /// The file of a container in that directory.
    pub(super) file: &'static str,
    /// What the file says.
    pub(super) parse: fn(&[u8]) -> Result<Container, String>,
    /// The file beside it that has the cgroup, and what it says, where there is such a one.
    pub(super) config: Option<(&'static str, ReadCgroup)>,
}

/// The cgroup that a file says was asked for.
type ReadCgroup = fn(&[u8]) -> Result<BString, String>;

/// Hierarchies that a host may have, and segments of a path that are looked at.
const MOST_HIERARCHIES: usize = 64;
const DEEPEST: usize = 64;
/// Containers that one directory may have.
const MOST: usize = 100_000;
/// How names of systemd's units end: they are no container's.
const UNITS: [&[u8]; 6] = [b".service", b".slice", b".scope", b".mount", b".socket", b".swap"];
/// Names of cgroups in a container's own that its runtime makes.
const PARTS: [&[u8]; 4] = [b"container", b"payload", b"supervisor", b"ns"];
/// How buildah calls the containers of its steps.
const BUILDAH: &[u8] = b"buildah-buildah";

impl Runtime for Bare {
    fn engine(&self) -> Engine {
        Engine(self.name)
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let mut levels = place::levels(subject.lines, |place| {
            let id = segment::own_scope(place.text(), self.name)?;
            Some(Owner::new(OwnerKind::Container, self.engine(), id))
        });
        // A text of more is no host's, and each guess is asked about.
        if subject.lines.len() <= MOST_HIERARCHIES {
            let guesses = place::levels(subject.lines, |place| {
                let id = guess(place).filter(|_| place.above().count() < DEEPEST)?;
                Some(Owner::new(OwnerKind::Container, self.engine(), id))
            });
            levels.extend(guesses.into_iter().map(|level| Level { proof: Proof::Guess, ..level }));
        }
        levels.into()
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let own = format!("run/{}", self.name);
        match hints {
            // A root shell that has a runtime directory moves it there.
            Hints::Default => {
                let second = format!("run/user/0/{}", self.name);
                of_admin(open_all(host, [own.into(), second.into()]))
            }
            Hints::User(user) => {
                let (mut found, base) = (FoundRoots::default(), format!("/run/user/{}", user.uid));
                let dir = BStr::new(self.name);
                let opened = host.owned_dir(BStr::new(&base), dir, user.uid);
                found.take(opened, Some(name_of(host, user.uid)));
                found
            }
            Hints::Inside(inside) => {
                let mut found = FoundRoots::default();
                found.take(inside.process.directory(BStr::new(&own)), None);
                found
            }
            _ => FoundRoots::default(),
        }
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let (Query::Id(id) | Query::Name(id)) = query else { return Ok(Matches::default()) };
        // A directory that may not be read says so once, whoever is asked for.
        if names(root)?.binary_search_by(|own| own.as_slice().cmp(id)).is_err() {
            return Ok(Matches::default());
        }
        let ids = match self.read(root, id) {
            Ok(_) => vec![id.into()],
            Err(e) if e.class == Class::Gone => Vec::new(),
            Err(e) => return Err(e),
        };
        Ok(Matches { ids, gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        names(root).map(<[_]>::to_vec)
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(self.read(root, id).map(|container| Description {
            labels: container.annotations,
            engine_state: container.status,
            created: container.created,
            pid: Some(container.pid).filter(|pid| *pid > 0),
            pid_start: container.pid_start,
            rootfs: container.rootfs,
            user: root.user.clone(),
            cgroups: container.cgroups,
            path: root.root.join(&self.file_of(id)),
            ..Description::default()
        }))
    }

    fn has_state(&self) -> bool {
        true
    }
}

impl Bare {
    fn file_of(&self, id: &[u8]) -> Vec<u8> {
        [id, b"/", self.file.as_bytes()].concat()
    }

    fn read(&self, root: &StateRoot, id: &BStr) -> Result<Container, ReadError> {
        let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of its own");
        if !is_own(id) {
            return Err(gone());
        }
        let file = self.file_of(id);
        let malformed = |why: String| ReadError::new(root.root.join(&file), Class::Malformed, why);
        let mut container = (self.parse)(&root.root.read(&file, json::CAP)?).map_err(malformed)?;
        if let Some((name, parse)) = self.config {
            let file = [id.as_bytes(), b"/", name.as_bytes()].concat();
            match root.root.read(&file, json::CAP) {
                Ok(bytes) => {
                    let asked = parse(&bytes).map_err(|why| {
                        ReadError::new(root.root.join(&file), Class::Malformed, why)
                    })?;
                    container.cgroups = cgroups(&asked, container.by_systemd);
                }
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(e),
            }
        }
        match &container.id {
            Some(its) if its != id => Err(malformed("it is of another container".into())),
            _ => Ok(container),
        }
    }
}

/// The cgroups that a container may have which asked for this one: with systemd's driver a scope, and else what
/// was asked for to the letter.
fn cgroups(asked: &BString, by_systemd: Option<bool>) -> Vec<BString> {
    let mut paths = segment::of_cgroups_path(asked);
    if let Some(by_systemd) = by_systemd {
        paths.retain(|path| path.ends_with(b".scope") == by_systemd);
    }
    paths
}

/// The names of all containers in a directory, sorted; listed once a command, since every segment of every
/// cgroup may be one.
fn names(root: &StateRoot) -> Result<&[BString], ReadError> {
    let list = || {
        let entries = root.root.list(b"", MOST)?.into_iter().filter(|e| e.is_dir);
        let mut names: Vec<BString> = entries.map(|e| e.name).filter(|name| is_own(name)).collect();
        names.sort_unstable();
        Ok(names)
    };
    root.names.get_or_init(list).as_deref().map_err(ReadError::clone)
}

/// Whether a container of this id is nobody's but the runtime's.
fn is_own(id: &[u8]) -> bool {
    let drawn = segment::is_hex64(id) || segment::is_buildkit_id(id) || super::garden::is_drawn(id);
    segment::chosen(id).is_some() && !drawn && !id.starts_with(BUILDAH)
}

/// A segment that may be a container's id.
fn guess(place: Place<'_>) -> Option<&[u8]> {
    let text = place.text();
    let unit = UNITS.iter().any(|end| text.ends_with(end));
    let part = PARTS.contains(&text) || text.starts_with(b".");
    (is_own(text) && !unit && !part).then_some(text)
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;
    use whose_kernel::root::Links;
    use whose_kernel::{Host, Options};

    use crate::runtime::runc::RUNC;
    use crate::runtime::youki::YOUKI;
    use crate::runtime::{Claim, Proof, Query, Runtime, StateRoot, Subject};

    fn ids(runtime: &dyn Runtime, path: &str) -> Vec<(String, Proof)> {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let comm = BStr::new("");
        let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
        match runtime.claim(&subject) {
            Claim::Mine(mine) => {
                mine.levels.iter().map(|l| (l.owner.id.to_string(), l.proof)).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn scopes_are_texts_and_the_rest_are_guesses() {
        assert_eq!(ids(&RUNC, "/system.slice/runc-web.scope"), [("web".into(), Proof::Text)]);
        assert_eq!(ids(&RUNC, "/web/x.service"), [("web".into(), Proof::Guess)]);
        assert_eq!(ids(&RUNC, &format!("/{}", "a1".repeat(32))), []);
        let literal = ids(&YOUKI, "/:youki:web");
        assert!(literal.contains(&("web".into(), Proof::Text)), "{literal:?}");
    }

    #[test]
    fn a_directory_is_listed_once_for_all_guesses() {
        let fixture = whose_testkit::fixture::FixtureHost::new();
        fixture.boot();
        let add = |id: &str| {
            let state = r#"{"init_process_pid":7,"cgroup_paths":{},"config":{}}"#;
            fixture.file(format!("run/runc/{id}/state.json"), state);
        };
        add("web");
        let options =
            Options { root: Some(fixture.path().to_str().unwrap().into()), ..Options::default() };
        let host = Host::open(options).unwrap();
        let root = || {
            let tree = host.root().descend(b"run/runc", Links::Within, None).unwrap();
            StateRoot::new(tree, None, None)
        };
        let find = |root: &StateRoot, id: &str| {
            RUNC.find(&host, root, Query::Id(BStr::new(id))).unwrap().ids.len()
        };
        let known = root();
        assert_eq!(find(&known, "web"), 1);
        // What is told is of the moment when it was listed.
        for n in 0..50 {
            let id = format!("later-{n}");
            add(&id);
            assert_eq!(find(&known, &id), 0);
        }
        assert_eq!((find(&known, "web"), RUNC.list(&known).unwrap().len()), (1, 1));
        assert_eq!((find(&root(), "later-7"), RUNC.list(&root()).unwrap().len()), (1, 51));
    }
}
