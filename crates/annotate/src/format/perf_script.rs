//! `perf script`.

use super::{Around, Claim, Format, Mention, What, When};
use crate::time;
use crate::words::leading_pid;

pub(super) struct PerfScript;

/// Longest name of a command (`TASK_COMM_LEN` without its end), and the width that perf gives it.
const COMM: usize = 24;

impl Format for PerfScript {
    fn name(&self) -> &'static str {
        "perf script"
    }

    /// `            dd  4761 [001]  1234.567890:     250000 cpu-clock: ...`: name, PID or PID/TID, maybe
    /// the CPU, and the time since boot to a microsecond. Frames below it name nobody.
    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let start = line.iter().take_while(|b| **b == b' ').count();
        let mut at = start;
        // The name may have blanks and digits in it: the first number that the rest fits is it.
        while let Some(blank) = line.get(at..).and_then(|rest| rest.iter().position(|b| *b == b' '))
        {
            at += blank;
            at += line[at..].iter().take_while(|b| **b == b' ').count();
            if at - start > COMM + 16 {
                return Claim::No;
            }
            let Some((pid, length)) = leading_pid(line.get(at..).unwrap_or_default()) else {
                continue;
            };
            if let Some(since_boot) = rest(&line[at + length..]) {
                let mention =
                    Mention::new(What::Pid(pid), at..at + length, When::SinceBoot(since_boot));
                found.push(mention);
                return Claim::Whole;
            }
        }
        Claim::No
    }
}

/// The time, behind the PID.
fn rest(text: &[u8]) -> Option<u64> {
    let skip = |text: &[u8]| text.iter().take_while(|b| **b == b' ').count();
    let mut text = text;
    if let Some(thread) = text.strip_prefix(b"/") {
        text = &thread[thread.iter().take_while(|b| b.is_ascii_digit()).count()..];
    }
    text = text.strip_prefix(b" ")?;
    text = &text[skip(text)..];
    if let Some(cpu) = text.strip_prefix(b"[") {
        let digits = cpu.iter().take_while(|b| b.is_ascii_digit()).count();
        text = cpu[digits..].strip_prefix(b"]").filter(|_| digits >= 3)?;
        text = &text[skip(text)..];
    }
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let fraction = text.get(digits + 1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let is_time = digits > 0 && text[digits] == b'.' && (fraction == 6 || fraction == 9);
    if !is_time || text.get(digits + 1 + fraction) != Some(&b':') {
        return None;
    }
    u64::try_from(time::unix(text)?.0).ok()
}
