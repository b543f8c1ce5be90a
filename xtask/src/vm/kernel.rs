//! A kernel package of Debian's, unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, bail, ensure};

use super::tools;
use whose_testkit::archive::Archive;

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// The package and its version.
    pub(super) package: String,
    pub(super) version: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    /// The directory of its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// Takes the newest of these suites from the archive, or the one that was kept, and unpacks it
    /// into `place`.
    pub(super) fn get(
        archive: &Archive,
        cache: &Path,
        suites: &[&str],
        update: bool,
        place: &Path,
    ) -> Result<Self> {
        let dir = cache.join("kernels").join(suites.first().context("no suite")?);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let kept = packages(&dir)?;
        let file = match kept.as_slice() {
            [one] if !update => one.clone(),
            _ => fetch(archive, suites, &dir)?,
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (package, version) = name_and_version(&name).with_context(|| format!("{name}: odd"))?;
        tools::output(Command::new("dpkg-deb").arg("-x").args([&file, &place.join("kernel")]))?;
        let modules = only(&place.join("kernel/lib/modules"), "")?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            package: package.to_owned(),
            version: version.to_owned(),
            image: only(&place.join("kernel/boot"), "vmlinuz-")?,
            modules,
            release,
        })
    }
}

/// Downloads the newest and removes the others.
fn fetch(archive: &Archive, suites: &[&str], dir: &Path) -> Result<PathBuf> {
    let apt = archive.apt(suites, dir).map_err(Error::msg)?;
    let package = apt.newest_kernel().map_err(Error::msg)?;
    for old in packages(dir)? {
        std::fs::remove_file(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    apt.download(&package).map_err(Error::msg)?;
    match packages(dir)?.as_slice() {
        [one] => Ok(one.clone()),
        other => bail!("apt-get download {package} left {} files", other.len()),
    }
}

fn packages(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The one entry whose name begins so.
fn only(dir: &Path, start: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            found.push(entry.path());
        }
    }
    let one = found.pop();
    ensure!(found.is_empty(), "several kernels in one package");
    one.with_context(|| format!("the package has nothing in {}", dir.display()))
}

/// `NAME_VERSION_ARCH.deb`; apt writes the colon of an epoch as `%3a`.
fn name_and_version(file: &str) -> Option<(&str, &str)> {
    let (name, rest) = file.split_once('_')?;
    let (version, _) = rest.split_once('_')?;
    Some((name, version))
}

#[cfg(test)]
mod tests {
    use super::name_and_version;

    #[test]
    fn a_package_s_file_tells_its_version() {
        let file = "linux-image-5.10.0-46-amd64_5.10.262-1_amd64.deb";
        assert_eq!(name_and_version(file), Some(("linux-image-5.10.0-46-amd64", "5.10.262-1")));
        assert_eq!(name_and_version("x.deb"), None);
    }
}
