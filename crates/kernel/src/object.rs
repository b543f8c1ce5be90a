//! Files held by descriptor and not by name: what they are, and where.
//!
//! Every descriptor is `O_PATH`: opening one reads nothing, waits for nobody and does not show to
//! who watches opens.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::ReadError;
use crate::host::{Host, Mode as HostMode};
pub use crate::look::Look;
use crate::parse::handle::Handle;
use crate::seam;

/// An open file, directory or whatever else has a name; see the module.
#[derive(Debug)]
pub struct Object {
    fd: OwnedFd,
    /// The id of its mount and its device, once it was looked at. A descriptor keeps its mount.
    place: OnceCell<Option<(u64, (u32, u32))>>,
    /// Whether it is near, once that was asked.
    pub(crate) near: OnceCell<bool>,
}

/// `STATX_MNT_ID_UNIQUE` of include/uapi/linux/stat.h (kernel 6.8).
const MNT_ID_UNIQUE: u32 = 0x4000;

impl Object {
    /// Takes a descriptor.
    #[must_use]
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, place: OnceCell::new(), near: OnceCell::new() }
    }

    /// The descriptor.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The same under a descriptor of its own.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn again(&self) -> Result<Self, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map(Self::new)
    }

    /// Looks at it without asking a network or FUSE server.
    ///
    /// # Errors
    /// The kernel's.
    pub fn look(&self) -> Result<Look, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let x = self.statx(mask)?;
        let given = StatxFlags::from_bits_retain(x.stx_mask);
        let mount = given.contains(StatxFlags::MNT_ID).then_some(x.stx_mnt_id);
        let device = (x.stx_dev_major, x.stx_dev_minor);
        self.place.get_or_init(|| mount.map(|mount| (mount, device)));
        Ok(Look::told(&x, mount))
    }

    /// The id of its mount, as in mountinfo (kernel 5.8), and its device.
    pub(crate) fn place(&self) -> Option<(u64, (u32, u32))> {
        if self.place.get().is_none() {
            self.look().ok()?;
        }
        self.place.get().copied().flatten()
    }

    /// An extended attribute of at most 4 KiB; see [`Host::attribute`].
    pub(crate) fn attribute(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let mut value = [0_u8; 4096];
        let length = rustix::fs::getxattr(self.magic(), name, &mut value)?;
        Ok(value[..length].to_vec())
    }

    /// The 64-bit id of its mount, which is never used again.
    ///
    /// # Errors
    /// `EOPNOTSUPP` before 6.8.
    pub fn unique_mount(&self) -> Result<u64, Errno> {
        let x = self.statx(StatxFlags::from_bits_retain(MNT_ID_UNIQUE))?;
        if x.stx_mask & MNT_ID_UNIQUE == 0 { Err(Errno::OPNOTSUPP) } else { Ok(x.stx_mnt_id) }
    }

    fn statx(&self, mask: StatxFlags) -> Result<rustix::fs::Statx, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        rustix::fs::statx(&self.fd, c"", flags, mask)
    }

    /// Its path, as this process would reach it: `None` when it is longer than the kernel tells.
    /// ` (deleted)` is appended when the name is gone; a file may also be called so.
    ///
    /// # Errors
    /// The kernel's.
    pub fn path(&self) -> Result<Option<BString>, Errno> {
        match rustix::fs::readlink(self.magic(), Vec::with_capacity(256)) {
            Ok(text) => Ok(Some(text.into_bytes().into())),
            Err(Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Where it leads, if it is a symbolic link that was opened itself.
    ///
    /// # Errors
    /// `EINVAL` or `ENOENT` when it is none.
    pub fn target(&self) -> Result<BString, Errno> {
        let text = rustix::fs::readlinkat(&self.fd, c"", Vec::with_capacity(256))?;
        Ok(text.into_bytes().into())
    }

    fn magic(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Of a namespace: whether it belongs to the initial user namespace, so that only who is privileged
    /// on the host may change it.
    #[must_use]
    pub fn is_of_initial_user_namespace(&self) -> bool {
        let owner = seam::mounts::owner(self.fd.as_fd());
        owner.is_ok_and(|o| {
            Look::of(o.as_fd()).is_ok_and(|l| l.ino == crate::confined::INITIAL_USER_NAMESPACE)
        })
    }

    /// Its file handle; see [`seam::handle::handle_of`].
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the file system gives none, `EINVAL` from an overlay before 6.6.
    pub fn handle(&self) -> Result<Handle, Errno> {
        seam::handle::handle_of(self.fd.as_fd())
    }

    /// The magic number of its file system (fstatfs(2)). Asks a FUSE server: not for such objects.
    ///
    /// # Errors
    /// The kernel's.
    pub fn magic_number(&self) -> Result<i64, Errno> {
        #[allow(clippy::useless_conversion, reason = "f_type is narrower on some architectures")]
        rustix::fs::fstatfs(&self.fd).map(|s| i64::from(s.f_type))
    }
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The attributes by which an overlay knows a layer's files, of an open file: `trusted.overlay.*`,
/// which root alone sees, and `user.overlay.*`.
pub(crate) fn overlay_attributes(fd: BorrowedFd<'_>) -> Vec<(BString, BString)> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut names = vec![0_u8; 4096];
    let Ok(n) = rustix::fs::listxattr(&path, names.as_mut_slice()) else { return Vec::new() };
    names.truncate(n);
    let ours = |n: &&[u8]| n.starts_with(b"trusted.overlay.") || n.starts_with(b"user.overlay.");
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 4096];
        let n = rustix::fs::getxattr(&path, name, value.as_mut_slice()).ok()?;
        value.truncate(n);
        Some((name.into(), value.into()))
    };
    names.split(|b| *b == 0).filter(ours).filter_map(value).collect()
}

impl Host {
    /// The host's root directory.
    ///
    /// # Errors
    /// The kernel's; `unsupported` in a capture, which has what was read and no other file.
    pub fn root_object(&self) -> Result<Object, ReadError> {
        if self.mode() == HostMode::Saved && !self.is_loose() {
            let why = "a capture holds no layers";
            return Err(ReadError::new(self.shown(b""), crate::Class::Unsupported, why));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(
            self.root(),
            c".",
            flags,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        );
        opened.map(Object::new).map_err(|e| ReadError::from_errno(self.shown(b""), e))
    }

    /// What a mount of another mount namespace is, the way mountinfo would say it if the process
    /// were not confined; `namespace` is a descriptor of `ns/mnt`.
    ///
    /// # Errors
    /// Before 6.11, without CAP_SYS_ADMIN over the namespace, and for a mount in no namespace.
    pub fn mount_in(
        &self,
        mount: u64,
        namespace: &Object,
    ) -> Result<crate::parse::mountinfo::Mount, Errno> {
        let id = seam::mounts::namespace_id(namespace.as_fd())?;
        let mask = crate::parse::statmount::MASK;
        for size in [1 << 11, 1 << 16] {
            let mut buffer = vec![0_u64; size];
            match seam::mounts::statmount(mount, id, mask, &mut buffer) {
                Err(Errno::OVERFLOW) => {}
                Err(errno) => return Err(errno),
                Ok(()) => {
                    let bytes: Vec<u8> = buffer.iter().flat_map(|w| w.to_ne_bytes()).collect();
                    return crate::parse::statmount::parse(&bytes).map_err(|_| Errno::PROTO);
                }
            }
        }
        Err(Errno::OVERFLOW)
    }

    /// A host path as seen from the host's own root: what this process sees, without `--root`'s
    /// directory before it. `None` for what lies outside.
    #[must_use]
    pub fn unrooted<'p>(&self, path: &'p BStr) -> Option<&'p BStr> {
        let root = self.root().shown();
        if root == "/" {
            return Some(path);
        }
        let rest = crate::parse::mountinfo::strip(root, path)?;
        Some(if rest.is_empty() { BStr::new(b"/") } else { rest.as_bytes().as_bstr() })
    }
}
