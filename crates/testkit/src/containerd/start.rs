//! Starting a daemon.

use super::{Containerd, PAUSE, machine};
use crate::call::waited;
use crate::cgroup;
use crate::cri::PLUGINS;
use crate::docker::View;
use crate::janitor::Janitor;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a daemon may take until its socket answers.
const START: Duration = Duration::from_secs(30);
/// See the file.
const SWEEP: &str = include_str!("sweep.sh");

/// gVisor on the platform that needs nothing of the machine. Runc's shim waits until nobody holds
/// what `start` prints to, and a file server that `start` leaves behind holds it.
const GVISOR: &str = r#"#!/bin/sh
case " $* " in *" start "*) exec >/dev/null 2>&1 ;; esac
exec runsc --platform=ptrace --network=none "$@"
"#;

/// Makes the namespaces that the daemon will run in, and holds them.
const HOLD: &str = r#"
set -e
if [ "$VIEW" = v2 ] && ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
fi
echo ready
exec sleep infinity
"#;

/// How a daemon is to be started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ContainerdOptions {
    view: Option<View>,
    cri: bool,
    gvisor: bool,
    systemd: bool,
    groups: Vec<String>,
    place: Option<PathBuf>,
}

impl ContainerdOptions {
    /// Where its directory is made; that of temporary files if this is not called.
    pub fn place(mut self, dir: impl Into<PathBuf>) -> Self {
        self.place = Some(dir.into());
        self
    }

    /// What its `/sys/fs/cgroup` is to hold; the machine's own if this is not called.
    pub fn view(mut self, view: View) -> Self {
        self.view = Some(view);
        self
    }

    /// With CRI, for [`crate::cri`].
    pub fn cri(mut self) -> Self {
        self.cri = true;
        self
    }

    /// With gVisor as CRI's runtime handler `runsc`.
    pub fn gvisor(mut self) -> Self {
        self.gvisor = true;
        self
    }

    /// In a machine with systemd and cgroup v2, CRI with the systemd driver. The daemon is a unit
    /// there, with the machine's PIDs: see [`Containerd::inside`].
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        self.cri = true;
        self
    }

    /// The first name of a cgroup that containers will be put into, e.g. `anything` for
    /// `--cgroup /anything/x`: removed afterwards, unless it was there before.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.groups.push(name.into());
        self
    }

    /// Starts it, and waits until its socket answers.
    ///
    /// # Errors
    /// With the daemon's log, when it does not within 30 s.
    pub fn start(self) -> Result<Containerd, String> {
        let dir = tempfile::Builder::new()
            .prefix("whose-containerd-")
            .tempdir_in(self.place.clone().unwrap_or_else(std::env::temp_dir))
            .map_err(|e| format!("a directory for containerd: {e}"))?;
        let janitor = self
            .prepare(dir.path())
            .map_err(|e| format!("preparing {}: {e}", dir.path().display()))?;
        let holder = self.hold(dir.path())?;
        // From here on dropping it cleans up.
        let mut containerd =
            Containerd { dir: Some(dir), holder, daemon: None, janitor: Some(janitor) };
        if self.systemd {
            containerd.wait_for_socket()?;
            return Ok(containerd);
        }
        let mut said = [0; 6];
        let told = containerd.holder.stdout.take().map(|mut out| out.read_exact(&mut said));
        if !matches!(told, Some(Ok(()))) {
            return Err("no mount and network namespaces can be made".to_owned());
        }
        containerd.start()?;
        Ok(containerd)
    }

    /// The configuration, and what the janitor has to know.
    fn prepare(&self, dir: &Path) -> std::io::Result<Janitor> {
        std::fs::write(dir.join("config.toml"), self.config(dir))?;
        std::fs::create_dir(dir.join("cni"))?;
        std::fs::create_dir(dir.join("fifo"))?;
        std::fs::write(dir.join("cni/10-lab.conflist"), network(dir).to_string())?;
        std::fs::write(dir.join("mark"), format!("WHOSE_LAB={}\n", dir.display()))?;
        std::fs::write(dir.join("place"), format!("{}/\n", dir.display()))?;
        std::fs::write(dir.join("links"), "")?;
        std::fs::write(dir.join("sweep.sh"), SWEEP)?;
        if self.systemd {
            machine::prepare(dir)?;
        }
        if self.gvisor {
            let program = dir.join("runsc");
            std::fs::write(&program, GVISOR)?;
            std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        }
        let names = ["default", "k8s.io", "kubepods", "payload", "supervisor"];
        let names = names.into_iter().chain(self.groups.iter().map(String::as_str));
        let mut groups = String::new();
        for name in names {
            for mount in cgroup::mounts() {
                let group = mount.join(name);
                if !group.exists() {
                    writeln!(groups, "{}", group.display()).map_err(std::io::Error::other)?;
                }
            }
        }
        std::fs::write(dir.join("cgroups"), groups)?;
        let mut janitor = Janitor::start();
        janitor.run(&dir.join("sweep.sh"));
        Ok(janitor)
    }

    fn config(&self, dir: &Path) -> String {
        let at = |name: &str| dir.join(name).display().to_string();
        let mut text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n{}\n[grpc]\n  address = {:?}\n[plugins]\n  \
             [plugins.\"io.containerd.internal.v1.opt\"]\n    path = {:?}\n",
            at("root"),
            at("state"),
            if self.cri { "" } else { "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]" },
            at("socket"),
            at("opt"),
        );
        if !self.cri {
            return text;
        }
        // A machine may forbid to lower the score of the OOM killer.
        let cri = "io.containerd.grpc.v1.cri";
        text += &format!(
            "  [plugins.{cri:?}]\n    sandbox_image = {PAUSE:?}\n    disable_apparmor = true\n    \
             restrict_oom_score_adj = true\n    netns_mounts_under_state_dir = true\n    \
             stream_server_address = \"127.0.0.1\"\n    stream_server_port = \"0\"\n    \
             [plugins.{cri:?}.cni]\n      bin_dir = {PLUGINS:?}\n      conf_dir = {:?}\n",
            at("cni"),
        );
        let runc = if self.systemd { at(machine::WRAPPER) } else { "runc".to_owned() };
        let mut handlers = vec![("runc", runc)];
        if self.gvisor {
            handlers.push(("runsc", at("runsc")));
        }
        let systemd = self.systemd;
        for (name, program) in handlers {
            text += &format!(
                "    [plugins.{cri:?}.containerd.runtimes.{name}]\n      runtime_type = \
                 \"io.containerd.runc.v2\"\n      [plugins.{cri:?}.containerd.runtimes.{name}.options]\
                 \n        SystemdCgroup = {systemd}\n        BinaryName = {program:?}\n",
            );
        }
        text
    }

    fn hold(&self, dir: &Path) -> Result<Child, String> {
        if self.systemd {
            let mut command = Command::new("systemd-nspawn");
            ours(&mut command, dir);
            machine::boot(&mut command, dir);
            let log = std::fs::File::create(dir.join("boot")).map_err(|e| format!("log: {e}"))?;
            command.stdout(log.try_clone().map_err(|e| format!("log: {e}"))?).stderr(log);
            return command.spawn().map_err(|e| format!("starting systemd-nspawn: {e}"));
        }
        let mut command = Command::new("unshare");
        ours(&mut command, dir);
        command
            .args(["-n", "-m", "--propagation", "private", "sh", "-c", HOLD])
            .env("VIEW", self.view.map_or("", View::name))
            .stdout(Stdio::piped());
        command.spawn().map_err(|e| format!("starting unshare: {e}"))
    }
}

/// What every process of the engine has, so that it is known by it afterwards.
fn ours(command: &mut Command, dir: &Path) {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("WHOSE_LAB", dir)
        .current_dir("/")
        .stdin(Stdio::null())
        // A terminal's Ctrl-C is for the test, which then cleans up.
        .process_group(0);
}

/// Pods get an address of a bridge that is in the engine's own network namespace.
fn network(dir: &Path) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [{
            "type": "bridge",
            "bridge": "lab0",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.199.7.0/24"}]],
                "dataDir": dir.join("ipam")
            }
        }]
    })
}

impl Containerd {
    /// Starts the daemon, again if it was stopped or killed, and waits until its socket answers.
    ///
    /// # Errors
    /// With its log, when it does not within 30 s.
    pub fn start(&mut self) -> Result<(), String> {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir().join("log"));
        let log = log.map_err(|e| format!("log: {e}"))?;
        let mut command = Command::new("nsenter");
        ours(&mut command, self.dir());
        command.arg("-t").arg(self.holder_pid().to_string()).args(["-m", "-n"]);
        command.arg("containerd").arg("--config").arg(self.dir().join("config.toml"));
        command.stdout(log.try_clone().map_err(|e| format!("log: {e}"))?).stderr(log);
        self.daemon = Some(command.spawn().map_err(|e| format!("starting containerd: {e}"))?);
        self.wait_for_socket()
    }

    fn wait_for_socket(&mut self) -> Result<(), String> {
        let mut ended = None;
        let answered = waited(START, || {
            let daemon = self.daemon.as_mut().unwrap_or(&mut self.holder);
            ended = daemon.try_wait().ok().flatten();
            ended.is_some() || self.socket().exists() && self.answers()
        });
        match ended {
            Some(status) => Err(format!("containerd ended with {status}\n{}", self.log_tail())),
            None if answered => Ok(()),
            None => Err(format!("containerd does not answer in {START:?}\n{}", self.log_tail())),
        }
    }
}
