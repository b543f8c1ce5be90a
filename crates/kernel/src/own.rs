//! What the host's /proc shows of this very program.

use std::os::fd::AsFd;

use rustix::fs::{Mode as FileMode, OFlags};

use crate::error::ReadError;
use crate::host::{Host, Mode};
use crate::parse;

/// The link to this program's own mount namespace.
const OWN_MOUNTS: &[u8] = b"proc/self/ns/mnt";

/// The signals that this program ignores, bit N-1 for signal N; none where that can't be read.
#[must_use]
pub fn ignored_signals() -> u64 {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut bytes = Vec::new();
    let read = rustix::fs::open("/proc/self/status", flags, FileMode::empty())
        .and_then(|fd| crate::drain::read_to_end(fd.as_fd(), &mut bytes, 1 << 20));
    read.ok().and_then(|_| parse::status::ignored(&bytes)).unwrap_or_default()
}

impl Host {
    /// `/proc/self` is a link that openat2's rules against magic links let pass, but a plain open
    /// relative to the held descriptor is one call instead of four.
    pub(crate) fn own_file(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let key = format!("proc/self/{name}");
        if self.mode() == Mode::Saved {
            return self.root().read(key.as_bytes(), 32 << 20);
        }
        let bytes = self.own_file_now(name)?;
        if let Some(recorder) = self.recorder() {
            recorder.content(&key.into(), &bytes, None);
        }
        Ok(bytes)
    }

    /// The same as it is at this moment, which no capture has.
    pub(crate) fn own_file_now(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("self/{name}");
        let errno = |e| ReadError::from_errno(self.shown(format!("proc/{path}").as_bytes()), e);
        let fd = rustix::fs::openat(self.proc_dir(), path.as_str(), flags, FileMode::empty())
            .map_err(errno)?;
        let mut bytes = Vec::new();
        crate::drain::read_to_end(fd.as_fd(), &mut bytes, 32 << 20).map_err(errno)?;
        Ok(bytes)
    }

    /// The PID of this program as the host's /proc has it; `None` in a saved tree, and where that /proc is
    /// another PID namespace's, which does not show this program.
    #[must_use]
    pub fn own_pid(&self) -> Option<u32> {
        if self.mode() == Mode::Saved {
            return None;
        }
        let text = rustix::fs::readlinkat(self.proc_dir(), "self", Vec::with_capacity(64)).ok()?;
        parse::decimal32(text.to_bytes())
    }

    /// The capabilities that this program has; see [`parse::capabilities`].
    ///
    /// # Errors
    /// When this /proc does not show this program itself.
    pub fn own_capabilities(&self) -> Result<u64, ReadError> {
        let bytes = self.own_file("status")?;
        parse::capabilities::parse(&bytes).map_err(|m| m.at(self.shown(b"proc/self/status")))
    }

    /// The inode of this program's own mount namespace; of PID 1's on a mounted host; in a capture, of
    /// the program that made it. `None` when it may not be read.
    #[must_use]
    pub fn own_mount_namespace(&self) -> Option<u64> {
        let name = match self.mode() {
            Mode::Live => "self/ns/mnt",
            Mode::Mounted => "1/ns/mnt",
            Mode::Saved => {
                let text = self.root().read_link(OWN_MOUNTS).ok().filter(|_| self.is_captured())?;
                return parse::nslink::parse(&text, b"mnt").ok();
            }
        };
        let text = rustix::fs::readlinkat(self.proc_dir(), name, Vec::with_capacity(64)).ok()?;
        if let Some(recorder) = self.recorder().filter(|_| self.mode() == Mode::Live) {
            recorder.link(&OWN_MOUNTS.into(), text.to_bytes());
        }
        parse::nslink::parse(text.to_bytes(), b"mnt").ok()
    }

    /// Whether this program is in the initial cgroup namespace, so that paths are told from the root of
    /// each hierarchy on. False when that can't be told.
    pub(crate) fn sees_all_cgroups(&self) -> bool {
        // PROC_CGROUP_INIT_INO of the kernel's include/linux/proc_ns.h.
        let name = "self/ns/cgroup";
        let text = rustix::fs::readlinkat(self.proc_dir(), name, Vec::with_capacity(64));
        let inode =
            text.ok().and_then(|text| parse::nslink::parse(text.to_bytes(), b"cgroup").ok());
        self.mode() == Mode::Live && inode == Some(0xEFFF_FFFB)
    }
}

#[cfg(test)]
mod tests {
    use crate::host::{Host, Options};

    #[test]
    fn its_own_number_is_the_one_of_that_proc() {
        let host = Host::open(Options::default()).unwrap();
        assert_eq!(host.own_pid(), Some(std::process::id()));
        // Where another's number may be the same.
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(format!("proc/{}", std::process::id()))).unwrap();
        let root = Some(dir.path().to_str().unwrap().into());
        let host = Host::open(Options { root, ..Options::default() }).unwrap();
        assert_eq!(host.own_pid(), None);
    }
}
