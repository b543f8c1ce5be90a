//! Firecracker: the virtual machine monitor. The guest's processes are never seen.
//!
//! The jailer puts it into `firecracker/<id>`, below the name of the program it starts
//! (firecracker docs/jailer.md, `--parent-cgroup`); its jail is `/srv/jailer/firecracker/<id>`.
//! Without a jailer, and with firecracker-containerd, it is in the cgroup of whoever started it, and
//! only its name tells.

use bstr::{BStr, BString};
use whose_kernel::Host;

use super::claim::{Claim, Mine, Subject};
use super::{Runtime, Sandbox, place, segment};
use crate::model::{Engine, Owner, OwnerKind, Role};

/// See the module.
#[derive(Debug)]
pub(super) struct Firecracker;

const ENGINE: Engine = Engine("firecracker");
/// The directory of jails unless it is told another.
const JAILS: &str = "srv/jailer/firecracker";

impl Runtime for Firecracker {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let is_vm = place.parent() == b"firecracker" && is_vm_id(place.text());
            is_vm.then(|| Owner::new(OwnerKind::Sandbox, ENGINE, place.text()))
        });
        let monitor = levels.is_empty()
            && subject.comm == "firecracker"
            && subject.is_hosts_own()
            && !segment::names_an_id(subject.lines);
        match monitor {
            true => Claim::Mine(Mine { role: Some(Role::Sandbox), ..Mine::default() }),
            false => levels.into(),
        }
    }

    fn hides(&self) -> Option<&'static str> {
        Some("they are in a virtual machine of Firecracker")
    }

    fn sandbox_names(&self) -> &'static [&'static str] {
        &["firecracker"]
    }

    fn sandbox(&self, host: &Host, id: &BStr, _shim: Option<&[BString]>) -> Option<Sandbox> {
        let jail = format!("{JAILS}/{id}");
        let is_jail = is_vm_id(id) && host.root().has_dir(jail.as_bytes());
        is_jail.then(|| Sandbox { path: host.shown(jail.as_bytes()), ..Sandbox::default() })
    }
}

/// An id that the jailer takes: letters, digits and hyphens, 64 at most.
fn is_vm_id(text: &[u8]) -> bool {
    (1..=64).contains(&text.len()) && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::Firecracker;
    use crate::model::Role;
    use crate::runtime::{Claim, Runtime, Subject};

    fn claim(path: &str, comm: &str, uid: u32) -> Claim {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let (comm, nspid) = (BStr::new(comm), Some(&[7][..]));
        Firecracker.claim(&Subject { lines: &lines, comm, args: None, uid: Some(uid), nspid })
    }

    #[test]
    fn a_jail_is_a_sandbox_and_a_unit_is_none() {
        let id = "551e7604-e35c-42b3-b825-416853441234";
        let Claim::Mine(mine) = claim(&format!("/firecracker/{id}"), "", 123) else {
            panic!("not claimed");
        };
        assert_eq!(mine.levels[0].owner.id, id);
        for other in [
            "/firecracker".to_owned(),
            "/firecracker/init.scope".to_owned(),
            format!("/firecracker/{}", "a".repeat(65)),
            format!("/firecrackers/{id}"),
            "/system.slice/firecracker.service".to_owned(),
        ] {
            assert_eq!(claim(&other, "", 0), Claim::NotMine, "{other}");
        }
    }

    #[test]
    fn the_name_counts_for_roots_own_processes() {
        let unit = "/system.slice/firecracker-containerd.service";
        let Claim::Mine(mine) = claim(unit, "firecracker", 0) else { panic!("not claimed") };
        assert_eq!((mine.role, mine.levels.len()), (Some(Role::Sandbox), 0));
        assert_eq!(claim(unit, "firecracker", 1000), Claim::NotMine);
        let id = "0123456789abcdef".repeat(4);
        let inside = format!("/system.slice/docker-{id}.scope");
        assert_eq!(claim(&inside, "firecracker", 0), Claim::NotMine);
    }
}
