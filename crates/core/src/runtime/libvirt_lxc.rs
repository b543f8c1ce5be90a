//! Containers of libvirt's LXC driver.
//!
//! `machine-lxc-[<domain id>-]<name>.scope`, escaped as systemd does (libvirt's scope name tests);
//! without systemd `<name>.libvirt-lxc`, in the oldest form `libvirt/lxc/<name>`. libvirt registers each with
//! systemd-machined, by the name that the scope has.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, machined, segment};
use crate::model::{Description, Engine, Owner, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct LibvirtLxc;

const ENGINE: Engine = Engine("libvirt-lxc");

impl Runtime for LibvirtLxc {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (id, name) = domain(place)?;
            let mut owner = Owner::new(OwnerKind::Machine, ENGINE, id);
            owner.name = Some(name);
            Some(owner)
        });
        levels.into()
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        machined::roots(host, hints)
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let fits = |(id, name): &(BString, BString)| match query {
            Query::Id(asked) => id == asked,
            Query::Name(asked) => name == asked,
            Query::IdPrefix(_) | Query::Address(_) | Query::Volume(_) => false,
        };
        let ids = registered(root)?.into_iter().map(|(id, name, _)| (id, name)).filter(fits);
        Ok(Matches { ids: ids.map(|(id, _)| id).collect(), gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        Ok(registered(root)?.into_iter().map(|(id, ..)| id).collect())
    }

    fn describe(
        &self,
        root: &StateRoot,
        id: &BStr,
        _needs: Needs,
    ) -> Option<Result<Description, ReadError>> {
        Some(describe(root, id))
    }

    fn has_state(&self) -> bool {
        true
    }
}

/// Domain id, name, and what machined calls it, of each that is registered.
fn registered(root: &StateRoot) -> Result<Vec<(BString, BString, BString)>, ReadError> {
    let machines = machined::list(root, ENGINE.0)?.into_iter();
    let domain = |machine: BString| {
        let (id, name) = domain_of(&machine)?;
        Some((id.into(), name.into(), machine))
    };
    Ok(machines.filter_map(domain).collect())
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no domain of libvirt's");
    let mut all = registered(root)?.into_iter();
    let (_, name, machine) = all.find(|(own, ..)| own == id).ok_or_else(gone)?;
    let machine = machined::machine(root, machine.as_ref(), ENGINE.0)?;
    Ok(Description { name: Some(name), ..machined::describe(root, &machine) })
}

/// Domain id and name in what libvirt calls a machine; the name twice where there is no id.
fn domain_of(machine: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = machine.strip_prefix(b"lxc-")?;
    let (id, name) = rest
        .split_once_str("-")
        .filter(|(id, name)| id.iter().all(u8::is_ascii_digit) && !name.is_empty())
        .filter(|(id, _)| !id.is_empty())
        .unwrap_or((rest, rest));
    segment::chosen(name).map(|name| (id, name))
}

/// Domain id, or the name where there is none, and name.
fn domain(place: Place<'_>) -> Option<(BString, BString)> {
    let text = place.text();
    if let Some(scope) = segment::between(text, "machine-", ".scope") {
        let machine = segment::unescape(scope)?;
        // With a payload it is systemd-nspawn's, by a name like these.
        let (id, name) = domain_of(&machine).filter(|_| place.child() != b"payload")?;
        return Some((id.into(), name.into()));
    }
    let oldest = place.parent() == b"lxc" && place.grandparent() == b"libvirt";
    let name = text.strip_suffix(b".libvirt-lxc").or(oldest.then_some(text))?;
    let name = BString::from(segment::chosen(name)?);
    Some((name.clone(), name))
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::parse::cgroup::parse;

    use super::LibvirtLxc;
    use crate::runtime::{Claim, Runtime, Subject};

    fn domain(path: &str) -> Option<(String, String)> {
        let lines = parse(format!("0::{path}\n").as_bytes()).unwrap();
        let comm = BStr::new("");
        let subject = Subject { lines: &lines, comm, args: None, uid: None, nspid: None };
        let Claim::Mine(mine) = LibvirtLxc.claim(&subject) else {
            return None;
        };
        let owner = &mine.levels[0].owner;
        Some((owner.id.to_string(), owner.name.as_ref()?.to_string()))
    }

    #[test]
    fn domains_with_an_id_and_without() {
        let both = |id: &str, name: &str| Some((id.to_owned(), name.to_owned()));
        assert_eq!(domain("/machine.slice/machine-lxc\\x2d7\\x2dweb.scope"), both("7", "web"));
        assert_eq!(domain("/machine.slice/machine-lxc\\x2dweb.scope"), both("web", "web"));
        assert_eq!(domain("/machine.slice/machine-lxc\\x2d7.scope"), both("7", "7"));
        assert_eq!(domain("/libvirt/lxc/web/x"), both("web", "web"));
        assert_eq!(domain("/machine/p.partition/web.libvirt-lxc"), both("web", "web"));
        for none in [
            "/machine.slice/machine-lxc\\x2d.scope",
            "/machine.slice/machine-lxc\\x2dweb.scope/payload",
            "/machine.slice/machine-lxcweb.scope",
            "/machine/.libvirt-lxc",
        ] {
            assert_eq!(domain(none), None, "{none}");
        }
    }
}
