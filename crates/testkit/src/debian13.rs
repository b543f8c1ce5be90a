//! The programs of Debian 13: its Podman keeps `db.sql`, its systemd knows cgroups of v2 alone, and it has
//! Incus. They are unpacked, not installed, and kept from run to run.

use crate::archive::Archive;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Its suite in the archive.
const SUITE: &str = "trixie";
/// What the machines need; what these depend on comes with them.
const PACKAGES: &[&str] = &[
    "bash",
    "catatonit",
    "coreutils",
    "crun",
    "dash",
    "dbus",
    "dbus-user-session",
    "findutils",
    "fuse-overlayfs",
    "grep",
    "gzip",
    "incus-base",
    "incus-client",
    "mount",
    "podman",
    "sed",
    "systemd",
    "tar",
    "uidmap",
    "util-linux",
];
/// What nobody runs.
const UNUSED: &[&str] = &["usr/share/doc", "usr/share/locale", "usr/share/man", "boot"];

/// The directory that is to be `/usr` in a machine. It is made once, from packages of the archive that this
/// machine's own come from, below `$WHOSE_CI_CACHE` (`~/.cache/whose-ci`); another time nothing is asked.
///
/// # Errors
/// What did not work; without the network it is what apt said.
pub fn usr() -> Result<PathBuf, String> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/whose-ci"));
    let cache = std::env::var_os("WHOSE_CI_CACHE").filter(|dir: &OsString| !dir.is_empty());
    let cache = cache.map(PathBuf::from).or_else(home).ok_or("neither WHOSE_CI_CACHE nor HOME")?;
    let dir = cache.join("debian13");
    made(&dir).map_err(|why| {
        let dir = dir.display();
        format!("the programs of Debian 13 can't be brought into {dir}, which needs the network once: {why}")
    })
}

fn made(dir: &Path) -> Result<PathBuf, String> {
    let wrong = |e: std::io::Error| e.to_string();
    std::fs::create_dir_all(dir).map_err(wrong)?;
    // Two tests may want it at the same time.
    let lock = File::create(dir.join("lock")).map_err(wrong)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|e| e.to_string())?;
    let (tree, list) = (dir.join("tree"), dir.join("packages"));
    let wanted = format!("{SUITE} {}\n", PACKAGES.join(" "));
    if std::fs::read_to_string(&list).is_ok_and(|kept| kept == wanted) {
        return Ok(tree.join("usr"));
    }
    eprintln!("the programs of Debian 13 are brought into {}", dir.display());
    let downloads = dir.join("apt");
    for old in [&tree, &downloads] {
        if old.exists() {
            std::fs::remove_dir_all(old).map_err(wrong)?;
        }
        std::fs::create_dir(old).map_err(wrong)?;
    }
    let apt = Archive::of_this_machine()?.apt(&[SUITE], &downloads)?;
    apt.unpack(PACKAGES, &tree)?;
    std::fs::remove_dir_all(&downloads).map_err(wrong)?;
    for unused in UNUSED.iter().map(|name| tree.join(name)).filter(|path| path.exists()) {
        std::fs::remove_dir_all(unused).map_err(wrong)?;
    }
    // Last: what was interrupted is made anew.
    std::fs::write(&list, wanted).map_err(wrong)?;
    Ok(tree.join("usr"))
}
