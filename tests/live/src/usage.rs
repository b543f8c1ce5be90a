//! What `whose ls --disk` says, and what du(1) says of the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whose_testkit::harness::Whose;

use crate::whose;

/// What du says of paths, each inode once.
///
/// # Panics
/// When it fails.
#[must_use]
#[track_caller]
pub fn du(paths: &[&Path]) -> u64 {
    let ran = Command::new("du").args(["-scx", "--block-size=1"]).args(paths).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap()
}

/// The document, as root is told it.
///
/// # Panics
/// When it does not exit 0.
#[must_use]
#[track_caller]
pub fn usage() -> Value {
    usage_of(&whose())
}

/// The same as this one is told it.
///
/// # Panics
/// When it does not exit 0.
#[must_use]
#[track_caller]
pub fn usage_of(asking: &Whose) -> Value {
    asking.clone().args(["ls", "--disk", "--json"]).run().expect_code(0).json()
}

/// Its rows.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn rows(document: &Value) -> &Vec<Value> {
    document["disk"].as_array().unwrap()
}

/// The row of the container with an id.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn of_container<'v>(document: &'v Value, id: &str) -> &'v Value {
    let found = rows(document).iter().find(|row| row["owner"]["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {document:#}"))
}

/// The row of a kind and name.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn row<'v>(document: &'v Value, kind: &str, name: &str) -> &'v Value {
    let found = rows(document).iter().find(|row| row["kind"] == kind && row["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}: {document:#}"))
}

/// The parts of a row that are of a kind.
///
/// # Panics
/// When it has no parts.
#[must_use]
pub fn parts<'v>(row: &'v Value, kind: &str) -> Vec<&'v Value> {
    row["parts"].as_array().unwrap().iter().filter(|p| p["part"] == kind).collect()
}

/// Where a part lies.
///
/// # Panics
/// When that is no text.
#[must_use]
pub fn path_of(part: &Value) -> PathBuf {
    part["path"].as_str().unwrap().into()
}

/// All parts below a directory, together.
///
/// # Panics
/// When one was not counted.
#[must_use]
pub fn below(document: &Value, dir: &Path) -> u64 {
    let all = rows(document).iter().flat_map(|row| row["parts"].as_array().unwrap());
    let inside = all.filter(|p| p["part"] != "deleted" && path_of(p).starts_with(dir));
    inside.map(|p| p["bytes"].as_u64().unwrap_or_else(|| panic!("{p}"))).sum()
}

/// Waits until there is such a file.
///
/// # Panics
/// After a minute.
pub fn wait_for(path: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < end, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every part of a container is what du says of its path, and the columns are their sums.
///
/// # Panics
/// When one is not.
#[track_caller]
pub fn as_du_says(row: &Value) {
    let mut all = 0;
    for part in row["parts"].as_array().unwrap() {
        let bytes = part["bytes"].as_u64().unwrap_or_else(|| panic!("{row:#}"));
        all += bytes;
        // What a driver keeps beside a layer is what is left of its directory.
        if !["driver", "deleted"].contains(&part["part"].as_str().unwrap()) {
            assert_eq!(bytes, du(&[&path_of(part)]), "{part:#}");
        }
    }
    assert_eq!(row["bytes"], all, "{row:#}");
    let sum = |kinds: &[&str]| -> u64 {
        let of = kinds.iter().flat_map(|kind| parts(row, kind));
        of.map(|p| p["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(row["layer"], sum(&["layer", "init", "driver"]));
    assert_eq!((&row["log"], &row["volumes"]), (&json!(sum(&["log"])), &json!(sum(&["volume"]))));
    assert_eq!(row["deleted"], sum(&["deleted"]));
    assert_eq!(row["complete"], true, "{row:#}");
}
