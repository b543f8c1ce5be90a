//! containerd's databases, and what is in their values.

use std::ops::ControlFlow;

use whose_core::state::bolt::{Bucket, Database, Trouble};
use whose_core::state::containerd::{any, cri_metadata, gotime};

/// A whole file: every bucket is walked, and what is met is searched for. What is copied can be asked too.
pub(crate) fn bolt(bytes: &[u8]) {
    let database = Database::over(bytes.to_vec());
    drop(database.view(|top| visit(top, 0)));
    if let Some(copy) = database.copy() {
        drop(Database::over(copy).view(|top| visit(top, 0)));
    }
}

fn visit(bucket: &Bucket<'_>, depth: usize) -> Result<u64, Trouble> {
    if depth > 32 {
        return Err(Trouble::TooMuch);
    }
    let mut count = 0;
    bucket.walk(&mut |item| {
        count += 1;
        let value = item.value()?.map(<[u8]>::to_vec);
        assert_eq!(value.is_none(), item.is_bucket());
        if let Some(inner) = item.bucket()? {
            count += visit(&inner, depth + 1)?;
        }
        // Where it lies in a tree that is damaged, a search may miss it, but finds no other.
        if let Some(found) = bucket.item(item.key()?)? {
            assert_eq!(found.key()?, item.key()?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

pub(crate) fn any(bytes: &[u8]) {
    if let Ok(any) = any::parse(bytes) {
        assert!(any.type_url.len() + any.value.len() <= bytes.len());
    }
}

pub(crate) fn cri(bytes: &[u8]) {
    drop(cri_metadata::parse_container(bytes));
    drop(cri_metadata::parse_sandbox(bytes));
}

pub(crate) fn time(bytes: &[u8]) {
    if let Ok(Some(ms)) = gotime::parse(bytes) {
        assert!(ms.checked_abs().is_some());
    }
}
