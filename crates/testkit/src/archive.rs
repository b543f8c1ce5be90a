//! Debian's archive, through apt and with lists of its own: the machine's apt is asked where the
//! archive is, and not changed.

use crate::call::said;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Signs every suite, Debian's package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long one call of apt may take.
const CALL: Duration = Duration::from_secs(600);

/// Where packages come from.
#[derive(Debug)]
pub struct Archive {
    /// The suite of this machine.
    pub own: String,
    main: String,
    security: Option<String>,
}

impl Archive {
    /// Takes the mirrors that this machine's apt uses.
    ///
    /// # Errors
    /// What is missing.
    pub fn of_this_machine() -> Result<Self, String> {
        if !Path::new(KEYRING).is_file() {
            return Err("missing: apt-get install debian-archive-keyring".to_owned());
        }
        let format = "$(CODENAME) $(COMPONENT) $(REPO_URI)";
        let lines = said(
            Command::new("apt-get").args([
                "indextargets",
                "--format",
                format,
                "Created-By: Packages",
            ]),
            CALL,
        )?;
        let release = std::fs::read_to_string("/etc/os-release");
        let release = release.map_err(|e| format!("/etc/os-release: {e}"))?;
        let own = codename(&release).ok_or("/etc/os-release has no VERSION_CODENAME")?;
        // Where its lists were removed apt tells of no index, but of what it would fetch.
        let uris = said(Command::new("apt-get").args(["--print-uris", "update"]), CALL);
        let uris = uris.unwrap_or_default();
        let of_suite = |suite: &str| mirror(&lines, suite).or_else(|| fetched_from(&uris, suite));
        let main = of_suite(own);
        let main = main.ok_or_else(|| format!("apt has no sources of {own}; is this Debian?"))?;
        let security = of_suite(&format!("{own}-security"));
        Ok(Self {
            own: own.to_owned(),
            main: main.to_owned(),
            security: security.map(str::to_owned),
        })
    }

    /// The line of a sources.list for a suite; `None` without a mirror for security updates.
    #[must_use]
    pub fn source(&self, suite: &str) -> Option<String> {
        let security = suite.ends_with("-security");
        let uri = if security { self.security.as_ref()? } else { &self.main };
        Some(format!("deb [signed-by={KEYRING}] {uri} {suite} main"))
    }

    /// An apt that knows these suites alone, with its lists in `dir`, brought up to date.
    ///
    /// # Errors
    /// What apt said.
    pub fn apt(&self, suites: &[&str], dir: &Path) -> Result<Apt, String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir.join("lists/partial")).map_err(wrong)?;
        std::fs::create_dir_all(dir.join("archives/partial")).map_err(wrong)?;
        let lines: Vec<String> = suites.iter().filter_map(|suite| self.source(suite)).collect();
        std::fs::write(dir.join("sources.list"), lines.join("\n") + "\n").map_err(wrong)?;
        std::fs::write(dir.join("status"), "").map_err(wrong)?;
        let apt = Apt { dir: dir.to_owned() };
        said(apt.command("apt-get").args(["update", "--error-on=any"]), CALL)?;
        Ok(apt)
    }
}

/// apt with a configuration of its own.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferences=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.dir);
        command
    }

    /// The newest package that `linux-image-amd64` stands for.
    ///
    /// # Errors
    /// What apt said.
    pub fn newest_kernel(&self) -> Result<String, String> {
        let show = ["show", "--no-all-versions", "linux-image-amd64"];
        let text = said(self.command("apt-cache").args(show), CALL)?;
        let package = depends_on_kernel(&text).ok_or("linux-image-amd64 stands for no kernel")?;
        Ok(package.to_owned())
    }

    /// Brings a package into the directory, checked by apt.
    ///
    /// # Errors
    /// What apt said.
    pub fn download(&self, package: &str) -> Result<(), String> {
        said(self.command("apt-get").args(["download", package]), CALL).map(drop)
    }

    /// Unpacks these packages and all that they depend on below `tree`: their files, and nothing is run.
    /// What was downloaded goes.
    ///
    /// # Errors
    /// What apt or dpkg said.
    pub fn unpack(&self, packages: &[&str], tree: &Path) -> Result<(), String> {
        let install = ["install", "--yes", "--download-only", "--quiet"];
        said(self.command("apt-get").args(install).args(packages), CALL)?;
        let archives = self.dir.join("archives");
        let wrong = |e: std::io::Error| format!("{}: {e}", archives.display());
        for entry in std::fs::read_dir(&archives).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                said(Command::new("dpkg-deb").arg("-x").args([&path, tree]), CALL)?;
            }
        }
        std::fs::remove_dir_all(&archives).map_err(wrong)
    }
}

fn codename(release: &str) -> Option<&str> {
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|v| v.trim_matches('"'))
}

fn mirror<'t>(lines: &'t str, suite: &str) -> Option<&'t str> {
    lines.lines().find_map(|line| {
        let mut words = line.split(' ');
        let fits = words.next() == Some(suite) && words.next() == Some("main");
        words.next().filter(|_| fits)
    })
}

/// The mirror that a suite would be brought up to date from: `'URI/dists/SUITE/InRelease' FILE ...`.
fn fetched_from<'t>(uris: &'t str, suite: &str) -> Option<&'t str> {
    let end = format!("/dists/{suite}/InRelease'");
    uris.lines().find_map(|line| line.strip_prefix('\'')?.split(' ').next()?.strip_suffix(&end))
}

fn depends_on_kernel(show: &str) -> Option<&str> {
    let line = show.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    line.split([' ', ',']).find(|word| word.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::{codename, depends_on_kernel, fetched_from, mirror};

    #[test]
    fn the_mirror_is_that_of_the_suite_and_of_main() {
        let lines = "bookworm contrib http://a.test/c/\nbookworm main http://a.test/m/\n\
                     bookworm-security main http://a.test/s/\n";
        assert_eq!(mirror(lines, "bookworm"), Some("http://a.test/m/"));
        assert_eq!(mirror(lines, "bookworm-security"), Some("http://a.test/s/"));
        assert_eq!(mirror(lines, "trixie"), None);
    }

    #[test]
    fn what_would_be_fetched_names_the_mirror() {
        let uris = "'http://a.test/debian/dists/bookworm/InRelease' a_InRelease 0 \n\
                    'http://a.test/debian/dists/bookworm-updates/InRelease' b_InRelease 0 \n";
        assert_eq!(fetched_from(uris, "bookworm"), Some("http://a.test/debian"));
        assert_eq!(fetched_from(uris, "trixie"), None);
    }

    #[test]
    fn the_kernel_is_what_the_package_depends_on() {
        let show =
            "Package: linux-image-amd64\nDepends: linux-image-6.1.0-50-amd64 (= 6.1.176-1)\n";
        assert_eq!(depends_on_kernel(show), Some("linux-image-6.1.0-50-amd64"));
        assert_eq!(depends_on_kernel("Package: x\nDepends: y\n"), None);
    }

    #[test]
    fn the_codename_may_be_quoted() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=\"x\"\n"), Some("x"));
        assert_eq!(codename("ID=debian\n"), None);
    }
}
