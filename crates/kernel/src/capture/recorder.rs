//! Writing down what is read, while it is read.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice};
use rustix::io::Errno;

use super::tree::Tree;
use super::{Entry, Failure};
use crate::error::{Class, ReadError};
use crate::host::Host;
use crate::look::Look;
use crate::worker::Ask;

/// Gives a file's content without what is nobody's business; `None` when there is no such thing in
/// it.
pub type Redact = fn(&[u8]) -> Option<Vec<u8>>;

/// Longest answer of a process that is kept in memory, bytes.
const SHORT: usize = 16 * 1024;

/// Writes what is read beneath the roots of a host to a directory of its own; see the module above.
#[derive(Debug)]
pub struct Recorder {
    redact: Redact,
    state: RefCell<State>,
}

/// What a capture came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files whose content was written.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Processes that outlived the capture.
    pub processes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Directory,
    File,
    Link,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    kept: HashMap<BString, Kept>,
    entries: BTreeMap<BString, Entry>,
    /// Start ticks by PID, and whether it was dead when it was met: what is written is of that
    /// process and no successor.
    processes: HashMap<u32, (u64, bool)>,
    /// What each place on the way to a file was: a link's text, or no link.
    ways: HashMap<BString, Option<BString>>,
    /// What was read of processes by the worker, unless it is long.
    answers: HashMap<Ask, Result<Vec<u8>, ReadError>>,
    /// No further process is taken.
    is_closed: bool,
    /// The captured host's root, as its paths begin.
    top: BString,
    totals: Totals,
    /// The first write that failed: after it nothing more is written.
    problem: Option<ReadError>,
}

impl Recorder {
    /// Makes the directory that the capture goes to; one that is there must be empty.
    ///
    /// # Errors
    /// When it can't be made or is not empty.
    pub fn create(path: &BStr, redact: Redact) -> Result<Self, ReadError> {
        let state = State {
            tree: Tree::create(path)?,
            kept: HashMap::new(),
            entries: BTreeMap::new(),
            processes: HashMap::new(),
            ways: HashMap::new(),
            answers: HashMap::new(),
            is_closed: false,
            top: BString::default(),
            totals: Totals::default(),
            problem: None,
        };
        Ok(Self { redact, state: RefCell::new(state) })
    }

    /// Begins to write down the host whose root is shown as `top`.
    pub(crate) fn begin(&self, top: &BStr) {
        self.state.borrow_mut().top = top.into();
    }

    /// Takes a process, if it is the first with its PID, and says whether what is read of it belongs
    /// in the capture.
    pub(crate) fn admit(&self, pid: u32, start_ticks: u64, is_dead: bool) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.is_closed {
            state.processes.entry(pid).or_insert((start_ticks, is_dead));
        }
        state.processes.get(&pid).is_some_and(|(start, _)| *start == start_ticks)
    }

    /// Whether what is read of a process belongs in the capture.
    pub(crate) fn admits(&self, pid: u32, start_ticks: u64) -> bool {
        let state = self.state.borrow();
        state.processes.get(&pid).is_some_and(|(start, _)| *start == start_ticks)
    }

    /// The text of the link at a place, which is looked at once: every answer goes the same ways.
    pub(crate) fn link_at(
        &self,
        key: &BString,
        read: impl FnOnce() -> Option<BString>,
    ) -> Option<BString> {
        if let Some(known) = self.state.borrow().ways.get(key) {
            return known.clone();
        }
        let text = read();
        if let Some(text) = &text {
            self.link(key, text);
        }
        self.state.borrow_mut().ways.insert(key.clone(), text.clone());
        text
    }

    /// What an earlier answer was given: a capture has the first, so that there is nothing to ask again.
    pub(crate) fn answer(&self, ask: &Ask) -> Option<Result<Vec<u8>, ReadError>> {
        self.state.borrow().answers.get(ask).cloned()
    }

    /// What was read of a process by the worker.
    pub(crate) fn answered(&self, ask: &Ask, answer: &Result<Vec<u8>, ReadError>) {
        if answer.as_ref().map_or(0, Vec::len) <= SHORT {
            self.state.borrow_mut().answers.insert(*ask, answer.clone());
        }
        if !self.admits(ask.pid, ask.start_ticks) {
            return;
        }
        let key = format!("proc/{}/{}", ask.pid, ask.file.name()).into();
        match answer {
            Ok(bytes) => self.content(&key, bytes, None),
            Err(e) => self.failed(&key, e, false),
        }
    }

    /// Takes no process that was not read yet: of one that starts only now not all would be there.
    pub fn close(&self) {
        self.state.borrow_mut().is_closed = true;
    }

    /// A file was read.
    pub(crate) fn content(&self, key: &BString, bytes: &[u8], look: Option<&Look>) {
        let redacted = if is_kernels(key) { None } else { (self.redact)(bytes) };
        self.as_told(key, redacted.as_deref().unwrap_or(bytes), look);
    }

    /// A file's content as its reader has it written, who left out what is nobody's business.
    pub(crate) fn as_told(&self, key: &BString, bytes: &[u8], look: Option<&Look>) {
        let mut state = self.state.borrow_mut();
        state.settled(key);
        if let Some(look) = look.filter(|l| (l.uid, l.gid) != (0, 0)) {
            state.entries.entry(key.clone()).or_default().look.get_or_insert(*look);
        }
        if state.kept.contains_key(key) {
            return;
        }
        state.totals.files += 1;
        state.totals.bytes += bytes.len() as u64;
        state.keep(key, Kept::File, |tree| tree.put_file(key, bytes));
    }

    /// Whether a file was met whose content was not written.
    pub(crate) fn is_unread(&self, key: &BString) -> bool {
        self.state.borrow().entries.get(key).is_some_and(|e| e.is_unread)
    }

    /// A link was read.
    pub(crate) fn link(&self, key: &BString, text: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.settled(key);
        state.keep(key, Kept::Link, |tree| tree.put_link(key, text));
    }

    /// A directory was opened or listed.
    pub(crate) fn directory(&self, key: &BString, look: Option<&Look>) {
        let mut state = self.state.borrow_mut();
        if let Some(look) = look.filter(|l| (l.uid, l.gid) != (0, 0)) {
            state.entries.entry(key.clone()).or_default().look.get_or_insert(*look);
        }
        if !key.is_empty() {
            state.keep(key, Kept::Directory, |tree| tree.put_directory(key));
        }
    }

    /// Something is there; with `look` that is to be told of it again.
    pub(crate) fn there(&self, key: &BString, is_dir: bool, look: Option<&Look>) {
        if is_dir {
            self.directory(key, None);
        }
        let mut state = self.state.borrow_mut();
        let is_kept = state.kept.contains_key(key) || key.is_empty();
        if look.is_none() && is_kept {
            return;
        }
        let entry = state.entries.entry(key.clone()).or_default();
        entry.look = look.copied().or(entry.look);
        entry.is_unread = !is_kept;
    }

    /// Overlay attributes of something that is there.
    pub(crate) fn attributes(&self, key: &BString, attributes: Vec<(BString, BString)>) {
        if !attributes.is_empty() {
            self.state.borrow_mut().entries.entry(key.clone()).or_default().attributes = attributes;
        }
    }

    /// A read failed. That there is no such file is only kept for processes, each of which has the
    /// same ones, and cgroups: elsewhere a tree without the file says so itself.
    pub(crate) fn failed(&self, key: &BString, error: &ReadError, is_refusal: bool) {
        let of_kernel = key.starts_with(b"proc/") || key.starts_with(b"sys/");
        if error.class == Class::Gone && !of_kernel {
            return;
        }
        let mut state = self.state.borrow_mut();
        if state.kept.get(key).is_some_and(|kept| *kept != Kept::Directory) {
            return;
        }
        let top = state.top.trim_end_with(|c| c == '/');
        let path = error.path.strip_prefix(top).map(|p| super::joined(b"", p));
        let path = path.filter(|path| path != key);
        let failure = Failure { class: error.class, cause: error.cause.clone(), is_refusal, path };
        state.entries.entry(key.clone()).or_default().failure = Some(failure);
    }

    /// Writes a file of the capture's own.
    ///
    /// # Errors
    /// When it can't be written, or an earlier write failed.
    pub fn put(&self, rel: &[u8], bytes: &[u8]) -> Result<(), ReadError> {
        let mut state = self.state.borrow_mut();
        match state.problem.take() {
            Some(problem) => Err(problem),
            None => state.tree.put_file(rel, bytes).map_err(|e| state.tree.failed(rel, e)),
        }
    }

    /// Ends the recording: processes that ended meanwhile are marked so, and what was only looked at
    /// gets an empty file. The entries of the manifest.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn finish(&self, host: &Host) -> Result<(Vec<(BString, Entry)>, Totals), ReadError> {
        let mut processes: Vec<(u32, (u64, bool))> =
            self.state.borrow().processes.iter().map(|(pid, of)| (*pid, *of)).collect();
        processes.sort_unstable();
        let mut state = self.state.borrow_mut();
        for (pid, (start_ticks, was_dead)) in processes {
            if host.outlived(pid, start_ticks, was_dead) {
                state.totals.processes += 1;
                continue;
            }
            let cause = "it ended while the capture was made".into();
            let failure = Failure { class: Class::Gone, cause, is_refusal: false, path: None };
            let key = BString::from(format!("proc/{pid}"));
            state.entries.entry(key).or_default().failure = Some(failure);
        }
        let is_file = |e: &Entry| e.look.is_none_or(|l| l.is_file());
        let unread = |(_, e): &(&BString, &Entry)| e.is_unread && is_file(e);
        let unread: Vec<BString> =
            state.entries.iter().filter(unread).map(|(key, _)| key.clone()).collect();
        for key in unread {
            state.keep(&key, Kept::File, |tree| tree.put_file(&key, b""));
        }
        for key in state.empty_directories() {
            state.entries.entry(key).or_default().is_empty = true;
        }
        if let Some(problem) = state.problem.take() {
            return Err(problem);
        }
        let entries = std::mem::take(&mut state.entries).into_iter();
        Ok((entries.filter(|(_, e)| *e != Entry::default()).collect(), state.totals))
    }
}

impl State {
    /// The path can be read after all.
    fn settled(&mut self, key: &BString) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failure = None;
            entry.is_unread = false;
        }
    }

    /// Directories that nothing was written to.
    fn empty_directories(&self) -> Vec<BString> {
        let parents: HashSet<&[u8]> = self
            .kept
            .keys()
            .filter_map(|key| key.rsplit_once_str("/"))
            .map(|(dir, _)| dir)
            .collect();
        let empty = |(key, kind): &(&BString, &Kept)| {
            **kind == Kept::Directory && !parents.contains(key.as_slice())
        };
        self.kept.iter().filter(empty).map(|(key, _)| key.clone()).collect()
    }

    /// Writes what was not written before.
    fn keep(
        &mut self,
        key: &BString,
        kind: Kept,
        write: impl FnOnce(&mut Tree) -> Result<(), Errno>,
    ) {
        if self.problem.is_some() || self.kept.contains_key(key) {
            return;
        }
        // A process's root is a link in /proc, and a directory once something is read beneath it.
        let above = above(key);
        for dir in &above {
            if self.kept.get(dir) != Some(&Kept::Link) {
                continue;
            }
            if !(dir.starts_with(b"proc/") && dir.ends_with(b"/root")) {
                return; // read over what was no link then
            }
            if let Err(errno) = self.tree.remove_link(dir) {
                self.problem = Some(self.tree.failed(dir, errno));
                return;
            }
            self.kept.insert(dir.clone(), Kept::Directory);
        }
        match write(&mut self.tree) {
            Ok(()) => {
                for dir in above {
                    self.kept.entry(dir).or_insert(Kept::Directory);
                }
                self.kept.insert(key.clone(), kind);
            }
            // It was something else when it was read before.
            Err(Errno::NOTDIR | Errno::EXIST | Errno::LOOP | Errno::ISDIR) => {}
            Err(errno) => self.problem = Some(self.tree.failed(key, errno)),
        }
    }
}

/// The paths above one, the topmost first.
fn above(key: &[u8]) -> Vec<BString> {
    key.find_iter(b"/").map(|at| BString::from(&key[..at])).collect()
}

/// Whether the kernel makes the file. Beneath a process's root lie files of its container.
fn is_kernels(key: &[u8]) -> bool {
    let mut parts = key.split(|b| *b == b'/');
    match parts.next() {
        Some(b"sys") => true,
        Some(b"proc") => parts.nth(1) != Some(b"root"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{Recorder, is_kernels};

    #[test]
    fn engines_files_are_redacted_wherever_they_lie() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let path = BStr::new(path.as_os_str().as_encoded_bytes());
        let recorder = Recorder::create(path, |_| Some(b"redacted".to_vec())).unwrap();
        for key in ["var/lib/docker/a", "proc/7/root/var/lib/docker/a", "proc/7/cmdline"] {
            recorder.content(&key.into(), b"secret", None);
        }
        let read = |key: &str| std::fs::read(dir.path().join("new").join(key)).unwrap();
        assert_eq!(read("var/lib/docker/a"), b"redacted");
        assert_eq!(read("proc/7/root/var/lib/docker/a"), b"redacted");
        assert_eq!(read("proc/7/cmdline"), b"secret");
        assert!(is_kernels(b"sys/fs/cgroup/root/x") && !is_kernels(b"etc/passwd"));
    }
}
