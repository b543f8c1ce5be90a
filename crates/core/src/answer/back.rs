//! What containers call a file of the host.

use std::rc::Rc;

use bstr::BString;
use whose_kernel::parse::mountinfo::strip;

use super::Answer;
use crate::index::Index;
use crate::index::binds::Bound;
use crate::model::gap::{Class, Reasons, what};
use crate::model::{Fact, File, Gap, Mounting, Owner};
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
        let name = self.owner.best_name().unwrap_or(&self.owner.id);
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
/// there: something else may lie over the file. With the gaps of those that could not be asked, which are
/// not among them.
#[must_use]
pub fn inside(index: &mut Index<'_>, answer: &Answer) -> (Vec<Inside>, Vec<Gap>) {
    if !answer.bound.is_empty() {
        let of = |b: &Bound| Inside { owner: Rc::clone(&b.owner), path: Some(b.inside.clone()) };
        return (answer.bound.iter().map(of).collect(), Vec::new());
    }
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
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    for owner in owners {
        if index.host().out_of_time() {
            let why = "not all containers were asked in time";
            let path = host.unwrap_or_default();
            let remedy = Some("try again with a longer --timeout");
            gaps.push(Gap::new(what::PATH, Class::TimedOut, path, why, remedy));
            break;
        }
        let path = match (&in_layer, &host) {
            (Some(path), Some(host)) => match shows(index, &owner, path, host) {
                Ok(shows) => shows.then(|| path.clone()),
                Err(gap) => {
                    gaps.push(untold(&owner, path, &gap));
                    continue;
                }
            },
            (None, Some(host)) if part.is_none() => {
                let told = match owner.init_pid.known().copied() {
                    Some(init) => index.mounted_at(&owner, init, host.as_ref()),
                    None => mounted_by_state(index, &owner, host),
                };
                match told {
                    Ok(path) => path,
                    Err(gap) => {
                        gaps.push(gap);
                        continue;
                    }
                }
            }
            _ => None,
        };
        found.push(Inside { owner, path });
    }
    (found, gaps)
}

/// Where a container that does not run has a file of the host, by what its engine mounts in it.
pub(super) fn mounted_by_state(
    index: &mut Index<'_>,
    owner: &Owner,
    host: &BString,
) -> Result<Option<BString>, Gap> {
    let below = |mount: &Mounting| -> Option<BString> {
        let rest = strip(mount.from.as_ref()?, host)?;
        let at = mount.at.strip_suffix(b"/").unwrap_or(&mount.at);
        Some([at, rest.strip_suffix(b"/").unwrap_or(rest)].concat().into())
    };
    let stored = index.stored(owner)?;
    let mut all: Vec<BString> = stored.mounts.iter().filter_map(below).collect();
    all.sort();
    all.dedup();
    let mut refused = None;
    for path in all {
        if index.host().out_of_time() {
            return Err(untold(owner, &path, &index.late()));
        }
        match shows(index, owner, &path, host) {
            Ok(true) => return Ok(Some(path)),
            Ok(false) => {}
            Err(gap) => refused = refused.or_else(|| Some(untold(owner, &path, &gap))),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// That a container could not be asked whether it shows a file there.
pub(super) fn untold(owner: &Owner, path: &BString, gap: &Gap) -> Gap {
    let path = [owner.label().as_slice(), b":", path].concat().into();
    let cause = format!("whether that is it can't be told: {}", gap.cause).into();
    let (class, remedy) = (gap.class, gap.remedy.clone());
    Gap::from(Reasons { what: what::PATH, class, path, cause, remedy })
}

/// Whether a container shows this file of the host at a path of its own.
pub(super) fn shows(
    index: &mut Index<'_>,
    owner: &Owner,
    path: &BString,
    host: &BString,
) -> Result<bool, Gap> {
    let file = super::inside::of_container(index, owner, path)?;
    file.map_or(Ok(false), |file| is_at(&file, host))
}

/// The same of one process.
pub(super) fn shows_to(
    index: &mut Index<'_>,
    pid: u32,
    path: &BString,
    host: &BString,
) -> Result<bool, Gap> {
    let file = super::inside::of_process(index, pid, path)?;
    file.map_or(Ok(false), |file| is_at(&file, host))
}

fn is_at(file: &File, host: &BString) -> Result<bool, Gap> {
    match &file.host {
        // What it may be is not what it is.
        Fact::Unread(gap) => Err(gap.clone()),
        // Of a directory that is merged each part is shown.
        own => {
            let all = own.known().into_iter().chain(&file.merged).chain(&file.candidates);
            Ok(all.into_iter().any(|path| path == host))
        }
    }
}
