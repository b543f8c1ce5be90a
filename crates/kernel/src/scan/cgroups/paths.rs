//! The paths of v2 cgroups by their ids.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::rc::Rc;

use super::layout::Layout;
use super::tree::{Tree, each_child, path_below};
use crate::host::Host;
use crate::parse::cgroup::Line;

/// Cgroups that are listed at most: whoever is given a cgroup may make as many as he likes.
const MOST: usize = 50_000;

/// What the ids of v2 cgroups tell.
#[derive(Debug, Default)]
pub struct ById {
    /// The path of each cgroup that is there. A cgroup keeps its path and its id for life, and no other
    /// is ever given that id.
    pub paths: HashMap<u64, Vec<u8>>,
    /// What `/proc/PID/cgroup` says in each: nothing unless all other hierarchies have only their root.
    pub lines: HashMap<u64, Rc<Vec<Line>>>,
}

/// Looks for v2 cgroups by their ids. One is not found when its directory can't be, or when its path is
/// not what this program is told in `/proc/PID/cgroup`. `own` is the cgroup that this very process was
/// in: what is told of that is compared.
#[must_use]
pub fn by_id(host: &Host, wanted: &HashSet<u64>, own: Option<u64>) -> ById {
    let found = Layout::of(host).and_then(|layout| {
        let v2 = layout.hierarchies.iter().find(|h| h.is_v2)?;
        let paths = find(host, v2.tree.as_ref()?, wanted);
        let told = layout.own.iter().find(|line| line.is_v2()).map(|line| &line.path);
        let is_wrong = |id| paths.get(&id).is_some_and(|path| told.is_none_or(|told| told != path));
        (!own.is_some_and(is_wrong)).then_some((layout, paths))
    });
    let Some((layout, paths)) = found else { return ById::default() };
    let lines = |path: &Vec<u8>| layout.lines(std::iter::once(path.as_slice()));
    let lines = match layout.is_v2_alone() {
        true => paths.iter().filter_map(|(id, path)| Some((*id, lines(path)?))).collect(),
        false => HashMap::new(),
    };
    ById { paths, lines }
}

/// Finds them level by level: a listing tells the ids of all in it, so that a directory is only read
/// for what may be below it, and none after the last was found.
fn find(host: &Host, tree: &Tree, wanted: &HashSet<u64>) -> HashMap<u64, Vec<u8>> {
    let mut found = HashMap::with_capacity(wanted.len());
    if !tree.shows_ids() {
        return found;
    }
    found.extend(tree.root_id().filter(|id| wanted.contains(id)).map(|id| (id, b"/".to_vec())));
    let mut queue = VecDeque::from([b"/".to_vec()]);
    let mut listed = 0;
    while let Some(path) = queue.pop_front() {
        if found.len() == wanted.len() || listed > MOST || host.out_of_time() {
            break;
        }
        // Looked at as late as that: the last one may have been found on the level above.
        if path != b"/" && !tree.has_children(tree.top(), &path[1..]).unwrap_or(false) {
            continue;
        }
        // One that was removed meanwhile has nobody in it.
        let Ok(dir) = tree.open(&path) else { continue };
        let listing = each_child(dir.as_fd(), &mut |child| {
            listed += 1;
            let Some(path) = path_below(&path, child.name) else { return };
            if wanted.contains(&child.ino) {
                found.insert(child.ino, path.clone());
            }
            queue.push_back(path);
        });
        if listing.is_err() {
            continue; // what was not listed is not found
        }
    }
    found
}
