//! The state files by which Docker's containers have names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use whose_testkit::fixture::DockerContainer;

/// What Docker mounts into `/etc` of every container.
pub(super) const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];
/// The file system magic of overlayfs (linux/magic.h).
const OVERLAYFS: u64 = 0x794c_7630;

/// A data root as Docker keeps it.
#[derive(Debug)]
pub(super) struct DataRoot {
    path: PathBuf,
}

impl DataRoot {
    /// Makes it; it must not be there.
    pub(super) fn make(path: &Path) -> Result<Self> {
        std::fs::create_dir(path).with_context(|| format!("making {}", path.display()))?;
        let path = path.canonicalize().context("the data root")?;
        let text = path.to_string_lossy();
        ensure!(!text.contains(['\n', '\u{fffd}']), "{text:?} is no name for a data root");
        let system = rustix::fs::statfs(&path).context("the data root's file system")?;
        // Binds from an overlay prove nothing, since a container can make them too.
        ensure!(
            u64::try_from(system.f_type) != Ok(OVERLAYFS),
            "{text} is on overlayfs, where no names are found: --data-root may name another place"
        );
        std::fs::create_dir(path.join("containers")).context("making containers")?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.path.join("containers").join(id)
    }

    /// Writes what a container mounts; returns the files, named as in `/etc`.
    pub(super) fn mounted(&self, id: &str) -> Result<Vec<(&'static str, PathBuf)>> {
        let dir = self.dir(id);
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let text = |name| match name {
            "hostname" => format!("{}\n", id.get(..12).unwrap_or(id)),
            "hosts" => "127.0.0.1\tlocalhost\n".to_owned(),
            _ => String::new(),
        };
        FILES.map(|name| (name, dir.join(name))).into_iter().try_fold(
            Vec::new(),
            |mut all, (name, path)| {
                std::fs::write(&path, text(name))
                    .with_context(|| format!("writing {}", path.display()))?;
                all.push((name, path));
                Ok(all)
            },
        )
    }

    /// Writes what Docker keeps of a running container.
    pub(super) fn running(&self, id: &str, name: &str, init: u32) -> Result<()> {
        let config = DockerContainer::named(name)
            .with_id(id)
            .data_root(self.path.to_string_lossy())
            .running(init)
            .config();
        let host_config = json!({
            "NetworkMode": "default",
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "CgroupnsMode": "host",
            "IpcMode": "private",
            "PidMode": "",
            "CgroupParent": ""
        });
        for (file, value) in [("config.v2.json", config), ("hostconfig.json", host_config)] {
            let path = self.dir(id).join(file);
            std::fs::write(&path, value.to_string())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}
