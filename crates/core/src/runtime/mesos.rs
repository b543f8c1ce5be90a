//! Mesos's own containers: `mesos/<uuid>`, nested ones `mesos/<uuid>/mesos/<uuid>` (mesos
//! src/slave/containerizer/mesos/paths.cpp). A renamed `--cgroups_root` can't be told.
//!
//! State: the agent's runtime directory, `/var/run/mesos` unless it is told otherwise, with one directory a
//! container and those of nested ones in it. Whoever runs in a container may have more started in it, and choose their
//! ids: how many there are is his to choose too.

use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::query::look_through;
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, hints, place, segment};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::containerd::bundle::parse_pid;
use crate::state::{mesos as files, unrecorded};

/// See the module.
#[derive(Debug)]
pub(super) struct Mesos;

const ENGINE: Engine = Engine("mesos");
/// The usual runtime directory.
const RUNTIME_DIR: &str = "run/mesos";
/// Where packages keep the agent's flags, a file each.
const FLAGS: [&str; 2] = ["etc/mesos-slave/runtime_dir", "etc/mesos-agent/runtime_dir"];
/// The agent's units, and what the kernel calls it.
const UNITS: [&str; 4] =
    ["mesos-slave", "mesos-agent", "dcos-mesos-slave", "dcos-mesos-slave-public"];
const AGENTS: [&str; 2] = ["mesos-slave", "mesos-agent"];
/// Containers of one agent.
const MOST: usize = 100_000;
/// Containers within each other.
const DEEPEST: usize = 32;

impl Runtime for Mesos {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let fits = place.parent() == b"mesos" && segment::is_uuid(place.text(), b'-');
            fits.then(|| Owner::new(OwnerKind::Container, ENGINE, place.text()))
        });
        levels.into()
    }

    fn has_state(&self) -> bool {
        true
    }

    fn nests(&self) -> bool {
        true
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        let mut found = match hints {
            Hints::Default => of_admin(open_all(host, [RUNTIME_DIR.into()])),
            Hints::Configured => {
                let named = FLAGS.into_iter().filter_map(|path| hints::in_file(host, path));
                of_admin(open_all(host, named))
            }
            Hints::Running => {
                let agents = hints::in_units(host, &UNITS, &AGENTS);
                open_all(host, agents.iter().filter_map(|args| Subject::flag(args, "runtime_dir")))
            }
            _ => FoundRoots::default(),
        };
        found.roots.iter_mut().for_each(|root| root.until = host.deadline());
        found
    }

    fn find(&self, host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let name = |chain: &&BString| config(root, chain).map(|config| config.name);
        look_through(host, query, || chains(root), |chain| id_of(chain), name, || late(root))
    }

    /// Those that are in none: one in another has that in its chain, which its cgroup shows while it runs.
    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(chains(root)?.iter().filter(|chain| !chain.contains(&b'/')).cloned().collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }

    fn cgroups_of(&self, root: &StateRoot, id: &BStr) -> Vec<BString> {
        let Ok(Some(chain)) = chain_of(root, id) else { return Vec::new() };
        vec![[&b"/"[..], &files::nested(chain, b"mesos")].concat().into()]
    }
}

/// The last of a chain.
fn id_of(chain: &[u8]) -> &[u8] {
    chain.rsplit_once_str("/").map_or(chain, |(_, id)| id)
}

/// All containers, each with those around it, outermost first: `A`, `A/B`; in the order of [`place_of`]. Listed once
/// a command.
fn chains(root: &StateRoot) -> Result<&[BString], ReadError> {
    let list = || {
        let mut chains: Vec<BString> = Vec::new();
        add_in(root, b"", &mut chains)?;
        // Each is looked into once, since no link is followed. Those in it are put behind it.
        let mut next = 0;
        while let Some(above) = chains.get(next) {
            next += 1;
            if root.until.is_some_and(|until| Instant::now() >= until) {
                return Err(late(root));
            }
            if above.split_str("/").count() < DEEPEST {
                let above = above.clone();
                add_in(root, &above, &mut chains)?;
            }
        }
        chains.sort_unstable_by(|one, other| place_of(one).cmp(&place_of(other)));
        Ok(chains)
    };
    root.names.get_or_init(list).as_deref().map_err(ReadError::clone)
}

/// Adds those that are in a container, or in none.
fn add_in(root: &StateRoot, above: &[u8], chains: &mut Vec<BString>) -> Result<(), ReadError> {
    let dir = match above {
        b"" => b"containers".to_vec(),
        above => [&files::dir(above), &b"/containers"[..]].concat(),
    };
    let entries = match root.root.list(&dir, MOST) {
        Ok(entries) => entries,
        Err(e) if e.class == Class::Gone => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries.into_iter().filter(|e| e.is_dir && is_id(&e.name)) {
        if chains.len() >= MOST {
            let why = "more containers than any agent has";
            return Err(ReadError::new(root.root.shown(), Class::Malformed, why));
        }
        chains.push(match above {
            b"" => entry.name,
            above => [above, b"/", &entry.name].concat().into(),
        });
    }
    Ok(())
}

/// Where a chain stands among all: beside those that end in the same id.
fn place_of(chain: &[u8]) -> (&[u8], &[u8]) {
    (id_of(chain), chain)
}

fn late(root: &StateRoot) -> ReadError {
    let why = "not all containers were looked through in time";
    ReadError::new(root.root.shown(), Class::TimedOut, why)
}

/// Ids are UUIDs; some that an operator starts by himself have names.
fn is_id(text: &[u8]) -> bool {
    segment::chosen(text).is_some()
}

/// The chain of a container by its id, with some or all of those around it. Ids of nested ones are for whoever starts
/// them to choose: one that is in none goes before them, and of several others it can't be told which is meant.
fn chain_of<'r>(root: &'r StateRoot, id: &[u8]) -> Result<Option<&'r BString>, ReadError> {
    let chains = chains(root)?;
    let whole = chains.binary_search_by(|chain| place_of(chain).cmp(&place_of(id)));
    if let Ok(at) = whole {
        return Ok(chains.get(at));
    }
    let last = id_of(id);
    let first = chains.partition_point(|chain| id_of(chain) < last);
    let same = chains.get(first..).unwrap_or_default();
    let same = same.iter().take_while(|chain| id_of(chain) == last);
    let mut all =
        same.filter(|chain| chain.strip_suffix(id).is_some_and(|above| above.ends_with(b"/")));
    match (all.next(), all.next()) {
        (Some(_), Some(_)) => {
            let why = "several containers in others have this id";
            Err(ReadError::new(root.root.shown(), Class::Unsupported, why))
        }
        (only, _) => Ok(only),
    }
}

fn config(root: &StateRoot, chain: &BString) -> Result<files::Config, ReadError> {
    let file = [&files::dir(chain), &b"/config"[..]].concat();
    let bytes = unrecorded::read(&root.root, &file, files::CAP)?;
    files::parse(&bytes).map_err(|why| ReadError::new(root.root.join(&file), Class::Malformed, why))
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of this agent's");
    let chain = chain_of(root, id)?.ok_or_else(gone)?;
    let dir = files::dir(chain);
    let file = |name: &str| [&dir, &b"/"[..], name.as_bytes()].concat();
    // Releases before 1.3 wrote none.
    let (config, path) = match config(root, chain) {
        Err(e) if e.class == Class::Gone => (files::Config::default(), dir.clone()),
        config => (config?, file("config")),
    };
    let pid = root.root.read(&file("pid"), 64).ok().and_then(|bytes| parse_pid(&bytes).ok());
    let ended = ["termination", "status"].iter().any(|name| root.root.look(&file(name)).is_ok());
    Ok(Description {
        name: config.name,
        image: config.image,
        believed: Some(match (ended, pid) {
            (true, _) => ContainerState::Exited,
            (false, Some(_)) => ContainerState::Running,
            (false, None) => ContainerState::Created,
        }),
        pid,
        rootfs: config.rootfs,
        path: root.root.join(&path),
        ..Description::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bstr::BStr;
    use whose_kernel::{Class, Host, Options};

    use super::{Mesos, chain_of};
    use crate::runtime::{Hints, Query, Runtime};

    #[test]
    fn chains_are_found_by_what_they_end_in() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        for chain in ["a", "a/b", "a/b/c", "a/d/c", "e/b", "e/b/f", "b"] {
            let path = chain.replace('/', "/containers/");
            let path = dir.path().join("run/mesos/containers").join(path);
            std::fs::create_dir_all(path).unwrap();
        }
        let open = |deadline| {
            let root = Some(dir.path().to_str().unwrap().into());
            Host::open(Options { root, deadline: Some(deadline), ..Options::default() }).unwrap()
        };
        let host = open(Instant::now() + Duration::from_secs(600));
        let root = Mesos.roots(&host, Hints::Default).roots.pop().unwrap();
        let found = |id: &str| {
            let found = chain_of(&root, id.as_bytes());
            found.map(|chain| chain.map(ToString::to_string)).map_err(|e| e.class)
        };
        for (id, chain) in
            [("b", "b"), ("b/c", "a/b/c"), ("a/b", "a/b"), ("f", "e/b/f"), ("d/c", "a/d/c")]
        {
            assert_eq!(found(id), Ok(Some(chain.to_owned())), "{id}");
        }
        // Of two it can't be told which; part of an id is none.
        assert_eq!(found("c"), Err(Class::Unsupported));
        assert_eq!((found("x"), found("a/c"), found("/c")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(Mesos.list(&root).unwrap(), ["a", "b", "e"]);
        let cgroups = Mesos.cgroups_of(&root, BStr::new("b/c"));
        assert_eq!(cgroups, ["/mesos/a/mesos/b/mesos/c"]);
        // How many there are is somebody's to choose: there is an end to it.
        let host = open(Instant::now());
        let root = Mesos.roots(&host, Hints::Default).roots.pop().unwrap();
        assert_eq!(Mesos.list(&root).map_err(|e| e.class), Err(Class::TimedOut));
        let found = Mesos.find(&host, &root, Query::Id(BStr::new("a")));
        assert_eq!(found.map(|found| found.ids).map_err(|e| e.class), Err(Class::TimedOut));
    }
}
