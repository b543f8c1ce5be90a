//! Somebody who outlives this program and then removes what it has made.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Waits until its input ends, however that comes. A rig's own program removes its cgroups.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
status=0
if [ -x "$1/rig" ]; then "$1/rig" clear "$1/cgroups" || status=1; fi
rm -rf --one-file-system -- "$@" || status=1
exit $status
"#;

/// A janitor and the directory for what is temporary; it clears up when this is dropped, or when
/// this program ends in any other way.
#[derive(Debug)]
pub(crate) struct Janitor {
    /// The directory, and what else is to be removed.
    waste: Vec<PathBuf>,
    dir: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Janitor {
    /// Makes a directory with this word in its name; `waste` need not be there yet.
    pub(crate) fn start(word: &str, mut waste: Vec<PathBuf>) -> Result<Self> {
        let dir = std::env::temp_dir();
        let dir = dir.canonicalize().context("the directory for temporary files")?;
        ensure!(!dir.to_string_lossy().contains('\n'), "{} is no usable name", dir.display());
        let dir = own_dir(&dir.join(format!("whose-{word}-{}", std::process::id())))?;
        waste.insert(0, dir.clone());
        let mut child =
            command(&waste).stdin(Stdio::piped()).spawn().context("starting the janitor")?;
        let stdin = child.stdin.take();
        Ok(Self { waste, dir, child, stdin })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has it do its work now, once.
    pub(crate) fn end(&mut self) -> Result<()> {
        let Some(stdin) = self.stdin.take() else { return Ok(()) };
        drop(stdin);
        let mut status = self.child.wait().context("waiting for the janitor")?;
        if !status.success() {
            // Somebody may have ended it: another one does it.
            status = command(&self.waste).status().context("running a janitor")?;
        }
        ensure!(status.success(), "not all could be cleared away: {}", self.dir.display());
        Ok(())
    }
}

/// Makes a directory of this name, or with a number after it: one program may have several.
fn own_dir(name: &Path) -> Result<PathBuf> {
    let mut dir = name.to_owned();
    for number in 2.. {
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 100 => {
                dir = PathBuf::from(format!("{}-{number}", name.display()));
            }
            made => {
                made.with_context(|| format!("making {}", dir.display()))?;
                break;
            }
        }
    }
    Ok(dir)
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn command(waste: &[PathBuf]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT, "sh"])
        .args(waste)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir("/")
        // Neither Ctrl-C nor the end of the terminal is for it.
        .process_group(0);
    command
}
