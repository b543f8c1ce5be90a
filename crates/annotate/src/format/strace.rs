//! `strace -f`, on its standard error and with `-o`.

use super::{Around, Claim, Format, Mention};
use crate::words::leading_pid;

pub(super) struct Strace;

impl Format for Strace {
    fn name(&self) -> &'static str {
        "strace"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let line_at = |at: usize| line.get(at..).unwrap_or_default();
        if line.starts_with(b"[pid ") {
            let digits = 5 + line_at(5).iter().take_while(|b| **b == b' ').count();
            if let Some((pid, length)) = leading_pid(line_at(digits))
                && line_at(digits + length).starts_with(b"] ")
            {
                found.push(Mention::pid(pid, digits..digits + length));
                return Claim::Whole;
            }
            return Claim::No;
        }
        if let Some(rest) = line.strip_prefix(b"strace: Process ") {
            let is_it = |(_, n): &(u32, usize)| {
                [&b" attached"[..], b" detached"].iter().any(|end| rest[*n..].starts_with(end))
            };
            let Some((pid, length)) = leading_pid(rest).filter(is_it) else { return Claim::No };
            found.push(Mention::pid(pid, 16..16 + length));
            return Claim::Whole;
        }
        let Some((pid, length)) = leading_pid(line).filter(|(_, n)| line_at(*n).starts_with(b" "))
        else {
            return Claim::No;
        };
        let blanks = line_at(length).iter().take_while(|b| **b == b' ').count();
        let rest = line_at(length + blanks);
        if !is_event(rest) && !is_event(after_time(rest)) {
            return Claim::No;
        }
        found.push(Mention::pid(pid, 0..length));
        Claim::Whole
    }
}

/// What comes after a time (`-t` to `-ttt`, `-r`), if there is one.
fn after_time(text: &[u8]) -> &[u8] {
    let length = text.iter().take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.')).count();
    let blanks = text[length..].iter().take_while(|b| **b == b' ').count();
    if length == 0 || blanks == 0 { text } else { &text[length + blanks..] }
}

/// A call, the rest of one, a signal or an end.
fn is_event(text: &[u8]) -> bool {
    if [&b"<... "[..], b"+++ exited with ", b"+++ killed by ", b"--- SIG", b"--- stopped by "]
        .iter()
        .any(|begin| text.starts_with(begin))
    {
        return true;
    }
    let name =
        text.iter().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || **b == b'_');
    let length = name.count();
    length > 1 && text.get(length) == Some(&b'(') && text[0].is_ascii_lowercase()
}
