//! The mount that a program was started from, and what became of its name.

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
/// Directories between a chroot and the namespace's root, at most.
const DEEPEST: usize = 64;

/// Where a program lies among the mounts.
pub(super) struct Mounted {
    /// The mount of `exe`; `None` for a detached one and for what is on none.
    pub(super) mount: Option<Mount>,
    /// Whether the mount point is told from the process's root and not from the namespace's.
    from_root: bool,
    /// Whether the process shares this program's mount namespace.
    pub(super) same_ns: bool,
    /// Mounts that the process sees.
    pub(super) target_mounts: Vec<Mount>,
    /// Its root directory, and that of its mount namespace.
    root: Option<Object>,
    pub(super) ns_root: Option<Object>,
    /// Path of the process's root from that of the namespace; `/` without a chroot.
    root_text: BString,
    ns: Option<u64>,
}

impl Mounted {
    pub(super) fn of(
        host: &Host,
        subject: &Subject<'_>,
        exe: &Object,
        look: &Look,
        _text: &BString,
    ) -> Self {
        let dir = subject.dir;
        let ns = dir.namespace("mnt").ok();
        let same_ns = ns.is_some() && ns == host.own_mount_namespace();
        let target_mounts = dir.mountinfo().unwrap_or_default();
        let root = dir.object("root").ok();
        let root_text = dir.link_text("root").unwrap_or_else(|_| "/".into());
        let ns_root = root.as_ref().and_then(|r| top(host, r));
        let is_it = |m: &&Mount| look.mount == Some(u64::from(m.id));
        let own = target_mounts.iter().find(is_it).cloned();
        let from_root = own.is_some();
        let unique = || {
            let ns = dir.object("ns/mnt").ok()?;
            host.mount_in(exe.unique_mount().ok()?, &ns).ok()
        };
        // A chroot hides its own mount from the process's table; another process may show it.
        let by_init = || {
            let init = host.process(subject.init?).ok()?;
            (init.namespace("mnt").ok() == ns).then_some(())?;
            init.mountinfo().ok()?.iter().find(is_it).cloned()
        };
        let by_host = || host.mounts().ok()?.iter().find(is_it).cloned();
        let mount = own.or_else(unique).or_else(by_init).or_else(by_host);
        Self { mount, from_root, same_ns, target_mounts, root, ns_root, root_text, ns }
    }

    /// The namespace's name, as its link reads.
    pub(super) fn ns_text(&self) -> Option<BString> {
        self.ns.map(|n| format!("mnt:[{n}]").into())
    }

    /// The path from the process's own root, and from the namespace's where that is another.
    pub(super) fn names(&self, look: &Look1<'_>, text: &BString) -> (BString, Option<BString>) {
        // A file may also be called so: then the name is there.
        let literal = text.ends_with(DELETED)
            && !self.asks_elsewhere(text.as_ref())
            && self.ns_root.as_ref().is_some_and(|root| {
                let there = look.host.lookup(root, text.as_ref(), Way::Plain);
                there.ok().and_then(|o| o.look().ok()).is_some_and(|l| l.is(&look.exe_look))
            });
        let plain = if literal { text.clone() } else { self.without_deleted(text) };
        if self.root_text == "/" {
            return (plain, None);
        }
        match strip(&self.root_text, &plain) {
            Some(rest) if !rest.is_empty() => (rest.to_owned(), Some(plain)),
            _ => (plain, None),
        }
    }

    fn without_deleted(&self, text: &BString) -> BString {
        text.strip_suffix(DELETED).map_or_else(|| text.clone(), BString::from)
    }

    /// The mount point from the process's root.
    pub(super) fn point_inside(&self, mount: &Mount) -> BString {
        if self.from_root || self.root_text == "/" {
            return mount.point.clone();
        }
        let inside = strip(&self.root_text, &mount.point);
        inside.map_or_else(
            || mount.point.clone(),
            |p| if p.is_empty() { "/".into() } else { p.into() },
        )
    }

    /// The mount point from the namespace's root, as the text of `exe` has it.
    fn point_in_ns(&self, mount: &Mount) -> BString {
        if !self.from_root || self.root_text == "/" {
            return mount.point.clone();
        }
        if mount.point == "/" {
            self.root_text.clone()
        } else {
            joined(&self.root_text, &mount.point)
        }
    }

    /// The program's path from the root of its file system.
    pub(super) fn path_in_fs(&self, text: &BString) -> Option<BString> {
        let mount = self.mount.as_ref()?;
        let plain = self.without_deleted(text);
        let point = self.point_in_ns(mount);
        let rest = strip(&point, &plain)?;
        let root = mount.root.strip_suffix(b"//deleted").unwrap_or(&mount.root);
        Some(if rest.is_empty() { root.into() } else { joined(root, rest) })
    }

    /// The root directory of the program's file system, where its mount shows it.
    pub(super) fn mount_root(&self, look: &Look1<'_>) -> Option<Object> {
        let mount = self.mount.as_ref().filter(|m| m.root == "/")?;
        let point = self.point_in_ns(mount);
        let root = self.ns_root.as_ref()?;
        let object = look.host.lookup(root, point.as_ref(), Way::Plain).ok()?;
        let id = object.look().ok()?.mount;
        (id.is_none() || id == look.exe_look.mount).then_some(object)
    }

    /// `/proc/PID/root/...`, where that opens the same file.
    pub(super) fn via_proc(&self, look: &Look1<'_>, inside: &BStr) -> Option<BString> {
        if self.asks_elsewhere(inside) {
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
        let mount = self.mount.as_ref().filter(|m| m.fs_type == "overlay")?;
        let inner = self.path_in_fs(&look.text)?;
        let mounts = look.host.mounts().ok()?;
        let same = mounts.iter().filter(|m| m.device == mount.device);
        let open = |m: &Mount| {
            let path = joined(&m.point, strip(&m.root, &inner)?);
            let there = look.host.lookup(look.root, path.as_ref(), Way::Plain).ok()?;
            there.look().ok().filter(|l| l.is(&look.exe_look))?;
            Some(path)
        };
        same.into_iter().find_map(open)
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
    /// would ask a server that may never answer, unless it just did.
    pub(super) fn state(
        &self,
        look: &Look1<'_>,
        text: &BString,
        answers: bool,
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
        if let Some(plain) = text.strip_suffix(DELETED) {
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

/// The root of the mount namespace that a directory lies in: `..` leads out of another process's
/// chroot, and nowhere from the top.
fn top(host: &Host, root: &Object) -> Option<Object> {
    let mut at = host.lookup(root, BStr::new(b"."), Way::Up).ok()?;
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
