//! Programs that tests copy in order to run them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Copies a program to where it is to be run; everyone may. `cp` does the writing: were the file open for
/// writing here, a child that another thread starts meanwhile would hold it open till its own execve(2), and
/// execve(2) of the copy fail with `ETXTBSY`.
///
/// # Panics
/// When the copy can't be made.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = Command::new("cp").arg("--").arg(from).arg(to).status();
    let copied = copied.unwrap_or_else(|e| panic!("can't start cp: {e}"));
    assert!(copied.success(), "no copy of {} at {}: {copied}", from.display(), to.display());
    let everyone = Permissions::from_mode(0o755);
    std::fs::set_permissions(to, everyone).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
}
