//! A file by its device and number.

use bstr::BString;
use whose_kernel::object::Object;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host, Mode};

use super::filesystems::FileSystems;
use super::mounted::DELETED;
use crate::model::Gap;
use crate::model::gap::what;

/// What a number came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// The device as mountinfo and `maps` have it, which of btrfs is another than stat(2)'s.
    pub device: (u32, u32),
    /// Paths of the host, each of a file with this number: of btrfs each subvolume may have one.
    pub paths: Vec<BString>,
    /// The kernel has such a file, and it has no name any more.
    pub is_unlinked: bool,
}

/// Asks the kernel for the files of a number. It knows the names of those in use; of others ext4 opens the file and
/// no more.
///
/// # Errors
/// `unsupported` where the file system opens nothing by its number, where it is mounted nowhere here, or where the
/// kernel has the file's name not at hand; `forbidden` without the capability `CAP_DAC_READ_SEARCH`.
pub fn numbered(host: &Host, device: (u32, u32), number: u64) -> Result<Numbered, Gap> {
    let named = format!("{}:{}:{number}", device.0, device.1);
    let fail =
        |class, why: String, remedy| Gap::new(what::PATH, class, named.as_str(), why, remedy);
    if host.mode() == Mode::Saved {
        return Err(fail(Class::Unsupported, "a saved tree has no file systems".into(), None));
    }
    let root = host.root_object().map_err(|e| Gap::from_read(what::PATH, &e))?;
    let (device, objects) = FileSystems::new(host, &root, None, &[]).on_device(device, number)?;
    let mut found = Numbered { device, ..Numbered::default() };
    let mut nameless = false;
    for object in objects {
        let Some(path) = object.path().ok().flatten() else { continue };
        if path.ends_with(DELETED) && object.look().is_ok_and(|look| look.nlink == 0) {
            found.is_unlinked = true;
            continue;
        }
        match host.unrooted(path.as_ref()).filter(|path| is_it(host, &root, path, &object)) {
            Some(path) => found.paths.push(path.into()),
            None => nameless = true,
        }
    }
    if nameless && found.paths.is_empty() {
        let why = "the kernel opens it, and has its name not at hand";
        return Err(fail(Class::Unsupported, why.into(), Some("find MOUNT -xdev -inum NUMBER")));
    }
    found.paths.sort();
    found.paths.dedup();
    Ok(found)
}

/// Whether the path still leads to this very file.
fn is_it(host: &Host, root: &Object, path: &bstr::BStr, object: &Object) -> bool {
    let there = host.lookup(root, path, Way::Plain).and_then(|there| there.look());
    matches!((there, object.look()), (Ok(there), Ok(own)) if there.is(&own))
}
