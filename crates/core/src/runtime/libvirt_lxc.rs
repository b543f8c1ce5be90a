//! Containers of libvirt's LXC driver.
//!
//! `machine-lxc-[<domain id>-]<name>.scope`, escaped as systemd does (libvirt's scope name tests);
//! without systemd `<machine>.libvirt-lxc`, in older releases `<name>.libvirt-lxc` (src/util/vircgroup.c), in the oldest
//! `libvirt/lxc/<name>`. libvirt registers each with systemd-machined, by the name that the scope has; characters that
//! no host name has are left out of that name (src/hypervisor/domain_driver.c).
//!
//! libvirt's own word is in `/run/libvirt/lxc` for what runs, and in `/etc/libvirt/lxc` for what is defined
//! (src/lxc/lxc_conf.h). Whatever runs has a number there, which old cgroups do not have.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::place::{self, Place};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, machined, segment};
use crate::model::gap::what;
use crate::model::{ContainerState, Description, Engine, Gap, Owner, OwnerKind};
use crate::state::libvirt::{self as files, Domain};
use crate::state::unrecorded;

/// See the module.
#[derive(Debug)]
pub(super) struct LibvirtLxc;

const ENGINE: Engine = Engine("libvirt-lxc");
/// What runs.
const LIVE: &str = "run/libvirt/lxc";
/// What is defined, whether it runs or not.
const DEFINED: &str = "etc/libvirt/lxc";
/// Entries that each of them may have.
const MOST: usize = 100_000;

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
        let mut found = machined::roots(host, hints);
        if !matches!(hints, Hints::Default) {
            return found;
        }
        let open = |place: &str| of_admin(open_all(host, [place.into()]));
        let live = open(LIVE);
        found.gaps.extend(live.gaps);
        match found.roots.first_mut() {
            Some(registered) => registered.beside.extend(live.roots.into_iter().map(|r| r.root)),
            None => found.roots = live.roots,
        }
        let mut defined = open(DEFINED);
        for root in &mut defined.roots {
            root.beside.extend(open(LIVE).roots.into_iter().map(|live| live.root));
        }
        found.roots.extend(defined.roots);
        found.gaps.extend(defined.gaps);
        found
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let mut matches = Matches::default();
        for known in known(root)? {
            let is_it = match query {
                Query::Id(asked) => known.id == asked,
                Query::Name(asked) => known.name == asked,
                Query::IdPrefix(_) | Query::Address(_) | Query::Volume(_) => continue,
            };
            // Its number may be the one that is asked for.
            if let (Some(Err(e)), Query::Id(_), false) = (&known.live, query, is_it) {
                matches.gaps.push(Gap::from_read(what::CONTAINERS, e));
            }
            matches.ids.extend(is_it.then_some(known.id));
        }
        Ok(matches)
    }

    fn list(&self, root: &StateRoot) -> Result<Vec<BString>, ReadError> {
        // What runs and is not registered its processes lead to: old cgroups have another id for it.
        let is_listed = |known: &Known| known.machine.is_some() || known.live.is_none();
        Ok(known(root)?.into_iter().filter(is_listed).map(|known| known.id).collect())
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

/// A domain that is registered, runs, or is defined.
struct Known {
    id: BString,
    name: BString,
    /// What machined calls it.
    machine: Option<BString>,
    /// What libvirt has of it while it runs, or why that can't be read.
    live: Option<Result<Domain, ReadError>>,
}

/// All that a state has: of what is registered also what libvirt says of it, and of what is defined what does not run.
fn known(root: &StateRoot) -> Result<Vec<Known>, ReadError> {
    if root.root.shown().ends_with(DEFINED.as_bytes()) {
        let running = match root.beside.first().map(names) {
            None => Vec::new(),
            Some(Err(e)) if e.class == Class::Gone => Vec::new(),
            Some(running) => running?,
        };
        let idle = names(&root.root)?.into_iter().filter(|name| !running.contains(name));
        let known = |name: BString| Known { id: name.clone(), name, machine: None, live: None };
        return Ok(idle.map(known).collect());
    }
    let mut all = Vec::new();
    if is_registry(root) {
        let machines = machined::list(root, ENGINE.0)?.into_iter();
        all.extend(machines.filter_map(|machine| {
            let (id, name) = domain_of(&machine)?;
            Some(Known { id: id.into(), name: name.into(), machine: Some(machine), live: None })
        }));
    }
    let Some(live) = live_dir(root) else { return Ok(all) };
    for name in names(live)? {
        let domain = match read(live, &name) {
            Err(e) if e.class == Class::Gone => continue,
            domain => domain,
        };
        let id = domain.as_ref().ok().and_then(|domain| domain.id.clone());
        // Of one that can't be read only the name is known, and older releases registered no number.
        let is_it = |known: &&mut Known| match &id {
            Some(id) => known.id == *id || (known.id == known.name && known.name == name),
            None => known.name == name,
        };
        match all.iter_mut().find(is_it) {
            Some(known) => (known.name, known.live) = (name, Some(domain)),
            None => {
                let id = id.unwrap_or_else(|| name.clone());
                all.push(Known { id, name, machine: None, live: Some(domain) });
            }
        }
    }
    Ok(all)
}

fn is_registry(root: &StateRoot) -> bool {
    root.root.shown().ends_with(machined::PLACE.as_bytes())
}

/// Where the files are of what runs.
fn live_dir(root: &StateRoot) -> Option<&Root> {
    if is_registry(root) { root.beside.first() } else { Some(&root.root) }
}

/// Names of the domains that have a file in a directory.
fn names(dir: &Root) -> Result<Vec<BString>, ReadError> {
    let entries = dir.list(b"", MOST)?.into_iter().filter(|entry| !entry.is_dir);
    let name = |entry: whose_kernel::root::Entry| {
        let name = entry.name.strip_suffix(files::ENDING)?;
        (!name.is_empty() && !name.starts_with(b".")).then(|| name.into())
    };
    Ok(entries.filter_map(name).collect())
}

/// The domain in its file. It may hold secrets: variables of its environment, passwords.
fn read(dir: &Root, name: &[u8]) -> Result<Domain, ReadError> {
    let file = [name, files::ENDING].concat();
    let malformed = |why: String| ReadError::new(dir.join(&file), Class::Malformed, why);
    let domain = files::parse(&unrecorded::read(dir, &file, files::CAP)?).map_err(malformed)?;
    if domain.name != name {
        return Err(malformed("it is of another domain".into()));
    }
    Ok(domain)
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no domain of libvirt's");
    // A cgroup without a number has the name.
    let is_it = |known: &Known| known.id == id || (known.name == id && known.machine.is_none());
    let known = known(root)?.into_iter().find(is_it).ok_or_else(gone)?;
    let file = |dir: &Root| dir.join(&[&known.name[..], files::ENDING].concat());
    match (known.machine, known.live) {
        (Some(machine), live) => {
            let machine = machined::machine(root, machine.as_ref(), ENGINE.0)?;
            let registered = machined::describe(root, &machine);
            let live = live.and_then(Result::ok).unwrap_or_default();
            let rootfs = registered.rootfs.clone().or(live.root);
            Ok(Description { name: Some(known.name), rootfs, ..registered })
        }
        (None, Some(live)) => {
            let (live, path) = (live?, live_dir(root).map(file).unwrap_or_default());
            Ok(described(live, path))
        }
        (None, None) => {
            let defined = read(&root.root, &known.name)?;
            // The file is the same whether it runs or not: this one does not.
            let idle = Domain { id: None, state: Some("shutoff"), init: None, ..defined };
            Ok(described(idle, file(&root.root)))
        }
    }
}

fn described(domain: Domain, path: BString) -> Description {
    Description {
        believed: domain.state.map(|state| match state {
            "paused" => ContainerState::Paused,
            "shutoff" => ContainerState::Exited,
            "crashed" => ContainerState::Dead,
            "nostate" | "pmsuspended" => ContainerState::Unknown,
            _ => ContainerState::Running,
        }),
        engine_state: domain.state,
        pid: domain.init,
        rootfs: domain.root,
        cgroups: domain
            .id
            .iter()
            .flat_map(|id| cgroups(id.as_ref(), domain.name.as_ref()))
            .collect(),
        name: Some(domain.name),
        path,
        ..Description::default()
    }
}

/// Where libvirt puts a domain, unless it is told another partition.
fn cgroups(id: &BStr, name: &BStr) -> Vec<BString> {
    let path = |parts: &[&[u8]]| BString::from(parts.concat());
    vec![
        path(&[b"/machine/lxc-", id, b"-", name, b".libvirt-lxc"]),
        path(&[b"/machine/", name, b".libvirt-lxc"]),
        path(&[b"/libvirt/lxc/", name]),
    ]
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
    let machine = text.strip_suffix(b".libvirt-lxc");
    // Newer releases name it as the machine, number and all.
    if let Some((id, name)) = machine.and_then(domain_of).filter(|(id, name)| id != name) {
        return Some((id.into(), name.into()));
    }
    let name = BString::from(segment::chosen(machine.or(oldest.then_some(text))?)?);
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
        assert_eq!(domain("/machine/lxc-7-web-1.libvirt-lxc"), both("7", "web-1"));
        assert_eq!(domain("/machine/lxc-web.libvirt-lxc"), both("lxc-web", "lxc-web"));
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
