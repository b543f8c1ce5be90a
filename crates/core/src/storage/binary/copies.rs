//! Whether an overlay copied a file up, and what `exe` opens since.

use super::candidates::{Candidate, Candidates};
use super::memory::{By, Compared};
use super::stack::{Stack, Union};
use super::{Look1, mounted};
use crate::model::{CopiedUp, FileRole};

/// What the kernel's handle of `exe` says; see [`Candidates`].
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent observations")]
pub(super) struct Handles {
    pub(super) is_whole: bool,
    pub(super) is_lower: bool,
    pub(super) lower_is_shown: bool,
    pub(super) copied: bool,
}

impl Handles {
    /// Whether the kernel gave a handle of the layer's file.
    pub(super) fn is_known(self) -> bool {
        self.is_whole || self.is_lower
    }

    pub(super) fn of(candidates: &Candidates<'_>) -> Self {
        Self {
            is_whole: candidates.handle_is_whole,
            is_lower: candidates.handle_is_lower,
            lower_is_shown: candidates.lower_is_shown,
            copied: candidates.copied,
        }
    }
}

impl Look1<'_> {
    /// Whether `exe`, opened anew, has the pages that are mapped: no copy was made of it.
    fn opens_what_runs(&self) -> bool {
        let compare = |exe| self.memory.compare(&exe, true);
        self.again().is_some_and(|exe| compare(exe) == Compared::Mapped(By::Page))
    }

    /// Whether what `exe` opens by now may be another file than the one that runs.
    pub(super) fn may_open_another(&self, winner: &Candidate, copied: Option<CopiedUp>) -> bool {
        // Of a file whose part in a stack is unknown nothing tells but the pages.
        let unknown = winner.role.is_none() && !self.opens_what_runs();
        // It opens the copy, if there is one, and that does not run.
        unknown || (winner.is_lower() && copied != Some(CopiedUp::No))
    }

    /// Whether `exe` has the name still that it was started by: a copy of it would be found there.
    pub(super) fn is_named(&self) -> bool {
        self.exe_look.nlink > 0 && !self.text.ends_with(mounted::DELETED)
    }

    /// Whether the overlay copied the file up. `None` where that can't be told. `others` are files of
    /// the layers below.
    pub(super) fn copied_up<I>(
        &self,
        winner: &Candidate,
        handles: Handles,
        stack: Option<&Stack<'_>>,
        others: impl Fn() -> I,
    ) -> Option<CopiedUp>
    where
        I: Iterator<Item = Candidate>,
    {
        match winner.role? {
            // The numbers and the handle of a copy stay those of the lower file.
            FileRole::Upper | FileRole::UpperIndex => {
                let at_path = |c: &Candidate| c.by_path.is_some() && c.is_lower();
                if stack.is_some_and(|s| s.union == Union::Aufs) {
                    // Nothing marks a copy there.
                    return (!others().any(|c| at_path(&c))).then_some(CopiedUp::No);
                }
                if winner.says_copied || handles.is_lower || self.shows_another(winner) {
                    return Some(CopiedUp::BeforeStart);
                }
                // A copy of one of several hard links does not say what it was made of.
                let links = |c: &Candidate| c.object.look().is_ok_and(|l| l.nlink > 1);
                let may_be_copy = || others().any(|c| at_path(&c) && links(&c));
                (handles.is_known() || !may_be_copy()).then_some(CopiedUp::No)
            }
            FileRole::Lower | FileRole::Data => {
                // What `exe` opens today is the copy, if there is one.
                let near = self.mounted.is_administered() && stack.is_some_and(Stack::is_near);
                match self.memory.is_opened(&self.exe, near, &winner.object) {
                    Some(true) => Some(CopiedUp::No),
                    Some(false) => Some(CopiedUp::AfterStart),
                    None if handles.copied && self.is_named() => Some(CopiedUp::AfterStart),
                    None if handles.lower_is_shown => Some(CopiedUp::No),
                    None => {
                        stack.is_some_and(|s| s.options.upper.is_none()).then_some(CopiedUp::No)
                    }
                }
            }
            _ => None,
        }
    }

    /// Whether maps shows the number of another file for this upper one.
    fn shows_another(&self, winner: &Candidate) -> bool {
        let overlay = self.mounted.overlay().map(|m| m.device);
        let shown = self.memory.main().filter(|m| Some(m.device) == overlay);
        // An overlay may put the number of a file system into the topmost bits.
        let differs = |ino: u64| shown.is_some_and(|m| (m.inode ^ ino) & 0xffff_ffff != 0);
        winner.object.look().is_ok_and(|l| differs(l.ino))
    }
}
