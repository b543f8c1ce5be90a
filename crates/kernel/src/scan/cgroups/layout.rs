//! Which hierarchies `/proc/PID/cgroup` tells of, and where the directories of each are.

use std::rc::Rc;

use crate::error::Class;
use crate::host::{Host, Mode};
use crate::parse;
use crate::parse::cgroup::Line;
use crate::parse::controllers::Controller;
use crate::parse::mountinfo::Mount;

use super::tree::Tree;

/// The hierarchies, in the order in which `/proc/PID/cgroup` has them.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) hierarchies: Vec<Hierarchy>,
    /// What it tells of this very process.
    pub(super) own: Vec<Line>,
}

/// One hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// What its lines begin with: `7:blkio:`.
    prefix: Vec<u8>,
    pub(super) is_v2: bool,
    /// Its directories; `None` when it has only the root cgroup, so that everybody is in it.
    pub(super) tree: Option<Tree>,
    /// How many cgroups it has, if that is known before they are listed.
    cgroups: Option<u64>,
}

impl Layout {
    /// `None` when a directory's path is not what this program is told in `/proc/PID/cgroup`, or a
    /// hierarchy's directories can't be reached.
    pub(super) fn of(host: &Host) -> Option<Self> {
        // What is read of a process has to be in the capture of it.
        if host.mode() != Mode::Live || host.recorder().is_some() || !host.sees_all_cgroups() {
            return None;
        }
        let own = parse::cgroup::parse(&host.own_file("cgroup").ok()?).ok()?;
        let controllers = match host.root().read(b"proc/cgroups", 1 << 20) {
            Ok(bytes) => parse::controllers::parse(&bytes).ok()?,
            Err(e) if e.class == Class::Gone => Vec::new(),
            Err(_) => return None,
        };
        let hierarchies = own.iter().map(|line| Hierarchy::of(host, line, &controllers));
        Some(Self { hierarchies: hierarchies.collect::<Option<_>>()?, own })
    }

    /// Whether all hierarchies but cgroup v2 have only their root.
    pub(super) fn is_v2_alone(&self) -> bool {
        self.hierarchies.iter().all(|h| h.is_v2 || h.tree.is_none())
    }

    /// The hierarchies with more than the root, and whether each is cgroup v2's.
    pub(super) fn trees(&self) -> impl Iterator<Item = (&Tree, bool)> {
        self.hierarchies.iter().filter_map(|h| Some((h.tree.as_ref()?, h.is_v2)))
    }

    /// How many directories there are to read, as far as that is known: twice those of v1.
    pub(super) fn known_directories(&self) -> usize {
        let trees = self.hierarchies.iter().filter(|h| h.tree.is_some());
        let number = |h: &Hierarchy| h.cgroups.map(|n| if h.is_v2 { n } else { n * 2 });
        let all = trees.filter_map(number).fold(0, u64::saturating_add);
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// What `/proc/PID/cgroup` says of a process in these cgroups: a path for each hierarchy that has
    /// more than the root, in their order.
    pub(super) fn lines<'p>(
        &self,
        mut paths: impl Iterator<Item = &'p [u8]>,
    ) -> Option<Rc<Vec<Line>>> {
        let mut text = Vec::with_capacity(512);
        for hierarchy in &self.hierarchies {
            text.extend_from_slice(&hierarchy.prefix);
            text.extend_from_slice(if hierarchy.tree.is_some() { paths.next()? } else { b"/" });
            text.push(b'\n');
        }
        // Parsed as what is read, so that it is told in the same way, whatever a name holds.
        parse::cgroup::parse(&text).ok().map(Rc::new)
    }
}

impl Hierarchy {
    fn of(host: &Host, line: &Line, controllers: &[Controller]) -> Option<Self> {
        let prefix =
            [line.hierarchy.to_string().as_bytes(), b":", &line.controllers, b":"].concat();
        let is_v2 = line.is_v2();
        let mut its = controllers.iter().filter(|c| c.hierarchy == line.hierarchy);
        let mut cgroups = its.next().filter(|_| !is_v2).map(|c| c.cgroups);
        if cgroups == Some(1) {
            return Some(Self { prefix, is_v2, tree: None, cgroups });
        }
        let mounts = host.mounts().ok()?.iter().filter(|mount| is_whole(mount, line));
        let tree = mounts.filter_map(|mount| Tree::at(host.root(), mount)).next()?;
        let tree = Some(tree).filter(|tree| !tree.is_root_only());
        if let Some(tree) = tree.as_ref().filter(|_| is_v2) {
            cgroups = tree.descendants();
        }
        Some(Self { prefix, is_v2, tree, cgroups })
    }
}

/// Whether a mount is that of the whole hierarchy that a line is about.
fn is_whole(mount: &Mount, line: &Line) -> bool {
    let v1 = || line.controllers.split(|b| *b == b',').all(|one| mount.has_option(one));
    let fits = match mount.fs_type.as_slice() {
        b"cgroup2" => line.is_v2(),
        b"cgroup" => !line.is_v2() && v1(),
        _ => false,
    };
    fits && mount.root == "/"
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, Layout, is_whole};
    use crate::parse::{cgroup, mountinfo};

    const MOUNTS: &[u8] = b"32 31 0:29 / /a rw - cgroup cgroup rw,cpu,cpuacct\n\
33 31 0:30 / /b rw - cgroup cgroup rw,xattr,name=systemd\n\
34 31 0:31 / /c rw - cgroup2 cgroup2 rw,nsdelegate\n\
35 31 0:31 /docker/x /d rw - cgroup2 cgroup2 rw\n\
36 31 0:32 / /e rw - tmpfs cgroup rw\n";

    #[test]
    fn a_line_has_the_mount_of_its_whole_hierarchy() {
        let mounts = mountinfo::parse(MOUNTS).unwrap();
        let lines = cgroup::parse(b"3:cpu,cpuacct:/x\n2:name=systemd:/\n1:cpu:/\n0::/y\n").unwrap();
        let of = |n: usize| {
            let fits = mounts.iter().filter(|mount| is_whole(mount, &lines[n]));
            fits.map(|mount| mount.point.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            (of(0), of(1), of(3)),
            (vec!["/a".into()], vec!["/b".into()], vec!["/c".into()])
        );
        // Never on a running kernel: a controller is in one hierarchy.
        assert_eq!(of(2), ["/a"]);
    }

    #[test]
    fn what_is_composed_is_what_is_read() {
        let at = |prefix: &[u8]| Hierarchy {
            prefix: prefix.into(),
            is_v2: prefix == b"0::",
            tree: None,
            cgroups: None,
        };
        let hierarchies = vec![at(b"4:memory:"), at(b"1:name=systemd:"), at(b"0::")];
        let layout = Layout { hierarchies, own: Vec::new() };
        let lines = layout.lines(std::iter::empty()).unwrap();
        assert_eq!(*lines, cgroup::parse(b"4:memory:/\n1:name=systemd:/\n0::/\n").unwrap());
        assert!(layout.is_v2_alone());
    }
}
