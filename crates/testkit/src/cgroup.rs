//! Real cgroup directories: made, found, removed.

use crate::call::waited;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MOUNT: &str = "/sys/fs/cgroup";

/// Where cgroup2 is mounted, if it is.
#[must_use]
pub fn v2_mount() -> Option<PathBuf> {
    mount_with("cgroup2", "")
}

/// Where a v1 hierarchy with this controller, e.g. `pids` or `name=systemd`, is mounted.
#[must_use]
pub fn v1_mount(controller: &str) -> Option<PathBuf> {
    mount_with("cgroup", controller)
}

/// Where each hierarchy, of v1 and of v2, is mounted.
#[must_use]
pub fn mounts() -> Vec<PathBuf> {
    [mounts_with("cgroup2", ""), mounts_with("cgroup", "")].concat()
}

fn mount_with(kind: &str, option: &str) -> Option<PathBuf> {
    mounts_with(kind, option).into_iter().next()
}

fn mounts_with(kind: &str, option: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_line = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let fits = source.next() == Some(kind)
            && (option.is_empty() || source.nth(1)?.split(',').any(|o| o == option));
        fits.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    };
    text.lines().filter_map(of_line).collect()
}

/// The top directories of every hierarchy.
#[must_use]
pub fn tops() -> Vec<PathBuf> {
    let mut roots = subdirs(Path::new(MOUNT));
    roots.retain(|dir| dir.join("cgroup.procs").exists());
    if Path::new(MOUNT).join("cgroup.procs").exists() {
        return roots; // pure v2: they are the top directories already
    }
    roots.iter().flat_map(|root| subdirs(root)).collect()
}

/// The directories with this name, in every hierarchy, whatever their depth.
#[must_use]
pub fn dirs_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(MOUNT)];
    while let Some(dir) = open.pop() {
        for child in subdirs(&dir) {
            if child.file_name().is_some_and(|n| n == name) {
                found.push(child.clone());
            }
            open.push(child);
        }
    }
    found
}

/// All processes in a cgroup and those below it.
#[must_use]
pub fn subtree_pids(dir: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    for child in subdirs(dir) {
        pids.extend(subtree_pids(&child));
    }
    pids
}

/// Removes a cgroup with those below it, as far as nobody is in them.
pub fn remove_empty(dir: &Path) {
    for child in subdirs(dir) {
        remove_empty(&child);
    }
    drop(std::fs::remove_dir(dir));
}

/// As [`remove_empty`], once nobody is in them: some helper of an engine's may still be leaving.
pub(crate) fn remove_soon(dir: &Path) {
    waited(Duration::from_secs(5), || {
        remove_empty(dir);
        !dir.exists()
    });
}

/// Removes the top cgroups that were not there before and whose name fits, once nobody is in them.
pub(crate) fn remove_new(old: &BTreeSet<PathBuf>, fits: impl Fn(&str) -> bool) {
    let new = tops().into_iter().filter(|dir| !old.contains(dir));
    for dir in new.filter(|dir| dir.file_name().and_then(|n| n.to_str()).is_some_and(&fits)) {
        remove_soon(&dir);
    }
}

/// Removes the cgroups with these names below a path in every hierarchy, and then that path as far as it was not there before:
/// what others have in it stays, and keeps it.
pub(crate) fn remove_below(old: &BTreeSet<PathBuf>, path: &str, names: &BTreeSet<String>) {
    for mount in mounts() {
        let mut at = mount.join(path.trim_start_matches('/'));
        for dir in names.iter().map(|name| at.join(name)) {
            if !old.contains(&dir) && dir.exists() {
                remove_soon(&dir);
            }
        }
        let parts = at.strip_prefix(&mount).into_iter().flat_map(Path::components);
        let top = parts.take(1).fold(mount.clone(), |dir, part| dir.join(part));
        while !old.contains(&top) && at != mount && at.starts_with(&mount) {
            if subdirs(&at).is_empty() && at.exists() {
                remove_soon(&at);
            }
            at.pop();
        }
    }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A cgroup made by a test, removed with this value, along with the parents that were made for it.
#[derive(Debug)]
pub struct CgroupDir {
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl CgroupDir {
    /// Makes `path` below the root of a hierarchy.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn make(mount: &Path, path: &str) -> CgroupDir {
        let mut at = mount.to_owned();
        let mut made = Vec::new();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            at.push(part);
            if !at.exists() {
                std::fs::create_dir(&at).unwrap_or_else(|e| panic!("mkdir {}: {e}", at.display()));
                // Nobody can join a v1 cpuset before it has these.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let above = at.parent().map(|parent| parent.join(file));
                    if let Some(text) = above.and_then(|file| std::fs::read(file).ok()) {
                        drop(std::fs::write(at.join(file), text));
                    }
                }
                made.push(at.clone());
            }
        }
        CgroupDir { path: at, made }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `path` in each hierarchy of the machine.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn make_everywhere(path: &str) -> Vec<CgroupDir> {
        mounts().iter().map(|mount| CgroupDir::make(mount, path)).collect()
    }

    /// What was made for it, the parents first.
    #[must_use]
    pub fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// Moves a process there.
    ///
    /// # Panics
    /// When it can't.
    pub fn join(&self, pid: u32) {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .unwrap_or_else(|e| panic!("moving {pid} to {}: {e}", self.path.display()));
    }
}

impl Drop for CgroupDir {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            // A process that was just killed may still be leaving.
            for _ in 0..100 {
                match std::fs::remove_dir(dir) {
                    Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CgroupDir, dirs_named, remove_below, subtree_pids, v1_mount, v2_mount};
    use std::collections::BTreeSet;

    use crate::require;

    #[test]
    fn a_cpuset_can_be_joined() {
        let Some(mount) = v1_mount("cpuset").filter(|_| require(&["root"])) else {
            return;
        };
        let name = format!("whose-cpuset-{}", std::process::id());
        let dir = CgroupDir::make(&mount, &format!("{name}/inner"));
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        dir.join(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        drop(dir);
        assert!(dirs_named(&name).is_empty());
    }

    #[test]
    fn what_was_made_goes_and_others_stay() {
        if !require(&["root"]) {
            return;
        }
        let Some(mount) = v2_mount().or_else(|| v1_mount("pids")) else { return };
        let name = format!("whose-below-{}", std::process::id());
        let all = ["/old/one", "/old/two", "/new/deep/one/inner"].map(|dir| format!("{name}{dir}"));
        let made: Vec<CgroupDir> = all.iter().map(|dir| CgroupDir::make(&mount, dir)).collect();
        let names = BTreeSet::from(["one".to_owned()]);
        let old = BTreeSet::from([mount.join(&name)]);
        let left = || {
            let all = dirs_named("one").len() + dirs_named("two").len();
            (all, mount.join(&name).join("new/deep").exists(), mount.join(&name).exists())
        };
        assert_eq!(left(), (3, true, true));
        remove_below(&old, &format!("/{name}/old"), &names);
        // Another's is in it, and the top was there before.
        assert_eq!(left(), (2, true, true));
        remove_below(&old, &format!("{name}/new/deep"), &names);
        assert_eq!(left(), (1, true, true));
        made.into_iter().rev().for_each(drop);
        let made = CgroupDir::make(&mount, &format!("{name}/new/deep/one/inner"));
        remove_below(&BTreeSet::new(), &format!("/{name}/new/deep"), &names);
        assert_eq!(left(), (0, false, false));
        drop(made);
    }

    #[test]
    fn a_cgroup_comes_and_goes() {
        if !require(&["root"]) {
            return;
        }
        let Some(mount) = v2_mount().or_else(|| v1_mount("pids")) else { return };
        let name = format!("whose-testkit-{}", std::process::id());
        let dir = CgroupDir::make(&mount, &format!("{name}/inner"));
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        dir.join(child.id());
        assert_eq!(dirs_named(&name).len(), 1);
        assert_eq!(subtree_pids(dir.path().parent().unwrap()), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(dir);
        assert!(dirs_named(&name).is_empty());
    }
}
