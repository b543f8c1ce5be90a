//! Kata sandboxes: the virtual machine monitor and its helpers. The guest's processes are never
//! seen.
//!
//! `kata_<sandbox id>`, and `kata_overhead/<sandbox id>` for what is not a vCPU (kata
//! docs/design/host-cgroups.md); `kata-overhead.slice/runtime-rs-<id>.scope` with the Rust runtime
//! and systemd (src/runtime-rs/crates/resource/src/cgroups/utils.rs). Where systemd makes the
//! sandbox's cgroup it bears the engine's name alone.

use super::claim::{Claim, Subject};
use super::{Runtime, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Kata;

const ENGINE: Engine = Engine("kata");

impl Runtime for Kata {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = match place.parent() {
                b"kata_overhead" => place.text(),
                b"kata-overhead.slice" => segment::between(place.text(), "runtime-rs-", ".scope")?,
                _ => place.text().strip_prefix(b"kata_")?,
            };
            segment::is_hex64(id).then(|| Owner::new(OwnerKind::Sandbox, ENGINE, id))
        });
        levels.into()
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Kata;
    use crate::runtime::{Claim, Runtime, Subject};

    #[test]
    fn the_overhead_is_the_sandboxs_too() {
        let id = "0123456789abcdef".repeat(4);
        let found = |path: &str| {
            let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
            let comm = BStr::new("");
            let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
            match Kata.claim(&subject) {
                Claim::Mine(mine) => mine.levels[0].owner.id == id,
                _ => false,
            }
        };
        assert!(found(&format!("/kata_overhead/{id}")));
        assert!(found(&format!("/kata-overhead.slice/runtime-rs-{id}.scope")));
        assert!(!found(&format!("/system.slice/runtime-rs-{id}.scope")));
        assert!(!found("/kata_overhead"));
    }
}
