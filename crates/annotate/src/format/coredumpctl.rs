//! `coredumpctl list`: processes that have ended, all of them.

use super::Format;
use super::table::{Heading, Holds, Place, Side};
use crate::words::words;

pub(super) struct Coredumpctl;

impl Format for Coredumpctl {
    fn name(&self) -> &'static str {
        "coredumpctl"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let mut titles = words(line);
        let mut next = |name: &[u8]| titles.next().filter(|t| line[t.clone()] == *name);
        next(b"TIME")?;
        let title = next(b"PID")?;
        next(b"UID").and_then(|_| next(b"GID")).and_then(|_| next(b"SIG"))?;
        let heading = Heading::new(line, title, Place::Column, Side::After);
        Some(Heading { holds: Holds::Ended, ..heading })
    }
}

#[cfg(test)]
mod tests {
    use super::super::When;
    use super::{Coredumpctl, Format};

    #[test]
    fn nobody_bears_the_pid_any_more() {
        let head =
            b"TIME                            PID UID GID SIG     COREFILE EXE            SIZE";
        let heading = Coredumpctl.heading(head).unwrap();
        let row =
            b"Wed 2026-11-25 01:33:06 UTC    4761   0   0 SIGSEGV present  /usr/bin/sleep 17.0K";
        let mention = heading.row(row).unwrap();
        assert_eq!((mention.at, mention.when), (31..35, When::Ended));
        assert!(Coredumpctl.heading(b"TIME PID COMM").is_none());
    }
}
