//! `fuser -v`.

use super::table::{Heading, Holds, Place, Side};
use super::{Format, Mention};
use crate::words::{pid, words};

pub(super) struct Fuser;

/// Letters of the column ACCESS (fuser(1)), and its length.
const ACCESS: (&[u8], usize) = (b".Fcefrmst RC", 5);

impl Format for Fuser {
    fn name(&self) -> &'static str {
        "fuser"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let mut titles = words(line);
        let mut next = |name: &[u8]| titles.next().filter(|t| line[t.clone()] == *name);
        next(b"USER")?;
        let title = next(b"PID")?;
        next(b"ACCESS")?;
        next(b"COMMAND")?;
        let heading = Heading::new(line, title, Place::Column, Side::After);
        Some(Heading { holds: Holds::Own(row), ..heading })
    }
}

/// The number before the letters of an access: a path with blanks in it may come first.
fn row(_: &Heading, line: &[u8]) -> Option<Mention> {
    let all: Vec<_> = words(line).take(64).collect();
    let is_access = |text: &[u8]| {
        text.len() == ACCESS.1 && text.iter().all(|b| ACCESS.0.contains(b)) && text != b"kernel"
    };
    let pair = all
        .windows(2)
        .rev()
        .find(|pair| is_access(&line[pair[1].clone()]) && pid(&line[pair[0].clone()]).is_some())?;
    Some(Mention::pid(pid(&line[pair[0].clone()])?, pair[0].clone()))
}

#[cfg(test)]
mod tests {
    use super::{Format, Fuser};

    #[test]
    fn a_path_may_come_first() {
        let heading =
            Fuser.heading(b"                     USER        PID ACCESS COMMAND").unwrap();
        let of = |row: &str| Some(row[heading.row(row.as_bytes())?.at].to_owned());
        for row in [
            "/srv/a b:            root       4761 ..c.. sleep",
            "                     root       4761 F.... (root)sleep",
            "80/tcp:              root       4761 F.... nginx",
        ] {
            assert_eq!(of(row).as_deref(), Some("4761"), "{row}");
        }
        assert_eq!(of("/proc:               root     kernel mount /proc"), None);
    }
}
