//! The list of containers: all, or those that targets name.

use whose_fields::Needs;
use whose_kernel::ReadError;

use super::container::{Resolved, resolve};
use super::{Answer, Detail, Status};
use crate::index::Index;
use crate::index::containers::Containers;
use crate::model::{Engine, Owner, OwnerKind};
use crate::runtime::kubernetes;
use crate::target::{Target, Typed};

/// Lists containers. With targets, those that they name, whether they run or not; targets that lead
/// nowhere come back as their answers.
///
/// # Errors
/// When /proc itself can't be read.
pub fn containers(
    index: &mut Index<'_>,
    targets: &[Typed],
    all: bool,
    needs: Needs,
) -> Result<(Containers, Vec<Answer>), ReadError> {
    let mut wanted: Vec<(Engine, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut problems = Vec::new();
    let key = |owner: &Owner| (owner.runtime, owner.id.to_vec(), owner.within.to_vec());
    for typed in targets {
        match named(index, typed) {
            Ok(owner) => wanted.push(key(&owner)),
            Err(answer) => problems.push(*answer),
        }
    }
    let mut listing = index.containers(all || !targets.is_empty(), needs)?;
    if !targets.is_empty() {
        // A pod stands for all containers in it.
        let of_pod = |o: &Owner| {
            let uid = o.pod().and_then(|p| p.uid)?;
            Some((kubernetes::ENGINE, uid.to_vec(), o.within.to_vec()))
        };
        let is_wanted =
            |o: &Owner| wanted.contains(&key(o)) || of_pod(o).is_some_and(|p| wanted.contains(&p));
        listing.rows.retain(|r| r.owner().is_some_and(|o| is_wanted(o)));
    }
    Ok((listing, problems))
}

/// The container that a target names, or that the process is in.
fn named(index: &mut Index<'_>, typed: &Typed) -> Result<Owner, Box<Answer>> {
    if let Target::Container(name) = &typed.target {
        return match resolve(index, typed, name, Needs::NONE) {
            Resolved::One(found) | Resolved::Pod(found) => Ok(Owner::clone(&found.owner)),
            Resolved::Not(answer) => Err(answer),
        };
    }
    let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
    let detail = Detail { needs, processes: false, served_by: false, binary: None };
    let mut answer = super::answer(index, typed, detail);
    let listed = |o: &&std::rc::Rc<Owner>| o.kind.contains() || o.kind == OwnerKind::Pod;
    let owner = answer.owner().filter(listed).map(|o| Owner::clone(o));
    if answer.exit() == 0 && owner.is_none() {
        answer.status = Status::NotFound;
        answer.message = Some(format!("{} is in no container", typed.text));
    }
    owner.filter(|_| answer.exit() == 0).ok_or_else(|| Box::new(answer))
}
