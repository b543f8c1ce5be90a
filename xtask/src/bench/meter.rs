//! What a whole process takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::build::{STATIC, c_program};

const SOURCE: &str = include_str!("meter.c");

/// A command line to measure.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    /// Beside `PATH` and `LC_ALL`.
    pub(super) env: Vec<(String, String)>,
}

impl Line {
    /// From its words.
    pub(super) fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), env: Vec::new() }
    }

    /// One more word at its end.
    pub(super) fn and<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }
}

/// What one run took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// User and system time, ms.
    pub(super) cpu: f64,
    /// ms.
    pub(super) wall: f64,
    /// Peak resident memory, MB.
    pub(super) peak: f64,
}

/// Runs command lines.
#[derive(Debug)]
pub(super) struct Meter {
    program: PathBuf,
    out: PathBuf,
    /// The mount namespace they run in.
    pub(super) namespace: Option<PathBuf>,
}

impl Meter {
    /// Builds the C program in `dir`, which is for its output too.
    pub(super) fn build(dir: &Path) -> Result<Self> {
        let program = c_program(dir, "meter", SOURCE, STATIC)?;
        Ok(Self { program, out: dir.join("out"), namespace: None })
    }

    /// The directory for its files, which goes with the run.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.out.parent()
    }

    /// Runs one; what it took and wrote. One that fails is an error.
    pub(super) fn run(&self, line: &Line) -> Result<(Sample, Vec<u8>)> {
        let told = line.words.join(" ");
        let mut command = Command::new(&self.program);
        match &self.namespace {
            Some(namespace) => command.arg(namespace),
            None => command.arg("-"),
        };
        let output = command
            .arg(&self.out)
            .args(&line.words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // The locale in which ps has least to do.
            .env("LC_ALL", "C")
            .envs(line.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .output()
            .context("running the meter")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{told}: {}: {}", output.status, stderr.trim());
        let (sample, status) = parse(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(status == 0, "{told}: exit status {status}: {}", stderr.trim());
        Ok((sample, std::fs::read(&self.out).context("reading what was written")?))
    }
}

fn parse(text: &str) -> Result<(Sample, i32)> {
    let odd = || format!("the meter printed {text:?}");
    let fields: Vec<f64> = text
        .split_whitespace()
        .map(|field| field.parse().with_context(odd))
        .collect::<Result<_>>()?;
    let [wall, user, system, peak, _] = fields[..] else { anyhow::bail!(odd()) };
    let status =
        text.split_whitespace().next_back().unwrap_or_default().parse().with_context(odd)?;
    let sample = Sample { cpu: (user + system) / 1e3, wall: wall / 1e6, peak: peak / 1024.0 };
    Ok((sample, status))
}

#[cfg(test)]
mod tests {
    use super::{Line, Meter, Sample, parse};
    use whose_testkit::require;

    #[test]
    fn the_meters_line_is_read() {
        let sample = Sample { cpu: 0.75, wall: 1.5, peak: 2.0 };
        assert_eq!(parse("1500000 500 250 2048 3\n").unwrap(), (sample, 3));
        assert!(parse("1 2 3\n").is_err() && parse("a b c d e").is_err());
    }

    #[test]
    fn a_process_is_measured_with_its_children() {
        if !require(&["cc", "awk"]) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let meter = Meter::build(dir.path()).unwrap();
        let work =
            "awk 'BEGIN { s = 1; for (i = 0; i < 24; i++) s = s s; print length(s) }'; echo done";
        let (busy, text) = meter.run(&Line::new(["sh", "-c", work])).unwrap();
        assert_eq!(text, b"16777216\ndone\n");
        let (idle, _) = meter.run(&Line::new(["true"])).unwrap();
        assert!(busy.peak > 16.0 && busy.cpu > 0.0, "{busy:?}");
        // What this test holds is not counted.
        assert!(idle.peak > 0.0 && idle.peak < 5.0, "{idle:?}");
        let why = meter.run(&Line::new(["sh", "-c", "echo no >&2; exit 3"])).unwrap_err();
        assert_eq!(why.to_string(), "sh -c echo no >&2; exit 3: exit status 3: no");
        assert!(meter.run(&Line::new(["/no/such/program"])).is_err());
    }
}
