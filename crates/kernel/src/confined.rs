//! Directories that belong to someone who may wish this program harm: beneath a process's own root,
//! or a user's home.
//!
//! Whoever has a mount namespace or a home of his own may mount there what never answers. Such a
//! directory is opened by the worker, which may get stuck; then the mount that it really lies on is
//! looked at, and nothing that is mounted beneath it is entered.

use bstr::{BStr, BString, ByteSlice};
use rustix::io::Errno;

use crate::capture::{self, Place, Tape};
use crate::error::{Class, ReadError};
use crate::host::{Host, Mode};
use crate::object::Object;
use crate::parse::mountinfo::{Mount, strip};
use crate::read::process::ProcDir;
use crate::remote::is_local_type;
use crate::root::{Links, Root, join};
use crate::worker::exam::Way;

/// Inode of the initial user namespace (`PROC_USER_INIT_INO` of include/linux/proc_ns.h).
pub(crate) const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

impl Host {
    /// The directory `rel` beneath `base`, if it is `uid`'s and on a local file system: links lead on
    /// to `base`, which is the administrator's, and none beyond.
    ///
    /// # Errors
    /// The kernel's; `malformed` when it is someone else's, `unsupported` for where it lies.
    pub fn owned_dir(&self, base: &BStr, rel: &BStr, uid: u32) -> Result<Root, ReadError> {
        let path = join(base, rel);
        let shown = self.shown(&path);
        if self.mode() == Mode::Saved {
            let there = || {
                let base = self.root().descend(base, Links::Never, None)?;
                base.descend(rel, Links::Never, None)
            };
            let key = capture::joined(b"", &path);
            let met = self.recorded().and_then(|r| r.failure(&key, || shown.clone()));
            return met.map_or_else(there, Err);
        }
        let opened = self.open_owned(base, rel, uid, &path, &shown);
        if let (Err(e), Some(recorder)) = (&opened, self.recorder()) {
            recorder.failed(&capture::joined(b"", &path), e, false);
        }
        opened
    }

    fn open_owned(
        &self,
        base: &BStr,
        rel: &BStr,
        uid: u32,
        path: &BString,
        shown: &BString,
    ) -> Result<Root, ReadError> {
        let mounts = self.mounts()?;
        known_to_answer(mounts, path.as_ref())?;
        let error = |e| failed(shown, e);
        let place = self.root().place_of(base).map(|p| Place { at: p.beneath(rel), ..p });
        let base = self.lookup(&self.root_object()?, base, Way::Links).map_err(error)?;
        let found = self.lookup(&base, rel, Way::Plain).map_err(error)?;
        let (root, owner) = confine(found, mounts, shown.clone(), place, |_| true)?;
        if owner == uid {
            return Ok(root);
        }
        let why = format!("owned by uid {owner}, not {uid}");
        Err(ReadError::new(root.shown(), Class::Malformed, why))
    }
}

impl ProcDir<'_> {
    /// Whether it is in the host's own user namespace: the initial one, or that of the host's first process where the
    /// host is a container. Whoever is in another may be root there, and mount things. Where that can't be read (it
    /// needs ptrace read access; a saved tree may lack it) it is taken to be there.
    #[must_use]
    pub fn is_in_hosts_users(&self) -> bool {
        let Ok(own) = self.namespace("user") else { return true };
        let hosts = || self.host().process(1).and_then(|first| first.namespace("user"));
        own == INITIAL_USER_NAMESPACE || hosts() == Ok(own)
    }

    /// The directory `rel` beneath the process's own root, no link followed. Only files of its owner
    /// are read in it. Needs ptrace read access.
    ///
    /// # Errors
    /// The kernel's; `unsupported` in a saved tree without it, and for where it lies.
    pub fn directory(&self, rel: &BStr) -> Result<Root, ReadError> {
        let rel = BStr::new(rel.trim_start_with(|c| c == '/'));
        let key = capture::joined(format!("proc/{}/root", self.pid()).as_bytes(), rel);
        let shown = self.shown(&[b"root/", rel.as_bytes()].concat());
        if let Some(met) = self.host().recorded().and_then(|r| r.failure(&key, || shown.clone())) {
            return Err(met);
        }
        if let Some(saved) = self.saved_root() {
            return saved?.descend(rel, Links::Never, None);
        }
        let opened = self.open_directory(rel, &key, &shown);
        if let (Err(e), Some(recorder)) = (&opened, self.recorder()) {
            recorder.failed(&key, e, false);
        }
        opened
    }

    fn open_directory(
        &self,
        rel: &BStr,
        key: &BString,
        shown: &BString,
    ) -> Result<Root, ReadError> {
        let mounts = self.mountinfo()?;
        let path = [b"/", rel.as_bytes()].concat();
        known_to_answer(&mounts, BStr::new(&path))?;
        let error = |e| failed(shown, e);
        let found = self.host().lookup(&self.object("root")?, rel, Way::Plain).map_err(error)?;
        // An overlay may lie on anything. One that an engine mounted does not: a user cannot mount in
        // the initial user namespace, and the host's own mounts are the administrator's.
        let trusted = |overlay: &Mount| {
            let hosts = self.host().mounts().unwrap_or_default();
            hosts.iter().any(|m| m.device == overlay.device && m.fs_type == overlay.fs_type)
                || self.namespace("user") == Ok(INITIAL_USER_NAMESPACE)
        };
        let recorder = self.recorder().cloned();
        let place = recorder.map(|r| Place { tape: Tape::Recording(r), at: key.clone() });
        confine(found, &mounts, shown.clone(), place, trusted).map(|(root, _)| root)
    }
}

/// Refuses what a mount on the way is known to answer for: the worker can stand getting stuck only so
/// often. Links and mounts that come and go are found out later.
fn known_to_answer(mounts: &[Mount], path: &BStr) -> Result<(), ReadError> {
    let on_the_way = |m: &&Mount| m.point != "/" && strip(&m.point, path).is_some();
    let remote = mounts.iter().filter(on_the_way).find(|m| !is_local_type(&m.fs_type));
    remote.map_or(Ok(()), |mount| {
        let why = format!("on a {} file system, which may not answer", mount.fs_type);
        Err(ReadError::new(path, Class::Unsupported, why))
    })
}

/// The directory as a root and its owner, if what it is mounted from answers by itself.
fn confine(
    found: Object,
    mounts: &[Mount],
    shown: BString,
    place: Option<Place>,
    trusted: impl Fn(&Mount) -> bool,
) -> Result<(Root, u32), ReadError> {
    let look = found.look().map_err(|e| failed(&shown, e))?;
    if !look.is_dir() {
        return Err(ReadError::new(shown, Class::Malformed, "not a directory"));
    }
    let mount = mounts.iter().find(|m| Some(u64::from(m.id)) == look.mount);
    let refuse = |why: String| Err(ReadError::new(shown.clone(), Class::Unsupported, why));
    match mount {
        Some(mount) if !is_local_type(&mount.fs_type) => {
            refuse(format!("on a {} file system, which may not answer", mount.fs_type))
        }
        Some(mount) if mount.fs_type == "overlay" && !trusted(mount) => {
            refuse("on an overlay of unknown make, which may not answer".into())
        }
        Some(_) => {
            if let Some((recorder, place)) = place.as_ref().and_then(|p| Some((p.recorder()?, p))) {
                recorder.directory(&place.at, Some(&look));
            }
            Ok((Root::confined(found.into_fd(), shown, look.uid, place), look.uid))
        }
        None => refuse("what it is mounted from can't be told".into()),
    }
}

fn failed(shown: &BString, errno: Errno) -> ReadError {
    ReadError::from_errno(shown.clone(), errno)
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, ByteSlice};

    use super::known_to_answer;
    use crate::error::Class;
    use crate::host::{Host, Options};
    use crate::parse::mountinfo::parse;

    #[test]
    fn what_lies_on_another_is_not_tried() {
        let mounts = parse(
            b"1 0 0:1 / / rw - fuse.fuse-overlayfs x rw\n2 1 0:2 / /a rw - fuse.sshfs h rw\n\
3 2 8:1 / /a/b rw - ext4 /dev/x rw\n4 1 8:1 / /c rw - ext4 /dev/x rw\n",
        )
        .unwrap();
        let fine = |path: &str| known_to_answer(&mounts, BStr::new(path)).is_ok();
        assert!(fine("/c/d") && fine("/ab") && fine("/var/lib"));
        assert!(!fine("/a") && !fine("/a/b/c"));
    }

    #[test]
    fn a_directory_of_ones_own_is_read_and_anothers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), "yes").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let host = Host::open(Options::default()).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let base = BStr::new(dir.path().as_os_str().as_encoded_bytes());
        let open = |rel: &str, uid| host.owned_dir(base, BStr::new(rel), uid);
        assert_eq!(open("a/b", uid).unwrap().read(b"c", 9).unwrap(), b"yes");
        assert_eq!(open("a/b", uid + 1).unwrap_err().class, Class::Malformed);
        assert_eq!(open("link/b", uid).unwrap_err().class, Class::Malformed);
        assert_eq!(open("a/b/c", uid).unwrap_err().class, Class::Malformed);
        assert_eq!(open("a/none", uid).unwrap_err().class, Class::Gone);
        let own = host.process(std::process::id()).unwrap();
        let seen = own.directory(BStr::new(&[base.as_bytes(), b"/a/b"].concat()));
        // The root of this very process may be an overlay that nobody vouches for.
        assert!(
            seen.is_ok_and(|r| r.read(b"c", 9).unwrap() == b"yes") || own.namespace("user").is_ok()
        );
    }
}
