//! From paths and ids to layers, and from layers to their containers and images.

use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::root::Root;
use whose_kernel::{Class, Host, ReadError};

use super::Index;
use super::describe::Members;
use crate::model::gap::what;
use crate::model::{Described, Engine, Gap, Layer, LayerKind, Owner, OwnerKind};
use crate::runtime::segment::is_dockers_namespace;
use crate::runtime::{StateRoot, by_engine};
use crate::storage::table::{self, Asked};
pub use crate::storage::table::{LayerId, LayerInfo, User};
use crate::storage::{self, DRIVERS, Driver, Part};

const DOCKER: Engine = Engine("docker");
const CONTAINERD: Engine = Engine("containerd");
const PODMAN: Engine = Engine("podman");

/// A layer's directory in an engine's store.
#[derive(Clone)]
pub struct Found {
    /// Number of the engine's root.
    pub root: usize,
    /// The engine.
    pub engine: Engine,
    /// Its driver.
    pub(super) driver: &'static dyn Driver,
    /// The directory of the driver that it lies in.
    pub(super) store: &'static str,
    /// The layer's name.
    pub name: BString,
    /// The layer's directory, a path of the host.
    pub entry: BString,
    /// What part of it was named.
    pub part: Part,
    /// For files: their path from the root of the layer.
    pub inside: Option<BString>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("entry", &self.entry).field("part", &self.part).finish()
    }
}

impl Found {
    /// Whether the driver puts layers on top of one another.
    #[must_use]
    pub fn is_stacked(&self) -> bool {
        self.driver.stacks()
    }

    /// Whether a program, and not the kernel, does that.
    #[must_use]
    pub fn is_below_fuse(&self) -> bool {
        self.driver.name().starts_with("fuse-")
    }
}

impl Index<'_> {
    /// The layer that a host path lies in: proven to be a path of the host, without links. `owner`
    /// is the container whose stack counts for the place among the lowers. Without `users` it is the
    /// only one looked at, if the layer is one of its own, and named as the layer's owner. `None`
    /// when it is in no layer of an engine known here.
    ///
    /// # Errors
    /// When there is such a layer and it could not be read what it is; the answer is not complete.
    pub fn layer_of(
        &mut self,
        path: &BStr,
        owner: &Owner,
        users: bool,
    ) -> Result<Option<Layer>, Gap> {
        let Some(found) = self.layer_at(path)? else { return Ok(None) };
        let info = self.layer(&found, Some(BStr::new(&owner.key())), users);
        info.gaps.into_iter().next().map_or(Ok(Some(info.layer)), Err)
    }

    /// The layer that a path lies in by its text, if that text leads through an engine's store. Of
    /// several the outermost counts: what is in a layer is its container's to write.
    ///
    /// # Errors
    /// When the engine's root can't be looked at.
    pub fn layer_at(&mut self, path: &BStr) -> Result<Option<Found>, Gap> {
        for (root, driver, place) in storage::readings(path) {
            self.host().guard(root).map_err(|e| Gap::from_read(what::LAYERS, &e))?;
            if !is_data_root(self.host().root(), root, driver) {
                continue;
            }
            let Some((number, engine)) = self.store_at(root, driver)? else { continue };
            let below = storage::entry(place.store, place.name.as_ref());
            return Ok(Some(Found {
                root: number,
                engine,
                driver,
                store: place.store,
                entry: [root.as_bytes(), b"/", &below].concat().into(),
                name: place.name,
                part: place.part,
                inside: place.inside,
            }));
        }
        Ok(None)
    }

    /// Layers by the full name of their directory or a beginning of it, or by chain or diff id.
    /// With the gaps that keep an empty result from proving anything.
    pub fn layers_named(&mut self, id: &LayerId<'_>) -> (Vec<Found>, Vec<Gap>) {
        let mut problems: Vec<Gap> = Vec::new();
        let host = self.host();
        let (found, gaps) = self.each_root(&mut |number, engine, state| {
            let found = named_in(host, (number, engine, state), id, &mut problems);
            (!found.is_empty()).then_some(found)
        });
        if let Some(found) = found {
            return (found, Vec::new());
        }
        let all: Vec<usize> = self.roots.told().map(|(number, _)| number).collect();
        let further: Vec<usize> = all.into_iter().flat_map(|at| self.further_of(at)).collect();
        for number in further {
            let Some((engine, state)) = self.roots.get(number) else { continue };
            let found = named_in(host, (number, *engine, state), id, &mut problems);
            if !found.is_empty() {
                return (found, Vec::new());
            }
        }
        problems.extend(gaps);
        (Vec::new(), problems)
    }

    /// The number of the root at a path where this driver's table is, and an engine that it serves.
    fn store_at(
        &mut self,
        path: &BStr,
        driver: &dyn Driver,
    ) -> Result<Option<(usize, Engine)>, Gap> {
        for engine in driver.engines() {
            if let Some(number) = self.root_at(*engine, path)? {
                return Ok(Some((number, *engine)));
            }
        }
        Ok(None)
    }

    /// The numbers of the further stores of images that a root is configured with. A user's counts where
    /// it is his own or root's: he may name anybody's.
    pub(super) fn further_of(&mut self, number: usize) -> Vec<usize> {
        let Some((_, state)) = self.roots.get(number) else { return Vec::new() };
        let (paths, user) = (state.further.clone(), state.users_own().cloned());
        let uid = user.as_ref().and_then(|user| self.uid_named(user.as_ref()));
        let host = self.host();
        let is_of = |path: &BStr, uid: u32| host.owned_dir(BStr::new("/"), path, uid).is_ok();
        let mut numbers = Vec::new();
        for path in &paths {
            let path = BStr::new(path.trim_end_with(|c| c == '/'));
            let is_his = || uid.is_some_and(|uid| is_of(path, uid) || is_of(path, 0));
            if !path.starts_with(b"/") || host.guard(path).is_err() {
                continue;
            }
            if user.is_some() && !is_his() {
                continue;
            }
            let of_storage = |d: &&&dyn Driver| d.table() == table::Kind::ContainersStorage;
            for driver in DRIVERS.iter().filter(of_storage) {
                if is_data_root(host.root(), path, *driver)
                    && let Ok(Some((number, _))) = self.store_at(path, *driver)
                {
                    numbers.push(number);
                }
            }
        }
        numbers
    }

    /// The directories of all layers of all engines' stores, as the host names them; with what could
    /// not be looked at.
    pub fn all_layers(&mut self) -> (Vec<BString>, Vec<Gap>) {
        let host = self.host();
        let (mut gaps, roots) = self.all_roots();
        let mut entries = Vec::new();
        for (engine, state) in roots {
            for driver in DRIVERS.iter().filter(|d| d.engines().contains(engine)) {
                let names = match table::open(&state.root, *driver) {
                    Ok(Some(_)) => table::all(&state.root, *driver),
                    Ok(None) => continue,
                    Err(e) => Err(e),
                };
                match names {
                    Ok(names) => entries.extend(names.into_iter().map(|(store, name)| {
                        let entry = state.root.join(&storage::entry(store, name.as_ref()));
                        host.unrooted(entry.as_ref()).unwrap_or(entry.as_ref()).into()
                    })),
                    Err(e) => gaps.push(Gap::from_read(what::LAYERS, &e)),
                }
            }
        }
        // Engines may share a store.
        entries.sort();
        entries.dedup();
        (entries, gaps)
    }

    /// The engine of a root, its path as the host names it, and the user whose engine it is.
    #[must_use]
    pub fn store(&self, root: usize) -> Option<(Engine, BString, Option<BString>)> {
        let (engine, state) = self.roots.get(root)?;
        let path = state.root.shown();
        let path = self.host().unrooted(path).unwrap_or(path).into();
        Some((*engine, path, state.user.clone()))
    }

    /// The engine's root, and beneath it the layer's directory and a path of the host.
    pub(super) fn beneath<'p>(
        &self,
        found: &Found,
        path: &'p BStr,
    ) -> Option<(BString, &'p [u8], &Root)> {
        let (_, state) = self.roots.get(found.root)?;
        let entry = storage::entry(found.store, found.name.as_ref());
        let (_, base, _) = self.store(found.root)?;
        let rel = path.strip_prefix(base.as_slice())?.strip_prefix(b"/")?;
        Some((entry, rel, &state.root))
    }

    /// Whether the layer's directory is there.
    #[must_use]
    pub fn has_layer_dir(&self, found: &Found) -> bool {
        let rel = storage::entry(found.store, found.name.as_ref());
        self.roots.get(found.root).is_some_and(|(_, state)| state.root.look(&rel).is_ok())
    }

    /// A container by what this root says of it, and no other: one engine's directory may hold what
    /// another's container wrote.
    pub fn container_of_root(&mut self, root: usize, user: &User, needs: Needs) -> Rc<Owner> {
        let root = user.root.unwrap_or(root);
        let (engine, key) = (user.engine, BStr::new(&user.key));
        let of = self.roots.get(root).map_or(Engine::UNKNOWN, |(of, _)| *of);
        if of != engine {
            // Docker's containers in the containerd that it uses; else it is not known whose they are.
            let is_dockers = engine == DOCKER && self.is_hosts(root);
            // Another engine's with which it shares a store is described by that one's files there.
            let path = self.store(root).map(|(_, path, _)| path).unwrap_or_default();
            return match self.root_at(engine, path.as_ref()) {
                _ if is_dockers => self.container(engine, key, needs).owner,
                Ok(Some(number)) if engine != DOCKER => {
                    let user = User { root: None, ..user.clone() };
                    self.container_of_root(number, &user, needs)
                }
                _ => Rc::new(Owner::with_key(OwnerKind::Container, engine, key)),
            };
        }
        if of == CONTAINERD {
            self.find_run_of(root);
        }
        let container = self.container(engine, key, needs);
        let has_none = container.pids.as_ref().is_ok_and(Vec::is_empty);
        let owner = container.owner;
        let Some((_, state)) = self.roots.get(root) else { return owner };
        let described = match by_engine(engine).and_then(|r| r.describe(state, key, needs)) {
            None => Described::No,
            Some(Ok(description)) => Described::Yes(Box::new(description)),
            Some(Err(e)) => Described::Unread(Gap::from_read(what::DESCRIPTION, &e)),
        };
        if owner.described == described {
            return owner;
        }
        let mut own = Owner::with_key(OwnerKind::Container, engine, key);
        own.described = described;
        own.adopt();
        if needs.has(Needs::LIVENESS) && has_none {
            own.state = self.state(&own, Members::None);
        }
        Rc::new(own)
    }

    /// What a layer is, and whose. With `container` its place is that in this container's stack.
    pub fn layer_info(&mut self, found: &Found, container: Option<&BStr>) -> LayerInfo {
        self.layer(found, container, true)
    }

    fn layer(&mut self, found: &Found, container: Option<&BStr>, users: bool) -> LayerInfo {
        let further = self.further_of(found.root);
        let further = further.iter().filter_map(|number| self.roots.get(*number));
        let further: Vec<&Root> = further.map(|(_, state)| &state.root).collect();
        let Some((_, state)) = self.roots.get(found.root) else { return LayerInfo::default() };
        let root = &state.root;
        let files = root.join(&found.driver.files(found.store, found.name.as_ref()));
        let mut info = LayerInfo::default();
        info.layer.id = found.name.clone();
        info.layer.dir = self.host().unrooted(files.as_ref()).unwrap_or(files.as_ref()).into();
        info.layer.driver = found.driver.name().into();
        if storage::is_removing(&found.name) {
            info.layer.kind = Some(LayerKind::Removing);
            return info;
        }
        let mark = || root.join(&found.driver.table().mark(found.driver));
        let none = || ReadError::new(mark(), Class::Gone, "it has no table of layers");
        match table::open(root, found.driver).and_then(|table| table.ok_or_else(none)) {
            Ok(mut table) => {
                let (driver, store, name) = (found.driver, found.store, BStr::new(&found.name));
                let further = &further;
                table.tell(
                    &Asked { root, driver, store, name, further, container, users },
                    &mut info,
                );
            }
            Err(e) => info.gaps.push(Gap::from_read(what::LAYERS, &e)),
        }
        info.users.iter_mut().for_each(of_docker);
        let is_told = !users && !info.users.is_empty();
        if matches!(info.layer.kind, Some(LayerKind::Image | LayerKind::Unused)) && !is_told {
            self.used_by_others(found, container, &mut info);
        }
        info
    }

    /// Adds the containers of other stores that have this one's images.
    pub(super) fn used_by_others(
        &mut self,
        found: &Found,
        container: Option<&BStr>,
        info: &mut LayerInfo,
    ) {
        if found.driver.table() != table::Kind::ContainersStorage {
            return;
        }
        self.find_all(PODMAN);
        let Some((_, base, _)) = self.store(found.root) else { return };
        let Some((_, state)) = self.roots.get(found.root) else { return };
        let (mut users, mut places) = (std::mem::take(&mut info.users), Vec::new());
        let mut are_whole = true;
        for (number, (_, other)) in self.roots.told() {
            if !other.further.iter().any(|path| path.trim_end_with(|c| c == '/') == base) {
                continue;
            }
            match table::through(&other.root, &state.root, found.driver, found.name.as_ref()) {
                Ok(more) => {
                    for (user, place) in more {
                        if container.is_none_or(|of| user.key == of) {
                            are_whole &= place.is_some();
                            places.extend(place.filter(|place| !places.contains(place)));
                        }
                        users.push(User { root: Some(number), ..user });
                    }
                }
                Err(e) => info.gaps.push(Gap::from_read(what::LAYERS, &e)),
            }
        }
        if users.iter().any(|user| user.root.is_some()) {
            if found.is_stacked() && info.layer.index.is_none() && are_whole {
                info.placed(&places);
            }
            info.layer.kind = Some(LayerKind::Image);
        }
        info.used_by(users);
    }
}

/// The layers of a root that an id fits.
fn named_in(
    host: &Host,
    (number, engine, state): (usize, Engine, &StateRoot),
    id: &LayerId<'_>,
    problems: &mut Vec<Gap>,
) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for driver in DRIVERS.iter().filter(|d| d.engines().contains(&engine)) {
        let mut table = match table::open(&state.root, *driver) {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(e) => {
                problems.push(Gap::from_read(what::LAYERS, &e));
                continue;
            }
        };
        match table.named(&state.root, *driver, id) {
            Ok(names) => found.extend(names.into_iter().map(|(store, name)| {
                let entry = state.root.join(&storage::entry(store, name.as_ref()));
                let entry = host.unrooted(entry.as_ref()).unwrap_or(entry.as_ref()).into();
                let (driver, part, root) = (*driver, Part::Whole, number);
                Found { root, engine, driver, store, name, entry, part, inside: None }
            })),
            Err(e) => problems.push(Gap::from_read(what::LAYERS, &e)),
        }
    }
    found
}

/// In the namespaces that are Docker's the containers are Docker's.
pub(super) fn of_docker(user: &mut User) {
    if let Some((namespace, id)) = user.key.rsplit_once_str("/")
        && user.engine == CONTAINERD
        && is_dockers_namespace(namespace)
    {
        *user = User::new(DOCKER, id);
    }
}

/// Whether a directory of the host holds this driver's table.
pub(super) fn is_data_root(host: &Root, root: &BStr, driver: &dyn Driver) -> bool {
    let mark = driver.table().mark(driver);
    host.look(&[root.as_bytes(), b"/", &mark].concat()).is_ok()
}
