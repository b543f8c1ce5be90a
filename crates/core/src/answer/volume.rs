//! A volume of an engine's own: where it is, and whose.

use bstr::BString;

use super::path::{file_at, owners, partial, place};
use super::{Answer, Detail, Status};
use crate::index::Index;
use crate::index::volumes::Volume;
use crate::model::{Evidence, FileRole, Source};
use crate::target::Typed;
use crate::target::volume::Name;

pub(super) fn volume(index: &mut Index<'_>, typed: &Typed, name: &Name, detail: Detail) -> Answer {
    let (mut found, gaps) = index.volumes_named(name.0.as_ref());
    let mut answer = Answer::new(typed, "volume", Status::NotFound);
    match found.len() {
        0 => {
            answer.message = Some(format!("no volume {}", name.0));
            if let Some(gap) = gaps.first() {
                answer.status = Status::Partial;
                let doubt = format!("can't tell whether there is a volume {}: {gap}", name.0);
                answer.message = Some(doubt);
                answer.gaps = gaps;
            }
        }
        1 => {
            let volume = found.remove(0);
            answer.status = Status::Found;
            answer.file = Some(file_at(volume.dir.clone(), None));
            in_volume(index, &mut answer, &volume, detail);
        }
        several => {
            answer.status = Status::Ambiguous;
            answer.message = Some(format!("{} fits {several} volumes", typed.text));
            let word = |volume: &Volume| {
                let (engine, _, user) = index.store(volume.root)?;
                let user = user.map(|user| format!(" of {user}")).unwrap_or_default();
                Some(BString::from(format!("{}{user}", engine.0)))
            };
            let named = |v: &Volume| (v.dir.clone(), word(v).unwrap_or_default());
            answer.candidates = found.iter().map(named).collect();
        }
    }
    answer
}

/// Says whose a volume is: of all containers that have it.
pub(super) fn in_volume(
    index: &mut Index<'_>,
    answer: &mut Answer,
    volume: &Volume,
    detail: Detail,
) {
    let (users, mut gaps) = index.users_of_volume(volume);
    answer.place = place(index, volume.root);
    if let Some(place) = &mut answer.place {
        place.volume = Some(volume.name.clone());
    }
    if let Some(file) = &mut answer.file {
        file.role = Some(FileRole::Volume);
    }
    let (owners, late) = owners(index, volume.root, &users, detail);
    gaps.extend(late);
    for owner in &owners {
        if let Some(description) = owner.description() {
            let told = format!("{} has it", owner.label());
            let path = description.path.clone();
            answer.seen.push(Evidence::agreeing(Source::StateFile, told, path));
        }
    }
    answer.owners = Some(owners);
    if let Some(gap) = gaps.into_iter().next() {
        *answer = partial(answer.clone(), gap);
    }
}
