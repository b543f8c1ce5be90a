//! Who uses a file system that is mounted: by one look at what every process is in, runs, maps and has open, as
//! fuser(1) does with `-m`.
//!
//! What the kernel itself holds is not seen: a loop device behind one of its files, swap, an export.

use std::collections::HashSet;

use bstr::{BStr, BString};
use whose_kernel::object::{Look, Object};
use whose_kernel::parse::maps::{self, Mapping};
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Class, ReadError};

use super::Index;
use super::held::{Asked, held};
use crate::model::Gap;

/// Links of a process that lead to files, and what that is called.
const LINKS: [&str; 3] = ["cwd", "root", "exe"];

/// Files of one process that are looked at for the mount that they were opened on, at most.
const MOST_MAPPED: usize = 4096;

/// A process that uses a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// The process.
    pub pid: u32,
    /// By what: `cwd`, `root`, `exe`, `map`, `fd`.
    pub how: Vec<&'static str>,
    /// The descriptors that it has open there.
    pub fds: Vec<u32>,
}

/// The file system that is asked about.
struct Asking<'a> {
    device: (u32, u32),
    root: &'a BStr,
    /// Ids of the mounts of it, in all mount namespaces: the files of a btrfs have other device numbers.
    mounts: HashSet<u64>,
}

impl Index<'_> {
    /// The processes that use a directory of a file system, by any mount of it; with the gap where not all could be
    /// asked.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn using(
        &self,
        device: (u32, u32),
        root: &BStr,
        what: &'static str,
    ) -> Result<(Vec<Use>, Option<Gap>), ReadError> {
        let asking = Asking { device, root, mounts: self.mounts_of(device, root)? };
        let (mut asked, mut found) = (Asked::default(), Vec::new());
        self.each_process(&mut asked, &mut |pid, asked| {
            let Ok(process) = self.host().process(pid) else { return };
            let (used, failed) = self.used_by(pid, &process, &asking);
            found.extend(Some(used).filter(|used| !used.how.is_empty()));
            if let Some(e) = failed {
                self.unplaced(pid, &process, (device, root), asked, e);
            }
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }

    /// The ids of the mounts of a directory of a file system: the host's, and those of every other namespace.
    fn mounts_of(&self, device: (u32, u32), root: &BStr) -> Result<HashSet<u64>, ReadError> {
        let of = |mounts: &[Mount]| -> Vec<u64> {
            let own = mounts.iter().filter(|m| held(m, device, root).is_some());
            own.map(|m| u64::from(m.id)).collect()
        };
        let mut ids: HashSet<u64> = of(self.host().mounts()?).into_iter().collect();
        // What could not be asked is told when the same processes are asked for what they use.
        let mut asked = Asked::default();
        self.each_namespace(&mut asked, (device, root), &mut |_, _, mounts| {
            ids.extend(of(mounts));
        })?;
        Ok(ids)
    }

    /// By what a process uses it, with what could not be told.
    fn used_by(
        &self,
        pid: u32,
        process: &ProcDir<'_>,
        asking: &Asking<'_>,
    ) -> (Use, Option<ReadError>) {
        let mut used = Use { pid, ..Use::default() };
        for link in LINKS {
            match process.object(link) {
                Ok(object) if asking.has(&object) => used.how.push(link),
                Ok(_) => {}
                // A kernel thread has none, and what has ended neither.
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return (used, Some(e)),
            }
        }
        let mut failed = None;
        match self.maps_some(process, asking) {
            Ok(true) => used.how.push("map"),
            Ok(false) => {}
            Err(e) => failed = Some(e),
        }
        let fds = match process.descriptors() {
            Ok(fds) => fds,
            Err(e) if e.class == Class::Gone => Vec::new(),
            Err(e) => return (used, Some(e)),
        };
        let is_there = |fd: &u32| {
            let object = process.object(&format!("fd/{fd}"));
            object.is_ok_and(|object| asking.has(&object))
        };
        used.fds = fds.into_iter().filter(is_there).collect();
        used.fds.sort_unstable();
        if !used.fds.is_empty() {
            used.how.push("fd");
        }
        (used, failed)
    }

    /// Whether a process maps a file there: by the device that its table has; of one directory of a file system by the
    /// mount that the mapped file was opened on.
    fn maps_some(&self, process: &ProcDir<'_>, asking: &Asking<'_>) -> Result<bool, ReadError> {
        let exam = process.stat().and_then(|stat| {
            let (reader, ticks) = process.reader(stat.start_ticks);
            self.host().exam(reader, ticks)
        });
        let exam = match exam {
            Ok(exam) => exam,
            Err(e) if e.class == Class::Gone => return Ok(false),
            Err(e) => return Err(e),
        };
        let all = maps::parse(exam.maps()).map_err(|bad| bad.at(BString::default()))?;
        let mut could_be: Vec<&Mapping> =
            all.iter().filter(|m| m.device == asking.device && m.inode != 0).collect();
        if asking.root == "/" || could_be.is_empty() {
            return Ok(!could_be.is_empty());
        }
        could_be.sort_by_key(|m| m.inode);
        // The same file may be mapped by way of several mounts, though mostly its parts are of one.
        could_be.dedup_by_key(|m| (m.inode, m.name.clone()));
        for mapping in could_be.iter().take(MOST_MAPPED) {
            match exam.mapped(mapping.start, mapping.end) {
                Ok(object) if asking.has(&object) => return Ok(true),
                Ok(_) => {}
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(e),
            }
        }
        if could_be.len() > MOST_MAPPED {
            let why = format!("of the files that it maps more than {MOST_MAPPED} may be there");
            let path = self.host().shown(format!("proc/{}/map_files", process.pid()).as_bytes());
            return Err(ReadError::new(path, Class::Unsupported, why));
        }
        Ok(false)
    }
}

impl Asking<'_> {
    fn has(&self, object: &Object) -> bool {
        let is_it = |look: Look| {
            // What was opened before all of it was unmounted is on a mount that nobody lists.
            let by_device = self.root == "/" && look.device == self.device;
            by_device || look.mount.is_some_and(|id| self.mounts.contains(&id))
        };
        object.look().is_ok_and(is_it)
    }
}
