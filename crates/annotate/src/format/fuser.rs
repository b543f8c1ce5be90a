//! `fuser -v`.

use super::table::{Heading, Holds, Place, Side};
use super::{Format, Mention};
use crate::words::{pid, words};

pub(super) struct Fuser;

/// Letters of the column ACCESS (fuser(1)), and its length.
const ACCESS: (&[u8], usize) = (b".Fcefrmst RC", 5);

/// The title of the column of PIDs.
const PID: [&str; 2] = ["PID", "进程号"];
/// Width of a name's place.
const NAME: usize = 20;

impl Format for Fuser {
    fn name(&self) -> &'static str {
        "fuser"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        // Four titles, of which all may be in another language (psmisc 23.6) but in most that of the PID,
        // behind the place of a name.
        let titles: Vec<_> = words(line).take(5).collect();
        let [user, title, ..] = titles.as_slice() else { return None };
        let is_pid = PID.iter().any(|pid| line[title.clone()] == *pid.as_bytes());
        let has_digit = line.iter().any(u8::is_ascii_digit);
        if titles.len() != 4 || user.start < NAME || !is_pid || has_digit {
            return None;
        }
        let heading = Heading::new(line, title.clone(), Place::Column, Side::After);
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
    fn other_languages_have_other_titles() {
        for head in [
            "                     BEN.        PID ZUGR.  BEFEHL",
            "                     UTIL.       PID ACCÈS  COMMANDE",
            "                     ПОЛЬЗ-ЛЬ    PID ДОСТУП КОМАНДА",
            "                     用户     进程号 权限   命令",
        ] {
            let heading = Fuser.heading(head.as_bytes()).unwrap();
            let row = b"/srv:                root       4761 ..c.. sleep";
            assert_eq!(heading.row(row).unwrap().at, 32..36, "{head}");
        }
        for none in [
            "USER PID ACCESS COMMAND",
            "                     the PID is here now",
            "                     a PID 1 b",
        ] {
            assert!(Fuser.heading(none.as_bytes()).is_none(), "{none}");
        }
    }

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
