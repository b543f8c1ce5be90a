//! A program on FUSE: what the server itself holds open.

use bstr::ByteSlice;
use whose_kernel::object::{Look, Object};
use whose_kernel::scan;

use super::Look1;

/// Regular files that the server of the program's FUSE file system holds open, of the program's own
/// inode number and size: fuse-overlayfs passes both on, and keeps a running program open. All of
/// /proc is read for it, since nothing else leads to the server.
pub(super) fn held_by_server(look: &Look1<'_>) -> Vec<Object> {
    let host = look.host;
    let connection = look.exe_look.device.1;
    let mut servers = Vec::new();
    let scanned = scan::each_process(host, &mut |pid, opened| {
        let named = |comm: &[u8]| comm.contains_str("fuse");
        if opened.is_ok_and(|dir| dir.stat().is_ok_and(|s| named(&s.comm))) {
            servers.push(pid);
        }
    });
    if scanned.is_err() {
        return Vec::new();
    }
    let is_it =
        |l: &Look| l.is_file() && (l.ino, l.size) == (look.exe_look.ino, look.exe_look.size);
    let mut found: Vec<Object> = Vec::new();
    for pid in servers {
        let Ok(dir) = host.process(pid) else { continue };
        let Ok(fds) = dir.descriptors() else { continue };
        if !fds.iter().any(|fd| dir.fuse_connection(*fd) == Some(connection)) {
            continue;
        }
        for fd in fds {
            let Ok(object) = dir.object(&format!("fd/{fd}")) else { continue };
            let Ok(own) = object.look() else { continue };
            let known = found.iter().any(|f| f.look().is_ok_and(|l| l.is(&own)));
            if is_it(&own) && !known {
                found.push(object);
            }
        }
    }
    found
}
