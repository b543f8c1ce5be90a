//! Docker's join table between layers, containers and images: `image/<driver>/`.
//!
//! `layerdb/mounts/<container>/{mount-id,init-id,parent}` ties a container to its writable layer, the
//! init layer below it and the image's topmost layer; `layerdb/sha256/<chain>/{cache-id,diff,parent}`
//! ties an image layer to its directory and the one below. A chain id stands for a layer together with
//! all below it, so an image holds a layer when its list of diff ids begins with those of the chain.

use std::collections::{BTreeMap, HashMap};

use bstr::{BStr, BString};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::Driver;
use super::table::Image;
use crate::state::docker_layers as files;

/// Containers or layers that a table may have.
const MOST: usize = 200_000;
/// Layers in one stack: moby allows 125.
const DEEPEST: usize = 1000;
/// Largest of BuildKit's databases that is searched, bytes.
const DATABASE: usize = 64 << 20;

/// One image layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its directory's name.
    pub cache: BString,
    /// The digest of its archive, 64 digits.
    pub diff: BString,
    /// The chain below, 64 digits.
    pub parent: Option<BString>,
}

/// What a layer's directory is by the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The writable layer of this container.
    Upper(BString),
    /// The engine's layer between that and the image.
    Init(BString),
    /// The image layer of this chain id.
    Chain(BString),
    /// Its removal has begun.
    Removing,
    /// The table does not have it. Only after all of it was read.
    Unknown,
}

/// A list, and what could not be read while it was made.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// What there is.
    pub list: Vec<T>,
    /// With these the list proves no absence.
    pub problems: Vec<ReadError>,
}

impl<T> Read<T> {
    fn new() -> Self {
        Self { list: Vec::new(), problems: Vec::new() }
    }

    fn failed(problem: ReadError) -> Self {
        Self { list: Vec::new(), problems: vec![problem] }
    }
}

/// The tables of one driver in one data root. Every method takes that root.
#[derive(Debug)]
pub struct LayerDb {
    /// `image/<driver>`.
    image: BString,
    chains: HashMap<BString, Result<Chain, ReadError>>,
    parents: HashMap<BString, Result<Option<BString>, ReadError>>,
    names: Option<Result<BTreeMap<BString, Vec<BString>>, ReadError>>,
    kept: Option<Kept>,
}

/// What is read once where all layers are asked about.
#[derive(Debug)]
struct Kept {
    entries: HashMap<BString, Entry>,
    /// The topmost chain below each container.
    tops: Vec<(BString, Option<BString>)>,
    /// The diff ids of each image.
    images: Vec<(BString, Vec<BString>)>,
}

impl LayerDb {
    /// The tables of a driver, if the data root has them.
    ///
    /// # Errors
    /// When it can't be told whether it has.
    pub fn open(root: &Root, driver: &dyn Driver) -> Result<Option<Self>, ReadError> {
        let image: BString = format!("image/{}", driver.name()).into();
        let there = match root.look(&[&image[..], b"/layerdb"].concat()) {
            Ok(look) => look.is_dir(),
            Err(e) if e.class == Class::Gone => false,
            Err(e) => return Err(e),
        };
        let (chains, parents) = (HashMap::new(), HashMap::new());
        Ok(there.then_some(Self { image, chains, parents, names: None, kept: None }))
    }

    /// Reads what is asked of each layer once for all. What can't be read is left to be told of the layers
    /// one by one.
    pub fn keep(&mut self, root: &Root) {
        self.kept = self.read_all(root).ok();
    }

    fn read_all(&self, root: &Root) -> Result<Kept, ReadError> {
        let mut kept = Kept { entries: HashMap::new(), tops: Vec::new(), images: Vec::new() };
        for chain in self.chain_names(root)? {
            let rel = self.chain_file(chain.as_ref(), "cache-id");
            let is_removing = !files::is_hex64(&chain);
            match files::value(root, &rel, files::parse_name) {
                Ok(name) => {
                    let entry = if is_removing { Entry::Removing } else { Entry::Chain(chain) };
                    kept.entries.insert(name, entry);
                }
                Err(_) if is_removing => {}
                Err(e) => {
                    if let Some(e) = self.unless_gone(root, &chain, e) {
                        return Err(e);
                    }
                }
            }
        }
        for container in self.containers(root)? {
            let of = container.as_ref();
            let upper = match self.upper(root, of) {
                Ok(upper) => upper,
                Err(e) if e.class == Class::Gone && !root.has_dir(&self.mount_file(of, "")) => {
                    continue; // removed meanwhile
                }
                Err(e) => return Err(e),
            };
            if let Some(init) = self.init(root, of)? {
                kept.entries.insert(init, Entry::Init(container.clone()));
            }
            kept.entries.insert(upper, Entry::Upper(container.clone()));
            kept.tops.push((container.clone(), self.top(root, of)?));
        }
        let dir = self.images_dir();
        for id in list(root, &dir)?.into_iter().filter(|id| files::is_hex64(id)) {
            match files::document(root, &[&dir[..], b"/", &id].concat(), files::parse_image) {
                Ok(diffs) => kept.images.push((id, diffs)),
                Err(e) if e.class == Class::Gone => {} // removed meanwhile
                Err(e) => return Err(e),
            }
        }
        Ok(kept)
    }

    fn images_dir(&self) -> Vec<u8> {
        [&self.image[..], b"/imagedb/content/sha256"].concat()
    }

    fn mount_file(&self, container: &BStr, file: &str) -> Vec<u8> {
        [&self.image[..], b"/layerdb/mounts/", container, b"/", file.as_bytes()].concat()
    }

    fn chain_file(&self, chain: &BStr, file: &str) -> Vec<u8> {
        [&self.image[..], b"/layerdb/sha256/", chain, b"/", file.as_bytes()].concat()
    }

    /// The path of what says that a container has a layer, for people.
    #[must_use]
    pub fn shown_mount(&self, root: &Root, container: &BStr, file: &str) -> BString {
        root.join(&self.mount_file(container, file))
    }

    /// The path of what says which directory an image layer has, for people.
    #[must_use]
    pub fn shown_chain(&self, root: &Root, chain: &BStr) -> BString {
        root.join(&self.chain_file(chain, "cache-id"))
    }

    /// The path of the table, for people.
    #[must_use]
    pub fn shown(&self, root: &Root) -> BString {
        root.join(&[&self.image[..], b"/layerdb"].concat())
    }

    /// The containers of the table.
    ///
    /// # Errors
    /// When it can't be listed.
    pub fn containers(&self, root: &Root) -> Result<Vec<BString>, ReadError> {
        let names = list(root, &[&self.image[..], b"/layerdb/mounts"].concat())?;
        Ok(names.into_iter().filter(|n| files::is_hex64(n)).collect())
    }

    /// The names below `layerdb/sha256`: chain ids, and those of layers being removed.
    fn chain_names(&self, root: &Root) -> Result<Vec<BString>, ReadError> {
        list(root, &[&self.image[..], b"/layerdb/sha256"].concat())
    }

    /// The chain ids of the table.
    ///
    /// # Errors
    /// When it can't be listed.
    pub fn chains(&self, root: &Root) -> Result<Vec<BString>, ReadError> {
        let names = self.chain_names(root)?;
        Ok(names.into_iter().filter(|n| files::is_hex64(n)).collect())
    }

    /// The writable layer of a container.
    ///
    /// # Errors
    /// `gone` when the table does not have the container.
    pub fn upper(&self, root: &Root, container: &BStr) -> Result<BString, ReadError> {
        files::value(root, &self.mount_file(container, "mount-id"), files::parse_name)
    }

    /// Its init layer, if it has one.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn init(&self, root: &Root, container: &BStr) -> Result<Option<BString>, ReadError> {
        files::optional(root, &self.mount_file(container, "init-id"), files::parse_name)
    }

    /// The chain id of its image's topmost layer; none for an image without layers.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn top(&self, root: &Root, container: &BStr) -> Result<Option<BString>, ReadError> {
        files::optional(root, &self.mount_file(container, "parent"), files::parse_digest)
    }

    /// One image layer.
    ///
    /// # Errors
    /// `gone` when the table does not have it.
    pub fn chain(&mut self, root: &Root, chain: &BStr) -> Result<Chain, ReadError> {
        if let Some(known) = self.chains.get(chain) {
            return known.clone();
        }
        let read = self.read_chain(root, chain);
        self.chains.insert(chain.into(), read.clone());
        read
    }

    fn read_chain(&self, root: &Root, chain: &BStr) -> Result<Chain, ReadError> {
        let file = |name| self.chain_file(chain, name);
        Ok(Chain {
            cache: files::value(root, &file("cache-id"), files::parse_name)?,
            diff: files::value(root, &file("diff"), files::parse_digest)?,
            parent: files::optional(root, &file("parent"), files::parse_digest)?,
        })
    }

    /// An image layer and all below it, topmost first.
    ///
    /// # Errors
    /// When one can't be read, or they lead in a circle.
    pub fn stack(
        &mut self,
        root: &Root,
        top: Option<BString>,
    ) -> Result<Vec<(BString, Chain)>, ReadError> {
        let mut stack: Vec<(BString, Chain)> = Vec::new();
        let mut next = top;
        while let Some(id) = next {
            if stack.len() >= DEEPEST || stack.iter().any(|(seen, _)| *seen == id) {
                let path = root.join(&self.chain_file(id.as_ref(), "parent"));
                return Err(ReadError::new(path, Class::Malformed, "layers lead in a circle"));
            }
            let chain = self.chain(root, id.as_ref())?;
            let below = chain.parent.clone();
            stack.push((id, chain));
            next = below;
        }
        Ok(stack)
    }

    /// What a layer's directory is by the table, and what could not be read: with that, and no entry
    /// found, nothing is known.
    pub fn entry(&mut self, root: &Root, name: &BStr) -> (Option<Entry>, Vec<ReadError>) {
        if let Some(kept) = &self.kept {
            return (Some(kept.entries.get(name).cloned().unwrap_or(Entry::Unknown)), Vec::new());
        }
        let mut problems = Vec::new();
        match self.containers(root) {
            Ok(containers) => {
                for container in containers {
                    match self.in_mount(root, container.as_ref(), name) {
                        Ok(Some(entry)) => return (Some(entry), Vec::new()),
                        Ok(None) => {}
                        Err(e) => problems.push(e),
                    }
                }
            }
            Err(e) => problems.push(e),
        }
        match self.chain_names(root) {
            Ok(names) => {
                for chain in names {
                    let removing = !files::is_hex64(&chain);
                    let rel = self.chain_file(chain.as_ref(), "cache-id");
                    let id = files::value(root, &rel, files::parse_name);
                    match id {
                        Ok(id) if id == name && removing => {
                            return (Some(Entry::Removing), Vec::new());
                        }
                        Ok(id) if id == name => return (Some(Entry::Chain(chain)), Vec::new()),
                        Ok(_) => {}
                        Err(_) if removing => {}
                        Err(e) => problems.extend(self.unless_gone(root, &chain, e)),
                    }
                }
            }
            Err(e) => problems.push(e),
        }
        (problems.is_empty().then_some(Entry::Unknown), problems)
    }

    /// The image layer of a container that has this directory, if one has: fewer reads than
    /// [`LayerDb::entry`].
    ///
    /// # Errors
    /// When the container's stack can't be read.
    pub fn in_stack(
        &mut self,
        root: &Root,
        container: &BStr,
        name: &BStr,
    ) -> Result<Option<Entry>, ReadError> {
        let top = self.top(root, container)?;
        let stack = self.stack(root, top)?;
        let found = stack.into_iter().find(|(_, chain)| chain.cache == name);
        Ok(found.map(|(id, _)| Entry::Chain(id)))
    }

    /// A layer that was removed while its files were read is no problem; a file missing in one that
    /// is there is.
    fn unless_gone(&self, root: &Root, chain: &BString, e: ReadError) -> Option<ReadError> {
        let there = root.has_dir(&self.chain_file(chain.as_ref(), ""));
        (e.class != Class::Gone || there).then_some(e)
    }

    /// Whether a layer is the container's own, or its init layer.
    ///
    /// # Errors
    /// When that can't be read.
    pub fn in_mount(
        &self,
        root: &Root,
        container: &BStr,
        name: &BStr,
    ) -> Result<Option<Entry>, ReadError> {
        match self.upper(root, container) {
            Ok(upper) if upper == name => return Ok(Some(Entry::Upper(container.into()))),
            Ok(_) => {}
            Err(e) if e.class == Class::Gone && !root.has_dir(&self.mount_file(container, "")) => {
                return Ok(None); // removed meanwhile
            }
            Err(e) => return Err(e),
        }
        let init = self.init(root, container)?;
        Ok(init.is_some_and(|i| i == name).then(|| Entry::Init(container.into())))
    }

    /// The containers whose image has this layer, by full id.
    pub fn users(&mut self, root: &Root, chain: &BStr) -> Read<BString> {
        let mut users = Read::new();
        let tops = match self.tops(root, &mut users.problems) {
            Ok(tops) => tops,
            Err(e) => return Read::failed(e),
        };
        let mut holds: HashMap<Option<BString>, bool> = HashMap::new();
        for (container, top) in tops {
            let known = match holds.get(&top) {
                Some(known) => *known,
                None => match self.holds(root, top.clone(), chain) {
                    Ok(known) => {
                        holds.insert(top, known);
                        known
                    }
                    Err(e) => {
                        users.problems.push(e);
                        continue;
                    }
                },
            };
            if known {
                users.list.push(container);
            }
        }
        users.list.sort();
        users
    }

    /// The topmost chain below each container.
    fn tops(
        &self,
        root: &Root,
        problems: &mut Vec<ReadError>,
    ) -> Result<Vec<(BString, Option<BString>)>, ReadError> {
        if let Some(kept) = &self.kept {
            return Ok(kept.tops.clone());
        }
        let mut tops = Vec::new();
        for container in self.containers(root)? {
            match self.top(root, container.as_ref()) {
                Ok(top) => tops.push((container, top)),
                Err(e) => problems.push(e),
            }
        }
        Ok(tops)
    }

    /// The chain below, one small read a chain: what tells of many containers.
    fn parent(&mut self, root: &Root, chain: &BStr) -> Result<Option<BString>, ReadError> {
        if let Some(known) = self.parents.get(chain) {
            return known.clone();
        }
        let rel = self.chain_file(chain, "parent");
        let mut read = files::optional(root, &rel, files::parse_digest);
        if read == Ok(None) {
            // A lowest layer has none, one that is not there neither.
            read = root.look(&self.chain_file(chain, "diff")).map(|_| None);
        }
        self.parents.insert(chain.into(), read.clone());
        read
    }

    fn holds(
        &mut self,
        root: &Root,
        top: Option<BString>,
        chain: &BStr,
    ) -> Result<bool, ReadError> {
        let mut next = top;
        for _ in 0..DEEPEST {
            match next {
                None => return Ok(false),
                Some(id) if id == chain => return Ok(true),
                Some(id) => next = self.parent(root, id.as_ref())?,
            }
        }
        let path = root.join(&self.chain_file(chain, "parent"));
        Err(ReadError::new(path, Class::Malformed, "layers lead in a circle"))
    }

    /// The images that have this layer, by name and id.
    pub fn images(&mut self, root: &Root, chain: &BStr) -> Read<Image> {
        let stack = match self.stack(root, Some(chain.into())) {
            Ok(stack) => stack,
            Err(e) => return Read::failed(e),
        };
        let diffs: Vec<BString> = stack.into_iter().rev().map(|(_, c)| c.diff).collect();
        self.images_with(root, |_, of_image| of_image.starts_with(&diffs))
    }

    /// The images of which this is true, by id and the diff ids of their layers.
    pub fn images_with(
        &mut self,
        root: &Root,
        has: impl Fn(&BString, &[BString]) -> bool,
    ) -> Read<Image> {
        let mut images = Read::new();
        if let Some(kept) = &self.kept {
            let found = kept.images.iter().filter(|(id, diffs)| has(id, diffs));
            images.list.extend(found.map(|(id, _)| Image { id: id.clone(), names: Vec::new() }));
        } else {
            let dir = self.images_dir();
            let ids = match list(root, &dir) {
                Ok(ids) => ids,
                Err(e) => return Read::failed(e),
            };
            for id in ids.into_iter().filter(|id| files::is_hex64(id)) {
                let rel = [&dir[..], b"/", &id].concat();
                match files::document(root, &rel, files::parse_image) {
                    Ok(of_image) if has(&id, &of_image) => {
                        images.list.push(Image { id, names: Vec::new() });
                    }
                    Ok(_) => {}
                    Err(e) if e.class == Class::Gone => {} // removed meanwhile
                    Err(e) => images.problems.push(e),
                }
            }
        }
        if images.list.is_empty() {
            return images;
        }
        match self.names(root) {
            Ok(names) => {
                for image in &mut images.list {
                    image.names = names.get(&image.id).cloned().unwrap_or_default();
                }
            }
            Err(e) => images.problems.push(e),
        }
        images.list.sort_by(|a, b| {
            (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id))
        });
        images
    }

    /// One image, by its id without the algorithm.
    ///
    /// # Errors
    /// `gone` when there is none; when it or the table of names can't be read.
    pub fn image(&mut self, root: &Root, id: &BStr) -> Result<Image, ReadError> {
        files::document(root, &self.image_file(id), files::parse_image)?;
        let names = self.names(root)?.get(id).cloned().unwrap_or_default();
        Ok(Image { id: id.into(), names })
    }

    /// The path of an image's configuration, for people.
    #[must_use]
    pub fn shown_image(&self, root: &Root, id: &BStr) -> BString {
        root.join(&self.image_file(id))
    }

    fn image_file(&self, id: &BStr) -> Vec<u8> {
        [&self.images_dir()[..], b"/", id].concat()
    }

    fn names(&mut self, root: &Root) -> Result<BTreeMap<BString, Vec<BString>>, ReadError> {
        let rel = [&self.image[..], b"/repositories.json"].concat();
        let read = || match files::document(root, &rel, files::parse_repositories) {
            Err(e) if e.class == Class::Gone => Ok(BTreeMap::new()), // nothing was named yet
            read => read,
        };
        self.names.get_or_insert_with(read).clone()
    }

    /// Whether another image was built on this one, so that it is a step of a build: with the builder
    /// that makes an image a step, whose cache those are.
    #[must_use]
    pub fn is_step(&self, root: &Root, image: &BStr) -> bool {
        let dir = [&self.image[..], b"/imagedb/metadata/sha256"].concat();
        let ids = list(root, &dir).unwrap_or_default();
        ids.iter().filter(|id| files::is_hex64(id)).any(|id| {
            let rel = [&dir[..], b"/", id, b"/parent"].concat();
            files::value(root, &rel, files::parse_digest).is_ok_and(|parent| parent == image)
        })
    }

    /// Whether layers are being added right now, or an addition was broken off: what is not in the
    /// table may be one of them.
    #[must_use]
    pub fn is_changing(&self, root: &Root) -> bool {
        list(root, &[&self.image[..], b"/layerdb/tmp"].concat()).is_ok_and(|tmp| !tmp.is_empty())
    }
}

/// Whether BuildKit's database has this name somewhere; `None` without BuildKit. Its bbolt pages hold
/// keys as they are, so that a name which occurs nowhere in the file is not in it; one that occurs may
/// be left over in a free page.
///
/// # Errors
/// When there is a database and it can't be read.
pub fn buildkit_names(root: &Root, name: &BStr) -> Result<Option<bool>, ReadError> {
    match root.read(b"buildkit/snapshots.db", DATABASE) {
        Ok(bytes) => Ok(Some(memchr::memmem::find(&bytes, name).is_some())),
        Err(e) if e.class == Class::Gone => Ok(None),
        Err(e) => Err(e),
    }
}

/// The entries of a directory; one that is not there has none.
fn list(root: &Root, rel: &[u8]) -> Result<Vec<BString>, ReadError> {
    match root.list(rel, MOST) {
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).collect()),
        Err(e) if e.class == Class::Gone => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
