//! What a container consists of that does not run: its layers and mounts, by its engine's state.

use bstr::{BStr, BString};
use whose_fields::Needs;
use whose_kernel::parse::mountinfo::{Mount, mount_of};
use whose_kernel::{Class, ReadError};

use super::Index;
use crate::model::gap::what;
use crate::model::{Engine, Gap, Mounting, Owner, RootFiles, Rootfs};
use crate::runtime::{Runtime, StateRoot, by_engine};
use crate::storage::binary::stored::Kind;
use crate::storage::{DRIVERS, Driver, table};

/// A container's file system, put together from its engine's state.
pub struct Stored {
    /// The directories of its layers on the host, the topmost first; one where the driver stacks nothing.
    pub dirs: Vec<BString>,
    /// Their names in the engine's table; none where it has no table.
    pub names: Vec<BString>,
    /// The driver; `None` where the engine has no table, and its configuration names the directories.
    pub driver: Option<&'static dyn Driver>,
    /// How the layers are put together.
    pub kind: Kind,
    /// What lies over them when it runs.
    pub mounts: Vec<Mounting>,
    /// The engine's root, where a user's word alone says all this: nothing else of the host is his to name.
    pub within: Option<BString>,
}

/// Mounts of one container.
const MOST_MOUNTS: usize = 4096;

/// The directories of a container's layers, their names and their driver.
type Layers = (Vec<BString>, Vec<BString>, &'static dyn Driver);

/// What a container mounts over its own files, as [`Runtime::mounts`] tells.
pub(super) fn mounts_told(
    runtime: &dyn Runtime,
    state: &StateRoot,
    key: &BStr,
) -> Option<Result<Vec<Mounting>, ReadError>> {
    let few = |mounts: Vec<Mounting>| match mounts.len() {
        0..=MOST_MOUNTS => Ok(mounts),
        _ => Err(ReadError::new(state.root.shown(), Class::Malformed, "more than 4096 mounts")),
    };
    runtime.mounts(state, key).map(|told| told.and_then(few))
}

impl Index<'_> {
    /// The layers and mounts of a container that was found by its engine's state.
    ///
    /// # Errors
    /// When they could not be read, or its engine's state does not tell them.
    pub fn stored(&mut self, owner: &Owner) -> Result<Stored, Gap> {
        let engine = owner.runtime;
        let unknown = |why: &'static str| {
            let name = owner.best_name().cloned().unwrap_or_default();
            Gap::new(what::LAYERS, Class::Unsupported, name, why, None)
        };
        let description = owner.description().ok_or_else(|| unknown("it is not described"))?;
        let runtime = by_engine(engine).ok_or_else(|| unknown("its engine is not known"))?;
        let key = owner.key();
        let key = BStr::new(&key);
        let told = |number: &usize| {
            let of = self.roots.get(*number).filter(|(of, _)| *of == engine);
            let told = of.and_then(|(_, state)| runtime.describe(state, key, Needs::NONE));
            told.is_some_and(|told| told.is_ok_and(|d| d.path == description.path))
        };
        let number = (0..self.roots.known.len()).find(told);
        let number = number.ok_or_else(|| unknown("its engine's root was not found again"))?;
        let Some((_, state)) = self.roots.get(number) else {
            return Err(unknown("its engine's root was not found again"));
        };
        let within = state.users_own().map(|_| state.root.shown().to_owned());
        if let Some(told) = runtime.rootfs(self.host(), state, key) {
            let Rootfs { files, mounts } = told?;
            let (dirs, kind) = match files {
                RootFiles::Dir(dir) => (vec![dir], Kind::Tree),
                RootFiles::Stack(dirs) => (dirs, Kind::Overlay),
                RootFiles::Image(image) => (vec![self.mount_of_image(image)?], Kind::Tree),
            };
            return Ok(Stored { dirs, names: Vec::new(), driver: None, kind, mounts, within });
        }
        let mounts = match mounts_told(runtime, state, key) {
            None => return Err(unknown("what its engine mounts in it is not read")),
            Some(mounts) => mounts.map_err(|e| Gap::from_read(what::LAYERS, &e))?,
        };
        let mounts = if within.is_none() { self.resolved(mounts)? } else { mounts };
        let layers = self.layers_of(number, engine, key)?;
        let (dirs, names, driver) = layers.ok_or_else(|| unknown("no table has its layers"))?;
        let Some((_, state)) = self.roots.get(number) else {
            return Err(unknown("its engine's root was not found again"));
        };
        let kind = driver.kind(&state.root);
        Ok(Stored { dirs, names, driver: Some(driver), kind, mounts, within })
    }

    /// Mounts by where their sources lead to, as whoever mounts them follows links. Of a user's engine they are not followed.
    fn resolved(&mut self, mut mounts: Vec<Mounting>) -> Result<Vec<Mounting>, Gap> {
        for from in mounts.iter_mut().filter_map(|mount| mount.from.as_mut()) {
            if self.host().out_of_time() {
                return Err(self.late().of(what::PATH));
            }
            if let Ok(resolved) = self.resolve((*from).as_ref()) {
                *from = resolved.path;
            }
        }
        Ok(mounts)
    }

    /// Where the host has the image of a container's root mounted.
    fn mount_of_image(&self, image: BString) -> Result<BString, Gap> {
        let mounts = self.host().mounts().unwrap_or_default();
        let source = |m: &&Mount| m.source == image && m.root == "/" && m.source.contains(&b'/');
        let by_source = || mounts.iter().find(source).map(|m| m.device);
        let device = self.loop_of(image.as_ref()).or_else(by_source);
        let is_it = |m: &&Mount| Some(m.device) == device && m.root == "/";
        let mount = mounts.iter().find(is_it).map(|m| m.point.clone());
        mount
            .filter(|point| mount_of(mounts, point).is_some_and(|m| Some(m.device) == device))
            .ok_or_else(|| {
                let why = "its files are in this, which is mounted only while it runs";
                Gap::new(what::LAYERS, Class::Unsupported, image, why, None)
            })
    }

    /// The layers by whatever table of the root has the container.
    fn layers_of(&self, number: usize, engine: Engine, key: &BStr) -> Result<Option<Layers>, Gap> {
        let Some((_, state)) = self.roots.get(number) else { return Ok(None) };
        for driver in DRIVERS.iter().filter(|driver| driver.engines().contains(&engine)) {
            let gap = |e| Gap::from_read(what::LAYERS, &e);
            let Some(mut table) = table::open(&state.root, *driver).map_err(gap)? else { continue };
            let names = table.stack(&state.root, *driver, key).map_err(gap)?;
            let Some(names) = names else { continue };
            if let Some(why) = driver.hides(&state.root) {
                let store = state.root.join(driver.stores().first().unwrap_or(&"").as_bytes());
                return Err(Gap::new(what::LAYERS, Class::Unsupported, store, why, None));
            }
            if let Some(name) = names.first()
                && let Some(volume) = driver.volume(&state.root, name.1.as_ref())
            {
                let root = state.root.shown();
                let root = self.host().unrooted(root).unwrap_or(root);
                let mounts = self.host().mounts().unwrap_or_default();
                let dirs = vec![volume.mounted(mounts, root)?];
                return Ok(Some((dirs, vec![name.1.clone()], *driver)));
            }
            let dir = |(store, name): (&'static str, BString)| -> BString {
                let path = state.root.join(&driver.files(store, name.as_ref()));
                self.host().unrooted(path.as_ref()).unwrap_or(path.as_ref()).into()
            };
            let own = names.iter().map(|(_, name)| name.clone()).collect();
            return Ok(Some((names.into_iter().map(dir).collect(), own, *driver)));
        }
        Ok(None)
    }
}
