//! Sysbox: containers are the engine's and look like it; its own are the two daemons behind them,
//! sysbox-mgr and sysbox-fs, which emulates parts of /proc and /sys in the containers (sysbox
//! docs/user-guide/design.md), by FUSE mounts named after it (sysbox-fs fuse/server.go).

use bstr::ByteSlice;
use whose_kernel::parse::mountinfo::Mount;

use super::claim::{Claim, Subject};
use super::place::{self, Plumbing};
use super::{Runtime, segment};
use crate::model::Engine;

/// See the module.
#[derive(Debug)]
pub(super) struct Sysbox;

impl Runtime for Sysbox {
    fn engine(&self) -> Engine {
        Engine("sysbox")
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let daemon = matches!(subject.comm.as_bytes(), b"sysbox-mgr" | b"sysbox-fs")
            && subject.is_hosts_own()
            && !segment::names_an_id(subject.lines);
        place::claim(Vec::new(), daemon.then_some(Plumbing(None)))
    }

    fn seen_in(&self, mounts: &[Mount]) -> Option<&'static str> {
        let emulated = |m: &Mount| {
            let place = m.point.starts_with(b"/proc/") || m.point.starts_with(b"/sys/");
            m.fs_type == "fuse" && m.source == "sysboxfs" && place
        };
        mounts.iter().any(emulated).then_some("sysbox-fs emulates parts of /proc and /sys")
    }
}
