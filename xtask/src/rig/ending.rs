//! The wish to end: Ctrl-C, or a signal that asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Set by the first such signal; what stands is then cleared away in order.
#[derive(Debug, Clone)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("catching signals")?;
        }
        Ok(Self(flag))
    }

    /// Whether one came.
    pub(crate) fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error when one came.
    pub(crate) fn check(&self) -> Result<()> {
        if self.wanted() {
            bail!("interrupted");
        }
        Ok(())
    }
}
