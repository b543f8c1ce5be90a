//! What is said on a terminal while a command takes its time.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use whose_kernel::host::Probe;
use whose_kernel::usage::Progress as Counted;

/// How long nothing is said, and how often after that.
const QUIET: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(200);

/// One line on stderr, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    said: Rc<Cell<bool>>,
}

impl Progress {
    /// Nothing said yet.
    pub(crate) fn new() -> Self {
        Self { said: Rc::new(Cell::new(false)) }
    }

    /// Says which process is looked at; to be called before each read of one.
    pub(crate) fn probe(&self) -> Option<Probe> {
        let next = Cell::new(Instant::now() + QUIET);
        let said = Rc::clone(&self.said);
        let say = move |pid: u32, _: &str| {
            if Instant::now() >= next.get() {
                next.set(Instant::now() + OFTEN);
                said.set(true);
                let _ = write!(std::io::stderr().lock(), "\rlooking at process {pid} ");
            }
        };
        std::io::stderr().is_terminal().then(|| Box::new(say) as Probe)
    }

    /// Says how much was counted; to be called while that goes on.
    pub(crate) fn counted(&self) -> impl FnMut(Counted) + use<> {
        let mut next = Instant::now() + QUIET;
        let said = Rc::clone(&self.said);
        let is_terminal = std::io::stderr().is_terminal();
        move |at: Counted| {
            if is_terminal && Instant::now() >= next {
                next = Instant::now() + OFTEN;
                said.set(true);
                let (bytes, files) = (whose_render::text::bytes(at.bytes), at.inodes);
                let _ = write!(std::io::stderr().lock(), "\rcounted {files} files, {bytes} ");
            }
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.said.replace(false) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
