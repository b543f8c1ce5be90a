//! Files that may be the one that runs, layer files before merged ones.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Host;
use whose_kernel::object::Object;
use whose_kernel::parse::handle::LayerHandle;
use whose_kernel::parse::mountinfo::{Mount, strip};
use whose_kernel::parse::overlay;
use whose_kernel::worker::exam::Way;

use super::filesystems::FileSystems;
use super::mounted::DELETED;
use super::stack::{Stack, Union, joined};
use super::walk::{self, Found, Where};
use super::{Look1, aufs, fuse};
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
    /// The overlay's path that led to it, where one did.
    pub(super) by_path: Option<BString>,
    /// The name the overlay knows it by, preferred among hard links.
    pub(super) better_name: Option<BString>,
    /// Names to fall back on: the kernel tells none that is longer than a page.
    pub(super) other_names: Vec<BString>,
}

impl Candidate {
    pub(super) fn new(object: Object, role: impl Into<Option<FileRole>>, on_host: bool) -> Self {
        Self {
            object,
            role: role.into(),
            is_handle: false,
            is_sure: false,
            is_merged: false,
            on_host,
            says_copied: false,
            by_path: None,
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
    /// The file as `exe` opens it: it may have no other name.
    pub(super) last: Option<Candidate>,
    /// The overlay's directories, where it is one.
    pub(super) stack: Option<Stack<'h>>,
    /// Why candidates could not be looked for.
    pub(super) problem: Option<Cow<'static, str>>,
    /// Whether nothing lies over the lower file: no upper one, no index entry, no metacopy.
    pub(super) lower_is_shown: bool,
    /// Whether the handle leads to the content, and not to metadata alone.
    pub(super) handle_is_whole: bool,
    /// Whether the handle is a lower file's.
    pub(super) handle_is_lower: bool,
    /// Whether it is, though a copy of the file is at its path.
    pub(super) copied: bool,
    /// Whether the kernel gives a layer's handle that no file system here knows.
    pub(super) handle_fits_nothing: bool,
}

/// Overlays on overlays followed at most; the kernel stacks two.
const NESTED: usize = 4;

impl<'h> Candidates<'h> {
    pub(super) fn of(look: &'h Look1<'h>, file_systems: &FileSystems<'_>) -> Self {
        let kind = look.mounted.mount.as_ref().map(|m| m.fs_type.as_bytes().to_vec());
        let fuse = kind.as_deref().is_some_and(is_fuse);
        let overlay = look.mounted.overlay();
        let aufs = look.mounted.mount.as_ref().filter(|m| m.fs_type == aufs::TYPE);
        let mut candidates = match (overlay, aufs) {
            (Some(mount), _) => look.overlay(mount, file_systems),
            (None, Some(mount)) => look.aufs(mount, file_systems),
            _ if fuse => look.fuse(),
            _ => look.plain(file_systems),
        };
        if let Some(object) = look.again().filter(|_| !fuse) {
            let nowhere = kind.is_none() && object.handle().is_ok_and(|h| h.is_of_a_view());
            let merged = overlay.is_some() || aufs.is_some() || nowhere;
            let role = if merged { FileRole::Merged } else { look.direct_role() };
            let mut last = Candidate::new(object, role, look.mounted.same_ns);
            last.is_merged = merged;
            last.is_handle = !merged;
            last.is_sure = !merged;
            last.other_names = look.host_text().into_iter().collect();
            candidates.last = Some(last);
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
            layer_files(&mut candidates, &layer, opened(&layer, file_systems));
            return candidates;
        }
        let is_it = |o: &Object| o.look().is_ok_and(|l| l.is(&self.exe_look));
        // Another subvolume may have a file of the same number: then the device differs.
        let device = self.mounted.mount.as_ref().map(|m| m.device);
        for (object, on_host) in file_systems.open(&handle, device, &is_it) {
            let mut candidate = Candidate::new(object, self.direct_role(), on_host);
            (candidate.is_handle, candidate.is_sure) = (true, true);
            candidate.other_names = self.names_by_mount_table();
            if self.exe_look.nlink > 1 {
                // Of several hard links any may have come back: its own name is preferred.
                let is_it = |name: &&BString| {
                    let there = self.host.lookup(self.root, name.as_ref(), Way::Plain);
                    there.ok().and_then(|o| o.look().ok()).is_some_and(|l| l.is(&self.exe_look))
                };
                candidate.better_name = candidate.other_names.iter().find(is_it).cloned();
            }
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
        let mounts = self.host.mounts().unwrap_or_default();
        let same = || mounts.iter().filter(|m| m.device == mount.device);
        let name = |m: &Mount, inner: &BString| Some(joined(&m.point, strip(&m.root, inner)?));
        let paths = self.mounted.paths_in_fs(&self.text);
        paths.iter().flat_map(|inner| same().filter_map(|m| name(m, inner))).collect()
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

    fn overlay(&'h self, mount: &Mount, file_systems: &FileSystems<'_>) -> Candidates<'h> {
        let overlay_root = self.mounted.mount_root(self, mount);
        let layer = self.exe_layer();
        // Without a handle of the layer's file maps may show its inode.
        let found = match &layer {
            Some(layer) => opened(layer, file_systems),
            None => self.mapped_files(file_systems),
        };
        let stack = Stack::new(
            self.host,
            (self.root, self.mounted.ns_root.as_ref()),
            overlay::parse(mount.super_options.as_ref()),
            overlay_root.as_ref(),
            file_systems,
            self.near(mount, &found),
        );
        let mut candidates = Candidates::default();
        match layer {
            Some(layer) => {
                // A name that is gone may have been a copy's: its handle is the lower's for ever.
                let paths = self.overlay_paths();
                let known = !paths.is_empty() && !self.is_gone();
                self.by_handle(&mut candidates, (&layer, found), &stack, &paths);
                candidates.lower_is_shown &= known && self.mounted.mount.is_some();
            }
            None => add_mapped(self.host, &mut candidates, found, &stack),
        }
        for candidate in &mut candidates.list {
            self.prefer_own_name(candidate, &stack);
        }
        candidates.stack = Some(stack);
        candidates
    }

    /// Where an overlay is mounted and a file of its layers lies: what texts may be relative to.
    fn near(&self, mount: &Mount, found: &[(Object, bool)]) -> Vec<BString> {
        let files = found.iter().filter_map(|(file, _)| file.path().ok()?);
        self.mounted.points(self.host, mount).into_iter().chain(files).collect()
    }

    /// The layer's handle that the kernel gives for `exe`.
    pub(super) fn exe_layer(&self) -> Option<LayerHandle> {
        self.exe.handle().ok().and_then(|h| h.parse_layer().ok().flatten())
    }

    fn overlay_paths(&self) -> Vec<BString> {
        self.mounted.paths_in_fs(&self.text)
    }

    /// Whether the kernel says that the name was removed.
    fn is_gone(&self) -> bool {
        self.text.ends_with(DELETED) && !self.mounted.is_literal()
    }

    /// When none of the files that the kernel's handles lead to is the one: those that the
    /// overlay's rules and the inode's number lead to.
    pub(super) fn wider(
        &self,
        stack: &Stack<'_>,
        known: &[BString],
        file_systems: &FileSystems<'_>,
    ) -> Vec<Candidate> {
        let mut candidates = Candidates::default();
        let mut paths = self.overlay_paths();
        if self.mounted.mount.is_none() {
            // Where the mount began is not known. The layer's path is the overlay's, too, as long as
            // nothing was renamed.
            let rest = known.iter().filter_map(|p| stack.layer_of(p.as_ref()));
            paths.extend(rest.map(|(_, rest)| rest.to_owned()));
        }
        let other = if self.mounted.same_ns { None } else { stack.as_target_sees() };
        for path in &paths {
            self.by_walk(&mut candidates, stack, path, file_systems, NESTED);
            if let Some(other) = &other {
                // A text may lead somewhere in the host's root and mean another place in the target's.
                self.by_walk(&mut candidates, other, path, file_systems, NESTED);
            }
        }
        if self.memory.has_pages() && stack.union != Union::Aufs {
            // Many file systems may have a file of this number: only the page can tell.
            self.by_number(&mut candidates, stack, file_systems);
        }
        for candidate in &mut candidates.list {
            self.prefer_own_name(candidate, stack);
        }
        candidates.list
    }

    /// The layer's handle that the kernel gives, and what may lie over a lower file.
    fn by_handle(
        &self,
        candidates: &mut Candidates<'_>,
        (layer, found): (&LayerHandle, Vec<(Object, bool)>),
        stack: &Stack<'_>,
        paths: &[BString],
    ) {
        let userxattr = stack.options.userxattr;
        let before = candidates.list.len();
        layer_files(candidates, layer, found);
        // The content of such a file may lie in a layer further down.
        let mut content = Vec::new();
        // An upper file has a handle of its own only when there is no lower one.
        candidates.handle_is_whole = layer.upper;
        for file in &candidates.list[before..] {
            if !walk::is_metadata_only(self.host, &file.object, userxattr) {
                candidates.handle_is_whole |= file.is_handle;
                continue;
            }
            candidates.lower_is_shown = false;
            let path = file.object.path().ok().flatten().unwrap_or_default();
            let found = match stack.layer_of(path.as_ref()) {
                Some((at, rest)) => walk::walk_from(self.host, stack, at, rest),
                None => walk::content_of(self.host, stack, &file.object),
            };
            content.extend(found.into_iter().filter(|f| !f.metadata_only));
        }
        let is_shown = content.is_empty();
        candidates.handle_is_whole |= !is_shown && stack.is_whole();
        let content = content.into_iter().map(|f| found_in_layer(f, true));
        candidates.list.splice(before..before, content);
        if layer.upper {
            return;
        }
        // Where its copy would lie has to be known, and that it would be found there.
        let named = !paths.is_empty() && self.is_named();
        candidates.lower_is_shown = is_shown && named && stack.upper_is_sure();
        candidates.handle_is_lower = true;
        for path in paths {
            let Some(mut upper) = self.upper_file(stack, path.as_ref()) else { continue };
            candidates.lower_is_shown = false;
            upper.says_copied = walk::was_copied(self.host, &upper.object, userxattr);
            candidates.copied |= upper.says_copied;
            candidates.list.push(upper);
        }
        if let Some(entry) = self.index_entry(stack, layer) {
            (candidates.lower_is_shown, candidates.copied) = (false, true);
            candidates.list.push(entry);
        }
    }

    /// The upper file at an overlay's path. A copy of the metadata alone is no copy of the content.
    fn upper_file(&self, stack: &Stack<'_>, path: &BStr) -> Option<Candidate> {
        let dir = stack.upper()?;
        let object = self.host.lookup(&dir.object, path, Way::Plain).ok()?;
        object.look().ok().filter(whose_kernel::object::Look::is_file)?;
        let metadata = walk::is_metadata_only(self.host, &object, stack.options.userxattr);
        (!metadata).then(|| Candidate::new(object, FileRole::Upper, true))
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
        path: &BString,
        file_systems: &FileSystems<'_>,
        nested: usize,
    ) {
        let found = walk::walk(self.host, stack, path.as_ref());
        for file in found {
            let (found, on_host) = self.on_host(file.object, file_systems);
            let file = Found { object: found, ..file };
            // A layer that lies on an overlay itself: its file is a merged one.
            if let Some(below) = self.below(&file.object, file_systems, nested) {
                let led = |mut c: Candidate| {
                    c.by_path = Some(path.clone());
                    c
                };
                candidates.list.extend(below.into_iter().map(led));
                continue;
            }
            let copied = file.place == Where::Upper
                && walk::was_copied(self.host, &file.object, stack.options.userxattr);
            let mut candidate = found_in_layer(file, on_host);
            candidate.says_copied = copied;
            candidate.by_path = Some(path.clone());
            candidates.list.push(candidate);
        }
    }

    /// Files of the number that `exe` or maps has: on an overlay that is the layer's, of a lower
    /// one's copy the lower's. Only where a file system opens a handle without a generation.
    fn by_number(
        &self,
        candidates: &mut Candidates<'_>,
        stack: &Stack<'_>,
        file_systems: &FileSystems<'_>,
    ) {
        let dirs = stack.upper().into_iter().chain(stack.lowers().iter().flatten());
        let dirs: Vec<&Object> =
            dirs.chain(stack.data().iter().flatten()).map(|d| &d.object).collect();
        let mut numbers = vec![self.exe_look.ino];
        numbers.extend(self.memory.main().map(|m| m.inode).filter(|n| *n != self.exe_look.ino));
        for number in numbers {
            for (object, on_host) in file_systems.by_number(number, &dirs) {
                let path = object.path().ok().flatten().unwrap_or_default();
                let upper = stack.layer_of(path.as_ref()).is_some_and(|(at, _)| at == 0);
                let role = if upper { FileRole::Upper } else { FileRole::Lower };
                let mut candidate = Candidate::new(object, role, on_host);
                candidate.says_copied = upper
                    && walk::was_copied(self.host, &candidate.object, stack.options.userxattr);
                candidates.list.push(candidate);
            }
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
        let Some(mount) = self.mounted.mount_at(self.host, object) else {
            // The view of an overlay in no table that can be read is no layer's file.
            return object.handle().is_ok_and(|h| h.is_of_a_view()).then(Vec::new);
        };
        if mount.fs_type != "overlay" {
            return None;
        }
        if nested == 0 {
            return Some(Vec::new());
        }
        let layer = object.handle().ok().and_then(|h| h.parse_layer().ok().flatten());
        let path = object.path().ok().flatten();
        let inner: Vec<BString> = path
            .iter()
            .filter_map(|p| Some(joined(&mount.root, strip(&mount.point, p)?)))
            .collect();
        let found = layer.as_ref().map(|l| opened(l, file_systems)).unwrap_or_default();
        let stack = Stack::new(
            self.host,
            (self.root, self.mounted.ns_root.as_ref()),
            overlay::parse(mount.super_options.as_ref()),
            None,
            file_systems,
            self.near(&mount, &found),
        );
        let mut candidates = Candidates::default();
        if let Some(layer) = layer {
            self.by_handle(&mut candidates, (&layer, found), &stack, &inner);
        }
        for path in &inner {
            self.by_walk(&mut candidates, &stack, path, file_systems, nested - 1);
        }
        for candidate in &mut candidates.list {
            // What is known of the outer overlay's handle says nothing of this one's.
            candidate.is_handle = false;
        }
        Some(candidates.list)
    }

    /// The name that the overlay has for it: of several hard links any may come back.
    fn prefer_own_name(&self, candidate: &mut Candidate, stack: &Stack<'_>) {
        let paths = self.overlay_paths();
        let named = candidate.object.path().ok().flatten();
        let many = candidate.object.look().is_ok_and(|l| l.nlink > 1);
        if named.is_some() && !many
            || named.as_ref().is_some_and(|n| paths.iter().any(|p| n.ends_with(p.as_bytes())))
        {
            return;
        }
        let dirs: Vec<&BStr> = match candidate.role {
            Some(FileRole::Upper) => stack.upper().iter().map(|d| d.path.as_bstr()).collect(),
            Some(FileRole::Lower) => {
                stack.lowers().iter().flatten().map(|d| d.path.as_bstr()).collect()
            }
            // Found by the inode that maps shows, and too deep for the kernel to tell where.
            None => {
                let all = stack.upper().into_iter().chain(stack.lowers().iter().flatten());
                all.map(|d| d.path.as_bstr()).collect()
            }
            _ => Vec::new(),
        };
        let Ok(look) = candidate.object.look() else { return };
        let names = paths.iter().flat_map(|path| dirs.iter().map(move |dir| joined(dir, path)));
        candidate.better_name = names.into_iter().find(|name| {
            let there = self.host.lookup(self.root, name.as_ref(), Way::Plain);
            there.ok().and_then(|o| o.look().ok()).is_some_and(|l| l.is(&look))
        });
        if let (None, Some(name)) = (candidate.role, &candidate.better_name) {
            candidate.role = stack.role_beneath(name.as_ref());
        }
    }
}

/// The files that an overlay's handle leads to.
fn opened(layer: &LayerHandle, file_systems: &FileSystems<'_>) -> Vec<(Object, bool)> {
    file_systems.open(&layer.inner, None, &|o: &Object| o.look().is_ok_and(|l| l.is_file()))
}

/// Lists them. A handle that fits several file systems says nothing for sure.
fn layer_files(candidates: &mut Candidates<'_>, layer: &LayerHandle, found: Vec<(Object, bool)>) {
    let only = found.len() == 1;
    candidates.handle_fits_nothing = found.is_empty();
    let role = if layer.upper { FileRole::Upper } else { FileRole::Lower };
    for (object, on_host) in found {
        let mut candidate = Candidate::new(object, role, on_host);
        (candidate.is_handle, candidate.is_sure) = (only, only && layer.upper);
        candidates.list.push(candidate);
    }
}

/// The files that maps names, unless they were found in the layers. Which layer one is in is told by
/// the directory that holds it, or not at all.
fn add_mapped(
    host: &Host,
    candidates: &mut Candidates<'_>,
    files: Vec<(Object, bool)>,
    stack: &Stack<'_>,
) {
    for (object, on_host) in files {
        let Ok(look) = object.look() else { continue };
        if candidates.list.iter().any(|c| c.object.look().is_ok_and(|l| l.is(&look))) {
            continue;
        }
        let path = object.path().ok().flatten();
        let role = path.and_then(|path| stack.role_beneath(path.as_ref()));
        let upper = matches!(role, Some(FileRole::Upper | FileRole::UpperIndex));
        let copied = upper && walk::was_copied(host, &object, stack.options.userxattr);
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
