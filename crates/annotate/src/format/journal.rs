//! `journalctl` with `-o short-full`, `short-monotonic`, `short-delta` and `short-unix`; the other short forms are
//! syslog's, and `-o json` is JSON.

use super::{Around, Claim, Format, Mention, When, syslog};
use crate::time;

pub(super) struct Journal;

/// Longest of the two times of `short-delta` with its brackets.
const LONGEST_DELTA: usize = 64;

const DAYS: [&[u8]; 7] = [b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat ", b"Sun "];

impl Format for Journal {
    fn name(&self) -> &'static str {
        "journalctl"
    }

    fn line(&self, line: &[u8], around: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        if DAYS.iter().any(|day| line.starts_with(day)) {
            let Some((at, length)) = time::iso(&line[4..], around.zone) else { return Claim::No };
            let end = 4 + length;
            // The zone's name is that of the moment, which a program knows no better than its user's.
            let is_utc = line[end..].starts_with(b" UTC ");
            let utc = || time::iso(&line[4..], &time::utc()).map_or(at, |(at, _)| at);
            let at = if is_utc { utc() } else { at };
            // A line that was cut may end with its time.
            let rest = line.get(end + 1..).unwrap_or_default();
            let Some(zone) = memchr::memchr(b' ', rest) else { return Claim::No };
            return syslog::entry(line, end + 1 + zone, When::At(at), found);
        }
        if line.first() == Some(&b'[') {
            let stamp = super::kernel_log::stamp(line).or_else(|| delta(line));
            let Some((since_boot, length)) = stamp else { return Claim::No };
            // `[  12.3] host name[4761]: text`: of which boot it is, the line does not say, but a later
            // one than this there is not.
            let from = length.saturating_sub(1);
            let mut entries = Vec::new();
            let claim = syslog::entry(line, from, When::SinceBoot(since_boot), &mut entries);
            let is_entry = claim != Claim::No && !entries.is_empty() && has_host(&line[length..]);
            if is_entry {
                found.append(&mut entries);
                return claim;
            }
            return Claim::No;
        }
        if line.first().is_some_and(u8::is_ascii_digit)
            && let Some((at, length)) = time::unix(line)
            && at > 1_000_000_000_000
            && line.get(length) == Some(&b' ')
            && has_host(&line[length + 1..])
        {
            return syslog::entry(line, length, When::At(at), found);
        }
        Claim::No
    }
}

/// `[    7.469134 <    1.234567 >] `, the second the time since the line before; the first line has blanks
/// in its place. Milliseconds since boot, and the length with the blank.
fn delta(line: &[u8]) -> Option<(u64, usize)> {
    let near = &line[..line.len().min(LONGEST_DELTA)];
    let close = memchr::memchr(b']', near).filter(|close| near.get(close + 1) == Some(&b' '))?;
    let mut inner = near[1..close].split(|b| *b == b' ').filter(|word| !word.is_empty());
    let stamp = [b"[", inner.next()?, b"] "].concat();
    let is_delta = inner.all(|word| word.iter().all(|b| b"<>*.".contains(b) || b.is_ascii_digit()));
    let (since_boot, _) = super::kernel_log::stamp(&stamp).filter(|_| is_delta)?;
    Some((since_boot, close + 2))
}

/// Whether a host's name and then `NAME[PID]:` come next: the kernel's own messages have no host.
fn has_host(text: &[u8]) -> bool {
    let mut words = text.splitn(3, |b| *b == b' ');
    let host = words.next().unwrap_or_default();
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
    let tag = words.next().unwrap_or_default();
    !host.is_empty() && host.iter().all(is_name) && tag.ends_with(b"]:")
}
