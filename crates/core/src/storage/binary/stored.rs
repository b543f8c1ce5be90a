//! Looking a path up in the layers of a container that does not run.

use std::collections::VecDeque;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::object::Object;
use whose_kernel::parse::mountinfo::strip;
use whose_kernel::parse::overlay::Overlay;
use whose_kernel::worker::exam::Way;
use whose_kernel::{Class, Host, ReadError};

use super::filesystems::FileSystems;
use super::stack::{Dir, Stack, joined};
use super::told::inode;
use super::walk;
use crate::model::gap::what;
use crate::model::{Fact, File, FileRole, Gap, Layer, Mounting, Verified};
use crate::storage::Driver;

/// Links followed at most, as path_resolution(7) has it.
const LINKS: usize = 40;

/// How a container's directories are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One holds all of its files.
    Tree,
    /// The kernel puts them on top of one another.
    Overlay,
    /// A program does, fuse-overlayfs.
    Fuse,
    /// aufs does.
    Aufs,
}

/// A container's file system as its engine would mount it.
pub struct Parts<'p> {
    /// The directories of its layers, the topmost first.
    pub dirs: &'p [BString],
    /// Their names in the engine's table, if that told of them.
    pub names: &'p [BString],
    /// The driver, if an engine's table told of them.
    pub driver: Option<&'p dyn Driver>,
    /// How they are put together.
    pub kind: Kind,
    /// What lies over them.
    pub mounts: &'p [Mounting],
    /// The directory that a user's engine may name of the host, if it is one's.
    pub within: Option<&'p BStr>,
}

/// Where a path led to.
enum Place {
    /// One thing in a layer, or the parts of a directory in several; with their paths on the host.
    Layers(Vec<(BString, Object)>),
    /// Something in what is mounted there, and its path.
    Mounted(BString, Object),
    /// In what is no file of the host, such as memory.
    Elsewhere,
}

/// The file that a path leads to in a container that does not run; `None` where that is nothing.
///
/// # Errors
/// What could not be looked at; marks of a driver that are not known here.
pub fn stored(host: &Host, parts: &Parts<'_>, path: &BStr) -> Result<Option<File>, Gap> {
    let fail = |class, why: &'static str| Gap::new(what::PATH, class, path, why, None);
    let root = host.root_object().map_err(|e| Gap::from_read(what::PATH, &e))?;
    let file_systems = FileSystems::new(host, &root, None, &[]);
    let Some((upper, lowers)) = parts.dirs.split_first() else {
        return Err(fail(Class::Unsupported, "its engine has no layers of it"));
    };
    let userxattr = parts.within.is_some();
    let (upper, lowers) = (Some(upper.clone()), lowers.to_vec());
    let options = Overlay { upper, lowers, userxattr, ..Overlay::default() };
    let stack = Stack::new(host, (&root, None), options, None, &file_systems, Vec::new());
    let stack = match parts.kind {
        Kind::Tree | Kind::Overlay => stack,
        Kind::Fuse => stack.of_fuse(),
        Kind::Aufs => stack.of_aufs(),
    };
    if !stack.is_whole() || stack.upper().is_none() {
        return Err(fail(Class::Gone, "one of its layers is not there"));
    }
    if parts.within.is_some_and(|within| !keeps_within(host, &root, &stack, within)) {
        return Err(fail(Class::Forbidden, "its user's table leads out of his store"));
    }
    let mut work = Work { host, root: &root, parts, stack: &stack, mounts: Vec::new() };
    work.place_mounts()?;
    let (inside, place) = match work.resolve(path, Missing::IsNothing)? {
        (inside, Some(place)) => (inside, place),
        (_, None) => return Ok(None),
    };
    let mut file = File { inside: Some(inside), ..File::default() };
    match place {
        Place::Elsewhere => {
            file.host = Fact::Absent;
            file.why = Some("what is mounted there is no file of the host".into());
        }
        Place::Mounted(path, object) => {
            file.role = Some(FileRole::Volume);
            tell(&mut file, path, &object);
        }
        Place::Layers(mut all) if all.len() == 1 => {
            let (path, object) = all.swap_remove(0);
            // The directories' own paths are those of this program, whatever directory is the host's root.
            let real = object.path().ok().flatten().unwrap_or_else(|| path.clone());
            let at = stack.layer_of(real.as_ref()).map(|(at, _)| at);
            file.role = Some(match at {
                _ if parts.kind == Kind::Tree => FileRole::Direct,
                _ if parts.kind == Kind::Fuse => FileRole::FuseLayer,
                Some(0) => FileRole::Upper,
                _ => FileRole::Lower,
            });
            file.layer = at.and_then(|at| layer(parts, at));
            if parts.kind == Kind::Aufs && at != Some(0) {
                untied(host, parts, path.as_ref(), &object)?;
            }
            if parts.kind != Kind::Tree && walk::is_metadata_only(host, &object, userxattr) {
                return Err(fail(Class::Unsupported, "its content lies in another layer than it"));
            }
            tell(&mut file, path, &object);
            let reads = match parts.kind {
                Kind::Tree | Kind::Overlay => None,
                Kind::Fuse => Some("fuse-overlayfs"),
                Kind::Aufs => Some("aufs"),
            };
            if let Some(who) = reads {
                let why =
                    format!("it does not run: by its engine's state, as {who} reads its layers");
                file.why = Some(why.into());
            }
        }
        Place::Layers(all) => {
            file.host = Fact::Absent;
            let count = all.len();
            let by = if parts.kind == Kind::Aufs { "aufs" } else { "the overlay" };
            file.why = Some(format!("{by} merges this directory from {count} layers").into());
            file.candidates = all.into_iter().map(|(path, _)| path).collect();
        }
    }
    Ok(Some(file))
}

/// Whether all directories lie in a user's root. He writes his table, and his directories: neither a name nor a link may
/// lead out of it.
fn keeps_within(host: &Host, root: &Object, stack: &Stack<'_>, within: &BStr) -> bool {
    let real = host.lookup(root, within, Way::Links).ok().and_then(|o| o.path().ok()?);
    let is_his = |dir: &Dir| real.as_ref().is_some_and(|real| is_below(real, &dir.path));
    stack.upper().into_iter().chain(stack.lowers().iter().flatten()).all(is_his)
}

/// Where aufs keeps copies of files with several names, until their names are all made in the upper directory: a lower
/// file of several names may be one whose copy is there (aufs4-linux fs/aufs/plink.c; auplink(8) empties it).
const LINKED: &[u8] = b".wh..wh.plnk";
/// Of them at most.
const MOST_LINKED: usize = 100_000;

/// Whether nothing can be a copy of a lower file under another name.
fn untied(host: &Host, parts: &Parts<'_>, path: &BStr, object: &Object) -> Result<(), Gap> {
    let is_one = object.look().is_ok_and(|look| !look.is_file() || look.nlink < 2);
    let Some(upper) = parts.dirs.first().filter(|_| !is_one) else { return Ok(()) };
    let fail = |class, why: &'static str| Gap::new(what::PATH, class, path, why, None);
    match host.root().list(&joined(upper, LINKED), MOST_LINKED) {
        Ok(kept) if kept.is_empty() => Ok(()),
        Err(e) if e.class == Class::Gone => Ok(()),
        Ok(_) => {
            Err(fail(Class::Unsupported, "it may be a copy that aufs keeps under another name"))
        }
        Err(e) => Err(Gap::from_read(what::PATH, &e)),
    }
}

fn tell(file: &mut File, path: BString, object: &Object) {
    file.inode = object.look().ok().as_ref().map(inode);
    file.host = Fact::Known(path);
    file.verified = Verified::Layers;
    file.why = Some("it does not run: by its engine's state".into());
}

fn layer(parts: &Parts<'_>, at: usize) -> Option<Layer> {
    let (dir, driver) = (parts.dirs.get(at)?, parts.driver?);
    let last = dir.rfind_byte(b'/').map_or(0, |at| at + 1);
    let number = |n: usize| u32::try_from(n).ok();
    Some(Layer {
        id: parts.names.get(at).cloned().unwrap_or_else(|| dir[last..].into()),
        dir: dir.clone(),
        driver: driver.name().into(),
        index: at.checked_sub(1).and_then(number),
        of: number(parts.dirs.len() - 1),
        ..Layer::default()
    })
}

struct Work<'w> {
    host: &'w Host,
    root: &'w Object,
    parts: &'w Parts<'w>,
    stack: &'w Stack<'w>,
    /// What lies over the layers, as far as it is placed.
    mounts: Vec<Mounting>,
}

/// What a path is where a directory on its way is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Nothing.
    IsNothing,
    /// What its text says: a runtime makes the directories that it mounts something at.
    IsMade,
}

impl Work<'_> {
    /// Finds out where the mounts come to lie: links in the layers lead elsewhere, as `/var/run` does, and a
    /// runtime follows them from the container's root.
    fn place_mounts(&mut self) -> Result<(), Gap> {
        let mut all: Vec<&Mounting> = self.parts.mounts.iter().collect();
        // The outer ones first, as engines mount them.
        all.sort_by_key(|mount| names(mount.at.as_ref()).len());
        for Mounting { at, from } in all {
            if self.host.out_of_time() {
                let late =
                    ReadError::new(at.clone(), Class::TimedOut, "too many mounts for the time");
                return Err(Gap::from_read(what::PATH, &late));
            }
            let (at, _) = self.resolve(at.as_ref(), Missing::IsMade)?;
            self.mounts.push(Mounting { at, from: from.clone() });
        }
        Ok(())
    }

    /// What the path leads to, links followed from the container's root; with the path that it has then.
    fn resolve(&self, path: &BStr, missing: Missing) -> Result<(BString, Option<Place>), Gap> {
        let mut rest: VecDeque<BString> = names(path);
        let mut at = BString::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                let up = at.rfind_byte(b'/').unwrap_or(0);
                at.truncate(up.max(1));
                continue;
            }
            let next = joined(&at, &name);
            let made = |m: &Mounting| strip(&next, &m.at).is_some();
            let Some(place) = self.look(&next)? else {
                if missing == Missing::IsMade || self.mounts.iter().any(made) {
                    at = next;
                    continue;
                }
                return Ok((next, None));
            };
            let first = match &place {
                Place::Layers(all) => all.first().map(|(_, object)| object),
                Place::Mounted(_, object) => Some(object),
                // Something of the host's may be mounted in it again.
                Place::Elsewhere
                    if missing == Missing::IsMade
                        || self.mounts.iter().any(|m| is_below(&next, &m.at)) =>
                {
                    at = next;
                    continue;
                }
                Place::Elsewhere => return Ok((next, Some(place))),
            };
            let look = first.and_then(|object| object.look().ok());
            let link = first.filter(|_| look.is_some_and(|l| l.is_link()));
            if let Some(target) = link.and_then(|object| object.target().ok()) {
                links += 1;
                if links > LINKS {
                    let why = "links in a circle, or too many";
                    return Err(Gap::new(what::PATH, Class::Malformed, path, why, None));
                }
                if target.starts_with(b"/") {
                    at = "/".into();
                }
                let mut led = names(target.as_ref());
                led.append(&mut rest);
                rest = led;
                continue;
            }
            if !rest.is_empty() && !look.is_some_and(|l| l.is_dir()) {
                return Ok((next, None));
            }
            at = next;
        }
        let place = self.look(&at)?;
        Ok((at, place))
    }

    /// What is at a path without links in it.
    fn look(&self, at: &BString) -> Result<Option<Place>, Gap> {
        let over = |m: &&Mounting| strip(&m.at, at).is_some();
        if let Some(mount) = self.mounts.iter().filter(over).max_by_key(|m| m.at.len()) {
            return self.mounted(mount, at);
        }
        let named = |object: Object| {
            let path = object.path().ok().flatten()?;
            let path = BString::from(self.host.unrooted(path.as_ref())?);
            Some((path, object))
        };
        let found = walk::shown(self.host, self.stack, at.as_ref());
        let found: Vec<_> = found.into_iter().filter_map(named).collect();
        Ok((!found.is_empty()).then_some(Place::Layers(found)))
    }

    fn mounted(&self, mount: &Mounting, at: &BString) -> Result<Option<Place>, Gap> {
        let Some(from) = &mount.from else { return Ok(Some(Place::Elsewhere)) };
        // A user may write down any path of the host as mounted in a container of his.
        let climbs = from.split(|b| *b == b'/').any(|name| name == b"..");
        if self.parts.within.is_some_and(|root| climbs || !is_below(root, from)) {
            let why = "only its user says what is mounted there";
            return Err(Gap::new(what::PATH, Class::Forbidden, from.clone(), why, None));
        }
        let path = match strip(&mount.at, at) {
            None => return Ok(None),
            Some(rest) if rest.is_empty() => from.clone(),
            Some(rest) => joined(from, rest),
        };
        self.host.guard(path.as_ref()).map_err(|e| Gap::from_read(what::PATH, &e))?;
        match self.host.lookup(self.root, path.as_ref(), Way::Plain) {
            Ok(object) => Ok(Some(Place::Mounted(path, object))),
            Err(e) if Class::of(e) == Class::Gone => Ok(None),
            Err(e) => Err(Gap::from_read(what::PATH, &ReadError::from_errno(path, e))),
        }
    }
}

/// Whether a path leads to something in a directory, and not to that itself.
fn is_below(dir: &[u8], path: &[u8]) -> bool {
    strip(dir, path).is_some_and(|rest| rest.len() > 1)
}

/// The names in a path; `.` is none.
fn names(path: &BStr) -> VecDeque<BString> {
    let names = path.split(|b| *b == b'/').filter(|n| !n.is_empty() && *n != b".");
    names.map(BString::from).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use bstr::{BStr, BString};
    use whose_kernel::{Class, Host, Options};

    use super::{Kind, Parts, stored};
    use crate::model::{Fact, FileRole, Mounting};
    use crate::storage::DRIVERS;

    fn text(path: &Path) -> BString {
        path.to_str().unwrap().into()
    }

    #[test]
    fn mounts_lie_where_links_lead() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (up, from, other) = (dir.join("up"), dir.join("secrets"), dir.join("other"));
        for made in [&up.join("var"), &up.join("run"), &dir.join("low"), &from, &other] {
            std::fs::create_dir_all(made).unwrap();
            std::fs::write(made.join("file"), "x").unwrap();
        }
        symlink("/run", up.join("var/run")).unwrap();
        symlink("loop", up.join("loop")).unwrap();
        let host = Host::open(Options::default()).unwrap();
        let driver = DRIVERS.iter().find(|d| d.name() == "overlay" && d.stacks()).copied();
        let dirs = [text(&up), text(&dir.join("low"))];
        let mounting =
            |at: &str, from: Option<&Path>| Mounting { at: at.into(), from: from.map(text) };
        let ask = |mounts: &[Mounting], path: &str| {
            stored(
                &host,
                &Parts {
                    dirs: &dirs,
                    names: &[],
                    driver,
                    kind: Kind::Overlay,
                    mounts,
                    within: None,
                },
                BStr::new(path),
            )
        };
        let mounts = [
            mounting("/not/there/yet", Some(&other)),
            mounting("/var/run/secrets", Some(&from)),
            mounting("/run", None),
        ];
        let told = |path: &str| ask(&mounts, path).unwrap().unwrap();
        let secret = text(&from.join("file"));
        for path in ["/var/run/secrets/file", "/run/secrets/file"] {
            assert_eq!(told(path).host.known(), Some(&secret), "{path}");
            assert_eq!(told(path).inside, Some("/run/secrets/file".into()));
        }
        // The rest of it is in memory, whatever lies below.
        assert_eq!(told("/var/run/file").host, Fact::Absent);
        assert_eq!(told("/not/there/yet/file").host.known(), Some(&text(&other.join("file"))));
        assert_eq!(ask(&mounts, "/not/there/file"), Ok(None));
        let circle = ask(&[mounting("/loop/x", Some(&other))], "/var/file").unwrap_err();
        assert_eq!(circle.class, Class::Malformed);
    }

    #[test]
    fn what_is_broken_is_a_gap_and_nothing_leads_out() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (up, low) = (dir.join("up"), dir.join("low"));
        for made in [&up, &low] {
            std::fs::create_dir(made).unwrap();
            std::fs::write(made.join("file"), "x").unwrap();
        }
        for (name, to) in [("a", "b"), ("b", "/a"), ("self", "self/x"), ("out", "../../../low")] {
            symlink(to, up.join(name)).unwrap();
        }
        let host = Host::open(Options::default()).unwrap();
        let driver = DRIVERS.iter().find(|d| d.name() == "overlay" && d.stacks()).copied();
        // All of the host, as some agents have it.
        let mounts = [Mounting { at: "/host".into(), from: Some("/".into()) }];
        let ask = |layers: &[&Path], path: &str| {
            let dirs: Vec<BString> = layers.iter().copied().map(text).collect();
            let parts = Parts {
                dirs: &dirs,
                names: &[],
                driver,
                kind: Kind::Overlay,
                mounts: &mounts,
                within: None,
            };
            stored(&host, &parts, BStr::new(path))
        };
        for circle in ["/a", "/b/x", "/self"] {
            assert_eq!(ask(&[&up, &low], circle).unwrap_err().class, Class::Malformed, "{circle}");
        }
        for none in ["/out/file", "/file/x", "/file/..x"] {
            assert_eq!(ask(&[&up, &low], none), Ok(None), "{none}");
        }
        let file = text(&up.join("file"));
        for path in ["/../../file".into(), format!("/host/{}/file", up.display())] {
            let told = ask(&[&up, &low], &path).unwrap().unwrap();
            assert_eq!(told.host.known(), Some(&file), "{path}");
        }
        // Metadata without a layer, and a layer that is no directory any more.
        for lost in [dir.join("gone"), low.join("file")] {
            let gap = ask(&[&up, &lost], "/file").unwrap_err();
            assert_eq!(gap.class, Class::Gone, "{gap}");
            assert_eq!(ask(&[&lost, &low], "/file").unwrap_err().class, Class::Gone);
        }
        assert_eq!(ask(&[], "/file").unwrap_err().class, Class::Unsupported);
    }

    #[test]
    fn marks_of_fuse_overlayfs() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (up, low) = (dir.join("up"), dir.join("low"));
        for made in ["low/t/d", "low/t/e", "up/t/d"] {
            std::fs::create_dir_all(dir.join(made)).unwrap();
        }
        for file in ["low/t/a", "low/t/b", "low/t/d/x", "low/t/e/y", "up/t/d/n"] {
            std::fs::write(dir.join(file), file).unwrap();
        }
        for mark in ["up/t/.wh.a", "up/t/d/.wh..wh..opq", "up/t/.wh.e"] {
            std::fs::write(dir.join(mark), "").unwrap();
        }
        let host = Host::open(Options::default()).unwrap();
        let dirs = [text(&up), text(&low)];
        let ask = |kind, path: &str| {
            let parts =
                Parts { dirs: &dirs, names: &[], driver: None, kind, mounts: &[], within: None };
            let told = stored(&host, &parts, BStr::new(path)).unwrap()?;
            Some((told.host.known().cloned(), told.role))
        };
        let is = |path: &Path| Some((Some(text(path)), Some(FileRole::FuseLayer)));
        assert_eq!(ask(Kind::Fuse, "/t/b"), is(&low.join("t/b")));
        assert_eq!(ask(Kind::Fuse, "/t/d/n"), is(&up.join("t/d/n")));
        for none in ["/t/a", "/t/d/x", "/t/e/y", "/t/e", "/t/.wh.a", "/t/d/.wh..wh..opq"] {
            assert_eq!(ask(Kind::Fuse, none), None, "{none}");
        }
        // To the kernel's overlay these are files like any.
        assert_eq!(ask(Kind::Overlay, "/t/a").unwrap().0, Some(text(&low.join("t/a"))));
        assert_eq!(ask(Kind::Overlay, "/t/.wh.a").unwrap().0, Some(text(&up.join("t/.wh.a"))));
    }

    #[test]
    fn a_users_word_leads_to_nothing_but_his_own() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (store, other) = (dir.join("store"), dir.join("other"));
        for made in [&store.join("low"), &store.join("up"), &store.join("vol"), &other] {
            std::fs::create_dir_all(made).unwrap();
            std::fs::write(made.join("file"), "x").unwrap();
        }
        symlink(&other, store.join("link")).unwrap();
        symlink(other.join("file"), store.join("up/out")).unwrap();
        let host = Host::open(Options::default()).unwrap();
        let driver = DRIVERS.iter().find(|d| d.name() == "overlay" && d.stacks()).copied();
        let within = text(&store);
        let ask = |layers: &[&str], from: &Path, path: &str| {
            let dirs: Vec<BString> = layers.iter().map(|l| text(&store.join(l))).collect();
            let mounts = [Mounting { at: "/vol".into(), from: Some(text(from)) }];
            let within = Some(BStr::new(&within));
            let parts = Parts {
                dirs: &dirs,
                names: &[],
                driver,
                kind: Kind::Overlay,
                mounts: &mounts,
                within,
            };
            stored(&host, &parts, BStr::new(path))
        };
        let volume = store.join("vol");
        let told = |path: &str| ask(&["up", "low"], &volume, path).unwrap().unwrap().host;
        assert_eq!(told("/file").known(), Some(&text(&store.join("up/file"))));
        assert_eq!(told("/vol/file").known(), Some(&text(&volume.join("file"))));
        // A link in a layer is the container's: beneath its root there is no such file.
        assert_eq!(ask(&["up", "low"], &volume, "/out"), Ok(None));
        for layers in [["link", "low"], ["up", "link"], ["../other", "low"], ["up", "../other"]] {
            let refused = ask(&layers, &volume, "/file").unwrap_err();
            assert_eq!(refused.class, Class::Forbidden, "{layers:?}: {refused}");
        }
        for from in [other.clone(), store.join("../other"), store.clone()] {
            let refused = ask(&["up", "low"], &from, "/vol/file").unwrap_err();
            assert_eq!(refused.class, Class::Forbidden, "{from:?}: {refused}");
        }
    }
}
