//! The cgroups of a rig, in the hierarchies that are mounted.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::spec::Hierarchies;

/// The mount points of these hierarchies, one each.
pub(crate) fn mounted(which: Hierarchies) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("reading mountinfo")?;
    let found = of_mountinfo(&text, which);
    let kind = if which == Hierarchies::V2 { "cgroup v2" } else { "cgroup" };
    ensure!(!found.is_empty(), "no {kind} hierarchy is mounted");
    Ok(found)
}

fn of_mountinfo(text: &str, which: Hierarchies) -> Vec<PathBuf> {
    let mut devices: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, _, device, "/", point, ..] = fields[..] else { continue };
        let v1 = which == Hierarchies::All && source.starts_with("cgroup ");
        let cgroup = v1 || source.starts_with("cgroup2 ");
        if cgroup && !devices.contains(&device) {
            devices.push(device);
            found.push(PathBuf::from(point));
        }
    }
    found
}

/// The cgroups of a rig: planned first, so that whoever clears them away knows of each before it
/// is made.
#[derive(Debug)]
pub(super) struct Cgroups {
    hierarchies: Vec<PathBuf>,
    /// Those above the rig's own that are not there yet.
    parents: Vec<PathBuf>,
    own: Vec<PathBuf>,
}

impl Cgroups {
    /// Plans these paths, such as `docker/ID`, in each hierarchy.
    pub(super) fn plan(hierarchies: Vec<PathBuf>, paths: &[String]) -> Result<Self> {
        let (mut parents, mut own) = (Vec::new(), Vec::new());
        for hierarchy in &hierarchies {
            for path in paths {
                let dir = hierarchy.join(path);
                ensure!(!dir.exists(), "{} is there already", dir.display());
                let parent = dir.parent().unwrap_or(hierarchy).to_owned();
                if !parent.exists() && !parents.contains(&parent) {
                    parents.push(parent);
                }
                own.push(dir);
            }
        }
        Ok(Self { hierarchies, parents, own })
    }

    /// A line each, the deepest first; a `?` stands before what others may use too.
    pub(super) fn list(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let own = self.own.iter().map(|dir| ("", dir));
        for (mark, dir) in own.chain(self.parents.iter().map(|dir| ("?", dir))) {
            text.extend_from_slice(mark.as_bytes());
            text.extend_from_slice(dir.as_os_str().as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// Makes them all.
    pub(super) fn make(&self) -> Result<()> {
        for dir in self.parents.iter().chain(&self.own) {
            let mut made = std::fs::create_dir(dir);
            if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
                && let Some(parent) = dir.parent()
            {
                // Whose common one it was has taken it away since.
                drop(std::fs::create_dir(parent));
                fill_cpuset(parent)?;
                made = std::fs::create_dir(dir);
            }
            match made {
                // Somebody else may have made a common one meanwhile.
                Err(error) if !(self.parents.contains(dir) && dir.exists()) => {
                    return Err(error).with_context(|| format!("making {}", dir.display()));
                }
                _ => fill_cpuset(dir)?,
            }
        }
        Ok(())
    }

    /// The files by which a process joins a path, which is empty for the root cgroup.
    pub(super) fn procs(&self, path: &str) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|top| top.join(path).join("cgroup.procs")).collect()
    }
}

/// Nobody can join a v1 cpuset before it has processors and memory.
fn fill_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(file);
        let ours = std::fs::read(&path).unwrap_or_default();
        let above = dir.parent().and_then(|parent| std::fs::read(parent.join(file)).ok());
        if let Some(text) = above.filter(|_| path.exists() && ours.trim_ascii().is_empty())
            && !text.trim_ascii().is_empty()
        {
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cgroups, Hierarchies, of_mountinfo};
    use std::path::PathBuf;

    const HYBRID: &str = "\
24 1 0:22 / /proc rw - proc proc rw
25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 25 0:26 /part /mnt/part rw - cgroup2 cgroup2 rw
";

    #[test]
    fn each_hierarchy_counts_once() {
        let found = of_mountinfo(HYBRID, Hierarchies::All);
        assert_eq!(
            found,
            ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"].map(PathBuf::from)
        );
        assert_eq!(
            of_mountinfo(HYBRID, Hierarchies::V2),
            [PathBuf::from("/sys/fs/cgroup/unified")]
        );
    }

    #[test]
    fn what_others_may_use_is_marked_and_comes_last() {
        let tops = vec![PathBuf::from("/no/such/a"), PathBuf::from("/no/such/b")];
        let paths = ["docker/1".to_owned(), "docker/2".to_owned()];
        let cgroups = Cgroups::plan(tops, &paths).unwrap();
        let list = String::from_utf8(cgroups.list()).unwrap();
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "/no/such/a/docker/1");
        assert_eq!(lines[4..], ["?/no/such/a/docker", "?/no/such/b/docker"]);
        assert_eq!(
            cgroups.procs(""),
            ["/no/such/a", "/no/such/b"].map(|top| { PathBuf::from(top).join("cgroup.procs") })
        );
    }
}
