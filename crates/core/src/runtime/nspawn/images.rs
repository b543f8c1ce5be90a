//! What machines consist of that may be started by their names: a directory or an image in `/var/lib/machines`, and
//! settings (systemd.nspawn(5); systemd src/shared/discover-image.c, src/nspawn/nspawn.c).

use bstr::{BStr, BString};
use whose_kernel::look::Look;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, ReadError};

use super::super::docker::{of_admin, open_all};
use super::super::{FoundRoots, Hints, StateRoot, machined, segment};
use crate::model::gap::what;
use crate::model::{Description, Gap, Mounting, RootFiles, Rootfs};
use crate::state::machined::Machine;
use crate::state::nspawn::{self as files, CAP, Mode, Settings};

/// Entries that their directory may have.
const MOST: usize = 100_000;
/// Where they are.
const PLACE: &str = "var/lib/machines";
/// Where the administrator's settings are, the first that has them alone counts; beside the machine are some that
/// may not mount anything of the host's.
const SETTINGS: [&str; 2] = ["etc/systemd/nspawn", "run/systemd/nspawn"];
/// What nspawn mounts in every machine (src/nspawn/nspawn-mount.c).
const MEMORY: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// A machine that may be started.
pub(super) struct Image {
    name: BString,
    path: BString,
    is_dir: bool,
}

/// Adds the directory of images to the one where machines are registered; alone where there is no such.
pub(super) fn with_images(host: &Host, mut found: FoundRoots, hints: Hints<'_>) -> FoundRoots {
    let images = match hints {
        Hints::Default => of_admin(open_all(host, [PLACE.into()])),
        Hints::Inside(inside) => match inside.process.directory(BStr::new(PLACE)) {
            Ok(root) => {
                FoundRoots { roots: vec![StateRoot::new(root, None, None)], gaps: Vec::new() }
            }
            Err(_) => return found,
        },
        _ => return found,
    };
    found.gaps.extend(images.gaps);
    match found.roots.first_mut() {
        Some(registered) => registered.beside.extend(images.roots.into_iter().map(|r| r.root)),
        None => found.roots = images.roots,
    }
    found
}

/// The directory of images of a root.
fn images(root: &StateRoot) -> Option<&Root> {
    if is_registry(root) { root.beside.first() } else { Some(&root.root) }
}

fn is_registry(root: &StateRoot) -> bool {
    root.root.shown().ends_with(machined::PLACE.as_bytes())
}

/// The machine of this name that is registered.
pub(super) fn registered(root: &StateRoot, name: &BStr) -> Result<Machine, ReadError> {
    match is_registry(root) {
        true => machined::machine(root, name, super::SUPERVISOR),
        false => Err(ReadError::new(root.root.shown(), Class::Gone, "nothing is registered there")),
    }
}

/// The names of all that are.
pub(super) fn list(root: &StateRoot) -> Result<Vec<BString>, ReadError> {
    if is_registry(root) { machined::list(root, super::SUPERVISOR) } else { Ok(Vec::new()) }
}

/// The machine of this name, if there is such a directory or image.
pub(super) fn of(root: &StateRoot, name: &BStr) -> Result<Option<Image>, ReadError> {
    let own = segment::chosen(name).filter(|name| !name.starts_with(b"."));
    let (Some(own), Some(images)) = (own, images(root)) else { return Ok(None) };
    let raw_name = [own, b".raw"].concat();
    // Listed, since who may not see any of them is told that of all of them.
    let names = match images.list(b"", MOST) {
        Ok(entries) => entries.into_iter().map(|entry| entry.name),
        Err(e) if e.class == Class::Gone => return Ok(None),
        Err(e) => return Err(e),
    };
    if !names.into_iter().any(|name| name == own || name == raw_name) {
        return Ok(None);
    }
    let look = |file: &[u8], is: fn(&Look) -> bool| match images.look(file) {
        Ok(look) => Ok(is(&look).then(|| images.join(file))),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    };
    let image = |path, is_dir| Some(Image { name: name.into(), path, is_dir });
    if let Some(dir) = look(own, Look::is_dir)? {
        return Ok(image(dir, true));
    }
    let raw = look(&raw_name, |look| !look.is_dir())?;
    Ok(raw.and_then(|raw| image(raw, false)))
}

/// The machine whose directory a path lies in by its text, or whose image it is.
pub(super) fn near(root: &StateRoot, path: &BStr) -> Vec<BString> {
    let below = images(root).and_then(|images| strip(images.shown(), path));
    let name = below.and_then(|below| below.split(|b| *b == b'/').nth(1)).unwrap_or_default();
    let names = [Some(name), name.strip_suffix(b".raw")].into_iter().flatten();
    let is_there = |name: &&[u8]| of(root, BStr::new(name)).is_ok_and(|of| of.is_some());
    names.filter(is_there).map(BString::from).collect()
}

impl Image {
    pub(super) fn describe(self) -> Description {
        Description {
            name: Some(self.name),
            rootfs: Some(self.path.clone()).filter(|_| self.is_dir),
            path: self.path,
            ..Description::default()
        }
    }
}

pub(super) fn rootfs(host: &Host, root: &StateRoot, name: &BStr) -> Result<Rootfs, Gap> {
    let gap = |e: ReadError| Gap::from_read(what::LAYERS, &e);
    let unknown = |path: BString, why: &'static str| {
        Gap::new(what::LAYERS, Class::Unsupported, path, why, None)
    };
    let machine = registered(root, name);
    let path = match (of(root, name).map_err(gap)?, machine) {
        (Some(image), _) => (image.path, image.is_dir),
        (None, Ok(machined)) => match machined.root {
            Some(dir) => (dir, true),
            None => return Err(unknown(root.root.join(name), "it is not said what its root is")),
        },
        (None, Err(e)) => return Err(gap(e)),
    };
    let (path, is_dir) = path;
    let plain = host.unrooted(path.as_ref()).unwrap_or(path.as_ref()).to_owned();
    let files = if is_dir { RootFiles::Dir(plain) } else { RootFiles::Image(plain) };
    let mut mounts: Vec<Mounting> =
        MEMORY.iter().map(|at| Mounting { at: (*at).into(), from: None }).collect();
    let file = [name.as_ref() as &[u8], b".nspawn"].concat();
    let read = |place: &str| {
        let path = [place.as_bytes(), b"/", &file].concat();
        match host.root().read(&path, CAP) {
            Ok(bytes) => Ok(Some((host.shown(&path), files::parse(&bytes)))),
            Err(e) if e.class == Class::Gone => Ok(None),
            Err(e) => Err(gap(e)),
        }
    };
    for (place, is_trusted) in SETTINGS.iter().map(|p| (*p, true)).chain([(PLACE, false)]) {
        let Some((path, settings)) = read(place)? else { continue };
        match settings.volatile {
            Mode::No | Mode::Overlay => {}
            Mode::State => mounts.push(Mounting { at: "/var".into(), from: None }),
            Mode::Yes => return Err(unknown(path, "it starts with nothing but its /usr")),
        }
        if is_trusted {
            let Settings { mounts: own, problem, .. } = settings;
            if let Some(why) = problem {
                return Err(unknown(path, why));
            }
            mounts.extend(own);
        }
        break;
    }
    Ok(Rootfs { files, mounts })
}
