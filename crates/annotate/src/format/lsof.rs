//! `lsof`, its table.

use super::Format;
use super::table::{Heading, Place, Side};
use crate::words::words;

pub(super) struct Lsof;

impl Format for Lsof {
    fn name(&self) -> &'static str {
        "lsof"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let mut titles = words(line);
        let command = titles.next()?;
        let pid = titles.next()?;
        let is_lsof = line[command] == *b"COMMAND" && line[pid.clone()] == *b"PID";
        let rest: Vec<&[u8]> = titles.map(|t| &line[t]).collect();
        let own = is_lsof && [&b"FD"[..], b"TYPE"].iter().all(|own| rest.contains(own));
        // A blank in a command is written as an escape.
        let heading = || Heading::new(line, pid.clone(), Place::Word(1), Side::After);
        own.then(|| Heading { ends_at_blank: false, ..heading() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Lsof};

    #[test]
    fn with_and_without_threads() {
        for (head, row) in [
            (
                "COMMAND     PID   TID TASKCMD               USER   FD      TYPE DEVICE SIZE/OFF NODE NAME",
                "sleep      4761                             root  cwd       DIR   0,52     4096    2 /",
            ),
            (
                "COMMAND     PID USER   FD   TYPE DEVICE SIZE/OFF NODE NAME",
                "tmux:\\x20  4761 root    3u  IPv4  12345      0t0  TCP *:80 (LISTEN)",
            ),
        ] {
            let heading = Lsof.heading(head.as_bytes()).unwrap();
            assert_eq!(&row[heading.row(row.as_bytes()).unwrap().at], "4761");
        }
        assert!(Lsof.heading(b"COMMAND PID USER").is_none());
    }
}
