//! The containers that have a file of the host bound somewhere, by the mounts of their processes.

use std::collections::HashSet;
use std::rc::Rc;

use bstr::{BStr, BString};
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::gap::what;
use crate::model::{Gap, Owner};

/// A container, and where in it a file of the host is.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The container.
    pub owner: Rc<Owner>,
    /// The path from the root of the process that was asked.
    pub inside: BString,
    /// That process.
    pub pid: u32,
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
            if super::lookup::named_by(&hierarchy, &dir).is_empty() {
                continue;
            }
            for pid in self.first_members(&dir) {
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
        found.retain(|b| seen.insert((b.owner.runtime, b.owner.key(), b.owner.within.clone())));
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
        let inside = self.that_is(&process, path, all)?;
        let lines = process.cgroup().map(Rc::new).ok()?;
        let owner = self.container_chain(pid, &lines)?.pop()?;
        Some(Bound { owner, inside, pid })
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

fn joined(dir: &[u8], rest: &[u8]) -> BString {
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    match (rest, dir.strip_suffix(b"/").unwrap_or(dir)) {
        (b"", b"") => "/".into(),
        (b"", dir) => dir.into(),
        (rest, dir) => [dir, b"/", rest].concat().into(),
    }
}
