//! Sysbox: containers are the engine's and look like it; its own are the two daemons behind them,
//! sysbox-mgr and sysbox-fs, which emulates parts of /proc and /sys in the containers (sysbox
//! docs/user-guide/design.md).

use bstr::ByteSlice;

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
}
