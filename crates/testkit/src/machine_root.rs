//! The root of a machine of systemd-nspawn with systemd as its PID 1, and how it boots: it has the host's own
//! `/usr`, or that of another release, so nothing is installed for it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Makes the root `dir`; the boot is done when the unit `wants` is started.
pub(crate) fn root(dir: &Path, wants: &str) -> std::io::Result<()> {
    let dirs = ["usr", "proc", "sys", "dev", "tmp", "run", "root", "var/lib", "etc/systemd/system"];
    for name in dirs {
        std::fs::create_dir_all(dir.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), dir.join(name))?;
    }
    for name in ["passwd", "group"] {
        std::fs::copy(Path::new("/etc").join(name), dir.join("etc").join(name))?;
    }
    let target = format!("[Unit]\nWants={wants}\n");
    // What engines copy into their containers has to be there.
    let files = [
        ("os-release", "ID=lab\n"),
        ("machine-id", ""),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
        ("systemd/system/lab.target", &target),
    ];
    for (name, text) in files {
        std::fs::write(dir.join("etc").join(name), text)?;
    }
    Ok(())
}

/// The host's own programs.
pub(crate) const USR: &str = "/usr";

/// What boots the machine with that root and `usr` as its `/usr`; its name is that of the directory `dir`,
/// which marks its processes too. More options may follow, then [`unit()`].
pub(crate) fn boot(command: &mut Command, dir: &Path, root: &Path, usr: &Path) {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    command
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .args(["--quiet", "--register=no", "--keep-unit", "--boot", "--private-network"])
        .args(["--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .args(["--capability=all", "--system-call-filter=@raw-io @mount @keyring bpf"])
        .arg(format!("--machine={name}"))
        .arg(format!("--directory={}", root.display()))
        .arg(format!("--bind-ro={}:/usr", usr.display()))
        .arg(format!("--setenv=WHOSE_LAB={}", dir.display()));
}

/// The last words of what boots it.
pub(crate) fn unit(command: &mut Command) {
    command.args(["--", "--unit=lab.target"]);
}
