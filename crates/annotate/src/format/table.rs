//! Tables: a header, and below it rows with a column that names something.

use std::ops::Range;

use super::{Mention, What, When};
use crate::words::{column, pid, place, word_at, words};

/// The edge at which the values of a column stand below each other. The owner's column is put there:
/// so it is aligned whatever the other columns are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The left one.
    Before,
    /// The right one.
    After,
}

/// How the value is found in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is this word, from 0.
    Word(usize),
    /// It is below its title.
    Column,
}

/// Reads a row.
pub(crate) type ReadRow = fn(&Heading, &[u8]) -> Option<Mention>;

/// What the column holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    /// PIDs of processes that run, or ran a moment ago.
    Pids,
    /// PIDs of processes that have ended.
    Ended,
    /// Something that only the format can read.
    Own(ReadRow),
}

/// The header of a table.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    /// The title of the column.
    pub(crate) title: Range<usize>,
    /// The column of a terminal in which the title begins, and after which it ends.
    pub(crate) columns: (usize, usize),
    /// Where the value is.
    pub(crate) place: Place,
    /// Its edge.
    pub(crate) side: Side,
    /// What it is.
    pub(crate) holds: Holds,
    /// Whether an empty line ends the table.
    pub(crate) ends_at_blank: bool,
    /// Whether a column can be added; else owners stand behind the rows.
    pub(crate) takes_column: bool,
    /// Whether somebody said so: then the edges of the column are not known.
    pub(crate) is_loose: bool,
    /// Whether values stand at the edge of their title but where a longer one pushed them.
    pub(crate) is_exact: bool,
}

impl Heading {
    /// One of PIDs that stand below this title.
    pub(crate) fn new(line: &[u8], title: Range<usize>, place: Place, side: Side) -> Self {
        let columns = (column(line, title.start), column(line, title.end));
        let (holds, ends_at_blank, takes_column, is_loose) = (Holds::Pids, true, true, false);
        let is_exact = true;
        Self { title, columns, place, side, holds, ends_at_blank, takes_column, is_loose, is_exact }
    }

    /// A column that somebody says holds PIDs.
    pub(crate) fn loose(line: &[u8], title: Range<usize>, at: usize) -> Self {
        Self { is_loose: true, ..Self::new(line, title, Place::Word(at), Side::After) }
    }

    /// What a row names; `None` when the line is no row.
    pub(crate) fn row(&self, line: &[u8]) -> Option<Mention> {
        let when = match self.holds {
            Holds::Own(read) => return read(self, line),
            Holds::Pids => When::Now,
            Holds::Ended => When::Ended,
        };
        let at = self.value(line)?;
        let pid = pid(&line[at.clone()])?;
        Some(Mention::new(What::Pid(pid), at, when))
    }

    /// The word in the column. A value that is too long for its column pushes the rest of the row to
    /// the right, and nothing pulls it to the left.
    pub(crate) fn value(&self, line: &[u8]) -> Option<Range<usize>> {
        let at = match self.place {
            Place::Word(0) => words(line).next()?,
            Place::Word(n) => words(line).nth(n)?,
            Place::Column => {
                let edge = match self.side {
                    Side::Before => self.columns.0,
                    Side::After => self.columns.1.checked_sub(1)?,
                };
                word_at(line, place(line, edge))?
            }
        };
        let (start, end) = self.columns;
        let fits = match (self.side, self.place) {
            _ if self.is_loose => true,
            // Bytes are at least as many as columns, and cheaper to count.
            (Side::After, Place::Word(_)) if at.end > end => {
                self.may_be_right_of(end, column(line, at.end), line, &at)
            }
            (Side::Before, Place::Word(_)) if at.start > start => {
                self.may_be_right_of(start, column(line, at.start), line, &at)
            }
            (Side::After, Place::Word(_)) => at.end == end,
            (Side::Before, Place::Word(_)) => at.start == start,
            (Side::After, Place::Column) => column(line, at.end) == end,
            (Side::Before, Place::Column) => column(line, at.start) == start,
        };
        fits.then_some(at)
    }

    /// Whether a word whose edge is in this column may be the value of one with that edge.
    fn may_be_right_of(&self, edge: usize, own: usize, line: &[u8], word: &Range<usize>) -> bool {
        own == edge || own > edge && (!self.is_exact || is_pushed(line, word))
    }
}

/// Whether what comes before a word may have pushed it to the right: then no more than one blank is between.
fn is_pushed(line: &[u8], word: &Range<usize>) -> bool {
    !matches!(line[..word.start], [.., b' ' | b'\t', b' ' | b'\t'])
}

/// The header of a table of PIDs, given the titles that it may have. A column before that of the PIDs
/// whose values may be several words is named in `wide`.
pub(crate) fn titled(
    line: &[u8],
    is_title: &dyn Fn(&[u8]) -> bool,
    wanted: &[&str],
    wide: &[&str],
    side: Side,
) -> Option<Heading> {
    // Most lines are no header: their first word tells.
    if !words(line).next().is_some_and(|w| is_title(&line[w])) {
        return None;
    }
    let titles: Vec<Range<usize>> = words(line).collect();
    if !titles.iter().all(|t| is_title(&line[t.clone()])) {
        return None;
    }
    let of = |name: &&str| titles.iter().position(|t| line[t.clone()] == *name.as_bytes());
    let at = wanted.iter().find_map(of)?;
    let is_wide = |t: &Range<usize>| wide.iter().any(|w| line[t.clone()] == *w.as_bytes());
    let place = if titles[..at].iter().any(is_wide) { Place::Column } else { Place::Word(at) };
    Some(Heading::new(line, titles[at].clone(), place, side))
}

#[cfg(test)]
mod tests {
    use super::{Heading, Place, Side, titled};

    fn pids(heading: &Heading, row: &str) -> Option<String> {
        let mention = heading.row(row.as_bytes())?;
        Some(row[mention.at].to_owned())
    }

    #[test]
    fn values_stand_at_the_edge_of_their_title() {
        let head = b"USER         PID CMD";
        let heading = Heading::new(head, 13..16, Place::Word(1), Side::After);
        assert_eq!(pids(&heading, "root        4761 sleep 7").as_deref(), Some("4761"));
        assert_eq!(pids(&heading, "averyverylongname 4761 sleep").as_deref(), Some("4761"));
        assert_eq!(pids(&heading, "a 47 b"), None);
        assert_eq!(pids(&heading, "udev          1012345 0 1012345 0% /dev"), None);
        assert_eq!(pids(&heading, "root        4761x sleep"), None);
        assert_eq!(pids(&heading, "root"), None);
        let wide = "06時27分58秒   UID  PID CMD".as_bytes();
        let pid = wide.len() - 7..wide.len() - 4;
        let heading = Heading::new(wide, pid, Place::Word(2), Side::After);
        assert_eq!(pids(&heading, "06時27分59秒     0 4761 a").as_deref(), Some("4761"));
        assert_eq!(pids(&heading, "06時27分59秒     0  4761 a"), None);
        let heading = Heading::new(b"COMM    PID", 8..11, Place::Column, Side::Before);
        assert_eq!(pids(&heading, "a b     4761").as_deref(), Some("4761"));
        assert_eq!(pids(&heading, "a b    4761"), None);
        let heading = Heading::new(b"CMD        PID", 11..14, Place::Column, Side::After);
        assert_eq!(pids(&heading, "größe 日本 77").as_deref(), None);
        assert_eq!(pids(&heading, "größe 日本  77").as_deref(), Some("77"));
    }

    #[test]
    fn all_words_of_a_header_are_titles() {
        let is_title = |w: &[u8]| [&b"PID"[..], b"TTY", b"CMD"].contains(&w);
        let of = |line: &str| titled(line.as_bytes(), &is_title, &["PID"], &["CMD"], Side::After);
        assert_eq!(of("  PID TTY CMD").unwrap().place, Place::Word(0));
        assert_eq!(of("CMD   PID").unwrap().place, Place::Column);
        assert!(of("PID and more").is_none() && of("TTY CMD").is_none() && of("").is_none());
    }
}
