//! What engines and their containers have on disks: which trees, and whose each is. What they come to is
//! counted by [`Index::count_disk`], each tree by itself though it lies in another one.

mod beside;
mod contents;
mod count;
mod layers;
mod own;

pub use count::DiskUsage;

use std::collections::HashMap;

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::mount_of;
use whose_kernel::root::Root;

use super::Index;
use super::containers::Containers;
use super::layers::User;
use crate::model::gap::what;
use crate::model::{
    Class, Described, Engine, Gap, Listed, Occupied, OwnerKind, Usage, UsageKind, UsagePart,
};
use crate::runtime::by_engine;
use crate::storage::{DRIVERS, Driver};

/// Entries that a directory of volumes or logs may have.
const MOST: usize = 200_000;

/// What is to be counted.
#[derive(Debug, Default)]
pub struct DiskPlan {
    /// The rows, nothing counted yet.
    pub rows: Vec<Usage>,
    /// What could not be found out.
    pub gaps: Vec<Gap>,
    planned: Vec<Planned>,
    /// Directories of users that are in no engine's root.
    own: Vec<Root>,
    /// Names of the drivers that have layers.
    drivers: Vec<&'static str>,
    /// The directories of those drivers, each with the number of the engine's root.
    stores: Vec<(usize, &'static str)>,
    /// The rows of what is no container's, by root and kind: of an image by its id, else by the directory.
    images: HashMap<(usize, UsageKind, BString), usize>,
}

/// Where a tree's name begins.
#[derive(Clone, Copy, Debug)]
enum Base {
    /// An engine's root.
    Engine(usize),
    /// The host's.
    Host,
    /// A user's directory.
    Own(usize),
}

/// A tree that is part of a row.
#[derive(Debug)]
struct Planned {
    row: usize,
    part: UsagePart,
    base: Base,
    rel: BString,
    /// Its path on the host.
    path: BString,
    /// It is a file system of its own, and nothing where that is not mounted.
    is_mount: bool,
}

impl DiskPlan {
    fn row(&mut self, row: Usage) -> usize {
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// The container's row, if it is listed.
    fn row_of(&self, user: &User, of: Option<&BString>) -> Option<usize> {
        self.rows.iter().position(|row| {
            let owner = row.container.as_ref().and_then(Listed::owner);
            owner.is_some_and(|owner| {
                let is_its = owner.description().is_none_or(|d| d.user.as_ref() == of);
                owner.runtime == user.engine
                    && owner.within.is_empty()
                    && owner.has_key(&user.key)
                    && is_its
            })
        })
    }

    /// Whether a part of a row is planned, or known without that.
    fn has(&self, row: usize, part: UsagePart) -> bool {
        let is_told = self.rows[row].parts.iter().any(|told| told.part == part);
        is_told || self.planned.iter().any(|p| p.row == row && p.part == part)
    }

    /// Says of containers whose state or store could not be read that what they have is not known: nothing
    /// planned must not look like nothing there.
    fn mark_unread(&mut self) {
        let class_of = |what: &str| self.gaps.iter().find(|g| g.what == what).map(|g| g.class);
        let (layers, volumes) = (class_of(what::LAYERS), class_of(what::VOLUMES));
        for number in 0..self.rows.len() {
            let container = self.rows[number].container.as_ref();
            let Some(owner) = container.and_then(Listed::owner) else { continue };
            let undescribed = match &owner.described {
                Described::Unread(gap) => Some(gap.class),
                Described::No | Described::Yes(_) => None,
            };
            let has_store = DRIVERS.iter().any(|d| d.engines().contains(&owner.runtime));
            let layer = undescribed.or(layers.filter(|_| has_store));
            let layer = layer.filter(|_| !self.has(number, UsagePart::Layer));
            let unknown = [
                (UsagePart::Layer, layer),
                (UsagePart::Log, undescribed),
                (UsagePart::Volume, undescribed.or(volumes.filter(|_| layer.is_some()))),
            ];
            for (part, class) in unknown {
                if let Some(class) = class.filter(|_| !self.has(number, part)) {
                    self.rows[number].parts.push(Occupied::unread(part, "", class));
                }
            }
        }
    }
}

impl Index<'_> {
    /// What there is to be counted: what these containers have, and with `whole` what else there is of
    /// all engines.
    pub fn disk_plan(&mut self, containers: Containers, whole: bool) -> DiskPlan {
        let mut plan = DiskPlan { gaps: containers.gaps, ..DiskPlan::default() };
        for listed in containers.rows {
            let Some(owner) = listed.owner() else { continue };
            if matches!(owner.kind, OwnerKind::App | OwnerKind::Job) {
                continue;
            }
            if !owner.within.is_empty() {
                let why = "its files lie in the container around it, and are counted there";
                plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, listed.label(), why, None));
                continue;
            }
            let mut row = Usage::new(UsageKind::Container, owner.runtime, listed.label());
            row.user = owner.user().cloned();
            row.container = Some(listed);
            plan.rows.push(row);
        }
        if self.host.is_captured() {
            let why = "a capture has no files of containers, so that nothing can be counted";
            let path = self.host.shown(b"");
            plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, path, why, None));
            plan.rows.clear();
            return plan;
        }
        while self.roots.advance(self.host) {}
        self.plan_layers(&mut plan, whole);
        self.plan_volumes(&mut plan, whole);
        self.plan_logs(&mut plan);
        self.plan_root_directories(&mut plan);
        plan.mark_unread();
        say_unknown(&mut plan);
        if whole {
            self.plan_contents(&mut plan);
            self.plan_machine_images(&mut plan);
            self.plan_engines(&mut plan);
        }
        self.add_deleted(&mut plan);
        plan
    }

    /// A path beneath an engine's root, as the host names it.
    fn disk_path(&self, root: usize, rel: &[u8]) -> BString {
        let Some((_, state)) = self.roots.get(root) else { return rel.into() };
        let path = state.root.join(rel);
        let path = if rel.is_empty() { state.root.shown().into() } else { path };
        self.host.unrooted(path.as_ref()).unwrap_or(path.as_ref()).into()
    }

    fn planned(&self, row: usize, part: UsagePart, root: usize, rel: BString) -> Planned {
        let path = self.disk_path(root, &rel);
        Planned { row, part, base: Base::Engine(root), rel, path, is_mount: false }
    }

    /// The row of a container that a table of layers has, made where it is not listed.
    fn row_for(
        &mut self,
        plan: &mut DiskPlan,
        root: usize,
        user: &User,
        whole: bool,
    ) -> Option<usize> {
        let of = self.roots.get(root).and_then(|(_, state)| state.user.clone());
        let known = plan.row_of(user, of.as_ref());
        if known.is_some() || !whole {
            return known;
        }
        let needs = Needs::OWNER.and(Needs::DESCRIPTION).and(Needs::LIVENESS);
        let owner = self.container_of_root(root, user, needs);
        let listed = Listed::of_owner(owner);
        let mut row = Usage::new(UsageKind::Container, user.engine, listed.label());
        row.user = of;
        row.container = Some(listed);
        Some(plan.row(row))
    }

    /// Adds the rest of each engine's directory.
    fn plan_engines(&self, plan: &mut DiskPlan) {
        let mut seen = Vec::new();
        for (number, (engine, state)) in self.roots.told() {
            let is_store = |d: &&dyn Driver| d.engines().contains(engine);
            let has_files = by_engine(*engine).is_some_and(|runtime| runtime.holds_files());
            let Ok(look) = state.root.look(b"") else { continue };
            let id = (look.device, look.ino);
            if !(has_files || DRIVERS.iter().any(is_store)) || seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let path = self.disk_path(number, b"");
            let on = self.host.mounts().ok().and_then(|mounts| mount_of(mounts, path.as_ref()));
            if on.is_some_and(|mount| mount.fs_type == "tmpfs") {
                continue; // in memory, as what only runs there is
            }
            let mut row = Usage::new(UsageKind::Engine, *engine, path);
            row.user = state.user.clone();
            let row = plan.row(row);
            let planned = self.planned(row, UsagePart::Directory, number, BString::default());
            plan.planned.push(planned);
            // containers/storage mounts a driver's directory over itself, where a walk from above ends.
            let name = plan.rows[row].name.clone();
            let stores = plan.stores.clone().into_iter();
            for (root, store) in stores.filter(|(root, _)| self.disk_path(*root, b"") == name) {
                let planned = self.planned(row, UsagePart::Directory, root, store.into());
                plan.planned.push(planned);
            }
        }
    }

    /// The number of the root of an engine of this user's that a path of the host lies beneath, and the rest.
    fn beneath_root<'p>(
        &self,
        engine: Engine,
        user: Option<&BString>,
        path: &'p BStr,
    ) -> Option<(usize, &'p [u8])> {
        self.roots.told().find_map(|(number, (of, state))| {
            if *of != engine || state.user.as_ref() != user {
                return None;
            }
            let base = self.disk_path(number, b"");
            Some((number, path.strip_prefix(base.as_slice())?.strip_prefix(b"/")?))
        })
    }
}

/// A container of which no files were found has some all the same.
fn say_unknown(plan: &mut DiskPlan) {
    for number in 0..plan.rows.len() {
        let row = &plan.rows[number];
        let is_container = row.kind == UsageKind::Container;
        if is_container && !plan.has(number, UsagePart::Layer) {
            let why = "where the files of a container lie is not known";
            let name = row.name.clone();
            plan.gaps.push(Gap::new(what::DISK, Class::Unsupported, name, why, None));
            let unread = Occupied::unread(UsagePart::Layer, "", Class::Unsupported);
            plan.rows[number].parts.push(unread);
        }
    }
}
