//! Syslog files, and `journalctl` in its short forms: `Nov 25 01:33:06 host name[4761]: ...`.

use super::{Around, Claim, Format, Mention, What, When, kernel_log};
use crate::time;
use crate::words::pid;

pub(super) struct Syslog;

/// Longest identifier of a program that is looked at, bytes.
const LONGEST: usize = 256;

impl Format for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn line(&self, line: &[u8], around: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let priority = match line {
            [b'<', rest @ ..] => {
                rest.iter().position(|b| *b == b'>').filter(|n| *n < 4).map_or(0, |n| n + 2)
            }
            _ => 0,
        };
        let text = &line[priority..];
        let time =
            time::syslog(text, around.now, around.zone).or_else(|| time::iso(text, around.zone));
        match time {
            Some((at, length)) => entry(line, priority + length, When::At(at), found),
            None => Claim::No,
        }
    }
}

/// An entry behind its time: ` HOST NAME[PID]: TEXT`.
pub(super) fn entry(line: &[u8], from: usize, when: When, found: &mut Vec<Mention>) -> Claim {
    let Some(host) = line.get(from..).and_then(|rest| rest.strip_prefix(b" ")) else {
        return Claim::No;
    };
    let Some(blank) = memchr::memchr(b' ', host) else { return Claim::No };
    let start = from + 1 + blank + 1;
    let rest = &line[start..];
    if let Some(message) = rest.strip_prefix(b"kernel: ") {
        let at = line.len() - message.len();
        // A log may have the kernel's own time too.
        let at = kernel_log::stamp(message).map_or(at, |(_, length)| at + length);
        kernel_log::message(line, at, when, found);
        return Claim::Shared;
    }
    // The identifier may have blanks in it, as a path may; the message begins behind the first colon.
    let near = &rest[..rest.len().min(LONGEST)];
    let Some(colon) =
        memchr::memmem::find(near, b": ").or(near.ends_with(b":").then(|| near.len() - 1))
    else {
        return Claim::No;
    };
    if let Some(name) = near[..colon].strip_suffix(b"]")
        && let Some(open) = memchr::memrchr(b'[', name)
        && let Some(number) = pid(&name[open + 1..])
        && open > 0
    {
        found.push(Mention::new(What::Pid(number), start + open + 1..start + name.len(), when));
    }
    Claim::Shared
}
