//! What a process has mapped of the program it runs.

use std::cell::OnceCell;

use whose_kernel::object::Object;
use whose_kernel::parse::maps::Mapping;
use whose_kernel::parse::{auxv, maps};
use whose_kernel::worker::Verdict;
use whose_kernel::worker::exam::{Beginning, Exam, PageAt};
use whose_kernel::{Class, Host, ReadError};

use super::{Problem, Subject, Which};

/// The mappings of a process, in ascending order.
///
/// # Errors
/// `gone`, `forbidden` without ptrace read access, `timed-out`; `malformed`.
pub fn mappings(host: &Host, subject: &Subject<'_>) -> Result<Vec<Mapping>, ReadError> {
    let (pid, start_ticks) = subject.dir.reader(subject.start_ticks);
    let exam = host.exam(pid, start_ticks)?;
    let path = host.shown(format!("proc/{}/maps", subject.dir.pid()).as_bytes());
    maps::parse(exam.maps()).map_err(|malformed| malformed.at(path))
}

/// How a candidate compares with what is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// It is the mapped file: by the page, or by the inode that the kernel shows.
    Mapped(By),
    /// It is another file.
    Other,
    /// That can't be told.
    Undecided(&'static str),
}

/// What a proof rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Page,
    Inode,
}

/// The mappings of the program: of the file in which its program headers lie.
#[derive(Debug)]
pub(super) struct Memory<'h> {
    exam: Option<Exam<'h>>,
    /// All mappings; empty when they could not be read.
    pub(super) all: Vec<Mapping>,
    /// The program's own, not writable ones; the one with its headers first.
    program: Vec<Mapping>,
    /// Pages of it, once they are needed: they are looked for from the beginning on.
    samples: OnceCell<Samples>,
    /// Why pages can't be compared, where none are looked for.
    why: Option<&'static str>,
}

/// Pages that are in memory.
#[derive(Debug)]
struct Samples {
    /// Each with its offset in the file.
    pages: Vec<(PageAt, u64)>,
    /// Why there are none, or not all.
    why: Option<&'static str>,
}

/// A look at a process's memory that may be under way: it is read while the file and its mount are
/// looked at.
#[derive(Debug)]
pub(super) enum Begun<'h> {
    /// It needs none.
    Nothing,
    /// It was waited for in vain before.
    Stuck,
    /// It is being read.
    Reading(Beginning<'h>),
    /// It was read.
    Read(Memory<'h>),
}

impl<'h> Begun<'h> {
    /// Begins one.
    pub(super) fn at(host: &'h Host, subject: &Subject<'_>) -> Self {
        if subject.stuck {
            return Self::Stuck;
        }
        let (pid, start_ticks) = subject.dir.reader(subject.start_ticks);
        Self::Reading(host.begin_exam(pid, start_ticks))
    }

    /// The memory.
    ///
    /// # Errors
    /// As of [`Memory::read`].
    pub(super) fn read(self, host: &Host, subject: &Subject<'_>) -> Result<Memory<'h>, Problem> {
        match self {
            Self::Nothing => Ok(Memory::none()),
            Self::Stuck => Memory::read(host, subject, None),
            Self::Reading(beginning) => Memory::read(host, subject, Some(beginning)),
            Self::Read(memory) => Ok(memory),
        }
    }
}

/// Pages compared at most, should one be taken away meanwhile.
const SAMPLES: usize = 3;

/// Whether what is in memory of a mapping stays the file's own: what is written to a private one does not.
fn has_its_pages(mapping: &Mapping) -> bool {
    !mapping.is_writable() || mapping.is_shared()
}

impl<'h> Memory<'h> {
    /// Of a file that nobody needs to have mapped: nothing can be told.
    fn none() -> Self {
        let (all, program) = (Vec::new(), Vec::new());
        Self { exam: None, all, program, samples: OnceCell::new(), why: None }
    }

    /// Reads the mappings. What may not be read leaves a memory about which nothing can be told.
    ///
    /// # Errors
    /// [`Problem::Changed`] when the process ended or runs another program by now.
    fn read(
        host: &Host,
        subject: &Subject<'_>,
        beginning: Option<Beginning<'h>>,
    ) -> Result<Self, Problem> {
        let mut memory = Self::none();
        let is_program = matches!(subject.which, Which::Program);
        // Of a file that is mapped nothing but the memory tells; then there is no other way to it.
        let unread = |class, why: &'static str| {
            Err(Problem::Unread(ReadError::new(subject.link(host), class, why)))
        };
        let Some(beginning) = beginning else {
            let why = "its memory did not answer in time";
            memory.why = Some(why);
            return if is_program { Ok(memory) } else { unread(Class::TimedOut, why) };
        };
        let exam = match beginning.wait() {
            Ok(exam) => exam,
            Err(e) if !is_program => return Err(Problem::Unread(e)),
            Err(e) => return memory.without(&e),
        };
        if exam.maps().is_empty() {
            return Err(Problem::Changed);
        }
        let Ok(all) = maps::parse(exam.maps()) else {
            let why = "its maps are malformed";
            memory.why = Some(why);
            return if is_program { Ok(memory) } else { unread(Class::Malformed, why) };
        };
        memory.all = all;
        let own = match subject.which {
            Which::Program => {
                let headers = auxv::parse(exam.auxv()).ok().and_then(|a| a.program_headers);
                let own = headers.and_then(|at| memory.all.iter().find(|m| m.holds(at)));
                own.filter(|m| m.is_file()).ok_or(Problem::NotMapped)?
            }
            Which::Mapped(mapping) => {
                memory.all.iter().find(|m| *m == mapping).ok_or(Problem::Changed)?
            }
            Which::Named(_) => return Ok(memory),
        };
        let sibling = |m: &&Mapping| m.is_of_the_file(own) && has_its_pages(m);
        let mut program: Vec<Mapping> = memory.all.iter().filter(sibling).cloned().collect();
        program.sort_by_key(|m| m.start != own.start);
        if program.is_empty() {
            program.push(own.clone());
        }
        memory.program = program;
        memory.exam = Some(exam);
        Ok(memory)
    }

    /// Has pages looked for, which will be compared; once.
    pub(super) fn look_for_pages(&self) {
        if let Some(exam) = &self.exam {
            exam.look_for_pages(self.with_pages().map(|m| (m.start, m.end)).collect(), SAMPLES);
        }
    }

    /// Whether this file, which lies on the machine's disks, is the program; not where that can't be told.
    pub(super) fn is_of(&self, file: &Object) -> bool {
        let mappings: Vec<_> = self.with_pages().map(|m| (m.start, m.end, m.offset)).collect();
        self.exam.as_ref().is_some_and(|exam| exam.shares_page(file, &mappings))
    }

    fn without(mut self, e: &ReadError) -> Result<Self, Problem> {
        self.why = Some(match e.class {
            Class::Gone => return Err(Problem::Changed),
            Class::TimedOut => "its memory did not answer in time",
            Class::Forbidden => "its memory may not be looked at",
            Class::Unsupported | Class::Malformed => "its memory could not be looked at",
        });
        Ok(self)
    }

    /// The program's mappings that have its pages.
    fn with_pages(&self) -> impl Iterator<Item = &Mapping> {
        self.program.iter().filter(|m| has_its_pages(m))
    }

    /// The pages that are in memory.
    fn samples(&self) -> &Samples {
        self.samples.get_or_init(|| match &self.exam {
            Some(exam) => self.samples_of(exam),
            None => Samples { pages: Vec::new(), why: self.why },
        })
    }

    fn samples_of(&self, exam: &Exam<'_>) -> Samples {
        let program: Vec<&Mapping> = self.with_pages().collect();
        let (pages, read) = exam.pages();
        let sample = |(range, page): (usize, PageAt)| {
            let mapping = program.get(range)?;
            Some((page, mapping.offset + page.address.checked_sub(mapping.start)?))
        };
        let pages: Vec<_> = pages.into_iter().filter_map(sample).collect();
        let why = match read.map_err(|e| e.class) {
            Err(Class::Forbidden) => {
                Some("page frame numbers are hidden: CAP_SYS_ADMIN is missing")
            }
            Err(Class::TimedOut) => Some("its memory did not answer in time"),
            Err(_) => Some("its pages could not be looked at"),
            Ok(()) => pages.is_empty().then_some("none of its pages is in memory"),
        };
        Samples { pages, why }
    }

    /// The file of a mapping.
    pub(super) fn mapped(&self, mapping: &Mapping) -> Result<Object, ReadError> {
        match &self.exam {
            Some(exam) => exam.mapped(mapping.start, mapping.end),
            None => Err(ReadError::new("map_files", Class::Gone, "its memory was not looked at")),
        }
    }

    /// Whether pages can be compared at all.
    pub(super) fn has_pages(&self) -> bool {
        !self.samples().pages.is_empty()
    }

    /// The mapping with the program headers.
    pub(super) fn main(&self) -> Option<&Mapping> {
        self.program.first()
    }

    /// Compares a candidate. `merged`: its inode number is an overlay's and no layer's, or it lies
    /// on a file system that numbers inodes anew in each subvolume.
    pub(super) fn compare(&self, file: &Object, merged: bool) -> Compared {
        let samples = self.samples();
        let mut why = samples.why.unwrap_or("its pages changed all the time");
        if let Some(exam) = &self.exam {
            for (page, offset) in &samples.pages {
                match exam.same_page(file, *page, *offset) {
                    Ok(Verdict::Same) => return Compared::Mapped(By::Page),
                    Ok(Verdict::Differs) => return Compared::Other,
                    Ok(Verdict::Changing) => {}
                    // Its page is in no cache, though the process's is: another file, or one whose
                    // page is being brought in.
                    Ok(Verdict::NotCached) => why = "its page is not in the page cache",
                    Err(e) if Class::of(e) == Class::TimedOut => {
                        return self.by_inode(
                            file,
                            merged,
                            "opening the file did not answer in time",
                        );
                    }
                    Err(_) => why = "the file could not be opened or mapped",
                }
            }
        }
        self.by_inode(file, merged, why)
    }

    /// Whether opening `exe` leads to the file that is mapped, which `running` is. `None` where that
    /// can't be told. `near`: what `exe` leads to is known to lie on this machine's disks.
    pub(super) fn is_opened(&self, exe: &Object, near: bool, running: &Object) -> Option<bool> {
        let exam = self.exam.as_ref()?;
        let same = |file: &Object, (page, offset): (PageAt, u64)| {
            let near = near && std::ptr::eq(file, exe);
            if near {
                exam.same_page_near(file, page, offset)
            } else {
                exam.same_page(file, page, offset)
            }
            .ok()
        };
        self.samples().pages.iter().find_map(|at| match same(exe, *at)? {
            Verdict::Same => Some(true),
            Verdict::Differs => Some(false),
            // The mapped page is in the cache, and not in that of what was opened: another file.
            Verdict::NotCached => (same(running, *at) == Some(Verdict::Same)
                && same(exe, *at) == Some(Verdict::NotCached))
            .then_some(false),
            Verdict::Changing => None,
        })
    }

    /// The inode that the kernel shows in maps, where that is the file's own: everywhere but on
    /// btrfs and FUSE, and on overlays before about 6.8, which showed the layer's.
    fn by_inode(&self, file: &Object, merged: bool, why: &'static str) -> Compared {
        let shown = self.main().filter(|_| !merged).map(|m| (m.device, m.inode));
        let look = file.look().ok().map(|l| (l.device, l.ino));
        if shown.is_some() && shown == look {
            return Compared::Mapped(By::Inode);
        }
        Compared::Undecided(why)
    }

    /// Ends the look. False when the process has run another program meanwhile.
    pub(super) fn finish(self) -> bool {
        self.exam.is_none_or(Exam::finish)
    }
}
