//! The mount that a program was started from, and what became of its name.

use std::collections::BTreeSet;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Class;
use whose_kernel::Host;
use whose_kernel::object::{Look, Object};
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::worker::exam::Way;

use super::stack::joined;
use super::{Look1, Subject};
use crate::model::FileState;

/// What the kernel appends to the path of a file without a name.
pub(super) const DELETED: &[u8] = b" (deleted)";
/// Mount points of one file system looked at, at most.
const POINTS: usize = 16;
/// Directories between a chroot and the namespace's root, at most.
const DEEPEST: usize = 64;

/// Where a program lies among the mounts.
pub(super) struct Mounted {
    /// The mount of `exe`; `None` for a detached one and for what is on none.
    pub(super) mount: Option<Mount>,
    /// Where that is none: another mount of the overlay that the program is on.
    sibling: Option<Mount>,
    /// Whether the process shares this program's mount namespace.
    pub(super) same_ns: bool,
    /// Mounts that the process sees, their points from the root of its mount namespace.
    pub(super) target_mounts: Vec<Mount>,
    /// Its root directory, and that of its mount namespace.
    root: Option<Object>,
    pub(super) ns_root: Option<Object>,
    /// Path of the process's root from that of the namespace; `/` without a chroot.
    root_text: BString,
    ns: Option<u64>,
    ns_object: Option<Object>,
    /// Whether the file is really called `... (deleted)`: then the name is there.
    literal: bool,
}

impl Mounted {
    /// `text` is what the kernel calls the program.
    pub(super) fn of(
        host: &Host,
        subject: &Subject<'_>,
        exe: &Object,
        look: &Look,
        text: &BString,
    ) -> Self {
        let dir = subject.dir;
        let ns = dir.namespace("mnt").ok();
        let root_text = dir.link_text("root").unwrap_or_else(|_| "/".into());
        let root = dir.object("root").ok();
        let ns_root = root.as_ref().and_then(|r| top(host, r));
        let mut mounted = Self {
            mount: None,
            sibling: None,
            same_ns: ns.is_some() && ns == host.own_mount_namespace(),
            target_mounts: dir.mountinfo().unwrap_or_default(),
            root,
            ns_root,
            root_text,
            ns,
            ns_object: dir.object("ns/mnt").ok(),
            literal: false,
        };
        mounted.count_points_from_ns_root();
        // A chroot hides mounts from the process's table; another process may show them.
        let init = || {
            let init = host.process(subject.init?).ok()?;
            (init.namespace("mnt").ok() == ns).then_some(())?;
            init.mountinfo().ok()
        };
        if mounted.root_text != "/" {
            let seen: BTreeSet<u32> = mounted.target_mounts.iter().map(|m| m.id).collect();
            let more = init().unwrap_or_default();
            mounted.target_mounts.extend(more.into_iter().filter(|m| !seen.contains(&m.id)));
        }
        mounted.mount = mounted.mount_at(host, exe);
        mounted.literal = text.ends_with(DELETED)
            && !mounted.asks_elsewhere(text.as_ref())
            && mounted.ns_root.as_ref().is_some_and(|root| {
                let there = host.lookup(root, text.as_ref(), Way::Plain);
                there.ok().and_then(|o| o.look().ok()).is_some_and(|l| l.is(look))
            });
        mounted
    }

    /// Where the program's own mount is none that is known, looks for another one of its overlay: of
    /// the device that `exe` has, or that maps shows for the program.
    pub(super) fn find_sibling(&mut self, host: &Host, look: &Look, shown: Option<(u32, u32)>) {
        if self.mount.is_some() {
            return;
        }
        let devices = [shown, Some(look.device)];
        let is_it = |m: &&Mount| m.fs_type == "overlay" && devices.contains(&Some(m.device));
        let hosts = host.mounts().unwrap_or_default();
        self.sibling = hosts.iter().chain(&self.target_mounts).find(is_it).cloned();
    }

    /// mountinfo has its points from the process's own root.
    fn count_points_from_ns_root(&mut self) {
        if self.root_text == "/" {
            return;
        }
        for mount in &mut self.target_mounts {
            mount.point = if mount.point == "/" {
                self.root_text.clone()
            } else {
                joined(&self.root_text, &mount.point)
            };
        }
    }

    /// Whether only who is privileged on the host mounts in the process's namespace: then the texts of
    /// its mounts say what they say to be helpful, and not to mislead.
    pub(super) fn is_administered(&self) -> bool {
        self.ns_object.as_ref().is_some_and(Object::is_of_initial_user_namespace)
    }

    /// The mount that an object is on, if it is the host's or in the process's namespace.
    pub(super) fn mount_at(&self, host: &Host, object: &Object) -> Option<Mount> {
        let id = object.look().ok()?.mount?;
        let is_it = |m: &&Mount| u64::from(m.id) == id;
        let unique = || {
            let ns = self.ns_object.as_ref()?;
            host.mount_in(object.unique_mount().ok()?, ns).ok()
        };
        let seen = self.target_mounts.iter().find(is_it).cloned();
        seen.or_else(unique).or_else(|| host.mounts().ok()?.iter().find(is_it).cloned())
    }

    /// The mount that tells of the program's overlay: its own one, or that of another place.
    pub(super) fn overlay(&self) -> Option<&Mount> {
        self.mount.as_ref().or(self.sibling.as_ref()).filter(|m| m.fs_type == "overlay")
    }

    /// Where a file system is mounted, for the process and for the host.
    pub(super) fn points(&self, host: &Host, mount: &Mount) -> Vec<BString> {
        let all = self.target_mounts.iter().chain(host.mounts().unwrap_or_default());
        let mut points = vec![mount.point.clone()];
        for other in all.filter(|m| m.device == mount.device) {
            if points.len() == POINTS {
                break;
            }
            if !points.contains(&other.point) {
                points.push(other.point.clone());
            }
        }
        points
    }

    /// The namespace's name, as its link reads.
    pub(super) fn ns_text(&self) -> Option<BString> {
        self.ns.map(|n| format!("mnt:[{n}]").into())
    }

    /// The path from the process's own root, and from the namespace's where that is another.
    /// `literal`: the file is really called so.
    pub(super) fn names(&self, text: &BString, literal: bool) -> (BString, Option<BString>) {
        let plain = if literal { text.clone() } else { without_deleted(text) };
        if self.root_text == "/" {
            return (plain, None);
        }
        match strip(&self.root_text, &plain) {
            Some(rest) if !rest.is_empty() => (rest.to_owned(), Some(plain)),
            _ => (plain, None),
        }
    }

    /// Whether the file is known to be really called `... (deleted)`.
    pub(super) fn is_literal(&self) -> bool {
        self.literal
    }

    /// The mount point from the process's root.
    pub(super) fn point_inside(&self, mount: &Mount) -> BString {
        let inside = strip(&self.root_text, &mount.point);
        inside.map_or_else(
            || mount.point.clone(),
            |p| if p.is_empty() { "/".into() } else { p.into() },
        )
    }

    /// The program's path from the root of its file system, the likelier one first: a name may end
    /// as the kernel marks one that is gone. Of a detached mount only the end of the path is known.
    pub(super) fn paths_in_fs(&self, text: &BString) -> Vec<BString> {
        let stripped = without_deleted(text);
        let mut texts = if self.literal { vec![text] } else { vec![&stripped] };
        if !self.literal && stripped != *text {
            texts.push(text);
        }
        let Some(mount) = &self.mount else { return texts.into_iter().cloned().collect() };
        let root = mount.root.strip_suffix(b"//deleted").unwrap_or(&mount.root);
        let inner = |text: &BString| {
            let rest = strip(&mount.point, text)?;
            Some(if rest.is_empty() { root.into() } else { joined(root, rest) })
        };
        texts.into_iter().filter_map(inner).collect()
    }

    /// The root directory of a file system, where one of its mounts shows it.
    pub(super) fn mount_root(&self, look: &Look1<'_>, mount: &Mount) -> Option<Object> {
        let whole = |m: &&Mount| m.device == mount.device && m.root == "/";
        let seen = self.mount.iter().chain(&self.target_mounts).filter(whole).take(POINTS);
        let seen = seen.filter_map(|m| Some((m, self.ns_root.as_ref()?)));
        let hosts = look.host.mounts().unwrap_or_default().iter().filter(whole).take(POINTS);
        seen.chain(hosts.map(|m| (m, look.root))).find_map(|(m, root)| {
            let object = look.host.lookup(root, m.point.as_ref(), Way::Plain).ok()?;
            let id = object.look().ok()?.mount;
            id.is_none_or(|id| id == u64::from(m.id)).then_some(object)
        })
    }

    /// `/proc/PID/root/...`, where that opens the same file.
    pub(super) fn via_proc(&self, look: &Look1<'_>, inside: &BStr) -> Option<BString> {
        let from_ns_root =
            if self.root_text == "/" { inside.into() } else { joined(&self.root_text, inside) };
        if self.asks_elsewhere(from_ns_root.as_ref()) {
            return None;
        }
        let there = look.host.lookup(self.root.as_ref()?, inside, Way::Plain).ok()?.look().ok()?;
        (there.is(&look.exe_look) && there.is_file()).then(|| {
            let root = look.host.shown(format!("proc/{}/root", look.subject.dir.pid()).as_bytes());
            joined(&root, inside)
        })
    }

    /// The merged view's path on the host, where the host has that file system mounted too.
    pub(super) fn merged(&self, look: &Look1<'_>) -> Option<BString> {
        let is_union = |m: &&Mount| m.fs_type == "overlay" || m.fs_type == super::aufs::TYPE;
        let mount = self.mount.as_ref().filter(is_union)?;
        let mounts = look.host.mounts().ok()?;
        let open = |m: &Mount, inner: &BString| {
            let path = joined(&m.point, strip(&m.root, inner)?);
            let there = look.host.lookup(look.root, path.as_ref(), Way::Plain).ok()?;
            there.look().ok().filter(|l| l.is(&look.exe_look))?;
            Some(path)
        };
        let same = || mounts.iter().filter(|m| m.device == mount.device);
        let paths = self.paths_in_fs(&look.text);
        paths.iter().find_map(|inner| same().find_map(|m| open(m, inner)))
    }

    /// The image file when the file system lies on a loop device.
    pub(super) fn image_file(&self, host: &Host) -> Option<BString> {
        Self::image_behind(host, self.mount.as_ref()?)
    }

    /// The same for the file system with a device number that the process or the host has mounted.
    pub(super) fn image_of(&self, host: &Host, device: (u32, u32)) -> Option<BString> {
        let all = host.mounts().unwrap_or_default().iter().chain(&self.target_mounts);
        Self::image_behind(host, all.into_iter().find(|m| m.device == device)?)
    }

    fn image_behind(host: &Host, mount: &Mount) -> Option<BString> {
        let name =
            mount.source.strip_prefix(b"/dev/loop").filter(|n| n.iter().all(u8::is_ascii_digit))?;
        let path = [b"sys/block/loop", name, b"/loop/backing_file"].concat();
        let mut text = host.root().read(&path, 8192).ok()?;
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// What became of the name in `exe`: it is looked up from the namespace's root. `None` where that
    /// would ask a server that may never answer, unless it just did. `literal`: the file is really
    /// called so.
    pub(super) fn state(
        &self,
        look: &Look1<'_>,
        text: &BString,
        (answers, literal): (bool, bool),
    ) -> Option<FileState> {
        let root = self.ns_root.as_ref()?;
        let at = |path: &BStr| match look.host.lookup(root, path, Way::Plain) {
            Ok(object) => Ok(object.look().ok()),
            // A link on the way: the directory that was there is gone.
            Err(e) if matches!(Class::of(e), Class::Gone | Class::Malformed) => Ok(None),
            Err(_) => Err(()),
        };
        if !answers && self.asks_elsewhere(text.as_ref()) {
            return None;
        }
        let is_it = |l: &Look| l.is(&look.exe_look);
        let found = at(text.as_ref()).ok()?;
        if found.as_ref().is_some_and(is_it) {
            return Some(FileState::Present);
        }
        if let Some(plain) = text.strip_suffix(DELETED).filter(|_| !literal) {
            return Some(match at(plain.as_bstr()).ok()? {
                Some(_) => FileState::Replaced,
                None => FileState::Deleted,
            });
        }
        if self.mount.is_none() {
            return Some(FileState::Detached);
        }
        Some(match found {
            Some(other) if other.mount != look.exe_look.mount => FileState::Hidden,
            Some(_) => FileState::Replaced,
            // The name is not there, though the kernel does not say that it was removed: something
            // lies over one of its directories.
            None => FileState::Hidden,
        })
    }

    /// Whether a path leads over a mount whose server may not answer.
    fn asks_elsewhere(&self, path: &BStr) -> bool {
        let remote = |m: &&Mount| {
            m.fs_type.starts_with(b"fuse") || !whose_kernel::remote::is_local_type(&m.fs_type)
        };
        let over = |m: &&Mount| strip(&m.point, path).is_some();
        self.target_mounts.iter().filter(over).any(|m| remote(&m))
            || mount_of(&self.target_mounts, path).is_some_and(|m| remote(&m))
    }
}

/// A path without the kernel's mark of a name that is gone.
fn without_deleted(text: &BString) -> BString {
    text.strip_suffix(DELETED).map_or_else(|| text.clone(), BString::from)
}

/// The root of the mount namespace that a directory lies in: `..` leads out of another process's
/// chroot, and nowhere from the top.
fn top(host: &Host, root: &Object) -> Option<Object> {
    let mut at = root.again().ok()?;
    for _ in 0..DEEPEST {
        let up = host.lookup(&at, BStr::new(b".."), Way::Up).ok()?;
        let (a, b) = (at.look().ok()?, up.look().ok()?);
        if a.is(&b) && a.mount == b.mount {
            return Some(at);
        }
        at = up;
    }
    None
}
