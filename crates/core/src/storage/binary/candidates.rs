//! Files that may be the one that runs, layer files before merged ones.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::object::Object;
use whose_kernel::parse::handle::LayerHandle;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::parse::overlay;
use whose_kernel::worker::exam::Way;

use super::filesystems::FileSystems;
use super::stack::{Stack, joined};
use super::walk::{self, Found, Where};
use super::{Look1, fuse};
use crate::model::FileRole;

/// A file that may be it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent observations")]
pub(super) struct Candidate {
    /// The file.
    pub(super) object: Object,
    /// Which part of a stack it is.
    pub(super) role: Option<FileRole>,
    /// Whether it was opened by the kernel's own handle for `exe`.
    pub(super) is_handle: bool,
    /// Whether that handle is enough: it is no lower file that something may lie over.
    pub(super) is_sure: bool,
    /// Whether it is a merged view: its inode number is no layer's.
    pub(super) is_merged: bool,
    /// Whether its path is one of the host's own mount namespace.
    pub(super) on_host: bool,
    /// Whether its attributes say that it was copied up.
    pub(super) says_copied: bool,
    /// The name the overlay knows it by, preferred among hard links.
    pub(super) better_name: Option<BString>,
    /// Names to fall back on: the kernel tells none that is longer than a page.
    pub(super) other_names: Vec<BString>,
}

impl Candidate {
    fn new(object: Object, role: impl Into<Option<FileRole>>, on_host: bool) -> Self {
        Self {
            object,
            role: role.into(),
            is_handle: false,
            is_sure: false,
            is_merged: false,
            on_host,
            says_copied: false,
            better_name: None,
            other_names: Vec::new(),
        }
    }

    /// Whether it is a file of a lower layer.
    pub(super) fn is_lower(&self) -> bool {
        matches!(self.role, Some(FileRole::Lower | FileRole::Data))
    }
}

/// All candidates, and what goes with them.
#[derive(Default)]
pub(super) struct Candidates<'h> {
    pub(super) list: Vec<Candidate>,
    /// The overlay's directories, where it is one.
    pub(super) stack: Option<Stack<'h>>,
    /// Why candidates could not be looked for.
    pub(super) problem: Option<Cow<'static, str>>,
    /// Whether nothing lies over the lower file: no upper one, no index entry, no metacopy.
    pub(super) lower_is_shown: bool,
    /// Whether the handle is a lower's though an upper file is at its path.
    pub(super) copied: bool,
    /// Whether the kernel gives a layer's handle that no file system here knows.
    pub(super) handle_fits_nothing: bool,
}

/// Overlays on overlays followed at most; the kernel stacks two.
const NESTED: usize = 4;

impl<'h> Candidates<'h> {
    pub(super) fn of(look: &'h Look1<'h>, file_systems: &FileSystems<'_>) -> Self {
        let kind = look.mounted.mount.as_ref().map(|m| m.fs_type.as_bytes().to_vec());
        let mut candidates = match kind.as_deref() {
            Some(b"overlay") => look.overlay(file_systems),
            Some(k) if is_fuse(k) => look.fuse(),
            _ => look.plain(file_systems),
        };
        // Last, the file as `exe` opens it: it may have no other name.
        let fuse = kind.as_deref().is_some_and(is_fuse);
        if let Some(object) = look.again().filter(|_| !fuse) {
            let merged = kind.as_deref() == Some(b"overlay");
            let role = if merged { FileRole::Merged } else { look.direct_role() };
            let mut last = Candidate::new(object, role, look.mounted.same_ns);
            last.is_merged = merged;
            last.is_handle = !merged;
            last.is_sure = !merged;
            last.other_names = look.host_text().into_iter().collect();
            candidates.list.push(last);
        }
        candidates
    }
}

/// File systems in user space: their pages are their own, and looking may never end.
fn is_fuse(kind: &[u8]) -> bool {
    kind == b"fuse" || kind.starts_with(b"fuse.")
}

impl<'h> Look1<'h> {
    /// The text of `exe` as a host path: true where the namespaces are the same.
    fn host_text(&self) -> Option<BString> {
        self.mounted.same_ns.then(|| self.text.clone())
    }

    /// A file on its own file system. A bind mount in a container is a volume.
    fn direct_role(&self) -> FileRole {
        let bound = |m: &Mount| m.root != "/" && self.mounted.point_inside(m) != "/";
        let bound = !self.mounted.same_ns && self.mounted.mount.as_ref().is_some_and(bound);
        if bound { FileRole::Volume } else { FileRole::Direct }
    }

    /// No overlay: the file's own handle, on a mount of its file system that the host has.
    fn plain(&self, file_systems: &FileSystems<'_>) -> Candidates<'h> {
        let mut candidates = Candidates::default();
        if self.mounted.same_ns && self.mounted.mount.is_some() {
            return candidates; // exe itself has the host's path
        }
        let Ok(handle) = self.exe.handle() else {
            candidates.list.extend(self.by_mount_table());
            if self.mounted.mount.is_none() {
                // Perhaps an overlay's, mounted nowhere any more or hidden by a chroot.
                for (object, on_host) in self.mapped_files(file_systems) {
                    candidates.list.push(Candidate::new(object, None, on_host));
                }
            }
            return candidates;
        };
        if let Ok(Some(layer)) = handle.parse_layer() {
            // An overlay that is mounted nowhere any more: the handle is all there is.
            self.layer_files(&mut candidates, &layer, file_systems);
            return candidates;
        }
        let is_it = |o: &Object| o.look().is_ok_and(|l| l.is(&self.exe_look));
        // Another subvolume may have a file of the same number: then the device differs.
        let device = self.mounted.mount.as_ref().map(|m| m.device);
        for (object, on_host) in file_systems.open(&handle, device, &is_it) {
            let mut candidate = Candidate::new(object, self.direct_role(), on_host);
            (candidate.is_handle, candidate.is_sure) = (true, true);
            candidate.other_names = self.names_by_mount_table();
            candidates.list.push(candidate);
        }
        if candidates.list.is_empty() {
            candidates.list.extend(self.by_mount_table());
        }
        candidates
    }

    /// The path in the file system, beneath each mount of it that the host has.
    fn names_by_mount_table(&self) -> Vec<BString> {
        let Some(mount) = &self.mounted.mount else { return Vec::new() };
        let Some(inner) = self.mounted.path_in_fs(&self.text) else { return Vec::new() };
        let mounts = self.host.mounts().unwrap_or_default();
        let same = mounts.iter().filter(|m| m.device == mount.device);
        let name = |m: &Mount| {
            let rest = whose_kernel::parse::mountinfo::strip(&m.root, &inner)?;
            Some(joined(&m.point, rest))
        };
        same.filter_map(name).collect()
    }

    /// Without a handle: the file of such a name.
    fn by_mount_table(&self) -> Option<Candidate> {
        self.names_by_mount_table().into_iter().find_map(|path| {
            let object = self.host.lookup(self.root, path.as_ref(), Way::Plain).ok()?;
            object.look().ok().filter(|l| l.is(&self.exe_look))?;
            let mut candidate = Candidate::new(object, self.direct_role(), true);
            candidate.better_name = Some(path);
            Some(candidate)
        })
    }

    /// The files that an overlay's handle leads to. A handle that fits several file systems says
    /// nothing for sure.
    fn layer_files(
        &self,
        candidates: &mut Candidates<'_>,
        layer: &LayerHandle,
        file_systems: &FileSystems<'_>,
    ) {
        let is_file = |o: &Object| o.look().is_ok_and(|l| l.is_file());
        let found = file_systems.open(&layer.inner, None, &is_file);
        let only = found.len() == 1;
        candidates.handle_fits_nothing = found.is_empty();
        let role = if layer.upper { FileRole::Upper } else { FileRole::Lower };
        for (object, on_host) in found {
            let mut candidate = Candidate::new(object, role, on_host);
            (candidate.is_handle, candidate.is_sure) = (only, only && layer.upper);
            candidates.list.push(candidate);
        }
    }

    /// FUSE: what its server holds open of the same number and size.
    fn fuse(&self) -> Candidates<'h> {
        let problem = Some("a FUSE file system: its server alone knows the file".into());
        let found = fuse::held_by_server(self);
        let candidate = |object| Candidate::new(object, FileRole::FuseLayer, true);
        Candidates {
            list: found.into_iter().map(candidate).collect(),
            problem,
            ..Candidates::default()
        }
    }

    fn overlay(&'h self, file_systems: &FileSystems<'_>) -> Candidates<'h> {
        let Some(mount) = &self.mounted.mount else { return Candidates::default() };
        let options = overlay::parse(mount.super_options.as_ref());
        let overlay_root = self.mounted.mount_root(self);
        let layer = self.exe.handle().ok().and_then(|h| h.parse_layer().ok().flatten());
        let mapped = if layer.is_none() { self.mapped_files(file_systems) } else { Vec::new() };
        let stack = Stack::new(
            self.host,
            (self.root, self.mounted.ns_root.as_ref()),
            options,
            overlay_root.as_ref(),
            file_systems,
            mount.point.clone(),
        )
        .holding(mapped.iter().find_map(|(o, _)| o.path().ok().flatten()).as_ref());
        let path = self.mounted.path_in_fs(&self.text);
        let list = Vec::new();
        let mut candidates = Candidates { list, ..Candidates::default() };
        match &layer {
            Some(layer) => {
                self.by_handle(&mut candidates, layer, &stack, path.as_ref(), file_systems)
            }
            None => self.by_walk(&mut candidates, &stack, path.as_ref(), file_systems, NESTED),
        }
        // Nothing came of the handle: the layers may still be looked through.
        if candidates
            .list
            .iter()
            .all(|c| c.role != Some(FileRole::Lower) && c.role != Some(FileRole::Upper))
        {
            self.by_walk(&mut candidates, &stack, path.as_ref(), file_systems, NESTED);
        }
        if !self.mounted.same_ns
            && layer.is_none()
            && let Some(other) = stack.as_target_sees()
        {
            // A text may lead somewhere in the host's root and mean another place in the target's.
            self.by_walk(&mut candidates, &other, path.as_ref(), file_systems, NESTED);
        }
        add_mapped(&mut candidates, mapped, &stack);
        for candidate in &mut candidates.list {
            self.prefer_own_name(candidate, &stack, path.as_ref());
        }
        candidates.stack = Some(stack);
        candidates
    }

    /// The layer's handle that the kernel gives, and what may lie over a lower file.
    fn by_handle(
        &self,
        candidates: &mut Candidates<'_>,
        layer: &LayerHandle,
        stack: &Stack<'_>,
        path: Option<&BString>,
        file_systems: &FileSystems<'_>,
    ) {
        let before = candidates.list.len();
        self.layer_files(candidates, layer, file_systems);
        if layer.upper {
            return;
        }
        candidates.lower_is_shown = true;
        // The content of such a file may lie in a layer further down.
        let marked = candidates.list[before..]
            .iter()
            .find_map(|c| walk::metadata_only(&c.object, stack.options.userxattr));
        if let Some(redirect) = marked {
            candidates.lower_is_shown = false;
            let absolute = redirect.filter(|r| r.starts_with(b"/"));
            let data = absolute.map(|r| walk::data_files(self.host, stack, r.as_ref()));
            let below = path.map(|path| walk::walk(self.host, stack, path.as_ref()));
            let content = data.into_iter().flatten().chain(below.into_iter().flatten());
            let content = content.filter(|f| !f.metadata_only).map(|f| found_in_layer(f, true));
            candidates.list.splice(before..before, content);
        }
        let upper = path.and_then(|path| {
            let dir = stack.upper()?;
            let object = self.host.lookup(&dir.object, path.as_ref(), Way::Plain).ok()?;
            object.look().ok().filter(whose_kernel::object::Look::is_file)?;
            // A copy of the metadata alone is no copy of the content.
            let copied = walk::metadata_only(&object, stack.options.userxattr).is_none();
            copied.then(|| Candidate::new(object, FileRole::Upper, true))
        });
        if let Some(mut upper) = upper {
            (candidates.lower_is_shown, candidates.copied) = (false, true);
            upper.says_copied = true;
            candidates.list.push(upper);
        }
        if let Some(entry) = self.index_entry(stack, layer) {
            (candidates.lower_is_shown, candidates.copied) = (false, true);
            candidates.list.push(entry);
        }
    }

    /// `index=on`: the copy of a hard-linked file lies in the work directory under its lower's
    /// handle, in hexadecimal, whichever of its names was written to.
    fn index_entry(&self, stack: &Stack<'_>, layer: &LayerHandle) -> Option<Candidate> {
        let work = stack.work()?;
        let handle = self.exe.handle().ok()?;
        let origin = handle.bytes.get(3..)?;
        let length = 21 + layer.inner.bytes.len();
        let hex = data_encoding::HEXLOWER.encode(origin.get(..length)?);
        let name = BString::from(format!("index/{hex}"));
        let object = self.host.lookup(&work.object, name.as_ref(), Way::Plain).ok()?;
        object.look().ok().filter(whose_kernel::object::Look::is_file)?;
        let mut entry = Candidate::new(object, FileRole::UpperIndex, true);
        entry.says_copied = true;
        Some(entry)
    }

    /// Before 6.8 maps shows the layer's device and inode. ext4 and btrfs open a handle of generation
    /// 0; the kernel's path is then the file's.
    fn mapped_files(&self, file_systems: &FileSystems<'_>) -> Vec<(Object, bool)> {
        let Some(mapping) = self.memory.main() else { return Vec::new() };
        let of_overlay = self.mounted.mount.as_ref().is_some_and(|m| m.device == mapping.device);
        let Ok(ino) = u32::try_from(mapping.inode) else { return Vec::new() };
        if of_overlay {
            return Vec::new();
        }
        // FILEID_INO32_GEN of include/linux/exportfs.h.
        let bytes = [ino.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
        let handle = whose_kernel::parse::handle::Handle { kind: 1, bytes };
        let is_it = |o: &Object| {
            o.look().is_ok_and(|l| (l.device, l.ino) == (mapping.device, mapping.inode))
        };
        file_systems.open(&handle, Some(mapping.device), &is_it)
    }

    /// No handle is given: every regular file that the layers have at the path.
    fn by_walk(
        &self,
        candidates: &mut Candidates<'_>,
        stack: &Stack<'_>,
        path: Option<&BString>,
        file_systems: &FileSystems<'_>,
        nested: usize,
    ) {
        let Some(path) = path else { return };
        let found = walk::walk(self.host, stack, path.as_ref());
        for file in found {
            let (found, on_host) = self.on_host(file.object, file_systems);
            let file = Found { object: found, ..file };
            // A layer that lies on an overlay itself: its file is a merged one.
            if let Some(below) = self.below(&file.object, file_systems, nested) {
                candidates.list.extend(below);
                continue;
            }
            let copied = file.place == Where::Upper
                && walk::was_copied(&file.object, stack.options.userxattr);
            let mut candidate = found_in_layer(file, on_host);
            candidate.says_copied = copied;
            candidates.list.push(candidate);
        }
    }

    /// The same file through a mount that the host has, so that its path is the host's.
    fn on_host(&self, object: Object, file_systems: &FileSystems<'_>) -> (Object, bool) {
        let (Ok(look), Ok(handle)) = (object.look(), object.handle()) else {
            return (object, false);
        };
        let mounts = self.host.mounts().unwrap_or_default();
        if mounts.iter().any(|m| look.mount == Some(u64::from(m.id))) {
            return (object, true);
        }
        let is_it = |o: &Object| o.look().is_ok_and(|l| l.is(&look));
        let found = file_systems.open(&handle, None, &is_it).into_iter().find(|(_, host)| *host);
        found.unwrap_or((object, false))
    }

    /// The files behind a file that is itself on an overlay; `None` when it is on none.
    fn below(
        &self,
        object: &Object,
        file_systems: &FileSystems<'_>,
        nested: usize,
    ) -> Option<Vec<Candidate>> {
        let look = object.look().ok()?;
        let mount_id = look.mount?;
        let mounts = self.host.mounts().unwrap_or_default();
        let all = mounts.iter().chain(&self.mounted.target_mounts);
        let mount =
            all.into_iter().find(|m| u64::from(m.id) == mount_id && m.fs_type == "overlay")?;
        let mut list = Vec::new();
        if nested == 0 {
            return Some(list);
        }
        let layer = object.handle().ok().and_then(|h| h.parse_layer().ok().flatten());
        let path = object.path().ok().flatten();
        let inner = path.as_ref().and_then(|p| {
            let rest = whose_kernel::parse::mountinfo::strip(&mount.point, p)?;
            Some(joined(&mount.root, rest))
        });
        let stack = Stack::new(
            self.host,
            (self.root, self.mounted.ns_root.as_ref()),
            overlay::parse(mount.super_options.as_ref()),
            None,
            file_systems,
            mount.point.clone(),
        );
        let mut candidates = Candidates::default();
        if let Some(layer) = layer {
            self.by_handle(&mut candidates, &layer, &stack, inner.as_ref(), file_systems);
        } else {
            self.by_walk(&mut candidates, &stack, inner.as_ref(), file_systems, nested - 1);
        }
        for mut candidate in candidates.list {
            // What is known of the outer overlay's handle says nothing of this one's.
            candidate.is_handle = false;
            list.push(candidate);
        }
        Some(list)
    }

    /// The name that the overlay has for it: of several hard links any may come back.
    fn prefer_own_name(
        &self,
        candidate: &mut Candidate,
        stack: &Stack<'_>,
        path: Option<&BString>,
    ) {
        let Some(path) = path else { return };
        let named = candidate.object.path().ok().flatten();
        let many = candidate.object.look().is_ok_and(|l| l.nlink > 1);
        if named.as_ref().is_some_and(|n| n.ends_with(path.as_bytes()))
            || (named.is_some() && !many)
        {
            return;
        }
        let dirs: Vec<&BStr> = match candidate.role {
            Some(FileRole::Upper) => stack.upper().iter().map(|d| d.path.as_bstr()).collect(),
            Some(FileRole::Lower) => {
                stack.lowers().iter().flatten().map(|d| d.path.as_bstr()).collect()
            }
            _ => Vec::new(),
        };
        let Ok(look) = candidate.object.look() else { return };
        candidate.better_name = dirs.into_iter().map(|dir| joined(dir, path)).find(|name| {
            let there = self.host.lookup(self.root, name.as_ref(), Way::Plain);
            there.ok().and_then(|o| o.look().ok()).is_some_and(|l| l.is(&look))
        });
    }
}

/// The files that maps names, unless they were found in the layers. Which layer one is in is told by
/// the directory that holds it, or not at all.
fn add_mapped(candidates: &mut Candidates<'_>, files: Vec<(Object, bool)>, stack: &Stack<'_>) {
    for (object, on_host) in files {
        let Ok(look) = object.look() else { continue };
        if candidates.list.iter().any(|c| c.object.look().is_ok_and(|l| l.is(&look))) {
            continue;
        }
        let path = object.path().ok().flatten();
        let role = path.and_then(|path| stack.role_beneath(path.as_ref()));
        let upper = matches!(role, Some(FileRole::Upper | FileRole::UpperIndex));
        let copied = upper && walk::was_copied(&object, stack.options.userxattr);
        let mut candidate = Candidate::new(object, role, on_host);
        candidate.says_copied = copied;
        candidates.list.push(candidate);
    }
}

fn found_in_layer(found: Found, on_host: bool) -> Candidate {
    let role = match found.place {
        Where::Upper => FileRole::Upper,
        Where::Lower => FileRole::Lower,
        Where::Data => FileRole::Data,
    };
    Candidate::new(found.object, role, on_host)
}
