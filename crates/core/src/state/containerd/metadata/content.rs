//! The content store's blobs: which namespaces have each, and which images need it (containerd
//! core/metadata/content.go; what needs what is said by labels, core/metadata/gc.go).

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};
use whose_kernel::ReadError;

use super::{AT_ONCE, MOST, MOST_BLOBS, Metadata, REFERS_CONTENT, labels};
use crate::state::bolt::{Bucket, Trouble};

/// What the store has, as the database knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// By their digests.
    pub blobs: BTreeMap<BString, Blob>,
    /// Digests of the images that containers have, with those: `NAMESPACE/ID`.
    pub used: BTreeMap<BString, Vec<BString>>,
}

/// What a blob is to the image that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobPart {
    /// A list of manifests, one a platform.
    Index,
    /// A manifest.
    Manifest,
    /// The configuration.
    Config,
    /// A layer.
    Layer,
}

/// One blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// The namespaces that have it.
    pub namespaces: Vec<BString>,
    /// The images that need it: name, and digest of what that stands for.
    pub images: Vec<(BString, BString)>,
    /// What it is to those, where that is told.
    pub part: Option<BlobPart>,
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
                    let Some(target) = target else { continue };
                    if let Some(digest) = target.value(b"digest")? {
                        let part = target.value(b"mediatype")?.and_then(|of| part_of(&of));
                        all.push((name.clone(), digest.clone(), needed_by(&blobs, digest, part)?));
                    }
                }
                Ok(all)
            })?;
            for (name, digest, blobs) in needed {
                for (blob, part) in blobs {
                    let one = into.blobs.entry(blob).or_default();
                    one.images.push((name.clone(), digest.clone()));
                    one.part = one.part.or(part);
                }
                digests.insert(name, digest);
            }
        }
        let used = self.each(namespace, |all, id| {
            let image = all.bucket(id)?.map_or(Ok(None), |one| one.value(b"image"))?;
            Ok(image.map(|image| (BString::from(id), image)))
        })?;
        for (id, image) in used {
            let Some(digest) = digests.get(&image) else { continue };
            let key = [namespace.as_slice(), b"/", &id].concat().into();
            into.used.entry(digest.clone()).or_default().push(key);
        }
        Ok(())
    }
}

/// What a target is by its media type (OCI image-spec media-types.md; Docker's own are older).
fn part_of(media_type: &[u8]) -> Option<BlobPart> {
    let is_index = media_type.contains_str(".image.index.") || media_type.contains_str(".list.");
    let is_manifest = media_type.contains_str(".manifest.");
    match (is_index, is_manifest) {
        (true, _) => Some(BlobPart::Index),
        (_, true) => Some(BlobPart::Manifest),
        _ => None,
    }
}

/// What a blob is by the label that names it, without what all begin with (containerd
/// core/images/mediatypes.go, `ChildGCLabels`).
fn part_of_label(label: &[u8]) -> Option<BlobPart> {
    match label {
        b".config" => Some(BlobPart::Config),
        label if label.starts_with(b".m.") => Some(BlobPart::Manifest),
        label if label.starts_with(b".l.") => Some(BlobPart::Layer),
        _ => None,
    }
}

/// A blob and all that it needs, each with what it is.
fn needed_by(
    blobs: &Bucket<'_>,
    target: BString,
    part: Option<BlobPart>,
) -> Result<BTreeMap<BString, Option<BlobPart>>, Trouble> {
    let (mut seen, mut next) = (BTreeMap::new(), vec![(target, part)]);
    while let Some((digest, part)) = next.pop() {
        if seen.contains_key(&digest) {
            continue;
        }
        let Some(blob) = blobs.bucket(&digest)? else { continue };
        seen.insert(digest, part);
        if seen.len() > MOST_BLOBS {
            return Err(Trouble::TooMuch);
        }
        let named = labels(&blob)?.into_iter().filter_map(|(label, digest)| {
            let label = label.strip_prefix(REFERS_CONTENT)?;
            Some((digest, part_of_label(label)))
        });
        next.extend(named);
    }
    Ok(seen)
}
