//! From paths to what an engine keeps of images, layers and containers, and from there to who needs it.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::Mode;
use whose_kernel::root::Root;

use super::Index;
use super::layers::{Found, LayerInfo, is_data_root, of_docker};
use crate::model::gap::what;
use crate::model::{Class, Engine, Gap, LayerKind, Standing};
use crate::state::containerd::metadata;
use crate::storage::images::{self, Item, ItemInfo, LayerOf, Of, Store};
use crate::storage::table::User;
use crate::storage::{self, DRIVERS, Part};

const CONTAINERD: Engine = Engine("containerd");
const PODMAN: Engine = Engine("podman");
/// So long after something was written it may be part of what is being made, milliseconds.
const NEW: i128 = 60_000;

/// A file of an engine's image store.
#[derive(Clone)]
pub struct InStore {
    /// Number of the engine's root.
    pub root: usize,
    /// The engine.
    pub engine: Engine,
    /// What it is by its path.
    pub item: Item,
    store: &'static dyn Store,
    /// It lies in the tree of what is true while the engine runs.
    is_in_run: bool,
}

impl std::fmt::Debug for InStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InStore").field("root", &self.root).field("item", &self.item).finish()
    }
}

impl Index<'_> {
    /// What a path is by its text, if that text leads through an engine's image store. Of several the outermost
    /// counts.
    ///
    /// # Errors
    /// When the engine's root can't be looked at.
    pub fn stored_at(&mut self, path: &BStr) -> Result<Option<InStore>, Gap> {
        for (base, store, item) in images::readings(path) {
            self.host.guard(base).map_err(|e| Gap::from_read(what::IMAGES, &e))?;
            let mark = [base.as_bytes(), b"/", &store.mark(&item)].concat();
            let found = match self.host.root().look(&mark) {
                Ok(_) => self.store_root(store.engines(), base)?.map(|found| (found, false)),
                Err(_) => self.run_of(base, &item).map(|number| ((number, CONTAINERD), true)),
            };
            if let Some(((root, engine), is_in_run)) = found {
                return Ok(Some(InStore { root, engine, item, store, is_in_run }));
            }
        }
        Ok(None)
    }

    /// The number of the root at a path, and the engine whose it is.
    fn store_root(
        &mut self,
        engines: &[Engine],
        base: &BStr,
    ) -> Result<Option<(usize, Engine)>, Gap> {
        for engine in engines {
            if let Some(number) = self.root_at(*engine, base)? {
                return Ok(Some((number, *engine)));
            }
        }
        Ok(None)
    }

    /// The number of the root of a containerd that has this tree for what is true while it runs.
    fn run_of(&mut self, base: &BStr, item: &Item) -> Option<usize> {
        if !matches!(item.of, Of::Container(_)) || !item.rel.starts_with(b"io.containerd.") {
            return None;
        }
        let identity = |root: &Root, rel: &[u8]| root.look(rel).map(|l| (l.device, l.ino)).ok();
        let wanted = identity(self.host.root(), base)?;
        let known = |index: &Self| {
            let mut all = index.roots.told().filter(|(_, (engine, _))| *engine == CONTAINERD);
            let is_it = |run: &Root| identity(run, b"") == Some(wanted);
            all.find(|(_, (_, state))| state.run.as_ref().is_some_and(is_it)).map(|(at, _)| at)
        };
        while self.roots.advance(self.host) {}
        let mut found = known(self);
        // Where it was moved to its shims tell. The text of a tree that is only named proves nothing.
        if found.is_none() && self.roots.walked.is_none() && !self.host.out_of_time() {
            self.roots_from_cgroups();
            found = known(self);
        }
        found
    }

    /// The number of the engine's root that a path is, or lies beneath; the outermost. Nothing else of the path
    /// is known.
    ///
    /// # Errors
    /// When it can't be looked at, or what is in one of these directories may not be.
    pub fn engine_root_of(&mut self, path: &BStr) -> Result<Option<usize>, Gap> {
        let slashes = path.find_iter(b"/").filter(|at| *at > 0).chain([path.len()]);
        let mut forbidden = None;
        for base in slashes.map(|at| BStr::new(&path[..at])) {
            let host = self.host.root();
            let driver = DRIVERS.iter().find(|driver| is_data_root(host, base, **driver));
            let database = [base.as_bytes(), b"/", metadata::FILE].concat();
            let engines: &[Engine] = match (driver, host.look(&database)) {
                (Some(driver), _) => driver.engines(),
                (None, Ok(_)) => &[CONTAINERD],
                (None, Err(e)) => {
                    forbidden = forbidden.or(Some(e).filter(|e| e.class == Class::Forbidden));
                    continue;
                }
            };
            if let Some((number, _)) = self.store_root(engines, base)? {
                return Ok(Some(number));
            }
        }
        // It may be an engine's.
        forbidden.map_or(Ok(None), |e| Err(Gap::from_read(what::PATH, &e)))
    }

    /// What a file of a store is, and who needs it; with the layer that it is of.
    pub fn stored_info(&mut self, found: &InStore) -> (ItemInfo, Option<LayerInfo>) {
        let mut info = ItemInfo::default();
        let Some((_, state)) = self.roots.get(found.root) else { return (info, None) };
        if let Err(e) = found.store.tell(&state.root, &found.item, &mut info) {
            info.gaps.push(Gap::from_read(what::IMAGES, &e));
        }
        if !info.images.is_empty() {
            self.made_elsewhere(found, &mut info);
        }
        info.users.iter_mut().for_each(of_docker);
        let layer = match (info.layer.take(), found.store.layer_of(&found.item)) {
            (Some(name), Some(of)) => Some(self.layer_of_item(found, of, name, &mut info)),
            _ => None,
        };
        if let Some(standing @ (Standing::Orphan | Standing::Unused)) = info.standing
            && (info.is_changing || self.is_new(found))
        {
            let path = match self.roots.get(found.root) {
                Some((_, state)) if !found.is_in_run => state.root.join(&found.item.rel),
                _ => found.item.rel.clone(),
            };
            let path = self.host.unrooted(path.as_ref()).unwrap_or(path.as_ref());
            let why = match standing {
                Standing::Orphan => "the engine does not know it, which may be making it right now",
                _ => "nothing has it, but it may be part of what is being made right now",
            };
            info.standing = None;
            info.gaps.push(Gap::new(what::IMAGES, Class::TimedOut, path, why, Some("try again")));
        }
        (info, layer)
    }

    /// Takes who needs a layer for who needs what is kept of it.
    fn layer_of_item(
        &mut self,
        found: &InStore,
        of: LayerOf,
        name: BString,
        info: &mut ItemInfo,
    ) -> LayerInfo {
        let LayerOf { driver, store } = of;
        let entry = storage::entry(store, name.as_ref());
        let base = self.store(found.root).map(|(_, path, _)| path).unwrap_or_default();
        let layer = Found {
            root: found.root,
            engine: found.engine,
            driver,
            store,
            name,
            entry: [base.as_slice(), b"/", &entry].concat().into(),
            part: Part::Whole,
            inside: None,
        };
        let told = self.layer_info(&layer, None);
        info.standing = told.layer.kind.map(|kind| match kind {
            LayerKind::Upper | LayerKind::Init | LayerKind::Image | LayerKind::View => {
                Standing::Used
            }
            LayerKind::BuildCache => Standing::BuildCache,
            LayerKind::Unused => Standing::Unused,
            LayerKind::Removing => Standing::Removing,
            LayerKind::Orphan => Standing::Orphan,
        });
        info.is_changing |= told.is_changing;
        info.users.clone_from(&told.users);
        info.images.clone_from(&told.images);
        info.evidence.extend(told.evidence.iter().cloned());
        info.gaps.extend(told.gaps.iter().cloned());
        told
    }

    /// Adds the containers of other stores that are made of this one's images.
    fn made_elsewhere(&mut self, found: &InStore, info: &mut ItemInfo) {
        if !found.store.engines().contains(&PODMAN) {
            return;
        }
        self.find_all(PODMAN);
        let Some((_, base, _)) = self.store(found.root) else { return };
        for (number, (_, other)) in self.roots.told() {
            if !other.further.iter().any(|path| path.trim_end_with(|c| c == '/') == base) {
                continue;
            }
            match found.store.through(&other.root, &found.item) {
                Ok(more) => {
                    info.users.extend(more.into_iter().map(|u| User { root: Some(number), ..u }));
                }
                Err(e) => info.gaps.push(Gap::from_read(what::IMAGES, &e)),
            }
        }
    }

    /// Whether something was written so short a time ago that it may be part of what is being made. Of a saved
    /// tree nothing is.
    fn is_new(&self, found: &InStore) -> bool {
        let Some((_, state)) = self.roots.get(found.root) else { return false };
        let tree = if found.is_in_run { state.run.as_ref() } else { Some(&state.root) };
        let written = tree.and_then(|tree| tree.look(&found.item.rel).ok()).map(|look| look.mtime);
        let now = self.host.uptime_ticks().and_then(|ticks| self.host.start_time(ticks));
        match (written, now) {
            (Some(written), Ok(now)) if self.host.mode() == Mode::Live => {
                i128::from(now) - written / 1_000_000 < NEW
            }
            _ => false,
        }
    }
}
