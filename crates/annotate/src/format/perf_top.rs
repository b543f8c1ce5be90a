//! `perf top --stdio` and `perf report --stdio`, sorted by process.

use super::table::{Heading, Holds, Place, Side};
use super::{Format, Mention};
use crate::words::{leading_pid, words};

pub(super) struct PerfTop;

/// Titles of the column: sorted by pid, and by tid.
const TITLES: [&[u8]; 2] = [b"Pid:Command", b"Tid:Command"];

/// What a frame of `perf top` begins with.
const FRAME: &[u8] = b"   PerfTop: ";

impl Format for PerfTop {
    fn name(&self) -> &'static str {
        "perf top"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let is = |title: &std::ops::Range<usize>| TITLES.contains(&&line[title.clone()]);
        let is_frame = line.starts_with(FRAME);
        // perf top has no titles above its rows, but its own name above each frame.
        let title = words(line).find(|word| is_frame || is(word))?;
        // Its values are right-aligned at the colon, and no longer than the kernel's numbers.
        let heading = Heading::new(line, title, Place::Column, Side::Before);
        let holds = Holds::Own(row);
        Some(Heading { holds, ends_at_blank: false, takes_column: false, ..heading })
    }
}

/// The first word `PID:NAME` behind the percentages.
fn row(_: &Heading, line: &[u8]) -> Option<Mention> {
    let mut all = words(line);
    let first = all.next()?;
    if !line[first].ends_with(b"%") {
        return None;
    }
    let word = all.find(|word| !line[word.clone()].ends_with(b"%"))?;
    let text = &line[word.clone()];
    let (pid, digits) = leading_pid(text).filter(|(_, digits)| text.get(*digits) == Some(&b':'))?;
    Some(Mention::pid(pid, word.start..word.start + digits))
}

#[cfg(test)]
mod tests {
    use super::{Format, PerfTop};

    #[test]
    fn the_process_is_behind_its_share() {
        let heading = PerfTop.heading(b"# Overhead      Pid:Command          Symbol").unwrap();
        let row = b"    62.50%     4761:dd               [k] copy_page";
        assert_eq!(heading.row(row).unwrap().at, 15..19);
        assert!(heading.row(b"    0xffff 12:34").is_none());
        let frame =
            b"   PerfTop:    1536 irqs/sec  kernel:15.7%  exact:  0.0% [4000Hz cpu-clock],  (all)";
        assert_eq!(PerfTop.heading(frame).unwrap().row(row).unwrap().at, 15..19);
        assert!(heading.row(b"    14.31%  libc.so.6   [.] malloc").is_none());
        assert!(heading.row(b"#").is_none());
    }
}
