//! containerd's content store, `io.containerd.content.v1.content`: `blobs/<algorithm>/<digits>`, and what is
//! being written in `ingest` (plugins/content/local/store.go).

use bstr::BString;
use whose_kernel::root::Root;
use whose_kernel::{Class, ReadError};

use crate::state::containerd::metadata::{Contents, Metadata};

/// The blobs, below containerd's root.
pub const BLOBS: &str = "io.containerd.content.v1.content/blobs";
/// What is being written.
pub const INGEST: &str = "io.containerd.content.v1.content/ingest";
/// The namespace of BuildKit's workers.
pub const BUILDKIT: &str = "buildkit";
/// Entries that a directory of the store may have.
const MOST: usize = 200_000;

/// The digests of what lies in the store.
///
/// # Errors
/// When it can't be listed.
pub fn blobs(root: &Root) -> Result<Vec<BString>, ReadError> {
    let mut digests = Vec::new();
    for algorithm in root.list(BLOBS.as_bytes(), MOST)?.into_iter().filter(|e| e.is_dir) {
        let dir = [BLOBS.as_bytes(), b"/", &algorithm.name].concat();
        for blob in root.list(&dir, MOST)?.into_iter().filter(|e| !e.is_dir) {
            digests.push([algorithm.name.as_slice(), b":", &blob.name].concat().into());
        }
    }
    Ok(digests)
}

/// Whether something is being written, or its writing was broken off.
#[must_use]
pub fn has_begun(root: &Root) -> bool {
    root.list(INGEST.as_bytes(), MOST).is_ok_and(|begun| !begun.is_empty())
}

/// What the database says of all blobs.
///
/// # Errors
/// When it can't be read.
pub fn contents(root: &Root) -> Result<Contents, ReadError> {
    match Metadata::open(root) {
        Ok(metadata) => metadata.contents(),
        Err(e) if e.class == Class::Gone => Err(ReadError {
            cause: "it is not beside the content store, so that whose its blobs are is not known"
                .into(),
            ..e
        }),
        Err(e) => Err(e),
    }
}
