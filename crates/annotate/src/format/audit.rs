//! Records of the audit system, as in its log and from ausearch(8).

use super::{Around, Claim, Format, Mention, What, When};
use crate::time;
use crate::words::leading_pid;

pub(super) struct Audit;

impl Format for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        // A node's name may come first.
        let start = if line.starts_with(b"node=") {
            memchr::memchr(b' ', line).map_or(0, |blank| blank + 1)
        } else {
            0
        };
        if !line[start..].starts_with(b"type=") {
            return Claim::No;
        }
        let Some(stamp) = memchr::memmem::find(line, b"audit(").map(|at| at + 6) else {
            return Claim::No;
        };
        record(line, stamp, found);
        Claim::Shared
    }
}

/// What a record names behind its stamp, `1764120786.123:45): ... pid=4761 ...`.
pub(super) fn record(line: &[u8], stamp: usize, found: &mut Vec<Mention>) {
    // ausearch -i writes dates, in the order that its locale has.
    let is_number = line.get(stamp..).is_some_and(|rest| {
        rest.iter().take_while(|b| **b != b':').all(|b| b.is_ascii_digit() || *b == b'.')
    });
    let at = if is_number { time::unix(&line[stamp..]).map(|(at, _)| at) } else { None };
    let when = at.map_or(When::Sometime, When::At);
    for place in memchr::memmem::find_iter(&line[stamp..], b" pid=") {
        let digits = stamp + place + 5;
        if let Some((pid, length)) = leading_pid(&line[digits..]) {
            found.push(Mention::new(What::Pid(pid), digits..digits + length, when));
        }
    }
}
