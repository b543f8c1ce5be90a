//! A containerd in a machine of systemd-nspawn, where systemd makes the cgroups.
//!
//! The machine's root has the host's own `/usr`, so nothing is installed for it. The engine's
//! directory has the same path inside as outside.

use crate::machine_root as machine;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
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

/// The wrapper's name in the engine's directory.
pub(super) const WRAPPER: &str = "runc";

/// Makes the machine's root.
pub(super) fn prepare(dir: &Path) -> std::io::Result<()> {
    machine::root(&dir.join("machine"), "containerd.service")?;
    let unit = dir.join("machine/etc/systemd/system/containerd.service");
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
    machine::boot(command, dir, &dir.join("machine"), Path::new(machine::USR));
    command.arg(format!("--bind={}", dir.display()));
    machine::unit(command);
}
