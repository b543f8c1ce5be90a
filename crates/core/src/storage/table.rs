//! The tables by which an engine knows whose a layer is: one shape of question and answer for all.

use bstr::{BStr, BString};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{Driver, containerd_snapshots, containers_storage, docker, entry};
use crate::model::gap::what;
use crate::model::{Engine, Evidence, Gap, Layer, Source};

/// Layers that a store may have.
const MOST: usize = 400_000;

/// What has an engine's word on layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker's `image/<driver>/layerdb`.
    Layerdb,
    /// A snapshotter's `metadata.db` and containerd's `meta.db`.
    Snapshots {
        /// The snapshotter's directory, below the data root.
        dir: &'static str,
        /// Its name in containerd's configuration.
        snapshotter: &'static str,
    },
    /// The tables of containers/storage.
    ContainersStorage,
}

impl Kind {
    /// What a data root has, where it is one with this table.
    #[must_use]
    pub fn mark(self, driver: &dyn Driver) -> BString {
        match self {
            Self::Layerdb => format!("image/{}/layerdb", driver.name()).into(),
            Self::Snapshots { dir, .. } => format!("{dir}/metadata.db").into(),
            Self::ContainersStorage => format!("{}-layers", driver.name()).into(),
        }
    }
}

/// An image that holds a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its digest with the algorithm, as its engine has it: of the configuration, or of the manifest.
    pub id: BString,
    /// Its names; none when its tag has moved, or a build left it.
    pub names: Vec<BString>,
}

/// What `layer:` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerId<'i> {
    /// A directory's name, or its beginning.
    Name(&'i BStr),
    /// The digits of a chain or diff id, or their beginning.
    Digest(&'i BStr),
}

/// A container that uses a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its engine.
    pub engine: Engine,
    /// Its key in that engine's state.
    pub key: BString,
    /// Number of the root that has it, where that is another one than the layer's.
    pub root: Option<usize>,
}

impl User {
    /// A container of the root that has the layer.
    #[must_use]
    pub fn new(engine: Engine, key: impl Into<BString>) -> Self {
        Self { engine, key: key.into(), root: None }
    }
}

/// What a layer is, and whose.
#[derive(Clone, Debug, Default)]
pub struct LayerInfo {
    /// The layer; its owners are full ids.
    pub layer: Layer,
    /// The same containers, with their engines.
    pub users: Vec<User>,
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

impl LayerInfo {
    pub(super) fn problem(&mut self, problem: &ReadError) {
        let gap = Gap::from_read(what::LAYERS, problem);
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    pub(super) fn seen(&mut self, detail: impl Into<BString>, path: BString) {
        self.evidence.push(Evidence::agreeing(Source::StateFile, detail, path));
    }

    /// Names those who use it.
    pub(crate) fn used_by(&mut self, users: Vec<User>) {
        let id = |user: &User| match user.key.rsplit(|b| *b == b'/').next() {
            Some(id) => BString::from(id),
            None => user.key.clone(),
        };
        self.layer.owners = users.iter().map(id).collect();
        self.users = users;
    }

    /// Names the images that hold it.
    pub(super) fn held_by(&mut self, images: Vec<Image>) {
        let names = |image: &Image| match image.names.as_slice() {
            [] => vec![image.id.clone()],
            names => names.to_vec(),
        };
        self.layer.images = images.iter().flat_map(names).collect();
        self.images = images;
    }

    /// Says the place among the lowers, if all stacks that it is in agree.
    pub(crate) fn placed(&mut self, places: &[(usize, usize)]) {
        if let [(at, of)] = places {
            self.layer.index = u32::try_from(*at).ok();
            self.layer.of = u32::try_from(*of).ok();
        }
    }
}

/// A layer that is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The engine's root.
    pub root: &'a Root,
    /// The driver.
    pub driver: &'static dyn Driver,
    /// The directory of the driver that it lies in.
    pub store: &'static str,
    /// Its name.
    pub name: &'a BStr,
    /// Roots of further stores of images, in which layers may have their parents.
    pub further: &'a [&'a Root],
    /// The key of the container in whose stack its place counts.
    pub container: Option<&'a BStr>,
    /// Whether all that use it are asked for. Without it that container is the only one looked at, if the
    /// layer is one of its own.
    pub users: bool,
}

/// A container, and a layer's place among its lowers and their number, unless some are in no table here.
pub type Placed = (User, Option<(usize, usize)>);

/// One driver's table in one data root.
pub trait Table {
    /// Fills in what a layer is, and whose.
    fn tell(&mut self, asked: &Asked<'_>, info: &mut LayerInfo);

    /// Stores and names of the layers that an id fits. An exact name leaves those out that only begin so.
    ///
    /// # Errors
    /// When it can't be told.
    fn named(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        id: &LayerId<'_>,
    ) -> Result<Vec<(&'static str, BString)>, ReadError>;

    /// Makes ready for questions about all layers: what each of them would need is read once.
    fn keep(&mut self, _root: &Root) {}

    /// Names of all layers that the table has, whether their directories are there or not.
    ///
    /// # Errors
    /// When it can't be told.
    fn known(&mut self, root: &Root) -> Result<Vec<BString>, ReadError>;

    /// Stores and names of a container's layers, its own writable one first; `None` when the table does not
    /// have the container.
    ///
    /// # Errors
    /// When it can't be told, or when one lies in another store.
    fn stack(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        key: &BStr,
    ) -> Result<Option<Vec<(&'static str, BString)>>, ReadError>;
}

/// The table of a driver, if the data root has it.
///
/// # Errors
/// When it can't be told whether it has.
pub fn open(root: &Root, driver: &dyn Driver) -> Result<Option<Box<dyn Table>>, ReadError> {
    match root.look(&driver.table().mark(driver)) {
        Ok(_) => {}
        Err(e) if e.class == Class::Gone => return Ok(None),
        Err(e) => return Err(e),
    }
    match driver.table() {
        Kind::Layerdb => docker::open(root, driver),
        Kind::Snapshots { .. } => containerd_snapshots::open(root, driver).map(Some),
        Kind::ContainersStorage => containers_storage::open(root, driver).map(Some),
    }
}

/// The containers of a store that have a layer of another one below theirs, each with the layer's place
/// among its lowers and their number.
///
/// # Errors
/// When a table can't be read.
pub fn through(
    root: &Root,
    further: &Root,
    driver: &dyn Driver,
    name: &BStr,
) -> Result<Vec<Placed>, ReadError> {
    match driver.table() {
        Kind::ContainersStorage => containers_storage::through(root, further, driver, name),
        Kind::Layerdb | Kind::Snapshots { .. } => Ok(Vec::new()),
    }
}

/// Stores and names of all layers of a driver that has a table here.
///
/// # Errors
/// When they can't be listed.
pub fn all(
    root: &Root,
    driver: &'static dyn Driver,
) -> Result<Vec<(&'static str, BString)>, ReadError> {
    let mut all = Vec::new();
    for store in driver.layers() {
        let entries = match root.list(store.as_bytes(), MOST) {
            Ok(entries) => entries,
            Err(e) if e.class == Class::Gone => continue,
            Err(e) => return Err(e),
        };
        let is_layer =
            |name: &BString| driver.place(entry(store, name.as_ref()).as_ref()).is_some();
        let names = entries.into_iter().map(|e| e.name).filter(is_layer);
        all.extend(names.map(|name| (*store, name)));
    }
    Ok(all)
}

/// The layers on disk of this very name, else those whose names begin so.
pub(super) fn on_disk(
    root: &Root,
    driver: &'static dyn Driver,
    name: &BStr,
) -> Result<Vec<(&'static str, BString)>, ReadError> {
    for store in driver.layers() {
        let exact = entry(store, name);
        if driver.place(exact.as_ref()).is_some_and(|p| p.name == *name) && root.has_dir(&exact) {
            return Ok(vec![(*store, name.into())]);
        }
    }
    let mut found = all(root, driver)?;
    found.retain(|(_, n)| n.starts_with(name));
    Ok(found)
}
