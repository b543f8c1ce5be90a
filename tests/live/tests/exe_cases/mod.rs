//! The cases of `whose exe`, by theme; the numbers are those of the reference's tables of cases
//! (plain) and traps (T).

pub(crate) mod anonymous;
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
