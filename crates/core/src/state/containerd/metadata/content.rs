//! The content store's blobs: which namespaces have each, and which images need it (containerd
//! core/metadata/content.go; what needs what is said by labels, core/metadata/gc.go).

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;
use whose_kernel::ReadError;

use super::{AT_ONCE, MOST, MOST_BLOBS, Metadata, REFERS_CONTENT, labels};
use crate::state::bolt::{Bucket, Trouble};

/// What the store has, as the database knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// By their digests.
    pub blobs: BTreeMap<BString, Blob>,
    /// Digests of the images that containers have.
    pub used: BTreeSet<BString>,
}

/// One blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// The namespaces that have it.
    pub namespaces: Vec<BString>,
    /// The images that need it: name, and digest of what that stands for.
    pub images: Vec<(BString, BString)>,
}

impl Metadata {
    /// All blobs. Each image is as it was at one moment; one that is made or removed meanwhile may be there
    /// or not.
    ///
    /// # Errors
    /// The read's, or `malformed`.
    pub fn contents(&self) -> Result<Contents, ReadError> {
        let mut contents = Contents::default();
        for namespace in self.namespaces()? {
            self.contents_of(&namespace, &mut contents)?;
        }
        Ok(contents)
    }

    fn contents_of(&self, namespace: &BString, into: &mut Contents) -> Result<(), ReadError> {
        let buckets = |keys: &[&[u8]]| {
            let keys = [&[b"v1", namespace.as_slice()], keys].concat();
            self.database.view(|top| top.at(&keys)?.map_or(Ok(Vec::new()), |all| all.buckets(MOST)))
        };
        for digest in buckets(&[b"content", b"blob"])? {
            into.blobs.entry(digest).or_default().namespaces.push(namespace.clone());
        }
        let mut digests = BTreeMap::new();
        for names in buckets(&[b"images"])?.chunks(AT_ONCE) {
            let needed = self.database.view(|top| {
                let mut all = Vec::new();
                let Some(here) = top.at(&[b"v1", namespace])? else { return Ok(all) };
                let (images, blobs) = (here.bucket(b"images")?, here.at(&[b"content", b"blob"])?);
                let (Some(images), Some(blobs)) = (images, blobs) else { return Ok(all) };
                for name in names {
                    let target = images.at(&[name, b"target"])?;
                    let digest = target.map_or(Ok(None), |target| target.value(b"digest"))?;
                    if let Some(digest) = digest {
                        all.push((name.clone(), digest.clone(), needed_by(&blobs, digest)?));
                    }
                }
                Ok(all)
            })?;
            for (name, digest, blobs) in needed {
                for blob in blobs {
                    let one = into.blobs.entry(blob).or_default();
                    one.images.push((name.clone(), digest.clone()));
                }
                digests.insert(name, digest);
            }
        }
        let used = self.each(namespace, |all, id| {
            all.bucket(id)?.map_or(Ok(None), |one| one.value(b"image"))
        })?;
        into.used.extend(used.iter().filter_map(|name| digests.get(name).cloned()));
        Ok(())
    }
}

/// A blob and all that it needs.
fn needed_by(blobs: &Bucket<'_>, target: BString) -> Result<BTreeSet<BString>, Trouble> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![target]);
    while let Some(digest) = next.pop() {
        if seen.contains(&digest) {
            continue;
        }
        let Some(blob) = blobs.bucket(&digest)? else { continue };
        seen.insert(digest);
        if seen.len() > MOST_BLOBS {
            return Err(Trouble::TooMuch);
        }
        let needs =
            labels(&blob)?.into_iter().filter(|(label, _)| label.starts_with(REFERS_CONTENT));
        next.extend(needs.map(|(_, digest)| digest));
    }
    Ok(seen)
}
