//! LXC, and LXD, Incus and Proxmox, which use it: the text does not tell which.
//!
//! `lxc.payload.NAME` since 4.0, `lxc.payload/NAME` in 3.1 and 3.2, `lxc/NAME` before and with
//! Proxmox (lxc src/lxc/cgroups/cgroup.h; pve-container src/PVE/LXC.pm). The monitor is in
//! `lxc.monitor...`, and in `lxc.pivot` when it ends.

use super::claim::{Claim, Subject};
use super::place::{self, Place, Plumbing};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Lxc;

const ENGINE: Engine = Engine("lxc");

impl Runtime for Lxc {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let name = payload(place).and_then(segment::chosen)?;
            let mut owner = Owner::new(OwnerKind::Machine, ENGINE, name);
            owner.name = Some(name.into());
            Some(owner)
        });
        let monitor = place::plumbing(subject.lines, |place| {
            if place.text() == b"lxc.pivot" {
                return Some(Plumbing(None));
            }
            let child = || (place.parent() == b"lxc.monitor").then_some(place.text());
            let name = place.text().strip_prefix(b"lxc.monitor.").or_else(child)?;
            segment::chosen(name).map(Plumbing::of)
        });
        place::claim(levels, monitor)
    }
}

fn payload(place: Place<'_>) -> Option<&[u8]> {
    let text = place.text();
    text.strip_prefix(b"lxc.payload.").or_else(|| {
        let below = match place.parent() {
            b"lxc.payload" => true,
            // With `lxc.cgroup.dir = lxc` the newer names are below it; libvirt has an own `lxc`.
            b"lxc" => !text.starts_with(b"lxc.") && place.grandparent() != b"libvirt",
            _ => false,
        };
        below.then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Lxc;
    use crate::runtime::{Claim, Mine, Runtime, Serves, Subject};

    fn mine(path: &str) -> Mine {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let comm = BStr::new("");
        let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
        match Lxc.claim(&subject) {
            Claim::Mine(mine) => mine,
            _ => Mine::default(),
        }
    }

    fn ids(path: &str) -> Vec<BString> {
        mine(path).levels.into_iter().map(|l| l.owner.id).collect()
    }

    #[test]
    fn a_moved_cgroup_directory_names_the_container_once() {
        assert_eq!(ids("/lxc/lxc.payload.web01/init.scope"), ["web01"]);
        assert_eq!(ids("/mygroup/lxc.payload.web01"), ["web01"]);
        assert_eq!(ids("/lxc.payload.a/lxc.payload.b"), ["a", "b"]);
        assert_eq!(ids("/lxc-web01-0.scope/lxc.payload.web01"), ["web01"]);
    }

    #[test]
    fn monitors_are_not_contained() {
        let monitor = |path: &str| {
            let mine = mine(path);
            assert!(mine.levels.is_empty() && mine.role.is_some(), "{path}");
            mine.serves
        };
        assert_eq!(monitor("/lxc/lxc.monitor.web01"), Some(Serves::Id("web01".into())));
        assert_eq!(monitor("/lxc.monitor/105"), Some(Serves::Id("105".into())));
        assert_eq!(monitor("/lxc.pivot"), None);
    }

    #[test]
    fn a_name_is_needed_and_libvirts_are_not_ours() {
        for path in ["/lxc.payload.", "/lxc.payload", "/lxc", "/libvirt/lxc/a", "/lxc.monitor."] {
            assert_eq!(mine(path), Mine::default(), "{path}");
        }
    }
}
