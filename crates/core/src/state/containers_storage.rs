//! containers/storage: the tables in which several engines keep containers, images and layers, and
//! the file that says where.
//!
//! Below the graph root each driver has `<driver>-containers/containers.json`,
//! `<driver>-images/images.json` and `<driver>-layers/layers.json`, with a `volatile-` twin for what
//! need not outlive a boot; a transient store keeps that twin in the run root. All are replaced
//! atomically, so that a reader needs no lock. Field names: containers/storage containers.go,
//! images.go, layers.go; the file: docs/containers-storage.conf.5.md.

use std::collections::HashSet;

use bstr::{BString, ByteSlice};
use serde::Deserialize;
use serde_json::{Map, Value};
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use super::{json, toml};

/// Entries that the graph root may have.
const MOST: usize = 10_000;
/// Entries that a driver's directory of containers may have.
const MOST_CONTAINERS: usize = 200_000;
/// What a driver's directory of containers is called after it.
const CONTAINERS: &[u8] = b"-containers";

/// One container of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Names, unique in a store.
    pub names: Option<Vec<String>>,
    /// Image id, without its algorithm.
    pub image: String,
    /// The writable layer.
    pub layer: String,
    /// What its engine keeps with it: JSON in a text.
    pub metadata: String,
    /// Creation, RFC 3339.
    pub created: String,
}

/// One image of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Id, without its algorithm.
    pub id: String,
    /// Names with a tag or digest.
    pub names: Option<Vec<String>>,
    /// The topmost layer.
    pub layer: String,
    /// Copies of the topmost layer for other id maps.
    #[serde(rename = "mapped-layers")]
    pub mapped_layers: Option<Vec<String>>,
}

/// One layer of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Layer {
    /// Id, which is its directory's name.
    pub id: String,
    /// The layer below; empty at the bottom.
    pub parent: String,
    /// Digest of its files, `sha256:...`.
    #[serde(rename = "diff-digest")]
    pub diff_digest: String,
    /// What else the library notes of it.
    pub flags: Option<Map<String, Value>>,
}

impl Layer {
    /// Whether its making was begun and not ended: the library removes what was broken off when it next
    /// opens the store to write.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.flags.as_ref().and_then(|flags| flags.get("incomplete")) == Some(&Value::Bool(true))
    }
}

/// `storage.conf`, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The only table with a place in it.
    pub storage: Places,
}

/// The places in [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Places {
    /// Graph root.
    pub graphroot: Option<String>,
    /// Run root.
    pub runroot: Option<String>,
    /// Whether what is true of containers is in the run root.
    pub transient_store: bool,
    /// What a driver is told.
    pub options: Options,
}

/// The options in [`Places`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Graph roots of other stores, whose images containers of this one may have.
    pub additionalimagestores: Option<Vec<String>>,
}

/// Parses a table of containers.
///
/// # Errors
/// What is wrong with it.
pub fn parse_containers(bytes: &[u8]) -> Result<Vec<Container>, String> {
    json::parse(bytes)
}

/// Parses a table of images.
///
/// # Errors
/// What is wrong with it.
pub fn parse_images(bytes: &[u8]) -> Result<Vec<Image>, String> {
    json::parse(bytes)
}

/// Parses a table of layers.
///
/// # Errors
/// What is wrong with it.
pub fn parse_layers(bytes: &[u8]) -> Result<Vec<Layer>, String> {
    json::parse(bytes)
}

/// Parses `storage.conf`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    toml::parse(bytes)
}

/// One driver's part of a store.
#[derive(Clone, Copy, Debug)]
pub struct Store<'r> {
    /// The graph root, or the run root of a transient store.
    pub root: &'r Root,
    /// Name of the driver: `overlay`, `vfs`, `btrfs`, `zfs`.
    pub driver: &'r [u8],
}

impl Store<'_> {
    /// Every container, those of the volatile table too. An id that both have counts once.
    ///
    /// # Errors
    /// When a table is there and can't be read.
    pub fn containers(&self) -> Result<Vec<Container>, ReadError> {
        let mut all: Vec<Container> = Vec::new();
        // A user's may be as long as he likes.
        let mut known: HashSet<String> = HashSet::new();
        for name in ["containers.json", "volatile-containers.json"] {
            let table = self.table(&self.path("containers", name), parse_containers)?;
            all.extend(table.into_iter().filter(|c| known.insert(c.id.clone())));
        }
        Ok(all)
    }

    /// Every layer, those of the volatile table too.
    ///
    /// # Errors
    /// When a table is there and can't be read.
    pub fn layers(&self) -> Result<Vec<Layer>, ReadError> {
        let mut all = self.table(&self.layers_file(), parse_layers)?;
        all.extend(self.table(&self.path("layers", "volatile-layers.json"), parse_layers)?);
        Ok(all)
    }

    /// The path of the table of layers, below the root.
    #[must_use]
    pub fn layers_file(&self) -> Vec<u8> {
        self.path("layers", "layers.json")
    }

    /// The path of the table of images, below the root.
    #[must_use]
    pub fn images_file(&self) -> Vec<u8> {
        self.path("images", "images.json")
    }

    /// The path of the table of containers, below the root.
    #[must_use]
    pub fn containers_file(&self) -> Vec<u8> {
        self.path("containers", "containers.json")
    }

    /// Every image.
    ///
    /// # Errors
    /// When the table is there and can't be read.
    pub fn images(&self) -> Result<Vec<Image>, ReadError> {
        self.table(&self.images_file(), parse_images)
    }

    /// Full ids of the containers that have a directory here.
    ///
    /// # Errors
    /// When it is there and can't be listed.
    pub fn directories(&self) -> Result<Vec<BString>, ReadError> {
        let dir = [self.driver, CONTAINERS].concat();
        match self.root.list(&dir, MOST_CONTAINERS) {
            Ok(entries) => Ok(entries.into_iter().filter(|e| e.is_dir).map(|e| e.name).collect()),
            Err(e) if e.class == Class::Gone => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// The path below the root of what an engine keeps of a container.
    #[must_use]
    pub fn userdata(&self, id: &[u8], file: &str) -> Vec<u8> {
        [self.driver, CONTAINERS, b"/", id, b"/userdata/", file.as_bytes()].concat()
    }

    fn path(&self, kind: &str, file: &str) -> Vec<u8> {
        [self.driver, b"-", kind.as_bytes(), b"/", file.as_bytes()].concat()
    }

    fn table<T>(
        &self,
        rel: &[u8],
        parse: fn(&[u8]) -> Result<Vec<T>, String>,
    ) -> Result<Vec<T>, ReadError> {
        let malformed = |why| ReadError::new(self.root.join(rel), Class::Malformed, why);
        match self.root.read_of_admin(rel, json::CAP) {
            // Empty is how a table begins.
            Ok(bytes) if bytes.is_empty() => Ok(Vec::new()),
            Ok(bytes) => parse(&bytes).map_err(malformed),
            Err(e) if e.class == Class::Gone => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

/// The drivers that have containers below a root.
///
/// # Errors
/// When the root can't be listed.
pub fn drivers(root: &Root) -> Result<Vec<BString>, ReadError> {
    let entries = root.list(b"", MOST)?;
    let driver = |name: &BString| name.strip_suffix(CONTAINERS).map(BString::from);
    let mut drivers: Vec<BString> =
        entries.iter().filter(|e| e.is_dir).filter_map(|e| driver(&e.name)).collect();
    drivers.retain(|d| !d.is_empty() && !d.contains_str(b"/"));
    Ok(drivers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bstr::{BStr, ByteSlice};
    use whose_kernel::Class;
    use whose_kernel::root::{Links, Root};

    use super::{Store, drivers, parse_config, parse_containers, parse_images, parse_layers};

    fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let path = dir.path().as_os_str().as_encoded_bytes().to_vec();
        let root = Root::open(BStr::new(&path), Links::Never).unwrap();
        (dir, root)
    }

    #[test]
    fn tables_as_the_library_writes_them() {
        let text = br#"[{"id":"ab","names":["k8s_app"],"image":"cd","layer":"ef",
            "metadata":"{\"pod-name\":\"x\"}","created":"2026-01-02T03:04:05.6Z",
            "flags":{"Volatile":true},"big-data-sizes":{}}]"#;
        let container = parse_containers(text).unwrap().remove(0);
        assert_eq!((container.id.as_str(), container.layer.as_str()), ("ab", "ef"));
        assert_eq!(container.names.unwrap(), ["k8s_app"]);
        assert_eq!(container.metadata, r#"{"pod-name":"x"}"#);
        let image = br#"[{"id":"cd","names":null,"layer":"l","mapped-layers":["m"],"future":[]}]"#;
        let image = parse_images(image).unwrap().remove(0);
        assert_eq!((image.names, image.mapped_layers.unwrap()), (None, vec!["m".to_owned()]));
        let incomplete = br#"[{"id":"l","flags":{"incomplete":true,"x":{}}},{"id":"m","flags":{"incomplete":1}}]"#;
        let incomplete = parse_layers(incomplete).unwrap();
        assert_eq!([incomplete[0].is_incomplete(), incomplete[1].is_incomplete()], [true, false]);
        let layer = br#"[{"id":"l","parent":"k","diff-digest":"sha256:00","diff-size":7}]"#;
        let layer = parse_layers(layer).unwrap().remove(0);
        assert_eq!((layer.parent.as_str(), layer.diff_digest.as_str()), ("k", "sha256:00"));
        assert!(parse_containers(b"{}").unwrap_err().starts_with("JSON of another shape"));
    }

    #[test]
    fn where_the_store_is() {
        let conf =
            b"[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/c\"\n[storage.options]\nx=1";
        let places = parse_config(conf).unwrap().storage;
        assert_eq!((places.graphroot.as_deref(), places.runroot), (Some("/srv/c"), None));
        assert!(parse_config(b"[storage").unwrap_err().starts_with("not TOML"));
    }

    #[test]
    fn both_tables_count_and_an_id_counts_once() {
        let (_dir, root) = store(&[
            ("overlay-containers/containers.json", r#"[{"id":"a"}]"#),
            ("overlay-containers/volatile-containers.json", r#"[{"id":"a"},{"id":"b"}]"#),
            ("overlay-containers/b/userdata/config.json", "{}"),
            ("overlay-images/images.json", ""),
            ("vfs-containers/containers.json", "[{"),
            ("-containers/containers.json", "[]"),
        ]);
        let mut found = drivers(&root).unwrap();
        found.sort();
        assert_eq!(found, ["overlay", "vfs"]);
        let overlay = Store { root: &root, driver: b"overlay" };
        let ids: Vec<String> = overlay.containers().unwrap().into_iter().map(|c| c.id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(overlay.images().unwrap(), []);
        assert_eq!(overlay.directories().unwrap(), ["b"]);
        assert_eq!(
            overlay.userdata(b"b", "config.json").as_bstr(),
            "overlay-containers/b/userdata/config.json"
        );
        let vfs = Store { root: &root, driver: b"vfs" };
        assert_eq!(vfs.containers().unwrap_err().class, Class::Malformed);
        assert_eq!(Store { root: &root, driver: b"zfs" }.containers().unwrap(), []);
    }
}
