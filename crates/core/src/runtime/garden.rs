//! Cloud Foundry's Garden: `garden/<handle>`, with CPU throttling `garden/good/<handle>` or `bad`,
//! `garden-<tag>` when it is tagged (guardian guardiancmd/command_linux.go,
//! rundmc/bundlerules/cgroup_path.go). A handle of its own making is a UUID cut to four digits at
//! the end; a client may give one, usually a UUID.
//!
//! State: where it has containerd run them, containerd's, in the namespace `garden`; else the depot, a directory
//! with an OCI bundle a handle (rundmc/depot/dirdepot.go). What an application is called only Diego knows.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::segment::GARDEN;
use super::{
    FoundRoots, Hints, Matches, Query, Runtime, Shared, StateRoot, containerd, hints, place,
    segment,
};
use crate::model::{ContainerState, Description, Engine, Owner, OwnerKind};
use crate::state::containerd::bundle::{is_identifier, parse_pid, parse_spec};
use crate::state::json;

/// See the module.
#[derive(Debug)]
pub(super) struct Garden;

const ENGINE: Engine = Engine("garden");
/// Depots: its own default, and that of BOSH's release.
const DEPOTS: [&str; 2] = ["run/gdn/depot", "var/vcap/data/garden/depot"];
/// Containers of one host.
const MOST: usize = 100_000;

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

    fn has_state(&self) -> bool {
        true
    }

    fn shares(&self) -> Option<Shared> {
        Some(Shared { engine: containerd::ENGINE, is_its })
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, DEPOTS.map(BString::from))),
            Hints::Running => {
                let servers = hints::in_units(host, &["garden", "gdn"], &["gdn", "guardian"]);
                open_all(host, servers.iter().filter_map(|args| Subject::flag(args, "depot")))
            }
            Hints::Args(_) => {
                // What can't be read of it is containerd's own gap.
                let mut roots = containerd::roots_for(host, hints).roots;
                roots.retain(is_its);
                FoundRoots { roots, gaps: Vec::new() }
            }
            _ => FoundRoots::default(),
        }
    }

    fn find(&self, _: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut ids = match query {
            Query::Id(_) | Query::IdPrefix(_) | Query::Name(_) => self.list(root)?,
            Query::Address(_) | Query::Volume(_) => return Ok(Matches::default()),
        };
        ids.retain(|id| match query {
            Query::IdPrefix(prefix) => id.starts_with(prefix),
            // A handle that somebody chose is a name.
            Query::Id(own) | Query::Name(own) => id == own,
            Query::Address(_) | Query::Volume(_) => false,
        });
        Ok(Matches { ids, gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        if !is_depot(root) {
            return containerd::ids_in(root, GARDEN);
        }
        let entries = root.root.list(b"", MOST)?.into_iter();
        Ok(entries.filter(|e| e.is_dir && is_identifier(&e.name)).map(|e| e.name).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        let described = match is_depot(root) {
            true => in_depot(root, id),
            false => containerd::describe_in(root, GARDEN, id, needs)
                .map(|described| Description { namespace: None, ..described }),
        };
        // A handle that Garden drew is no name.
        Some(described.map(|d| Description { name: d.name.filter(|n| !is_handle(n)), ..d }))
    }

    fn cgroups_of(&self, _: &StateRoot, id: &BStr) -> Vec<BString> {
        let parents = ["/garden/", "/garden/good/", "/garden/bad/"];
        parents.map(|parent| [parent.as_bytes(), id].concat().into()).into()
    }
}

/// Whether a root of containerd's has something of Garden's: what is not is not looked at.
fn is_its(root: &StateRoot) -> bool {
    root.users_own().is_none()
        && containerd::ids_in(root, GARDEN).map_or(true, |ids| !ids.is_empty())
}

/// Whether a root is a depot, and no containerd's.
fn is_depot(root: &StateRoot) -> bool {
    root.run.is_none() && root.root.shown().ends_with(b"/depot")
}

/// What a bundle in the depot says.
fn in_depot(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of this handle");
    if !is_identifier(id) || !root.root.has_dir(id) {
        return Err(gone());
    }
    let file = |name: &str| [id.as_bytes(), b"/", name.as_bytes()].concat();
    let config = file("config.json");
    let path = root.root.join(&config);
    let spec = parse_spec(&root.root.read(&config, json::CAP)?)
        .map_err(|why| ReadError::new(path.clone(), Class::Malformed, why))?;
    let pid = root.root.read(&file("pidfile"), 64).ok().and_then(|bytes| parse_pid(&bytes).ok());
    // Garden itself takes this file's time for that of the container's creation.
    let created = root.root.look(&file("pidfile")).ok();
    let annotations = spec.annotations.iter().flatten();
    Ok(Description {
        name: Some(id.into()),
        labels: annotations.map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect(),
        believed: Some(match pid {
            Some(_) => ContainerState::Running,
            None => ContainerState::Created,
        }),
        created: created.and_then(|look| i64::try_from(look.mtime / 1_000_000).ok()),
        pid,
        path,
        ..Description::default()
    })
}

/// Whether this is a handle that Garden drew by lot: nobody else has ids of that shape.
pub(super) fn is_drawn(text: &[u8]) -> bool {
    text.len() == 28
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => segment::is_hex(&[*b]),
        })
}

fn is_handle(text: &[u8]) -> bool {
    is_drawn(text) || segment::is_uuid(text, b'-')
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
