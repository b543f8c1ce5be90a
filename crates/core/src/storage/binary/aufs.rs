//! A file on aufs: its branches are in the options of the mount or in sysfs, and by its rules a file of theirs is shown.
//!
//! aufs gives no handle of a branch's file, and numbers of its own to all. What it maps are the pages of the branch's file
//! (aufs4-linux fs/aufs/f_op.c, `aufs_mmap`), so that a page proves which it is.

use whose_kernel::Class;
use whose_kernel::Host;
use whose_kernel::ReadError;
use whose_kernel::parse::aufs::{self, Branch, Branches};
use whose_kernel::parse::mountinfo::Mount;
use whose_kernel::parse::overlay::Overlay;

use super::Look1;
use super::candidates::Candidates;
use super::filesystems::FileSystems;
use super::stack::Stack;

/// The type in mountinfo.
pub(super) const TYPE: &str = "aufs";
/// Branches that are read at most; Docker makes 127 of them, aufs as many as its build allows.
const MOST: usize = 1024;
/// A path and what is beside it.
const LINE: usize = 8192;

impl<'h> Look1<'h> {
    /// The stack of the file's branches; the files themselves are looked for when the stack is known.
    pub(super) fn aufs(&'h self, mount: &Mount, file_systems: &FileSystems<'_>) -> Candidates<'h> {
        let branches = match branches(self.host, mount) {
            Ok(branches) => branches,
            Err(e) => {
                let problem = Some(format!("the branches of aufs can't be read: {e}").into());
                return Candidates { problem, ..Candidates::default() };
            }
        };
        if branches.iter().any(|branch| !branch.whiteouts) {
            let problem = Some("aufs takes no marks from one of its branches".into());
            return Candidates { problem, ..Candidates::default() };
        }
        let upper = branches.first().filter(|top| top.writable).map(|top| top.path.clone());
        let lowers = branches.into_iter().skip(usize::from(upper.is_some()));
        let options =
            Overlay { upper, lowers: lowers.map(|b| b.path).collect(), ..Overlay::default() };
        // The kernel tells where they are, and no text that somebody wrote.
        let roots = (self.root, None);
        let stack = Stack::new(self.host, roots, options, None, file_systems, Vec::new());
        Candidates { stack: Some(stack.of_aufs()), ..Candidates::default() }
    }
}

/// The branches of a mount, top first.
fn branches(host: &Host, mount: &Mount) -> Result<Vec<Branch>, ReadError> {
    let here = || host.shown(b"sys/fs/aufs");
    let id = match aufs::options(mount.super_options.as_ref()).map_err(|bad| bad.at(here()))? {
        Branches::Named(branches) => return Ok(branches),
        Branches::InSysfs(id) => id,
    };
    let mut branches = Vec::new();
    for number in 0..=MOST {
        let path = format!("sys/fs/aufs/si_{id}/br{number}");
        match host.root().read(path.as_bytes(), LINE) {
            Ok(line) => {
                let shown = || host.shown(path.as_bytes());
                branches.push(aufs::branch(&line).map_err(|bad| bad.at(shown()))?);
            }
            Err(e) if e.class == Class::Gone && number > 0 => return Ok(branches),
            Err(e) => return Err(e),
        }
    }
    Err(ReadError::new(here(), Class::Unsupported, "more branches than are read"))
}
