//! Containers of libvirt's LXC driver.
//!
//! `machine-lxc-[<domain id>-]<name>.scope`, escaped as systemd does (libvirt's scope name tests);
//! without systemd `<name>.libvirt-lxc`, in the oldest form `libvirt/lxc/<name>`.

use bstr::{BString, ByteSlice};

use super::claim::{Claim, Subject};
use super::place::{self, Place};
use super::{Runtime, segment};
use crate::model::{Engine, Owner, OwnerKind};

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
}

/// Domain id, or the name where there is none, and name.
fn domain(place: Place<'_>) -> Option<(BString, BString)> {
    let text = place.text();
    if let Some(scope) = segment::between(text, "machine-", ".scope") {
        let machine = segment::unescape(scope)?;
        // With a payload it is systemd-nspawn's, by a name like these.
        let rest = machine.strip_prefix(b"lxc-").filter(|_| place.child() != b"payload")?;
        let (id, name) = rest
            .split_once_str("-")
            .filter(|(id, name)| id.iter().all(u8::is_ascii_digit) && !name.is_empty())
            .filter(|(id, _)| !id.is_empty())
            .unwrap_or((rest, rest));
        segment::chosen(name)?;
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
