//! File systems on which a handle may be opened.

use std::cell::RefCell;

use bstr::{BStr, BString};
use whose_kernel::object::Object;
use whose_kernel::parse::handle::Handle;
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host, ReadError};

use crate::model::Gap;
use crate::model::gap::what;

/// ESTALE: what a handle names is not there.
const STALE: i32 = 116;

/// Types that can hold an overlay's layer or a program, and that answer from this machine alone.
const KINDS: [&str; 18] = [
    "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "ext3", "ext2", "erofs", "squashfs",
    "iso9660", "jfs", "nilfs2", "ubifs", "reiserfs", "vfat", "ramfs", "tmpfs",
];

/// A device, and files on it.
type Opened = ((u32, u32), Vec<Object>);

/// One place to open handles on.
struct Place {
    mount: Mount,
    /// Whether it is in the host's own mount namespace.
    on_host: bool,
    /// A directory on it, once it was needed; `None` inside when it can't be reached.
    dir: Option<Option<Object>>,
}

/// The mounts of the host, and of the target where it has file systems that the host has not: one
/// for each device, the one that shows most of it.
pub(super) struct FileSystems<'h> {
    host: &'h Host,
    root: &'h Object,
    target_root: Option<&'h Object>,
    places: RefCell<Vec<Place>>,
}

impl<'h> FileSystems<'h> {
    pub(super) fn new(
        host: &'h Host,
        root: &'h Object,
        target_root: Option<&'h Object>,
        target: &[Mount],
    ) -> Self {
        let mut places: Vec<Place> = Vec::new();
        let of_host = host.mounts().unwrap_or_default();
        for (mounts, on_host) in [(of_host, true), (target, false)] {
            for mount in mounts.iter().filter(|m| rank(&m.fs_type).is_some()) {
                let known = places.iter_mut().find(|p| p.mount.device == mount.device);
                match known {
                    Some(place) if place.on_host == on_host => {
                        // The shorter root shows more of the file system.
                        if mount.root.len() < place.mount.root.len() {
                            place.mount = mount.clone();
                        }
                    }
                    Some(_) => {}
                    None => places.push(Place { mount: mount.clone(), on_host, dir: None }),
                }
            }
        }
        places.sort_by_key(|p| (p.mount.fs_type == "tmpfs", !p.on_host, rank(&p.mount.fs_type)));
        Self { host, root, target_root, places: RefCell::new(places) }
    }

    /// Opens a handle wherever it fits: on `device` where it is known, else on every file system,
    /// since a handle without a generation fits many. Those in memory are only asked when nothing
    /// else has it: there is one for each container. `good` says whether what came may be what was
    /// looked for; `true` with it: on the host.
    pub(super) fn open(
        &self,
        handle: &Handle,
        device: Option<(u32, u32)>,
        good: &dyn Fn(&Object) -> bool,
    ) -> Vec<(Object, bool)> {
        let mut found = Vec::new();
        let count = self.places.borrow().len();
        for at in 0..count {
            if self.places.borrow()[at].mount.fs_type == "tmpfs" && !found.is_empty() {
                continue;
            }
            if device.is_some_and(|d| d != self.places.borrow()[at].mount.device) {
                continue;
            }
            self.reach(at);
            let places = self.places.borrow();
            let Some(Some(dir)) = &places[at].dir else { continue };
            if let Ok(object) = self.host.open_handle(dir, handle)
                && good(&object)
            {
                found.push((object, places[at].on_host));
            }
        }
        found
    }

    /// Opens the files of a number on the file systems that take a handle without a generation:
    /// ext4, and the subvolumes of btrfs that are mounted or that `dirs` lie in. An overlay may have
    /// put a number of its own into the topmost bits.
    pub(super) fn by_number(&self, number: u64, dirs: &[&Object]) -> Vec<(Object, bool)> {
        let is_file = |o: &Object| o.look().is_ok_and(|l| l.is_file());
        let mut found = Vec::new();
        let count = self.places.borrow().len();
        for at in 0..count {
            let (kind, device) = {
                let place = &self.places.borrow()[at];
                (place.mount.fs_type.clone(), place.mount.device)
            };
            let handles = match kind.as_slice() {
                b"ext4" | b"ext3" | b"ext2" => {
                    // FILEID_INO32_GEN of include/linux/exportfs.h.
                    let Ok(ino) = u32::try_from(number & 0xffff_ffff) else { continue };
                    vec![Handle { kind: 1, bytes: [ino.to_ne_bytes(), [0; 4]].concat() }]
                }
                b"btrfs" => {
                    self.reach(at);
                    let places = self.places.borrow();
                    let own = places[at].dir.as_ref().and_then(Option::as_ref);
                    subvolumes(own.into_iter().chain(dirs.iter().copied()), number)
                }
                _ => continue,
            };
            for handle in handles {
                found.extend(self.open(&handle, Some(device), &is_file));
            }
        }
        found
    }

    /// Opens the files of a number on one device, as mountinfo has it, or as stat(2) has a btrfs subvolume's
    /// that is mounted; with the device as mountinfo has it.
    ///
    /// # Errors
    /// When it is not mounted here, or opens nothing by a number; when that is not allowed.
    pub(super) fn on_device(&self, device: (u32, u32), number: u64) -> Result<Opened, Gap> {
        let count = self.places.borrow().len();
        let named = format!("{}:{}:{number}", device.0, device.1);
        let fail =
            |class, why: String, remedy| Gap::new(what::PATH, class, named.as_str(), why, remedy);
        let is_it = |at: &usize| {
            if self.places.borrow()[*at].mount.device == device {
                return true;
            }
            let is_btrfs = self.places.borrow()[*at].mount.fs_type == "btrfs";
            is_btrfs && {
                self.reach(*at);
                let places = self.places.borrow();
                let look = places[*at].dir.as_ref().and_then(|dir| dir.as_ref()?.look().ok());
                look.is_some_and(|look| look.device == device)
            }
        };
        let Some(at) = (0..count).find(is_it) else {
            let why = "no file system that is mounted here, and opens files by a number, has it";
            return Err(fail(Class::Unsupported, why.into(), None));
        };
        self.reach(at);
        let places = self.places.borrow();
        let mount = &places[at].mount;
        let Some(Some(dir)) = &places[at].dir else {
            let why = format!("nothing leads to what is mounted at {}", mount.point);
            return Err(fail(Class::Unsupported, why, None));
        };
        let handles = match mount.fs_type.as_slice() {
            b"ext4" | b"ext3" | b"ext2" => {
                let ino = u32::try_from(number).ok().into_iter();
                // FILEID_INO32_GEN of include/linux/exportfs.h.
                ino.map(|ino| Handle { kind: 1, bytes: [ino.to_ne_bytes(), [0; 4]].concat() })
                    .collect()
            }
            b"btrfs" => subvolumes(std::iter::once(dir), number),
            kind => {
                let why = format!("{} opens no file by its number", BStr::new(kind));
                return Err(fail(Class::Unsupported, why, Some("find MOUNT -xdev -inum NUMBER")));
            }
        };
        let mut found = Vec::new();
        for handle in handles {
            match self.host.open_handle(dir, &handle) {
                Ok(object) if object.look().is_ok_and(|look| look.ino == number) => {
                    found.push(object);
                }
                Ok(_) => {}
                // There is no such file.
                Err(e) if matches!(Class::of(e), Class::Gone) || e.raw_os_error() == STALE => {}
                Err(e) => return Err(Gap::from_read(what::PATH, &ReadError::from_errno(named, e))),
            }
        }
        Ok((mount.device, found))
    }

    /// Opens the mount point, if it still leads to that mount.
    fn reach(&self, at: usize) {
        let (point, id, on_host): (BString, u32, bool) = {
            let place = &self.places.borrow()[at];
            if place.dir.is_some() {
                return;
            }
            (place.mount.point.clone(), place.mount.id, place.on_host)
        };
        let root = if on_host { Some(self.root) } else { self.target_root };
        let point: &BStr = point.as_ref();
        let dir = root
            .and_then(|root| self.host.lookup(root, point, Way::Plain).ok())
            .filter(|dir| dir.look().is_ok_and(|l| l.mount.is_none_or(|m| m == u64::from(id))));
        self.places.borrow_mut()[at].dir = Some(dir);
    }
}

/// Handles of the files of a number in the btrfs subvolumes that these lie in.
fn subvolumes<'o>(dirs: impl Iterator<Item = &'o Object>, number: u64) -> Vec<Handle> {
    let mut handles: Vec<Handle> = Vec::new();
    for dir in dirs {
        // FILEID_BTRFS_WITHOUT_PARENT of fs/btrfs/export.h: inode, subvolume, generation.
        let Ok(Handle { kind: 0x4d, bytes }) = dir.handle() else { continue };
        let Some(subvolume) = bytes.get(8..16) else { continue };
        let ino = (number & 0xff_ffff_ffff).to_ne_bytes();
        let handle = Handle { kind: 0x4d, bytes: [&ino[..], subvolume, &[0; 4]].concat() };
        if !handles.contains(&handle) {
            handles.push(handle);
        }
    }
    handles
}

/// Place in the order in which they are tried; `None` for what holds no program.
fn rank(fs_type: &[u8]) -> Option<usize> {
    KINDS.iter().position(|k| fs_type == k.as_bytes())
}
