//! A mount namespace in which Docker's data root is where it is by default, as on a host that is used, and
//! has the state of the rig's containers beside dockerd's own: names are then found where they are looked
//! for first, and one is looked for among all.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// dockerd reads what it has when it starts, and no more.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o mode=755 none /var
mkdir -p /var/lib/docker
ln -s /run /var/run
if [ -n "$1" ]; then
    cp -a "$2/containers/." "$1/containers/"
    mount --bind "$1" /var/lib/docker
else
    mount --bind "$2" /var/lib/docker
fi
echo ready
read -r _
"#;

/// It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Places {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Places {
    /// Has dockerd's data root and the rig's there.
    pub(super) fn make(docker: Option<&Path>, rig: &Path, used: &[&Path]) -> Result<Self> {
        for path in used {
            ensure!(!path.starts_with("/var"), "{} is hidden in the bench", path.display());
        }
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", SCRIPT, "sh"])
            .arg(docker.unwrap_or(Path::new("")))
            .arg(rig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running unshare")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("unshare has no stdout")?;
        let places = Self { child, stdin };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("waiting for the mounts")?;
        ensure!(line == "ready\n", "the data roots can't be mounted in their places");
        Ok(places)
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.child.id()))
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}
