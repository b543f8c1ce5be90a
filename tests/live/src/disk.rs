//! A file system in a file.

use std::path::PathBuf;
use std::process::Command;

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
        drop(Command::new("umount").arg(self.point()).status());
    }
}
