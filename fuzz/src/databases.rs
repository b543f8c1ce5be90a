//! Databases of engines, and what is in their values.

use std::ops::ControlFlow;

use whose_core::state::bolt::{Bucket, Database, Trouble};
use whose_core::state::containerd::{any, cri_metadata, gotime};
use whose_core::state::sqlite;

/// A whole file; and what follows sound meta pages, whose checksum no mutation would meet.
pub(crate) fn bolt(bytes: &[u8]) {
    ask(bytes.to_vec());
    ask([&meta(bytes.len()), bytes].concat());
}

/// Every bucket is walked, and what is met is searched for. What is copied can be asked too.
fn ask(bytes: Vec<u8>) {
    let database = Database::over(bytes);
    drop(database.view(|top| visit(top, 0)));
    if let Some(copy) = database.copy() {
        drop(Database::over(copy).view(|top| visit(top, 0)));
    }
}

/// Two meta pages of 512 bytes, the first of them sound, before pages of that many bytes; page 2 is
/// the root's.
fn meta(len: usize) -> [u8; 1024] {
    let mut meta = Vec::new();
    for number in [0xED0C_DAED_u32, 2, 512, 0] {
        meta.extend(number.to_le_bytes());
    }
    for number in [2, 0, u64::MAX, 2 + (len as u64).div_ceil(512), 2] {
        meta.extend(number.to_le_bytes());
    }
    let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    meta.extend(sum.to_le_bytes());
    let mut pages = [0; 1024];
    pages[8] = 4;
    pages[16..16 + meta.len()].copy_from_slice(&meta);
    pages
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

/// Every row of every table is read. A copy has the same ones.
pub(crate) fn sqlite(bytes: &[u8]) {
    let database = sqlite::Database::over(bytes.to_vec());
    let rows = database.view(all_rows);
    if let (Ok(rows), Some(copy)) = (rows, database.copy()) {
        // A text with an environment in it may be another one in the copy, with as many bytes.
        let again = sqlite::Database::over(copy).view(all_rows);
        assert_eq!(again, Ok(rows));
    }
}

/// How many rows each table has, and the last one's rowid.
type Told = Vec<(bstr::BString, u64, i64)>;

fn all_rows(tables: &sqlite::Tables<'_>) -> Result<Told, sqlite::Trouble> {
    let mut told = Vec::new();
    for name in tables.names()? {
        let Some(table) = tables.table(&name.to_string())? else { continue };
        let (mut count, mut last) = (0, 0);
        table.rows(&mut |row| {
            (count, last) = (count + 1, row.rowid());
            for column in 0..5 {
                row.value(column)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        told.push((name, count, last));
    }
    Ok(told)
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

/// Docker's endpoints: a whole file, and what follows sound meta pages.
pub(crate) fn network(bytes: &[u8]) {
    for file in [bytes.to_vec(), [&meta(bytes.len()), bytes].concat()] {
        drop(whose_core::state::docker_network::named_in(&Database::over(file), "web".into()));
    }
}
