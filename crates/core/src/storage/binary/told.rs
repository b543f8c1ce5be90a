//! What is told of the file that was found: its path on the host, its part in a stack, its layer.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::object::{Look, Object};
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host};

use super::candidates::Candidate;
use super::copies::Handles;
use super::{Extent, Look1, stack};
use crate::model::gap::what;
use crate::model::{Fact, File, FileRole, FileState, Gap, Inode, Layer, Verified};

impl Look1<'_> {
    /// Whether it was copied up, and what opens the copy by now; not where the path is all.
    pub(super) fn tell_copies<I: Iterator<Item = Candidate>>(
        &self,
        file: &mut File,
        candidate: &Candidate,
        handles: Handles,
        stack: Option<&stack::Stack<'_>>,
        others: impl Fn() -> I,
    ) {
        if self.subject.extent == Extent::Path {
            return;
        }
        file.copied_up = self.copied_up(candidate, handles, stack, others);
        if self.may_open_another(candidate, file.copied_up) {
            (file.via_proc, file.merged) = (None, None);
        }
    }

    /// The host paths of candidates that could not be decided about.
    pub(super) fn paths_of(&self, undecided: &[(Candidate, &'static str)]) -> Vec<BString> {
        let mut paths: Vec<BString> =
            undecided.iter().filter_map(|(c, _)| self.host_path(c).ok()).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Fills in what is told of the file that was found.
    pub(super) fn tell(
        &self,
        file: &mut File,
        candidate: &Candidate,
        how: Verified,
        handles: Handles,
        stack: Option<&stack::Stack<'_>>,
    ) {
        file.verified = how;
        file.role = candidate.role;
        let look = candidate.object.look().ok();
        file.inode = look.as_ref().map(inode);
        let device = look.as_ref().map(|l| l.device);
        file.image_file =
            file.image_file.take().or_else(|| self.mounted.image_of(self.host, device?));
        // Of a merged file the number of names may be that of its metadata alone.
        let splits =
            candidate.is_merged && !handles.is_whole && stack.is_some_and(stack::Stack::may_split);
        if look.is_some_and(|l| l.nlink == 0) && !splits {
            file.host = Fact::Absent;
            file.state = Some(FileState::Unlinked);
            if how != Verified::Page {
                file.why.get_or_insert_with(|| "the file has no name left".into());
            }
            return;
        }
        match self.host_path(candidate) {
            Ok(path) => {
                file.layer = stack.and_then(|s| self.layer(s, candidate, path.as_ref()));
                file.host = Fact::Known(path);
            }
            Err(elsewhere) => {
                file.host = self.nowhere(candidate, elsewhere.is_some());
                file.layer_path = elsewhere;
                file.layer_ns = file.layer_path.as_ref().and(self.mounted.ns_text());
            }
        }
    }

    /// Why a file that was found has no path on the host: its file system is not mounted here, or
    /// it is, and the path was not found.
    fn nowhere(&self, candidate: &Candidate, elsewhere: bool) -> Fact<BString> {
        let mounts = self.host.mounts().unwrap_or_default();
        let device = self.mounted.mount.as_ref().map(|m| m.device);
        let shown = device.is_none_or(|d| mounts.iter().any(|m| m.device == d));
        if !candidate.is_merged && (elsewhere || !shown) {
            return Fact::Absent;
        }
        let why =
            if candidate.is_merged { "its layer was not found" } else { "its path was not found" };
        let path = self.subject.link(self.host);
        Fact::Unread(Gap::new(what::BINARY, Class::Unsupported, path, why, None))
    }

    /// The candidate's path on the host, opened and compared. Otherwise its path in the process's
    /// own namespace, if that has one.
    pub(super) fn host_path(&self, candidate: &Candidate) -> Result<BString, Option<BString>> {
        let look = candidate.object.look().map_err(|_| None)?;
        let named = candidate.object.path().ok().flatten();
        let mut own = candidate.better_name.iter().chain(&named).chain(&candidate.other_names);
        if let Some(path) = own.find_map(|path| path_of(self.host, self.root, path, &look)) {
            return Ok(path);
        }
        Err(named.filter(|_| !candidate.on_host && look.nlink > 0))
    }

    /// The layer that holds a file.
    fn layer(&self, stack: &stack::Stack<'_>, candidate: &Candidate, path: &BStr) -> Option<Layer> {
        let layer = |dir: &BString, index: Option<usize>| {
            let last = dir.rfind_byte(b'/').map_or(0, |at| at + 1);
            let number = |n: usize| u32::try_from(n).ok();
            Layer {
                id: dir[last..].into(),
                dir: dir.clone(),
                index: index.and_then(number),
                of: number(stack.options.lowers.len()),
                ..Layer::default()
            }
        };
        if candidate.role == Some(FileRole::Upper) {
            let dir = &stack.upper()?.path;
            return strip(dir, path).is_some().then(|| layer(dir, None));
        }
        let dirs = match candidate.role {
            Some(FileRole::Data) => stack.data(),
            Some(FileRole::Lower) => stack.lowers(),
            _ => return None,
        };
        let holds =
            |dir: &Option<stack::Dir>| dir.as_ref().is_some_and(|d| strip(&d.path, path).is_some());
        // Of directories one in another the innermost holds it.
        let (index, dir) = dirs
            .iter()
            .enumerate()
            .filter(|(_, dir)| holds(dir))
            .filter_map(|(at, dir)| dir.as_ref().map(|d| (at, d)))
            .max_by_key(|(at, dir)| (dir.path.len(), std::cmp::Reverse(*at)))?;
        Some(layer(&dir.path, Some(index)))
    }
}

/// The path without the host's root in front, if it leads to this file.
pub(super) fn path_of(host: &Host, root: &Object, path: &BString, file: &Look) -> Option<BString> {
    let path = host.unrooted(path.as_ref()).filter(|p| p.starts_with(b"/") && p.len() > 1)?;
    let there = host.lookup(root, path, Way::Plain).ok()?;
    there.look().ok().filter(|l| l.is(file)).map(|_| path.to_owned())
}

/// What identifies a file.
pub(super) fn inode(look: &Look) -> Inode {
    Inode {
        device: look.device,
        ino: look.ino,
        nlink: look.nlink,
        size: look.size,
        mtime: i64::try_from(look.mtime.div_euclid(1_000_000)).unwrap_or(i64::MAX),
    }
}
