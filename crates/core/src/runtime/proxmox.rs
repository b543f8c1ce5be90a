//! Containers of Proxmox VE. LXC runs them by a configuration that Proxmox writes anew at each start,
//! `/var/lib/lxc/<vmid>/config`; Proxmox's own is `/etc/pve/lxc/<vmid>.conf` (pve-container
//! src/PVE/LXC/Config.pm, LXC.pm).
//!
//! The cgroup is `lxc/<vmid>`, with the container's own below `ns`. `/etc/pve` is a FUSE file system on a
//! host of Proxmox, and not asked then: the generated file has the host name and the root.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Level, Proof, Subject};
use super::docker::{of_admin, open_all};
use super::lxc::monitor;
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot};
use crate::model::{Description, Engine, Owner, OwnerKind};
use crate::state::lxc::{self as files, Config};

/// See the module.
#[derive(Debug)]
pub(super) struct Proxmox;

const ENGINE: Engine = Engine("proxmox");

/// Proxmox's own directory, and its containers in it.
const PVE: &str = "etc/pve";
const OWN: &str = "etc/pve/lxc";
/// Containers that a host may have.
const MOST: usize = 100_000;

impl Runtime for Proxmox {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let id = vmid(place)?;
            Some(Owner::new(OwnerKind::Machine, ENGINE, id))
        });
        // Older LXC has the same names.
        let guess = |level: Level| Level { proof: Proof::Guess, ..level };
        levels.into_iter().map(guess).collect::<Vec<Level>>().into()
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        if !matches!(hints, Hints::Default) || !host.root().has_dir(PVE.as_bytes()) {
            return FoundRoots::default();
        }
        let mut found = of_admin(open_all(host, [monitor::PLACE.into()]));
        // A FUSE file system may not answer.
        let own = host.guard(format!("/{OWN}").as_bytes()).is_ok();
        for root in found.roots.iter_mut().filter(|_| own) {
            root.run = open_all(host, [OWN.into()]).roots.pop().map(|own| own.root);
        }
        found
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let fits = |id: &BString| match query {
            Query::Id(asked) => id == asked,
            Query::Name(asked) => {
                describe(root, id.as_ref()).is_ok_and(|d| d.name.is_some_and(|n| n == asked))
            }
            Query::IdPrefix(_) | Query::Address(_) | Query::Volume(_) => false,
        };
        let ids = match query {
            Query::Id(id) if is_vmid(id) => match describe(root, id) {
                Ok(_) => vec![id.into()],
                Err(e) if e.class == Class::Gone => Vec::new(),
                Err(e) => return Err(e),
            },
            Query::Name(_) => list(root)?.into_iter().filter(fits).collect(),
            _ => Vec::new(),
        };
        Ok(Matches { ids, gaps: Vec::new() })
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        list(root)
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

fn is_vmid(text: &[u8]) -> bool {
    (3..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

fn vmid(place: Place<'_>) -> Option<&[u8]> {
    (place.parent() == b"lxc").then_some(place.text()).filter(|text| is_vmid(text))
}

/// Whether Proxmox wrote this configuration of LXC's.
pub(super) fn is_proxmoxs(config: &Config, name: &BStr) -> bool {
    let own = config.get("lxc.cgroup.dir.container").and_then(|dir| dir.strip_prefix(b"lxc/"));
    is_vmid(name) && own == Some(name) && config.get("lxc.cgroup.dir.container.inner").is_some()
}

fn own_file(id: &BStr) -> Vec<u8> {
    [id.as_bytes(), b".conf"].concat()
}

fn list(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let mut ids: Vec<BString> = Vec::new();
    for entry in root.root.list(b"", MOST)?.into_iter().filter(|e| e.is_dir && is_vmid(&e.name)) {
        if generated(root, entry.name.as_ref()).is_ok() {
            ids.push(entry.name);
        }
    }
    for entry in root.run.iter().filter_map(|own| own.list(b"", MOST).ok()).flatten() {
        let id = entry.name.strip_suffix(b".conf").filter(|id| is_vmid(id));
        ids.extend(id.map(BString::from));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// The configuration that Proxmox made for LXC.
fn generated(root: &StateRoot, id: &BStr) -> Result<Config, ReadError> {
    let file = [id.as_bytes(), b"/config"].concat();
    let config = files::parse(&root.root.read(&file, files::CAP)?);
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of Proxmox's");
    if is_proxmoxs(&config, id) { Ok(config) } else { Err(gone()) }
}

/// A value of Proxmox's own file, `key: value`; what follows the first line in brackets is a snapshot's.
fn own_value(text: &[u8], key: &str) -> Option<BString> {
    let current = text.lines().take_while(|line| !line.starts_with(b"["));
    let mut values = current.filter_map(|line| {
        line.strip_prefix(key.as_bytes())?.strip_prefix(b":").map(<[u8]>::trim_ascii)
    });
    values.next().filter(|value| !value.is_empty()).map(BString::from)
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of Proxmox's");
    if !is_vmid(id) {
        return Err(gone());
    }
    let made = generated(root, id);
    let own = root.run.as_ref().map(|own| (own.read(&own_file(id), files::CAP), own));
    let (own, path) = match own {
        Some((Ok(text), own)) => (Some(text), own.join(&own_file(id))),
        Some((Err(e), _)) if e.class != Class::Gone && made.is_err() => return Err(e),
        _ => (None, root.root.join(&[id.as_bytes(), b"/config"].concat())),
    };
    if let (Err(e), None) = (&made, &own) {
        return Err(e.clone());
    }
    let made = made.ok();
    let hostname = own.as_ref().and_then(|text| own_value(text, "hostname"));
    let uts = || made.as_ref().and_then(|c| c.get("lxc.uts.name")).map(BString::from);
    Ok(Description {
        name: hostname.or_else(uts),
        rootfs: made.as_ref().and_then(|c| c.root_dir()).map(BString::from),
        cgroups: vec![[b"/lxc/", id.as_bytes()].concat().into()],
        path,
        ..Description::default()
    })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;

    use super::{is_proxmoxs, own_value};
    use crate::state::lxc::parse;

    #[test]
    fn whose_configuration_it_is() {
        let text = b"lxc.cgroup.dir.container = lxc/105\nlxc.cgroup.dir.container.inner = ns\n";
        assert!(is_proxmoxs(&parse(text), BStr::new("105")));
        assert!(!is_proxmoxs(&parse(text), BStr::new("106")));
        assert!(!is_proxmoxs(&parse(b"lxc.cgroup.dir.container = lxc/105\n"), BStr::new("105")));
    }

    #[test]
    fn values_are_of_the_container_and_not_of_its_snapshots() {
        let text = b"arch: amd64\nhostname: web\n\n[before]\nostype: debian\nhostname: old\n";
        assert_eq!(own_value(text, "hostname").unwrap(), "web");
        assert_eq!(own_value(text, "ostype"), None);
        assert_eq!(own_value(text, "host"), None);
    }
}
