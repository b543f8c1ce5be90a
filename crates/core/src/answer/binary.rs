//! Which file on the host a process runs.

use std::rc::Rc;

use bstr::{BStr, ByteSlice};
use whose_fields::Needs;
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Class, Host, Mode};

use super::{Answer, Detail, Layers, Status};
use crate::index::Index;
use crate::model::gap::what;
use crate::model::{Fact, File, FileRole, Gap, Owner, OwnerKind, Process, Row, Verified};
use crate::storage::binary::{self, Extent, Subject, Which};
use crate::target::Typed;

/// What is read of the process besides.
pub(super) const NEEDS: Needs = Needs::STAT
    .and(Needs::STATUS)
    .and(Needs::CMDLINE)
    .and(Needs::OWNER)
    .and(Needs::ROLE)
    .and(Needs::EVIDENCE)
    .and(Needs::DESCRIPTION)
    .and(Needs::LIVENESS);

/// The running binary of a target: of the process, or of a container's first one.
pub fn exe(index: &mut Index<'_>, typed: &Typed, hash: bool, layers: Layers) -> Answer {
    look(index, typed, (NEEDS, Extent::Whole), hash, layers)
}

/// The same when nothing but the path is asked for: whose process it is is only looked at where the
/// path can't be proven without.
pub fn exe_path(index: &mut Index<'_>, typed: &Typed, hash: bool) -> Answer {
    let answer = look(index, typed, (Needs::STAT, Extent::Path), hash, Layers::None);
    let proven = |file: &File| {
        file.host.known().is_some()
            && matches!(file.verified, Verified::Page | Verified::MappedInode)
    };
    if answer.binary.as_ref().is_some_and(proven) {
        return answer;
    }
    exe(index, typed, hash, Layers::None)
}

fn look(
    index: &mut Index<'_>,
    typed: &Typed,
    (needs, extent): (Needs, Extent),
    hash: bool,
    layers: Layers,
) -> Answer {
    let mut answer = one_process(index, typed, needs);
    let Some(row) = answer.process.clone() else { return answer };
    answer.binary = located(index, &row, (hash, extent), layers);
    let pid = row.process.pid;
    match answer.binary.clone() {
        None => {
            answer.status = Status::NotFound;
            answer.message = Some(without_memory(&row, "runs no file"));
        }
        Some(file) => settle(&mut answer, &file, pid),
    }
    answer
}

/// Why a process has no file to be looked at.
pub(super) fn without_memory(row: &Row, so: &str) -> String {
    let pid = row.process.pid;
    if row.process.is_kernel() {
        format!("{pid} is a kernel thread and {so}")
    } else if row.process.is_dead() {
        format!("{pid} has exited and {so}")
    } else {
        format!("process {pid} is gone")
    }
}

/// The process of a target: of a container, its first one. Without one the answer says why.
pub(super) fn one_process(index: &mut Index<'_>, typed: &Typed, needs: Needs) -> Answer {
    let detail = Detail { needs, processes: true, served_by: false, binary: None };
    let mut answer = super::answer(index, typed, detail);
    if answer.exit() == 0 && answer.owner().is_some_and(|o| o.kind == OwnerKind::Pod) {
        answer = super::pod::only_container(index, typed, answer, detail);
    }
    if answer.process.is_none() && answer.exit() == 0 {
        let first = answer.row();
        if first.process.pid == 0 {
            answer.status = Status::NotFound;
            let name = answer.owner().and_then(|o| o.best_name()).cloned();
            let state = answer.owner().and_then(|o| o.state.known().copied());
            let name = name.unwrap_or_else(|| answer.target.clone());
            answer.message = Some(match (state, answer.kind) {
                (Some(state), _) => format!("{name} is {}", state.name()),
                (None, kind) => format!("{name} is a {kind} and leads to no process"),
            });
            return answer;
        }
        answer.processes.clear();
        answer.process = Some(first);
    }
    answer
}

/// Says in one line why there is no path, and how the bytes can be read.
fn settle(answer: &mut Answer, file: &File, pid: u32) {
    match &file.host {
        Fact::Known(_) => {}
        Fact::Unread(gap) => {
            answer.status = Status::Partial;
            let read = gap.cause.clone();
            let mut message = format!("{pid}: no host path is proven: {read}");
            for candidate in &file.candidates {
                message.push_str(&format!("; it may be {candidate}"));
            }
            message.push_str(&way(file));
            answer.message = Some(message);
        }
        Fact::Absent | Fact::Unasked => {
            answer.status = Status::NotFound;
            let why = match (file.state.map(|s| s.name()), file.role, &file.why) {
                (_, Some(FileRole::Anonymous), _) => "it runs from memory (memfd)".into(),
                (Some("unlinked"), ..) => "its file has no name left".into(),
                (.., Some(why)) => why.to_string(),
                _ => "the host has no mount that shows it".into(),
            };
            answer.message =
                Some(format!("{pid}: no file on the host is what it runs: {why}{}", way(file)));
        }
    }
}

fn way(file: &File) -> String {
    file.via_proc.as_ref().map(|p| format!("; exe opens {p}")).unwrap_or_default()
}

/// What a capture tells of the binary.
fn recorded(index: &Index<'_>, row: &Row, hash: bool) -> File {
    let host = index.host();
    let process = &row.process;
    let path = host.shown(format!("proc/{}/exe", process.pid).as_bytes());
    let gap = |what, why: &'static str| Gap::new(what, Class::Unsupported, path.clone(), why, None);
    let found = index.recorded_binary(process.pid, process.start_ticks());
    let mut file = match found {
        Ok(Some(file)) => file,
        Ok(None) => {
            let why = if host.is_captured() {
                "it is not in this capture"
            } else {
                "a saved tree holds no running process"
            };
            let inside = process.exe.known().cloned();
            let host = Fact::Unread(gap(what::BINARY, why));
            File { inside, host, why: Some(why.into()), ..File::default() }
        }
        Err(e) => {
            let host = Fact::Unread(Gap::from_read(what::BINARY, &e));
            File { host, why: Some(e.cause), ..File::default() }
        }
    };
    if hash {
        let why = "its content is not in the capture";
        let gap = gap(what::HASH, why);
        (file.sha256, file.build_id) = (Fact::Unread(gap.clone()), Fact::Unread(gap));
    }
    file
}

/// The binary of a process; `None` where it runs none.
pub(super) fn of(index: &mut Index<'_>, row: &Row, hash: bool, layers: Layers) -> Option<File> {
    located(index, row, (hash, Extent::Whole), layers)
}

fn located(
    index: &mut Index<'_>,
    row: &Row,
    (hash, extent): (bool, Extent),
    layers: Layers,
) -> Option<File> {
    let host = index.host();
    let process = &row.process;
    if process.is_kernel() || process.is_dead() {
        return None;
    }
    if host.mode() == Mode::Saved {
        return Some(recorded(index, row, hash));
    }
    let dir = directory(host, process)?;
    let subject = subject(&dir, row, extent);
    let located = binary::locate(host, &subject)?;
    let mut file = located.file;
    if hash {
        match &located.running {
            Some(running) => {
                let hashes = binary::hash::of(host, running, None);
                (file.sha256, file.build_id) = (hashes.sha256, hashes.build_id);
            }
            None => {
                let path = host.shown(format!("proc/{}/exe", process.pid).as_bytes());
                let why = "which file runs is not proven";
                let gap = Gap::new(what::HASH, Class::Unsupported, path, why, None);
                (file.sha256, file.build_id) = (Fact::Unread(gap.clone()), Fact::Unread(gap));
            }
        }
    }
    drop(located.running);
    add_layer(index, row, &mut file, layers);
    Some(file)
}

/// The directory of a process, which knows by what thread its memory is read.
pub(super) fn directory<'h>(host: &'h Host, process: &Process) -> Option<ProcDir<'h>> {
    let dir = host.process(process.pid).ok()?;
    if process.thread.is_some() {
        dir.still(process.start_ticks()).ok()?;
    }
    Some(dir)
}

/// The process as one whose program is asked about.
pub(super) fn subject<'s>(dir: &'s ProcDir<'s>, row: &'s Row, extent: Extent) -> Subject<'s> {
    let process = &row.process;
    let init = row.owner().and_then(|o| o.init_pid.known().copied());
    Subject {
        dir,
        start_ticks: process.start_ticks(),
        comm: process.comm().as_bstr(),
        args: process.args.known().map_or(&[], Vec::as_slice),
        init: init.filter(|p| *p != process.pid),
        which: Which::Program,
        extent,
        stuck: process.args.gap().is_some_and(|gap| gap.class == Class::TimedOut),
    }
}

/// Adds what the engine says of the layer.
pub(super) fn add_layer(index: &mut Index<'_>, row: &Row, file: &mut File, layers: Layers) {
    if let Some(owner) = row.owner().cloned() {
        add_layer_of(index, &owner, file, layers);
    }
}

/// The same for a container's file.
pub(super) fn add_layer_of(
    index: &mut Index<'_>,
    owner: &Rc<Owner>,
    file: &mut File,
    layers: Layers,
) {
    // The engine's own words for the layer: its store, its images, its place in the stack.
    let owner = Some(owner).filter(|o| o.kind.contains() && layers != Layers::None);
    if let (Some(path), Some(owner)) = (file.host.known().cloned(), owner) {
        let path: &BStr = path.as_ref();
        if let Ok(Some(layer)) = index.layer_of(path, owner, layers == Layers::Whole) {
            let seen = file.layer.take();
            let place = seen.map(|l| (l.index, l.of));
            let (at, of) = place.unwrap_or((layer.index, layer.of));
            file.layer = Some(crate::model::Layer {
                index: if file.role == Some(FileRole::Upper) { None } else { at.or(layer.index) },
                of: of.or(layer.of),
                ..layer
            });
        }
    }
}
