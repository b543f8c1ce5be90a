//! systemd-nspawn machines.
//!
//! `machine-NAME.scope` (systemd src/machine/machine.c), `systemd-nspawn@NAME.service`, or with
//! `--register=no` `machine.slice/NAME.scope` (src/nspawn/nspawn-register.c); the machine is in
//! `payload` below it, nspawn itself in `supervisor` (src/nspawn/nspawn-cgroup.c). On cgroup v1
//! only the systemd hierarchy has these two, and releases before them had neither.

use bstr::BString;

use super::claim::{Claim, Subject};
use super::place::{self, Place, Plumbing};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Nspawn;

const ENGINE: Engine = Engine("systemd-nspawn");

/// How names begin that other managers give to machined: libvirt's drivers, and rkt.
const OTHERS: [&[u8]; 6] = [b"qemu-", b"lxc-", b"xen-", b"ch-", b"bhyve-", b"rkt-"];

impl Runtime for Nspawn {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let supervisor = place::plumbing(subject.lines, |place| {
            let name = (place.text() == b"supervisor").then(|| unit(place.parent())).flatten()?;
            Some(Plumbing::of(&name))
        });
        let levels = place::levels(subject.lines, |place| {
            let name = if place.text() == b"payload" {
                unit(place.parent()).or_else(|| unregistered(place.parent(), place.grandparent()))
            } else {
                // The other v1 hierarchies do not tell the supervisor from the payload.
                unit(place.text()).filter(|n| supervisor.is_none() && is_machine(place, n))
            }?;
            let mut owner = Owner::new(OwnerKind::Machine, ENGINE, name.clone());
            owner.name = Some(name);
            Some(owner)
        });
        place::claim(levels, supervisor)
    }
}

/// The machine that a unit's name says it is of.
fn unit(text: &[u8]) -> Option<BString> {
    let name = segment::between(text, "machine-", ".scope")
        .or_else(|| segment::between(text, "systemd-nspawn@", ".service"))
        .and_then(segment::unescape)?;
    let pod = name.strip_prefix(b"rkt-").is_some_and(|id| segment::is_uuid(id, b'-'));
    (!pod).then_some(name)
}

fn unregistered(text: &[u8], parent: &[u8]) -> Option<BString> {
    let scope = text.strip_suffix(b".scope").filter(|s| !s.starts_with(b"machine-"))?;
    (parent == b"machine.slice").then(|| segment::unescape(scope)).flatten()
}

/// Whether a unit without `payload` is a container's: machined has virtual machines as well, and
/// a service may hold just nspawn.
fn is_machine(place: Place<'_>, name: &[u8]) -> bool {
    let child = place.child();
    if OTHERS.iter().any(|o| name.starts_with(o)) || child == b"payload" || child == b"supervisor" {
        return false;
    }
    let systemd_inside = matches!(child, b"init.scope" | b"system.slice" | b"user.slice");
    let scope = place.text().ends_with(b".scope");
    systemd_inside || (scope && !place.line.is_v2())
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Nspawn;
    use crate::runtime::{Claim, Mine, Runtime, Serves, Subject};

    fn mine(cgroup: &str) -> Mine {
        let lines = parse(cgroup.as_bytes()).unwrap();
        let comm = BStr::new("");
        let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
        match Nspawn.claim(&subject) {
            Claim::Mine(mine) => mine,
            _ => Mine::default(),
        }
    }

    fn names(cgroup: &str) -> Vec<BString> {
        mine(cgroup).levels.into_iter().map(|l| l.owner.id).collect()
    }

    #[test]
    fn payloads_are_machines() {
        assert_eq!(names("0::/machine.slice/build-env.scope/payload"), ["build-env"]);
        assert_eq!(names("0::/machine.slice/machine-a\\x2db.scope/payload"), ["a-b"]);
        assert_eq!(names("0::/machine.slice/machine-qemu\\x2da.scope/payload/x"), ["qemu-a"]);
        assert_eq!(names("3:memory:/machine.slice/machine-a.scope\n"), ["a"]);
        assert_eq!(names("0::/machine.slice/systemd-nspawn@a.service/system.slice"), ["a"]);
    }

    #[test]
    fn the_machines_cgroup_is_the_payload_and_not_the_supervisors_too() {
        let depths = |cgroup: &str| mine(cgroup).levels.iter().map(|l| l.depth).collect::<Vec<_>>();
        assert_eq!(depths("0::/machine.slice/machine-a.scope/payload/init.scope"), [3]);
        assert_eq!(depths("1:name=systemd:/machine.slice/machine-a.scope/payload"), [3]);
        assert_eq!(depths("1:name=systemd:/machine.slice/machine-a.scope/init.scope"), [2]);
    }

    #[test]
    fn the_supervisor_is_not_contained_in_any_hierarchy() {
        let v1 = "3:memory:/machine.slice/machine-a.scope\n\
                  1:name=systemd:/machine.slice/machine-a.scope/supervisor\n";
        let mine = mine(v1);
        assert_eq!(mine.levels, []);
        assert_eq!(mine.serves, Some(Serves::Id("a".into())));
    }

    #[test]
    fn virtual_machines_and_bare_services_are_none() {
        for none in [
            "0::/machine.slice/machine-vm.scope\n",
            "3:memory:/machine.slice/machine-qemu\\x2d3\\x2ddemo.scope\n",
            "3:memory:/machine.slice/systemd-nspawn@a.service\n",
            "0::/machine.slice/machine-.scope/payload\n",
            "0::/system.slice/build-env.scope/payload\n",
            "0::/machine.slice/machine-rkt\\x2d97910fdc\\x2d13ec\\x2d4025\\x2d8f93\\x2d5ddea0089eff.scope/payload\n",
        ] {
            assert_eq!(mine(none), Mine::default(), "{none}");
        }
    }
}
