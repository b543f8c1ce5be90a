//! The containers that have a file of the host bound somewhere, by the mounts of their processes.

use std::collections::HashSet;
use std::rc::Rc;

use bstr::{BStr, BString};
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
        let inside = |m: &Mount| Some(joined(&m.point, strip(&m.root, in_fs)?));
        let all = mounts.iter().filter(|m| m.device == device).filter_map(inside);
        let opened = self.that_is(&process, path, all);
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

    /// The first of a process's paths that opens this file of the host.
    fn that_is(
        &self,
        process: &ProcDir<'_>,
        path: &BStr,
        mut all: impl Iterator<Item = BString>,
    ) -> Option<BString> {
        let host = self.host();
        let first = all.next()?;
        let own = host.lookup(&host.root_object().ok()?, path, Way::Plain).ok()?.look().ok()?;
        let root = process.object("root").ok()?;
        let is_it = |inside: &BString| {
            let there = host.lookup(&root, inside.as_ref(), Way::Plain);
            there.and_then(|object| object.look()).is_ok_and(|look| look.is(&own))
        };
        std::iter::once(first).chain(all).find(is_it)
    }

    /// The path by which one process has a file of the host mounted: opened and compared.
    pub fn mounted_at(&self, pid: u32, path: &BStr) -> Option<BString> {
        let host = self.host();
        let process = host.process(pid).ok()?;
        let own = mount_of(host.mounts().ok()?, path)?;
        let in_fs = joined(&own.root, strip(&own.point, path)?);
        let mounts = process.mountinfo().ok()?;
        let inside = |m: &Mount| Some(joined(&m.point, strip(&m.root, &in_fs)?));
        let all = mounts.iter().filter(|m| m.device == own.device).filter_map(inside);
        self.that_is(&process, path, all)
    }
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

    use super::in_overlay;

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
