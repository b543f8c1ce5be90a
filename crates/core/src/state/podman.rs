//! Podman's own database: SQLite since release 5, a bolt file before, and what the store's table keeps
//! for it.
//!
//! `db.sql` in the graph root has a table of containers' configurations, one of their states and one of
//! pods (libpod/sqlite_state_internal.go), each with the JSON in a column, a text or a blob by release.
//! `libpod/bolt_state.db` has the same JSON in buckets (libpod/boltdb_state_internal.go). Both are
//! written by each command that changes something, and nobody keeps them open. The JSON: libpod's
//! container_config.go, container.go and pod.go; the metadata in the table: libpod/storage.go.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bstr::{BStr, BString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{bolt, json, spec, sqlite, toml};

/// The databases, below the graph root.
const SQLITE: &[u8] = b"db.sql";
const BOLT: &[u8] = b"libpod/bolt_state.db";
/// The latter in a directory of its own (`static_dir`).
const BOLT_ALONE: &[u8] = b"bolt_state.db";
/// Containers that a database may hold.
const MOST: usize = 200_000;

/// A container's configuration, as far as it is used. It does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Full id.
    pub id: String,
    /// Name, unique in a store.
    pub name: String,
    /// Full id of its pod.
    pub pod: String,
    /// Name of its image.
    #[serde(rename = "rootfsImageName")]
    pub image_name: String,
    /// Id of its image, without its algorithm.
    #[serde(rename = "rootfsImageID")]
    pub image_id: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Creation, RFC 3339.
    pub created_time: String,
    /// `systemd` or `cgroupfs`.
    pub cgroup_manager: String,
    /// `enabled`, `disabled`, `no-conmon` or `split`; empty in old ones.
    pub cgroups_mode: String,
    /// A slice or a path.
    pub cgroup_parent: String,
    /// No cgroups, as releases before 1.8 said it.
    pub no_cgroups: bool,
    /// Host path of the log file.
    pub log_path: String,
    /// How the log is kept.
    pub log_driver: String,
    /// Whether it holds a pod's namespaces.
    #[serde(rename = "pause")]
    pub is_infra: bool,
    /// Volumes of Podman's own that it has.
    pub named_volumes: Option<Vec<NamedVolume>>,
    /// What it is made with.
    pub spec: Option<Spec>,
}

/// One of a container's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedVolume {
    /// Its name, unique in a store.
    pub volume_name: String,
    /// Where, from the container's root.
    pub dest: String,
}

/// The OCI configuration that a container is made with, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// What is mounted.
    pub mounts: Option<Vec<spec::Mount>>,
}

impl Config {
    /// Whether it has this volume.
    #[must_use]
    pub fn has_volume(&self, name: &[u8]) -> bool {
        self.named_volumes.iter().flatten().any(|v| v.volume_name.as_bytes() == name)
    }
}

/// A container's state, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// A number of libpod's (libpod/define/containerstate.go).
    pub state: i64,
    /// PID of init; 0 while there is none.
    pub pid: i64,
    /// Last start, RFC 3339.
    pub started_time: String,
    /// Its directory in the run root, a path of the host (libpod/container.go).
    pub run_dir: String,
}

/// A pod's configuration, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodConfig {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
}

/// Metadata that Podman keeps with a container in the store's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Metadata {
    /// Name of its image.
    pub image_name: String,
    /// Name of the container.
    pub name: String,
    /// A pod's sandbox: CRI-O writes that, and no name of the container.
    pub pod_id: String,
}

/// What a database has of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What does not change.
    pub config: Config,
    /// What does.
    pub state: State,
    /// Name of its pod, if it is in one.
    pub pod_name: Option<String>,
    /// The database.
    pub path: BString,
}

/// `containers.conf`, as far as it is used (container-libs common/docs/containers.conf.5.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conf {
    /// The only table with a place in it.
    pub engine: Places,
}

/// The places in [`Conf`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Places {
    /// Where the database is, if not in the graph root.
    pub static_dir: Option<String>,
}

/// Parses `containers.conf`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_conf(bytes: &[u8]) -> Result<Conf, String> {
    toml::parse(bytes)
}

/// Parses a container's configuration.
///
/// # Errors
/// What is wrong with it.
pub fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    json::parse(bytes)
}

/// Parses a container's state.
///
/// # Errors
/// What is wrong with it.
pub fn parse_state(bytes: &[u8]) -> Result<State, String> {
    json::parse(bytes)
}

/// Parses a pod's configuration.
///
/// # Errors
/// What is wrong with it.
pub fn parse_pod(bytes: &[u8]) -> Result<PodConfig, String> {
    json::parse(bytes)
}

/// Parses the metadata of a container in the store's table; `None` for what another engine wrote.
#[must_use]
pub fn parse_metadata(text: &str) -> Option<Metadata> {
    let metadata: Metadata = json::parse(text.as_bytes()).ok()?;
    (metadata.pod_id.is_empty() && !metadata.name.is_empty()).then_some(metadata)
}

/// What a database is asked.
trait Store {
    /// Ids and names of all containers.
    fn names(&self) -> Result<Vec<(BString, BString)>, ReadError>;

    /// A container by its full id.
    fn container(&self, id: &[u8]) -> Result<Option<Stored>, ReadError>;

    /// Ids of the containers that have this volume.
    fn having(&self, volume: &[u8]) -> Result<Vec<BString>, ReadError>;
}

/// The databases that are there: the one that Podman has now, and the one that it had before, which it
/// may still use; in the graph root, and in other directories of the same engine's.
fn stores<'r>(roots: &[&'r Root]) -> Result<Vec<Box<dyn Store + 'r>>, ReadError> {
    let mut stores: Vec<Box<dyn Store + 'r>> = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        match sqlite::Database::open(root, SQLITE) {
            Ok(database) => stores.push(Box::new(database)),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => return Err(e),
        }
        match bolt::Database::open(root, bolt_in(at)) {
            Ok(database) => stores.push(Box::new(database)),
            Err(e) if e.class == Class::Gone => {}
            Err(e) => return Err(e),
        }
    }
    Ok(stores)
}

/// The bolt database in the root of this number; the first is the graph root.
fn bolt_in(at: usize) -> &'static [u8] {
    if at == 0 { BOLT } else { BOLT_ALONE }
}

/// Whether Podman has a database in one of these directories, the first of which is the graph root, of
/// whatever kind it is.
#[must_use]
pub fn has_database(roots: &[&Root]) -> bool {
    let is_there =
        |root: &Root, rel: &[u8]| root.look(rel).map_or_else(|e| e.class != Class::Gone, |_| true);
    let has = |(at, root): (usize, &&Root)| is_there(root, SQLITE) || is_there(root, bolt_in(at));
    roots.iter().enumerate().any(has)
}

/// Full ids and names of all containers in the databases; `None` where there is no database.
///
/// # Errors
/// When one is there and can't be read.
pub fn names(roots: &[&Root]) -> Result<Option<Vec<(BString, BString)>>, ReadError> {
    let stores = stores(roots)?;
    let mut all: BTreeMap<BString, BString> = BTreeMap::new();
    for store in &stores {
        for (id, name) in store.names()? {
            all.entry(id).or_insert(name);
        }
    }
    Ok((!stores.is_empty()).then(|| all.into_iter().collect()))
}

/// A container by its full id; `None` when no database has it.
///
/// # Errors
/// When one is there and can't be read.
pub fn container(roots: &[&Root], id: &BStr) -> Result<Option<Stored>, ReadError> {
    for store in stores(roots)? {
        if let Some(stored) = store.container(id)? {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}

/// Full ids of the containers that have a volume of this name.
///
/// # Errors
/// When a database is there and can't be read.
pub fn having(roots: &[&Root], volume: &BStr) -> Result<Vec<BString>, ReadError> {
    let mut all = Vec::new();
    for store in stores(roots)? {
        all.extend(store.having(volume)?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Why one container's JSON does not count.
const ANOTHERS: &str = "it is another container's";

impl Store for sqlite::Database<sqlite::File<'_>> {
    fn names(&self) -> Result<Vec<(BString, BString)>, ReadError> {
        self.view(|tables| {
            let mut names = Vec::new();
            let Some(table) = tables.table("ContainerConfig")? else { return Ok(names) };
            let [id, name] = table.columns(["ID", "Name"])?;
            table.rows(&mut |row| {
                if names.len() == MOST {
                    return Err(sqlite::Trouble::TooMuch);
                }
                if let (Some(id), Some(name)) = (row.bytes(id)?, row.bytes(name)?) {
                    names.push((id.into(), name.into()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(names)
        })
    }

    fn container(&self, id: &[u8]) -> Result<Option<Stored>, ReadError> {
        let json = |tables: &sqlite::Tables<'_>, name: &str, id: &[u8]| {
            let Some(table) = tables.table(name)? else { return Ok(None) };
            let [key, json] = table.columns(["ID", "JSON"])?;
            table.find(key, id)?.map_or(Ok(None), |row| row.bytes(json))
        };
        self.view(|tables| {
            let Some(config) = json(tables, "ContainerConfig", id)? else { return Ok(None) };
            let wrong = sqlite::Trouble::Wrong;
            let config: Config = own(&config, id).map_err(wrong)?;
            let state = json(tables, "ContainerState", id)?;
            let state = optional(state).map_err(wrong)?;
            let pod = match config.pod.as_bytes() {
                b"" => None,
                pod => json(tables, "PodConfig", pod)?,
            };
            let pod: Option<PodConfig> =
                pod.map(|pod| json::parse(&pod)).transpose().map_err(wrong)?;
            Ok(Some(Stored { config, state, pod_name: pod.map(|p| p.name), path: self.shown() }))
        })
    }

    fn having(&self, volume: &[u8]) -> Result<Vec<BString>, ReadError> {
        self.view(|tables| {
            let mut ids = Vec::new();
            let Some(table) = tables.table("ContainerConfig")? else { return Ok(ids) };
            let [id, json] = table.columns(["ID", "JSON"])?;
            table.rows(&mut |row| {
                if let (Some(id), Some(json)) = (row.bytes(id)?, row.bytes(json)?) {
                    let config: Config = own(&json, &id).map_err(sqlite::Trouble::Wrong)?;
                    ids.extend(config.has_volume(volume).then(|| BString::from(id)));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(ids)
        })
    }
}

impl Store for bolt::Database<whose_kernel::held::Held> {
    fn names(&self) -> Result<Vec<(BString, BString)>, ReadError> {
        self.view(|top| {
            let mut names = Vec::new();
            let Some(all) = top.bucket(b"all-ctrs")? else { return Ok(names) };
            all.walk(&mut |item| {
                if names.len() == MOST {
                    return Err(bolt::Trouble::TooMuch);
                }
                if let Some(name) = item.value()? {
                    names.push((item.key()?.into(), name.into()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(names)
        })
    }

    fn container(&self, id: &[u8]) -> Result<Option<Stored>, ReadError> {
        self.view(|top| {
            let Some(bucket) = top.at(&[b"ctr", id])? else { return Ok(None) };
            let Some(config) = bucket.value(b"config")? else { return Ok(None) };
            let wrong = bolt::Trouble::Wrong;
            let config: Config = own(&config, id).map_err(wrong)?;
            let state = optional(bucket.value(b"state")?.map(Vec::from)).map_err(wrong)?;
            let pod = match config.pod.as_bytes() {
                b"" => None,
                pod => top.at(&[b"pod", pod])?,
            };
            let pod = pod.map_or(Ok(None), |pod| pod.value(b"config"))?;
            let pod: Option<PodConfig> =
                pod.map(|pod| json::parse(&pod)).transpose().map_err(wrong)?;
            Ok(Some(Stored { config, state, pod_name: pod.map(|p| p.name), path: self.shown() }))
        })
    }

    fn having(&self, volume: &[u8]) -> Result<Vec<BString>, ReadError> {
        let names = self.names()?;
        self.view(|top| {
            let mut ids = Vec::new();
            for (id, _) in &names {
                let bucket = top.at(&[b"ctr", id])?;
                let config = bucket.map_or(Ok(None), |bucket| bucket.value(b"config"))?;
                let Some(config) = config else { continue };
                let config: Config = own(&config, id).map_err(bolt::Trouble::Wrong)?;
                ids.extend(config.has_volume(volume).then(|| id.clone()));
            }
            Ok(ids)
        })
    }
}

/// A configuration, if it is of the container that it is kept under.
fn own(bytes: &[u8], id: &[u8]) -> Result<Config, String> {
    let config: Config = json::parse(bytes)?;
    if config.id.as_bytes() == id { Ok(config) } else { Err(ANOTHERS.into()) }
}

fn optional<T: DeserializeOwned + Default>(bytes: Option<Vec<u8>>) -> Result<T, String> {
    bytes.map_or_else(|| Ok(T::default()), |bytes| json::parse(&bytes))
}

#[cfg(test)]
mod tests;
