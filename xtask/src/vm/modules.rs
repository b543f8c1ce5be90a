//! The modules that a machine needs, in the order in which they can be loaded. The package has no
//! list of what depends on what: that is made at installation. The modules tell themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::tools;

/// Wanted, in this order; what no kernel does without, and what some have built in or not at all.
const WANTED: &[(&str, bool)] = &[
    // Looked up by the name of the algorithm, so no module says that it depends on them.
    ("crc32c_generic", false),
    ("xxhash_generic", false),
    ("sha256_generic", false),
    ("blake2b_generic", false),
    ("virtio_pci", true),
    ("virtio_blk", true),
    ("ext4", true),
    ("overlay", true),
    ("loop", true),
    ("btrfs", true),
    ("xfs", true),
    ("fuse", true),
    ("squashfs", true),
    ("erofs", true),
    ("binfmt_misc", true),
];

/// A module's name and code.
pub(super) type Module = (String, Vec<u8>);

/// Reads them from a kernel's directory of modules.
pub(super) fn read(dir: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(&dir.join("kernel"), &mut files)?;
    let built_in = std::fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
    let built_in: Vec<String> = built_in.lines().filter_map(|l| name(Path::new(l))).collect();
    let mut loaded = Vec::new();
    for (wanted, needed) in WANTED {
        let there = files.contains_key(*wanted);
        let missing = !there && !built_in.iter().any(|name| name == wanted);
        ensure!(!missing || !needed, "the kernel has no module {wanted}");
        if there {
            add(wanted, &files, &mut loaded)?;
        }
    }
    Ok(loaded)
}

/// Adds a module after those it depends on.
fn add(name: &str, files: &BTreeMap<String, PathBuf>, loaded: &mut Vec<Module>) -> Result<()> {
    if loaded.iter().any(|(other, _)| other == name) {
        return Ok(());
    }
    let path = files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
    let code = if path.extension().is_some_and(|extension| extension == "xz") {
        tools::output(Command::new("xz").args(["--decompress", "--stdout"]).arg(path))?
    } else {
        std::fs::read(path).with_context(|| format!("reading {}", path.display()))?
    };
    for other in depends(&code).with_context(|| format!("{name} tells no dependencies"))? {
        // What is not there is built in.
        if files.contains_key(&other) {
            add(&other, files, loaded)?;
        }
    }
    loaded.push((name.to_owned(), code));
    Ok(())
}

fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// A module's name by its file: the kernel makes no difference between `-` and `_`.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let file = file.strip_suffix(".xz").unwrap_or(file);
    Some(file.strip_suffix(".ko")?.replace('-', "_"))
}

/// What a module says it depends on: the entry `depends=A,B` of its section `.modinfo`.
fn depends(code: &[u8]) -> Option<Vec<String>> {
    let key = b"\0depends=";
    let at = code.windows(key.len()).position(|window| window == key)? + key.len();
    let text = code[at..].split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(text);
    Some(
        text.split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{add, depends, name};

    #[test]
    fn a_module_tells_what_it_needs() {
        let code = b"ELF\0license=GPL\0depends=mbcache,jbd2,crc-x\0name=ext4\0";
        assert_eq!(depends(code).unwrap(), ["mbcache", "jbd2", "crc_x"]);
        assert_eq!(depends(b"\0license=GPL\0depends=\0").unwrap(), Vec::<String>::new());
        assert_eq!(depends(b"license=GPL"), None);
    }

    #[test]
    fn names_of_files() {
        assert_eq!(name(Path::new("a/virtio-blk.ko.xz")).as_deref(), Some("virtio_blk"));
        assert_eq!(name(Path::new("a/ext4.ko")).as_deref(), Some("ext4"));
        assert_eq!(name(Path::new("a/modules.dep")), None);
    }

    #[test]
    fn what_is_depended_on_comes_first_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = std::collections::BTreeMap::new();
        for (name, needs) in [("a", "b,c"), ("b", "c"), ("c", ""), ("d", "built_in,c")] {
            let path = dir.path().join(format!("{name}.ko"));
            std::fs::write(&path, format!("\0depends={needs}\0")).unwrap();
            files.insert(name.to_owned(), path);
        }
        let mut loaded = Vec::new();
        add("a", &files, &mut loaded).unwrap();
        add("d", &files, &mut loaded).unwrap();
        let names: Vec<&str> = loaded.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a", "d"]);
        assert!(add("e", &files, &mut loaded).is_err());
    }
}
