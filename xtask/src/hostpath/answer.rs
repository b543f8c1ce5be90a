//! What `whose exe --json` says, as far as it is judged. The paths alone have another way, which must lead to
//! the same.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How long one run may take, seconds.
const TIME: &str = "300";

/// The `binary` of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) host: Option<Vec<u8>>,
    pub(super) verified: Option<String>,
    pub(super) state: Option<String>,
    pub(super) copied_up: Option<String>,
    pub(super) role: Option<String>,
    pub(super) why: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "host {}", super::plan::quoted(host))?,
            None => write!(f, "no host path")?,
        }
        for (name, value) in [
            ("verified", &self.verified),
            ("role", &self.role),
            ("state", &self.state),
            ("copied_up", &self.copied_up),
            ("why", &self.why),
        ] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        Ok(())
    }
}

/// Asks for the binaries of these processes, in one run.
pub(super) fn ask(whose: &Path, pids: &[u32], timeout: Option<u32>) -> Result<Vec<Answer>> {
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let run = |word: &str| {
        Command::new("timeout")
            .args(["--kill-after=5", TIME])
            .arg(whose)
            .args(["exe", word])
            .args(timeout.map(|seconds| format!("--timeout={seconds}")))
            .args(pids.iter().map(u32::to_string))
            .stdin(Stdio::null())
            .output()
            .context("running whose")
    };
    let output = run("--json")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("whose exe --json ({}) said: {said}", output.status))?;
    let answers = document.get("answers").and_then(Value::as_array).context("no `answers`")?;
    ensure!(answers.len() == pids.len(), "{} answers to {} PIDs", answers.len(), pids.len());
    let binary = |answer: &Value| read(answer.get("binary").unwrap_or(&Value::Null));
    let answers: Vec<Answer> = answers.iter().map(binary).collect();
    let paths: Vec<u8> = answers
        .iter()
        .filter_map(|a| a.host.as_deref())
        .flat_map(|path| [path, b"\0"])
        .flatten()
        .copied()
        .collect();
    let alone = run("--null")?.stdout;
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\n");
    ensure!(
        alone == paths,
        "with --json the paths are\n{}without\n{}",
        shown(&paths),
        shown(&alone)
    );
    Ok(answers)
}

fn read(binary: &Value) -> Answer {
    let text = |name: &str| binary.get(name).and_then(Value::as_str).map(str::to_owned);
    let exact =
        text("host_base64").and_then(|text| data_encoding::BASE64.decode(text.as_bytes()).ok());
    Answer {
        host: exact.or_else(|| text("host").map(String::into_bytes)),
        verified: text("verified"),
        state: text("state"),
        copied_up: text("copied_up"),
        role: text("role"),
        why: text("why"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, read};
    use serde_json::{Value, json};

    #[test]
    fn bytes_that_are_no_text_come_from_the_sibling() {
        let answer =
            read(&json!({"host": "/a\u{fffd}", "host_base64": "L2H/", "verified": "page"}));
        assert_eq!(answer.host.as_deref(), Some(b"/a\xff".as_slice()));
        assert_eq!(answer.verified.as_deref(), Some("page"));
    }

    #[test]
    fn null_and_absent_are_no_path() {
        assert_eq!(read(&json!({"host": null})), Answer::default());
        assert_eq!(read(&Value::Null), Answer::default());
    }
}
