//! The word of containers/storage on a layer: its tables of layers, images and containers.
//!
//! One store may serve several engines: CRI-O's and Podman's containers are told by what those keep
//! with them in the table, Buildah's by its file beside; of others the engine is not known here.

use std::collections::{HashMap, HashSet};

use bstr::{BStr, BString};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::Driver;
use super::table::{Asked, Image, LayerId, LayerInfo, Placed, Table, User, on_disk};
use crate::model::{Engine, LayerKind};
use crate::state::containers_storage::{self as files, Store};
use crate::state::{buildah, crio, podman};

/// Layers in one stack: the library allows 500.
const DEEPEST: usize = 1000;

/// The tables of a driver. Each is read as a whole, before anything is told.
pub(super) fn open(root: &Root, driver: &dyn Driver) -> Result<Box<dyn Table>, ReadError> {
    let store = Store { root, driver: driver.name().as_bytes() };
    let mut layers = HashMap::new();
    for layer in store.layers()? {
        layers.insert(BString::from(layer.id.as_str()), layer);
    }
    let (containers, images) = (store.containers()?, store.images()?);
    let directories = store.directories()?;
    Ok(Box::new(Tables { layers, containers, images, directories }))
}

struct Tables {
    layers: HashMap<BString, files::Layer>,
    containers: Vec<files::Container>,
    images: Vec<files::Image>,
    /// Ids of the containers that have a directory.
    directories: Vec<BString>,
}

/// See [`super::table::through`].
pub(super) fn through(
    root: &Root,
    further: &Root,
    driver: &dyn Driver,
    name: &BStr,
) -> Result<Vec<Placed>, ReadError> {
    let driver = driver.name().as_bytes();
    let store = Store { root, driver };
    let own = store.layers()?;
    // Of a layer that both have, a container has its own store's.
    if own.iter().any(|layer| layer.id.as_bytes() == name.as_ref() as &[u8]) {
        return Ok(Vec::new());
    }
    let others = Store { root: further, driver };
    let mut layers = HashMap::new();
    for layer in others.layers()?.into_iter().chain(own) {
        layers.insert(BString::from(layer.id.as_str()), layer);
    }
    let (images, directories) = (Vec::new(), Vec::new());
    let tables = Tables { layers, containers: store.containers()?, images, directories };
    let mut found = Vec::new();
    let mut stacks = Stacks::of(&tables, name);
    for container in &tables.containers {
        let stack = stacks.stack(root, &store.layers_file(), &container.layer)?;
        if let Some(at) = stack.at.filter(|at| *at > 0) {
            let user = User::new(engine_of(&store, container), container.id.as_str());
            found.push((user, stack.is_whole.then_some((at - 1, stack.count - 1))));
        }
    }
    Ok(found)
}

/// The engine that has a container, by what it keeps with it.
pub(super) fn engine_of(store: &Store<'_>, container: &files::Container) -> Engine {
    if crio::parse_metadata(&container.metadata).is_some() {
        return Engine("cri-o");
    }
    if podman::parse_metadata(&container.metadata).is_some() {
        return Engine("podman");
    }
    match buildah::is_its(store, container) {
        true => Engine("buildah"),
        false => Engine::UNKNOWN,
    }
}

impl Table for Tables {
    fn tell(&mut self, asked: &Asked<'_>, info: &mut LayerInfo) {
        if let Err(e) = self.look_up(asked, info) {
            info.problem(&e);
        }
    }

    fn named(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        id: &LayerId<'_>,
    ) -> Result<Vec<(&'static str, BString)>, ReadError> {
        let store = driver.layers().first().copied().unwrap_or_default();
        let mut found = match id {
            LayerId::Name(name) => on_disk(root, driver, name)?,
            LayerId::Digest(digits) => {
                let wanted = [&b"sha256:"[..], digits].concat();
                let fits = |(_, layer): &(&BString, &files::Layer)| {
                    layer.diff_digest.as_bytes().starts_with(&wanted)
                };
                self.layers.iter().filter(fits).map(|(id, _)| (store, id.clone())).collect()
            }
        };
        found.sort();
        Ok(found)
    }

    fn known(&mut self, _root: &Root) -> Result<Vec<BString>, ReadError> {
        Ok(self.layers.keys().cloned().collect())
    }

    fn stack(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        key: &BStr,
    ) -> Result<Option<Vec<(&'static str, BString)>>, ReadError> {
        let store = driver.layers().first().copied().unwrap_or_default();
        let Some(container) = self.containers.iter().find(|c| *key == *c.id.as_bytes()) else {
            return Ok(None);
        };
        let wrong = |class, why: &'static str| {
            let table = Store { root, driver: driver.name().as_bytes() }.layers_file();
            Err(ReadError::new(root.join(&table), class, why))
        };
        let (mut names, mut next) = (Vec::new(), container.layer.as_str());
        while !next.is_empty() {
            if names.len() == DEEPEST {
                return wrong(Class::Malformed, "layers lead in a circle");
            }
            let Some(layer) = self.layers.get(BStr::new(next)) else {
                return wrong(Class::Unsupported, "a layer lies in another store");
            };
            names.push((store, BString::from(next)));
            if !driver.stacks() {
                break;
            }
            next = layer.parent.as_str();
        }
        Ok(Some(names))
    }
}

impl Tables {
    /// Takes the layers of further stores where stacks lead into them.
    fn take_further(&mut self, asked: &Asked<'_>) {
        let has = |parent: &str| parent.is_empty() || self.layers.contains_key(BStr::new(parent));
        if self.layers.values().all(|layer| has(&layer.parent)) {
            return;
        }
        for root in asked.further {
            let store = Store { root, driver: asked.driver.name().as_bytes() };
            // Where that can't be read a stack is not whole.
            for layer in store.layers().unwrap_or_default() {
                self.layers.entry(layer.id.as_str().into()).or_insert(layer);
            }
        }
    }

    fn look_up(&mut self, asked: &Asked<'_>, info: &mut LayerInfo) -> Result<(), ReadError> {
        let root = asked.root;
        let store = Store { root, driver: asked.driver.name().as_bytes() };
        let table = store.layers_file();
        if self.layers.contains_key(asked.name) {
            self.take_further(asked);
        }
        let Some(layer) = self.layers.get(asked.name) else {
            // A transient store has the containers' layers in a table of its run root.
            let told: HashSet<&[u8]> = self.containers.iter().map(|c| c.id.as_bytes()).collect();
            if let Some(id) = self.directories.iter().find(|id| !told.contains(id.as_slice())) {
                let why = "its tables do not have a container that has a directory in it";
                let path = root.join(&store.userdata(id, ""));
                return Err(ReadError::new(path, Class::Unsupported, why));
            }
            root.look(&table)?;
            info.seen("no layer of this id", root.join(&table));
            info.layer.kind = Some(LayerKind::Orphan);
            return Ok(());
        };
        info.is_changing = layer.is_incomplete();
        let digest = BString::from(layer.diff_digest.as_str());
        info.layer.diff_id = Some(digest).filter(|d| !d.is_empty());
        let mut users = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        let (mut is_own, mut are_whole) = (false, true);
        let mut stacks = Stacks::of(self, asked.name);
        for container in &self.containers {
            let is_it =
                asked.container.is_some_and(|of| container.id.as_bytes() == of.as_ref() as &[u8]);
            let stack = stacks.stack(root, &table, &container.layer)?;
            let Some(at) = stack.at else { continue };
            is_own |= at == 0;
            let engine = engine_of(&store, container);
            users.push(User::new(engine, container.id.as_str()));
            let place = (at.wrapping_sub(1), stack.count - 1);
            let counts = at > 0 && (asked.container.is_none() || is_it);
            are_whole &= !counts || stack.is_whole;
            // Two that differ are as good as many.
            if counts && places.len() < 2 && !places.contains(&place) {
                places.push(place);
            }
        }
        let only = |user: &User| asked.container.is_some_and(|of| user.key == of);
        if !asked.users && users.iter().any(only) {
            users.retain(|user| only(user));
        }
        users.sort_by(|a, b| a.key.cmp(&b.key));
        let mut images = Vec::new();
        for image in &self.images {
            let tops = std::iter::once(&image.layer).chain(image.mapped_layers.iter().flatten());
            let mut has = false;
            for top in tops {
                has = has || stacks.stack(root, &table, top)?.at.is_some();
            }
            if has {
                let names = image.names.iter().flatten().map(|n| n.as_str().into()).collect();
                images.push(Image { id: format!("sha256:{}", image.id).into(), names });
            }
        }
        images.sort_by(|a, b| {
            (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id))
        });
        info.held_by(images);
        if is_own {
            info.seen("a container's own layer", root.join(&store.containers_file()));
        } else {
            info.seen("a layer of the table", root.join(&table));
        }
        info.layer.kind = Some(match (is_own, users.is_empty() && info.images.is_empty()) {
            (true, _) => LayerKind::Upper,
            (_, true) => LayerKind::Unused,
            _ => LayerKind::Image,
        });
        if asked.driver.stacks() && !is_own && are_whole {
            info.placed(&places);
        }
        info.used_by(users);
        Ok(())
    }
}

/// The stacks that layers are the top of, each looked at once however many have it.
struct Stacks<'t> {
    tables: &'t Tables,
    name: &'t BStr,
    known: HashMap<&'t str, Stack>,
}

/// How many layers there are in a stack, and where the layer that is asked for is: 0 for the top.
#[derive(Clone, Copy)]
struct Stack {
    count: usize,
    at: Option<usize>,
    /// Whether the tables have all of it.
    is_whole: bool,
}

impl<'t> Stacks<'t> {
    fn of(tables: &'t Tables, name: &'t BStr) -> Self {
        Self { tables, name, known: HashMap::new() }
    }

    fn stack(&mut self, root: &Root, table: &[u8], top: &'t str) -> Result<Stack, ReadError> {
        let too_deep = || {
            let why = "layers lead in a circle";
            Err(ReadError::new(root.join(table), Class::Malformed, why))
        };
        let mut way: Vec<&str> = Vec::new();
        let mut stack = Stack { count: 0, at: None, is_whole: true };
        let mut next = top;
        while !next.is_empty() {
            if let Some(known) = self.known.get(next) {
                stack = *known;
                break;
            }
            if way.len() == DEEPEST {
                return too_deep();
            }
            way.push(next);
            let Some(layer) = self.tables.layers.get(BStr::new(next)) else {
                // It is in the table of a further store, as are those below it.
                stack.is_whole = false;
                break;
            };
            next = &layer.parent;
        }
        for layer in way.into_iter().rev() {
            let is_it = self.name == layer.as_bytes();
            let at = if is_it { Some(0) } else { stack.at.map(|at| at + 1) };
            stack = Stack { count: stack.count + 1, at, ..stack };
            if stack.count > DEEPEST {
                return too_deep();
            }
            self.known.insert(layer, stack);
        }
        Ok(stack)
    }
}
