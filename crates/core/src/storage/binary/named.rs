//! The file that a path leads to for a process: which part of its file system holds it.
//!
//! Nobody needs to have mapped it, so no page proves it. The kernel's handle says which file it is;
//! of an overlay's lower file only where nothing can lie over it. What is at the same path of the
//! upper directory is shown whatever lies below. Without handles the content is compared.

use bstr::BString;
use whose_kernel::object::{Look, Object};
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host, ReadError};

use super::candidates::{Candidate, Candidates};
use super::copies::Handles;
use super::filesystems::FileSystems;
use super::stack::Stack;
use super::{ASIDE, Look1, Subject, Which, fuse, hash, walk};
use crate::model::gap::what;
use crate::model::{Fact, File, FileRole, Gap, Verified};

/// Opens what the path leads to, links followed as the process would, none of them out of its root.
///
/// # Errors
/// `gone`; `forbidden` without ptrace read access; `timed-out`; `malformed` for links in a circle.
pub(super) fn open(host: &Host, subject: &Subject<'_>) -> Result<Object, ReadError> {
    let Which::Named(path) = subject.which else {
        return Err(ReadError::new(subject.link(host), Class::Unsupported, "no path was named"));
    };
    let root = subject.dir.object("root")?;
    host.lookup(&root, path, Way::Links).map_err(|errno| {
        let error = ReadError::from_errno(subject.link(host), errno);
        match error.class {
            // openat2(2) follows forty.
            Class::Malformed => {
                ReadError { cause: "links in a circle, or too many".into(), ..error }
            }
            _ => error,
        }
    })
}

impl Look1<'_> {
    /// Tells which of the candidates it is.
    pub(super) fn decide(
        &self,
        mut file: File,
        candidates: Candidates<'_>,
        file_systems: &FileSystems<'_>,
    ) -> File {
        let handles = Handles::of(&candidates);
        let Candidates { list, last, stack, problem, .. } = candidates;
        if let Some(stack) = stack.as_ref().filter(|_| !self.exe_look.is_file()) {
            return self.decide_special(file, stack, handles);
        }
        let mut all: Vec<Candidate> = list;
        // What is in the upper directory lies over everything.
        all.sort_by_key(|c| !is_upper(c));
        let sure = all.iter().position(|c| self.is_sure(c, handles, stack.as_ref()));
        if let Some(at) = sure {
            let candidate = all.swap_remove(at);
            self.tell(&mut file, &candidate, Verified::Handle, handles, stack.as_ref());
            return file;
        }
        if let Some(last) = last.filter(|c| !c.is_merged) {
            self.tell(&mut file, &last, Verified::Handle, handles, stack.as_ref());
            return file;
        }
        let known: Vec<BString> = all.iter().filter_map(|c| c.object.path().ok()?).collect();
        if let Some(stack) = &stack {
            all.extend(self.wider(stack, &known, file_systems));
        } else if all.is_empty() && self.is_fuse() {
            all.extend(self.in_layers_of_server(file_systems));
        }
        // A copy of it may lie in an upper directory that is not to be seen, with another mode or name at least.
        let is_hidden = |s: &Stack<'_>| s.options.upper.is_some() && s.upper().is_none();
        let may_hide = stack.as_ref().is_some_and(is_hidden);
        if let Some(at) = self.of_the_same_content(&all, may_hide) {
            let candidate = all.swap_remove(at);
            self.tell(&mut file, &candidate, Verified::Content, handles, stack.as_ref());
            file.why = Some("the kernel gives no handle that says which file is shown".into());
            return file;
        }
        let undecided: Vec<(Candidate, &'static str)> = all.into_iter().map(|c| (c, "")).collect();
        file.candidates = self.paths_of(&undecided);
        let why = problem.unwrap_or_else(|| match undecided.is_empty() {
            true => "no layer or mount that is known holds it".into(),
            false => "which of its layers' files is shown could not be told".into(),
        });
        let path = self.subject.link(self.host);
        file.host = Fact::Unread(Gap::new(what::PATH, Class::Unsupported, path, why.clone(), None));
        file.why = Some(why);
        file
    }

    /// Whether the kernel's handles leave no doubt about a candidate.
    fn is_sure(&self, candidate: &Candidate, handles: Handles, stack: Option<&Stack<'_>>) -> bool {
        let Some(stack) = stack else {
            // By the handle of the file itself, or by its device and number.
            let is_it = |l: Look| l.is(&self.exe_look);
            return candidate.is_handle || candidate.object.look().is_ok_and(is_it);
        };
        if is_upper(candidate) {
            let placed = candidate.is_sure || stack.upper_is_sure();
            return placed && self.is_alike(&candidate.object);
        }
        candidate.is_handle && handles.lower_is_shown && !stack.may_split()
    }

    /// Whether a layer's file has the size, the time and the mode that the overlay shows.
    fn is_alike(&self, object: &Object) -> bool {
        let key = |l: &Look| (l.size, l.mtime, l.mode, l.uid, l.gid);
        object.look().is_ok_and(|l| key(&l) == key(&self.exe_look))
    }

    /// Whether a layer's file has the path that it has in the overlay: one that was moved leads to what it was.
    fn is_called_so(&self, object: &Object) -> bool {
        let Ok(Some(path)) = object.path() else { return false };
        self.mounted.paths_in_fs(&self.text).iter().any(|own| path.ends_with(own))
    }

    /// The first of the same size and content, and `alike` in what stat(2) says; reading stops soon.
    fn of_the_same_content(&self, all: &[Candidate], alike: bool) -> Option<usize> {
        if !self.exe_look.is_file() {
            return None;
        }
        let fits = |c: &&Candidate| {
            let same_names =
                |l: &Look| l.nlink == self.exe_look.nlink && self.is_called_so(&c.object);
            c.object.look().is_ok_and(|l| {
                l.is_file()
                    && l.size == self.exe_look.size
                    && (!alike || same_names(&l) && self.is_alike(&c.object))
            })
        };
        let _any = all.iter().find(fits)?;
        let content = |o: &Object| hash::of(self.host, o, ASIDE).sha256.known().cloned();
        let theirs = content(&self.exe)?;
        all.iter().position(|c| fits(&c) && content(&c.object).as_ref() == Some(&theirs))
    }

    /// The topmost of a FUSE file system's layers that has the path: what it shows there can be no other,
    /// if the layers are those and nothing was renamed, which the content tells.
    fn in_layers_of_server(&self, file_systems: &FileSystems<'_>) -> Option<Candidate> {
        let options = fuse::layers_of_server(self)?;
        let roots = (self.root, self.mounted.ns_root.as_ref());
        let stack = Stack::new(self.host, roots, options, None, file_systems, Vec::new()).of_fuse();
        let paths = self.mounted.paths_in_fs(&self.text);
        let mut shown = paths.iter().map(|path| walk::shown(self.host, &stack, path.as_ref()));
        let object = shown.find(|all| !all.is_empty())?.into_iter().next()?;
        Some(Candidate::new(object, FileRole::FuseLayer, true))
    }

    /// A directory, a socket or the like on an overlay.
    fn decide_special(&self, mut file: File, stack: &Stack<'_>, handles: Handles) -> File {
        let paths = self.mounted.paths_in_fs(&self.text);
        let shown = paths.iter().map(|path| walk::shown(self.host, stack, path.as_ref()));
        let found = shown.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        let mut all: Vec<Candidate> = found
            .into_iter()
            .map(|object| {
                let path = object.path().ok().flatten().unwrap_or_default();
                let upper = stack.layer_of(path.as_ref()).map(|(at, _)| at == 0);
                let role = upper.map(|u| if u { FileRole::Upper } else { FileRole::Lower });
                Candidate::new(object, role, true)
            })
            .collect();
        let is_it = all.first().is_some_and(|c| same_type(&c.object, &self.exe_look));
        let is_whole = is_it && stack.is_whole() && stack.upper_is_sure();
        if let [only] = all.as_slice()
            && is_it
            && self.is_all_of_it(only, stack, is_whole)
        {
            let only = all.swap_remove(0);
            self.tell(&mut file, &only, Verified::Handle, handles, Some(stack));
            return file;
        }
        let why = if is_whole && all.len() > 1 {
            // No directory of the host shows all of it.
            file.host = Fact::Absent;
            format!("the overlay merges this directory from {} layers", all.len())
        } else {
            let why = "which of its layers hold it could not be told";
            let path = self.subject.link(self.host);
            file.host = Fact::Unread(Gap::new(what::PATH, Class::Unsupported, path, why, None));
            why.into()
        };
        // In the order in which they lie.
        file.candidates = all.iter().filter_map(|c| self.host_path(c).ok()).collect();
        file.why = Some(why.into());
        file
    }

    /// Whether a layer's entry is all that the overlay shows at its path. The handle of what the upper
    /// directory alone has is its own, that of what has something below the lowest one's
    /// (`ovl_check_encode_origin` of fs/overlayfs/export.c).
    fn is_all_of_it(&self, only: &Candidate, stack: &Stack<'_>, is_whole: bool) -> bool {
        let Some(layer) = self.exe_layer() else { return false };
        let is_its = only.object.handle().is_ok_and(|handle| handle == layer.inner);
        if !self.exe_look.is_dir() {
            return stack.upper_is_sure() && (is_upper(only) || is_its);
        }
        // A text that leads elsewhere would hide what lies below.
        let is_root = self.mounted.paths_in_fs(&self.text).iter().any(|path| path == "/");
        is_its && (layer.upper && !is_root || is_whole && self.mounted.is_administered())
    }
}

fn is_upper(candidate: &Candidate) -> bool {
    matches!(candidate.role, Some(FileRole::Upper | FileRole::UpperIndex))
}

fn same_type(object: &Object, look: &Look) -> bool {
    const TYPE: u32 = 0o170_000;
    object.look().is_ok_and(|l| l.mode & TYPE == look.mode & TYPE)
}
