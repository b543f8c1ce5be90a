//! A file on FUSE: what the server itself holds open, and the layers that it was started with.

use bstr::ByteSlice;
use whose_kernel::object::{Look, Object};
use whose_kernel::parse::overlay::{self, Overlay};
use whose_kernel::read::process::ProcDir;
use whose_kernel::worker::{Ask, Slow};
use whose_kernel::{parse, scan};

use super::Look1;

/// The processes that serve the file's FUSE file system. All of /proc is read for it, since nothing else
/// leads to them.
fn servers<'l>(look: &'l Look1<'_>) -> Vec<ProcDir<'l>> {
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
    let serves = |dir: &ProcDir<'_>| {
        let fds = dir.descriptors().unwrap_or_default();
        fds.iter().any(|fd| dir.fuse_connection(*fd) == Some(connection))
    };
    servers.into_iter().filter_map(|pid| host.process(pid).ok()).filter(serves).collect()
}

/// Regular files that the server of the program's FUSE file system holds open, of the program's own
/// inode number and size: fuse-overlayfs passes both on, and keeps a running program open.
pub(super) fn held_by_server(look: &Look1<'_>) -> Vec<Object> {
    let is_it =
        |l: &Look| l.is_file() && (l.ino, l.size) == (look.exe_look.ino, look.exe_look.size);
    let mut found: Vec<Object> = Vec::new();
    for dir in servers(look) {
        for fd in dir.descriptors().unwrap_or_default() {
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

/// The layers that the server names in its arguments, `-o lowerdir=...,upperdir=...`: its own words, which
/// whoever started it chose.
pub(super) fn layers_of_server(look: &Look1<'_>) -> Option<Overlay> {
    servers(look).into_iter().find_map(|dir| {
        let stat = dir.stat().ok()?;
        let ask = Ask { file: Slow::Cmdline, pid: dir.pid(), start_ticks: stat.start_ticks };
        let bytes = look.host.slow_reads(&[ask]).pop()?.ok()?;
        let args = parse::cmdline::parse(&bytes);
        let options = args.iter().zip(args.iter().skip(1)).filter(|(flag, _)| *flag == "-o");
        let read = options.map(|(_, value)| overlay::parse(value.as_ref()));
        read.into_iter().find(|overlay| !overlay.lowers.is_empty())
    })
}
