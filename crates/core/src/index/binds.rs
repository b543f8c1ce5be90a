//! The containers that have a file of the host bound somewhere, by the mounts of their processes.

use std::collections::HashSet;
use std::rc::Rc;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::object::Object;
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip, walk};
use whose_kernel::parse::overlay;
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Mode, ReadError};

use super::Index;
use crate::model::gap::{Reasons, what};
use crate::model::{Engine, Gap, Owner};
use crate::runtime::{Proof, nspawn};

/// What a container is named by.
const DESCRIBED: Needs = Needs::DESCRIPTION.and(Needs::LIVENESS);

/// A container, and where in it a file of the host is.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The container.
    pub owner: Rc<Owner>,
    /// The path from the root of the process that was asked.
    pub inside: BString,
    /// That process; `None` for one that does not run.
    pub pid: Option<u32>,
    /// Whether that path is the file: it was opened and compared, or the table of mounts says so where it may not be. Else the
    /// file lies in a layer of an overlay that is mounted there, and something may lie over it.
    pub is_it: bool,
}

/// A file of the host by where it lies on its file system.
struct OnFs<'p> {
    /// What the host calls it.
    path: &'p BStr,
    device: (u32, u32),
    /// The path from the root of that file system.
    inside: BString,
}

impl Index<'_> {
    /// The running containers that show a path of the host, each once, by what their first processes have
    /// mounted; with the gaps of those that could not be asked, and where not all could be found in time. Costs a walk of the
    /// cgroup tree and a process or two of each container.
    pub fn bound(&mut self, path: &BStr) -> (Vec<Bound>, Vec<Gap>) {
        let (mut found, mut asked): (Vec<Bound>, HashSet<u32>) = (Vec::new(), HashSet::new());
        let mut untold: Vec<(Gap, Rc<Owner>)> = Vec::new();
        let on_fs = match self.on_fs(path) {
            Ok(on_fs) => on_fs,
            Err(e) => return (found, vec![unread(e)]),
        };
        let (cgroups, problem) = self.all_cgroups();
        let mut late = problem.map(unread);
        'cgroups: for (hierarchy, dir) in cgroups {
            let named = super::lookup::named_by(&hierarchy, &dir);
            if named.is_empty() {
                continue;
            }
            // Machines without a unit share one: each has a first process there.
            let is_shared = |(engine, key, _): &(Engine, BString, Proof)| {
                *engine == nspawn::ENGINE && key == nspawn::PAYLOAD
            };
            let is_shared = named.iter().any(is_shared);
            let pids = match is_shared {
                true => self.members_below(&dir).map(|(_, pids)| pids).unwrap_or_default(),
                false => self.first_members(&dir),
            };
            let (mut is_told, mut refused) = (false, Vec::new());
            for pid in pids {
                if self.host().out_of_time() {
                    let why = "not all containers' mounts were looked at in time";
                    let error = ReadError::new(path, Class::TimedOut, why);
                    late = Some(unread(error));
                    break 'cgroups;
                }
                if !asked.insert(pid) {
                    continue;
                }
                match self.inside_of(pid, &on_fs) {
                    Ok(None) => is_told = true,
                    Ok(Some((inside, is_it))) => {
                        is_told = true;
                        let bound = |owner| Bound { owner, inside, pid: Some(pid), is_it };
                        found.extend(self.container_of_member(pid).map(bound));
                    }
                    Err(gap) => refused.push((pid, gap)),
                }
            }
            // Where one of its processes told the others need not.
            let refused = refused.into_iter().filter(|_| is_shared || !is_told);
            for (pid, gap) in refused {
                let owner = self.container_of_member(pid);
                untold.extend(owner.map(|owner| (gap, owner)));
            }
        }
        let mut seen = HashSet::new();
        let mut is_new = |owner: &Owner| {
            let name = owner.best_name().cloned();
            seen.insert((owner.runtime, owner.key(), name, owner.within.clone()))
        };
        found.retain(|b| is_new(&b.owner));
        untold.retain(|(_, owner)| is_new(owner));
        let named = untold.into_iter().map(|(gap, owner)| {
            // What shares a cgroup with others was told from them by what started it.
            let is_shared = nspawn::is_shared(&owner);
            let owner = if is_shared { owner } else { self.container_of(&owner, DESCRIBED).owner };
            untold_of(&owner, path, &gap)
        });
        let mut gaps: Vec<Gap> = named.collect();
        gaps.extend(late.into_iter().chain(self.hidden_processes()));
        (found, gaps)
    }

    /// Where a path of the host lies on its file system.
    fn on_fs<'p>(&self, path: &'p BStr) -> Result<OnFs<'p>, ReadError> {
        let mounts = self.host().mounts()?;
        let unknown = || {
            let why = "no mount of the host's table has it";
            ReadError::new(path, Class::Unsupported, why)
        };
        let own = mount_of(mounts, path).ok_or_else(unknown)?;
        let rest = strip(&own.point, path).ok_or_else(unknown)?;
        Ok(OnFs { path, device: own.device, inside: joined(&own.root, rest) })
    }

    /// The container that a member of a cgroup is in which is called as one's.
    fn container_of_member(&mut self, pid: u32) -> Option<Rc<Owner>> {
        let lines =
            self.host().process(pid).and_then(|process| process.cgroup()).map(Rc::new).ok()?;
        let owner = self.container_chain(pid, &lines)?.pop()?;
        if !nspawn::is_shared(&owner) {
            return Some(owner);
        }
        // What started it tells which it is.
        let needs = Needs::STAT.and(Needs::STATUS).and(Needs::OWNER);
        self.row(pid, needs).ok()??.owner().cloned()
    }

    /// Where a process with mounts of its own has a file of the host, and whether that is known to be it.
    fn inside_of(&self, pid: u32, of: &OnFs<'_>) -> Result<Option<(BString, bool)>, Gap> {
        let told = || {
            let process = self.host().process(pid).map_err(unread)?;
            let mounts = process.mountinfo().map_err(unread)?;
            if self.has_hosts_mounts(&process, &mounts).map_err(unread)? {
                return Ok(None);
            }
            if let Some(shown) = self.that_is(&process, &mounts, of)? {
                return Ok(Some((shown, true)));
            }
            let in_overlay = mounts.iter().find_map(|m| in_overlay(m, of.path));
            Ok(in_overlay.map(|inside| (inside, false)))
        };
        self.unless_gone(told())
    }

    fn has_hosts_mounts(&self, process: &ProcDir<'_>, mounts: &[Mount]) -> Result<bool, ReadError> {
        match process.namespace("mnt") {
            Ok(own) => Ok(Some(own) == self.hosts_mounts()),
            // Anybody may read the table, and no two namespaces have a mount in common.
            Err(e) if e.class == Class::Forbidden && self.host().mode() == Mode::Live => {
                let hosts = self.host().mounts()?;
                Ok(mounts.first().is_some_and(|first| hosts.iter().any(|m| m.id == first.id)))
            }
            Err(e) => Err(e),
        }
    }

    /// Who has gone meanwhile has nothing. Of a saved tree it was not saved.
    fn unless_gone<T>(&self, told: Result<Option<T>, Gap>) -> Result<Option<T>, Gap> {
        let is_gone = |gap: &Gap| gap.class == Class::Gone && self.host().mode() != Mode::Saved;
        told.or_else(|gap| if is_gone(&gap) { Ok(None) } else { Err(gap) })
    }

    /// The first path by which a process has this file of the host mounted: opened and compared, or by its table of mounts where
    /// nobody else may open it, or nobody answers.
    fn that_is(
        &self,
        process: &ProcDir<'_>,
        mounts: &[Mount],
        of: &OnFs<'_>,
    ) -> Result<Option<BString>, Gap> {
        let host = self.host();
        let inside = |m: &Mount| Some((m.id, joined(&m.point, strip(&m.root, &of.inside)?)));
        let all = mounts.iter().filter(|m| m.device == of.device).filter_map(inside);
        let all: Vec<(u32, BString)> = all.collect();
        if all.is_empty() {
            return Ok(None);
        }
        let look = |dir: &Object, path: &BStr| {
            host.lookup(dir, path, Way::Plain).and_then(|object| object.look())
        };
        let mut both = None;
        // A saved tree has the table alone.
        if host.mode() != Mode::Saved {
            let own = look(&host.root_object().map_err(unread)?, of.path);
            if own.is_err_and(|e| Class::of(e) == Class::Gone) {
                return Ok(None);
            }
            both = own.ok().zip(process.object("root").ok());
        }
        let mut untold = None;
        for (mount, inside) in all {
            let why = match both.as_ref().map(|(own, root)| (own, look(root, inside.as_ref()))) {
                Some((own, Ok(look))) if look.is(own) => return Ok(Some(inside)),
                Some((_, Ok(_))) => continue,
                Some((_, Err(e))) if matches!(Class::of(e), Class::Gone | Class::Malformed) => {
                    continue;
                }
                Some((_, Err(e))) => Class::of(e),
                None => Class::Unsupported,
            };
            // A root that a user's server shows to nobody else (fuse(4), allow_other), and a process of somebody else's: what
            // lies at the path is in the kernel's table all the same.
            match walk(mounts, &inside) {
                Some(on_top) if on_top == mount => return Ok(Some(inside)),
                Some(_) => {}
                None => untold = untold.or(Some((why, inside))),
            }
        }
        let Some((class, inside)) = untold else { return Ok(None) };
        let root = format!("proc/{}/root", process.pid());
        let path = host.shown(&[root.as_bytes(), &inside].concat());
        let cause = "it can't be opened, and the table of mounts does not tell what lies there";
        let remedy = match (host.mode(), class) {
            (Mode::Saved, _) => "ask on the running host",
            (_, Class::TimedOut) => "try again with a longer --timeout",
            _ => "run whose as the user whose container that is",
        };
        Err(Gap::new(what::PATH, class, path, cause, Some(remedy)))
    }

    /// The path by which one process of a container has a file of the host mounted.
    ///
    /// # Errors
    /// When it can't be told; then the container may have it or not.
    pub fn mounted_at(&self, owner: &Owner, pid: u32, path: &BStr) -> Result<Option<BString>, Gap> {
        let told = || {
            let process = self.host().process(pid).map_err(unread)?;
            let mounts = process.mountinfo().map_err(unread)?;
            self.that_is(&process, &mounts, &self.on_fs(path).map_err(unread)?)
        };
        self.unless_gone(told()).map_err(|gap| untold_of(owner, path, &gap))
    }
}

fn unread(error: ReadError) -> Gap {
    Gap::from_read(what::PATH, &error)
}

/// That a container could not be asked whether it has a file of the host.
fn untold_of(owner: &Owner, path: &BStr, gap: &Gap) -> Gap {
    let cause = format!("whether it has {path} can't be told: {}: {}", gap.path, gap.cause).into();
    let (path, remedy) = (owner.label(), gap.remedy.clone());
    Gap::from(Reasons { what: what::PATH, class: gap.class, path, cause, remedy })
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
