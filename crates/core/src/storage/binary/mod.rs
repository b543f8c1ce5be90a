//! The file on the host that a process really runs, maps or names, and how far that is proven.
//!
//! No kernel interface names a layer's file by path. The kernel gives file handles, and pages: a
//! candidate is found by handle, by the overlay's own rules or by the mount table, and counts only
//! when the process maps the very page that the candidate has, or when the kernel says so by inode
//! or by handle. What can't be proven is listed as a candidate and never given as the path.

mod at_once;
mod aufs;
mod candidates;
mod copies;
mod filesystems;
mod fuse;
pub mod hash;
mod memory;
mod mounted;
mod named;
pub mod numbered;
mod program;
mod stack;
pub mod stored;
mod told;
mod walk;

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::object::{Look, Object};
use whose_kernel::parse::maps::Mapping;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host, ReadError};

use crate::model::gap::what;
use crate::model::{Fact, File, FileMount, FileRole, FileState, Gap, Verified};
use candidates::{Candidate, Candidates};
use copies::Handles;
use filesystems::FileSystems;
pub use memory::mappings;
use memory::{Begun, By, Compared, Memory};
use mounted::{DELETED, Mounted};
use told::inode;

/// The process that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    /// Its directory.
    pub dir: &'s ProcDir<'s>,
    /// Field 22 of its `stat`.
    pub start_ticks: u64,
    /// The kernel's name for it.
    pub comm: &'s BStr,
    /// Its arguments, where known.
    pub args: &'s [BString],
    /// Which file is asked about.
    pub which: Which<'s>,
    /// How much is asked for.
    pub extent: Extent,
    /// Another process of the same container: its mount table shows what a chroot hides.
    pub init: Option<u32>,
    /// Whether a read of its memory was waited for in vain: no other is tried then.
    pub stuck: bool,
}

/// Which of a process's files is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Which<'s> {
    /// The one it runs: `exe`.
    Program,
    /// One that it maps.
    Mapped(&'s Mapping),
    /// What a path leads to from its root directory.
    Named(&'s BStr),
}

impl Subject<'_> {
    /// The file's link in /proc, to be shown.
    fn link(&self, host: &Host) -> BString {
        let pid = self.dir.pid();
        let name = match self.which {
            Which::Program => format!("proc/{pid}/exe"),
            Which::Mapped(m) => format!("proc/{pid}/map_files/{:x}-{:x}", m.start, m.end),
            Which::Named(path) => {
                let root = host.shown(format!("proc/{pid}/root").as_bytes());
                return stack::joined(&root, path);
            }
        };
        host.shown(name.as_bytes())
    }
}

/// How much is asked for of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing but its path on the host: what else there is to tell is not looked for.
    Path,
    /// Everything.
    Whole,
}

/// A file found, and a descriptor of it: to be let go of before the command ends, since it keeps a
/// container's file system busy.
#[derive(Debug)]
pub struct Located {
    /// What is told.
    pub file: File,
    /// The file that runs, where that is proven by page or inode.
    pub running: Option<Object>,
}

/// Why one look did not come to an end.
#[derive(Debug)]
enum Problem {
    /// The process ended, or runs another program by now.
    Changed,
    /// No file is mapped where its program headers are said to be.
    NotMapped,
    /// A read failed.
    Unread(ReadError),
}

/// Time to read a file that may never answer.
const ASIDE: Option<Duration> = Some(Duration::from_millis(500));
/// Looks a process may take part in before it is said to be changing.
const LOOKS: usize = 3;

/// Finds and proves the file that a process runs, or one that it maps or names. `None` for what has none: a
/// kernel thread, a zombie, a process that is gone, a name that is not there.
pub fn locate(host: &Host, subject: &Subject<'_>) -> Option<Located> {
    for _ in 0..LOOKS {
        match look(host, subject) {
            Ok(located) => return Some(located),
            Err(Problem::Changed) => {
                let still = subject.dir.still(subject.start_ticks);
                if still.is_err()
                    || subject.dir.link_text("exe").is_err_and(|e| e.class == Class::Gone)
                {
                    return None;
                }
            }
            Err(Problem::NotMapped) => return Some(not_mapped(subject)),
            Err(Problem::Unread(e)) if e.class == Class::Gone => return None,
            Err(Problem::Unread(e)) => {
                let host = Fact::Unread(Gap::from_read(what::BINARY, &e));
                let why = Some(e.cause);
                return Some(of(File { host, why, ..File::default() }));
            }
        }
    }
    let why = match subject.which {
        Which::Program => "it ran another program each time it was looked at",
        Which::Mapped(_) => "its memory was another each time it was looked at",
        Which::Named(_) => "the path led elsewhere each time it was looked at",
    };
    let gap = Gap::new(what::BINARY, Class::Gone, subject.link(host), why, Some("try again"));
    let state = Some(FileState::Changing);
    let host = Fact::Unread(gap);
    Some(of(File { host, state, why: Some(why.into()), ..File::default() }))
}

fn of(file: File) -> Located {
    Located { file, running: None }
}

/// What `exe` names is not what runs (prctl(2), PR_SET_MM_MAP).
fn not_mapped(subject: &Subject<'_>) -> Located {
    let inside = subject.dir.link_text("exe").ok();
    let why = Some("exe-not-mapped: its program headers lie in no file that it maps".into());
    of(File { inside, host: Fact::Absent, why, ..File::default() })
}

/// What one look at a process works with.
struct Look1<'l> {
    host: &'l Host,
    subject: &'l Subject<'l>,
    /// The host's root directory.
    root: &'l Object,
    /// `exe`, and what it is.
    exe: Object,
    exe_look: Look,
    /// The text of `exe`; from maps where it is too long for the link.
    text: BString,
    mounted: Mounted,
    memory: Memory<'l>,
    /// Whether a file was found that has the whole name, ` (deleted)` included.
    called_so: Cell<bool>,
}

fn look(host: &Host, subject: &Subject<'_>) -> Result<Located, Problem> {
    let unread = Problem::Unread;
    let dir = subject.dir;
    let errno = |e| Problem::Unread(ReadError::from_errno(subject.link(host), e));
    let name = |memory: &Memory<'_>| memory.main().map(|m| m.name.clone());
    let mut begun = Begun::Nothing;
    let (exe, text) = match subject.which {
        Which::Program => {
            let exe = dir.object("exe").map_err(unread)?;
            begun = Begun::at(host, subject);
            match dir.link_text("exe") {
                Ok(text) => (exe, text),
                // Too long for the link: maps has names of any length.
                Err(e) if e.class == Class::Malformed => {
                    let memory = begun.read(host, subject)?;
                    let text = name(&memory).ok_or(Problem::Unread(e))?;
                    begun = Begun::Read(memory);
                    (exe, text)
                }
                Err(e) => return Err(unread(e)),
            }
        }
        Which::Mapped(mapping) => {
            let memory = Begun::at(host, subject).read(host, subject)?;
            let exe = memory.mapped(mapping).map_err(unread)?;
            let text = exe.path().map_err(errno)?.or_else(|| name(&memory)).unwrap_or_default();
            begun = Begun::Read(memory);
            (exe, text)
        }
        Which::Named(path) => {
            let exe = named::open(host, subject).map_err(unread)?;
            let text = exe.path().map_err(errno)?.unwrap_or_else(|| path.into());
            (exe, text)
        }
    };
    let exe_look = exe.look().map_err(errno)?;
    if !exe_look.is_file() && !matches!(subject.which, Which::Named(_)) {
        // A device, which is not opened.
        let why = Some("it is no regular file".into());
        let file = File { inside: Some(text), host: Fact::Absent, why, ..File::default() };
        return Ok(of(file));
    }
    let root = host.root_object().map_err(unread)?;
    let files = at_once::files(host, subject, &root, &exe, &text);
    if !files.is_empty() {
        let memory = begun.read(host, subject)?;
        if let Some(located) = at_once::located(files, &memory) {
            return if runs(subject, &exe_look) { Ok(located) } else { Err(Problem::Changed) };
        }
        begun = Begun::Read(memory);
    }
    let mut mounted = Mounted::of(host, subject, &exe, &exe_look, &text);
    let memory = begun.read(host, subject)?;
    memory.look_for_pages();
    mounted.find_sibling(host, &exe_look, memory.main().map(|m| m.device));
    let called_so = Cell::new(mounted.is_literal());
    let look =
        Look1 { host, subject, root: &root, exe, exe_look, text, mounted, memory, called_so };
    let located = look.answer();
    let unchanged = look.unchanged();
    let Look1 { memory, .. } = look;
    if memory.finish() && unchanged { Ok(located) } else { Err(Problem::Changed) }
}

/// Whether the process runs still what it ran.
fn runs(subject: &Subject<'_>, before: &Look) -> bool {
    is_still(subject, subject.dir.object("exe"), before)
}

/// Whether what was opened is the same file of the same mount, and the process there still.
fn is_still(subject: &Subject<'_>, exe: Result<Object, ReadError>, before: &Look) -> bool {
    let same = |now: Look| now.is(before) && now.mount == before.mount;
    exe.is_ok_and(|exe| exe.look().is_ok_and(same))
        && subject.dir.still(subject.start_ticks).is_ok()
}

impl Look1<'_> {
    /// Whether `exe` still opens the same file of the same mount, in the same process.
    fn unchanged(&self) -> bool {
        let exe = match self.subject.which {
            Which::Program => return runs(self.subject, &self.exe_look),
            Which::Mapped(mapping) => self.memory.mapped(mapping),
            Which::Named(_) => named::open(self.host, self.subject),
        };
        is_still(self.subject, exe, &self.exe_look)
    }

    fn answer(&self) -> Located {
        let mut file = self.describe();
        if self.is_memfd() {
            file.role = Some(FileRole::Anonymous);
            file.host = Fact::Absent;
            file.state = Some(FileState::Anonymous);
            file.inode = Some(inode(&self.exe_look));
            let proven = self.memory.compare(&self.exe, false);
            file.verified = verified(&proven, false);
            file.why = (file.verified != Verified::Page).then(|| why(&proven));
            let running = matches!(proven, Compared::Mapped(_)).then(|| self.again()).flatten();
            return Located { file, running };
        }
        let target_root = self.mounted.ns_root.as_ref();
        let file_systems =
            FileSystems::new(self.host, self.root, target_root, &self.mounted.target_mounts);
        let candidates = Candidates::of(self, &file_systems);
        for path in candidates.list.iter().filter(|c| c.is_handle) {
            self.host_path(path).iter().for_each(|p| self.note_name(p));
        }
        let located = match self.subject.which {
            Which::Named(_) => of(self.decide(file, candidates, &file_systems)),
            Which::Program | Which::Mapped(_) => self.prove(file, candidates, &file_systems),
        };
        if let (Some(path), Some(running)) = (located.file.host.known(), &located.running) {
            self.note_name(path);
            self.note_link(path, running);
        }
        let mut file = located.file;
        let literal = self.called_so.get();
        (file.inside, file.namespace_path) = {
            let (inside, namespace_path) = self.mounted.names(&self.text, literal);
            (Some(inside), namespace_path)
        };
        if file.state != Some(FileState::Unlinked) {
            let answers = file.verified == Verified::Content;
            file.state = self.mounted.state(self, &self.text, (answers, literal));
        }
        Located { file, running: located.running }
    }

    /// Remembers it when a file has the whole name, the kernel's mark of a name that is gone
    /// included: then that is no mark.
    fn note_name(&self, path: &BString) {
        let last = |path: &BString| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
        if self.text.ends_with(DELETED) && last(path) == last(&self.text) {
            self.called_so.set(true);
        }
    }

    /// The same, when it is another name of the running file beside the one that was found.
    fn note_link(&self, path: &BString, running: &Object) {
        let Ok(look) = running.look() else { return };
        if look.nlink < 2 || !self.text.ends_with(DELETED) {
            return;
        }
        let dir = path.rfind_byte(b'/').map_or(&b"/"[..], |at| &path[..at]);
        let name = self.text.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let there = self.host.lookup(self.root, stack::joined(dir, name).as_ref(), Way::Plain);
        if there.is_ok_and(|o| o.look().is_ok_and(|l| l.is(&look))) {
            self.called_so.set(true);
        }
    }

    /// What is known before any candidate is looked for.
    fn describe(&self) -> File {
        let (inside, namespace_path) = self.mounted.names(&self.text, self.mounted.is_literal());
        let mount = self.mounted.mount.as_ref().map(|m| FileMount {
            kind: m.fs_type.clone(),
            source: m.source.clone(),
            device: m.device,
            root: m.root.clone(),
            point: self.mounted.point_inside(m),
        });
        let behind = || {
            let Subject { comm, args, .. } = self.subject;
            program::behind(inside.as_ref(), comm, args, &self.memory.all)
        };
        let program = matches!(self.subject.which, Which::Program).then(behind).flatten();
        File {
            via_proc: self.mounted.via_proc(self, inside.as_ref()),
            merged: self.mounted.merged(self),
            image_file: self.mounted.image_file(self.host),
            inside: Some(inside),
            namespace_path,
            mount,
            program,
            ..File::default()
        }
    }

    fn is_memfd(&self) -> bool {
        self.text.starts_with(b"/memfd:")
            && self.mounted.mount.is_none()
            && self.exe_look.nlink == 0
    }

    fn again(&self) -> Option<Object> {
        match self.subject.which {
            Which::Program => self.subject.dir.object("exe").ok(),
            Which::Mapped(_) | Which::Named(_) => self.exe.again().ok(),
        }
    }

    /// Compares the candidates with what is mapped, in their order, and tells of the one that is.
    fn prove(
        &self,
        mut file: File,
        candidates: Candidates<'_>,
        file_systems: &FileSystems<'_>,
    ) -> Located {
        let mut undecided: Vec<(Candidate, &'static str)> = Vec::new();
        let mut disproven: Vec<Candidate> = Vec::new();
        let handles = Handles::of(&candidates);
        let Candidates { list, last, stack, problem, handle_fits_nothing, .. } = candidates;
        let known: Vec<BString> = list.iter().filter_map(|c| c.object.path().ok()?).collect();
        let wider = || stack.as_ref().map(|s| self.wider(s, &known, file_systems));
        let others = std::iter::once_with(wider).flatten().flatten();
        for candidate in list.into_iter().chain(others).chain(last) {
            match self.memory.compare(&candidate.object, candidate.is_merged || self.odd_inodes()) {
                Compared::Mapped(by) => {
                    let how = if by == By::Page { Verified::Page } else { Verified::MappedInode };
                    if by == By::Inode {
                        file.why = Some(self.memory_why(&candidate));
                    }
                    candidate.by_path.iter().for_each(|p| self.note_name(p));
                    let others = || wider().into_iter().flatten();
                    self.tell_copies(&mut file, &candidate, handles, stack.as_ref(), others);
                    self.tell(&mut file, &candidate, how, handles, stack.as_ref());
                    if handle_fits_nothing && candidate.is_merged && file.host.known().is_none() {
                        // The kernel names the layer's file, and no file system here has it.
                        file.host = Fact::Absent;
                    }
                    if let Some(why) = problem.clone().filter(|_| file.host.gap().is_some()) {
                        file.host = self.unread(why);
                    }
                    return Located { file, running: Some(candidate.object) };
                }
                Compared::Other => disproven.push(candidate),
                Compared::Undecided(why) => undecided.push((candidate, why)),
            }
        }
        // The kernel's handle says which file `exe` is, though not that it is mapped.
        let shown =
            || handles.lower_is_shown && !stack.as_ref().is_some_and(stack::Stack::may_split);
        let by_handle = undecided
            .iter()
            .position(|(c, _)| c.is_handle && !c.is_merged && (c.is_sure || shown()));
        if let Some(at) = by_handle.filter(|_| disproven.is_empty()) {
            let (candidate, why) = undecided.swap_remove(at);
            let others = std::iter::empty;
            file.copied_up = self.copied_up(&candidate, handles, stack.as_ref(), others);
            self.tell(&mut file, &candidate, Verified::Handle, handles, stack.as_ref());
            file.why = Some(why.into());
            return of(file);
        }
        if self.is_fuse()
            && let [only] = disproven.as_slice()
            && let Some(exe) = self.again()
        {
            // A FUSE file system has pages of its own: only the content can be compared.
            let (theirs, ours) =
                (hash::of(self.host, &exe, ASIDE), hash::of(self.host, &only.object, ASIDE));
            if ours.sha256.known().is_some() && theirs.sha256 == ours.sha256 {
                let only = disproven.remove(0);
                self.tell(&mut file, &only, Verified::Content, handles, stack.as_ref());
                file.why = Some("a FUSE file system has pages of its own".into());
                return of(file);
            }
        }
        file.candidates = self.paths_of(&undecided);
        let why: Cow<'static, str> = match (problem, undecided.first()) {
            (Some(problem), _) => problem,
            (None, Some((_, why))) => (*why).into(),
            (None, None) if disproven.is_empty() => {
                "no layer or mount that is known holds it".into()
            }
            (None, None) => "every file that it could be is another one".into(),
        };
        file.host = self.unread(why.clone());
        file.why = Some(why);
        of(file)
    }

    /// That there is no path, and why.
    fn unread(&self, why: Cow<'static, str>) -> Fact<BString> {
        let path = self.subject.link(self.host);
        Fact::Unread(Gap::new(what::BINARY, Class::Unsupported, path, why, None))
    }

    /// A file system that gives each of its trees inode numbers of their own.
    fn odd_inodes(&self) -> bool {
        let kind = self.mounted.mount.as_ref().map(|m| m.fs_type.as_bytes());
        kind.is_none_or(|k| k == b"btrfs" || k.starts_with(b"fuse") || k == b"bcachefs")
    }

    fn is_fuse(&self) -> bool {
        let kind = self.mounted.mount.as_ref().map(|m| m.fs_type.as_bytes());
        kind.is_some_and(|k| k == b"fuse" || k.starts_with(b"fuse."))
    }

    fn memory_why(&self, candidate: &Candidate) -> Cow<'static, str> {
        match self.memory.compare(&candidate.object, true) {
            Compared::Undecided(why) => why.into(),
            _ => "pages could not be compared".into(),
        }
    }
}

fn verified(compared: &Compared, handle: bool) -> Verified {
    match compared {
        Compared::Mapped(By::Page) => Verified::Page,
        Compared::Mapped(By::Inode) => Verified::MappedInode,
        Compared::Undecided(_) if handle => Verified::Handle,
        Compared::Undecided(_) | Compared::Other => Verified::Unproven,
    }
}

fn why(compared: &Compared) -> Cow<'static, str> {
    match compared {
        Compared::Undecided(why) => (*why).into(),
        Compared::Other => "what it maps is another file".into(),
        Compared::Mapped(_) => "the kernel shows the mapped inode".into(),
    }
}
