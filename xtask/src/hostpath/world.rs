//! Where stacks are built: a mount namespace that nobody else sees, and file systems in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::stage::{Programs, Stage};

/// Tells the second start from the first: the descriptor of the first one's mount namespace.
const APART: &str = "WHOSE_HOSTPATH_APART";
/// Images: name, and what makes the file system.
const IMAGES: &[(&str, &[&str], &str)] = &[
    ("ext4", &["mkfs.ext4", "-q", "-F"], "512M"),
    ("btrfs", &["mkfs.btrfs", "-q", "-f"], "1G"),
    ("xfs", &["mkfs.xfs", "-q", "-f"], "512M"),
];

/// Starts this program again in a mount namespace of its own, unless that was done.
pub(super) fn apart() -> Result<()> {
    if std::env::var_os(APART).is_some() {
        return Ok(());
    }
    ensure!(rustix::process::geteuid().is_root(), "hostpath mounts, and needs root for it");
    let own = std::env::current_exe().context("the path of xtask")?;
    // The way back, for the janitor.
    let outside = File::open("/proc/self/ns/mnt").context("opening the mount namespace")?;
    rustix::io::fcntl_setfd(&outside, rustix::io::FdFlags::empty())
        .context("keeping the mount namespace")?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(APART, outside.as_raw_fd().to_string())
        .exec();
    Err(error).context("running unshare")
}

/// The world of one run. All mounts go with the namespace, all of the disk by a janitor that
/// outlives this process however it ends.
#[derive(Debug)]
pub(super) struct World {
    pub(super) programs: Programs,
    /// The stage in the namespaces of `whose`.
    pub(super) host: Stage,
    /// The root of each file system that stacks are built on, by name.
    roots: BTreeMap<String, PathBuf>,
    /// Why a file system is not among them.
    pub(super) missing: Vec<String>,
    dir: PathBuf,
    janitor: Child,
}

impl World {
    /// Sets it up below the directory for temporary files.
    pub(super) fn make() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("whose-hostpath-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        // The base's own name must be no puzzle: the plans bring the odd ones.
        let dir = dir.canonicalize().context("the temporary directory")?;
        let janitor = janitor(&dir)?;
        let (ram, disk, images) = (dir.join("ram"), dir.join("disk"), dir.join("images"));
        for sub in [&ram, &disk, &images] {
            std::fs::create_dir(sub).with_context(|| format!("making {}", sub.display()))?;
        }
        let programs = Programs::build(&disk)?;
        let mut host = Stage::start(&programs)?;
        // The images have a tmpfs without a mount on it: a loop device holds its image, the image
        // its mount, a mount what is mounted on it; in a ring none of them would ever go.
        for point in [&ram, &images] {
            let point = point.as_os_str().as_bytes();
            host.one(&[b"mount", b"none", point, b"tmpfs", b"", b"size=80%,mode=755"])?;
        }
        let mut world = Self {
            programs,
            host,
            roots: BTreeMap::from([("ram".to_owned(), ram)]),
            missing: Vec::new(),
            dir,
            janitor,
        };
        for (name, mkfs, size) in IMAGES {
            match world.image(name, mkfs, size) {
                Ok(root) => drop(world.roots.insert((*name).to_owned(), root)),
                Err(error) => world.missing.push(format!("{name}: {error:#}")),
            }
        }
        match world.takes_uppers(&disk) {
            Ok(()) => drop(world.roots.insert("disk".to_owned(), disk)),
            Err(error) => world.missing.push(format!("disk: {error:#}")),
        }
        Ok(world)
    }

    /// The names of the file systems, in a fixed order.
    pub(super) fn disks(&self) -> Vec<String> {
        self.roots.keys().cloned().collect()
    }

    /// The directory that everything is below.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same bytes with each `@NAME@` replaced by that file system's root.
    pub(super) fn resolve(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(at) = rest.iter().position(|byte| *byte == b'@') {
            out.extend_from_slice(&rest[..at]);
            let name = rest[at + 1..].split(|byte| *byte == b'@').next().unwrap_or_default();
            match self.roots.get(&*String::from_utf8_lossy(name)) {
                Some(root) => {
                    out.extend_from_slice(root.as_os_str().as_bytes());
                    rest = &rest[at + name.len() + 2..];
                }
                None => {
                    out.push(b'@');
                    rest = &rest[at + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
        out
    }

    /// Removes what a stack left on the file systems.
    pub(super) fn sweep(&mut self, number: u64) -> Result<()> {
        let paths: Vec<Vec<u8>> = self
            .roots
            .values()
            .map(|root| root.join(format!("s{number}")).into_os_string().as_bytes().to_vec())
            .collect();
        let commands: Vec<Vec<&[u8]>> =
            paths.iter().map(|path| vec![b"rmtree".as_slice(), path]).collect();
        self.host.all(&commands).map(drop)
    }

    /// A file system in an image in memory, on a loop device that clears itself.
    fn image(&mut self, name: &str, mkfs: &[&str], size: &str) -> Result<PathBuf> {
        let image = self.dir.join("images").join(name);
        let point = self.dir.join(name);
        run(Command::new("truncate").arg(format!("--size={size}")).arg(&image))?;
        let (program, flags) = mkfs.split_first().context("no mkfs")?;
        run(Command::new(program).args(flags).arg(&image))?;
        std::fs::create_dir(&point).context("making a mount point")?;
        let device = self.host.one(&[b"loop", image.as_os_str().as_bytes()])?;
        let point_bytes = point.as_os_str().as_bytes();
        self.host.one(&[b"mount", device.as_bytes(), point_bytes, name.as_bytes(), b"", b""])?;
        Ok(point)
    }

    /// Whether an upper directory may be on this file system: not when that is an overlay.
    fn takes_uppers(&mut self, dir: &Path) -> Result<()> {
        let path = |name: &str| -> OsString { dir.join(name).into() };
        for name in ["l", "u", "w", "m"] {
            self.host.one(&[b"mkdir", path(name).as_bytes()])?;
        }
        let text = format!("lowerdir={0}/l,upperdir={0}/u,workdir={0}/w", dir.display());
        self.host.one(&[
            b"mount",
            b"overlay",
            path("m").as_bytes(),
            b"overlay",
            b"",
            text.as_bytes(),
        ])?;
        self.host.one(&[b"umount", path("m").as_bytes()]).map(drop)
    }
}

/// Removes the directory when this process and all that it started have ended. It is in the
/// namespace of the host, where nothing is mounted below the directory.
fn janitor(dir: &Path) -> Result<Child> {
    let outside = std::env::var(APART).context("not in a namespace of its own")?;
    let script = "trap '' INT TERM HUP; read -r _; rm -rf --one-file-system -- \"$1\"";
    Command::new("setsid")
        .args(["nsenter", &format!("--mount=/proc/self/fd/{outside}"), "--"])
        .args(["sh", "-c", script, "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .context("starting the janitor")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", command.get_program().display());
    Ok(())
}

impl Drop for World {
    fn drop(&mut self) {
        let points = ["ext4", "btrfs", "xfs", "ram", "images"].map(|name| self.dir.join(name));
        for point in points {
            // What is not mounted is no matter here.
            drop(self.host.one(&[b"detach", point.as_os_str().as_bytes()]));
        }
        if let Some(mut stdin) = self.janitor.stdin.take() {
            drop(stdin.write_all(b"\n"));
        }
        drop(self.janitor.wait());
    }
}
