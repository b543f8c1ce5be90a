//! The files of containers whose engine keeps no table of layers: machines and bare containers. Where their
//! state does not say it, the kernel has what a process of theirs has for a root.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Mode;
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::parse::overlay;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::exam::Way;

use super::super::Index;
use super::{Base, DiskPlan, MOST, Planned};
use crate::model::gap::what;
use crate::model::{Class, Gap, Listed, Occupied, OwnerKind, Usage, UsageKind, UsagePart};
use crate::runtime::REGISTRY;
use crate::storage::DRIVERS;

/// Where the files are that a container alone has.
enum Own {
    /// A directory or an image of the host's.
    At(BString),
    /// On no disk.
    InMemory,
    /// Not known, and why; what that is about.
    Unknown(&'static str, BString),
}

const HOSTS: &str = "the host's own root directory, which is not counted as a container's";

impl Index<'_> {
    /// Adds the root directories of containers whose engine has no layers.
    pub(super) fn plan_root_directories(&self, plan: &mut DiskPlan) {
        for row in 0..plan.rows.len() {
            let Some(listed) = plan.rows[row].container.as_ref() else { continue };
            let Some(owner) = listed.owner() else { continue };
            let has_layers = DRIVERS.iter().any(|d| d.engines().contains(&owner.runtime));
            if has_layers
                || !matches!(owner.kind, OwnerKind::Container | OwnerKind::Machine)
                || plan.has(row, UsagePart::Layer)
            {
                continue;
            }
            let path = match self.own_files(listed) {
                Some(Own::At(path)) => path,
                Some(Own::InMemory) => {
                    let part = UsagePart::Layer;
                    plan.rows[row].parts.push(Occupied::nothing(part, ""));
                    continue;
                }
                Some(Own::Unknown(why, about)) => {
                    plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, about, why, None));
                    continue;
                }
                None => continue,
            };
            let (base, rel) = match plan.rows[row].user.clone() {
                None => (Base::Host, path.clone()),
                Some(user) => {
                    let uid = self.uid_named(user.as_ref());
                    let dir =
                        uid.map(|uid| self.host.owned_dir(BStr::new("/"), BStr::new(&path), uid));
                    match dir {
                        Some(Ok(root)) => {
                            plan.own.push(root);
                            (Base::Own(plan.own.len() - 1), BString::default())
                        }
                        Some(Err(e)) => {
                            plan.gaps.push(Gap::from_read(what::DISK, &e));
                            continue;
                        }
                        None => continue,
                    }
                }
            };
            let part = UsagePart::Layer;
            plan.planned.push(Planned { row, part, base, rel, path, is_mount: false });
        }
    }

    /// Where a container's own files are, by its state, else by what a process of it shows.
    fn own_files(&self, listed: &Listed) -> Option<Own> {
        let described = listed.owner().and_then(|owner| owner.description());
        if let Some(path) = described.and_then(|d| d.writable.clone()) {
            return Some(Own::At(path));
        }
        let rootfs = described.and_then(|d| d.rootfs.as_ref());
        let rootfs = rootfs.map(|path| BString::from(path.trim_end_with(|c| c == '/')));
        if let Some(path) = rootfs.filter(|path| path.starts_with(b"/")) {
            let on = self.host.mounts().ok().and_then(|mounts| mount_of(mounts, &path));
            if let Some(mount) = on.filter(|m| m.fs_type == "overlay" && m.point == path) {
                return Some(of_overlay(mount, &path));
            }
            // A root that was only mounted where its engine is leads nowhere.
            if described.is_some_and(|d| d.user.is_some()) || self.host.root().has_dir(&path) {
                return Some(Own::At(path));
            }
        }
        if described.is_some_and(|d| d.user.is_some()) || self.host.mode() == Mode::Saved {
            return None;
        }
        let first = described.and_then(|d| d.pid).filter(|pid| listed.pids.contains(pid));
        let process = self.host.process(first.or(listed.pids.first().copied())?).ok()?;
        self.of_process(&process)
    }

    /// The same by the root of a process.
    fn of_process(&self, process: &ProcDir<'_>) -> Option<Own> {
        let mounts = process.mountinfo().ok()?;
        let root = mounts.iter().rfind(|mount| mount.point == "/")?;
        match root.fs_type.as_slice() {
            b"tmpfs" | b"ramfs" => return Some(Own::InMemory),
            b"overlay" => {
                let namespace = process.object("ns/mnt").ok()?;
                if !namespace.is_of_initial_user_namespace() {
                    let why = "an overlay that was mounted by a container, and which layers are its own is \
                               only what that says";
                    return Some(Own::Unknown(why, root.source.clone()));
                }
                // The text is its mounter's, who may have meant another directory than the host's.
                return Some(match of_overlay(root, &root.source) {
                    Own::At(upper) if !self.is_upper(&upper, process, root) => {
                        let why = "an overlay whose upper directory can't be proven to be what its mount says";
                        Own::Unknown(why, upper)
                    }
                    own => own,
                });
            }
            _ => {}
        }
        // Whoever has all of an image has the image.
        if let Some(image) = self.image_behind(root).filter(|_| root.root == "/") {
            return Some(Own::At(image));
        }
        // The kernel's word: the same directory under a name of the host's.
        let look = process.object("root").ok()?.look().ok()?;
        let of_device = self.host.mounts().ok()?.iter().filter(|m| m.device == root.device);
        let named = of_device.filter_map(|mount| {
            let rest = strip(&mount.root, &root.root)?;
            Some(whose_kernel::root::join(BStr::new(mount.point.trim_end_with(|c| c == '/')), rest))
        });
        let is_it = |path: &BString| {
            self.host.guard(path).is_ok()
                && self.host.root().look(path).is_ok_and(|found| found.is(&look))
        };
        let path = named.map(|path| trimmed(&path)).find(is_it)?;
        Some(if path == "/" { Own::Unknown(HOSTS, path) } else { Own::At(path) })
    }

    /// Whether a directory of the host's is what a process's root, an overlay's own root, has for its upper one: by the
    /// kernel's handle of it (6.6), which names that.
    fn is_upper(&self, upper: &BString, process: &ProcDir<'_>, mount: &Mount) -> bool {
        let handle = || {
            let root = process.object("root").ok().filter(|_| mount.root == "/")?;
            root.handle().ok()?.parse_layer().ok()?.filter(|layer| layer.upper)
        };
        let there = || {
            self.host.guard(upper).ok()?;
            let top = self.host.root_object().ok()?;
            self.host.lookup(&top, upper.as_ref(), Way::Plain).ok()?.handle().ok()
        };
        handle().is_some_and(|layer| there().is_some_and(|own| own == layer.inner))
    }

    /// The file that a loop device reads, if a mount is of one.
    fn image_behind(&self, mount: &Mount) -> Option<BString> {
        let name = mount.source.strip_prefix(b"/dev/")?;
        let digits = name.strip_prefix(b"loop")?;
        let whole = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        let device = [b"sys/block/loop", &digits[..whole]].concat();
        // What a mount says that it is of may be anything.
        let number = match whole == digits.len() {
            true => [&device[..], b"/dev"].concat(),
            false if !name.contains(&b'/') => [&device[..], b"/", name, b"/dev"].concat(),
            false => return None,
        };
        let said = format!("{}:{}", mount.device.0, mount.device.1);
        let read = |rel: &[u8]| self.host.root().read(rel, 8192).ok();
        if read(&number)?.trim_ascii() != said.as_bytes() {
            return None;
        }
        let file = read(&[&device[..], b"/loop/backing_file"].concat())?;
        let file = file.strip_suffix(b"\n").unwrap_or(&file);
        file.starts_with(b"/").then(|| file.into())
    }

    /// Adds what lies where an engine's machines are kept, and nothing runs from.
    pub(super) fn plan_machine_images(&self, plan: &mut DiskPlan) {
        for runtime in REGISTRY {
            let Some(place) = runtime.images() else { continue };
            let root = self.host.root();
            let entries = match root.list(place.as_bytes(), MOST) {
                Ok(entries) => entries,
                Err(e) if e.class == Class::Gone => continue,
                Err(e) => {
                    plan.gaps.push(Gap::from_read(what::DISK, &e));
                    continue;
                }
            };
            let is_image = |name: &BString, is_dir| {
                !name.starts_with(b".") && (is_dir || name.ends_with(b".raw"))
            };
            for entry in entries.into_iter().filter(|e| is_image(&e.name, e.is_dir)) {
                let path = BString::from([b"/", place.as_bytes(), b"/", &entry.name].concat());
                if plan.planned.iter().any(|p| p.path == path) {
                    continue;
                }
                let row = Usage::new(UsageKind::MachineImage, runtime.engine(), path.clone());
                let (row, part) = (plan.row(row), UsagePart::Directory);
                let (base, rel) = (Base::Host, path.clone());
                plan.planned.push(Planned { row, part, base, rel, path, is_mount: false });
            }
        }
    }
}

fn trimmed(path: &[u8]) -> BString {
    let path = path.trim_end_with(|c| c == '/');
    if path.is_empty() { "/".into() } else { path.into() }
}

/// What is written to of an overlay that the administrator mounted.
fn of_overlay(mount: &Mount, about: &BString) -> Own {
    match overlay::parse(mount.super_options.as_ref()).upper {
        Some(upper) if upper.starts_with(b"/") => Own::At(upper),
        Some(_) => Own::Unknown("an overlay whose layers are named relatively", about.clone()),
        None => Own::Unknown("an overlay that nothing is written to", about.clone()),
    }
}
