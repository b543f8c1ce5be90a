//! LXC, and what LXD, Incus and Proxmox have in common with it, since they use it: the text of a
//! cgroup does not tell which.
//!
//! `lxc.payload.NAME` since 4.0, `lxc.payload/NAME` in 3.1 and 3.2, `lxc/NAME` before and with
//! Proxmox (lxc src/lxc/cgroups/cgroup.h; pve-container src/PVE/LXC.pm). The monitor is in
//! `lxc.monitor...`, and in `lxc.pivot` when it ends. Where such a cgroup is there already LXC adds `-N` to
//! the name (src/lxc/cgroups/cgfsng.c), which only the monitor tells from a name that ends so.
//!
//! State: `<lxcpath>/<name>/config`, and nothing of what runs. Of two directories with the same name the
//! monitor says which one it is.

pub(super) mod monitor;
mod rootfs;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::{Class, Host, ReadError};

use super::claim::{Claim, Level, Mine, Proof, Subject};
use super::docker::{name_of, of_admin, open_all};
use super::place::{self, Place, Plumbing};
use super::{FoundRoots, Hints, Matches, Query, Runtime, StateRoot, User, proxmox, segment};
use crate::model::gap::what;
use crate::model::{Description, Engine, Gap, Owner, OwnerKind, Role, Rootfs};
use crate::runtime::Serves;
use crate::state::lxc::{self as files, Config};

/// See the module.
#[derive(Debug)]
pub(super) struct Lxc;

const ENGINE: Engine = Engine("lxc");

/// LXC's directory of containers where nothing moves it; a user's, in his home.
const USERS_PLACE: &str = ".local/share/lxc";
/// Where the administrator moves it (lxc.system.conf(5)).
const SYSTEM_CONF: &str = "etc/lxc/lxc.conf";
/// Containers that one directory may have.
const MOST: usize = 100_000;
/// Digits that LXC adds to a cgroup's name at most: it tries 999 times.
const RETRIES: usize = 3;

impl Runtime for Lxc {
    fn engine(&self) -> Engine {
        ENGINE
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::Machine
    }

    fn claim(&self, subject: &Subject<'_>) -> Claim {
        let named = place::levels(subject.lines, |place| {
            let name = payload(place).and_then(segment::chosen)?;
            let mut owner = Owner::new(OwnerKind::Machine, ENGINE, name);
            owner.name = Some(name.into());
            Some(owner)
        });
        let mut levels: Vec<Level> = Vec::new();
        for level in &named {
            let names = [Some(level.owner.id.as_bstr()), without_retry(level.owner.id.as_ref())];
            levels.extend(names.into_iter().flatten().map(|name| {
                let owner =
                    Owner { id: name.into(), name: Some(name.into()), ..level.owner.clone() };
                Level { owner, proof: Proof::Guess, ..level.clone() }
            }));
        }
        levels.extend(named);
        if subject.comm.starts_with(b"lxc-") && subject.is_hosts_own() {
            let Some(args) = subject.args else { return Claim::Need(Needs::CMDLINE) };
            if let Some((_, name)) = monitor::titled(args).or_else(|| monitor::called(args)) {
                let (role, serves) = (Some(Role::Plumbing), Some(Serves::Id(name)));
                return Claim::Mine(Mine { levels, role, serves });
            }
        }
        place::claim(levels, place::plumbing(subject.lines, monitors))
    }

    fn monitor(&self) -> Option<&'static str> {
        Some("lxc-")
    }

    fn monitor_is_enough(&self) -> bool {
        true
    }

    fn watched(&self, args: &[BString]) -> Option<BString> {
        monitor::titled(args).or_else(|| monitor::called(args)).map(|(_, name)| name)
    }

    fn roots(&self, host: &Host, hints: Hints<'_>) -> FoundRoots {
        match hints {
            Hints::Default => of_admin(open_all(host, [monitor::PLACE.into()])),
            Hints::Configured => match configured(host) {
                Ok(path) => of_admin(open_all(host, path)),
                Err(e) => {
                    let gaps = vec![Gap::from_read(what::CONTAINERS, &e)];
                    FoundRoots { gaps, ..FoundRoots::default() }
                }
            },
            Hints::Monitor(seen) => {
                let args = &seen.args;
                let path = monitor::titled(args).or_else(|| monitor::called(args));
                open_all(host, path.map(|(path, _)| path))
            }
            Hints::At(path) => {
                let mut found = open_all(host, [path.into()]);
                found.roots.retain(|root| list(root).is_ok_and(|names| !names.is_empty()));
                found
            }
            Hints::User(user) => of_user(host, user),
            Hints::Inside(inside) => {
                let mut found = FoundRoots::default();
                found.take(inside.process.directory(BStr::new(monitor::PLACE)), None);
                found
            }
            Hints::Running
            | Hints::Mounts(_)
            | Hints::Args(_)
            | Hints::UserInside(..)
            | Hints::Moved(_) => FoundRoots::default(),
        }
    }

    fn find(&self, _host: &Host, root: &StateRoot, query: Query<'_>) -> Result<Matches, ReadError> {
        let (Query::Id(name) | Query::Name(name)) = query else { return Ok(Matches::default()) };
        let ids = match config(root, name) {
            Ok(_) => vec![name.into()],
            Err(e) if e.class == Class::Gone => Vec::new(),
            Err(e) => return Err(e),
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

    fn rootfs(&self, host: &Host, root: &StateRoot, name: &BStr) -> Option<Result<Rootfs, Gap>> {
        let config = config(root, name).map_err(|e| Gap::from_read(what::LAYERS, &e));
        Some(config.and_then(|config| rootfs::rootfs(host, root, name, config)))
    }

    fn has_root_files(&self) -> bool {
        true
    }

    fn has_state(&self) -> bool {
        true
    }

    fn holds_files(&self) -> bool {
        true
    }
}

/// The name in a payload's cgroup.
pub(super) fn payload(place: Place<'_>) -> Option<&[u8]> {
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

/// Whom the process in a monitor's cgroup serves.
fn monitors(place: Place<'_>) -> Option<Plumbing> {
    if place.text() == b"lxc.pivot" {
        return Some(Plumbing(None));
    }
    monitored(place).map(Plumbing::of)
}

/// The name in a monitor's cgroup.
pub(super) fn monitored(place: Place<'_>) -> Option<&[u8]> {
    let child = || (place.parent() == b"lxc.monitor").then_some(place.text());
    segment::chosen(place.text().strip_prefix(b"lxc.monitor.").or_else(child)?)
}

/// The name without the number that LXC may have added to a cgroup of that name.
fn without_retry(name: &BStr) -> Option<&BStr> {
    let (name, retry) = name.rsplit_once_str("-")?;
    let digits = (1..=RETRIES).contains(&retry.len()) && retry.iter().all(u8::is_ascii_digit);
    segment::chosen(name).filter(|_| digits).map(BStr::new)
}

/// Where LXC may put a container of this name, unless its configuration says otherwise.
fn cgroups(config: &Config, name: &BStr) -> Vec<BString> {
    let said = config.get("lxc.cgroup.dir.container").map(|dir| vec![path_of(dir)]);
    let below = config.get("lxc.cgroup.dir").map_or_else(BString::default, path_of);
    let usual = || {
        let parts: [&[u8]; 3] = [b"/lxc.payload.", b"/lxc.payload/", b"/lxc/"];
        parts.map(|part| [below.as_slice(), part, name].concat().into()).to_vec()
    };
    said.unwrap_or_else(usual)
}

fn path_of(dir: &BStr) -> BString {
    [b"/", dir.trim_with(|c| c == '/')].concat().into()
}

/// Where LXC's own configuration says that the containers are.
fn configured(host: &Host) -> Result<Option<BString>, ReadError> {
    match host.root().read(SYSTEM_CONF.as_bytes(), files::CAP) {
        Ok(bytes) => Ok(files::parse(&bytes).get("lxc.lxcpath").map(BString::from)),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    }
}

fn of_user(host: &Host, user: &User) -> FoundRoots {
    let mut found = FoundRoots::default();
    let opened = host.owned_dir(user.home.as_ref(), BStr::new(USERS_PLACE), user.uid);
    found.take(opened, Some(name_of(host, user.uid)));
    found
}

/// A container's configuration; `gone` for one of Proxmox's, which LXC runs and does not manage.
fn config(root: &StateRoot, name: &BStr) -> Result<Config, ReadError> {
    let gone = || ReadError::new(root.root.shown(), Class::Gone, "no container of LXC");
    let name = segment::chosen(name).ok_or_else(gone)?;
    let file = [name, b"/config"].concat();
    let config = files::parse(&root.root.read(&file, files::CAP)?);
    if proxmox::is_proxmoxs(&config, BStr::new(name)) { Err(gone()) } else { Ok(config) }
}

fn list(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    let entries = root.root.list(b"", MOST)?.into_iter().filter(|e| e.is_dir);
    let is_one = |name: &BString| match config(root, name.as_ref()) {
        Err(e) => e.class != Class::Gone,
        Ok(_) => true,
    };
    Ok(entries.map(|e| e.name).filter(is_one).collect())
}

fn describe(root: &StateRoot, name: &BStr) -> Result<Description, ReadError> {
    let config = config(root, name)?;
    Ok(Description {
        name: Some(name.into()),
        image: config.image(),
        user: root.user.clone(),
        rootfs: config.root_dir().map(BString::from),
        writable: config.written().map(BString::from),
        cgroups: cgroups(&config, name),
        path: root.root.join(&[name.as_bytes(), b"/config"].concat()),
        ..Description::default()
    })
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::cgroup::parse;

    use super::Lxc;
    use crate::runtime::{Claim, Mine, Proof, Runtime, Serves, Subject};

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
        let levels = mine(path).levels.into_iter().filter(|l| l.proof == Proof::Text);
        levels.map(|l| l.owner.id).collect()
    }

    #[test]
    fn a_number_at_the_end_may_be_lxcs() {
        let guesses = |path: &str| -> Vec<BString> {
            let levels = mine(path).levels.into_iter().filter(|l| l.proof == Proof::Guess);
            levels.map(|l| l.owner.id).collect()
        };
        assert_eq!(guesses("/lxc.payload.web-1"), ["web-1", "web"]);
        assert_eq!(guesses("/lxc.payload.web-1234"), ["web-1234"]);
        assert_eq!(guesses("/lxc.payload.-1"), ["-1"]);
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
