//! Whether an answer is right, by the memory of the process.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;

use super::answer::Answer;
use super::plan::Program;
use super::scene::Scene;
use super::stage::{MARK, Said};
use super::world::World;

/// What overlayfs is called by statfs(2).
const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;
/// What counts as a proof.
pub(super) const PROOFS: &[&str] = &["page", "mapped-inode"];

/// What an answer is worth. The text beside a right one is a field that is not what the plan knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The path of the file that runs, proven.
    Proven(Option<String>),
    /// No path, and the plan says why there is none.
    Null(Option<String>),
    /// The same, but an overlay's view of the file is told, or its path without a proof.
    View(Option<String>),
    /// No path of a layer's file where the plan expects one.
    Unlabelled(String),
    /// The right path without a proof.
    Unproven(String),
    /// A path of another file, or of none.
    Wrong(String),
}

/// The answer that the plan knows: it checks the generator and this judge.
pub(super) fn planned(world: &World, program: &Program) -> Answer {
    let text = |text: &'static str| Some(text.to_owned());
    Answer {
        host: program.file.as_ref().map(|file| world.resolve(file)),
        verified: text("page"),
        state: program.state.and_then(text),
        copied_up: program.copied_up.and_then(text),
        role: program.role.and_then(text),
        ..Answer::default()
    }
}

/// Answers that are wrong for this program: the files of the others. They check the judge.
pub(super) fn false_ones(world: &World, scene: &Scene, index: usize) -> Vec<Answer> {
    let own = &scene.plan.programs[index];
    let others = scene.plan.programs.iter().filter(|other| other.mark != own.mark);
    let named = others.filter(|other| other.file.is_some());
    named.map(|other| planned(world, other)).collect()
}

/// Judges the answer for a program that said this when it started.
pub(super) fn judge(
    world: &mut World,
    scene: &mut Scene,
    index: usize,
    said: &Said,
    answer: &Answer,
) -> Result<Verdict> {
    let program = scene.plan.programs[index].clone();
    if said.mark != program.mark {
        let why = format!("the plan is wrong: mark {} runs, not {}", said.mark, program.mark);
        return Ok(Verdict::Wrong(why));
    }
    let differs = mismatch(&program, answer);
    let Some(host) = &answer.host else {
        return Ok(match program.none {
            Some(_) => Verdict::Null(differs),
            None => Verdict::Unlabelled("no path".to_owned()),
        });
    };
    match same_file(world, scene, said, Path::new(OsStr::from_bytes(host)))? {
        Found::Same => {}
        Found::View if program.none.is_some() => return Ok(Verdict::View(differs)),
        Found::View => return Ok(Verdict::Unlabelled("it is the overlay's view".to_owned())),
        Found::Other(why) => return Ok(Verdict::Wrong(why)),
    }
    let verified = answer.verified.as_deref().unwrap_or("nothing");
    Ok(match (PROOFS.contains(&verified), program.none) {
        (true, _) => Verdict::Proven(differs),
        (false, Some(_)) => Verdict::View(differs),
        (false, None) => Verdict::Unproven(format!("verified by {verified}")),
    })
}

fn mismatch(program: &Program, answer: &Answer) -> Option<String> {
    let fields = [
        ("state", program.state, &answer.state),
        ("copied_up", program.copied_up, &answer.copied_up),
        ("role", program.role, &answer.role),
    ];
    // Of the overlay's view alone, or of nothing, neither copies nor layers are told.
    let is_view = answer.role.as_deref().is_none_or(|role| role == "merged");
    fields.into_iter().find_map(|(name, expected, found)| {
        let expected = expected?;
        if name != "state" && (is_view && program.none.is_some()) {
            return None;
        }
        if name == "copied_up" && answer.host.is_none() {
            return None;
        }
        let found = found.as_deref().unwrap_or("absent");
        (expected != found).then(|| format!("{name} is {found}, the plan says {expected}"))
    })
}

/// What is at a path.
#[derive(Debug)]
enum Found {
    /// The file that the process runs.
    Same,
    /// A file with its text in an overlay: true today, but no layer's file.
    View,
    /// Another one, or none.
    Other(String),
}

/// Whether the process runs the file at `path`: it has the same text, and a note written into it
/// shows in the memory of the process. That tells even files apart that are the same byte for
/// byte.
fn same_file(world: &mut World, scene: &mut Scene, said: &Said, path: &Path) -> Result<Found> {
    if !path.starts_with(world.dir()) {
        return Ok(Found::Other("the path is none of the stack's".to_owned()));
    }
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Found::Other(format!("the path does not open: {error}"))),
    };
    match read_mark(&file, world.programs.at) {
        Ok(mark) if mark == said.mark.as_bytes() => {}
        Ok(mark) => {
            return Ok(Found::Other(format!("it has the mark {}", String::from_utf8_lossy(&mark))));
        }
        Err(error) => return Ok(Found::Other(format!("it has no mark: {error}"))),
    }
    // An overlay's own view is not the file of a layer, and writing would copy it up.
    match rustix::fs::fstatfs(&file) {
        Ok(found) if found.f_type == OVERLAYFS => {
            return Ok(Found::View);
        }
        Ok(_) => {}
        Err(error) => return Ok(Found::Other(format!("fstatfs: {error}"))),
    }
    match options.write(true).open(path) {
        Ok(file) => write_note(world, scene, said, &file),
        // What runs as it is, past any overlay: the text is its own, no copy has it.
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => Ok(Found::Same),
        Err(error) => Ok(Found::Other(format!("the path cannot be written: {error}"))),
    }
}

fn read_mark(file: &File, at: u64) -> std::io::Result<Vec<u8>> {
    let mut mark = vec![0; MARK];
    file.read_exact_at(&mut mark, at)?;
    Ok(mark)
}

fn write_note(world: &mut World, scene: &mut Scene, said: &Said, file: &File) -> Result<Found> {
    let note = format!("n{:015}", said.pid);
    let at = world.programs.at + u64::try_from(MARK)?;
    if let Err(error) = file.write_all_at(note.as_bytes(), at) {
        return Ok(Found::Other(format!("writing a note: {error}")));
    }
    let now = scene.ask(world, said.pid)?;
    if now.note == note && now.mark == said.mark {
        return Ok(Found::Same);
    }
    Ok(Found::Other("it is a twin: a note written into it does not show in the process".to_owned()))
}
