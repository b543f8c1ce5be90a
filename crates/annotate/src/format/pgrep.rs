//! `pgrep -a` and `pgrep -l`: a PID, and then what that process is called. Since nothing else marks such a
//! line, it only counts when the process is called so.

use super::{Around, Claim, Format, Mention, What, When};
use crate::words::leading_pid;

pub(super) struct Pgrep;

impl Format for Pgrep {
    fn name(&self) -> &'static str {
        "pgrep"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let Some((pid, length)) = leading_pid(line) else { return Claim::No };
        let name = length + 1..line.len();
        if line.get(length) != Some(&b' ') || line.get(length + 1).is_none_or(|b| *b == b' ') {
            return Claim::No;
        }
        found.push(Mention::new(What::Command(pid, name), 0..length, When::Now));
        Claim::Shared
    }
}
