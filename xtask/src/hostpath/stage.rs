//! The two C programs: `marked`, which knows whose file it runs, and `stage`, which sets scenes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build::c_program;

const MARKED: &str = include_str!("../../../crates/testkit/c/marked.c");
const STAGE: &str = include_str!("../../../crates/testkit/c/stage.c");
/// What stands before the text in `marked`.
const KEY: &[u8] = b"whose-marked-by:";
/// The length of a text and of a note, bytes.
pub(super) const MARK: usize = 16;

/// The built programs.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    marked: PathBuf,
    stage: PathBuf,
    /// Where the text is in `marked`.
    pub(super) at: u64,
}

impl Programs {
    /// Compiles both into `dir`.
    pub(super) fn build(dir: &Path) -> Result<Self> {
        let small = ["-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-no-pie"];
        let plain = ["-fno-pie", "-fno-stack-protector", "-Wl,--build-id=none"];
        let flags: Vec<&str> = small.into_iter().chain(plain).collect();
        let marked = c_program(dir, "marked", MARKED, &flags)?;
        let stage = c_program(dir, "stage", STAGE, &[])?;
        let bytes = std::fs::read(&marked).context("reading marked")?;
        let mut found =
            bytes.windows(KEY.len()).enumerate().filter(|(_, part)| *part == KEY).map(|(at, _)| at);
        let (Some(at), None) = (found.next(), found.next()) else {
            bail!("marked has not one place for its text");
        };
        Ok(Self { marked, stage, at: u64::try_from(at + KEY.len())? })
    }
}

/// A process as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) pid: u32,
    /// The text in its memory.
    pub(super) mark: String,
    /// The note in its memory.
    pub(super) note: String,
}

/// A running `stage`; it and what it started end with this value.
#[derive(Debug)]
pub(super) struct Stage {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Stage {
    /// Starts one in the namespaces of this process.
    pub(super) fn start(programs: &Programs) -> Result<Self> {
        let mut child = Command::new(&programs.stage)
            .arg(&programs.marked)
            .arg(programs.at.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting stage")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("stage has no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Its PID; its namespaces are the stack's.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Does commands; their answers without `ok `, or what went wrong.
    pub(super) fn all(&mut self, commands: &[Vec<&[u8]>]) -> Result<Vec<Result<String, String>>> {
        let mut text = Vec::new();
        for words in commands {
            text.extend_from_slice(format!("{}\n", words.len()).as_bytes());
            for word in words {
                text.extend_from_slice(word);
                text.push(0);
            }
        }
        let stdin = self.stdin.as_mut().context("stage has ended")?;
        stdin.write_all(&text).context("stage takes no commands")?;
        stdin.flush().context("stage takes no commands")?;
        commands.iter().map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Result<Result<String, String>> {
        let mut line = Vec::new();
        self.stdout.read_until(b'\n', &mut line).context("stage does not answer")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", rest) => Ok(Ok(rest.to_owned())),
            ("err", rest) => Ok(Err(rest.to_owned())),
            _ => bail!("stage ended or said {line:?}"),
        }
    }

    /// Does one command.
    pub(super) fn one(&mut self, words: &[&[u8]]) -> Result<String> {
        let answer = self.all(&[words.to_vec()])?.pop().context("no answer")?;
        answer.map_err(|why| {
            let words: Vec<_> = words.iter().map(|word| super::plan::quoted(word)).collect();
            anyhow::anyhow!("{}: {why}", words.join(" "))
        })
    }

    /// What a process has in its memory at this moment.
    pub(super) fn ask(&mut self, pid: u32) -> Result<Said> {
        said(&self.one(&[b"ask", pid.to_string().as_bytes()])?)
    }
}

/// Reads what `start` and `ask` answer.
pub(super) fn said(line: &str) -> Result<Said> {
    let (pid, rest) = line.split_once(' ').with_context(|| format!("stage said {line:?}"))?;
    let mark = rest.get(..MARK).with_context(|| format!("stage said {line:?}"))?;
    let note = rest.get(MARK + 1..).unwrap_or_default();
    Ok(Said { pid: pid.parse().context("a PID")?, mark: mark.to_owned(), note: note.to_owned() })
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It ends at the end of its input; its processes by their death signal.
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}
