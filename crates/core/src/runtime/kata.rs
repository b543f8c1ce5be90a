//! Kata sandboxes: the virtual machine monitor and its helpers. The guest's processes are never
//! seen.
//!
//! `kata_<sandbox id>`, and `kata_overhead/<sandbox id>` for what is not a vCPU (kata
//! docs/design/host-cgroups.md); `kata-overhead.slice/runtime-rs-<id>.scope` with the Rust runtime
//! and systemd (src/runtime-rs/crates/resource/src/cgroups/utils.rs). Where systemd makes the
//! sandbox's cgroup it bears the engine's name alone.

use bstr::{BStr, BString};
use whose_kernel::Host;

use super::claim::{Claim, Subject};
use super::{Runtime, Sandbox, place, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Kata;

const ENGINE: Engine = Engine("kata");
/// Directories with one entry a sandbox, while it runs: of the Go runtime and of the Rust one (kata
/// src/runtime/virtcontainers/persist/fs, docs/design/kata-2-0-metrics.md).
const SANDBOXES: [&str; 3] = ["run/vc/sbs", "run/vc/vm", "run/kata"];
/// What is shared with the guest: one directory a sandbox, and in it one a container.
const SHARED: &str = "run/kata-containers/shared/sandboxes";
/// Sandboxes that it may have.
const MOST: usize = 100_000;

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

    fn hides(&self) -> Option<&'static str> {
        Some("they are in a virtual machine of Kata Containers")
    }

    fn sandbox_names(&self) -> &'static [&'static str] {
        // As the kernel cuts them: qemu-system-x86_64, cloud-hypervisor.
        &["qemu-system-x86", "cloud-hyperviso", "firecracker", "virtiofsd", "stratovirt"]
    }

    fn sandbox(&self, host: &Host, id: &BStr, _shim: Option<&[BString]>) -> Option<Sandbox> {
        let found = |path: BString| Sandbox { path: host.shown(&path), ..Sandbox::default() };
        if !segment::is_hex64(id) {
            return None;
        }
        let is_there = |path: &BString| host.root().has_dir(path);
        let own = SANDBOXES.iter().map(|dir| BString::from(format!("{dir}/{id}")));
        let shared = || {
            let entries = host.root().list(SHARED.as_bytes(), MOST).unwrap_or_default();
            entries.into_iter().flat_map(|e| {
                let place = |part: &str| format!("{SHARED}/{}/{part}/{id}", e.name).into();
                ["mounts", "shared"].map(place)
            })
        };
        own.filter(is_there).chain(shared().filter(is_there)).next().map(found)
    }

    fn engines(&self) -> &'static [&'static str] {
        &["containerd", "cri-o", "docker"]
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
