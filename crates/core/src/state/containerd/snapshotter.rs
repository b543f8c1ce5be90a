//! A snapshotter's `metadata.db`: which directory a snapshot is, and what it lies on.
//!
//! `v1/snapshots/<name>` holds `id` (the number of the directory), `kind`, `parent`, usage, times and
//! labels; `v1/parents` has a key (parent's id, 0, child's id) for each that has a parent, with the
//! child's name (core/snapshots/storage/bolt.go). Names are those of the backend,
//! `<containerd namespace>/<number>/<key>`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::ReadError;
use whose_kernel::held::Held;
use whose_kernel::root::Root;

use super::any::varint;
use super::metadata::{labels, time};
use crate::state::bolt::{Bucket, Database, Trouble};

/// The file beneath a snapshotter's root.
const FILE: &[u8] = b"metadata.db";
/// Most snapshots in a chain; overlayfs takes 500 layers.
const LONGEST: usize = 1024;

/// A snapshotter's database.
#[derive(Debug)]
pub struct Snapshotter {
    database: Database<Held>,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mounted to be read only.
    View,
    /// Mounted to be written: a container's own layer, or one being unpacked.
    Active,
    /// An image's layer.
    Committed,
    /// Of another number.
    Other(u8),
}

/// A snapshot as its backend has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The backend's name, `<namespace>/<number>/<key>`.
    pub name: BString,
    /// The directory's number: `snapshots/<id>`.
    pub id: u64,
    /// What it is for.
    pub kind: Kind,
    /// Name of what it lies on; empty for a lowest one.
    pub parent: BString,
    /// Bytes, as they were when it was committed; else 0.
    pub size: i64,
    /// Inodes, likewise.
    pub inodes: i64,
    /// Creation, milliseconds since 1970.
    pub created: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<BString, BString>,
}

impl Snapshot {
    /// containerd's namespace and its key there, which the backend's name holds.
    #[must_use]
    pub fn place(&self) -> Option<(&BStr, &BStr)> {
        split_name(self.name.as_ref())
    }
}

/// containerd's namespace and key in a backend's name.
#[must_use]
pub fn split_name(name: &BStr) -> Option<(&BStr, &BStr)> {
    let (namespace, rest) = name.split_once_str("/")?;
    let (number, key) = rest.split_once_str("/")?;
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    (is_number && !namespace.is_empty() && !key.is_empty()).then(|| (namespace.into(), key.into()))
}

impl Snapshotter {
    /// Opens the database of a snapshotter; `root` is its root, such as
    /// `<containerd's root>/io.containerd.snapshotter.v1.overlayfs`.
    ///
    /// # Errors
    /// The read's.
    pub fn open(root: &Root) -> Result<Self, ReadError> {
        Self::at(root, FILE)
    }

    /// Opens the database at this path beneath containerd's own root.
    ///
    /// # Errors
    /// The read's.
    pub fn at(root: &Root, rel: &[u8]) -> Result<Self, ReadError> {
        Ok(Self { database: Database::open(root, rel)? })
    }

    /// The path to show people.
    #[must_use]
    pub fn shown(&self) -> BString {
        self.database.shown()
    }

    /// The highest number that a snapshot was ever given.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn last(&self) -> Result<u64, ReadError> {
        self.database.view(|top| Ok(snapshots(top)?.map_or(0, |all| all.sequence())))
    }

    /// The snapshot of this backend's name.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn snapshot(&self, name: &[u8]) -> Result<Option<Snapshot>, ReadError> {
        self.database.view(|top| match snapshots(top)? {
            Some(all) => snapshot(&all, name),
            None => Ok(None),
        })
    }

    /// The snapshot of this backend's name and what it lies on, itself first; empty when there is none.
    ///
    /// # Errors
    /// The read's, or `malformed`, also when a parent is missing.
    pub fn chain(&self, name: &[u8]) -> Result<Vec<Snapshot>, ReadError> {
        self.database.view(|top| {
            let Some(all) = snapshots(top)? else { return Ok(Vec::new()) };
            let mut chain: Vec<Snapshot> = Vec::new();
            let mut next = BString::from(name);
            while !next.is_empty() {
                let Some(found) = snapshot(&all, &next)? else {
                    if chain.is_empty() {
                        break;
                    }
                    return Err(Trouble::Wrong(format!(
                        "no snapshot {next}, which another lies on"
                    )));
                };
                if chain.len() == LONGEST {
                    return Err(Trouble::Wrong(format!(
                        "more than {LONGEST} snapshots on another"
                    )));
                }
                next.clone_from(&found.parent);
                chain.push(found);
            }
            Ok(chain)
        })
    }

    /// The numbers of all snapshots.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn numbers(&self) -> Result<Vec<u64>, ReadError> {
        self.database.view(|top| {
            let mut numbers = Vec::new();
            let Some(all) = snapshots(top)? else { return Ok(numbers) };
            all.walk(&mut |item| {
                if let Some(bucket) = item.bucket()? {
                    numbers.push(number(&bucket)?);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(numbers)
        })
    }

    /// The snapshot whose directory has this number.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn by_id(&self, id: u64) -> Result<Option<Snapshot>, ReadError> {
        self.database.view(|top| {
            let Some(all) = snapshots(top)? else { return Ok(None) };
            // Few pages have the names of all that have a parent.
            let mut named: Option<BString> = None;
            if let Some(parents) = top.at(&[b"v1", b"parents"])? {
                parents.walk(&mut |item| {
                    if child(item.key()?) != Some(id) {
                        return Ok(ControlFlow::Continue(()));
                    }
                    named = item.value()?.map(BString::from);
                    Ok(ControlFlow::Break(()))
                })?;
            }
            if let Some(name) = named
                && let Some(found) = snapshot(&all, &name)?
                && found.id == id
            {
                return Ok(Some(found));
            }
            let mut found = None;
            let mut nameless = None;
            all.walk(&mut |item| {
                let Some(bucket) = item.bucket()? else { return Ok(ControlFlow::Continue(())) };
                match number(&bucket) {
                    Ok(number) if number == id => found = snapshot(&all, item.key()?)?,
                    // It may be the one, unless another is.
                    Err(Trouble::Wrong(why)) => nameless = Some(Trouble::Wrong(why)),
                    other => drop(other?),
                }
                Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            if let (None, Some(trouble)) = (&found, nameless) {
                return Err(trouble);
            }
            Ok(found)
        })
    }
}

fn snapshots<'v>(top: &Bucket<'v>) -> Result<Option<Bucket<'v>>, Trouble> {
    top.at(&[b"v1", b"snapshots"])
}

fn number(bucket: &Bucket<'_>) -> Result<u64, Trouble> {
    let id = bucket.value(b"id")?.ok_or_else(|| Trouble::Wrong("a snapshot without id".into()))?;
    varint(&mut id.as_slice()).map_err(Trouble::Wrong)
}

fn snapshot(all: &Bucket<'_>, name: &[u8]) -> Result<Option<Snapshot>, Trouble> {
    let Some(bucket) = all.bucket(name)? else { return Ok(None) };
    let signed = |key: &[u8]| -> Result<i64, Trouble> {
        bucket.value(key)?.map_or(Ok(0), |value| signed(&value))
    };
    let kind = match bucket.value(b"kind")?.as_deref().map(Vec::as_slice) {
        Some([1]) => Kind::View,
        Some([2]) => Kind::Active,
        Some([3]) => Kind::Committed,
        Some([other]) => Kind::Other(*other),
        _ => return Err(Trouble::Wrong("a snapshot without kind".into())),
    };
    Ok(Some(Snapshot {
        name: name.into(),
        id: number(&bucket)?,
        kind,
        parent: bucket.value(b"parent")?.unwrap_or_default(),
        size: signed(b"size")?,
        inodes: signed(b"inodes")?,
        created: time(&bucket, b"createdat")?,
        labels: labels(&bucket)?,
    }))
}

/// The child of a key of `parents`.
fn child(mut key: &[u8]) -> Option<u64> {
    varint(&mut key).ok()?;
    let mut rest = key.strip_prefix(&[0])?;
    varint(&mut rest).ok().filter(|_| rest.is_empty())
}

/// Go's `binary.Varint`: the sign is the lowest bit.
fn signed(bytes: &[u8]) -> Result<i64, Trouble> {
    let number = varint(&mut { bytes }).map_err(Trouble::Wrong)?;
    let half = (number >> 1).cast_signed();
    Ok(if number & 1 == 0 { half } else { !half })
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use whose_kernel::Class;
    use whose_kernel::root::{Links, Root};
    use whose_testkit::bolt::{Bucket, Layout, file};

    use super::{Kind, Snapshotter, child, signed, split_name};

    /// Snapshots 1 and 200, of an image, and 3, a container's on them; `extra` changes it.
    fn opened(extra: impl Fn(&mut Bucket)) -> (tempfile::TempDir, Snapshotter) {
        let mut root = Bucket::default();
        let all = [
            ("shop/1/base", &[1][..], 3, ""),
            ("shop/2/top", &[0xc8, 1], 3, "shop/1/base"),
            ("shop/3/c1", &[3], 2, "shop/2/top"),
        ];
        for (name, id, kind, parent) in all {
            let one = root.path(&["v1", "snapshots", name]);
            one.put("id", id).put("kind", [kind]).put("parent", parent);
            one.put("size", [0x80, 0x20]).put("inodes", [6]);
            one.path(&["labels"]).put("a", "b");
        }
        root.path(&["v1", "parents"]).put([1, 0, 0xc8, 1], "shop/2/top");
        root.path(&["v1", "parents"]).put([0xc8, 1, 0, 3], "shop/3/c1");
        extra(&mut root);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metadata.db"), file(&root, Layout::default())).unwrap();
        let path = BStr::new(dir.path().as_os_str().as_encoded_bytes());
        let root = Root::open(path, Links::Never).unwrap();
        (dir, Snapshotter::open(&root).unwrap())
    }

    #[test]
    fn keys_and_numbers_lead_to_each_other() {
        let (_dir, db) = opened(|_| {});
        let top = db.snapshot(b"shop/2/top").unwrap().unwrap();
        assert_eq!((top.id, top.kind, top.size, top.inodes), (200, Kind::Committed, 2048, 3));
        assert_eq!((top.parent.as_slice(), top.created), (&b"shop/1/base"[..], None));
        assert_eq!(top.place(), Some((BStr::new("shop"), BStr::new("top"))));
        assert_eq!(top.labels.len(), 1);
        let ids: Vec<u64> = db.chain(b"shop/3/c1").unwrap().iter().map(|s| s.id).collect();
        assert_eq!(ids, [3, 200, 1]);
        assert!(db.chain(b"none").unwrap().is_empty());
        for (id, name) in [(1, "shop/1/base"), (200, "shop/2/top"), (3, "shop/3/c1")] {
            assert_eq!(db.by_id(id).unwrap().unwrap().name, name);
        }
        assert_eq!(db.by_id(4).unwrap(), None);
    }

    #[test]
    fn what_contradicts_itself_is_no_answer() {
        let (_dir, db) = opened(|root| {
            // A list of parents that has another's name, a parent that is missing, a circle.
            root.path(&["v1", "parents"]).put([1, 0, 0xc8, 1], "shop/3/c1");
            root.path(&["v1", "snapshots", "shop/1/base"]).put("parent", "shop/9/gone");
            let one = root.path(&["v1", "snapshots", "round"]);
            one.put("id", [9]).put("kind", [2]).put("parent", "round");
            root.path(&["v1", "snapshots", "bad"]).put("kind", [2]);
        });
        assert_eq!(db.by_id(200).unwrap().unwrap().name, "shop/2/top");
        assert_eq!(db.by_id(77).unwrap_err().class, Class::Malformed);
        for name in ["shop/3/c1", "round", "bad"] {
            let error = db.chain(name.as_bytes()).unwrap_err();
            assert_eq!(error.class, Class::Malformed, "{error}");
        }
    }

    #[test]
    fn numbers_and_names_are_gos() {
        assert_eq!(child(&[1, 0, 0xc8, 1]), Some(200));
        for bad in [&[1][..], &[1, 0], &[1, 1, 1], &[1, 0, 1, 1], &[]] {
            assert_eq!(child(bad), None, "{bad:?}");
        }
        assert_eq!(signed(&[0x80, 0x20]), Ok(2048));
        assert_eq!(signed(&[1]), Ok(-1));
        let split = |name: &str| split_name(BStr::new(name)).map(|(n, k)| format!("{n} {k}"));
        assert_eq!(split("k8s.io/12/sha256:ab").unwrap(), "k8s.io sha256:ab");
        assert_eq!(split("default/3/a/b").unwrap(), "default a/b");
        for bad in ["", "a", "a/b", "a/x/c", "a//c", "/1/c", "a/1/"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
