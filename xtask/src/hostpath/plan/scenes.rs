//! What befalls one file before and after a program is started from it.

use super::names::{join, split};
use super::overlay::{Bind, Data, File, Run, Stack};
use super::{Draft, Place, Program};

/// One case, if the file and the overlay allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Run,
    CopyRun,
    RunCopy,
    RunCopyRemove,
    Remove,
    Replace,
    Impostor,
    CopyRemove,
    New,
    NewRemove,
    NewReplace,
    NewRename,
    NewTwoNames,
    OtherNameRun,
    RunOtherName,
    Chroot,
    Bind,
    BindDetach,
    Hide,
}

/// Scenes of an overlay without an upper directory; what stands twice comes twice as often.
const STILL: &[Scene] = &[
    Scene::Run,
    Scene::Run,
    Scene::Run,
    Scene::Chroot,
    Scene::Bind,
    Scene::BindDetach,
    Scene::Hide,
];
/// Scenes of a writable one.
const LIVELY: &[Scene] = &[
    Scene::Run,
    Scene::Run,
    Scene::CopyRun,
    Scene::CopyRun,
    Scene::CopyRun,
    Scene::RunCopy,
    Scene::RunCopy,
    Scene::RunCopy,
    Scene::RunCopyRemove,
    Scene::RunCopyRemove,
    Scene::Remove,
    Scene::Remove,
    Scene::Replace,
    Scene::Replace,
    Scene::Impostor,
    Scene::CopyRemove,
    Scene::Chroot,
    Scene::Chroot,
    Scene::Bind,
    Scene::BindDetach,
    Scene::Hide,
];
/// Scenes of a lower file with two names.
const LINKED: &[Scene] = &[Scene::Run, Scene::OtherNameRun, Scene::RunOtherName];
/// Scenes that make their own file.
const NEW: &[Scene] = &[
    Scene::New,
    Scene::New,
    Scene::New,
    Scene::New,
    Scene::NewRename,
    Scene::NewRename,
    Scene::NewRemove,
    Scene::NewReplace,
    Scene::NewTwoNames,
];

/// Starts one to five programs.
pub(super) fn play(draft: &mut Draft, stack: &mut Stack) {
    let mut paths: Vec<Vec<u8>> = stack.files.keys().cloned().collect();
    for number in 0..1 + draft.rng.below(5) {
        if stack.upper.is_some() && (paths.is_empty() || draft.rng.chance(20)) {
            let scene = draft.rng.pick(NEW).copied().unwrap_or(Scene::New);
            new_file(draft, stack, scene, number);
            continue;
        }
        if paths.is_empty() {
            return;
        }
        let path = paths.swap_remove(draft.rng.below(paths.len()));
        let other = other_name(stack, &path);
        let scenes = match &other {
            Some(other) if stack.upper.is_some() && !stack.metacopy => {
                paths.retain(|path| path != other);
                LINKED
            }
            _ if stack.entangled(&path) => &[Scene::Run],
            _ if stack.upper.is_some() => LIVELY,
            _ => STILL,
        };
        let scene = draft.rng.pick(scenes).copied().unwrap_or(Scene::Run);
        match (scene, other) {
            (Scene::OtherNameRun | Scene::RunOtherName, Some(other)) => {
                two_names(draft, stack, &path, &other, scene);
            }
            _ => one_file(draft, stack, &path, scene),
        }
    }
}

/// The other visible name of the same lower file.
fn other_name(stack: &Stack, path: &[u8]) -> Option<Vec<u8>> {
    let file = stack.files.get(path).filter(|file| file.linked && !file.aged)?;
    let other = match path.strip_suffix(b".too") {
        Some(other) => other.to_vec(),
        None => [path, b".too"].concat(),
    };
    let same = stack.files.get(&other)?;
    let lower = |file: &File| matches!(file.data, Data::Lower(..));
    (same.mark == file.mark && lower(same) && lower(file)).then_some(other)
}

/// How a file may come to be copied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// By anything.
    Any,
    /// By what leaves its name, also while it runs.
    Named,
    /// By what moves its bytes and not its metadata alone.
    Whole,
}

/// Makes the overlay copy a file up; returns the name it then has.
///
/// With `metacopy=on` its bytes may stay below. The copy is given another text often, so that
/// the two can be told apart; else they are the same byte for byte.
pub(super) fn copy_up(draft: &mut Draft, stack: &mut Stack, path: &[u8], until: Until) -> Vec<u8> {
    let merged = join(&stack.point, path);
    let ways = match until {
        Until::Any => 5,
        Until::Named => 3,
        Until::Whole => 1,
    };
    let way = if until == Until::Named { 1 + draft.rng.below(3) } else { draft.rng.below(ways) };
    let mut now = path.to_vec();
    let entry = stack.files.remove(path);
    match way {
        0 => draft.inside(&[b"append", &merged]),
        1 => draft.inside(&[b"chmod", &merged, b"0711"]),
        2 => draft.inside(&[b"touch", &merged]),
        3 => {
            draft.next += 1;
            let link = format!(".link{}", draft.next);
            draft.inside(&[b"link", &merged, &[merged.as_slice(), link.as_bytes()].concat()]);
        }
        _ => {
            draft.next += 1;
            now.extend_from_slice(format!(".renamed{}", draft.next).as_bytes());
            draft.inside(&[b"rename", &merged, &join(&stack.point, &now)]);
        }
    }
    let Some(mut file) = entry else { return now };
    file.named_twice |= way == 3;
    if file.data != Data::Upper && way != 0 && stack.metacopy {
        file.meta = true;
    } else if file.data != Data::Upper {
        file.data = Data::Upper;
        file.meta = false;
        if draft.rng.chance(60) {
            file.mark = remark(draft, stack, &now);
        }
    }
    stack.files.insert(now.clone(), file);
    now
}

/// Gives the upper file of this name another text, past the overlay.
fn remark(draft: &mut Draft, stack: &Stack, path: &[u8]) -> String {
    let mark = draft.mark();
    if let Some(upper) = &stack.upper {
        draft.at(&[b"mark", &join(upper, path), mark.as_bytes()]);
    }
    mark
}

/// Starts the file of this name by these words, and remembers it.
fn start(
    draft: &mut Draft,
    stack: &mut Stack,
    path: &[u8],
    label: &'static str,
    words: Option<&[&[u8]]>,
) -> usize {
    let Some(file) = stack.files.get(path) else { return usize::MAX };
    let mut program = Program::new(label, &file.mark);
    // Metadata alone that was copied up is no copy of the file.
    let copied = file.data == Data::Upper && !file.born;
    program.copied_up = Some(if copied { "before-start" } else { "no" });
    let data = file.data.clone();
    let meta = file.meta;
    let apart = (data == Data::Upper && !file.born) || meta;
    let merged = join(&stack.point, path);
    let index = draft.start(words.unwrap_or(&[b"start", &merged]), program);
    let (path, bind) = (path.to_vec(), None);
    stack.runs.push(Run {
        program: index,
        path,
        data,
        apart,
        meta,
        index: false,
        renamed: false,
        bind,
    });
    index
}

fn set(draft: &mut Draft, index: usize, copied_up: Option<&'static str>, state: &'static str) {
    if let Some(program) = draft.program(index) {
        program.copied_up = copied_up;
        program.state = Some(state);
    }
}

/// What a plainly run file is called.
fn kind(file: &File, stack: &Stack) -> &'static str {
    match &file.data {
        Data::Lower(None, _) => "data-only layer",
        _ if file.aged => "from an earlier mount",
        Data::Lower(..) if file.linked && stack.index => "lower, two names, index",
        Data::Lower(..) if file.linked => "lower, two names",
        Data::Lower(..) if file.shadows => "lower, shadowing another",
        Data::Lower(..) => "lower",
        Data::Upper => "upper",
    }
}

fn one_file(draft: &mut Draft, stack: &mut Stack, path: &[u8], scene: Scene) {
    let Some(file) = stack.files.get(path).cloned() else { return };
    match scene {
        Scene::CopyRun | Scene::CopyRemove => copied(draft, stack, path, scene),
        Scene::RunCopy | Scene::RunCopyRemove => copied_after(draft, stack, path, scene),
        Scene::Remove | Scene::Replace | Scene::Impostor => removed(draft, stack, path, scene),
        Scene::Chroot | Scene::Bind | Scene::BindDetach | Scene::Hide => {
            elsewhere(draft, stack, path, scene);
        }
        _ => drop(start(draft, stack, path, kind(&file, stack), None)),
    }
}

fn copied(draft: &mut Draft, stack: &mut Stack, path: &[u8], scene: Scene) {
    // A file of two names has one left after the other's removal: that of the index.
    let twice = stack.index && stack.files.get(path).is_some_and(|file| file.named_twice);
    let scene = if twice { Scene::CopyRun } else { scene };
    let until = if scene == Scene::CopyRemove { Until::Whole } else { Until::Any };
    let path = copy_up(draft, stack, path, until);
    let whole = stack.files.get(&path).is_some_and(|file| file.data == Data::Upper);
    let label = match (scene, whole) {
        (Scene::CopyRemove, _) => "copied up, run, removed",
        (_, true) => "copied up, then run",
        (_, false) => "metadata copied up, then run",
    };
    let index = start(draft, stack, &path, label, None);
    if scene == Scene::CopyRemove {
        draft.inside(&[b"unlink", &join(&stack.point, &path)]);
        set(draft, index, None, "unlinked");
        no_path(draft, index, "unlinked upper file");
    }
}

fn copied_after(draft: &mut Draft, stack: &mut Stack, path: &[u8], scene: Scene) {
    let whole = !stack.metacopy;
    let label = match (scene, whole) {
        (Scene::RunCopyRemove, true) => "run, copied up, removed",
        (_, true) => "run, then copied up",
        (Scene::RunCopyRemove, false) => "run, metadata copied up, removed",
        (_, false) => "run, then metadata copied up",
    };
    let index = start(draft, stack, path, label, None);
    copy_up(draft, stack, path, Until::Named);
    let copied_up = Some(if whole { "after-start" } else { "no" });
    set(draft, index, copied_up, "present");
    if scene == Scene::RunCopyRemove {
        draft.inside(&[b"unlink", &join(&stack.point, path)]);
        set(draft, index, copied_up, "deleted");
    }
}

fn removed(draft: &mut Draft, stack: &mut Stack, path: &[u8], scene: Scene) {
    let merged = join(&stack.point, path);
    let (label, state) = match scene {
        Scene::Replace => ("lower, replaced", "replaced"),
        Scene::Impostor => ("lower, removed, impostor", "deleted"),
        _ => ("lower, removed", "deleted"),
    };
    let copies = stack.index && stack.files.get(path).is_some_and(|file| file.named_twice);
    let index = start(draft, stack, path, label, None);
    match scene {
        Scene::Replace => replace(draft, &merged),
        Scene::Impostor => {
            draft.inside(&[b"unlink", &merged]);
            let mark = draft.mark();
            let decoy = [merged.as_slice(), b" (deleted)"].concat();
            draft.inside(&[b"put", &decoy, mark.as_bytes()]);
        }
        _ => draft.inside(&[b"unlink", &merged]),
    }
    if let Some(program) = draft.program(index) {
        program.state = Some(state);
        // The index counts the names of such a file, in its copy.
        program.copied_up = if copies { Some("after-start") } else { program.copied_up };
    }
}

fn replace(draft: &mut Draft, merged: &[u8]) {
    let mark = draft.mark();
    let new = [merged, b".tmp"].concat();
    draft.inside(&[b"put", &new, mark.as_bytes()]);
    draft.inside(&[b"rename", &new, merged]);
}

/// Runs the file by another way than its name in the overlay, or hides that name.
fn elsewhere(draft: &mut Draft, stack: &mut Stack, path: &[u8], scene: Scene) {
    let merged = join(&stack.point, path);
    let (dir, name) = split(path);
    match scene {
        Scene::Chroot => {
            let (root, rest) = if dir.is_empty() || draft.rng.chance(50) {
                (stack.point.clone(), path)
            } else {
                (join(&stack.point, dir), name)
            };
            let from = [b"/", rest].concat();
            start(draft, stack, path, "chroot", Some(&[b"start", &from, &root]));
        }
        Scene::Hide => {
            let index = start(draft, stack, path, "name over-mounted", None);
            let mark = draft.mark();
            let over = join(&draft.home("ram"), format!("over{index}").as_bytes());
            draft.at(&[b"put", &over, mark.as_bytes()]);
            draft.mount(&[b"mount", &over, &merged, b"", b"bind", b""], &merged);
            if let Some(program) = draft.program(index) {
                program.state = Some("hidden");
            }
        }
        _ => {
            draft.next += 1;
            let point = join(&draft.home("ram"), format!("b{}", draft.next).as_bytes());
            draft.step(Place::Host, &[b"mkdir", &point]);
            let source = if dir.is_empty() { stack.point.clone() } else { join(&stack.point, dir) };
            draft.mount(&[b"mount", &source, &point, b"", b"bind", b""], &point);
            let bound = join(&point, name);
            let label =
                if scene == Scene::Bind { "bind of the overlay" } else { "bind, then detached" };
            let index = start(draft, stack, path, label, Some(&[b"start", &bound]));
            let detached = scene == Scene::BindDetach;
            if let Some(run) = stack.runs.last_mut() {
                let whole = dir.is_empty();
                run.bind = Some(if detached { Bind::Detached { whole } } else { Bind::Stays });
            }
            if detached {
                draft.inside(&[b"detach", &point]);
                if let Some(program) = draft.program(index) {
                    program.state = Some("detached");
                }
            }
        }
    }
}

fn new_file(draft: &mut Draft, stack: &mut Stack, scene: Scene, number: usize) {
    let dirs: Vec<Vec<u8>> = stack.dirs.iter().cloned().collect();
    let dir = if draft.rng.chance(60) { draft.rng.pick(&dirs).cloned() } else { None };
    let name = draft.name(&format!("new{number}"));
    let path = join(&dir.unwrap_or_default(), &name);
    let merged = join(&stack.point, &path);
    let mark = draft.mark();
    draft.inside(&[b"put", &merged, mark.as_bytes()]);
    stack.files.insert(path.clone(), File::new(mark));
    let other = [merged.as_slice(), b".other"].concat();
    if scene == Scene::NewTwoNames {
        draft.inside(&[b"link", &merged, &other]);
    }
    let label = match scene {
        Scene::NewRemove => "upper, removed",
        Scene::NewReplace => "upper, replaced",
        Scene::NewRename => "upper, renamed",
        Scene::NewTwoNames => "upper, one of two names removed",
        _ => "upper",
    };
    let index = start(draft, stack, &path, label, None);
    set(draft, index, Some("no"), "present");
    match scene {
        Scene::NewRemove => {
            draft.inside(&[b"unlink", &merged]);
            set(draft, index, None, "unlinked");
            no_path(draft, index, "unlinked upper file");
        }
        Scene::NewReplace => {
            replace(draft, &merged);
            set(draft, index, None, "unlinked");
            no_path(draft, index, "unlinked upper file");
        }
        Scene::NewRename => {
            draft.inside(&[b"rename", &merged, &other]);
            if let Some(run) = stack.runs.last_mut() {
                run.path.extend_from_slice(b".other");
            }
        }
        Scene::NewTwoNames => {
            draft.inside(&[b"unlink", &merged]);
            set(draft, index, Some("no"), "deleted");
            if let Some(run) = stack.runs.last_mut() {
                run.path.extend_from_slice(b".other");
                run.renamed = true;
            }
        }
        _ => {}
    }
}

fn no_path(draft: &mut Draft, index: usize, why: &'static str) {
    if let Some(program) = draft.program(index) {
        program.none = Some(why);
    }
}

/// A lower file with two names: `other` is copied up before or after `path` is run.
fn two_names(draft: &mut Draft, stack: &mut Stack, path: &[u8], other: &[u8], scene: Scene) {
    let merged = join(&stack.point, other);
    if scene == Scene::RunOtherName {
        let index = start(draft, stack, path, "run, then its other name copied up", None);
        draft.inside(&[b"chmod", &merged, b"0711"]);
        if stack.index {
            set(draft, index, Some("after-start"), "present");
        }
        remark(draft, stack, other);
        return;
    }
    draft.inside(&[b"chmod", &merged, b"0711"]);
    let mark = remark(draft, stack, other);
    if !stack.index {
        // The link is broken: either name may be run.
        if let Some(file) = stack.files.get_mut(other) {
            file.data = Data::Upper;
            file.mark = mark;
        }
        start(draft, stack, other, "one of two names copied up, then run", None);
        start(draft, stack, path, "other of two names copied up, then run", None);
        return;
    }
    if let Some(file) = stack.files.get_mut(path) {
        file.mark = mark;
    }
    let label = "other of two names copied up, index, then run";
    let index = start(draft, stack, path, label, None);
    set(draft, index, Some("before-start"), "present");
    // Its upper file's name in the overlay is the other one.
    if let Some(run) = stack.runs.last_mut() {
        run.data = Data::Upper;
        run.path = other.to_vec();
        run.apart = true;
        run.index = true;
    }
}
