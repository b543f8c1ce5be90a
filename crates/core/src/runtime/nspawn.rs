//! systemd-nspawn machines.
//!
//! `machine-NAME.scope` (systemd src/machine/machine.c), `systemd-nspawn@NAME.service`, or with
//! `--register=no` `machine.slice/NAME.scope` (src/nspawn/nspawn-register.c); the machine is in
//! `payload` below it, nspawn itself in `supervisor` (src/nspawn/nspawn-cgroup.c). On cgroup v1
//! only the systemd hierarchy has these two, and releases before them had neither.
//!
//! What is registered is in `/run/systemd/machines`; an image or a creation nobody keeps. What may be started by its
//! name alone is in `/var/lib/machines`: such a machine is found by its name and by its files, and not listed.
//!
//! With `--keep-unit` outside any unit, as where systemd is not PID 1, both lie at the top of the tree:
//! all such machines share `/payload`, and only what started them has a name for them.

mod images;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place, Plumbing};
use super::{FoundRoots, Hints, Jail, Matches, Query, Runtime, StateRoot, machined, segment};
use crate::model::{Description, Engine, Gap, Owner, OwnerKind, Rootfs};

/// See the module.
#[derive(Debug)]
pub(super) struct Nspawn;

/// Its name among engines.
pub const ENGINE: Engine = Engine("systemd-nspawn");

/// What the kernel calls the supervisor.
pub const SUPERVISOR: &str = "systemd-nspawn";
/// The cgroup of machines; beside it is the supervisor's.
pub const PAYLOAD: &str = "payload";
/// Where machines' roots are found by name (systemd-nspawn(1), `--machine=`).
const IMAGES: &str = "var/lib/machines";
/// Short options that have a value (systemd src/nspawn/nspawn.c).
const VALUED: &[u8] = b"DuLMSZipE";

/// How names begin that other managers give to machined: libvirt's drivers, and rkt.
const OTHERS: [&[u8]; 6] = [b"qemu-", b"lxc-", b"xen-", b"ch-", b"bhyve-", b"rkt-"];

impl Runtime for Nspawn {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let supervisor = place::plumbing(subject.lines, |place| {
            if place.text() != b"supervisor" {
                return None;
            }
            let alone = place.parent().is_empty() && subject.comm == SUPERVISOR;
            if alone && subject.is_hosts_own() {
                return Some(Plumbing::of(PAYLOAD.as_bytes()));
            }
            unit(place.parent()).map(|name| Plumbing::of(&name))
        });
        let levels = place::levels(subject.lines, |place| {
            if place.text() == PAYLOAD.as_bytes() && place.parent().is_empty() {
                return Some(Owner::new(OwnerKind::Machine, ENGINE, PAYLOAD));
            }
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

    fn watched(&self, args: &[BString]) -> Option<BString> {
        let program = args.first()?.rsplit_str("/").next()?;
        (program == SUPERVISOR.as_bytes()).then(|| name_in(&args[1..])).flatten()
    }

    fn jailers(&self) -> &'static [&'static str] {
        &[SUPERVISOR]
    }

    fn jail(&self, _host: &Host, _pid: u32, args: &[BString]) -> Jail {
        let name = self.watched(args);
        Jail { id: name.clone(), name }
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        images::with_images(host, machined::roots(host, hints), hints)
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let (Query::Id(name) | Query::Name(name)) = query else { return Ok(Matches::default()) };
        let ids = match images::registered(root, name) {
            Ok(machine) => vec![machine.name],
            Err(e) if e.class == Class::Gone => {
                images::of(root, name)?.map(|_| name.into()).into_iter().collect()
            }
            Err(e) => return Err(e),
        };
        Ok(Matches { ids, gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        images::list(root)
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(match images::registered(root, id) {
            Ok(machine) => Ok(machined::describe(root, &machine)),
            // Who may not see what machines are started from knows all the same that it is not registered.
            Err(gone) if gone.class == Class::Gone => {
                images::of(root, id).ok().flatten().map(images::Image::describe).ok_or(gone)
            }
            Err(e) => Err(e),
        })
    }

    fn rootfs(&self, host: &Host, root: &StateRoot, id: &BStr) -> Option<Result<Rootfs, Gap>> {
        Some(images::rootfs(host, root, id))
    }

    fn has_root_files(&self) -> bool {
        true
    }

    fn rooted_near(&self, root: &StateRoot, path: &BStr) -> Result<Vec<BString>, ReadError> {
        Ok(images::near(root, path))
    }

    fn has_state(&self) -> bool {
        true
    }

    fn images(&self) -> Option<&'static str> {
        Some(IMAGES)
    }
}

/// Whether the owner is the machine, or are the machines, in the cgroup that those without a unit share.
#[must_use]
pub fn is_shared(owner: &Owner) -> bool {
    owner.runtime == ENGINE && owner.kind == OwnerKind::Machine && owner.id == PAYLOAD
}

/// The name that the supervisor's options give to its machine; none once a word may be the machine's
/// own.
fn name_in(args: &[BString]) -> Option<BString> {
    let mut name = None;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix(b"-") else { break };
        if let Some(long) = option.strip_prefix(b"-") {
            match long.strip_prefix(b"machine") {
                Some(b"") => name = words.next().cloned(),
                Some(value) if value.starts_with(b"=") => name = Some(value[1..].into()),
                _ if long.is_empty() => break,
                _ => {}
            }
        } else if let Some(at) = option.find_byteset(VALUED) {
            // The rest of the word is its value, or the next word.
            let rest = Some(&option[at + 1..]).filter(|rest| !rest.is_empty());
            let value = rest.map(BString::from).or_else(|| words.next().cloned());
            if option[at] == b'M' {
                name = value;
            }
        }
    }
    name.filter(|name| segment::chosen(name).is_some())
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

    use super::{Nspawn, is_shared};
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
    fn machines_without_a_unit_share_a_cgroup() {
        let machine = mine("9:name=systemd:/payload/init.scope\n8:pids:/\n0::/payload\n");
        let at: Vec<(usize, usize)> = machine.levels.iter().map(|l| (l.line, l.depth)).collect();
        assert_eq!(at, [(0, 1), (2, 1)]);
        let owner = &machine.levels[0].owner;
        assert!(is_shared(owner) && owner.name.is_none());
        assert_eq!(names("0::/system.slice/x.service/payload"), [""; 0]);
        assert_eq!(names("0::/payload.x"), [""; 0]);
        assert!(!is_shared(&mine("0::/machine.slice/a.scope/payload").levels[0].owner));
    }

    #[test]
    fn a_supervisor_without_a_unit_is_told_by_its_name_and_place() {
        let role = |cgroup: &str, comm: &str, nspid: &[u32]| {
            let lines = parse(cgroup.as_bytes()).unwrap();
            let (comm, nspid) = (BStr::new(comm), Some(nspid));
            let subject = Subject { lines: &lines, comm, args: None, uid: Some(0), nspid };
            match Nspawn.claim(&subject) {
                Claim::Mine(mine) => mine.serves,
                _ => None,
            }
        };
        let serves = Some(Serves::Id("payload".into()));
        assert_eq!(role("0::/supervisor\n", "systemd-nspawn", &[7]), serves);
        assert_eq!(role("0::/supervisor\n", "systemd-nspawn", &[7, 1]), None);
        assert_eq!(role("0::/supervisor\n", "x", &[7]), None);
        assert_eq!(role("0::/x/supervisor\n", "systemd-nspawn", &[7]), None);
    }

    #[test]
    fn a_machine_has_the_name_that_its_supervisors_options_say() {
        let name = |words: &str| {
            let args: Vec<BString> = words.split(' ').map(BString::from).collect();
            Nspawn.watched(&args)
        };
        for named in [
            "systemd-nspawn -M lab -D /m /bin/x",
            "/usr/bin/systemd-nspawn --register=no -qMlab -D /m -- -M x",
            "systemd-nspawn -M x -bM lab",
            "systemd-nspawn -D /m --machine=lab",
            "systemd-nspawn -D/m --quiet --machine lab x -M y",
        ] {
            assert_eq!(name(named).unwrap(), "lab", "{named}");
        }
        for none in [
            "systemd-nspawn -D /m /bin/x -M lab",
            "systemd-nspawn -D /m -- -M lab",
            "systemd-nspawn -D -M",
            "systemd-nspawn -M",
            "systemd-nspawn -M a/b",
            "systemd-nspawn --machinex=lab",
            "x -M lab",
        ] {
            assert_eq!(name(none), None, "{none}");
        }
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
