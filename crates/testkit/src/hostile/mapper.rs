//! A program that maps files and waits.

use super::{Compiled, Helper};
use crate::{procfs, program};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Puts the program there. Its arguments are files: each is mapped, private and to be read, or with a
/// `+` before it shared and to be written.
///
/// # Panics
/// When it does not compile.
pub fn write_mapper(to: &Path) {
    let program = Compiled::with("mapper", include_str!("../../c/mapper.c"), &["-static"]);
    program::copy(&program.path, to);
}

/// It at work, ended when this value is dropped.
#[derive(Debug)]
pub struct Mapper {
    _helper: Helper,
    pid: u32,
}

impl Mapper {
    /// Starts it by a command that has it run in the cgroup of this container.
    ///
    /// # Errors
    /// When a file could not be mapped; the reason is on stderr.
    pub fn start_contained(command: Command, container: &str) -> Result<Mapper, String> {
        let helper = Helper::spawn(command);
        helper.line()?;
        let is_it = |pid: &u32| {
            procfs::comm(*pid).as_deref() == Some("mapper")
                && procfs::cgroup(*pid).is_some_and(|lines| lines.contains(container))
        };
        let pid = procfs::wait_for("the mapper", Duration::from_secs(20), || {
            procfs::pids().into_iter().find(is_it)
        });
        Ok(Mapper { _helper: helper, pid })
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}
