//! Host paths, as somebody types them.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::Index;
use super::layers::Found;
use crate::model::gap::what;
use crate::model::{Gap, Inode};

/// Links followed on one way, as in the kernel's own walk.
const MOST_LINKS: usize = 40;
/// `PATH_MAX`.
const MOST_BYTES: usize = 4096;

/// A path of the host, links followed up to the first layer.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The path without links, `.` and `..`.
    pub path: BString,
    /// The layer it lies in.
    pub found: Option<Found>,
    /// The file, where it could be looked at.
    pub inode: Option<Inode>,
    /// It is, or leads over, a link in a layer: what that names is the container's to say.
    pub is_link: bool,
}

impl Index<'_> {
    /// Resolves a path. Links are followed as the host would, but not in a layer: there they are
    /// meant for the container. What may not answer is not touched.
    ///
    /// # Errors
    /// `gone` when there is no such file.
    pub fn resolve(&mut self, typed: &BStr) -> Result<Resolved, Gap> {
        let fail = |class, why: &'static str| {
            Gap::from_read(what::PATH, &ReadError::new(BString::from(typed), class, why))
        };
        if typed.len() >= MOST_BYTES {
            return Err(fail(Class::Malformed, "longer than the kernel takes"));
        }
        let gap = |e: &ReadError| Gap::from_read(what::PATH, e);
        let mut rest = parts(typed);
        let mut at: Vec<u8> = Vec::new();
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = rest.pop() {
            steps += 1;
            if self.host().out_of_time() || steps > MOST_BYTES * 2 {
                return Err(fail(Class::TimedOut, "no time left"));
            }
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    // Links on the way were replaced, but those in a layer were not.
                    if self.is_in_layer(&at) && self.host().root().read_link(&at).is_ok() {
                        return Err(fail(Class::Malformed, "leads back over a link in a layer"));
                    }
                    at.truncate(at.rfind_byte(b'/').unwrap_or(0));
                    continue;
                }
                name => {
                    at.push(b'/');
                    at.extend_from_slice(name);
                }
            }
            if self.is_in_layer(&at) {
                continue;
            }
            self.host().guard(&at).map_err(|e| gap(&e))?;
            let Ok(target) = self.host().root().read_link(&at) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return Err(fail(Class::Malformed, "too many links on the way"));
            }
            let up = if target.starts_with(b"/") { 0 } else { at.rfind_byte(b'/').unwrap_or(0) };
            at.truncate(up);
            rest.extend(parts(target.as_ref()));
        }
        let path: BString = if at.is_empty() { "/".into() } else { at.into() };
        let found = self.layer_at(path.as_ref())?;
        let mut resolved = Resolved { path, found, inode: None, is_link: false };
        match self.look(&mut resolved) {
            // A capture holds no file that was not asked for.
            Err(e) if e.class == Class::Gone && self.host().is_captured() => {
                Err(fail(Class::Unsupported, "it is not in this capture"))
            }
            looked => looked.map(|()| resolved).map_err(|e| gap(&e)),
        }
    }

    /// Whether a path leads into a layer of an engine's store.
    fn is_in_layer(&self, path: &[u8]) -> bool {
        let host = self.host().root();
        let readings = crate::storage::readings(BStr::new(path));
        readings.iter().any(|(root, driver, _)| super::layers::is_data_root(host, root, *driver))
    }

    /// Looks at the file itself.
    fn look(&self, resolved: &mut Resolved) -> Result<(), ReadError> {
        let path = &resolved.path;
        let Some(found) = &resolved.found else {
            resolved.inode = Some(inode(self.host().root(), path)?);
            return Ok(());
        };
        // Of the layer's directory it is known where it lies; below, a mount may not answer.
        let (entry, rel, root) = match self.beneath(found, path.as_ref()) {
            Some(beneath) => beneath,
            None => return Ok(()),
        };
        root.look(&entry)?;
        if self.host().guard(path).is_err() {
            return Ok(());
        }
        match inode(root, rel) {
            Ok(inode) => resolved.inode = Some(inode),
            Err(e) if e.class == Class::Malformed => {
                // openat2 refused a link: the file itself, or a directory on the way.
                resolved.is_link = true;
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// What is told of a name beneath a root.
fn inode(root: &Root, rel: &[u8]) -> Result<Inode, ReadError> {
    let look = root.look(rel)?;
    Ok(Inode {
        device: look.device,
        ino: look.ino,
        nlink: look.nlink,
        size: look.size,
        mtime: i64::try_from(look.mtime.div_euclid(1_000_000)).unwrap_or(0),
    })
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<BString> {
    let parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty());
    let mut parts: Vec<BString> = parts.map(BString::from).collect();
    parts.reverse();
    parts
}
