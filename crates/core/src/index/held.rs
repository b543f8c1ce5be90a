//! Who is in a namespace, has a file system mounted, or maps a file: by one look at every process.
//!
//! What no process shows is not seen: a namespace that nothing but a bind mount or a descriptor keeps.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::parse::{self, maps};
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::Gap;

/// Loop devices that are looked through for an image.
const MOST_LOOPS: usize = 4096;
/// What mountinfo adds to the root of a mount whose directory was removed.
const DELETED: &[u8] = b"//deleted";

/// A process that stands for its mount namespace, and what it has mounted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The process.
    pub pid: u32,
    /// Its mount namespace.
    pub namespace: u64,
    /// Where, from its root.
    pub point: BString,
    /// Whether what is mounted was removed.
    pub is_deleted: bool,
}

/// A process that stands for its mount namespace, and what that has where the host has nothing mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The process.
    pub pid: u32,
    /// Its mount namespace.
    pub namespace: u64,
    /// What is mounted there.
    pub mount: Mount,
}

/// What could not be told.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// How many may not be looked at, and why the first may not.
    refused: usize,
    first: Option<ReadError>,
    is_late: bool,
}

impl Asked {
    fn failed(&mut self, error: ReadError) {
        match error.class {
            Class::Gone => {}
            Class::TimedOut => self.is_late = true,
            Class::Forbidden | Class::Unsupported | Class::Malformed => {
                self.refused += 1;
                self.first.get_or_insert(error);
            }
        }
    }

    pub(super) fn gap(self, what: &'static str, path: BString) -> Option<Gap> {
        if self.is_late {
            let why = "not all processes were asked in time";
            return Some(Gap::from_read(what, &ReadError::new(path, Class::TimedOut, why)));
        }
        let first = Gap::from_read(what, &self.first?);
        let more = self.refused - 1;
        if more == 0 {
            return Some(first);
        }
        let cause = format!("{}, and so {more} more", first.cause);
        Some(Gap::new(what, first.class, first.path.clone(), cause, RUN_AS_ROOT))
    }
}

/// What would fix that several can't be asked.
const RUN_AS_ROOT: Option<&str> = Some("run as root: sudo whose ...");

impl Index<'_> {
    /// All processes but this one, until the time is out.
    pub(super) fn each_process(
        &self,
        asked: &mut Asked,
        ask: &mut dyn FnMut(u32, &mut Asked),
    ) -> Result<(), ReadError> {
        let own = self.host().own_pid();
        for pid in self.host().pids()?.into_iter().filter(|pid| Some(*pid) != own) {
            if self.host().out_of_time() {
                asked.is_late = true;
                break;
            }
            ask(pid, asked);
        }
        Ok(())
    }

    /// The processes in a namespace, `kind` as in `/proc/PID/ns`; with the gap where not all could be asked.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn in_namespace(
        &self,
        kind: &str,
        number: u64,
        what: &'static str,
    ) -> Result<(Vec<u32>, Option<Gap>), ReadError> {
        let (mut asked, mut found) = (Asked::default(), Vec::new());
        self.each_process(&mut asked, &mut |pid, asked| match self
            .host()
            .process(pid)
            .and_then(|process| process.namespace(kind))
        {
            Ok(its) if its == number => found.push(pid),
            Ok(_) => {}
            Err(e) => asked.failed(e),
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }

    /// Who has a directory of a file system mounted, or something in it: of each mount namespace but the host's a
    /// process, one whose root hides nothing if there is such a one.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn holding(
        &self,
        device: (u32, u32),
        root: &BStr,
        what: &'static str,
    ) -> Result<(Vec<Held>, Option<Gap>), ReadError> {
        let (mut asked, mut found) = (Asked::default(), Vec::new());
        self.each_namespace(&mut asked, (device, root), &mut |namespace, pid, mounts| {
            let all = mounts.iter().filter_map(|m| held(m, device, root));
            found.extend(all.map(|(point, is_deleted)| Held { pid, namespace, point, is_deleted }));
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }

    /// The mounts of each mount namespace but the host's, by a process of it, one whose root hides nothing if there is
    /// such a one; `about` is the directory whose mounts are asked for.
    fn each_namespace(
        &self,
        asked: &mut Asked,
        about: ((u32, u32), &BStr),
        each: &mut dyn FnMut(u64, u32, &[Mount]),
    ) -> Result<(), ReadError> {
        let mut namespaces: BTreeMap<u64, (u32, bool)> = BTreeMap::new();
        self.each_process(asked, &mut |pid, asked| {
            let Ok(process) = self.host().process(pid) else { return };
            let namespace = match process.namespace("mnt") {
                Ok(namespace) if Some(namespace) == self.hosts_mounts() => return,
                Ok(namespace) => namespace,
                Err(e) => return self.unplaced(pid, &process, about, asked, e),
            };
            let known = namespaces.get(&namespace);
            if known.is_some_and(|(_, is_whole)| *is_whole) {
                return;
            }
            let is_whole = process.link_text("root").is_ok_and(|root| root == "/");
            if is_whole || known.is_none() {
                namespaces.insert(namespace, (pid, is_whole));
            }
        })?;
        for (namespace, (pid, _)) in namespaces {
            match self.host().process(pid).and_then(|process| process.mountinfo()) {
                Ok(mounts) => each(namespace, pid, &mounts),
                Err(e) => asked.failed(e),
            }
        }
        Ok(())
    }

    /// Who has something mounted over a path of the host's where the host has nothing: by the file system and the
    /// directory of it that the path is, whatever it is called there.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn mounted_over(
        &self,
        path: &BStr,
        what: &'static str,
    ) -> Result<(Vec<Over>, Option<Gap>), ReadError> {
        let Some(own) = mount_of(self.host().mounts()?, path) else {
            return Ok((Vec::new(), None));
        };
        let rest = strip(&own.point, path).unwrap_or_default();
        let inside = whose_kernel::root::join(own.root.as_ref(), rest);
        let about = (own.device, inside.as_bstr());
        let (mut asked, mut found) = (Asked::default(), Vec::new());
        self.each_namespace(&mut asked, about, &mut |namespace, pid, mounts| {
            let all = mounts.iter().filter(|mount| lies_over(mount, mounts, about));
            found.extend(all.map(|mount| Over { pid, namespace, mount: mount.clone() }));
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }

    /// A process whose mount namespace may not be known: what it has mounted may be, and it may have nothing of it.
    /// The first of all is in the host's.
    pub(super) fn unplaced(
        &self,
        pid: u32,
        process: &ProcDir<'_>,
        (device, root): ((u32, u32), &BStr),
        asked: &mut Asked,
        error: ReadError,
    ) {
        let holds = |mounts: Vec<Mount>| mounts.iter().any(|m| held(m, device, root).is_some());
        if pid != 1 && process.mountinfo().map_or(true, holds) {
            asked.failed(error);
        }
    }

    /// The device of the loop that an image is behind.
    #[must_use]
    pub fn loop_of(&self, image: &BStr) -> Option<(u32, u32)> {
        let root = self.host().root();
        let entries = root.list(b"sys/block", MOST_LOOPS).ok()?;
        let names = entries.into_iter().map(|e| e.name).filter(|name| name.starts_with(b"loop"));
        let line = |name: &BString, file: &str| -> Option<BString> {
            let path = [b"sys/block/", name.as_slice(), b"/", file.as_bytes()].concat();
            let text = root.read(&path, 8192).ok()?;
            Some(text.strip_suffix(b"\n").unwrap_or(&text).into())
        };
        let is_its = |name: &BString| line(name, "loop/backing_file").is_some_and(|p| p == image);
        let mut of = names.filter(is_its);
        let (major, minor) = line(&of.next()?, "dev")?
            .split_once_str(":")
            .map(|(a, b)| (parse::decimal32(a), parse::decimal32(b)))?;
        Some((major?, minor?))
    }

    /// The processes that map a file, by the device and number that their own tables have.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn mapping(
        &self,
        device: (u32, u32),
        ino: u64,
        what: &'static str,
    ) -> Result<(Vec<u32>, Option<Gap>), ReadError> {
        let (mut asked, mut found) = (Asked::default(), Vec::new());
        self.each_process(&mut asked, &mut |pid, asked| {
            let all = self.host().process(pid).and_then(|process| {
                let (reader, ticks) = process.reader(process.stat()?.start_ticks);
                let exam = self.host().exam(reader, ticks)?;
                maps::parse(exam.maps()).map_err(|malformed| malformed.at(BString::default()))
            });
            match all {
                Ok(all) if all.iter().any(|m| (m.device, m.inode) == (device, ino)) => {
                    found.push(pid);
                }
                Ok(_) => {}
                Err(e) => asked.failed(e),
            }
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }
}

/// Whether a mount is attached to this very directory or file of a file system.
fn lies_over(mount: &Mount, all: &[Mount], (device, inside): ((u32, u32), &BStr)) -> bool {
    let is_below = |below: &&Mount| below.id == mount.parent && below.device == device;
    let Some(below) = all.iter().filter(|m| m.device == device).find(is_below) else {
        return false;
    };
    // On top of the root of another one lies what was mounted at the same point again.
    strip(&below.point, &mount.point)
        .is_some_and(|rest| whose_kernel::root::join(below.root.as_ref(), rest) == inside)
}

/// Where a mount has the directory of a file system, or something in it; `true` with it: that was removed.
pub(super) fn held(mount: &Mount, device: (u32, u32), root: &BStr) -> Option<(BString, bool)> {
    if mount.device != device {
        return None;
    }
    let (own, is_deleted) = match mount.root.strip_suffix(DELETED) {
        Some(own) => (own.as_bstr(), true),
        None => (mount.root.as_bstr(), false),
    };
    strip(root, own)?;
    Some((mount.point.clone(), is_deleted))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::mountinfo::{Mount, parse};

    use super::{held, lies_over};

    #[test]
    fn what_is_mounted_over_a_directory() {
        // A namespace whose root is a directory of the host's disk.
        let mounts = parse(
            b"1 0 8:1 /srv / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /web rw - ext4 /dev/sda2 rw\n\
              3 2 0:9 / /web/tmp rw - tmpfs none rw\n4 2 8:2 /x /web/y rw - ext4 /dev/sda2 rw\n\
              5 4 0:8 / /web/y rw - tmpfs none rw\n",
        )
        .unwrap();
        let over = |device: u32, inside: &str| -> Vec<u32> {
            let is_it = |m: &&Mount| lies_over(m, &mounts, ((8, device), BStr::new(inside)));
            mounts.iter().filter(is_it).map(|m| m.id).collect()
        };
        assert_eq!(over(1, "/srv/web"), [2]);
        assert_eq!(over(2, "/tmp"), [3]);
        assert_eq!(over(2, "/y"), [4]);
        assert_eq!(over(2, "/x"), [5]);
        assert_eq!(
            (over(1, "/web"), over(2, "/web/tmp"), over(1, "/srv")),
            (vec![], vec![], vec![])
        );
    }

    #[test]
    fn what_is_in_a_directory_that_is_mounted() {
        let mounts = parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /data rw - ext4 /dev/sda2 rw\n\
              3 1 8:2 /web/a /srv rw - ext4 /dev/sda2 rw\n\
              4 1 8:2 /web//deleted /old rw - ext4 /dev/sda2 rw\n",
        )
        .unwrap();
        let of = |root: &str| -> Vec<(String, bool)> {
            let all = mounts.iter().filter_map(|m| held(m, (8, 2), BStr::new(root)));
            all.map(|(point, gone)| (point.to_string(), gone)).collect()
        };
        let is = |point: &str, gone| (point.to_owned(), gone);
        assert_eq!(of("/"), [is("/data", false), is("/srv", false), is("/old", true)]);
        assert_eq!(of("/web"), [is("/srv", false), is("/old", true)]);
        assert_eq!(of("/we"), []);
    }
}
