//! A process whose main thread has ended while another goes on.

use super::{Compiled, Helper, numbers};
use crate::procfs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Such a process, ended when this value is dropped.
#[derive(Debug)]
pub struct Headless {
    helper: Helper,
    program: PathBuf,
}

impl Headless {
    /// Starts one; its main thread has ended when this returns.
    ///
    /// # Errors
    /// When the helper can't do it; the reason is on stderr.
    pub fn start() -> Result<Headless, String> {
        let program = Compiled::with("headless", include_str!("../../c/headless.c"), &["-pthread"]);
        let path = program.path.clone();
        let helper = Helper::start(program, [""; 0]);
        let line = helper.line()?;
        numbers(&line).ok_or_else(|| format!("odd answer {line:?}"))?;
        procfs::wait_for("a dead main thread", Duration::from_secs(20), || {
            (procfs::state(helper.pid()) == Some('Z')).then_some(())
        });
        Ok(Headless { helper, program: path })
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// The file that it runs.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}
