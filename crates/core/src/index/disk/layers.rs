//! The layers of all stores, and whose each is.

use std::collections::HashSet;

use bstr::{BStr, BString};
use whose_kernel::Class;
use whose_kernel::root::Root;

use super::super::Index;
use super::super::layers::{Found, LayerInfo, of_docker};
use super::{DiskPlan, Planned};
use crate::model::gap::what;
use crate::model::{Engine, Gap, LayerKind, Occupied, Usage, UsageKind, UsagePart};
use crate::storage::table::{self, Asked};
use crate::storage::{self, DRIVERS, Driver, Part};

/// Drivers whose layers are devices or data sets, which are seen while they are mounted.
const MOUNTED: [&str; 2] = ["devicemapper", "zfs"];
/// Those that keep a layer's files in an image beside the directory of files.
const IMAGES: [&str; 2] = ["erofs", "blockfile"];

/// A driver's store in an engine's root.
#[derive(Clone, Copy)]
struct Store {
    root: usize,
    engine: Engine,
    driver: &'static dyn Driver,
}

/// One layer of a store.
struct OneLayer {
    store: &'static str,
    name: BString,
    info: LayerInfo,
    /// Whether it has a directory.
    is_there: bool,
}

impl Index<'_> {
    pub(super) fn plan_layers(&mut self, plan: &mut DiskPlan, whole: bool) {
        let mut seen = HashSet::new();
        let all: Vec<(usize, Engine)> = self.roots.told().map(|(n, (e, _))| (n, *e)).collect();
        for (root, engine) in all {
            for driver in DRIVERS.iter().filter(|d| d.engines().contains(&engine)) {
                let Some((_, state)) = self.roots.get(root) else { continue };
                // Engines may share a store.
                let id = state.root.look(b"").map(|l| (l.device, l.ino, driver.name())).ok();
                if id.is_none_or(|id| !seen.insert(id)) {
                    continue;
                }
                self.plan_store(plan, Store { root, engine, driver: *driver }, whole);
            }
        }
    }

    fn plan_store(&mut self, plan: &mut DiskPlan, store: Store, whole: bool) {
        let further = self.further_of(store.root);
        let mut layers = match self.layers_in(store, &further, &mut plan.gaps) {
            Ok(layers) => layers,
            Err(e) => {
                plan.gaps.push(Gap::from_read(what::LAYERS, &e));
                return;
            }
        };
        if !layers.is_empty() && !store.driver.has_directories() {
            let path = store.driver.stores().first().unwrap_or(&"").as_bytes();
            let why = "its layers are devices or datasets without a directory, so that their size is not seen";
            let path = self.disk_path(store.root, BStr::new(path));
            plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, path, why, None));
            return;
        }
        if !layers.is_empty() {
            plan.drivers.push(store.driver.name());
            plan.stores.extend(store.driver.stores().iter().map(|dir| (store.root, *dir)));
        }
        for layer in &mut layers {
            layer.info.users.iter_mut().for_each(of_docker);
            if matches!(layer.info.layer.kind, Some(LayerKind::Image | LayerKind::Unused)) {
                let found = self.found(store, layer);
                self.used_by_others(&found, None, &mut layer.info);
            }
            plan.gaps.extend(layer.info.gaps.iter().cloned());
            self.plan_layer(plan, store, layer, whole);
        }
    }

    /// What the table says of each layer that it or the disk has.
    fn layers_in(
        &self,
        of: Store,
        further: &[usize],
        gaps: &mut Vec<Gap>,
    ) -> Result<Vec<OneLayer>, whose_kernel::ReadError> {
        let Some((_, state)) = self.roots.get(of.root) else { return Ok(Vec::new()) };
        let root = &state.root;
        let driver = of.driver;
        let Some(mut table) = table::open(root, driver)? else { return Ok(Vec::new()) };
        let further = further.iter().filter_map(|number| self.roots.get(*number));
        let further: Vec<&Root> = further.map(|(_, state)| &state.root).collect();
        // First what is there: what is made meanwhile is in the table and no layer without a directory.
        let known = table.known(root)?;
        let there = table::all(root, driver)?;
        // Read after the directories were listed, so that it has what was made by then.
        table.keep(root);
        let names: HashSet<&BString> = there.iter().map(|(_, name)| name).collect();
        let first = driver.layers().first().copied().unwrap_or_default();
        let is_gone = |name: &&BString| {
            let gone = |e: whose_kernel::ReadError| e.class == Class::Gone;
            let look = |store| root.look(&storage::entry(store, BStr::new(*name)));
            !names.contains(*name) && driver.layers().iter().all(|s| look(s).is_err_and(gone))
        };
        let missing: HashSet<&BString> = known.iter().filter(is_gone).collect();
        let missing = missing.into_iter().map(|name| (first, name.clone(), false));
        let mut all: Vec<_> =
            there.iter().map(|(store, name)| (*store, name.clone(), true)).chain(missing).collect();
        all.sort();
        let mut layers = Vec::new();
        for (store, name, is_there) in all {
            if self.host.out_of_time() {
                gaps.push(self.late().of(what::LAYERS));
                break;
            }
            let mut info = LayerInfo::default();
            if storage::is_removing(&name) {
                info.layer.kind = Some(LayerKind::Removing);
            } else {
                let (container, users) = (None, true);
                let (further, name) = (further.as_slice(), name.as_ref());
                let asked = Asked { root, driver, store, name, further, container, users };
                table.tell(&asked, &mut info);
            }
            layers.push(OneLayer { store, name, info, is_there });
        }
        Ok(layers)
    }

    fn found(&self, of: Store, layer: &OneLayer) -> Found {
        let entry = storage::entry(layer.store, layer.name.as_ref());
        Found {
            root: of.root,
            engine: of.engine,
            driver: of.driver,
            store: layer.store,
            name: layer.name.clone(),
            entry: self.disk_path(of.root, &entry),
            part: Part::Whole,
            inside: None,
        }
    }

    /// Adds a layer to the row that it belongs to.
    fn plan_layer(&mut self, plan: &mut DiskPlan, of: Store, layer: &OneLayer, whole: bool) {
        let entry = storage::entry(layer.store, layer.name.as_ref());
        let kind = match layer.info.layer.kind {
            _ if !layer.is_there => UsageKind::Missing,
            Some(LayerKind::Upper | LayerKind::Init | LayerKind::View) => {
                return self.plan_own(plan, of, layer, entry, whole);
            }
            Some(LayerKind::Image) => of_images(&layer.info),
            Some(LayerKind::BuildCache) => UsageKind::BuildCache,
            // What is being made is not in the table yet.
            Some(LayerKind::Orphan | LayerKind::Unused) if layer.info.is_changing => return,
            Some(LayerKind::Unused) => UsageKind::UnusedLayers,
            Some(LayerKind::Orphan) => UsageKind::Orphan,
            Some(LayerKind::Removing) => UsageKind::Removing,
            None => UsageKind::Unknown,
        };
        if !whole {
            return;
        }
        let is_single =
            matches!(kind, UsageKind::Orphan | UsageKind::Missing | UsageKind::Removing);
        let store = of.driver.layers().first().copied().unwrap_or_default();
        let row = match layer.info.images.as_slice() {
            _ if is_single => {
                let mut row = Usage::new(kind, of.engine, self.disk_path(of.root, &entry));
                row.user = self.roots.get(of.root).and_then(|(_, state)| state.user.clone());
                plan.row(row)
            }
            [only] if matches!(kind, UsageKind::Image | UsageKind::UnusedImage) => {
                self.image_row(plan, of.root, of.engine, kind, (&only.id, &only.names))
            }
            _ => self.shared_row(plan, of.root, of.engine, kind, store),
        };
        plan.rows[row].has_images(&layer.info.layer.images);
        if kind == UsageKind::Missing {
            plan.rows[row].owners.clone_from(&layer.info.layer.owners);
            let path = self.disk_path(of.root, &entry);
            let user = layer
                .info
                .users
                .first()
                .filter(|_| layer.info.layer.kind == Some(LayerKind::Upper));
            if let Some(of) = user.and_then(|user| self.row_for(plan, of.root, user, whole)) {
                // It has none, which is known.
                plan.rows[of].parts.push(Occupied::nothing(UsagePart::Layer, path));
            }
            return;
        }
        let is_mount = MOUNTED.contains(&of.driver.name());
        let planned = self.planned(row, UsagePart::Directory, of.root, entry);
        plan.planned.push(Planned { is_mount, ..planned });
    }

    /// Adds a layer of a container's own: its files, and what the driver keeps beside them.
    fn plan_own(
        &mut self,
        plan: &mut DiskPlan,
        of: Store,
        layer: &OneLayer,
        entry: BString,
        whole: bool,
    ) {
        let Some(user) = layer.info.users.first() else { return };
        let Some(row) = self.row_for(plan, of.root, user, whole) else { return };
        let is_mount = MOUNTED.contains(&of.driver.name());
        if layer.info.layer.kind == Some(LayerKind::Init) {
            let planned = self.planned(row, UsagePart::Init, of.root, entry);
            plan.planned.push(Planned { is_mount, ..planned });
            return;
        }
        let files = of.driver.files(layer.store, layer.name.as_ref());
        if files == entry || IMAGES.contains(&of.driver.name()) {
            let planned = self.planned(row, UsagePart::Layer, of.root, entry);
            plan.planned.push(Planned { is_mount, ..planned });
            return;
        }
        let planned = self.planned(row, UsagePart::Layer, of.root, files);
        plan.planned.push(Planned { is_mount, ..planned });
        plan.planned.push(self.planned(row, UsagePart::Driver, of.root, entry));
    }
}

/// What a layer of images is: an image's that it belongs to alone, or shared.
fn of_images(info: &LayerInfo) -> UsageKind {
    match (info.images.len(), info.users.is_empty()) {
        (1, false) => UsageKind::Image,
        (1, true) => UsageKind::UnusedImage,
        (_, false) => UsageKind::Images,
        (_, true) => UsageKind::UnusedImages,
    }
}
