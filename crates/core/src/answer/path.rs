//! A path of the host, or a layer: what it is, and whose.

use std::rc::Rc;

use bstr::BString;
use whose_fields::Needs;

use super::held::{held, hidden, of_kubelet};
use super::volume::in_volume;
use super::{Answer, Detail, Status, back, container, stored};
use crate::index::Index;
use crate::index::binds::Bound;
use crate::index::layers::{Found, LayerId, LayerInfo, User};
use crate::model::gap::{Class, first_of, what};
use crate::model::{
    Engine, Evidence, Fact, File, FileRole, FileState, Gap, Inode, LayerKind, Membership, Owner,
    OwnerKind, Source,
};
use crate::runtime::nspawn;
use crate::storage::Part;
use crate::storage::table::Image;
use crate::target::Typed;
use crate::target::layer::Name;
use crate::target::path::HostPath;

/// Where a path or layer was found, beyond what a FILE says.
#[derive(Clone, Debug)]
pub struct Place {
    /// The engine.
    pub engine: Engine,
    /// Its data root.
    pub store: BString,
    /// The user whose rootless engine it is.
    pub user: Option<BString>,
    /// The data root of another engine in one of whose volumes that lies: a container may have
    /// written all of it.
    pub in_volume_of: Option<BString>,
    /// The volume of the engine's that it lies in, or is.
    pub volume: Option<BString>,
    /// What part of a layer it is; `None` outside one.
    pub part: Option<Part>,
    /// The images that hold the layer, those with names first.
    pub images: Vec<Image>,
    /// The layer is a step of builds.
    pub is_step: bool,
    /// Layers were being added meanwhile, or an addition was broken off: what looks forgotten may
    /// be one of them.
    pub is_changing: bool,
    /// It is, or leads over, a link in a layer, which was not followed.
    pub is_link: bool,
}

pub(super) fn path(
    index: &mut Index<'_>,
    typed: &Typed,
    path: &HostPath,
    detail: Detail,
) -> Answer {
    let resolved = match index.resolve(path.0.as_ref()) {
        Ok(resolved) => resolved,
        Err(gap) if gap.class == Class::Gone => {
            let mut answer = Answer::new(typed, "path", Status::NotFound);
            answer.message = Some(format!("no file {}", path.0));
            return answer;
        }
        Err(gap) => return partial(Answer::new(typed, "path", Status::Partial), gap),
    };
    let host = resolved.path.clone();
    let mut answer = Answer::new(typed, "path", Status::Found);
    answer.file = Some(file_at(host.clone(), resolved.inode));
    if let Some(found) = &resolved.found {
        in_layer(index, &mut answer, found, detail);
        if let Some(place) = &mut answer.place {
            place.is_link = resolved.is_link;
        }
        return answer;
    }
    match index.state_dir_of(host.as_ref()) {
        Ok(Some((root, user))) => {
            let kept = format!("kept for {}", user.key);
            let seen = Evidence::agreeing(Source::StateFile, kept, host);
            answer.place = place(index, root);
            stored::kept_for(index, &mut answer, root, &user);
            one_owner(index, &mut answer, root, &user, vec![seen], detail);
        }
        Ok(None) => {
            if let Err(gap) = in_store_or_not(index, typed, &mut answer, &host, detail) {
                answer = partial(answer, gap);
            }
        }
        Err(gap) => answer = partial(answer, gap),
    }
    answer
}

/// Whose a path is that is in no layer, and kept for no container.
fn in_store_or_not(
    index: &mut Index<'_>,
    typed: &Typed,
    answer: &mut Answer,
    host: &BString,
    detail: Detail,
) -> Result<(), Gap> {
    if let Some((root, user)) = index.run_dir_of(host.as_ref())? {
        answer.place = place(index, root);
        stored::kept_for(index, answer, root, &user);
        one_owner(index, answer, root, &user, Vec::new(), detail);
        let told = answer.owner().and_then(|owner| owner.description()).map(|d| d.path.clone());
        let kept = format!("kept for {} until the host starts anew", user.key);
        let seen = Evidence::agreeing(Source::StateFile, kept, told.unwrap_or_default());
        if let Fact::Known(membership) = &mut answer.membership {
            membership.evidence.push(seen);
        }
    } else if let Some(found) = index.stored_at(host.as_ref())? {
        stored::in_store(index, answer, &found, detail);
    } else if let Some(volume) = index.volume_at(host.as_ref())? {
        in_volume(index, answer, &volume, detail);
    } else {
        beside(index, typed, answer, host, detail);
        let is_nobodys = answer.owners.as_ref().is_some_and(Vec::is_empty);
        if is_nobodys && answer.owner().is_none() {
            stored::in_root(index, answer, host)?;
        }
    }
    Ok(())
}

/// Whose a path is that lies in nothing of an engine's.
fn beside(
    index: &mut Index<'_>,
    typed: &Typed,
    answer: &mut Answer,
    host: &BString,
    detail: Detail,
) {
    if of_kubelet(index, typed, answer, host, detail) {
        // Of a pod's volume the containers show it that have it mounted.
        if answer.owner().is_none_or(|owner| owner.kind == OwnerKind::Pod) {
            bound(index, answer, host);
        }
    } else if detail.processes && held(index, answer, host, detail) {
        return; // what is mounted there is asked about
    } else if detail.binary.is_some() {
        bound(index, answer, host);
    } else {
        answer.owners = Some(Vec::new());
    }
    if detail.processes {
        hidden(index, answer, host);
    }
}

/// The containers that have it bound, or among their own files where no engine's table tells.
fn bound(index: &mut Index<'_>, answer: &mut Answer, host: &BString) {
    let (found, mut gaps) = index.bound(host.as_ref());
    let (rooted, more) = index.rooted(host.as_ref());
    gaps.extend(more);
    let needs = Needs::DESCRIPTION.and(Needs::LIVENESS);
    let mut all: Vec<Bound> = Vec::new();
    for mut of in found {
        // What shares a cgroup with others was told from them by what started it.
        if !nspawn::is_shared(&of.owner) {
            of.owner = index.container_of(&of.owner, needs).owner;
        }
        all.push(of);
    }
    let mut images: Vec<(usize, Rc<Owner>)> = Vec::new();
    for (root, user, inside) in rooted {
        let owner = index.container_of_root(root, &user, needs);
        let Some(inside) = inside else {
            images.push((root, owner));
            continue;
        };
        match index.container_of(&owner, needs).pids {
            // Its first process was asked.
            Ok(pids) if !pids.is_empty() => {}
            Ok(_) => all.push(Bound { owner, inside, pid: None, is_it: false }),
            Err(gap) => gaps.push(gap),
        }
    }
    all.retain(|of| {
        let mut shows = || match of.pid {
            Some(pid) => back::shows_to(index, pid, &of.inside, host),
            None => back::shows(index, &of.owner, &of.inside, host),
        };
        of.is_it
            || shows().unwrap_or_else(|gap| {
                gaps.push(back::untold(&of.owner, &of.inside, &gap));
                false
            })
    });
    by_state(index, host, &mut all, &mut gaps);
    for of in &all {
        let (source, path) = match (of.pid, of.owner.description()) {
            (Some(pid), _) => {
                (Source::Mount, index.host().shown(format!("proc/{pid}/mountinfo").as_bytes()))
            }
            (None, told) => (Source::StateFile, told.map(|d| d.path.clone()).unwrap_or_default()),
        };
        let detail = format!("{} has it at {}", of.owner.label(), of.inside);
        answer.seen.push(Evidence::agreeing(source, detail, path));
    }
    answer.owners = Some(all.iter().map(|of| Rc::clone(&of.owner)).collect());
    stored::root_image(index, answer, images);
    if let Some(told) = first_of(&gaps) {
        answer.status = Status::Partial;
        answer.message = Some(format!("{}: {told}", answer.target));
        answer.gaps.extend(gaps);
    }
    answer.bound = all;
}

/// Adds the containers that mount it by their engines' state and are not known to show it yet: those that do not run, and those
/// that no cgroup leads to.
fn by_state(index: &mut Index<'_>, host: &BString, all: &mut Vec<Bound>, gaps: &mut Vec<Gap>) {
    let needs = Needs::DESCRIPTION.and(Needs::LIVENESS);
    let (mounting, more) = index.mounting(host.as_ref());
    gaps.extend(more);
    for of in mounting {
        if index.host().out_of_time() {
            gaps.push(index.late().of(what::PATH));
            return;
        }
        let owner = index.container_of_root(of.root, &of.user, needs);
        let is_it = |b: &Bound| {
            let user = |owner: &Owner| owner.description().and_then(|told| told.user.clone());
            let same =
                |owner: &Owner| (owner.runtime, owner.key(), owner.within.clone(), user(owner));
            same(&b.owner) == same(&owner)
        };
        if all.iter().any(is_it) {
            continue;
        }
        let pids = index.container_of(&owner, needs).pids;
        let first = pids.map(|pids| owner.init_pid.known().or(pids.first()).copied());
        let told = match first {
            Err(gap) => Err(gap),
            Ok(Some(pid)) => index
                .mounted_at(&owner, pid, host.as_ref())
                .map(|inside| inside.map(|inside| (inside, Some(pid)))),
            // A user may write down any path of the host.
            Ok(None) if of.is_hearsay => Ok(None),
            Ok(None) => back::mounted_by_state(index, &owner, host)
                .map(|inside| inside.map(|inside| (inside, None))),
        };
        match told {
            Ok(Some((inside, pid))) => all.push(Bound { owner, inside, pid, is_it: true }),
            Ok(None) => {}
            Err(gap) if gaps.contains(&gap) => {}
            Err(gap) => gaps.push(gap),
        }
    }
}

pub(super) fn layer(index: &mut Index<'_>, typed: &Typed, name: &Name, detail: Detail) -> Answer {
    let (mut found, mut gaps) = match name {
        Name::Directory(name) => index.layers_named(&LayerId::Name(name.as_ref())),
        Name::Digest(digits) => index.layers_named(&LayerId::Digest(digits.as_ref())),
    };
    // The digits of a digest are often copied without what they are.
    if let (true, Name::Directory(name)) = (found.is_empty() && gaps.is_empty(), name)
        && crate::runtime::segment::is_hex(name)
    {
        (found, gaps) = index.layers_named(&LayerId::Digest(name.as_ref()));
    }
    if found.len() == 1 {
        let found = found.remove(0);
        let mut answer = Answer::new(typed, "layer", Status::Found);
        let mut file = File { why: Some(GIVEN.into()), ..File::default() };
        if index.has_layer_dir(&found) {
            file.host = Fact::Known(found.entry.clone());
        } else {
            file.host = Fact::Absent;
            file.state = Some(FileState::Deleted);
        }
        answer.file = Some(file);
        in_layer(index, &mut answer, &found, detail);
        return answer;
    }
    let mut answer = Answer::new(typed, "layer", Status::NotFound);
    if found.is_empty() {
        answer.message = Some(format!("no layer {}", typed.text));
        if let Some(gap) = gaps.first() {
            answer.status = Status::Partial;
            let doubt = format!("can't tell whether there is a layer {}: {gap}", typed.text);
            answer.message = Some(doubt);
            answer.gaps = gaps;
        }
        return answer;
    }
    answer.status = Status::Ambiguous;
    answer.message = Some(format!("{} fits {} layers", typed.text, found.len()));
    let word = |index: &mut Index<'_>, found: &Found| {
        let kind = index.layer_info(found, None).layer.kind;
        BString::from(kind.map_or("", LayerKind::name))
    };
    answer.candidates = found.iter().map(|f| (f.entry.clone(), word(index, f))).collect();
    answer
}

/// Why a path that was given is not proven as a process's file.
const GIVEN: &str = "the path was given: no process was asked for it";

pub(super) fn file_at(host: BString, inode: Option<Inode>) -> File {
    File { host: Fact::Known(host), inode, why: Some(GIVEN.into()), ..File::default() }
}

pub(super) fn partial(mut answer: Answer, gap: Gap) -> Answer {
    answer.status = Status::Partial;
    answer.message = Some(format!("{}: {gap}", answer.target));
    answer.gaps.push(gap);
    answer
}

pub(super) fn place(index: &mut Index<'_>, root: usize) -> Option<Place> {
    let (engine, store, user) = index.store(root)?;
    let around = index.volume_at(store.as_ref()).ok().flatten();
    let in_volume_of = around.and_then(|v| Some(index.store(v.root)?.1));
    Some(Place {
        engine,
        in_volume_of,
        store,
        user,
        volume: None,
        part: None,
        images: Vec::new(),
        is_step: false,
        is_changing: false,
        is_link: false,
    })
}

fn in_layer(index: &mut Index<'_>, answer: &mut Answer, found: &Found, detail: Detail) {
    let info = index.layer_info(found, None);
    let LayerInfo { layer, users, images, is_step, is_changing, evidence, mut gaps } = info;
    answer.place = place(index, found.root);
    if let Some(place) = &mut answer.place {
        place.part = Some(found.part);
        place.images = images;
        place.is_step = is_step;
        place.is_changing = is_changing;
    }
    let kind = layer.kind;
    if let Some(file) = &mut answer.file {
        file.role = role(found, kind);
        if matches!(found.part, Part::Files | Part::Merged) {
            file.inside.clone_from(&found.inside);
        }
        file.layer = Some(layer);
    }
    match (kind, users.as_slice()) {
        (Some(LayerKind::Upper | LayerKind::Init), [user]) => {
            one_owner(index, answer, found.root, user, evidence, detail);
        }
        _ => {
            answer.seen = evidence;
            let (owners, late) = owners(index, found.root, &users, detail);
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

/// Which part of a container's file system it is, where that is known.
fn role(found: &Found, kind: Option<LayerKind>) -> Option<FileRole> {
    match (found.part, kind?) {
        (Part::Merged, LayerKind::Upper) => Some(FileRole::Merged),
        (Part::Files, LayerKind::Upper | LayerKind::Init | LayerKind::Image)
            if !found.is_stacked() =>
        {
            Some(FileRole::Direct)
        }
        (Part::Files, LayerKind::Upper | LayerKind::Init | LayerKind::Image)
            if found.is_below_fuse() =>
        {
            Some(FileRole::FuseLayer)
        }
        (Part::Files, LayerKind::Upper) => Some(FileRole::Upper),
        (Part::Files, LayerKind::Init | LayerKind::Image) => Some(FileRole::Lower),
        _ => None,
    }
}

/// All that have something, as far as there is time; a user's state may name as many as he likes.
pub(super) fn owners(
    index: &mut Index<'_>,
    root: usize,
    users: &[User],
    detail: Detail,
) -> (Vec<Rc<Owner>>, Option<Gap>) {
    let mut owners = Vec::new();
    for user in users {
        if index.host().out_of_time() {
            let why = "not all containers were read in time";
            let path = index.store(root).map(|(_, path, _)| path).unwrap_or_default();
            let remedy = Some("try again with a longer --timeout");
            let late = Gap::new(what::DESCRIPTION, Class::TimedOut, path, why, remedy);
            return (owners, Some(late));
        }
        owners.push(owner(index, root, user, detail));
    }
    (owners, None)
}

fn owner(index: &mut Index<'_>, root: usize, user: &User, detail: Detail) -> Rc<Owner> {
    index.container_of_root(root, user, detail.needs.and(Needs::DESCRIPTION))
}

pub(super) fn one_owner(
    index: &mut Index<'_>,
    answer: &mut Answer,
    root: usize,
    user: &User,
    evidence: Vec<Evidence>,
    detail: Detail,
) {
    let owner = owner(index, root, user, detail);
    let chain = container::chain(index, &owner);
    answer.owners = Some(vec![owner]);
    answer.membership = Fact::Known(Membership { chain, evidence });
}
