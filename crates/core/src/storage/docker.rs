//! Docker's word on a layer, by its table ([`super::docker_layerdb`]).

use bstr::{BStr, BString};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::docker_layerdb::{self as layerdb, Entry, LayerDb};
use super::table::{Asked, Image, LayerId, LayerInfo, Table, User, on_disk};
use super::{Driver, entry};
use crate::model::{Engine, Evidence, LayerKind, Source};

const ENGINE: Engine = Engine("docker");

/// The table of a driver, if the data root has it.
pub(super) fn open(root: &Root, driver: &dyn Driver) -> Result<Option<Box<dyn Table>>, ReadError> {
    Ok(LayerDb::open(root, driver)?.map(|db| Box::new(Layers { db }) as Box<dyn Table>))
}

struct Layers {
    db: LayerDb,
}

impl Table for Layers {
    fn tell(&mut self, asked: &Asked<'_>, info: &mut LayerInfo) {
        Work { asked, root: asked.root, db: &mut self.db, info }.run();
    }

    fn named(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        id: &LayerId<'_>,
    ) -> Result<Vec<(&'static str, BString)>, ReadError> {
        let store = driver.layers().first().copied().unwrap_or_default();
        let mut found = Vec::new();
        match id {
            LayerId::Name(name) => {
                found = on_disk(root, driver, name)?;
                // What the table has and the disk has not is known all the same.
                if found.is_empty()
                    && matches!(
                        self.db.entry(root, name).0,
                        Some(Entry::Chain(_) | Entry::Upper(_))
                    )
                {
                    found.push((store, BString::from(*name)));
                }
                // The init layer goes with its container's: the beginning of both names the latter.
                if let [(_, a), (_, b)] = found.as_slice()
                    && (is_init_of(a, b) || is_init_of(b, a))
                {
                    found.retain(|(_, n)| !n.ends_with(b"-init"));
                }
            }
            LayerId::Digest(digits) => {
                for chain in self.db.chains(root)? {
                    let read = self.db.chain(root, chain.as_ref());
                    if chain.starts_with(digits) {
                        found.push((store, read?.cache));
                    } else if let Ok(of) = read
                        && of.diff.starts_with(digits)
                    {
                        found.push((store, of.cache));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn keep(&mut self, root: &Root) {
        self.db.keep(root);
    }

    fn known(&mut self, root: &Root) -> Result<Vec<BString>, ReadError> {
        let mut names = Vec::new();
        for container in self.db.containers(root)? {
            match self.db.upper(root, container.as_ref()) {
                Ok(upper) => names.push(upper),
                Err(e) if e.class == Class::Gone => continue, // removed meanwhile
                Err(e) => return Err(e),
            }
            names.extend(self.db.init(root, container.as_ref())?);
        }
        for chain in self.db.chains(root)? {
            match self.db.chain(root, chain.as_ref()) {
                Ok(of) => names.push(of.cache),
                Err(e) if e.class == Class::Gone => {}
                Err(e) => return Err(e),
            }
        }
        Ok(names)
    }

    fn stack(
        &mut self,
        root: &Root,
        driver: &'static dyn Driver,
        key: &BStr,
    ) -> Result<Option<Vec<(&'static str, BString)>>, ReadError> {
        let store = driver.layers().first().copied().unwrap_or_default();
        let mut names = match self.db.upper(root, key) {
            Ok(upper) => vec![upper],
            Err(e) if e.class == Class::Gone => return Ok(None),
            Err(e) => return Err(e),
        };
        if driver.stacks() {
            names.extend(self.db.init(root, key)?);
            let top = self.db.top(root, key)?;
            names.extend(self.db.stack(root, top)?.into_iter().map(|(_, chain)| chain.cache));
        }
        Ok(Some(names.into_iter().map(|name| (store, name)).collect()))
    }
}

fn is_init_of(a: &BString, b: &BString) -> bool {
    a.strip_suffix(b"-init") == Some(&b[..])
}

/// A digest with its algorithm.
fn full(hex: &BString) -> BString {
    [b"sha256:", hex.as_slice()].concat().into()
}

/// Looking one layer up.
struct Work<'w> {
    asked: &'w Asked<'w>,
    root: &'w Root,
    db: &'w mut LayerDb,
    info: &'w mut LayerInfo,
}

impl Work<'_> {
    fn run(&mut self) {
        let (root, name) = (self.root, self.asked.name);
        let (container, users) = (self.asked.container, self.asked.users);
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
        problems.iter().for_each(|problem| self.info.problem(problem));
    }

    fn seen(&mut self, detail: impl Into<BString>, path: BString) {
        self.info.seen(detail, path);
    }

    /// The containers that use it.
    fn used_by(&mut self, ids: Vec<BString>) {
        self.info.used_by(ids.into_iter().map(|key| User::new(ENGINE, key)).collect());
    }

    fn upper(&mut self, of: BString) {
        let path = self.db.shown_mount(self.root, of.as_ref(), "mount-id");
        self.seen(format!("the writable layer of {of}"), path);
        self.info.layer.kind = Some(LayerKind::Upper);
        if self.asked.driver.name() == "overlay2" {
            self.check_lower(&of);
        }
        self.used_by(vec![of]);
    }

    /// overlay2 keeps the stack it mounts in `lower`: it has to be the table's.
    fn check_lower(&mut self, of: &BString) {
        let root = self.root;
        let entry = entry(self.asked.store, self.asked.name);
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
        let root = self.root;
        let init = u32::from(self.db.init(root, container)?.is_some());
        let top = self.db.top(root, container)?;
        let stack = self.db.stack(root, top)?;
        Ok(init + u32::try_from(stack.len()).unwrap_or(u32::MAX - 1))
    }

    fn init(&mut self, of: BString) {
        let path = self.db.shown_mount(self.root, of.as_ref(), "init-id");
        self.seen(format!("the init layer of {of}"), path);
        self.info.layer.kind = Some(LayerKind::Init);
        if self.asked.driver.stacks() {
            match self.count(of.as_ref()) {
                Ok(count) => {
                    self.info.layer.index = Some(0);
                    self.info.layer.of = Some(count);
                }
                Err(e) => self.gaps(vec![e]),
            }
        }
        self.used_by(vec![of]);
    }

    fn image(&mut self, chain: BString, container: Option<&BStr>, only: Option<&BStr>) {
        let root = self.root;
        self.seen(
            format!("the layer of chain sha256:{chain}"),
            self.db.shown_chain(root, chain.as_ref()),
        );
        self.info.layer.chain_id = Some(full(&chain));
        match self.db.chain(root, chain.as_ref()) {
            Ok(of) => self.info.layer.diff_id = Some(full(&of.diff)),
            Err(e) => self.gaps(vec![e]),
        }
        let users = match only {
            Some(container) => layerdb::Read { list: vec![container.into()], problems: Vec::new() },
            None => self.db.users(root, chain.as_ref()),
        };
        self.gaps(users.problems);
        let images = self.db.images(root, chain.as_ref());
        self.gaps(images.problems);
        if self.asked.driver.stacks() {
            self.place(container, &users.list, &chain);
        }
        self.used_by(users.list);
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
        let with_algorithm = |image: Image| Image { id: full(&image.id), ..image };
        self.info.held_by(images.list.into_iter().map(with_algorithm).collect());
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
        self.info.placed(&places);
    }

    fn place_in(
        &mut self,
        container: &BStr,
        chain: &BString,
    ) -> Result<Option<(usize, usize)>, ReadError> {
        let root = self.root;
        let init = usize::from(self.db.init(root, container)?.is_some());
        let top = self.db.top(root, container)?;
        let stack = self.db.stack(root, top)?;
        let at = stack.iter().position(|(id, _)| id == chain);
        Ok(at.map(|at| (at + init, stack.len() + init)))
    }

    /// An image layer of no image and no container.
    fn unused(&mut self, chain: &BString) -> LayerKind {
        self.info.is_changing = self.db.is_changing(self.root);
        match layerdb::buildkit_names(self.root, chain.as_ref()) {
            Ok(Some(true)) => {
                let path = self.root.join(b"buildkit/snapshots.db");
                self.seen("BuildKit's database names it", path);
                LayerKind::BuildCache
            }
            _ => LayerKind::Unused,
        }
    }

    /// Not in the table, all of which was read.
    fn unknown(&mut self) {
        let root = self.root;
        self.seen("no container and no image layer has it", self.db.shown(root));
        self.info.is_changing = self.db.is_changing(root);
        let base = self.asked.name.strip_suffix(b"-init").unwrap_or(self.asked.name);
        let path = root.join(b"buildkit/snapshots.db");
        match layerdb::buildkit_names(root, BStr::new(base)) {
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
