//! Folded stacks, as flame graphs are drawn of: `dd-4761;main;read 12`. The owner becomes the first frame. Other
//! lines with semicolons may look so: it only counts when the process is called so.

use super::{Around, Claim, Format, Mention, Way, What, When};
use crate::words::pid;

pub(super) struct Folded;

impl Format for Folded {
    fn name(&self) -> &'static str {
        "folded stacks"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let Some(end) = memchr::memchr(b';', line) else { return Claim::No };
        let count = memchr::memrchr(b' ', line).map_or(&b""[..], |blank| &line[blank + 1..]);
        if count.is_empty() || !count.iter().all(u8::is_ascii_digit) {
            return Claim::No;
        }
        // stackcollapse-perf.pl --pid gives NAME-PID, and --tid NAME-PID/TID.
        let first = &line[..end];
        let first = match memchr::memrchr(b'/', first) {
            Some(slash) if pid(&first[slash + 1..]).is_some() => &first[..slash],
            _ => first,
        };
        let Some(dash) = memchr::memrchr(b'-', first).filter(|dash| *dash > 0) else {
            return Claim::No;
        };
        let Some(number) = pid(&first[dash + 1..]) else { return Claim::No };
        let what = What::Comm(number, 0..dash);
        let mention = Mention::new(what, dash + 1..first.len(), When::Now);
        found.push(Mention { way: Way::Frame, ..mention });
        Claim::Shared
    }
}
