//! A file as a process or a container has it: where that lies on the host.

use std::rc::Rc;

use bstr::{BStr, BString};
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Host, Mode};

use super::binary::{NEEDS, add_layer, add_layer_of, directory, one_process, subject};
use super::container::{self, Resolved};
use super::{Answer, Detail, Layers, Status};
use crate::index::Index;
use crate::index::stored::Stored;
use crate::model::gap::{Class, what};
use crate::model::{Fact, File, Gap, Mounting, Owner, Row};
use crate::storage::Driver;
use crate::storage::binary::stored::{self, Kind, Parts};
use crate::storage::binary::{self, Extent, Subject, Which};
use crate::target::inside::Inside;
use crate::target::{Target, Typed};

pub(super) fn inside(
    index: &mut Index<'_>,
    typed: &Typed,
    inside: &Inside,
    detail: Detail,
) -> Answer {
    let of = one_process(index, &inside.of, detail.needs.and(NEEDS));
    let layers = detail.binary.unwrap_or(Layers::Place);
    let Some(row) = of.process.clone() else {
        return match of.owner().cloned() {
            Some(owner) if of.status == Status::NotFound => {
                stored(index, typed, inside, (of, &owner), layers)
            }
            _ => Answer { target: typed.text.clone(), ..of },
        };
    };
    let mut answer = Answer::new(typed, "path", Status::Found);
    answer.gaps.clone_from(&of.gaps);
    answer.membership = match of.membership {
        Fact::Unasked => row.membership.clone(),
        known => known,
    };
    match file(index, &row, inside, layers) {
        Some(file) => {
            if let Fact::Unread(gap) = &file.host {
                answer.status = Status::Partial;
                answer.message = Some(format!("{}: {}", typed.text, without(&file, &gap.cause)));
            }
            answer.file = Some(file);
        }
        None => {
            answer.status = Status::NotFound;
            answer.message = Some(format!("{} has no {}", inside.of.text, inside.path));
        }
    }
    answer
}

/// The file of a container that does not run, by its engine's state.
fn stored(
    index: &mut Index<'_>,
    typed: &Typed,
    inside: &Inside,
    (of, owner): (Answer, &Rc<Owner>),
    layers: Layers,
) -> Answer {
    let mut answer = Answer::new(typed, "path", Status::Found);
    answer.membership = of.membership;
    answer.gaps = of.gaps;
    let told = in_state(index, owner, inside.path.as_ref());
    let why = of.message.unwrap_or_else(|| format!("{} does not run", inside.of.text));
    match told {
        Ok(Some(mut file)) => {
            add_layer_of(index, owner, &mut file, layers);
            answer.file = Some(file);
        }
        Ok(None) => {
            answer.status = Status::NotFound;
            answer.message = Some(format!("{} has no {}: {why}", inside.of.text, inside.path));
        }
        Err(gap) => {
            answer.status = Status::Partial;
            answer.message = Some(format!("{}: {why}, and {gap}", typed.text));
            answer.gaps.push(gap);
        }
    }
    answer
}

/// What a path leads to by what an engine's state says of a container's layers and mounts.
fn in_state(index: &mut Index<'_>, owner: &Owner, path: &BStr) -> Result<Option<File>, Gap> {
    let host = index.host();
    if host.mode() == Mode::Saved && !host.is_loose() {
        let why = "a capture holds no layers";
        return Err(Gap::new(what::PATH, Class::Unsupported, path, why, None));
    }
    let stored = index.stored(owner)?;
    by_layers(index.host(), &stored, path)
}

fn by_layers(host: &Host, stored: &Stored, path: &BStr) -> Result<Option<File>, Gap> {
    let Stored { dirs, names, driver, kind, mounts, within } = stored;
    let within = within.as_ref().map(|root| root.as_ref());
    let driver = driver.map(|driver| driver as &dyn Driver);
    stored::stored(host, &Parts { dirs, names, driver, kind: *kind, mounts, within }, path)
}

/// The same of a container's first process whose root a user's server shows to nobody else, not even to root (fuse(4),
/// `allow_other`): by the engine's state, but for what is mounted in it that this does not know. `None` where it can't be told so.
fn behind_server(
    index: &mut Index<'_>,
    row: &Row,
    dir: &ProcDir<'_>,
    path: &BStr,
) -> Option<Option<File>> {
    let owner = row.owner()?.clone();
    if owner.init_pid.known() != Some(&row.process.pid) || dir.link_text("root").ok()? != "/" {
        return None;
    }
    let mounts = dir.mountinfo().ok()?;
    let root = mounts.iter().rfind(|mount| mount.point == "/")?;
    if root.fs_type != "fuse.fuse-overlayfs" || root.root != "/" {
        return None;
    }
    let mut stored = index.stored(&owner).ok().filter(|stored| stored.kind == Kind::Fuse)?;
    let is_told = |mount: &&Mount| {
        mount.point == "/" || stored.mounts.iter().any(|m| strip(&m.at, &mount.point).is_some())
    };
    let untold: Vec<BString> =
        mounts.iter().filter(|m| !is_told(m)).map(|m| m.point.clone()).collect();
    let unknown = untold.iter().map(|at| Mounting { at: at.clone(), from: None });
    stored.mounts.extend(unknown);
    let mut file = by_layers(index.host(), &stored, path).ok()?;
    if let Some(file) = &mut file {
        // What its engine binds besides has no source in its state.
        if untold.iter().any(|at| file.inside.as_ref().is_some_and(|i| strip(at, i).is_some())) {
            return None;
        }
        let why = "its server answers its user alone: by its engine's state";
        file.why = file.host.known().map_or(file.why.take(), |_| Some(why.into()));
    }
    Some(file)
}

/// The same when nothing but the path is asked for: without one there is no answer.
pub fn path_inside(index: &mut Index<'_>, typed: &Typed, layers: Layers) -> Answer {
    let detail = Detail { needs: NEEDS, processes: false, served_by: false, binary: Some(layers) };
    let mut answer = super::answer(index, typed, detail);
    if let Some(file) = answer.file.as_ref().filter(|file| file.host == Fact::Absent) {
        let why = file.why.clone().unwrap_or_else(|| "the host has no mount that shows it".into());
        answer.message = Some(format!("{}: {}", typed.text, without(file, &why)));
        answer.status = Status::NotFound;
    }
    answer
}

/// What a path leads to in a container, nothing perhaps.
///
/// # Errors
/// When that can't be told.
pub(super) fn of_container(
    index: &mut Index<'_>,
    owner: &Owner,
    path: &BString,
) -> Result<Option<File>, Gap> {
    let name = crate::target::container::short(owner.id.as_ref());
    let of = Typed { text: path.clone(), target: Target::Container(name) };
    let container = index.container_of(owner, NEEDS);
    if container.pids.clone()?.is_empty() {
        return in_state(index, owner, path.as_ref());
    }
    let detail = Detail { needs: NEEDS, processes: true, served_by: false, binary: None };
    let found = Resolved::One(Box::new(container));
    let answer = container::answer_of(index, &of, found, detail);
    if let Some(hidden) = &answer.hidden {
        return Err(hidden.gap());
    }
    let row = answer.row();
    if row.process.pid == 0 {
        let why = "which process is its first is not known";
        return Err(Gap::new(what::PATH, Class::Unsupported, path.clone(), why, None));
    }
    let inside = Inside { of: Box::new(of), path: path.clone() };
    Ok(file(index, &row, &inside, Layers::None))
}

/// What a path leads to for a process; nothing too where that is gone by now.
///
/// # Errors
/// When that can't be told.
pub(super) fn of_process(
    index: &mut Index<'_>,
    pid: u32,
    path: &BString,
) -> Result<Option<File>, Gap> {
    let row = index.row(pid, NEEDS).map_err(|e| Gap::from_read(what::PROCESS, &e))?;
    let text = BString::from(pid.to_string());
    let of = Typed {
        text: text.clone(),
        target: Target::Container(crate::target::container::short(text.as_ref())),
    };
    let inside = Inside { of: Box::new(of), path: path.clone() };
    Ok(row.and_then(|row| file(index, &row, &inside, Layers::None)))
}

/// Says in one line why there is no path, what it may be, and how the bytes can be reached.
fn without(file: &File, why: &str) -> String {
    let is_none = file.host == Fact::Absent;
    let known = if is_none { "no file on the host is it" } else { "no host path is proven" };
    let mut line = format!("{known}: {why}");
    if !file.candidates.is_empty() {
        let all: Vec<String> = file.candidates.iter().map(ToString::to_string).collect();
        let so = if is_none { ": " } else { "; it may be " };
        line.push_str(&format!("{so}{}", all.join(", ")));
    }
    if let Some(path) = &file.via_proc {
        line.push_str(&format!("; {path} opens it"));
    }
    line
}

/// What the path leads to; `None` where that is nothing.
fn file(index: &mut Index<'_>, row: &Row, inside: &Inside, layers: Layers) -> Option<File> {
    let host = index.host();
    let process = &row.process;
    let unread = |class, why: &'static str| {
        let gap = Gap::new(what::PATH, class, inside.path.clone(), why, None);
        let inside = Some(inside.path.clone());
        File { inside, host: Fact::Unread(gap), why: Some(why.into()), ..File::default() }
    };
    if host.mode() == Mode::Saved {
        return Some(unread(Class::Unsupported, "a saved tree holds no running process"));
    }
    if process.is_kernel() || process.is_dead() {
        return Some(unread(Class::Gone, "the process has no root directory any more"));
    }
    let Some(dir) = directory(host, process) else {
        return Some(unread(Class::Gone, "the process is gone"));
    };
    let of = subject(&dir, row, Extent::Whole);
    let subject = Subject { which: Which::Named(inside.path.as_ref()), ..of };
    let located = binary::locate(host, &subject);
    let refused = |file: &File| file.host.gap().is_some_and(|gap| gap.class == Class::Forbidden);
    if located.as_ref().is_some_and(|located| refused(&located.file))
        && let Some(told) = behind_server(index, row, &dir, inside.path.as_ref())
    {
        return told.map(|mut file| {
            add_layer(index, row, &mut file, layers);
            file
        });
    }
    let Some(located) = located else {
        // Nothing is there, or nobody is left to have it.
        let still = dir.still(process.start_ticks()).is_ok();
        return (!still).then(|| unread(Class::Gone, "the process is gone"));
    };
    let mut file = located.file;
    add_layer(index, row, &mut file, layers);
    Some(file)
}
