//! A file system in a file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use whose_testkit::skip;

/// One that is mounted; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// An empty btrfs, unless that can't be mounted here, which it says.
    ///
    /// # Panics
    /// When the file can't be made.
    #[must_use]
    pub fn btrfs() -> Option<Self> {
        Self::of("btrfs", &["-q"])
    }

    /// An empty ext4, likewise.
    ///
    /// # Panics
    /// When the file can't be made.
    #[must_use]
    pub fn ext4() -> Option<Self> {
        Self::of("ext4", &["-q", "-F"])
    }

    /// A squashfs that holds what is in a directory, mounted; unless that can't be done here, which it says.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn squashfs(from: &Path) -> Option<Self> {
        Self::holding("squashfs", "mksquashfs", from, |command, file, from| {
            command.arg(from).arg(file).args(["-quiet", "-no-progress"]);
        })
    }

    /// An erofs, likewise.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn erofs(from: &Path) -> Option<Self> {
        Self::holding("erofs", "mkfs.erofs", from, |command, file, from| {
            command.arg("--quiet").arg(file).arg(from);
        })
    }

    fn holding(
        kind: &str,
        program: &str,
        from: &Path,
        arguments: impl FnOnce(&mut Command, &Path, &Path),
    ) -> Option<Self> {
        let disk = Self { dir: tempfile::tempdir().expect("a directory for a disk") };
        std::fs::create_dir(disk.point()).expect("a mount point");
        let mut make = Command::new(program);
        arguments(&mut make, &disk.image(), from);
        let made = make.stdout(Stdio::null()).status().is_ok_and(|s| s.success());
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", "loop,ro"]).arg(disk.image()).arg(disk.point());
        if !made || !mount.status().is_ok_and(|s| s.success()) {
            skip(kind, "it can't be made and mounted from a file here");
            return None;
        }
        Some(disk)
    }

    /// The same, with nothing mounted.
    ///
    /// # Panics
    /// When something still uses it.
    #[must_use]
    pub fn unmounted(self) -> Self {
        let done = Command::new("umount").arg(self.point()).status().is_ok_and(|s| s.success());
        assert!(done, "{} is busy", self.point().display());
        self
    }

    fn of(kind: &str, options: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory for a disk");
        let disk = Self { dir };
        let file = disk.image();
        std::fs::create_dir(disk.point()).expect("a mount point");
        std::fs::File::create(&file).and_then(|f| f.set_len(512 << 20)).expect("a disk");
        let ran = |command: &mut Command| command.status().is_ok_and(|s| s.success());
        let made = ran(Command::new(format!("mkfs.{kind}")).args(options).arg(&file));
        if !made || !ran(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(disk.point())) {
            skip(kind, "it can't be mounted from a file here");
            return None;
        }
        Some(disk)
    }

    /// The file that it is in.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-q").arg(self.point()).status());
    }
}
