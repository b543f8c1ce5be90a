//! A random overlay: its layers, its mounts, and what befalls it as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::{self, Layer};
use super::mount::{self, Overlay};
use super::names::{below, join, split};
use super::{Draft, Space, scenes};

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// In a lower directory, if its number is known, under this path.
    Lower(Option<usize>, Vec<u8>),
    /// In the upper directory, under the name the overlay shows.
    Upper,
}

/// A file of the overlay.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) data: Data,
    pub(super) mark: String,
    pub(super) shadows: bool,
    /// Whether its layer has it under two names.
    pub(super) linked: bool,
    /// Whether the overlay gave it a second name.
    pub(super) named_twice: bool,
    /// Whether it is what it is because of an earlier mount.
    pub(super) aged: bool,
    /// Whether it was made in the overlay as it is mounted now.
    pub(super) born: bool,
    /// Whether a file of metadata alone stands before its data.
    pub(super) meta: bool,
}

impl File {
    /// A file made in the overlay.
    pub(super) fn new(mark: String) -> Self {
        Self {
            data: Data::Upper,
            mark,
            shadows: false,
            linked: false,
            named_twice: false,
            aged: false,
            born: true,
            meta: false,
        }
    }
}

/// A program that runs in the overlay.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) program: usize,
    /// Its present name in the overlay; the last one when it is removed.
    pub(super) path: Vec<u8>,
    pub(super) data: Data,
    /// Whether a handle from the overlay names another file: the lower one of a copy, or one of
    /// metadata alone.
    pub(super) apart: bool,
    /// Whether its data is found through the metadata of another layer.
    pub(super) meta: bool,
    /// Whether the index alone leads from the name that was run to its data.
    pub(super) index: bool,
    /// Whether the name it was run by is gone, and another one is left.
    pub(super) renamed: bool,
    /// Whether it was run through a bind mount, and whether that is gone.
    pub(super) bind: Option<Bind>,
}

/// The bind mount of an overlay that a program was run through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bind {
    Stays,
    /// `whole`: it was of the overlay's root, so that paths in it are the overlay's.
    Detached {
        whole: bool,
    },
}

/// An overlay as it is at some moment.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) point: Vec<u8>,
    pub(super) upper: Option<Vec<u8>>,
    pub(super) metacopy: bool,
    pub(super) index: bool,
    pub(super) redirect: bool,
    pub(super) nested: bool,
    pub(super) files: BTreeMap<Vec<u8>, File>,
    pub(super) dirs: BTreeSet<Vec<u8>>,
    pub(super) runs: Vec<Run>,
    lowers: Vec<Vec<u8>>,
}

impl Stack {
    /// Whether what happens to another name happens to this file too: with index=on even the
    /// removal of one of a lower file's names copies the file up.
    pub(super) fn entangled(&self, path: &[u8]) -> bool {
        self.index && self.files.get(path).is_some_and(|file| file.linked)
    }

    /// Whether the overlay gives no handles of layer files.
    fn mute(&self, draft: &Draft) -> bool {
        self.nested || draft.plan.space == Space::User
    }
}

/// Draws an overlay with its programs.
pub(super) fn draw(draft: &mut Draft) {
    let private = if draft.plan.space != Space::Host && draft.rng.chance(30) {
        Some(draft.private_disk())
    } else {
        None
    };
    let has_upper = draft.rng.chance(88);
    let count = (1 + draft.rng.below(6)).max(if has_upper { 1 } else { 2 });
    draft.note(["1 layer", "2 layers", "3 layers", "4 layers", "5 layers", "6 layers"][count - 1]);
    let lowers = layers::draw(draft, count, private.as_deref());
    let (shown, dirs) = layers::shown(&lowers.layers);
    let files = shown.into_iter().map(|(path, file)| {
        let data = Data::Lower(file.layer, file.real);
        let (mark, shadows, linked) = (file.mark, file.shadows, file.linked);
        let meta = file.layer.is_none();
        (
            path,
            File {
                data,
                mark,
                shadows,
                linked,
                named_twice: false,
                aged: false,
                born: false,
                meta,
            },
        )
    });
    let disk = draft.disk();
    let home = draft.home(&disk);
    let mut stack = Stack {
        point: join(&draft.home("ram"), &draft.name("m")),
        upper: None,
        metacopy: false,
        index: false,
        redirect: false,
        nested: lowers.layers.iter().any(|layer: &Layer| !layer.inner.is_empty()),
        files: files.collect(),
        dirs,
        runs: Vec::new(),
        lowers: lowers.layers.iter().map(|layer| layer.dir.clone()).collect(),
    };
    let mut overlay = options(draft, &mut stack, &lowers, has_upper);
    let upper_base = match &private {
        Some(dir) if draft.rng.chance(40) => dir.clone(),
        _ => home,
    };
    if has_upper {
        upper(draft, &mut stack, &mut overlay, &upper_base, "u0");
    } else {
        draft.note("no upper");
    }
    mount::mount(draft, &overlay, &stack.point);
    if has_upper && draft.rng.chance(25) {
        age(draft, &mut stack, &mut overlay, &upper_base);
    }
    if has_upper && stack.redirect && draft.rng.chance(60) {
        rename_directory(draft, &mut stack, "directory renamed before");
    }
    scenes::play(draft, &mut stack);
    after(draft, &mut stack);
    settle(draft, &stack);
}

fn options(
    draft: &mut Draft,
    stack: &mut Stack,
    lowers: &layers::Lowers,
    has_upper: bool,
) -> Overlay {
    let mut overlay =
        Overlay { lowers: stack.lowers.clone(), data: lowers.data.clone(), ..Overlay::default() };
    if draft.plan.space == Space::User {
        overlay.words.push("userxattr");
    } else {
        stack.redirect = has_upper && draft.rng.chance(45);
        stack.metacopy = draft.rng.chance(25) || !lowers.data.is_empty();
        if stack.redirect || stack.metacopy && has_upper {
            stack.redirect = true;
            overlay.words.push("redirect_dir=on");
        } else if stack.metacopy {
            overlay.words.push("redirect_dir=follow");
        }
        if stack.metacopy {
            overlay.words.push("metacopy=on");
            draft.note("metacopy=on");
        }
        if has_upper && !stack.metacopy && !stack.nested && draft.rng.chance(25) {
            stack.index = true;
            overlay.words.push("index=on");
            draft.note("index=on");
        }
    }
    if let Some(xino) = draft.rng.pick(&["", "", "xino=on", "xino=off", "xino=auto"]).copied()
        && !xino.is_empty()
    {
        overlay.words.push(xino);
    }
    match draft.rng.below(100) {
        0..20 => {
            draft.note("relative layers");
            let from = stack.lowers.first().map_or(b"".as_slice(), |dir| split(dir).0).to_vec();
            // Nothing records where the caller stood. Without handles and where metadata leads to
            // data, only a place near the mount point can be found.
            if stack.mute(draft) || stack.metacopy || draft.rng.chance(70) {
                stack.point = join(&from, &draft.name("m"));
            }
            overlay.from = Some(from);
        }
        20..40 => {
            draft.note("new mount calls");
            overlay.new_calls = true;
        }
        _ => {}
    }
    overlay
}

fn upper(draft: &mut Draft, stack: &mut Stack, overlay: &mut Overlay, base: &[u8], name: &str) {
    let dir = join(base, &draft.name(name));
    let work = join(base, &draft.name(&format!("{name}work")));
    draft.at(&[b"mkdir", &dir]);
    draft.at(&[b"mkdir", &work]);
    overlay.upper = Some((dir.clone(), work));
    stack.upper = Some(dir);
}

/// Works in the overlay, then mounts it anew with its upper directory as the topmost lower.
fn age(draft: &mut Draft, stack: &mut Stack, overlay: &mut Overlay, base: &[u8]) {
    draft.note("upper became a lower");
    if stack.redirect && draft.rng.chance(70) {
        rename_directory(draft, stack, "directory renamed in a lower");
    }
    let paths: Vec<Vec<u8>> = stack.files.keys().cloned().collect();
    for path in paths {
        if stack.entangled(&path) {
            continue;
        }
        match draft.rng.below(100) {
            0..25 => drop(scenes::copy_up(draft, stack, &path, scenes::Until::Any)),
            25..35 => {
                draft.inside(&[b"unlink", &join(&stack.point, &path)]);
                stack.files.remove(&path);
            }
            35..45 => {
                let mark = draft.mark();
                let new = [path.as_slice(), b".new"].concat();
                draft.inside(&[b"put", &join(&stack.point, &new), mark.as_bytes()]);
                stack.files.insert(new, File::new(mark));
            }
            _ => {}
        }
    }
    draft.inside(&[b"umount", &stack.point.clone()]);
    if draft.plan.space == Space::Host {
        draft.plan.mounts.retain(|point| *point != stack.point);
    }
    let Some(old) = stack.upper.clone() else { return };
    // Numbers of lowers move on by one.
    for (path, file) in &mut stack.files {
        file.aged = true;
        file.born = false;
        file.data = match std::mem::replace(&mut file.data, Data::Upper) {
            Data::Lower(number, real) => Data::Lower(number.map(|number| number + 1), real),
            Data::Upper => Data::Lower(Some(0), join(&old, path)),
        };
    }
    stack.lowers.insert(0, old.clone());
    overlay.lowers.insert(0, old);
    upper(draft, stack, overlay, base, "u1");
    mount::mount(draft, overlay, &stack.point);
}

/// Renames one directory of the overlay, beside itself or into another one.
fn rename_directory(draft: &mut Draft, stack: &mut Stack, what: &'static str) {
    let dirs: Vec<Vec<u8>> = stack.dirs.iter().cloned().collect();
    let Some(from) = draft.rng.pick(&dirs).cloned() else { return };
    let mut above = split(&from).0.to_vec();
    if draft.rng.chance(40)
        && let Some(other) = draft.rng.pick(&dirs)
        && *other != from
        && below(&from, other).is_none()
    {
        above.clone_from(other);
    }
    draft.next += 1;
    let name = format!("moved{}", draft.next);
    let to = join(&above, &draft.name(&name));
    draft.note(what);
    draft.inside(&[b"rename", &join(&stack.point, &from), &join(&stack.point, &to)]);
    let moved = |path: &[u8]| {
        if path == from {
            to.clone()
        } else {
            below(&from, path).map_or_else(|| path.to_vec(), |rest| join(&to, rest))
        }
    };
    stack.dirs = stack.dirs.iter().map(|dir| moved(dir)).collect();
    stack.files =
        std::mem::take(&mut stack.files).into_iter().map(|(k, file)| (moved(&k), file)).collect();
    for run in &mut stack.runs {
        run.path = moved(&run.path);
    }
}

/// What befalls the stack while its programs run.
fn after(draft: &mut Draft, stack: &mut Stack) {
    if stack.redirect && stack.upper.is_some() && draft.rng.chance(20) {
        rename_directory(draft, stack, "directory renamed after start");
    }
    match draft.rng.below(100) {
        0..8 => move_layer(draft, stack),
        8..14 => remove_layer(draft, stack),
        14..19 if !stack.nested && draft.plan.space != Space::User => detach(draft, stack),
        _ => {}
    }
}

/// The number and directory of a lower that a program runs from.
fn used_layer(draft: &mut Draft, stack: &Stack) -> Option<(usize, Vec<u8>)> {
    let used: Vec<usize> = stack
        .runs
        .iter()
        .filter_map(|run| match &run.data {
            Data::Lower(Some(number), real) => below(&stack.lowers[*number], real).map(|_| *number),
            _ => None,
        })
        .collect();
    let number = *draft.rng.pick(&used)?;
    Some((number, stack.lowers[number].clone()))
}

fn move_layer(draft: &mut Draft, stack: &mut Stack) {
    let Some((number, dir)) = used_layer(draft, stack) else { return };
    draft.note("layer directory renamed");
    let to = [dir.as_slice(), b".moved"].concat();
    draft.at(&[b"rename", &dir, &to]);
    let mute = stack.mute(draft);
    break_chains(draft, stack);
    break_redirects(draft, stack, number);
    for run in &mut stack.runs {
        if let Data::Lower(Some(n), real) = &mut run.data
            && *n == number
            && let Some(rest) = below(&dir, real)
        {
            *real = join(&to, rest);
            let lost = mute && !numbered(real, run.apart);
            if lost && let Some(program) = draft.program(run.program) {
                program.none = program.none.or(Some("renamed layer without a handle"));
            }
        }
    }
}

/// Without one of its layers the overlay's options no longer lead from metadata to data.
fn break_chains(draft: &mut Draft, stack: &Stack) {
    for run in stack.runs.iter().filter(|run| run.meta) {
        if let Some(program) = draft.program(run.program) {
            program.none = program.none.or(Some("metadata of a layer that was moved"));
        }
    }
}

/// Where a directory was renamed in an earlier mount, the layer that was its upper one tells what
/// that is called further down: without it only a handle or a number leads there.
fn break_redirects(draft: &mut Draft, stack: &Stack, moved: usize) {
    let has_redirects = draft.plan.traits.contains(&"directory renamed in a lower") && moved == 0;
    if !has_redirects || !stack.mute(draft) {
        return;
    }
    for run in &stack.runs {
        if let Data::Lower(layer, real) = &run.data
            && *layer != Some(moved)
            && !numbered(real, run.apart)
            && let Some(program) = draft.program(run.program)
        {
            program.none = program.none.or(Some("redirect of a layer that was moved"));
        }
    }
}

fn remove_layer(draft: &mut Draft, stack: &mut Stack) {
    let Some((number, dir)) = used_layer(draft, stack) else { return };
    draft.note("layer directory removed");
    draft.at(&[b"rmtree", &dir]);
    break_chains(draft, stack);
    break_redirects(draft, stack, number);
    for run in &stack.runs {
        if matches!(run.data, Data::Lower(Some(n), _) if n == number)
            && let Some(program) = draft.program(run.program)
        {
            program.none = Some("layer removed");
            // Of a name that is there and leads to a copy, or that was deleted before, either
            // word is true.
            let plain = program.state == Some("present") && program.copied_up == Some("no");
            // With metacopy=on the content may have been elsewhere.
            program.state = (plain && !stack.metacopy).then_some("unlinked");
            program.copied_up = None;
        }
    }
}

fn detach(draft: &mut Draft, stack: &mut Stack) {
    draft.note("overlay detached");
    draft.inside(&[b"detach", &stack.point.clone()]);
    if draft.plan.traits.contains(&"relative layers") {
        for run in stack.runs.iter().filter(|run| run.meta && run.bind == Some(Bind::Stays)) {
            let Some(program) = draft.program(run.program) else { continue };
            program.none = program.none.or(Some("relative layers, no mount near them is left"));
        }
    }
    for run in stack.runs.iter().filter(|run| run.bind != Some(Bind::Stays)) {
        let Some(program) = draft.program(run.program) else { continue };
        program.state = match program.state {
            // From its own root a chrooted program's name still leads to its file.
            _ if program.label == "chroot" => None,
            Some("present" | "detached") => Some("detached"),
            _ => None,
        };
        if run.apart {
            program.none = program.none.or(Some("the handle names another file, no mount is left"));
        }
    }
}

/// Whether the number that an overlay shows leads to the file without a handle: these file systems
/// open one by its number alone, but a copy has the number of the file below.
fn numbered(file: &[u8], apart: bool) -> bool {
    !apart && (file.starts_with(b"@ext4@") || file.starts_with(b"@btrfs@"))
}

/// Writes down where each program's file is in the end.
fn settle(draft: &mut Draft, stack: &Stack) {
    let mute = stack.mute(draft);
    // Layers that the options do not lead to.
    let lacks = |what: &&str| {
        what.starts_with("layer directory") || ["relative layers", "private tmpfs"].contains(what)
    };
    let splits = stack.metacopy && (mute || draft.plan.traits.iter().any(lacks));
    for run in &stack.runs {
        let file = match (&run.data, &stack.upper) {
            (Data::Lower(_, real), _) => real.clone(),
            (Data::Upper, Some(upper)) => join(upper, &run.path),
            (Data::Upper, None) => continue,
        };
        let hidden = Draft::side(&file) == super::Place::Inside;
        let Some(program) = draft.program(run.program) else { continue };
        program.role = Some(match run.data {
            Data::Lower(Some(_), _) => "lower",
            Data::Lower(None, _) => "data",
            Data::Upper if run.index => "upper-index",
            Data::Upper => "upper",
        });
        let lost = mute && !numbered(&file, run.apart);
        if lost && run.bind == Some(Bind::Detached { whole: false }) {
            program.none = program.none.or(Some("detached bind without a handle"));
        }
        if lost && run.renamed {
            program.none = program.none.or(Some("the name left is not the one run"));
        }
        if hidden {
            program.none = program.none.or(Some("tmpfs of a private namespace"));
        }
        if program.none.is_none() {
            program.file = Some(file);
        }
        unsure_state(program, run, splits);
    }
}

/// Forgets a state that nothing tells: without the file, whether its name ends so or is gone; and
/// without a handle or a layer, whether metadata alone or the whole file was unlinked.
fn unsure_state(program: &mut super::Program, run: &Run, splits: bool) {
    let state = program.state.filter(|_| program.none.is_some());
    let ends_so = run.path.ends_with(b" (deleted)");
    if matches!(state, Some("hidden" | "detached")) && ends_so
        || state == Some("unlinked") && splits
    {
        program.state = None;
    }
}
