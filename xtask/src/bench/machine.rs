//! The machine and the versions that figures belong to.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What a page of figures tells first.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Of the run, UTC.
    pub(super) date: String,
    pub(super) kernel: String,
    processor: String,
    cores: usize,
    memory_kb: u64,
    /// Load averages before the run: others' work spoils figures.
    load: String,
    whose: String,
    procps: String,
}

impl Machine {
    /// Looks; `built` says that `whose` was built from the tree at `root`.
    pub(super) fn look(root: &Path, whose: &Path, built: bool) -> Result<Self> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").context("reading cpuinfo")?;
        let memory = std::fs::read_to_string("/proc/meminfo").context("reading meminfo")?;
        let load = std::fs::read_to_string("/proc/loadavg").context("reading loadavg")?;
        let version = said(Command::new(whose).arg("--version"))?;
        let whose = match built.then(|| commit(root)).transpose()? {
            Some(commit) => format!("{version}, {commit}"),
            None => format!("{version}, of a commit that is not known"),
        };
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Ok(Self {
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
            kernel: kernel.replace('/', "_"),
            processor: value(&cpus, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().context("counting cores")?.get(),
            memory_kb: value(&memory, "MemTotal")
                .and_then(|text| text.trim_end_matches("kB").trim().parse().ok())
                .context("no MemTotal")?,
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            whose,
            procps: said(Command::new("ps").arg("--version"))?,
        })
    }

    /// What its runs of that day are called.
    pub(super) fn run(&self) -> String {
        format!("{}-{}", self.date, self.kernel)
    }

    /// A list in Markdown.
    pub(super) fn lines(&self, docker: Option<&str>) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "- machine: {}, {} cores, {} MB; load before the run {}",
            self.processor,
            self.cores,
            self.memory_kb / 1024,
            self.load
        );
        let _ = writeln!(text, "- {}; {}", self.whose, self.procps);
        if let Some((client, daemon)) = docker.and_then(|versions| versions.split_once(' ')) {
            let _ = writeln!(text, "- docker {client}, dockerd {daemon}");
        }
        text
    }
}

/// The commit of a tree, and whether it is what is built.
fn commit(root: &Path) -> Result<String> {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        // A clone may belong to another user than the one who measures.
        command.arg("-c").arg(format!("safe.directory={}", root.display()));
        said(command.arg("-C").arg(root).args(words))
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock"])?;
    Ok(format!("commit {commit}{}", if changed.is_empty() { "" } else { " with changes" }))
}

fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("running {name}"))?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Machine, value};

    #[test]
    fn values_are_found() {
        let text = "processor\t: 0\nmodel name\t: A: B 3.0\nMemTotal:  100 kB\n";
        assert_eq!(value(text, "model name"), Some("A: B 3.0"));
        assert_eq!(value(text, "MemTotal"), Some("100 kB"));
        assert_eq!(value(text, "Swap"), None);
    }

    #[test]
    fn a_page_names_machine_and_versions() {
        let machine = Machine {
            processor: "CPU".to_owned(),
            cores: 2,
            memory_kb: 2048,
            load: "0.1 0.2 0.3".to_owned(),
            whose: "whose 1, commit abc".to_owned(),
            procps: "ps 4".to_owned(),
            ..Machine::default()
        };
        assert_eq!(
            machine.lines(Some("28.2 20.10")),
            "- machine: CPU, 2 cores, 2 MB; load before the run 0.1 0.2 0.3\n\
             - whose 1, commit abc; ps 4\n- docker 28.2, dockerd 20.10\n"
        );
    }
}
