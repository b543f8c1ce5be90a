//! Files of a process that have no name any more and still take room.

use std::os::fd::AsFd;

use bstr::BString;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};

use super::process::ProcDir;
use crate::error::ReadError;
use crate::parse::mountinfo::Mount;

/// How the kernel ends the text of a link to what was removed.
const DELETED: &[u8] = b" (deleted)";
/// File systems that keep their files in memory.
const IN_MEMORY: [&[u8]; 4] = [b"tmpfs", b"ramfs", b"hugetlbfs", b"devtmpfs"];
/// How names of memory begin that is in no mounted file system.
const ANONYMOUS: [&[u8]; 4] = [b"/memfd:", b"/SYSV", b"/dev/zero", b"/anon_hugepage"];

/// A file that is open and has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Device and inode. An overlay's is not that of the file on the disk, and tells it from others all
    /// the same.
    pub id: (u32, u32, u64),
    /// Bytes allocated.
    pub bytes: u64,
    /// Its size.
    pub apparent: u64,
    /// What it was called, as the process's own mount namespace has it.
    pub path: BString,
}

impl ProcDir<'_> {
    /// The files on disks that the process has open, and that no name leads to. Nothing is opened, and no
    /// server is asked. Needs ptrace read access.
    ///
    /// # Errors
    /// As [`ProcDir::descriptors`].
    pub fn deleted_files(&self) -> Result<Vec<Deleted>, ReadError> {
        let numbers = self.descriptors()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::openat(self.descriptors_dir()?, "fd", flags, Mode::empty());
        let fds = fds.map_err(|e| ReadError::from_errno(self.shown(b"fd"), e))?;
        let asked = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let at = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let mut found = Vec::new();
        for number in numbers {
            let name = number.to_string();
            // One that was closed meanwhile is none.
            let Ok(text) = rustix::fs::readlinkat(&fds, &name, Vec::with_capacity(256)) else {
                continue;
            };
            let Some(path) = text.as_bytes().strip_suffix(DELETED) else { continue };
            let Ok(seen) = rustix::fs::statx(fds.as_fd(), &name, at, asked) else { continue };
            let is_file = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::RegularFile;
            if seen.stx_nlink > 0 || !is_file {
                continue;
            }
            let file = Deleted {
                id: (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino),
                bytes: seen.stx_blocks.saturating_mul(512),
                apparent: seen.stx_size,
                path: path.into(),
            };
            found.push((seen.stx_mnt_id, file));
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mounts = self.mountinfo()?;
        found.retain(|(mount, file)| !is_memory(&mounts, *mount, file));
        Ok(found.into_iter().map(|(_, file)| file).collect())
    }
}

/// Whether a file is in memory and on no disk. By its mount, or where that is another namespace's by its
/// device.
fn is_memory(mounts: &[Mount], mount: u64, file: &Deleted) -> bool {
    let device = (file.id.0, file.id.1);
    let by_id = mounts.iter().find(|m| u64::from(m.id) == mount && m.device == device);
    match by_id.or_else(|| mounts.iter().find(|m| m.device == device)) {
        Some(of) => IN_MEMORY.contains(&of.fs_type.as_slice()),
        None => ANONYMOUS.iter().any(|begin| file.path.starts_with(begin)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bstr::ByteSlice;

    use crate::host::{Host, Options};

    #[test]
    fn what_was_removed_is_counted_and_memory_is_not() {
        // Not in the folder for short-lived files, which may be in memory.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = dir.path().join("removed (deleted)");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&[1; 50_000]).unwrap();
        file.sync_all().unwrap();
        let kept = std::fs::File::create(dir.path().join("kept (deleted)")).unwrap();
        let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, 4096).unwrap();
        let host = Host::open(Options::default()).unwrap();
        let own = || host.process(std::process::id()).unwrap().deleted_files().unwrap();
        let in_dir = |found: &[super::Deleted]| {
            let base = dir.path().as_os_str().as_encoded_bytes().to_vec();
            found.iter().filter(|f| f.path.starts_with(&base)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(in_dir(&own()), []);
        std::fs::remove_file(&path).unwrap();
        let again = file.try_clone().unwrap();
        let found = own();
        assert!(found.iter().all(|f| !f.path.starts_with_str("/memfd:")), "{found:?}");
        let [one, two] = in_dir(&found).try_into().unwrap();
        assert_eq!((one.apparent, &one), (50_000, &two));
        assert!(one.bytes >= 50_000 && one.path.ends_with_str("removed (deleted)"), "{one:?}");
        drop((again, kept, memory));
    }
}
