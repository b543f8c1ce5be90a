//! Tables of bcc's tools and of bpftrace's scripts.

use super::Format;
use super::table::{Heading, Side, titled};
use crate::words::{has_word, words};

pub(super) struct Bcc;

/// Titles beside those of PIDs, by which these tables are known: a name of the command, which these
/// tools print next to the PID.
const NAMES: [&str; 4] = ["COMM", "PCOMM", "ARGS", "COMMAND"];
/// Values of several words.
const WIDE: &[&str] = &["COMM", "PCOMM", "ARGS", "COMMAND", "FILE", "PATH"];

impl Format for Bcc {
    fn name(&self) -> &'static str {
        "bpftrace and bcc tools"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        if !NAMES.iter().any(|name| has_word(line, name)) || words(line).count() < 3 {
            return None;
        }
        // `%-7s`: they stand at the left edge of their title.
        titled(line, &is_title, &["PID", "TGID", "TID"], WIDE, Side::Before)
    }
}

/// Capitals and what stands between them: `LAT(ms)`, `R_Kb`, `T`, `READS/s`.
fn is_title(word: &[u8]) -> bool {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"_()/%+-.#:".contains(b);
    let begins = word.first().is_some_and(|b| b.is_ascii_uppercase() || *b == b'%' || *b == b'#');
    let capitals = word.iter().filter(|b| b.is_ascii_uppercase()).count();
    let letters = word.iter().filter(|b| b.is_ascii_alphabetic()).count();
    begins && word.iter().all(is_part) && capitals * 2 >= letters
}

#[cfg(test)]
mod tests {
    use super::{Bcc, Format};

    #[test]
    fn their_numbers_stand_at_the_left() {
        for (head, row) in [
            (
                "PCOMM            PID     PPID    RET ARGS",
                "a b              4761    77        0 /bin/a",
            ),
            (
                "PID    COMM               FD ERR PATH",
                "4761   sleep               3   0 /etc/hosts",
            ),
            (
                "TIME     PID     COMM         IP SADDR            DADDR            DPORT",
                "01:33:06 4761    curl         4  10.0.0.2  10.0.0.3 80",
            ),
            (
                "TIME(s)     COMM           PID     DISK      T SECTOR     BYTES   LAT(ms)",
                "0.000000    kworker/0:1    4761    vda       W 123456     4096       0.44",
            ),
            ("TIME(ms)   PID   ARGS", "12         4761  sleep 7"),
        ] {
            let heading = Bcc.heading(head.as_bytes()).unwrap();
            assert_eq!(&row[heading.row(row.as_bytes()).unwrap().at], "4761", "{row}");
        }
        assert!(Bcc.heading(b"The PID of COMM is").is_none());
    }
}
