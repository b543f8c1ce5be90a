//! What containers call a file of the host.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_kernel::object::Object;
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::worker::exam::Way;

use super::Answer;
use crate::index::Index;
use crate::model::Owner;
use crate::storage::Part;

/// A container that has the file, and its path there.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The container.
    pub owner: Rc<Owner>,
    /// The path from its root; `None` where that is not known, as of a volume of one that does not run.
    pub path: Option<BString>,
}

impl Inside {
    /// As a target: `NAME:/PATH`.
    #[must_use]
    pub fn target(&self) -> Option<BString> {
        let name = self.owner.best_name()?;
        // Such a name alone would be a PID.
        let kind: &[u8] = match crate::target::pid::bare(name.as_ref()) {
            Some(_) => b"container:",
            None => b"",
        };
        Some([kind, name, b":", self.path.as_deref()?].concat().into())
    }
}

/// The containers that an answer about a path names, each with the path that leads there from its root:
/// by the layer's files, or by what its first process has mounted. The container is asked what it shows
/// there: something else may lie over the file.
#[must_use]
pub fn inside(index: &mut Index<'_>, answer: &Answer) -> Vec<Inside> {
    let owners: Vec<Rc<Owner>> = match (answer.owner(), &answer.owners) {
        (Some(owner), _) => vec![Rc::clone(owner)],
        (None, Some(owners)) => owners.clone(),
        (None, None) => Vec::new(),
    };
    let file = answer.file.as_ref();
    let part = answer.place.as_ref().and_then(|place| place.part);
    let in_layer = file.and_then(|f| f.inside.clone()).filter(|_| {
        // The work directory and the like are nobody's to see.
        matches!(part, Some(Part::Files | Part::Merged))
    });
    let host = file.and_then(|f| f.host.known().cloned());
    let mut found = Vec::new();
    for owner in owners {
        let path = match (&in_layer, &host) {
            (Some(path), Some(host)) => shows(index, &owner, path, host).then(|| path.clone()),
            (None, Some(host)) if part.is_none() => mounted(index, &owner, host.as_ref()),
            _ => None,
        };
        found.push(Inside { owner, path });
    }
    found
}

/// Whether a container shows this file of the host at a path of its own, as far as that can be told.
fn shows(index: &mut Index<'_>, owner: &Owner, path: &BString, host: &BString) -> bool {
    match super::inside::of_container(index, owner, path) {
        None => true,
        Some(None) => false,
        Some(Some(file)) => {
            let views = file.host.known().into_iter().chain(&file.merged).chain(&file.candidates);
            file.host.gap().is_some() || views.into_iter().any(|own| own == host)
        }
    }
}

/// The path by which a container's first process has a file of the host: opened and compared.
fn mounted(index: &Index<'_>, owner: &Owner, path: &BStr) -> Option<BString> {
    let host = index.host();
    let dir = host.process(*owner.init_pid.known()?).ok()?;
    let look = host.lookup(&host.root_object().ok()?, path, Way::Plain).ok()?.look().ok()?;
    let own = mount_of(host.mounts().ok()?, path)?;
    let in_fs = joined(&own.root, strip(&own.point, path)?);
    let mounts = dir.mountinfo().ok()?;
    let root = dir.object("root").ok()?;
    let is_it = |inside: &BString| {
        let there = host.lookup(&root, inside.as_ref(), Way::Plain);
        there.and_then(|object: Object| object.look()).is_ok_and(|l| l.is(&look))
    };
    let inside = |m: &Mount| Some(joined(&m.point, strip(&m.root, &in_fs)?));
    mounts.iter().filter(|m| m.device == own.device).filter_map(inside).find(is_it)
}

fn joined(dir: &[u8], rest: &[u8]) -> BString {
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    match (rest, dir.strip_suffix(b"/").unwrap_or(dir)) {
        (b"", b"") => "/".into(),
        (b"", dir) => dir.into(),
        (rest, dir) => [dir, b"/", rest].concat().into(),
    }
}
