//! The disk of a machine: a small Debian root, made once and never written to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tools;
use whose_testkit::archive::Archive;

/// What the cases need beyond the essential packages.
const PACKAGES: &[&str] = &[
    "binutils",
    "btrfs-progs",
    "bubblewrap",
    "busybox-static",
    "e2fsprogs",
    "firejail",
    "fuse-overlayfs",
    "gcc",
    "libc6-dev",
    "mount",
    "procps",
    "squashfs-tools",
    "util-linux",
    "xfsprogs",
];
/// The size of the disk; what is not used takes no room.
const SIZE: &str = "3G";

/// The image, made anew when it is not there, was made of other packages, or is to be updated.
pub(super) fn image(archive: &Archive, cache: &Path, update: bool) -> Result<PathBuf> {
    let dir = cache.join("root");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let (image, list) = (dir.join("disk.img"), dir.join("packages"));
    let wanted = format!("{} {}\n", archive.own, PACKAGES.join(" "));
    let kept = std::fs::read_to_string(&list).is_ok_and(|kept| kept == wanted);
    if kept && image.is_file() && !update {
        return Ok(image);
    }
    println!("vm: a root of {} is made", archive.own);
    let tree = dir.join("tree");
    remove(&tree)?;
    let suites = [archive.own.clone(), format!("{}-security", archive.own)];
    let sources: Vec<String> = suites.iter().filter_map(|suite| archive.source(suite)).collect();
    tools::output(
        Command::new("mmdebstrap")
            .args(["--mode=root", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg(&archive.own)
            .arg(&tree)
            .args(sources),
    )?;
    for name in ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt"] {
        remove(&tree.join(name))?;
    }
    remove(&image)?;
    let made = tools::output(
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).args([&tree, &image]).arg(SIZE),
    );
    remove(&tree)?;
    made?;
    std::fs::write(&list, wanted).context("noting the packages")?;
    Ok(image)
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}
