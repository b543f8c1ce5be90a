//! Leaving nothing behind, whatever the test did.

use super::Docker;
use crate::call::waited;
use crate::cgroup::{dirs_named, remove_below, remove_soon, subtree_pids};
use crate::procfs;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What dockerd calls its group for builds, below its containers' parent.
const BUILDS: &str = "buildkit";

/// The cgroups that were there before: those at the top, and of an engine beside the one for builds.
pub(super) fn cgroups_before() -> BTreeSet<PathBuf> {
    let tops = crate::cgroup::tops();
    let builds = tops.iter().map(|top| top.join(BUILDS)).filter(|dir| dir.exists());
    let builds: Vec<PathBuf> = builds.collect();
    tops.into_iter().chain(builds).collect()
}

impl Docker {
    pub(super) fn clean_up(&mut self) {
        let ids = self.known_ids();
        let parents = self.cgroup_parents(&ids);
        if self.client.is_absolute() && procfs::alive(self.daemon.id()) {
            let mut words = vec!["rm".to_owned(), "-f".to_owned(), "-v".to_owned()];
            words.extend(ids.iter().cloned());
            if !ids.is_empty()
                && let Err(why) = self.try_cli(&words)
            {
                eprintln!("cleaning up after docker: {why}");
            }
        }
        self.stop_daemon();
        for id in &ids {
            end_container(id);
        }
        self.end_shims();
        self.unmount();
        let names = ids.iter().cloned().chain(self.asked().ids.clone()).chain([BUILDS.to_owned()]);
        let names = names.collect();
        for parent in &parents {
            remove_below(&self.old_cgroups, parent, &names);
        }
        if let Some(dir) = self.dir.take() {
            let path = dir.path().to_owned();
            if let Err(why) = dir.close() {
                eprintln!("cleaning up after docker: {}: {why}", path.display());
            }
        }
    }

    /// The ids of all containers, from the daemon's files: it may be dead.
    fn known_ids(&self) -> BTreeSet<String> {
        let dir = self.data_root().join("containers");
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// The cgroup parents of these containers, of all that were asked for, and of the daemon.
    fn cgroup_parents(&self, ids: &BTreeSet<String>) -> BTreeSet<String> {
        let of = |id: &String| -> Option<String> {
            let path = self.data_root().join("containers").join(id).join("hostconfig.json");
            let config: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            Some(config["CgroupParent"].as_str()?.to_owned())
        };
        ids.iter()
            .filter_map(of)
            .chain(self.cgroup_parent.clone())
            .chain(self.asked().parents.iter().cloned())
            .chain(["docker".to_owned()])
            .filter(|path| {
                path.split('/').all(|part| part != "..") && !path.trim_matches('/').is_empty()
            })
            .collect()
    }

    fn stop_daemon(&mut self) {
        if !matches!(self.daemon.try_wait(), Ok(None)) {
            return self.end_containerd();
        }
        procfs::signal(self.daemon.id(), Signal::TERM);
        let daemon = &mut self.daemon;
        if !waited(Duration::from_secs(20), || !matches!(daemon.try_wait(), Ok(None))) {
            drop(self.daemon.kill());
            drop(self.daemon.wait());
        }
        self.end_containerd();
    }

    /// It goes with its dockerd, unless that was killed.
    fn end_containerd(&self) {
        let mine = |pid| {
            procfs::args(pid).is_some_and(|args| args.iter().any(|a| self.names_me(a.as_ref())))
        };
        let pid = self.containerd;
        if pid == 0 || waited(Duration::from_secs(3), || !procfs::alive(pid)) || !mine(pid) {
            return;
        }
        procfs::signal(pid, Signal::KILL);
        waited(Duration::from_secs(5), || !procfs::alive(pid));
    }

    fn names_me(&self, path: &Path) -> bool {
        self.dir.as_ref().is_some_and(|dir| path.starts_with(dir.path()))
    }

    /// Shims, known by the address of this engine's containerd, and the sockets they leave.
    fn end_shims(&self) {
        let address = self.exec_root().join("containerd/containerd.sock");
        let mine = |pid: u32| {
            // Only their arguments are read: some other test's may be a trap.
            procfs::comm(pid).is_some_and(|comm| comm.starts_with("containerd-shim"))
                && procfs::args(pid)
                    .is_some_and(|args| args.iter().any(|arg| Path::new(arg) == address))
        };
        let shims: Vec<u32> = procfs::pids().into_iter().filter(|pid| mine(*pid)).collect();
        let sockets = self.shim_sockets();
        for pid in shims {
            // A shim whose container is gone may be about to end by itself.
            if !waited(Duration::from_secs(1), || !procfs::alive(pid)) && mine(pid) {
                procfs::signal(pid, Signal::KILL);
                waited(Duration::from_secs(5), || !procfs::alive(pid));
            }
        }
        for socket in sockets {
            drop(std::fs::remove_file(socket));
        }
    }

    fn shim_sockets(&self) -> Vec<PathBuf> {
        let tasks = "containerd/daemon/io.containerd.runtime.v2.task/moby";
        let entries = std::fs::read_dir(self.exec_root().join(tasks)).into_iter().flatten();
        entries
            .flatten()
            .filter_map(|e| std::fs::read_to_string(e.path().join("address")).ok())
            .filter_map(|text| text.trim().strip_prefix("unix://").map(PathBuf::from))
            .filter(|path| path.starts_with("/run/containerd/s/"))
            .collect()
    }

    /// The daemon's mounts live in its own namespace; this is for what leaked all the same.
    fn unmount(&self) {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in text.lines().rev() {
            let Some(point) = line.split(' ').nth(4) else { continue };
            if self.names_me(point.as_ref()) {
                eprintln!("cleaning up after docker: {point} is still mounted");
                drop(Command::new("umount").arg("-l").arg(point).status());
            }
        }
    }
}

/// Thaws, kills and waits for all in the cgroups of a container, then removes them.
fn end_container(id: &str) {
    let dirs = dirs_named(id);
    for dir in &dirs {
        drop(std::fs::write(dir.join("freezer.state"), "THAWED"));
        drop(std::fs::write(dir.join("cgroup.freeze"), "0"));
    }
    let empty = waited(Duration::from_secs(10), || {
        let pids: BTreeSet<u32> = dirs.iter().flat_map(|dir| subtree_pids(dir)).collect();
        for pid in &pids {
            procfs::signal(*pid, Signal::KILL);
        }
        pids.is_empty()
    });
    if !empty {
        eprintln!("cleaning up after docker: container {id} does not die");
    }
    for dir in &dirs {
        remove_soon(dir);
    }
}
