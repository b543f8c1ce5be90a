//! The path of a program and nothing else, where it takes no look at mounts and layers.
//!
//! Of a file on an overlay the kernel gives the handle of the layer's file, which opens it on the host's
//! own mount; what runs in the host's mount namespace is opened by `exe` itself. Where the process has a
//! page of that file mapped, the file is proven, whatever else there were to be told. What is not proven
//! so is looked at whole.

use bstr::BString;
use whose_kernel::Host;
use whose_kernel::object::{Look, Object};

use super::filesystems::FileSystems;
use super::memory::Memory;
use super::mounted::DELETED;
use super::told::{inode, path_of};
use super::{Extent, Located, Subject, Which};
use crate::model::{Fact, File, Verified};

/// A file with a path of the host.
pub(super) struct Named {
    object: Object,
    look: Look,
    path: BString,
}

/// Files on this machine's disks that may be the one: none where more is asked than the path.
pub(super) fn files(
    host: &Host,
    subject: &Subject<'_>,
    root: &Object,
    exe: &Object,
    text: &BString,
) -> Vec<Named> {
    let is_asked = subject.extent == Extent::Path && matches!(subject.which, Which::Program);
    if !is_asked || text.ends_with(DELETED) {
        return Vec::new();
    }
    let Ok(handle) = exe.handle() else { return Vec::new() };
    let opened = match handle.parse_layer() {
        Ok(Some(layer)) => {
            // Of several names only the overlay knows the one that is meant.
            let is_it = |o: &Object| o.look().is_ok_and(|l| l.is_file() && l.nlink == 1);
            FileSystems::new(host, root, None, &[]).open(&layer.inner, None, &is_it)
        }
        Ok(None) if host.is_near(exe) => {
            let own = host.own_mount_namespace();
            let is_hosts = own.is_some() && subject.dir.namespace("mnt").ok() == own;
            exe.again().ok().filter(|_| is_hosts).map(|exe| (exe, true)).into_iter().collect()
        }
        Ok(None) | Err(_) => Vec::new(),
    };
    let named = |object: Object| {
        let look = object.look().ok()?;
        let path = path_of(host, root, &object.path().ok()??, &look)?;
        Some(Named { object, look, path })
    };
    opened.into_iter().filter_map(|(object, _)| named(object)).collect()
}

/// The one that the process has a page of.
pub(super) fn located(files: Vec<Named>, memory: &Memory<'_>) -> Option<Located> {
    let Named { object, look, path } = files.into_iter().find(|f| memory.is_of(&f.object))?;
    let file = File {
        host: Fact::Known(path),
        verified: Verified::Page,
        inode: Some(inode(&look)),
        ..File::default()
    };
    Some(Located { file, running: Some(object) })
}
