//! Starting a daemon.

use super::{Docker, View, client, tail};
use crate::call::{output, waited};
use crate::procfs;
use crate::require::which;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// How long a daemon may take until its socket answers.
const START: Duration = Duration::from_secs(30);

/// The host's id of a remapped daemon's root.
const REMAPPED: u32 = 3_000_000;

/// Runs in the daemon's own namespaces, then becomes the daemon.
const SCRIPT: &str = r#"
set -e
if [ "$VIEW" = v2 ] && ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
fi
if [ "$VIEW" = v1 ] && [ -e /sys/fs/cgroup/unified/cgroup.procs ]; then
    umount -l /sys/fs/cgroup/unified
fi
if [ -n "$SUBIDS" ]; then
    mount --bind "$SUBIDS" /etc/subuid
    mount --bind "$SUBIDS" /etc/subgid
fi
# A running system containerd would be used instead of one of its own.
if [ -e /run/containerd/containerd.sock ]; then
    mount -t tmpfs none /run/containerd
fi
exec "$@"
"#;

/// How a daemon is to be started.
#[derive(Debug, Clone)]
#[must_use]
pub struct DockerOptions {
    view: View,
    live_restore: bool,
    cgroup_parent: Option<String>,
    runtimes: Vec<(String, PathBuf)>,
    storage_driver: Option<String>,
    data_root: Option<PathBuf>,
    remapped: bool,
    extra: Vec<String>,
}

impl DockerOptions {
    /// The defaults.
    pub fn new(view: View) -> Self {
        DockerOptions {
            view,
            live_restore: false,
            cgroup_parent: None,
            runtimes: Vec::new(),
            storage_driver: None,
            data_root: None,
            remapped: false,
            extra: Vec::new(),
        }
    }

    /// `--live-restore`: containers outlive the daemon.
    pub fn live_restore(mut self) -> Self {
        self.live_restore = true;
        self
    }

    /// `--cgroup-parent` for every container.
    pub fn cgroup_parent(mut self, parent: impl Into<String>) -> Self {
        self.cgroup_parent = Some(parent.into());
        self
    }

    /// One more OCI runtime, for `docker run --runtime NAME`.
    pub fn runtime(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.runtimes.push((name.into(), path.into()));
        self
    }

    /// `--storage-driver`.
    pub fn storage_driver(mut self, driver: impl Into<String>) -> Self {
        self.storage_driver = Some(driver.into());
        self
    }

    /// `--data-root`, a directory that stays.
    pub fn data_root(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_root = Some(dir.into());
        self
    }

    /// `--userns-remap`: root in a container is uid 3000000 on the host. The range is written into
    /// files that only this daemon sees.
    pub fn remapped(mut self) -> Self {
        self.remapped = true;
        self
    }

    /// Any other word for dockerd's command line.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Starts it, and waits until its socket answers.
    ///
    /// # Errors
    /// With the daemon's log, when it does not within 30 s.
    pub fn start(self) -> Result<Docker, String> {
        let dir = tempfile::Builder::new()
            .prefix("whose-docker-")
            .tempdir()
            .map_err(|e| format!("a directory for dockerd: {e}"))?;
        let old_cgroups = super::cleanup::cgroups_before();
        let data_root = self.data_root.clone().unwrap_or_else(|| dir.path().join("data"));
        let daemon = self.spawn(dir.path(), &data_root)?;
        // From here on dropping it cleans up.
        let mut docker = Docker {
            view: self.view,
            client: PathBuf::new(),
            daemon,
            containerd: 0,
            cgroup_parent: self.cgroup_parent,
            old_cgroups,
            asked: Mutex::default(),
            dir: Some(dir),
            data_root,
        };
        if self.remapped {
            // The daemon appends the ids itself.
            docker.data_root.push(format!("{REMAPPED}.{REMAPPED}"));
        }
        docker.wait_for_socket()?;
        Ok(docker)
    }

    fn spawn(&self, dir: &Path, data_root: &Path) -> Result<std::process::Child, String> {
        let dockerd = which("dockerd").ok_or("dockerd is not installed")?;
        let config = dir.join("daemon.json");
        std::fs::write(&config, "{}").map_err(|e| format!("{}: {e}", config.display()))?;
        let log = std::fs::File::create(dir.join("log")).map_err(|e| format!("log: {e}"))?;
        let mut command = Command::new("unshare");
        command
            .env_clear()
            .args(["-n", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
            .arg(dockerd)
            .arg("--config-file")
            .arg(config)
            .arg("--data-root")
            .arg(data_root)
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", dir.join("docker.sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        if let Some(parent) = &self.cgroup_parent {
            command.arg("--cgroup-parent").arg(parent);
        }
        if let Some(driver) = &self.storage_driver {
            command.arg("--storage-driver").arg(driver);
        }
        if self.remapped {
            let ids = dir.join("subids");
            std::fs::write(&ids, format!("nobody:{REMAPPED}:65536\nnogroup:{REMAPPED}:65536\n"))
                .and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(0o711)))
                .map_err(|e| format!("{}: {e}", ids.display()))?;
            command.args(["--userns-remap", "nobody:nogroup"]).env("SUBIDS", ids);
        }
        for (name, path) in &self.runtimes {
            command.arg("--add-runtime").arg(format!("{name}={}", path.display()));
        }
        command
            .args(&self.extra)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("VIEW", self.view.name())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| format!("log: {e}"))?)
            .stderr(log)
            // A terminal's Ctrl-C is for the test, which then cleans up.
            .process_group(0);
        command.spawn().map_err(|e| format!("starting dockerd: {e}"))
    }
}

impl Docker {
    fn wait_for_socket(&mut self) -> Result<(), String> {
        let socket = self.socket();
        let mut ended = None;
        let answered = waited(START, || {
            ended = self.daemon.try_wait().ok().flatten();
            if ended.is_some() {
                return true;
            }
            if !socket.exists() {
                return false;
            }
            if let Some(client) = working_client(&socket) {
                self.client = client;
            }
            self.client.is_absolute()
        });
        if let Some(status) = ended {
            return Err(format!("dockerd ended with {status}\n{}", tail(&self.log())));
        }
        if !answered {
            return Err(format!("dockerd does not answer in {START:?}\n{}", tail(&self.log())));
        }
        let pid_file = self.exec_root().join("containerd/containerd.pid");
        let pid = std::fs::read_to_string(&pid_file).ok().and_then(|t| t.trim().parse().ok());
        self.containerd = pid
            .filter(|pid| procfs::comm(*pid).as_deref() == Some("containerd"))
            .ok_or_else(|| format!("no containerd by {}", pid_file.display()))?;
        Ok(())
    }
}

/// The first client whose version and the daemon's agree.
fn working_client(socket: &Path) -> Option<PathBuf> {
    ["/usr/bin/docker", "/usr/local/bin/docker"].map(PathBuf::from).into_iter().find(|program| {
        let mut command = client(program, socket);
        command.args(["version", "--format", "{{.Server.Version}}"]);
        program.is_file()
            && output(&mut command, Duration::from_secs(10)).is_ok_and(|o| o.status.success())
    })
}
