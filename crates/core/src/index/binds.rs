//! The containers that have a file of the host bound somewhere, by the mounts of their processes.

use std::collections::HashSet;
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::parse::overlay;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::gap::what;
use crate::model::{Engine, Gap, Owner};
use crate::runtime::{Proof, nspawn};

/// A container, and where in it a file of the host is.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The container.
    pub owner: Rc<Owner>,
    /// The path from the root of the process that was asked.
    pub inside: BString,
    /// That process; `None` for one that does not run.
    pub pid: Option<u32>,
    /// Whether that path was opened and is the file. Else the file lies in a layer of an overlay that is mounted there,
    /// and something may lie over it.
    pub is_it: bool,
}

impl Index<'_> {
    /// The running containers that show a path of the host, each once, by what their first processes have
    /// mounted; with the gap where there was no time for all. Costs a walk of the cgroup tree and a process
    /// or two of each container.
    pub fn bound(&mut self, path: &BStr) -> (Vec<Bound>, Option<Gap>) {
        let (mut found, mut asked): (Vec<Bound>, HashSet<u32>) = (Vec::new(), HashSet::new());
        let Ok(mounts) = self.host().mounts() else { return (found, None) };
        let Some(own) = mount_of(mounts, path).cloned() else { return (found, None) };
        let Some(in_fs) = strip(&own.point, path).map(|rest| joined(&own.root, rest)) else {
            return (found, None);
        };
        for (hierarchy, dir) in self.all_cgroups() {
            let named = super::lookup::named_by(&hierarchy, &dir);
            if named.is_empty() {
                continue;
            }
            // Machines without a unit share one: each has a first process there.
            let is_shared = |(engine, key, _): &(Engine, BString, Proof)| {
                *engine == nspawn::ENGINE && key == nspawn::PAYLOAD
            };
            let pids = match named.iter().any(is_shared) {
                true => self.members_below(&dir).map(|(_, pids)| pids).unwrap_or_default(),
                false => self.first_members(&dir),
            };
            for pid in pids {
                if self.host().out_of_time() {
                    let why = "not all containers' mounts were looked at in time";
                    let late = ReadError::new(path, Class::TimedOut, why);
                    return (found, Some(Gap::from_read(what::PATH, &late)));
                }
                if asked.insert(pid) {
                    found.extend(self.bound_in(pid, path, (own.device, &in_fs)));
                }
            }
        }
        let mut seen = HashSet::new();
        found.retain(|b| {
            let (owner, name) = (&b.owner, b.owner.best_name().cloned());
            seen.insert((owner.runtime, owner.key(), name, owner.within.clone()))
        });
        (found, None)
    }

    fn bound_in(
        &mut self,
        pid: u32,
        path: &BStr,
        (device, in_fs): ((u32, u32), &BString),
    ) -> Option<Bound> {
        let host = self.host();
        let process = host.process(pid).ok()?;
        let namespace = process.namespace("mnt").ok()?;
        if Some(namespace) == self.hosts_mounts() {
            return None;
        }
        let mounts = process.mountinfo().ok()?;
        let opened = self.that_is(&process, path, &mounts, (device, in_fs));
        let is_it = opened.is_some();
        let inside = opened.or_else(|| mounts.iter().find_map(|m| in_overlay(m, path)))?;
        let lines = process.cgroup().map(Rc::new).ok()?;
        let mut owner = self.container_chain(pid, &lines)?.pop()?;
        if nspawn::is_shared(&owner) {
            // What started it tells which it is.
            let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
            owner = self.row(pid, needs).ok()??.owner().cloned()?;
        }
        Some(Bound { owner, inside, pid: Some(pid), is_it })
    }

    /// The first path by which a process has this file of the host mounted, which is at `in_fs` of its file system.
    fn that_is(
        &self,
        process: &ProcDir<'_>,
        path: &BStr,
        mounts: &[Mount],
        (device, in_fs): ((u32, u32), &BString),
    ) -> Option<BString> {
        let host = self.host();
        let inside = |m: &Mount| Some((m.id, joined(&m.point, strip(&m.root, in_fs)?)));
        let mut all = mounts.iter().filter(|m| m.device == device).filter_map(inside);
        let first = all.next()?;
        let own = host.lookup(&host.root_object().ok()?, path, Way::Plain).ok()?.look().ok()?;
        let root = process.object("root").ok()?;
        let is_it = |(mount, inside): &(u32, BString)| {
            let there = host.lookup(&root, inside.as_ref(), Way::Plain);
            match there.and_then(|object| object.look()) {
                Ok(look) => look.is(&own),
                // A root that a user's server shows to nobody else (fuse(4), allow_other): what lies at the path
                // is in the kernel's table all the same.
                Err(e) if Class::of(e) == Class::Forbidden => is_on_top(mounts, *mount, inside),
                Err(_) => false,
            }
        };
        std::iter::once(first).chain(all).find(is_it).map(|(_, inside)| inside)
    }

    /// The path by which one process has a file of the host mounted: opened and compared, where that is allowed.
    pub fn mounted_at(&self, pid: u32, path: &BStr) -> Option<BString> {
        let host = self.host();
        let process = host.process(pid).ok()?;
        let own = mount_of(host.mounts().ok()?, path)?;
        let in_fs = joined(&own.root, strip(&own.point, path)?);
        let mounts = process.mountinfo().ok()?;
        self.that_is(&process, path, &mounts, (own.device, &in_fs))
    }
}

/// Whether a mount is what a process sees at a path, by its table alone: nothing lies over it there, and nothing over the
/// directory that it is in.
fn is_on_top(mounts: &[Mount], id: u32, path: &BString) -> bool {
    let Some(top) = mount_of(mounts, path).filter(|top| top.id == id) else { return false };
    let dir = top.point.rfind_byte(b'/').map_or(&b"/"[..], |at| &top.point[..at.max(1)]);
    mount_of(mounts, dir).is_some_and(|below| below.id == top.parent)
}

/// What a process calls a path of the host that lies in a layer of an overlay, by the texts of that one's layers.
fn in_overlay(mount: &Mount, path: &BStr) -> Option<BString> {
    if mount.fs_type != "overlay" {
        return None;
    }
    let options = overlay::parse(mount.super_options.as_ref());
    let dirs = options.upper.iter().chain(&options.lowers).filter(|dir| dir.starts_with(b"/"));
    let rest = dirs.filter_map(|dir| strip(dir, path)).map(|rest| joined(b"/", rest));
    let inside = |rest: BString| Some(joined(&mount.point, strip(&mount.root, &rest)?));
    rest.into_iter().find_map(inside)
}

pub(super) fn joined(dir: &[u8], rest: &[u8]) -> BString {
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    match (rest, dir.strip_suffix(b"/").unwrap_or(dir)) {
        (b"", b"") => "/".into(),
        (b"", dir) => dir.into(),
        (rest, dir) => [dir, b"/", rest].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::mountinfo::parse;

    use super::{in_overlay, is_on_top};

    #[test]
    fn what_lies_at_a_path() {
        let mounts = parse(
            b"1 0 0:5 / / rw - fuse.fuse-overlayfs f rw\n2 1 8:1 /a /etc/name rw - ext4 /dev/sda1 rw\n\
              3 1 8:1 /d /data rw - ext4 /dev/sda1 rw\n4 3 0:6 / /data/x rw - tmpfs t rw\n\
              5 1 8:1 /h /opt/h rw - ext4 /dev/sda1 rw\n6 1 0:7 / /opt rw - tmpfs t rw\n\
              7 1 8:1 /t /twice rw - ext4 /dev/sda1 rw\n8 7 0:8 / /twice rw - tmpfs t rw\n",
        )
        .unwrap();
        let is = |id, path: &str| is_on_top(&mounts, id, &path.into());
        assert!(is(2, "/etc/name") && is(3, "/data") && is(3, "/data/y/z"));
        // Under another, or in a directory that lies under another.
        assert!(!is(3, "/data/x/y") && !is(5, "/opt/h") && !is(7, "/twice"));
    }

    #[test]
    fn a_file_of_an_overlays_layer() {
        let mounts = parse(
            b"1 0 0:40 / / rw - overlay overlay rw,lowerdir=/l/a:/l/b,upperdir=/u,workdir=/w\n\
              2 1 0:41 /sub /mnt rw - overlay overlay rw,lowerdir=/x,upperdir=/y,workdir=/w\n\
              3 1 8:1 / /u rw - ext4 /dev/sda1 rw\n",
        )
        .unwrap();
        let of = |at: usize, path: &str| {
            in_overlay(&mounts[at], BStr::new(path)).map(|inside| inside.to_string())
        };
        assert_eq!(of(0, "/l/b/etc/x").as_deref(), Some("/etc/x"));
        assert_eq!(of(0, "/u").as_deref(), Some("/"));
        assert_eq!(of(0, "/l/ab/x"), None);
        assert_eq!(of(1, "/y/sub/f").as_deref(), Some("/mnt/f"));
        assert_eq!((of(1, "/y/f"), of(2, "/u/f")), (None, None));
    }
}
