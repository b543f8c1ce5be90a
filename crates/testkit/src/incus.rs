//! An Incus in a machine with the programs of Debian 13: its daemon as a unit there, a storage pool, and the
//! image of one static binary that [`crate::lxd`] has too.

use crate::lxd::{PRESEED, archive};
use crate::podman_machine::{PodmanMachine, Programs};
use serde_json::Value;

/// Its directory, in the machine.
pub const DIR: &str = "/var/lib/incus";
/// Ids of containers' users.
const SUBIDS: &str = "root:1000000:1000000\n";
/// Debian's unit without the network and the file system of `lxcfs`.
const UNIT: &str = "\
[Unit]
DefaultDependencies=no
[Service]
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart=/usr/libexec/incus/incusd --group incus-admin --logfile /var/log/incus.log
ExecStartPost=/usr/libexec/incus/incusd waitready --timeout=40
Delegate=yes
KillMode=process
";

/// The machine with its daemon. All of it goes when this is dropped.
#[derive(Debug)]
pub struct Incus {
    machine: PodmanMachine,
}

impl Incus {
    /// Boots the machine and starts it there, with an image called `lab`.
    ///
    /// # Errors
    /// What did not work.
    ///
    /// # Panics
    /// When a command in the machine fails, with what it said.
    pub fn start(programs: &Programs) -> Result<Incus, String> {
        let incus = Incus { machine: PodmanMachine::start(programs)? };
        let machine = &incus.machine;
        for name in ["etc/subuid", "etc/subgid"] {
            let known = std::fs::read_to_string(machine.root().join(name)).unwrap_or_default();
            machine.write(name, &(known + SUBIDS));
        }
        machine.write("etc/systemd/system/incus.service", UNIT);
        machine.write("root/preseed", PRESEED);
        let image = archive(machine.dir())?;
        let inside = machine.root().join("root/image.tar.gz");
        std::fs::copy(image, &inside).map_err(|e| format!("{}: {e}", inside.display()))?;
        std::fs::create_dir_all(machine.root().join("var/log")).map_err(|e| e.to_string())?;
        let root = machine.inside();
        machine.run(&root, &["systemctl", "daemon-reload"]);
        machine.run(&root, &["systemctl", "start", "incus.service"]);
        machine.run(&root, &["sh", "-c", "incus admin init --preseed <preseed"]);
        incus.cli(&["image", "import", "image.tar.gz", "--alias", "lab"]);
        Ok(incus)
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &PodmanMachine {
        &self.machine
    }

    /// Asks its client.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> String {
        self.machine.run(&self.machine.inside(), &[&["incus"], args].concat())
    }

    /// All instances, as its client lists them; the PIDs are the machine's.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn instances(&self) -> Vec<Value> {
        let text = self.cli(&["list", "--all-projects", "--format", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}
