//! LXD, and Incus, which came of it: each instance is a container of LXC's in `<dir>/containers`.
//!
//! The cgroup is LXC's; it names an instance of the project `default` by its name, others by
//! `PROJECT_NAME`, of which neither part has a `_` (incus internal/server/project/project.go). State:
//! `storage-pools/<pool>/containers/<instance>/backup.yaml`; what runs is in a database that is not read,
//! and the kernel shows it (incus internal/server/storage/drivers/utils.go). Its monitors are processes of
//! its own.

use bstr::{BStr, BString, ByteSlice};
use whose_fields::{FieldId, Needs};
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Level, Mine, Proof, Subject};
use super::docker::{of_admin, open_all};
use super::lxc::{monitor, monitored, payload};
use super::place::{self, Plumbing};
use super::{
    FoundRoots, Hints, Matches, Query, Runtime, Service, StateRoot, hints, segment, service,
};
use crate::model::daemon::Told;
use crate::model::gap::what;
use crate::model::{Description, Engine, Gap, Owner, OwnerKind, Role};
use crate::state::lxd as files;
use crate::state::yaml::CAP;

/// Either of the two.
#[derive(Debug)]
pub(super) struct Lxd {
    /// Its name.
    pub(super) engine: Engine,
    /// What the kernel calls its processes.
    pub(super) comm: &'static str,
    /// Where its directory is, if nothing moves it.
    pub(super) places: &'static [&'static str],
    /// The variable that moves it.
    pub(super) variable: &'static str,
    /// The units that run its daemon.
    pub(super) units: &'static [&'static str],
    /// Its daemon.
    pub(super) services: &'static [Service],
}

/// LXD by its own package, and by snap (lxd shared/util.go).
pub(super) const LXD: Lxd = Lxd {
    engine: Engine("lxd"),
    comm: "lxd",
    places: &["/var/lib/lxd", "/var/snap/lxd/common/lxd"],
    variable: "LXD_DIR",
    units: &["lxd", "snap.lxd.daemon"],
    services: &[service::LXD],
};

/// The project of those without a prefix.
const DEFAULT: &str = "default";
/// The directory of LXC's containers in its own.
const CONTAINERS: &str = "containers";
/// Its storage pools.
const POOLS: &str = "storage-pools";
/// Entries that such a directory may have.
const MOST: usize = 100_000;

impl Runtime for Lxd {
    fn engine(&self) -> Engine {
        self.engine
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let levels = place::levels(subject.lines, |place| {
            let (project, name) = split(payload(place).and_then(segment::chosen)?)?;
            let mut owner = Owner::new(OwnerKind::Machine, self.engine, name);
            owner.namespace = project.into();
            owner.name = Some(name.into());
            Some(owner)
        });
        let guess = |level: Level| Level { proof: Proof::Guess, ..level };
        let levels: Vec<Level> = levels.into_iter().map(guess).collect();
        // Its daemon, its monitors, and what it forks to run something in an instance.
        if subject.comm == self.comm && subject.is_hosts_own() {
            let serves = place::plumbing(subject.lines, |place| {
                monitored(place).and_then(split).map(|(_, name)| Plumbing::of(name))
            });
            let serves = serves.and_then(|plumbing| plumbing.0);
            return Claim::Mine(Mine { levels, role: Some(Role::Plumbing), serves });
        }
        levels.into()
    }

    fn monitor(&self) -> Option<&'static str> {
        Some(self.comm)
    }

    fn monitor_is_enough(&self) -> bool {
        true
    }

    fn moved_by(&self) -> Option<&'static str> {
        Some(self.variable)
    }

    fn services(&self) -> &'static [Service] {
        self.services
    }

    fn heard(&self, told: &Told) -> Description {
        let instance = instance_of(told.id.as_ref());
        Description {
            // A fingerprint, as in its files, and no digest of a registry's.
            image_id: told.image_id.clone(),
            namespace: told.id.split_once_str("/").map(|(project, _)| project.into()),
            cgroups: instance.iter().map(cgroup_of).collect(),
            ..service::description(told)
        }
    }

    fn watched(&self, args: &[BString]) -> Option<BString> {
        let (_, instance) = monitor::titled(args).or_else(|| monitor::forked(args))?;
        let (project, name) = split(&instance)?;
        Some(key(project, name))
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, self.places.iter().map(|p| (*p).into()))),
            Hints::Monitor(seen) => {
                let args = &seen.args;
                let path = monitor::titled(args).or_else(|| monitor::forked(args));
                let dir = path.and_then(|(path, _)| {
                    let dir = path.strip_suffix(CONTAINERS.as_bytes())?.strip_suffix(b"/")?;
                    Some(dir.into())
                });
                open_all(host, dir)
            }
            Hints::Inside(inside) => {
                let mut found = FoundRoots::default();
                for place in self.places {
                    found.take(inside.process.directory(BStr::new(place)), None);
                }
                found
            }
            Hints::Running => {
                open_all(host, hints::moved(host, self.units, self.comm, self.variable))
            }
            Hints::Moved(dir) => open_all(host, [dir.into()]),
            _ => FoundRoots::default(),
        }
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let fits = |own: &BString| match query {
            Query::Id(asked) => own == asked || own.rsplit_str("/").next() == Some(asked),
            Query::Name(asked) => own.rsplit_str("/").next() == Some(asked) || own == asked,
            Query::IdPrefix(_) | Query::Address(_) | Query::Volume(_) => false,
        };
        if !matches!(query, Query::Id(_) | Query::Name(_)) {
            return Ok(Matches::default());
        }
        let ids = list(root)?.into_iter().filter(fits).collect();
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

    fn holds_files(&self) -> bool {
        true
    }
}

/// Project and name of an instance by what LXC calls it.
fn split(instance: &[u8]) -> Option<(&BStr, &[u8])> {
    let (project, name) = instance.split_once_str("_").unwrap_or((DEFAULT.as_bytes(), instance));
    let valid = segment::chosen(name).is_some() && !project.is_empty() && !name.contains(&b'_');
    valid.then_some((project.as_bstr(), name))
}

fn key(project: &BStr, name: &[u8]) -> BString {
    [project.as_bytes(), b"/", name].concat().into()
}

/// What LXC calls the instance with this key.
fn instance_of(key: &BStr) -> Option<BString> {
    let (project, name) = key.split_once_str("/")?;
    let named = segment::chosen(name).filter(|_| !project.is_empty() && !name.contains(&b'_'))?;
    Some(match project == DEFAULT.as_bytes() {
        true => named.into(),
        false => [project, b"_", named].concat().into(),
    })
}

/// Where LXC puts an instance.
fn cgroup_of(instance: &BString) -> BString {
    [b"/lxc.payload.", instance.as_slice()].concat().into()
}

/// Keys of all instances: links in its directory of containers lead to their volumes.
fn list(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let entries = root.root.list(CONTAINERS.as_bytes(), MOST)?;
    Ok(entries.iter().filter_map(|e| split(&e.name)).map(|(p, n)| key(p, n)).collect())
}

fn describe(root: &StateRoot, id: &BStr) -> Result<Description, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no instance of it");
    let instance = instance_of(id).ok_or_else(gone)?;
    let link = [CONTAINERS.as_bytes(), b"/", &instance].concat();
    let (project, name) = id.split_once_str("/").ok_or_else(gone)?;
    let mut description = Description {
        name: Some(name.into()),
        namespace: Some(project.into()),
        cgroups: vec![cgroup_of(&instance)],
        path: root.root.join(&link),
        ..Description::default()
    };
    let found =
        root.root.list(POOLS.as_bytes(), MOST)?.into_iter().filter(|e| e.is_dir).find_map(|pool| {
            let dir = [POOLS.as_bytes(), b"/", &pool.name, b"/containers/", &instance].concat();
            let file = [&dir[..], b"/backup.yaml"].concat();
            match root.root.read(&file, CAP) {
                Err(e) if e.class == Class::Gone => None,
                read => Some((dir, file, read)),
            }
        });
    let Some((dir, file, read)) = found else {
        // Known all the same: its volume is only mounted while it runs, or somewhere else.
        root.root.read_link(&link)?;
        let why = "its volume is not mounted here";
        let gap =
            Gap::new(what::DESCRIPTION, Class::Unsupported, description.path.clone(), why, None);
        description.unread = UNREAD.map(|field| (field, gap.clone())).to_vec();
        return Ok(description);
    };
    description.rootfs = Some(root.root.join(&[&dir[..], b"/rootfs"].concat()));
    description.path = root.root.join(&file);
    let malformed = |why: String| ReadError::new(root.root.join(&file), Class::Malformed, why);
    let parsed = read.and_then(|bytes| files::parse(&bytes).map_err(malformed));
    match parsed {
        Ok(told) if told.name == name => {
            description.image = told.image;
            description.image_id = told.fingerprint;
            description.created = told.created;
        }
        Ok(_) => return Err(malformed("it is of another instance".into())),
        Err(e) => {
            let gap = Gap::from_read(what::DESCRIPTION, &e);
            description.unread = UNREAD.map(|field| (field, gap.clone())).to_vec();
        }
    }
    Ok(description)
}

/// What only the file in its volume tells.
const UNREAD: [FieldId; 3] = [FieldId::Image, FieldId::ImageId, FieldId::Created];

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::{LXD, instance_of, split};
    use crate::model::Role;
    use crate::runtime::{Claim, Proof, Runtime, Serves, Subject};

    #[test]
    fn projects_and_names() {
        let both =
            |text: &str| split(text.as_bytes()).map(|(p, n)| format!("{p} {}", BStr::new(n)));
        assert_eq!(both("c1").unwrap(), "default c1");
        assert_eq!(both("proj_c3").unwrap(), "proj c3");
        for none in ["a_b_c", "_c", "p_", ""] {
            assert_eq!(both(none), None, "{none}");
        }
        let instance = |key: &str| instance_of(BStr::new(key)).map(|i| i.to_string());
        assert_eq!(instance("default/c1").unwrap(), "c1");
        assert_eq!(instance("proj/c3").unwrap(), "proj_c3");
        assert_eq!([instance("c1"), instance("p/a/b"), instance("/c")], [None, None, None]);
    }

    #[test]
    fn its_instances_are_guessed_and_its_processes_are_plumbing() {
        let lines = parse(b"0::/lxc.payload.proj_c3/init.scope\n").unwrap();
        let comm = BStr::new("x");
        let subject = Subject { lines: &lines, comm, args: None, uid: Some(0), nspid: None };
        let Claim::Mine(mine) = LXD.claim(&subject) else { panic!("not claimed") };
        let level = &mine.levels[0];
        assert_eq!((level.owner.key(), level.proof), (BString::from("proj/c3"), Proof::Guess));
        let lines = parse(b"0::/lxc.monitor.proj_c3\n").unwrap();
        let comm = BStr::new("lxd");
        let subject = Subject { lines: &lines, comm, args: None, uid: Some(0), nspid: Some(&[7]) };
        let Claim::Mine(mine) = LXD.claim(&subject) else { panic!("not claimed") };
        assert_eq!((mine.role, mine.serves), (Some(Role::Plumbing), Some(Serves::Id("c3".into()))));
    }

    #[test]
    fn monitors_name_their_instance() {
        let watched = |title: &str| LXD.watched(&[BString::from(title)]).map(|key| key.to_string());
        assert_eq!(watched("[lxc monitor] /var/lib/lxd/containers c1").unwrap(), "default/c1");
        assert_eq!(watched("[lxc monitor] /x/containers proj_c3").unwrap(), "proj/c3");
        assert_eq!(watched("lxd"), None);
    }
}
