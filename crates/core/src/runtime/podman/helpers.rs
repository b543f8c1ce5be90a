//! What runs beside a user's containers: conmon, the process that holds his namespaces, fuse-overlayfs.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::{Host, parse};

use super::{Helper, StateRoot, describe, segment};
use crate::state::podman as files;

/// Bytes of a PID file.
const PID: usize = 32;

/// The container that the process works for: the one that a conmon watches, as `watched` has it from its
/// arguments, or whose root a fuse-overlayfs serves, at `<graph root>/overlay/<layer>/merged`.
pub(super) fn of_one(
    watched: Option<BString>,
    root: &StateRoot,
    helper: &Helper,
) -> Option<BString> {
    if let Some(id) = watched {
        let known = files::container(&describe::places(root), id.as_ref()).ok()?;
        return known.map(|_| id);
    }
    let program = helper.args.first()?.rsplit_str("/").next()?;
    if program != b"fuse-overlayfs" {
        return None;
    }
    let layer = helper.args.last()?.strip_suffix(b"/merged")?;
    let (_, layer) = layer.rsplit_once_str("/overlay/")?;
    let mut all = describe::tabled(&root.root).ok()?.into_iter();
    let container = all.find(|(c, ..)| segment::is_hex64(layer) && c.layer.as_bytes() == layer);
    container.map(|(container, ..)| container.id.into())
}

/// Whether the process holds a user's namespaces for Podman: its PID is in a file in his runtime directory
/// (pkg/rootless/rootless.go).
pub(super) fn is_pause(host: &Host, helper: &Helper) -> bool {
    let uid = helper.uid;
    let dirs = [
        (BStr::new("/run/user"), format!("{uid}/libpod/tmp")),
        (BStr::new("/tmp"), format!("podman-run-{uid}/libpod/tmp")),
    ];
    dirs.iter().any(|(base, rel)| {
        let dir = host.owned_dir(base, BStr::new(rel), uid);
        let text = dir.and_then(|dir| dir.read(b"pause.pid", PID)).unwrap_or_default();
        parse::decimal32(text.trim_ascii()) == Some(helper.pid)
    })
}
