//! From paths and ids to layers, and from layers to their containers and images.

use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};
use whose_fields::Needs;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::gap::what;
use crate::model::{Described, Engine, Evidence, Gap, Layer, LayerKind, Owner, OwnerKind, Source};
use crate::runtime::{StateRoot, by_engine};
use crate::storage::docker_layerdb::{self as table, Entry, Image, LayerDb};
use crate::storage::{self, DRIVERS, Driver, Part};

/// A layer's directory in an engine's store.
#[derive(Clone)]
pub struct Found {
    /// Number of the engine's root.
    pub root: usize,
    /// The engine.
    pub engine: Engine,
    /// Its driver.
    driver: &'static dyn Driver,
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

/// What a layer is, and whose.
#[derive(Clone, Debug, Default)]
pub struct LayerInfo {
    /// The layer; its owners are full ids.
    pub layer: Layer,
    /// The images that hold it, with names first.
    pub images: Vec<Image>,
    /// Whether it is a step of builds, and in no image that has a name.
    pub is_step: bool,
    /// Whether layers were being added while it was looked up.
    pub is_changing: bool,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What could not be read: then kind, owners or images are not complete.
    pub gaps: Vec<Gap>,
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
        let info = self.layer(&found, Some(BStr::new(&owner.id)), users);
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
            let Some(number) = self.root_at(driver.engine(), root)? else { continue };
            let below = storage::entry(driver, place.name.as_ref());
            return Ok(Some(Found {
                root: number,
                engine: driver.engine(),
                driver,
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
            let mut found: Vec<Found> = Vec::new();
            for driver in DRIVERS.iter().filter(|d| d.engine() == engine) {
                let mut db = match LayerDb::open(&state.root, *driver) {
                    Ok(Some(db)) => db,
                    Ok(None) => continue,
                    Err(e) => {
                        problems.push(Gap::from_read(what::LAYERS, &e));
                        continue;
                    }
                };
                match names_of(&state.root, *driver, &mut db, id) {
                    Ok(names) => found.extend(names.into_iter().map(|name| {
                        let entry = state.root.join(&storage::entry(*driver, name.as_ref()));
                        let entry = host.unrooted(entry.as_ref()).unwrap_or(entry.as_ref()).into();
                        let (driver, part) = (*driver, Part::Whole);
                        Found { root: number, engine, driver, name, entry, part, inside: None }
                    })),
                    Err(e) => problems.push(Gap::from_read(what::LAYERS, &e)),
                }
            }
            (!found.is_empty()).then_some(found)
        });
        match found {
            Some(found) => (found, Vec::new()),
            None => {
                problems.extend(gaps);
                (Vec::new(), problems)
            }
        }
    }

    /// The directories of all layers of all engines' stores, as the host names them; with what could
    /// not be looked at.
    pub fn all_layers(&mut self) -> (Vec<BString>, Vec<Gap>) {
        let host = self.host();
        let (mut gaps, roots) = self.all_roots();
        let mut entries = Vec::new();
        for (engine, state) in roots {
            for driver in DRIVERS.iter().filter(|d| d.engine() == *engine) {
                let names = match LayerDb::open(&state.root, *driver) {
                    Ok(Some(_)) => names_in(&state.root, *driver),
                    Ok(None) => continue,
                    Err(e) => Err(e),
                };
                match names {
                    Ok(names) => entries.extend(names.into_iter().map(|name| {
                        let entry = state.root.join(&storage::entry(*driver, name.as_ref()));
                        host.unrooted(entry.as_ref()).unwrap_or(entry.as_ref()).into()
                    })),
                    Err(e) => gaps.push(Gap::from_read(what::LAYERS, &e)),
                }
            }
        }
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
        let entry = storage::entry(found.driver, found.name.as_ref());
        let (_, base, _) = self.store(found.root)?;
        let rel = path.strip_prefix(base.as_slice())?.strip_prefix(b"/")?;
        Some((entry, rel, &state.root))
    }

    /// Whether the layer's directory is there.
    #[must_use]
    pub fn has_layer_dir(&self, found: &Found) -> bool {
        let rel = storage::entry(found.driver, found.name.as_ref());
        self.roots.get(found.root).is_some_and(|(_, state)| state.root.has_dir(&rel))
    }

    /// The container in whose own directory, `<data root>/containers/<id>`, a path lies; with the
    /// number of the engine's root.
    ///
    /// # Errors
    /// When the engine's root can't be looked at.
    pub fn state_dir_of(&mut self, path: &BStr) -> Result<Option<(usize, BString)>, Gap> {
        const DIR: &[u8] = b"/containers/";
        for at in path.find_iter(DIR).filter(|at| *at > 0) {
            let (base, rest) = (BStr::new(&path[..at]), &path[at + DIR.len()..]);
            let id = rest.split(|b| *b == b'/').next().unwrap_or_default();
            if !crate::runtime::segment::is_hex64(id) {
                continue;
            }
            let Some(number) = self.root_at(Engine("docker"), base)? else { continue };
            let Some((_, state)) = self.roots.get(number) else { continue };
            let config = crate::state::docker::container_file(id, "config.v2.json");
            match state.root.look(&config) {
                Ok(_) => return Ok(Some((number, id.into()))),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(Gap::from_read(what::DESCRIPTION, &e)),
            }
        }
        Ok(None)
    }

    /// The data root in one of whose volumes a path lies.
    #[must_use]
    pub fn volume_of<'p>(&self, path: &'p BStr) -> Option<&'p BStr> {
        let has = |base: &[u8], dir: &[u8]| self.host().root().has_dir(&[base, dir].concat());
        for at in path.find_iter(b"/volumes/").filter(|at| *at > 0) {
            let base = &path[..at];
            let safe = self.host().guard(base).is_ok();
            if safe && has(base, b"/containers") && has(base, b"/image") {
                return Some(BStr::new(base));
            }
        }
        None
    }

    /// A container by what this root says of it, and no other: one engine's directory may hold what
    /// another's container wrote.
    pub fn container_of_root(&mut self, root: usize, id: &BStr, needs: Needs) -> Rc<Owner> {
        let Some((engine, state)) = self.roots.get(root) else {
            return Rc::new(Owner::new(OwnerKind::Container, Engine::UNKNOWN, id));
        };
        let engine = *engine;
        let described = match by_engine(engine).and_then(|r| r.describe(state, id, needs)) {
            None => Described::No,
            Some(Ok(description)) => Described::Yes(Box::new(description)),
            Some(Err(e)) => Described::Unread(Gap::from_read(what::DESCRIPTION, &e)),
        };
        let owner = self.container(engine, id, needs).owner;
        if owner.described == described {
            return owner;
        }
        let mut own = Owner::with_key(OwnerKind::Container, engine, id);
        own.described = described;
        own.adopt();
        Rc::new(own)
    }

    /// What a layer is, and whose. With `container` its place is that in this container's stack.
    pub fn layer_info(&mut self, found: &Found, container: Option<&BStr>) -> LayerInfo {
        self.layer(found, container, true)
    }

    fn layer(&mut self, found: &Found, container: Option<&BStr>, users: bool) -> LayerInfo {
        let Some((_, state)) = self.roots.get(found.root) else { return LayerInfo::default() };
        let root = &state.root;
        let files = root.join(&found.driver.files(found.name.as_ref()));
        let mut info = LayerInfo::default();
        info.layer.id = found.name.clone();
        info.layer.dir = self.host().unrooted(files.as_ref()).unwrap_or(files.as_ref()).into();
        info.layer.driver = found.driver.name().into();
        if storage::is_removing(&found.name) {
            info.layer.kind = Some(LayerKind::Removing);
            return info;
        }
        let none = || ReadError::new(root.join(b"image"), Class::Gone, "it has no table of layers");
        let mut db = match LayerDb::open(root, found.driver).and_then(|db| db.ok_or_else(none)) {
            Ok(db) => db,
            Err(e) => {
                info.gaps.push(Gap::from_read(what::LAYERS, &e));
                return info;
            }
        };
        let mut work = Work { found, state, db: &mut db, info };
        work.run(container, users);
        work.info
    }
}

/// What `layer:` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerId<'i> {
    /// A directory's name, or its beginning.
    Name(&'i BStr),
    /// The digits of a chain or diff id, or their beginning.
    Digest(&'i BStr),
}

/// The names of a store's layers that match. An exact name leaves those out that only begin so.
fn names_of(
    root: &Root,
    driver: &dyn Driver,
    db: &mut LayerDb,
    id: &LayerId<'_>,
) -> Result<Vec<BString>, ReadError> {
    let mut names: Vec<BString> = Vec::new();
    match id {
        LayerId::Name(name) => {
            let exact = storage::entry(driver, name);
            if driver.place(exact.as_ref()).is_some_and(|p| p.name == *name) && root.has_dir(&exact)
            {
                return Ok(vec![BString::from(*name)]);
            }
            names = names_in(root, driver)?;
            names.retain(|n| n.starts_with(name));
            // What the table has and the disk has not is known all the same.
            if names.is_empty()
                && matches!(db.entry(root, name).0, Some(Entry::Chain(_) | Entry::Upper(_)))
            {
                names.push(BString::from(*name));
            }
            // The init layer goes with its container's: the beginning of both names the latter.
            if let [a, b] = names.as_slice()
                && (is_init_of(a, b) || is_init_of(b, a))
            {
                names.retain(|n| !n.ends_with(b"-init"));
            }
        }
        LayerId::Digest(digits) => {
            for chain in db.chains(root)? {
                let read = db.chain(root, chain.as_ref());
                if chain.starts_with(digits) {
                    names.push(read?.cache);
                } else if let Ok(of) = read
                    && of.diff.starts_with(digits)
                {
                    names.push(of.cache);
                }
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn is_init_of(a: &BString, b: &BString) -> bool {
    a.strip_suffix(b"-init") == Some(&b[..])
}

fn names_in(root: &Root, driver: &dyn Driver) -> Result<Vec<BString>, ReadError> {
    let store = driver.stores().first().copied().unwrap_or_default();
    let entries = match root.list(store.as_bytes(), 400_000) {
        Ok(entries) => entries,
        Err(e) if e.class == Class::Gone => Vec::new(),
        Err(e) => return Err(e),
    };
    let is_layer =
        |name: &BString| driver.place(storage::entry(driver, name.as_ref()).as_ref()).is_some();
    Ok(entries.into_iter().map(|e| e.name).filter(is_layer).collect())
}

/// Whether a directory of the host holds this driver's table.
pub(super) fn is_data_root(host: &Root, root: &BStr, driver: &dyn Driver) -> bool {
    host.has_dir(&[root.as_bytes(), b"/image/", driver.name().as_bytes(), b"/layerdb"].concat())
}

/// Looking one layer up.
struct Work<'w> {
    found: &'w Found,
    state: &'w StateRoot,
    db: &'w mut LayerDb,
    info: LayerInfo,
}

impl Work<'_> {
    fn run(&mut self, container: Option<&BStr>, users: bool) {
        let (root, name) = (&self.state.root, BStr::new(&self.found.name));
        // The container's own layers are two small files away.
        let own = container.and_then(|of| match self.db.in_mount(root, of, name) {
            Ok(Some(entry)) => Some(entry),
            _ => self.db.in_stack(root, of, name).ok().flatten(),
        });
        // Whose stack it is in uses it: the rest need not be known.
        let only = container.filter(|_| own.is_some() && !users);
        let (entry, problems) = match own {
            Some(entry) => (Some(entry), Vec::new()),
            None => self.db.entry(root, name),
        };
        self.gaps(problems);
        match entry {
            Some(Entry::Upper(of)) => self.upper(of),
            Some(Entry::Init(of)) => self.init(of),
            Some(Entry::Chain(chain)) => self.image(chain, container, only),
            Some(Entry::Removing) => {
                self.info.layer.kind = Some(LayerKind::Removing);
                self.seen("its removal has begun", self.db.shown(root));
            }
            Some(Entry::Unknown) => self.unknown(),
            None => {}
        }
    }

    fn gaps(&mut self, problems: Vec<ReadError>) {
        for problem in problems {
            let gap = Gap::from_read(what::LAYERS, &problem);
            if !self.info.gaps.contains(&gap) {
                self.info.gaps.push(gap);
            }
        }
    }

    fn seen(&mut self, detail: impl Into<BString>, path: BString) {
        self.info.evidence.push(Evidence::agreeing(Source::StateFile, detail, path));
    }

    fn upper(&mut self, of: BString) {
        let path = self.db.shown_mount(&self.state.root, of.as_ref(), "mount-id");
        self.seen(format!("the writable layer of {of}"), path);
        self.info.layer.kind = Some(LayerKind::Upper);
        if self.found.driver.name() == "overlay2" {
            self.check_lower(&of);
        }
        self.info.layer.owners = vec![of];
    }

    /// overlay2 keeps the stack it mounts in `lower`: it has to be the table's.
    fn check_lower(&mut self, of: &BString) {
        let root = &self.state.root;
        let entry = storage::entry(self.found.driver, self.found.name.as_ref());
        let lower = crate::state::docker_layers::lower(root, &entry);
        let (Ok(lower), Ok(of)) = (lower, self.count(of.as_ref())) else { return };
        let path = root.join(&[&entry[..], b"/lower"].concat());
        let detail = format!("{} layers below", lower.len());
        self.info.evidence.push(if u32::try_from(lower.len()) == Ok(of) {
            Evidence::agreeing(Source::StateFile, detail, path)
        } else {
            Evidence::against(Source::StateFile, detail, path)
        });
    }

    /// How many lowers a container's stack has.
    fn count(&mut self, container: &BStr) -> Result<u32, ReadError> {
        let root = &self.state.root;
        let init = u32::from(self.db.init(root, container)?.is_some());
        let top = self.db.top(root, container)?;
        let stack = self.db.stack(root, top)?;
        Ok(init + u32::try_from(stack.len()).unwrap_or(u32::MAX - 1))
    }

    fn init(&mut self, of: BString) {
        let path = self.db.shown_mount(&self.state.root, of.as_ref(), "init-id");
        self.seen(format!("the init layer of {of}"), path);
        self.info.layer.kind = Some(LayerKind::Init);
        if self.found.is_stacked() {
            match self.count(of.as_ref()) {
                Ok(count) => {
                    self.info.layer.index = Some(0);
                    self.info.layer.of = Some(count);
                }
                Err(e) => self.gaps(vec![e]),
            }
        }
        self.info.layer.owners = vec![of];
    }

    fn image(&mut self, chain: BString, container: Option<&BStr>, only: Option<&BStr>) {
        let root = &self.state.root;
        self.seen(
            format!("the layer of chain sha256:{chain}"),
            self.db.shown_chain(root, chain.as_ref()),
        );
        let digest = |hex: &BString| Some([b"sha256:", hex.as_slice()].concat().into());
        self.info.layer.chain_id = digest(&chain);
        match self.db.chain(root, chain.as_ref()) {
            Ok(of) => self.info.layer.diff_id = digest(&of.diff),
            Err(e) => self.gaps(vec![e]),
        }
        let users = match only {
            Some(container) => table::Read { list: vec![container.into()], problems: Vec::new() },
            None => self.db.users(root, chain.as_ref()),
        };
        self.gaps(users.problems);
        let images = self.db.images(root, chain.as_ref());
        self.gaps(images.problems);
        if self.found.is_stacked() {
            self.place(container, &users.list, &chain);
        }
        self.info.layer.owners = users.list;
        self.info.layer.images = images
            .list
            .iter()
            .flat_map(|i| match i.names.as_slice() {
                [] => digest(&i.id).into_iter().collect(),
                names => names.to_vec(),
            })
            .collect();
        let idle = self.info.layer.owners.is_empty()
            && self.info.gaps.is_empty()
            && images.list.iter().all(|i| i.names.is_empty());
        self.info.is_step =
            idle && images.list.iter().any(|i| self.db.is_step(root, i.id.as_ref()));
        self.info.layer.kind = Some(match idle {
            true if images.list.is_empty() => self.unused(&chain),
            true if self.info.is_step => LayerKind::BuildCache,
            _ => LayerKind::Image,
        });
        self.info.images = images.list;
    }

    /// The place among the lowers: in the stack of the container that was asked for, else in that of
    /// all who use it, if they agree.
    fn place(&mut self, container: Option<&BStr>, users: &[BString], chain: &BString) {
        let stacks = match container {
            Some(container) => vec![container],
            None => users.iter().map(|u| BStr::new(u.as_slice())).collect(),
        };
        let mut places: Vec<(usize, usize)> = Vec::new();
        for of in stacks {
            match self.place_in(of, chain) {
                Ok(Some(place)) if !places.contains(&place) => places.push(place),
                Ok(_) => {}
                Err(e) => self.gaps(vec![e]),
            }
        }
        if let [(at, of)] = places.as_slice() {
            self.info.layer.index = u32::try_from(*at).ok();
            self.info.layer.of = u32::try_from(*of).ok();
        }
    }

    fn place_in(
        &mut self,
        container: &BStr,
        chain: &BString,
    ) -> Result<Option<(usize, usize)>, ReadError> {
        let root = &self.state.root;
        let init = usize::from(self.db.init(root, container)?.is_some());
        let top = self.db.top(root, container)?;
        let stack = self.db.stack(root, top)?;
        let at = stack.iter().position(|(id, _)| id == chain);
        Ok(at.map(|at| (at + init, stack.len() + init)))
    }

    /// An image layer of no image and no container.
    fn unused(&mut self, chain: &BString) -> LayerKind {
        self.info.is_changing = self.db.is_changing(&self.state.root);
        match table::buildkit_names(&self.state.root, chain.as_ref()) {
            Ok(Some(true)) => {
                let path = self.state.root.join(b"buildkit/snapshots.db");
                self.seen("BuildKit's database names it", path);
                LayerKind::BuildCache
            }
            _ => LayerKind::Unused,
        }
    }

    /// Not in the table, all of which was read.
    fn unknown(&mut self) {
        let root = &self.state.root;
        self.seen("no container and no image layer has it", self.db.shown(root));
        self.info.is_changing = self.db.is_changing(root);
        let base = self.found.name.strip_suffix(b"-init").unwrap_or(&self.found.name);
        let path = root.join(b"buildkit/snapshots.db");
        match table::buildkit_names(root, BStr::new(base)) {
            Ok(Some(true)) => {
                self.seen("BuildKit's database names it", path);
                self.info.layer.kind = Some(LayerKind::BuildCache);
            }
            Ok(named) => {
                if named.is_some() {
                    self.seen("BuildKit's database does not name it", path);
                }
                self.info.layer.kind = Some(LayerKind::Orphan);
            }
            Err(e) => self.gaps(vec![e]),
        }
    }
}
