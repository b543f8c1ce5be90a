//! The cases of `whose exe`, by theme. A name begins with what it shows of the reference's list of
//! cases (plain numbers) and traps (T); this table is compared with the names.
//!
//! | of | what | cases in |
//! |---|---|---|
//! | 1-3 | lowest, middle and shadowed layer | docker, layers |
//! | 4 | written at run time | docker, layers |
//! | 5a | started, then copied up | copy_up, docker |
//! | 5b | copied up, then started | copy_up, docker |
//! | 5c | copied up behind it, then removed | copy_up, deleted |
//! | 5d | opened for writing while it runs | copy_up, docker |
//! | 6a | lower file removed or replaced | deleted, docker |
//! | 6b | upper file removed or replaced | deleted, docker |
//! | 6c | upper file renamed | deleted |
//! | 7a | lower file with two names | layers |
//! | 7b | one of two names copied up | layers |
//! | 7c | the other name copied up, index=on | layers |
//! | 8a | redirected directory | layers |
//! | 8b | metacopy | layers |
//! | 8c | data-only layer | layers |
//! | 9 | whiteouts, opaque directories | layers |
//! | 10a | bound directory or file, volume | binds, docker, nspawn, podman |
//! | 10b | private tmpfs | binds, docker, nspawn, podman, sandboxes |
//! | 10c | bound directory of another stack | binds |
//! | 11 | chroot | chroot_and_mounts, docker, sandboxes |
//! | 12a | Docker in Docker | docker |
//! | 12b | stack on a stack | nested |
//! | 13a | memfd | anonymous |
//! | 13b | O_TMPFILE | anonymous |
//! | 14a | script | interpreters |
//! | 14b | applet by a link | interpreters |
//! | 14c | binfmt_misc with flag F | interpreters |
//! | 15 | storage drivers and engines | anonymous, aufs, containerd, drivers, hostile, lxc, nspawn, podman, sandboxes |
//! | 16a | idmapped mount or layer | binds, lxc, nspawn, podman |
//! | 16b | stack of a user namespace | copy_up, podman |
//! | 17a | mount lazily unmounted | binds |
//! | 17b | over-mounted | binds |
//! | 17c | source of a file bind replaced | binds, docker |
//! | 18a | layer removed on the host | deleted |
//! | 18b | layer renamed on the host | deleted, docker |
//! | 18c | upper layer's file system gone | deleted |
//! | 19 | asked with fewer rights | docker, podman, privileges |
//! | 20 | odd names | names |
//! | 21 | run by the loader | interpreters |
//! | T1 | ranges with zeroes no name has | docker |
//! | T2 | copy-up behind a process | copy_up, docker |
//! | T3 | modified, then run | copy_up, docker |
//! | T4 | deleted in the container only | deleted, docker |
//! | T5 | chroot in the container | chroot_and_mounts, docker |
//! | T6 | links out of the root | chroot_and_mounts, docker |
//! | T7 | lazy unmount | binds |
//! | T8 | mount over a mount | binds |
//! | T9 | bound file renamed over | binds, docker |
//! | T10 | relative layers, redirect | layers |
//! | T11 | user namespace's stack | copy_up |
//! | T12 | names like the kernel's marks | deleted, names |
//! | T13 | layer gone | deleted, docker |
//! | T14 | escapes in options | names |
//! | T15 | nested stacks | nested |
//! | T16 | decoy of a layer's name | docker, hostile |
//! | T17 | very many layers | containerd, docker, podman |
//! | T18 | private copies | anonymous, sandboxes |
//! | T19 | btrfs: numbers and extents alike | copy_up, drivers, podman |
//! | T20 | stalled file server | hostile, podman |
//! | T21 | false exe | hostile |
//! | T22 | mount point removed elsewhere | binds |
//! | T23 | last record of a BPF iterator | none: no BPF iterator is asked for one process |
//!
//! What this kernel can't make: files of kernels before 6.8, whose `maps` show the layer's inode
//! (virtual machines do that), and nspawn's `--image`, which wants udev; a loop mount in a private
//! namespace and LXC's `loop:` stand in for it.

pub(crate) mod anonymous;
pub(crate) mod aufs;
pub(crate) mod binds;
pub(crate) mod chroot_and_mounts;
pub(crate) mod containerd;
pub(crate) mod copy_up;
pub(crate) mod deleted;
pub(crate) mod docker;
pub(crate) mod drivers;
pub(crate) mod engine;
pub(crate) mod hostile;
pub(crate) mod interpreters;
pub(crate) mod layers;
pub(crate) mod lxc;
pub(crate) mod names;
pub(crate) mod nested;
pub(crate) mod nspawn;
pub(crate) mod odd_stacks;
pub(crate) mod podman;
pub(crate) mod privileges;
pub(crate) mod sandboxes;
pub(crate) mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The script that mounts an overlay on `m`: these lower directories, the top one first, with `u`
/// as upper directory and these further options.
pub(crate) fn overlay(lowers: &[&str], more: &str) -> String {
    let lowers: Vec<String> = lowers.iter().map(|l| format!("$LAB/{l}")).collect();
    let lowers = lowers.join(":");
    format!(
        "mkdir -p u w m; mount -t overlay o -o \
         \"lowerdir={lowers},upperdir=$LAB/u,workdir=$LAB/w{more}\" m"
    )
}

/// A file system that the host has mounted too; unmounted when dropped. To be made before the lab
/// that uses it.
pub(crate) struct HostMount {
    dir: tempfile::TempDir,
}

impl HostMount {
    /// A tmpfs.
    pub(crate) fn tmpfs() -> HostMount {
        let dir = tempfile::Builder::new().prefix("whose-fs-").tempdir().unwrap();
        let mount = HostMount { dir };
        run(Command::new("mount").args(["-t", "tmpfs", "whose-live"]).arg(mount.point()));
        mount
    }

    /// A new file system in an image file.
    pub(crate) fn image(kind: &str) -> HostMount {
        let dir = tempfile::Builder::new().prefix("whose-fs-").tempdir().unwrap();
        let mount = HostMount { dir };
        let image = mount.dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount.point()));
        mount
    }

    /// A file system in an image that holds what is in a directory; `words` make it, with the
    /// directory and the image named by `DIR` and `IMAGE`.
    pub(crate) fn of(tree: &Path, words: &str) -> HostMount {
        let dir = tempfile::Builder::new().prefix("whose-fs-").tempdir().unwrap();
        let mount = HostMount { dir };
        let image = mount.dir.path().join("image");
        run(Command::new("sh").args(["-ec", words]).env("DIR", tree).env("IMAGE", &image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount.point()));
        mount
    }

    /// A directory mounted over another, which exists.
    pub(crate) fn over(what: &Path, point: &Path) -> Over {
        run(Command::new("mount").arg("--bind").arg(what).arg(point));
        Over(point.to_owned())
    }

    /// Where it is mounted.
    pub(crate) fn point(&self) -> PathBuf {
        let point = self.dir.path().join("fs");
        std::fs::create_dir_all(&point).unwrap();
        point
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.dir.path().join("fs")).status());
    }
}

/// A mount over something else in the host's namespace.
pub(crate) struct Over(PathBuf);

impl Drop for Over {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}: {said}", out.status);
}

/// The text of `/proc/PID/exe`, lossily.
pub(crate) fn exe_link(pid: u32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    link.to_string_lossy().into_owned()
}

/// A file as the lab's namespace sees it.
pub(crate) fn inside(lab: &whose_testkit::marker::Lab, name: &str) -> PathBuf {
    let path = lab.path(name);
    let below = path.strip_prefix("/").unwrap();
    PathBuf::from(format!("/proc/{}/root", lab.pid())).join(below)
}
