//! `iotop -b`, the one in Python and the one in C.

use super::Format;
use super::table::{Heading, Place, Side};
use crate::words::words;

pub(super) struct Iotop;

impl Format for Iotop {
    fn name(&self) -> &'static str {
        "iotop"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        // With -t a column of times comes first.
        let mut at = 0;
        let mut titles = words(line);
        let mut title = titles.next()?;
        if line[title.clone()] == *b"TIME" {
            title = titles.next()?;
            at = 1;
        }
        let is_pid = matches!(&line[title.clone()], b"TID" | b"PID");
        let next = titles.next().map(|t| &line[t])?;
        let is_next = next == b"PRIO";
        let user = titles.next().map(|t| &line[t])?;
        let is_iotop = is_pid && is_next && user == b"USER";
        let heading = || Heading::new(line, title, Place::Word(at), Side::After);
        // With times some versions have their rows a column further to the right.
        is_iotop.then(|| Heading { is_exact: at == 0, ..heading() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Iotop};

    #[test]
    fn both_of_them() {
        for (head, row) in [
            (
                "    TID  PRIO  USER     DISK READ  DISK WRITE  SWAPIN     IO>    COMMAND",
                "   4761 be/4 root        0.00 B/s   12.00 K/s  0.00 %  0.00 % dd",
            ),
            (
                "    TIME    TID  PRIO  USER     DISK READ DISK WRITE  SWAPIN      IO    COMMAND",
                "01:33:06   4761 be/4 root     0.00 B/s  12.00 K/s  ?unavailable?  dd",
            ),
        ] {
            let heading = Iotop.heading(head.as_bytes()).unwrap();
            assert_eq!(&row[heading.row(row.as_bytes()).unwrap().at], "4761");
            assert!(heading.row(b"Total DISK READ:         0.00 B/s | Total").is_none());
        }
        assert!(Iotop.heading(b"TID PRIO").is_none());
    }
}
