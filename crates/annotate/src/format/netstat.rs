//! `netstat -p` of net-tools.

use super::table::{Heading, Holds, Place, Side};
use super::{Format, Mention};
use crate::words::{leading_pid, words};

pub(super) struct Netstat;

const TITLE: &[u8] = b"PID/Program name";
/// Words that come before it in every row: of a socket of the internet, and of a unix socket.
const BEFORE: usize = 4;

impl Format for Netstat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        if !line.starts_with(b"Proto ") {
            return None;
        }
        let start = memchr::memmem::find(line, TITLE)?;
        let heading = Heading::new(line, start..start + 3, Place::Column, Side::Before);
        Some(Heading { holds: Holds::Own(row), ..heading })
    }
}

/// The first word of the form `PID/NAME`: addresses and flags have no such, and a path comes later.
fn row(_: &Heading, line: &[u8]) -> Option<Mention> {
    let word = words(line).skip(BEFORE).find(|word| {
        let text = &line[word.clone()];
        leading_pid(text).is_some_and(|(_, digits)| text.get(digits) == Some(&b'/'))
    })?;
    let (pid, digits) = leading_pid(&line[word.clone()])?;
    Some(Mention::pid(pid, word.start..word.start + digits))
}

#[cfg(test)]
mod tests {
    use super::{Format, Netstat};

    #[test]
    fn of_the_internet_and_unix() {
        for (head, row) in [
            (
                "Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name    ",
                "tcp        0      0 0.0.0.0:22              0.0.0.0:*               LISTEN      4761/sshd: /usr/sbi ",
            ),
            (
                "Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name    ",
                "udp        0      0 127.0.0.1:323           0.0.0.0:*                           4761/chronyd        ",
            ),
            (
                "Proto RefCnt Flags       Type       State         I-Node   PID/Program name     Path",
                "unix  2      [ ACC ]     STREAM     LISTENING     12345    4761/sshd            /run/1/x",
            ),
        ] {
            let heading = Netstat.heading(head.as_bytes()).unwrap();
            assert_eq!(&row[heading.row(row.as_bytes()).unwrap().at], "4761", "{row}");
        }
        let heading = Netstat.heading(b"Proto RefCnt Flags PID/Program name     Path").unwrap();
        assert!(
            heading.row(b"unix  2      [ ]         DGRAM                    9999     -").is_none()
        );
    }
}
