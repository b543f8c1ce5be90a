//! Exit codes of the contract, and errors that end the command.

use std::fmt::Display;
use std::io::{self, Write};

/// Bad syntax.
pub(crate) const USAGE: u8 = 2;
/// What was asked for could not be read in full.
pub(crate) const PARTIAL: u8 = 3;
/// Internal, /proc unusable, write error.
pub(crate) const INTERNAL: u8 = 6;

/// Something wrong with what was typed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Says on stderr why the command ends, and returns its status. A closed pipe is no error.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    if let Some(io) = error.downcast_ref::<io::Error>()
        && io.kind() == io::ErrorKind::BrokenPipe
    {
        return 0;
    }
    say(&format!("{error:#}"));
    if error.is::<Usage>() { USAGE } else { INTERNAL }
}

/// One line on stderr, safe on a terminal. That stderr is closed is nobody's business.
pub(crate) fn say(line: &str) {
    let line = whose_render::text::sanitise(line.as_bytes());
    let _ = writeln!(io::stderr().lock(), "whose: {line}");
}

/// The exit status of several targets: the first of 6, 2, 4, 3, 1, 5, 0 that one of them has.
pub(crate) fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| [0, 5, 1, 3, 4, 2, 6].iter().position(|c| c == code).unwrap_or(6);
    codes.into_iter().max_by_key(rank).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::worst;

    #[test]
    fn the_contracts_order() {
        assert_eq!(worst([]), 0);
        assert_eq!(worst([0, 5, 1]), 1);
        assert_eq!(worst([1, 3]), 3);
        assert_eq!(worst([3, 4, 2]), 2);
        assert_eq!(worst([5, 0]), 5);
    }
}
