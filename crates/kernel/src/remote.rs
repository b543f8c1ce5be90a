//! Telling apart, before it is touched, what may never answer.
//!
//! Looking at a path on a network, FUSE or autofs mount can block for ever. The mount table says
//! what a path lies on without touching it; links on the way are followed one by one, each looked up
//! in the table first.

use bstr::{BStr, BString, ByteSlice};

use crate::capture;
use crate::error::{Class, ReadError};
use crate::host::{Host, Mode};
use crate::object::Object;
use crate::parse::mountinfo::{self, Mount, mount_of};

/// File systems whose answers come from this machine's kernel and disks alone.
const LOCAL: [&str; 42] = [
    "aufs",
    "bcachefs",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "mqueue",
    "nilfs2",
    "nsfs",
    "ntfs3",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "reiserfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "ubifs",
    "vfat",
    "xfs",
];
/// Links followed on one way, as in the kernel's own walk.
const MOST_LINKS: usize = 40;
/// `PATH_MAX`.
const MOST_BYTES: usize = 4096;

/// Whether file systems of this type answer from this machine's kernel and disks alone.
#[must_use]
pub fn is_local_type(fs_type: &[u8]) -> bool {
    fs_type == b"zfs" || LOCAL.iter().any(|l| fs_type == l.as_bytes())
}

fn is_local(mount: &Mount) -> bool {
    // What the root itself lies on is in use already: this program came from there.
    mount.point == "/" || is_local_type(&mount.fs_type)
}

/// Whether a file system that may not answer is asked nothing by a walk in the cache of names: FUSE
/// and autofs, for which such a walk gives up. NFS and 9p are asked, and of others it is not known.
fn trusts_cached_names(fs_type: &[u8]) -> bool {
    matches!(fs_type, b"autofs" | b"fuse" | b"fuseblk" | b"virtiofs")
        || fs_type.starts_with(b"fuse.")
        || fs_type.starts_with(b"fuseblk.")
}

/// Whether a file on such a mount is read from this machine's memory and disks and from nowhere
/// else: not through another file system, as an overlay does, nor from a device that is another
/// machine's or a file in its turn.
fn is_near(mount: &Mount) -> bool {
    let stacked = matches!(mount.fs_type.as_slice(), b"overlay" | b"aufs");
    let indirect = |name: &[u8]| {
        [&b"loop"[..], b"nbd", b"rbd", b"drbd", b"ublk"].iter().any(|kind| name.starts_with(kind))
    };
    is_local_type(&mount.fs_type)
        && !stacked
        && !INDIRECT.contains(&mount.device.0)
        && !mount.source.strip_prefix(b"/dev/").is_some_and(indirect)
}

/// Majors of devices of that kind which have one of their own, whatever their nodes are called: loop, nbd
/// and drbd (Documentation/admin-guide/devices.txt).
const INDIRECT: [u32; 3] = [7, 43, 147];

/// Whether the mount of this id, on which an object of this device lies, is near by a table that was read
/// before the object was opened: a mount that is gone since leaves its id to another, anybody's FUSE
/// too, and the number of its device if that is none of a disk. As long as the object is held its own
/// mount keeps the id, so that the table of `now` tells.
fn is_near_at(
    (id, device): (u64, (u32, u32)),
    before: &[Mount],
    now: impl FnOnce() -> Option<Vec<Mount>>,
) -> Option<bool> {
    let its = |m: &&Mount| u64::from(m.id) == id;
    let known = before.iter().find(its).filter(|m| is_near(m))?;
    if known.device == device && device.0 != 0 {
        return Some(true);
    }
    Some(now()?.iter().find(its).is_some_and(is_near))
}

impl Host {
    /// Whether what is held lies on a mount of this program's own namespace whose files come from this
    /// machine's memory and disks and from nowhere else: what is done with it needs no worker.
    #[must_use]
    pub fn is_near(&self, object: &Object) -> bool {
        self.mode() == Mode::Live
            && *object.near.get_or_init(|| self.is_near_by(object).unwrap_or(false))
    }

    fn is_near_by(&self, object: &Object) -> Option<bool> {
        let now = || mountinfo::parse(&self.own_file_now("mountinfo").ok()?).ok();
        is_near_at(object.place()?, self.mounts().ok()?, now)
    }

    /// Refuses a path of the host that lies on, or leads over, a file system that may not answer.
    /// Costs nothing but the mount table where there is no such mount at all.
    ///
    /// # Errors
    /// `unsupported`, naming the mount. Other errors are left to whoever reads the path.
    pub fn guard(&self, path: &[u8]) -> Result<(), ReadError> {
        if let Some(recorded) = self.recorded() {
            let key = capture::joined(b"", path);
            return recorded.refusal(&key, || self.shown(path)).map_or(Ok(()), Err);
        }
        if self.mode() == Mode::Saved {
            return Ok(());
        }
        let guarded = self.guard_live(path);
        if let (Err(refusal), Some(recorder)) = (&guarded, self.recorder()) {
            // Its place is not looked for: that would lead over what may not answer.
            recorder.failed(&capture::joined(b"", path), refusal, true);
        }
        guarded
    }

    /// Whether no file system is mounted here that asks its server again about the file at which a
    /// walk ends (`d_weak_revalidate`), however the walk was made.
    pub(crate) fn trusts_cached_names(&self) -> bool {
        let trusts = |m: &Mount| is_local(m) || trusts_cached_names(&m.fs_type);
        let all = || self.mounts().is_ok_and(|mounts| mounts.iter().all(trusts));
        *self.cached_names().get_or_init(all)
    }

    fn guard_live(&self, path: &[u8]) -> Result<(), ReadError> {
        let Ok(mounts) = self.mounts() else { return Ok(()) };
        if mounts.iter().all(is_local) {
            return Ok(());
        }
        if path.len() > MOST_BYTES {
            return Err(ReadError::new("path", Class::Malformed, "longer than the kernel takes"));
        }
        let mut rest: Vec<BString> = parts(path);
        let mut at: Vec<BString> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if self.out_of_time() {
                return Err(ReadError::new(self.shown(path), Class::TimedOut, "no time left"));
            }
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            let here = joined(&at);
            if let Some(mount) = mount_of(mounts, &here).filter(|m| !is_local(m)) {
                let why = format!("on a {} file system, which may not answer", mount.fs_type);
                return Err(ReadError::new(self.shown(path), Class::Unsupported, why));
            }
            let Ok(target) = self.root().read_link(&here) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return Ok(()); // the read itself will say so
            }
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            rest.extend(parts(&target));
        }
        Ok(())
    }
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<BString> {
    let parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty());
    let mut parts: Vec<BString> = parts.map(|p| BStr::new(p).into()).collect();
    parts.reverse();
    parts
}

fn joined(parts: &[BString]) -> BString {
    let mut path = Vec::new();
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part.as_bytes());
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::{is_local, is_near, is_near_at, joined, parts, trusts_cached_names};
    use crate::parse::mountinfo::parse;

    #[test]
    fn only_known_local_file_systems_pass() {
        let mounts = parse(
            b"1 0 0:1 / / rw - virtiofs root rw\n2 1 0:2 / /a rw - ext4 /dev/x rw\n3 1 0:3 / /b rw - fuse.sshfs h rw\n\
4 1 0:4 / /c rw - autofs h rw\n5 1 0:5 / /d rw - nfs4 h rw\n6 1 0:6 / /e rw - zfs p rw\n7 1 0:7 / /f rw - somethingnew x rw\n",
        )
        .unwrap();
        let local: Vec<bool> = mounts.iter().map(is_local).collect();
        assert_eq!(local, [true, true, false, false, false, true, false]);
    }

    #[test]
    fn what_lies_on_something_else_is_not_near() {
        let mounts = parse(
            b"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /a rw - overlay overlay rw,lowerdir=/x\n3 1 7:3 / /b rw - ext4 /dev/loop3 rw\n\
4 1 43:0 / /c rw - xfs /dev/nbd0 rw\n5 1 0:5 / /d rw - nfs4 h rw\n6 1 0:6 / /e rw - tmpfs none rw\n\
7 1 7:0 / /f rw - ext4 /srv/a-node-of-loop0 rw\n8 1 252:1 / /g rw - xfs /dev/rbd1 rw\n",
        )
        .unwrap();
        let near: Vec<bool> = mounts.iter().map(is_near).collect();
        assert_eq!(near, [true, false, false, false, false, true, false, false]);
    }

    #[test]
    fn a_mount_that_took_the_id_of_one_that_is_gone_is_not_near() {
        let disk = &b"7 1 8:1 / /a rw - ext4 /dev/sda1 rw\n"[..];
        let memory = &b"7 1 0:30 / /a rw - tmpfs none rw\n"[..];
        let at = |device, before: &[u8], now: &[u8]| {
            is_near_at((7, device), &parse(before).unwrap(), || parse(now).ok())
        };
        assert_eq!(at((8, 1), disk, b""), Some(true));
        // It went, and a FUSE of some other namespace has its number.
        assert_eq!(at((0, 30), disk, b""), Some(false));
        assert_eq!(at((0, 30), memory, b""), Some(false));
        assert_eq!(at((0, 30), memory, b"7 1 0:30 / /a rw - fuse x rw\n"), Some(false));
        // A subvolume has a device of its own.
        let subvolumes = b"7 1 0:30 / /a rw - btrfs /dev/sda1 rw\n";
        assert_eq!(at((0, 41), subvolumes, subvolumes), Some(true));
        assert_eq!(at((0, 30), memory, memory), Some(true));
    }

    #[test]
    fn only_known_file_systems_are_walked_in_the_cache() {
        for kind in ["autofs", "fuse", "fuseblk", "fuse.lxcfs", "virtiofs"] {
            assert!(trusts_cached_names(kind.as_bytes()), "{kind}");
        }
        for kind in ["nfs", "nfs4", "9p", "cifs", "fusee", "lustre"] {
            assert!(!trusts_cached_names(kind.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn paths_come_apart_and_together() {
        assert_eq!(parts(b"/a//b/"), ["b", "a"]);
        assert_eq!(joined(&["a".into(), "b".into()]), "/a/b");
    }
}
