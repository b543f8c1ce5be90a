//! A file of an engine's own: an image's, a layer's, a container's, or a table.

use std::rc::Rc;

use bstr::{BString, ByteSlice};

use super::path::{one_owner, owners, place};
use super::{Answer, Detail, Status};
use crate::index::Index;
use crate::index::image_store::InStore;
use crate::index::layers::User;
use crate::model::{Evidence, Fact, Gap, Owner, Source, Standing, Stored, StoredKind};
use crate::storage::images::Of;
use crate::storage::table::Image;

/// Says what a file of an image store is, and who needs it.
pub(super) fn in_store(
    index: &mut Index<'_>,
    answer: &mut Answer,
    found: &InStore,
    detail: Detail,
) {
    let (info, layer) = index.stored_info(found);
    let mut gaps = info.gaps;
    let kind = info.kind.unwrap_or(found.item.kind);
    answer.place = place(index, found.root);
    let Some(mut stored) = stored(index, found.root, kind) else { return };
    stored.id = match &found.item.of {
        Of::Image(id) => Some(with_algorithm(id)),
        Of::Layer(name) => {
            let chain = layer.as_ref().and_then(|info| info.layer.chain_id.clone());
            Some(chain.unwrap_or_else(|| name.clone()))
        }
        Of::Container(key) => {
            Some(key.rsplit_once_str("/").map_or(key.as_bstr(), |(_, id)| id.as_bstr()).into())
        }
        Of::Archive(digest) | Of::Blob(digest) => Some(digest.clone()),
        Of::All | Of::Nothing => None,
    };
    stored.standing = match (info.standing, &found.item.of, gaps.first()) {
        (Some(standing), ..) => Fact::Known(standing),
        (None, Of::All | Of::Nothing, _) | (None, _, None) => Fact::Absent,
        (None, _, Some(gap)) => Fact::Unread(gap.clone()),
    };
    stored.layer = layer.map(|info| info.layer);
    stored.images = info.images.iter().flat_map(names).collect();
    stored.image_ids = info.images.iter().map(|image| image.id.clone()).collect();
    if let Some(file) = &mut answer.file {
        file.stored = Some(stored);
    }
    if let Some(place) = &mut answer.place {
        place.images = info.images;
    }
    match (&found.item.of, info.users.as_slice()) {
        (Of::Container(_), [user]) => {
            one_owner(index, answer, found.root, user, info.evidence, detail);
        }
        (_, users) => {
            answer.seen = info.evidence;
            let (owners, late) = owners(index, found.root, users, detail);
            answer.owners = Some(owners);
            gaps.extend(late);
        }
    }
    if let Some(gap) = gaps.first() {
        answer.status = Status::Partial;
        answer.message = Some(format!("{}: {gap}", answer.target));
        answer.gaps.extend(gaps);
    }
}

/// Says that a file is kept for a container.
pub(super) fn kept_for(index: &Index<'_>, answer: &mut Answer, root: usize, user: &User) {
    let stored = stored(index, root, StoredKind::ContainerRecord);
    if let (Some(file), Some(stored)) = (&mut answer.file, stored) {
        let (id, standing) = (Some(user.key.clone()), Fact::Known(Standing::Used));
        file.stored = Some(Stored { id, standing, ..stored });
    }
}

/// Says that a file holds the files of these containers or machines.
pub(super) fn root_image(
    index: &mut Index<'_>,
    answer: &mut Answer,
    images: Vec<(usize, Rc<Owner>)>,
) {
    let Some((root, _)) = images.first() else { return };
    let root = *root;
    if let (Some(stored), Some(file)) =
        (stored(index, root, StoredKind::RootImage), &mut answer.file)
    {
        let standing = Fact::Known(Standing::Used);
        file.stored = Some(Stored { standing, ..stored });
    }
    answer.place = place(index, root);
    for (_, owner) in images {
        let told = owner.description().map(|told| told.path.clone()).unwrap_or_default();
        let detail = format!("the files of {} lie in it", owner.label());
        answer.seen.push(Evidence::agreeing(Source::StateFile, detail, told));
        let owners = answer.owners.get_or_insert_default();
        // It may have it bound too.
        if !owners.iter().any(|known| known.id == owner.id && known.runtime == owner.runtime) {
            owners.push(owner);
        }
    }
}

/// Says of what is nobody's that it lies in an engine's root.
///
/// # Errors
/// When the root can't be looked at.
pub(super) fn in_root(
    index: &mut Index<'_>,
    answer: &mut Answer,
    host: &BString,
) -> Result<(), Gap> {
    let Some(root) = index.engine_root_of(host.as_ref())? else { return Ok(()) };
    answer.place = place(index, root);
    if let Some(file) = &mut answer.file {
        file.stored = stored(index, root, StoredKind::Other);
    }
    Ok(())
}

fn stored(index: &Index<'_>, root: usize, kind: StoredKind) -> Option<Stored> {
    let (engine, path, _) = index.store(root)?;
    Some(Stored {
        kind,
        id: None,
        engine: engine.0.into(),
        root: path,
        standing: Fact::Absent,
        layer: None,
        images: Vec::new(),
        image_ids: Vec::new(),
    })
}

fn names(image: &Image) -> Vec<BString> {
    match image.names.as_slice() {
        [] => vec![image.id.clone()],
        names => names.to_vec(),
    }
}

fn with_algorithm(id: &BString) -> BString {
    [b"sha256:", id.as_slice()].concat().into()
}
