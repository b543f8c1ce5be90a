//! What a capture keeps of a database: the pages that its tree reaches, and no environment.
//!
//! Pages that are free still hold what was deleted, and are left out: zeros stand for them.

use std::ops::ControlFlow;

use super::tree::Bucket;
use super::view::Trouble;
use super::{Database, Source};
use crate::state::redact;

/// Largest database that is copied, bytes.
const MOST: usize = 64 << 20;
/// Buckets within buckets, at most.
const DEEPEST: usize = 64;

impl<S: Source> Database<S> {
    /// The file with what its youngest tree reaches, values of environment variables blanked; `None`
    /// when it can't be read as a whole or is too large.
    #[must_use]
    pub fn copy(&self) -> Option<Vec<u8>> {
        self.view(|top| {
            let mut values = Vec::new();
            visit(top, 0, &mut values)?;
            let view = top.view();
            let page_size = view.meta.page_size as usize;
            let len =
                usize::try_from(view.meta.end).ok().and_then(|end| end.checked_mul(page_size));
            let len = len.filter(|len| *len <= MOST).ok_or(Trouble::TooMuch)?;
            let mut content = vec![0; len];
            let mut put = |page: u64, count: u64| {
                let bytes_of = |pages| usize::try_from(pages).ok()?.checked_mul(page_size);
                let place = bytes_of(page).zip(bytes_of(count));
                let (from, len) = place.ok_or(Trouble::TooMuch)?;
                let bytes = view.bytes(page, len)?;
                let place = content.get_mut(from..from.saturating_add(len));
                let place = place.ok_or(Trouble::TooMuch)?;
                place.copy_from_slice(&bytes);
                Ok::<(), Trouble>(())
            };
            put(0, 2)?;
            for (page, count) in view.pages_read() {
                put(page, count)?;
            }
            for (from, len) in values {
                let place =
                    usize::try_from(from).ok().and_then(|from| content.get_mut(from..from + len));
                redact::blank_environment(place.ok_or(Trouble::TooMuch)?);
            }
            Ok(content)
        })
        .ok()
    }
}

/// Walks all of a bucket. Where each value lies in the file goes to `values`; what is in an inline
/// bucket lies in the value that it is.
fn visit(bucket: &Bucket<'_>, depth: usize, values: &mut Vec<(u64, usize)>) -> Result<(), Trouble> {
    if depth > DEEPEST {
        return Err(Trouble::TooMuch);
    }
    bucket.walk(&mut |item| {
        values.extend(item.place());
        if let Some(inner) = item.bucket()? {
            visit(&inner, depth + 1, values)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}
