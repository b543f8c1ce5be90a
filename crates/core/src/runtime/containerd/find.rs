//! From an id, a name or a pod to containers: by the bundles, and by the database for what they do not
//! know. What runs comes first: where something fits that has a task, the database is not opened.

use bstr::{BStr, BString, ByteSlice};
use memchr::memmem;
use whose_kernel::{Class, Host, ReadError};

use super::describe::{self, Place, known_to_cri, namespaces, place_in_files, place_of};
use super::{BUILDKIT, CRI, record};
use crate::model::Gap;
use crate::model::gap::what;
use crate::runtime::{Matches, PodQuery, Query, StateRoot, segment};
use crate::state::containerd::bundle::{self, Spec, is_identifier};
use crate::state::json;

/// The keys of all that have a task, and of what CRI's files know.
pub(super) fn running(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let mut keys = Vec::new();
    if let Some(run) = &root.run {
        for namespace in namespaces(root)? {
            let ids = match bundle::ids(run, &namespace) {
                Err(e) if e.class == Class::Gone => continue, // its last one went meanwhile
                ids => ids?,
            };
            // Steps of a build are BuildKit's, and no containers.
            let is_step = |id: &BString| namespace == BUILDKIT && segment::is_buildkit_id(id);
            let ids = ids.into_iter().filter(|id| !is_step(id));
            keys.extend(ids.map(|id| Place::new(&namespace, &id).key()));
        }
    }
    // A pod's container that has ended.
    let others = known_to_cri(root)?.into_iter().filter(|key| !keys.contains(key));
    let others: Vec<BString> = others.collect();
    keys.extend(others);
    Ok(keys)
}

/// The keys of all others.
pub(super) fn ended(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let known: std::collections::HashSet<BString> = running(root)?.into_iter().collect();
    Ok(record::keys(root)?.into_iter().filter(|key| !known.contains(key)).collect())
}

/// See `Runtime::find`.
pub(super) fn find(host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
    let mut matches = Matches::default();
    match query {
        Query::Id(key) => {
            // A chosen id that only the database knows is no process's.
            let id = key.rsplit_once_str("/").map_or(key.as_bytes(), |(_, id)| id);
            let places = match segment::is_hex64(id) {
                true => place_of(root, key)?,
                false => place_in_files(root, key)?,
            };
            matches.ids = places.iter().map(Place::key).collect();
        }
        Query::IdPrefix(prefix) => {
            let begins = |key: &BString| {
                let id = key.rsplit_once_str("/").map_or(0, |(namespace, _)| namespace.len() + 1);
                key[id..].starts_with(prefix)
            };
            matches.ids = running(root)?;
            matches.ids.retain(begins);
            if matches.ids.is_empty() {
                match record::keys(root) {
                    Ok(keys) => matches.ids = keys.into_iter().filter(begins).collect(),
                    Err(e) => matches.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
                }
            }
        }
        Query::Name(name) => return by_name(host, root, name),
        Query::Address(_) | Query::Volume(_) => {}
    }
    Ok(matches)
}

/// An id that was chosen is a name; others are given by nerdctl, or by the kubelet within a pod. A
/// sandbox has its pod's name, which is the pod's and not its.
fn by_name(host: &Host, root: &StateRoot, name: &BStr) -> Result<Matches, ReadError> {
    let mut matches = Matches::default();
    let chosen = !segment::is_hex64(name) && name.split_str("/").all(is_identifier);
    if chosen {
        matches.ids = place_in_files(root, name)?.iter().map(Place::key).collect();
    }
    if matches.ids.is_empty() {
        let is_it = |spec: &Spec| {
            !describe::is_sandbox(spec) && describe::name(spec).is_some_and(|n| n == name)
        };
        each_bundle(host, root, &namespaces(root)?, name, is_it, &mut matches);
    }
    if matches.ids.is_empty() {
        match recorded(root, name, chosen) {
            Ok(keys) => matches.ids = keys,
            Err(e) => matches.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
        }
    }
    Ok(matches)
}

/// The records of this name: with the id that is it, or that nerdctl gave it.
fn recorded(root: &StateRoot, name: &BStr, chosen: bool) -> Result<Vec<BString>, ReadError> {
    let mut keys: Vec<BString> = Vec::new();
    if chosen {
        keys = record::places(root, name)?.iter().map(Place::key).collect();
    }
    if keys.is_empty() && !name.contains(&b'/') {
        for namespace in record::namespaces(root)? {
            let label = record::NERDCTL_NAME.as_bytes();
            let named = record::database(root)?.labelled(&namespace, label, name)?;
            let named = named.into_iter().filter(|record| is_identifier(&record.id));
            keys.extend(named.map(|record| Place::new(&namespace, &record.id).key()));
        }
    }
    Ok(keys)
}

/// The containers in pods that match, by the annotations of what runs. The database is asked when
/// nothing of the pod runs, or when it may be any pod.
pub(super) fn in_pods(host: &Host, root: &StateRoot, query: PodQuery<'_>) -> Matches {
    let mut matches = Matches::default();
    let Some(needle) = query.needle() else { return matches };
    let is_it = |spec: &Spec| describe::pod(spec).is_some_and(|pod| query.fits(&pod));
    each_bundle(host, root, &[BString::from(CRI)], needle, is_it, &mut matches);
    if !matches.ids.is_empty() && (query.uid.is_some() || query.name.is_some()) {
        return matches;
    }
    match record::pods(root) {
        Ok(pods) => {
            let fits = |(id, pod): &(BString, _)| is_identifier(id) && query.fits(pod);
            let found = pods.into_iter().filter(fits);
            matches.ids.extend(found.map(|(id, _)| Place::new(CRI, &id).key()));
            matches.ids.sort();
            matches.ids.dedup();
        }
        Err(e) => matches.gaps.push(Gap::from_read(what::CONTAINERS, &e)),
    }
    matches
}

/// Adds the containers of these namespaces whose bundle's configuration has `text` in it and `is_it`.
fn each_bundle(
    host: &Host,
    root: &StateRoot,
    namespaces: &[BString],
    text: &BStr,
    is_it: impl Fn(&Spec) -> bool,
    matches: &mut Matches,
) {
    let Some(run) = &root.run else { return };
    // What JSON has to escape can't be looked for in the bytes; anything else it may.
    let plain = text.iter().all(|b| (b' '..=b'~').contains(b) && !b"\"\\<>&".contains(b));
    let needle = memmem::Finder::new(if plain { text.as_bytes() } else { b"" });
    for namespace in namespaces {
        let ids = match bundle::ids(run, namespace) {
            Ok(ids) => ids,
            Err(e) if e.class == Class::Gone => continue,
            Err(e) => {
                matches.gaps.push(Gap::from_read(what::CONTAINERS, &e));
                continue;
            }
        };
        for id in ids {
            if host.out_of_time() {
                let why = "not all containers were looked through in time";
                let path = run.join(bundle::TASKS.as_bytes());
                let late = ReadError::new(path, Class::TimedOut, why);
                matches.gaps.push(Gap::from_read(what::CONTAINERS, &late));
                return;
            }
            let rel = bundle::file(namespace, &id, "config.json");
            let read = run.read_of_admin(&rel, json::CAP).and_then(|bytes| {
                if needle.find(&bytes).is_none() && !bytes.contains_str("\\") {
                    return Ok(false);
                }
                let malformed = |why| ReadError::new(run.join(&rel), Class::Malformed, why);
                bundle::parse_spec(&bytes).map(|spec| is_it(&spec)).map_err(malformed)
            });
            match read {
                Ok(true) => matches.ids.push(Place::new(namespace, &id).key()),
                Ok(false) => {}
                Err(e) if e.class == Class::Gone => {} // removed meanwhile
                Err(e) => matches.gaps.push(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
    }
}
