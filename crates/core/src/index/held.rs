//! Who is in a namespace, has a file system mounted, or maps a file: by one look at every process.
//!
//! What no process shows is not seen: a namespace that nothing but a bind mount or a descriptor keeps.

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::mountinfo::{Mount, mount_of, strip};
use whose_kernel::parse::{self, maps};
use whose_kernel::read::process::ProcDir;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::Gap;

/// Loop devices that are looked through for an image.
const MOST_LOOPS: usize = 4096;
/// Of what one namespace has over a path so many mounts are told one by one.
const MOST_OVER: usize = 8;
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
    /// How many more the namespace has over the same path.
    pub more: usize,
}

/// Processes that show what a mount namespace has mounted: one whose root hides nothing, or else of each root one.
#[derive(Debug)]
enum Views {
    Whole(u32),
    Parts(HashMap<BString, u32>),
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
        let mut seen = HashSet::new();
        self.each_namespace(&mut asked, (device, root), &mut |namespace, pid, mounts| {
            let all = mounts.iter().filter_map(|m| Some((m.id, held(m, device, root)?)));
            let all = all.filter(|(id, _)| seen.insert((namespace, *id))).map(|(_, held)| held);
            found.extend(all.map(|(point, is_deleted)| Held { pid, namespace, point, is_deleted }));
        })?;
        Ok((found, asked.gap(what, self.host().shown(b"proc"))))
    }

    /// The mounts of each mount namespace but the host's, by a process of it, one whose root hides nothing if there is
    /// such a one, or else by one of each root; `about` is the directory whose mounts are asked for.
    pub(super) fn each_namespace(
        &self,
        asked: &mut Asked,
        about: ((u32, u32), &BStr),
        each: &mut dyn FnMut(u64, u32, &[Mount]),
    ) -> Result<(), ReadError> {
        let mut namespaces: BTreeMap<u64, Views> = BTreeMap::new();
        self.each_process(asked, &mut |pid, asked| {
            let Ok(process) = self.host().process(pid) else { return };
            let namespace = match process.namespace("mnt") {
                Ok(namespace) if Some(namespace) == self.hosts_mounts() => return,
                Ok(namespace) => namespace,
                Err(e) => return self.unplaced(pid, &process, about, asked, e),
            };
            let views = namespaces.entry(namespace).or_insert_with(|| Views::Parts(HashMap::new()));
            let Views::Parts(parts) = views else { return };
            let root = process.link_text("root").unwrap_or_default();
            if root == "/" {
                *views = Views::Whole(pid);
            } else {
                parts.entry(root).or_insert(pid);
            }
        })?;
        for (namespace, views) in namespaces {
            let mut pids = match views {
                Views::Whole(pid) => vec![pid],
                Views::Parts(parts) => parts.into_values().collect(),
            };
            pids.sort_unstable();
            for pid in pids {
                if self.host().out_of_time() {
                    asked.is_late = true;
                    return Ok(());
                }
                match self.host().process(pid).and_then(|process| process.mountinfo()) {
                    Ok(mounts) => each(namespace, pid, &mounts),
                    Err(e) => asked.failed(e),
                }
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
        let mut seen = HashSet::new();
        self.each_namespace(&mut asked, about, &mut |namespace, pid, mounts| {
            let mut all = over(mounts, about);
            all.retain(|mount| seen.insert((namespace, mount.id)));
            let more = all.len().saturating_sub(MOST_OVER);
            let told = all.into_iter().take(MOST_OVER);
            found.extend(told.map(|m| Over { pid, namespace, mount: m.clone(), more }));
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

/// The mounts that are attached to this very directory or file of a file system. A namespace may have a hundred thousand,
/// so that each is looked at once.
fn over<'m>(all: &'m [Mount], (device, inside): ((u32, u32), &BStr)) -> Vec<&'m Mount> {
    let at = |below: &Mount| {
        let rest = strip(&below.root, inside).filter(|_| below.device == device)?;
        Some((below.id, whose_kernel::root::join(below.point.as_ref(), rest)))
    };
    let points: HashMap<u32, BString> = all.iter().filter_map(at).collect();
    // On top of the root of another one lies what was mounted at the same point again.
    all.iter().filter(|m| points.get(&m.parent).is_some_and(|point| *point == m.point)).collect()
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
    use whose_kernel::parse::mountinfo::parse;

    use super::{held, over};

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
            let all = over(&mounts, ((8, device), BStr::new(inside)));
            all.into_iter().map(|m| m.id).collect()
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

    /// An ordinary user may have as many mounts as `fs.mount-max` in each namespace of his own.
    #[test]
    fn a_namespace_with_a_hundred_thousand_mounts() {
        let line = |id: u32| format!("{id} 100001 8:1 /d /mnt/{id} rw - ext4 /dev/sda1 rw\n");
        let mut text: String = (1..=100_000).map(line).collect();
        text.push_str("100001 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
        text.push_str("100002 100001 0:9 / /srv rw - tmpfs none rw\n");
        let mounts = parse(text.as_bytes()).unwrap();
        let began = std::time::Instant::now();
        let all = over(&mounts, ((8, 1), BStr::new("/srv")));
        let took = began.elapsed();
        assert_eq!(all.iter().map(|m| m.id).collect::<Vec<_>>(), [100_002]);
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
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
