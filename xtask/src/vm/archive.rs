//! Debian's archive, through apt and with lists of its own: the machine's apt is asked where the
//! archive is, and not changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::tools;

/// Signs every suite, Debian's package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from.
#[derive(Debug)]
pub(super) struct Archive {
    /// The suite of this machine.
    pub(super) own: String,
    main: String,
    security: Option<String>,
}

impl Archive {
    /// Takes the mirrors that this machine's apt uses.
    pub(super) fn of_this_machine() -> Result<Self> {
        ensure!(Path::new(KEYRING).is_file(), "missing: apt-get install debian-archive-keyring");
        let format = "$(CODENAME) $(COMPONENT) $(REPO_URI)";
        let lines = tools::text(Command::new("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Created-By: Packages",
        ]))?;
        let release = std::fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        let own = codename(&release).context("/etc/os-release has no VERSION_CODENAME")?;
        let main = mirror(&lines, own);
        let main = main.with_context(|| format!("apt has no sources of {own}; is this Debian?"))?;
        let security = mirror(&lines, &format!("{own}-security"));
        Ok(Self {
            own: own.to_owned(),
            main: main.to_owned(),
            security: security.map(str::to_owned),
        })
    }

    /// The line of a sources.list for a suite; `None` without a mirror for security updates.
    pub(super) fn source(&self, suite: &str) -> Option<String> {
        let security = suite.ends_with("-security");
        let uri = if security { self.security.as_ref()? } else { &self.main };
        Some(format!("deb [signed-by={KEYRING}] {uri} {suite} main"))
    }

    /// An apt that knows these suites alone, with its lists in `dir`, brought up to date.
    pub(super) fn apt(&self, suites: &[&str], dir: &Path) -> Result<Apt> {
        let lists = dir.join("lists");
        std::fs::create_dir_all(lists.join("partial")).context("the folder of apt's lists")?;
        let lines: Vec<String> = suites.iter().filter_map(|suite| self.source(suite)).collect();
        std::fs::write(dir.join("sources.list"), lines.join("\n") + "\n")
            .context("writing sources.list")?;
        std::fs::write(dir.join("status"), "").context("writing status")?;
        let apt = Apt { dir: dir.to_owned() };
        tools::output(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }
}

/// apt with a configuration of its own.
#[derive(Debug)]
pub(super) struct Apt {
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
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.dir);
        command
    }

    /// The newest package that `linux-image-amd64` stands for.
    pub(super) fn newest_kernel(&self) -> Result<String> {
        let show = ["show", "--no-all-versions", "linux-image-amd64"];
        let text = tools::text(self.command("apt-cache").args(show))?;
        let package = depends_on_kernel(&text).context("linux-image-amd64 stands for no kernel")?;
        Ok(package.to_owned())
    }

    /// Brings a package into the directory, checked by apt.
    pub(super) fn download(&self, package: &str) -> Result<()> {
        tools::output(self.command("apt-get").args(["download", package])).map(drop)
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

fn depends_on_kernel(show: &str) -> Option<&str> {
    let line = show.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    line.split([' ', ',']).find(|word| word.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::{codename, depends_on_kernel, mirror};

    #[test]
    fn the_mirror_is_that_of_the_suite_and_of_main() {
        let lines = "bookworm contrib http://a.test/c/\nbookworm main http://a.test/m/\n\
                     bookworm-security main http://a.test/s/\n";
        assert_eq!(mirror(lines, "bookworm"), Some("http://a.test/m/"));
        assert_eq!(mirror(lines, "bookworm-security"), Some("http://a.test/s/"));
        assert_eq!(mirror(lines, "trixie"), None);
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
