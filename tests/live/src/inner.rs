//! Engines in containers, users' own engines, and builds.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use whose_testkit::docker::Docker;
use whose_testkit::users::LabUser;
use whose_testkit::{procfs, which};

/// How long an engine may take until it answers.
const START: Duration = Duration::from_secs(60);

fn said(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
    let why = || format!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    if out.status.success() { Ok(text) } else { Err(why()) }
}

/// Makes an archive of a root of one static binary, below `work`.
///
/// # Panics
/// When it can't be written.
#[must_use]
pub fn busybox_archive(work: &Path) -> PathBuf {
    let root = work.join("busybox");
    std::fs::create_dir_all(root.join("bin")).expect("a directory of the image");
    let busybox = which("busybox").expect("busybox is installed");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("a copy of busybox");
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let archive = work.join("busybox.tar");
    let tar = said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
    tar.unwrap_or_else(|e| panic!("{e}"));
    archive
}

/// Starts, in a container called `name`, the host's own dockerd; its data root is a directory of the
/// host, or with `None` a tmpfs of the container. The container's id.
///
/// # Panics
/// When it does not start, or does not answer.
#[must_use]
pub fn engine_in_a_container(
    docker: &Docker,
    work: &Path,
    name: &str,
    data: Option<&Path>,
) -> String {
    let archive = busybox_archive_once(work);
    if !work.join("outer").exists() {
        outer_image(docker, work);
    }
    let bind = |from: &Path, to: &str, how: &str| format!("{}:{to}{how}", from.display());
    let usr = bind(Path::new("/usr"), "/usr", ":ro");
    let alternatives = bind(Path::new("/etc/alternatives"), "/etc/alternatives", ":ro");
    let image = bind(&archive, "/busybox.tar", ":ro");
    let data = data.map(|d| bind(d, "/var/lib/docker", ""));
    let mut args = vec!["--name", name, "--cap-add=ALL", "--cap-drop=SYS_RESOURCE"];
    args.extend(["--security-opt", "seccomp=unconfined"]);
    args.extend(["--security-opt", "systempaths=unconfined", "--device-cgroup-rule=a *:* rwm"]);
    args.extend(["-v", &usr, "-v", &alternatives, "-v", &image]);
    match &data {
        Some(data) => args.extend(["-v", data]),
        None => args.extend(["--tmpfs", "/var/lib/docker:exec,dev,suid"]),
    }
    args.push("lab-dind:1");
    let id = docker.run(&args);
    procfs::wait_for("the inner dockerd", START, || {
        docker.try_cli(&["exec", name, "/usr/bin/docker", "info"]).ok()
    });
    let import = ["exec", name, "/usr/bin/docker", "import", "--change", "ENV PATH=/bin"];
    docker.cli(&[&import[..], &["/busybox.tar", "lab-inner:1"]].concat());
    id
}

fn busybox_archive_once(work: &Path) -> PathBuf {
    let archive = work.join("busybox.tar");
    if archive.exists() { archive } else { busybox_archive(work) }
}

/// Makes a root `work/outer` with the host's own programs to be, and `/start.sh`.
///
/// # Panics
/// When it can't be written.
#[must_use]
pub fn outer_root(work: &Path, script: &str) -> PathBuf {
    let root = work.join("outer");
    for dir in ["usr", "etc/alternatives", "proc", "sys", "dev", "tmp", "run", "var/lib", "root"] {
        std::fs::create_dir_all(root.join(dir)).expect("a directory of the image");
    }
    let link = |to: &str, at: &str| {
        std::os::unix::fs::symlink(to, root.join(at)).expect("a link of the image");
    };
    for dir in ["bin", "sbin", "lib", "lib64"] {
        link(&format!("usr/{dir}"), dir);
    }
    link("../run", "var/run");
    for file in ["etc/passwd", "etc/group"] {
        std::fs::copy(Path::new("/").join(file), root.join(file)).expect("a file of the image");
    }
    std::fs::write(root.join("start.sh"), script).expect("a script of the image");
    said(Command::new("chmod").arg("+x").arg(root.join("start.sh"))).expect("chmod");
    root
}

fn outer_image(docker: &Docker, work: &Path) {
    // What docker mounts read-only is its cgroups.
    let script = "#!/bin/bash\nawk '$3 ~ /^cgroup/ {print $2}' /proc/mounts | while read -r m; do \
                  mount -o remount,bind,rw \"$m\"; done\n\
                  exec dockerd --bridge=none --iptables=false --ip6tables=false\n";
    let root = outer_root(work, script);
    let archive = root.with_extension("tar");
    let tar = said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
    tar.unwrap_or_else(|e| panic!("{e}"));
    let env = ["import", "--change", "ENV PATH=/usr/sbin:/usr/bin"];
    let command =
        ["--change", "CMD [\"/start.sh\"]", archive.to_str().expect("text"), "lab-dind:1"];
    docker.cli(&[&env[..], &command].concat());
}

/// Asks the client in a container.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn inside(docker: &Docker, outer: &str, args: &[&str]) -> String {
    docker.cli(&[&["exec", outer, "/usr/bin/docker"][..], args].concat())
}

/// A user with an engine of his own. All goes when this is dropped.
#[derive(Debug)]
pub struct Rootless {
    run: PathBuf,
    child: Option<Child>,
    // Goes last, when nothing of the user's runs any more.
    user: LabUser,
}

/// Runs as the user: an engine in a user and a network namespace.
const SCRIPT: &str = r#"
cd
export XDG_RUNTIME_DIR="$1" PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec rootlesskit --net=host --copy-up=/etc --copy-up=/run --state-dir="$1/rk" --propagation=rslave \
    unshare -n sh -c 'rm -rf /run/docker /run/containerd; exec "$@"' sh \
    dockerd --rootless --bridge=none --iptables=false --ip6tables=false --storage-driver=vfs \
    --exec-root="$1/docker" --pidfile="$1/docker.pid" -H "unix://$1/docker.sock"
"#;

impl Rootless {
    /// Makes a user and starts it.
    ///
    /// # Errors
    /// What did not work, with the engine's log.
    pub fn start() -> Result<Self, String> {
        let user = LabUser::new()?;
        let run = user.runtime_dir();
        let mut rootless = Self { run: run.clone(), child: None, user };
        let log = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        let output = || log.reopen().map(Stdio::from).map_err(|e| e.to_string());
        let mut command = Command::new("su");
        command.args(["-s", "/bin/sh", rootless.user(), "-c", SCRIPT, "sh"]).arg(&run);
        command.stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        rootless.child = Some(command.spawn().map_err(|e| e.to_string())?);
        let began = std::time::Instant::now();
        while rootless.try_cli(&["info"]).is_err() {
            if began.elapsed() > START {
                let log = std::fs::read_to_string(log.path()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("the user's dockerd does not answer: {}", tail.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(rootless)
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.name()
    }

    /// The user.
    #[must_use]
    pub fn lab_user(&self) -> &LabUser {
        &self.user
    }

    /// Asks its client.
    ///
    /// # Errors
    /// What it said.
    pub fn try_cli(&self, args: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}/docker.sock", self.run.display());
        said(Command::new("/usr/bin/docker").args(["-H", &socket]).args(args))
    }

    /// Asks its client.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The daemon's PID.
    fn daemon(&self) -> Option<u32> {
        std::fs::read_to_string(self.run.join("docker.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        if let Ok(ids) = self.try_cli(&["ps", "-aq"]) {
            let mut words = vec!["rm", "-f"];
            words.extend(ids.lines());
            if words.len() > 2 {
                drop(self.try_cli(&words));
            }
        }
        if let Some(pid) = self.daemon() {
            drop(said(Command::new("kill").arg(pid.to_string())));
        }
        if let Some(mut child) = self.child.take() {
            let until = std::time::Instant::now() + Duration::from_secs(20);
            while matches!(child.try_wait(), Ok(None)) && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A user with a containerd of his own, in namespaces where its directories lie in their usual places,
/// as nerdctl sets it up. All goes when this is dropped.
#[derive(Debug)]
pub struct RootlessContainerd {
    child: Child,
    // Goes last, when nothing of the user's runs any more.
    user: LabUser,
}

/// Runs as the user.
const CONTAINERD: &str = r#"
cd
export XDG_RUNTIME_DIR="$1" PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec rootlesskit --net=host --copy-up=/etc --copy-up=/run --copy-up=/var/lib --state-dir="$1/containerd-rootless" \
    --propagation=rslave sh -ec '
        rm -rf /run/containerd /run/runc /var/lib/containerd /etc/containerd
        for pair in "$HOME/.local/share/containerd:/var/lib" "$XDG_RUNTIME_DIR/containerd:/run"; do
            mkdir -p "${pair%%:*}" "${pair##*:}/containerd"
            mount --bind "${pair%%:*}" "${pair##*:}/containerd"
        done
        exec containerd --log-level warn'
"#;

impl RootlessContainerd {
    /// Makes a user and starts it.
    ///
    /// # Errors
    /// What did not work, with the engine's log.
    pub fn start() -> Result<Self, String> {
        let user = LabUser::new()?;
        let run = user.runtime_dir();
        let log = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        let output = || log.reopen().map(Stdio::from).map_err(|e| e.to_string());
        let mut command = Command::new("su");
        command.args(["-s", "/bin/sh", user.name(), "-c", CONTAINERD, "sh"]).arg(&run);
        command.stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let rootless = Self { child: command.spawn().map_err(|e| e.to_string())?, user };
        let began = std::time::Instant::now();
        while rootless.try_ctr(&["version"]).is_err() {
            if began.elapsed() > START {
                let log = std::fs::read_to_string(log.path()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("the user's containerd does not answer: {}", tail.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(rootless)
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &LabUser {
        &self.user
    }

    /// Asks its client in its namespaces.
    ///
    /// # Errors
    /// What it said.
    pub fn try_ctr(&self, args: &[&str]) -> Result<String, String> {
        let file = self.user.runtime_dir().join("containerd-rootless/child_pid");
        let pid = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
        let mut command = Command::new("nsenter");
        command.args(["-t", pid.trim(), "-U", "-m", "--", "ctr"]).args(args);
        said(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    }

    /// Asks its client.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctr(&self, args: &[&str]) -> String {
        self.try_ctr(args).unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Drop for RootlessContainerd {
    fn drop(&mut self) {
        // rootlesskit ends with what it started; its containers go with the user.
        let mine = self.user.processes();
        let is_engine = |pid: &u32| procfs::comm(*pid).is_some_and(|comm| comm == "containerd");
        for pid in mine.into_iter().filter(is_engine) {
            drop(said(Command::new("kill").args(["-KILL", &pid.to_string()])));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A directory on a FUSE file system of its own; all goes when this is dropped.
#[derive(Debug)]
pub struct FuseDir {
    /// The directory.
    pub path: PathBuf,
    server: Child,
}

impl FuseDir {
    /// Mounts one on a new directory `work/NAME`.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn mount(work: &Path, at: &Path) -> Result<Self, String> {
        let part = |name: &str| {
            let dir = work.join(name);
            std::fs::create_dir_all(&dir).map(|()| dir.display().to_string())
        };
        let parts = ["lower", "upper", "work"].map(|name| part(name).map_err(|e| e.to_string()));
        let [lower, upper, inner] = parts;
        let options = format!("lowerdir={},upperdir={},workdir={}", lower?, upper?, inner?);
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        let mut command = Command::new("fuse-overlayfs");
        command.args(["-f", "-o", &options]).arg(at).stdin(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().map_err(|e| e.to_string())?;
        let mut mounted = Self { path: at.to_owned(), server };
        let wanted = format!(" {} ", at.display());
        let began = std::time::Instant::now();
        loop {
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if table.lines().any(|l| l.contains(&wanted) && l.contains("fuse")) {
                return Ok(mounted);
            }
            if began.elapsed() > START || mounted.server.try_wait().is_ok_and(|s| s.is_some()) {
                return Err("fuse-overlayfs does not mount".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server: from now on whoever looks at the directory waits.
    pub fn deafen(&self) {
        let pid = self.server.id();
        drop(said(Command::new("kill").args(["-STOP", &pid.to_string()])));
        procfs::wait_for("a stopped server", START, || {
            (procfs::state(pid) == Some('T')).then_some(())
        });
    }
}

impl Drop for FuseDir {
    fn drop(&mut self) {
        // With the server its connection ends, and whoever waits is woken.
        drop(self.server.kill());
        drop(self.server.wait());
        drop(said(Command::new("umount").arg("-l").arg(&self.path)));
    }
}
