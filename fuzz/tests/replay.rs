//! Every input that is kept goes through its target again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use whose_fuzz::{TARGETS, Target, target};

const KEPT: &[&str] = &["corpus", "crashes"];

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)
}

/// The entries of a folder, in order; a folder that is not there has none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Runs one input on a thread of its own, so that a failure can name it.
fn replay(target: &'static Target, file: &Path) -> Result<(), String> {
    let bytes = fs::read(file).unwrap();
    let run = std::thread::spawn(move || (target.run)(&bytes));
    run.join().map_err(|_| format!("{}: {}", target.name, file.display()))
}

#[test]
fn every_kept_input_passes() {
    let mut failed = Vec::new();
    for target in TARGETS {
        for kind in KEPT {
            for file in entries(&folder(kind).join(target.name)) {
                failed.extend(replay(target, &file).err());
            }
        }
    }
    assert!(failed.is_empty(), "these inputs fail:\n{}", failed.join("\n"));
}

#[test]
fn every_target_has_a_corpus() {
    for target in TARGETS {
        let corpus = entries(&folder("corpus").join(target.name));
        assert!(!corpus.is_empty(), "fuzz/corpus/{} has no file", target.name);
    }
}

#[test]
fn every_folder_names_a_target() {
    for kind in KEPT {
        for entry in entries(&folder(kind)) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            assert!(target(name).is_some(), "fuzz/{kind}/{name} names no target");
        }
    }
}

#[test]
fn target_names_differ() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
}

#[test]
fn every_target_takes_any_bytes() {
    for target in TARGETS {
        for input in [&b""[..], b"\0", b"\n\n", b":::", b"\xff\xfe", b"18446744073709551616"] {
            (target.run)(input);
        }
    }
}
