//! `pidstat` of sysstat.

use std::ops::Range;

use super::table::{Heading, Holds, Place, Side};
use super::{Format, Mention};
use crate::words::{pid, words};

pub(super) struct Pidstat;

/// Titles that only a table of pidstat has.
const OWN: &[&str] = &[
    "%usr",
    "%system",
    "minflt/s",
    "kB_rd/s",
    "cswch/s",
    "prio",
    "StkSize",
    "usr-ms",
    "threads",
    "minflt-nr",
];

impl Format for Pidstat {
    fn name(&self) -> &'static str {
        "pidstat"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let titles: Vec<Range<usize>> = words(line).take(32).collect();
        let is = |t: &Range<usize>, name: &str| line[t.clone()] == *name.as_bytes();
        let own = titles.iter().any(|t| OWN.iter().any(|own| is(t, own)));
        let of = |name| titles.iter().position(|t| is(t, name));
        let at = of("PID").or_else(|| of("TGID")).filter(|_| own)?;
        // With -h the header is a comment, and its sign a word of its own.
        let hash = usize::from(titles.first().is_some_and(|t| is(t, "#")));
        let place = Place::Word(at.checked_sub(hash)?);
        let heading = Heading::new(line, titles[at].clone(), place, Side::After);
        // A thread stands below its process, which has - in the other column.
        let has_threads = is(&titles[at], "TGID");
        Some(if has_threads { Heading { holds: Holds::Own(row), ..heading } } else { heading })
    }
}

/// A process, or a thread of it in the next column.
fn row(heading: &Heading, line: &[u8]) -> Option<Mention> {
    let Place::Word(at) = heading.place else { return None };
    let mut pair = words(line).skip(at).take(2);
    let (process, thread) = (pair.next()?, pair.next()?);
    let at = if line[process.clone()] == *b"-" { thread } else { process };
    Some(Mention::pid(pid(&line[at.clone()])?, at))
}

#[cfg(test)]
mod tests {
    use super::{Format, Pidstat};

    fn pid(head: &str, row: &str) -> Option<String> {
        let heading = Pidstat.heading(head.as_bytes())?;
        Some(row[heading.row(row.as_bytes())?.at].to_owned())
    }

    #[test]
    fn with_threads_and_averages_and_in_one_line() {
        for (head, row) in [
            (
                "01:33:06 AM   UID       PID    %usr %system  %guest   %wait    %CPU   CPU  Command",
                "01:33:07 AM     0      4761    0.00    0.99    0.00    0.00    0.99     1  dd",
            ),
            (
                "01:33:06      UID       PID   kB_rd/s   kB_wr/s kB_ccwr/s iodelay  Command",
                "01:33:07        0      4761      0.00     12.00      0.00       0  dd",
            ),
            (
                "Average:      UID       PID    %usr %system  %guest   %wait    %CPU   CPU  Command",
                "Average:        0      4761    0.00    0.99    0.00    0.00    0.99     -  dd",
            ),
            (
                "# Time        UID       PID    %usr %system  %guest   %wait    %CPU   CPU  Command",
                "1764120786      0      4761    0.00    0.99    0.00    0.00    0.99     1  dd",
            ),
            (
                "01:33:06      UID      TGID       TID    %usr %system  %guest   %wait    %CPU   CPU  Command",
                "01:33:07        0         -      4761    0.00    0.99    0.00    0.00    0.99     1  |__dd",
            ),
        ] {
            assert_eq!(pid(head, row).as_deref(), Some("4761"), "{head}");
        }
        assert_eq!(pid("01:33:06   UID   PID", ""), None);
    }
}
