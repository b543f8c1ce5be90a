//! A containerd in a machine of systemd-nspawn, where systemd makes the cgroups.
//!
//! The machine's root has the host's own `/usr`, so nothing is installed for it. The engine's
//! directory has the same path inside as outside.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// runc, without the shares that it would write to files which a machine has not got while the
/// controllers are in hierarchies of v1.
const RUNC: &str = r#"#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
if "create" in words:
    file = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(file) as old:
        spec = json.load(old)
    for controller in ("cpu", "memory"):
        spec["linux"].get("resources", {}).pop(controller, None)
    with open(file, "w") as new:
        json.dump(spec, new)
os.execvp("runc", ["runc", *words])
"#;

const TARGET: &str = "[Unit]\nWants=containerd.service\n";

/// The wrapper's name in the engine's directory.
pub(super) const WRAPPER: &str = "runc";

/// Makes the machine's root.
pub(super) fn prepare(dir: &Path) -> std::io::Result<()> {
    let root = dir.join("machine");
    let dirs = ["usr", "proc", "sys", "dev", "tmp", "run", "root", "var/lib", "etc/systemd/system"];
    for name in dirs {
        std::fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for name in ["passwd", "group"] {
        std::fs::copy(Path::new("/etc").join(name), root.join("etc").join(name))?;
    }
    // What CRI copies into its sandboxes has to be there.
    let files = [
        ("os-release", "ID=lab\n"),
        ("machine-id", ""),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
        ("systemd/system/lab.target", TARGET),
    ];
    for (name, text) in files {
        std::fs::write(root.join("etc").join(name), text)?;
    }
    let unit = root.join("etc/systemd/system/containerd.service");
    std::fs::write(unit, service(dir))?;
    let wrapper = dir.join(WRAPPER);
    std::fs::write(&wrapper, RUNC)?;
    std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755))
}

fn service(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\n\
         Environment=WHOSE_LAB={dir} PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
         ExecStart=/usr/bin/containerd --config {dir}/config.toml\n\
         StandardOutput=append:{dir}/log\nStandardError=append:{dir}/log\n\
         Delegate=yes\nKillMode=process\n"
    )
}

/// What boots it. Its name is that of the directory.
pub(super) fn boot(command: &mut Command, dir: &Path) {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    command
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .args(["--quiet", "--register=no", "--keep-unit", "--boot", "--private-network"])
        .args(["--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .args(["--capability=all", "--system-call-filter=@raw-io @mount @keyring bpf"])
        .arg(format!("--machine={name}"))
        .arg(format!("--directory={}", dir.join("machine").display()))
        .arg("--bind-ro=/usr")
        .arg(format!("--bind={}", dir.display()))
        .arg(format!("--setenv=WHOSE_LAB={}", dir.display()))
        .args(["--", "--unit=lab.target"]);
}
