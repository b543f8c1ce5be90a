//! Who is in the cgroups of one hierarchy: `cgroup.procs` of every directory.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::tree::{Tree, each_child, open_beneath, path_below};
use crate::drain::read_to_end;
use crate::host::Host;
use crate::parse;

/// Cap of `cgroup.procs`: 4 million PIDs of 8 bytes.
const PROCS: usize = 32 << 20;

/// The paths of one hierarchy, by number: walks of the same hierarchy share them.
#[derive(Debug, Default)]
pub(super) struct Paths {
    all: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
}

impl Paths {
    /// The path with this number.
    pub(super) fn get(&self, number: u32) -> Option<&[u8]> {
        self.all.get(number as usize).map(Vec::as_slice)
    }

    fn number(&mut self, path: Vec<u8>) -> Option<u32> {
        if let Some(number) = self.numbers.get(&path) {
            return Some(*number);
        }
        let number = u32::try_from(self.all.len()).ok()?;
        self.numbers.insert(path.clone(), number);
        self.all.push(path);
        Some(number)
    }
}

/// The root cgroup's path.
const ROOT: &[u8] = b"/";

/// Who was met where: a PID and the number of a path, in ascending order of the PIDs. Each was met
/// once.
pub(super) type Members = Vec<(u32, u32)>;

/// One cgroup that was met.
#[derive(Debug)]
struct Place {
    path: u32,
    /// The place it is below; the root's is its own.
    above: usize,
    /// `cgroup.procs` was read.
    is_read: bool,
    /// Below it may be threaded cgroups (cgroup v2): their processes are listed here, wherever their
    /// main threads are, whose place it is that /proc tells.
    is_doubtful: bool,
}

/// Walks a hierarchy, which is cgroup v2's or not. Nothing when it has more directories than `left`,
/// which is counted down, when the time is over, or when one of v1 can't be read: there the threads of
/// a process may be apart, and whoever is met in one place be in that as well.
pub(super) fn walk(
    host: &Host,
    tree: (&Tree, bool),
    paths: &mut Paths,
    left: &mut usize,
) -> Option<Members> {
    Walk::all(host, tree, paths, left, None).map(Walk::told)
}

/// Walks a hierarchy again but for who is in the cgroup of a path: everyone who was met, as often as he
/// was.
pub(super) fn walk_but(
    host: &Host,
    tree: (&Tree, bool),
    paths: &mut Paths,
    left: &mut usize,
    unread: Option<u32>,
) -> Option<Members> {
    Walk::all(host, tree, paths, left, unread).map(Walk::met)
}

/// The path of the cgroup in which most were met.
pub(super) fn fullest(members: &Members) -> Option<u32> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for (_, path) in members {
        *counts.entry(*path).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(path, count)| (*count, *path)).map(|(path, _)| path)
}

struct Walk<'w> {
    host: &'w Host,
    tree: &'w Tree,
    is_v2: bool,
    paths: &'w mut Paths,
    places: Vec<Place>,
    /// PIDs, and the places where they were met.
    members: Vec<(u32, usize)>,
    /// The path of the cgroup that is not read.
    unread: Option<u32>,
    buffer: Vec<u8>,
}

impl<'w> Walk<'w> {
    fn all(
        host: &'w Host,
        (tree, is_v2): (&'w Tree, bool),
        paths: &'w mut Paths,
        left: &mut usize,
        unread: Option<u32>,
    ) -> Option<Self> {
        let (places, members, buffer) = (Vec::new(), Vec::new(), Vec::new());
        let mut walk = Walk { host, tree, is_v2, paths, places, members, unread, buffer };
        let mut open = vec![walk.enter(tree.top(), b"", ROOT.to_vec(), 0)?];
        while let Some(place) = open.pop() {
            if host.out_of_time() {
                return None;
            }
            walk.below(place, &mut open, left)?;
        }
        Some(walk)
    }

    /// Goes through the children of a cgroup. Those that may have children themselves are added to
    /// `open`.
    ///
    /// A directory is listed, or its links are counted, after its `cgroup.procs` was read: a threaded
    /// cgroup below would be seen then.
    fn below(&mut self, at: usize, open: &mut Vec<usize>, left: &mut usize) -> Option<()> {
        let path = self.paths.get(self.places[at].path)?.to_vec();
        let dir = match self.tree.open(&path) {
            Ok(dir) => dir,
            Err(errno) => return self.doubt(at, errno),
        };
        let mut names: Vec<Vec<u8>> = Vec::new();
        if let Err(errno) = each_child(dir.as_fd(), &mut |child| names.push(child.name.to_owned()))
        {
            self.doubt(at, errno)?;
        }
        *left = left.checked_sub(names.len())?;
        for name in names {
            let Some(path) = path_below(&path, &name) else {
                self.doubt(at, Errno::NAMETOOLONG)?;
                continue;
            };
            let place = self.enter(dir.as_fd(), &name, path, at)?;
            match self.tree.has_children(dir.as_fd(), &name) {
                Ok(true) => open.push(place),
                Ok(false) => {}
                Err(errno) => self.doubt(place, errno)?,
            }
        }
        Some(())
    }

    /// Reads who is in a cgroup; its place.
    fn enter(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        above: usize,
    ) -> Option<usize> {
        self.host.before_read(0, &String::from_utf8_lossy(&path));
        let path = self.paths.number(path)?;
        let at = self.places.len();
        if self.unread == Some(path) {
            self.places.push(Place { path, above, is_read: false, is_doubtful: false });
            return Some(at);
        }
        let read = self.read(dir, name, at);
        self.places.push(Place { path, above, is_read: read.is_ok(), is_doubtful: false });
        match read {
            Ok(()) => {}
            // Threaded (`EOPNOTSUPP`), or removed, or not to be read: it might be.
            Err(errno) => self.doubt(at, errno)?,
        }
        Some(at)
    }

    fn read(&mut self, dir: BorrowedFd<'_>, name: &[u8], at: usize) -> Result<(), Errno> {
        let mut file = name.to_vec();
        file.extend_from_slice(if name.is_empty() { b"cgroup.procs" } else { b"/cgroup.procs" });
        let fd = open_beneath(dir, &file, OFlags::RDONLY)?;
        self.buffer.clear();
        read_to_end(fd.as_fd(), &mut self.buffer, PROCS)?;
        let known = self.members.len();
        for line in self.buffer.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match parse::decimal32(line) {
                // A process of another PID namespace, which this one has no number for.
                Some(0) => {}
                Some(pid) if self.buffer.len() <= PROCS => self.members.push((pid, at)),
                _ => {
                    self.members.truncate(known);
                    return Err(Errno::INVAL);
                }
            }
        }
        Ok(())
    }

    /// What is at this place or right below is not known. Marks the domain that would list the
    /// processes of a threaded cgroup there: the nearest whose `cgroup.procs` can be read. Nothing
    /// where v1 can't be told any more; nobody is in a cgroup that was removed.
    fn doubt(&mut self, mut at: usize, errno: Errno) -> Option<()> {
        if !self.is_v2 {
            return matches!(errno, Errno::NOENT | Errno::NODEV).then_some(());
        }
        while !self.places[at].is_read && self.places[at].above != at {
            at = self.places[at].above;
        }
        self.places[at].is_doubtful = true;
        Some(())
    }

    /// Everyone, as often as he was met, in ascending order of the PIDs.
    fn met(mut self) -> Members {
        self.members.sort_unstable();
        self.members.iter().map(|(pid, at)| (*pid, self.places[*at].path)).collect()
    }

    /// Those that were met once, in a place without doubt.
    fn told(mut self) -> Members {
        self.members.sort_unstable();
        let met = |pids: &[(u32, usize)]| {
            let [(pid, at)] = pids else { return None };
            let place = &self.places[*at];
            (!place.is_doubtful).then_some((*pid, place.path))
        };
        self.members.chunk_by(|a, b| a.0 == b.0).filter_map(met).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::{Paths, Tree, fullest, walk, walk_but};
    use crate::host::{Host, Options};

    /// A directory tree like a hierarchy: paths of cgroups, and what `cgroup.procs` says there.
    fn hierarchy(cgroups: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let top = dir.path().join("top");
        for (path, procs) in cgroups {
            let at = top.join(OsStr::from_bytes(path.as_bytes()));
            std::fs::create_dir_all(&at).unwrap();
            match *procs {
                "unreadable" => std::fs::create_dir(at.join("cgroup.procs")).unwrap(),
                "none" => {}
                procs => std::fs::write(at.join("cgroup.procs"), procs).unwrap(),
            }
        }
        dir
    }

    fn tree(dir: &Path) -> Tree {
        let top = std::fs::File::open(dir.join("top")).unwrap();
        // Real file systems count links in their own ways: with this many, none is trusted.
        Tree::of(top.into(), 0).unwrap()
    }

    /// Who is met where.
    fn met(cgroups: &[(&str, &str)], is_v2: bool, mut left: usize) -> Option<Vec<(u32, String)>> {
        let dir = hierarchy(cgroups);
        let root = Some(dir.path().to_str().unwrap().into());
        let host = Host::open(Options { root, ..Options::default() }).unwrap();
        let mut paths = Paths::default();
        let members = walk(&host, (&tree(dir.path()), is_v2), &mut paths, &mut left)?;
        let path = |number| String::from_utf8_lossy(paths.get(number).unwrap()).into_owned();
        Some(members.into_iter().map(|(pid, number)| (pid, path(number))).collect())
    }

    fn told(all: &[(u32, &str)]) -> Option<Vec<(u32, String)>> {
        Some(all.iter().map(|(pid, path)| (*pid, (*path).to_owned())).collect())
    }

    #[test]
    fn everybody_is_met_where_he_is() {
        let all = [("", "1\n2\n"), ("a", ""), ("a/x", "30\n7\n"), ("a/x/y", "8\n"), ("b c", "9\n")];
        let places = [(1, "/"), (2, "/"), (7, "/a/x"), (8, "/a/x/y"), (9, "/b c"), (30, "/a/x")];
        assert_eq!(met(&all, true, 4), told(&places));
        assert_eq!(met(&all, false, 4), told(&places));
        assert_eq!(met(&all, true, 3), None);
    }

    #[test]
    fn who_is_met_twice_or_has_no_number_is_not_told_of() {
        let all = [("", "1\n0\n2\n2\n"), ("a", "3\n4\n0\n"), ("b", "4\n5\n")];
        assert_eq!(met(&all, true, 9), told(&[(1, "/"), (3, "/a"), (5, "/b")]));
    }

    #[test]
    fn where_threads_may_be_apart_nobody_is_told_of() {
        for bad in ["unreadable", "none", "12\nx\n", "-1\n"] {
            let all = [("", "1\n"), ("a", "2\n"), ("a/t", bad), ("a/t/u", bad), ("a/v", "3\n")];
            assert_eq!(met(&all, true, 9), told(&[(1, "/"), (3, "/a/v")]), "{bad}");
            // In v1 they may be apart anywhere.
            let v1 = if bad == "none" { told(&[(1, "/"), (2, "/a"), (3, "/a/v")]) } else { None };
            assert_eq!(met(&all, false, 9), v1, "{bad}");
        }
        assert_eq!(met(&[("", "unreadable"), ("a", "1\n")], true, 9), told(&[(1, "/a")]));
    }

    #[test]
    fn a_name_that_ends_a_line_is_not_told() {
        let all = [("", "1\n"), ("a", "2\n"), ("a/b\nc", "3\n"), ("d:e (deleted)", "4\n")];
        assert_eq!(met(&all, true, 9), told(&[(1, "/"), (4, "/d:e (deleted)")]));
        assert_eq!(met(&all, false, 9), None);
    }

    #[test]
    fn the_cgroup_that_most_were_in_is_not_read_again() {
        let all = [("", "1\n2\n"), ("a", "3\n4\n5\n"), ("a/b", "6\n"), ("c", "7\n3\n")];
        let dir = hierarchy(&all);
        let root = Some(dir.path().to_str().unwrap().into());
        let host = Host::open(Options { root, ..Options::default() }).unwrap();
        let (tree, mut paths) = (tree(dir.path()), Paths::default());
        let before = walk(&host, (&tree, false), &mut paths, &mut 9).unwrap();
        let unread = fullest(&before);
        assert!([Some(&b"/"[..]), Some(b"/a")].contains(&unread.and_then(|at| paths.get(at))));
        let at_a = before.iter().find(|(pid, _)| *pid == 4).map(|(_, path)| *path);
        let again = walk_but(&host, (&tree, false), &mut paths, &mut 9, at_a).unwrap();
        let pids: Vec<u32> = again.iter().map(|(pid, _)| *pid).collect();
        // A thread of 3 is elsewhere.
        assert_eq!(pids, [1, 2, 3, 6, 7]);
        assert_eq!(fullest(&Vec::new()), None);
    }
}
