//! The kernel's log: `dmesg` in all its forms, and its reports of killings for want of memory.

use super::{Around, Claim, Format, Mention, What, When};
use crate::time;
use crate::words::{leading_pid, pid, words};

pub(super) struct KernelLog;

impl Format for KernelLog {
    fn name(&self) -> &'static str {
        "dmesg"
    }

    fn line(&self, line: &[u8], around: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let start = prefix(line);
        let text = &line[start..];
        let timed = match stamp(text) {
            Some((since_boot, length)) => Some((When::SinceBoot(since_boot), length)),
            None if text.first() == Some(&b'[') => {
                let time = time::ctime(&text[1..], around.zone);
                time.filter(|(_, n)| text[1 + n..].starts_with(b"] "))
                    .map(|(at, n)| (When::At(at), 1 + n + 2))
            }
            None => time::iso(text, around.zone)
                .filter(|(_, n)| text[*n..].starts_with(b" ") && text[..*n].contains(&b','))
                .map(|(at, n)| (When::At(at), n + 1)),
        };
        match timed {
            Some((when, length)) => {
                let whole = message(line, start + length, when, found);
                if whole { Claim::Whole } else { Claim::Shared }
            }
            // `dmesg -t`: only what nobody else would write.
            None if line.starts_with(b"oom-kill:")
                || line.starts_with(b"Memory cgroup out of memory") =>
            {
                message(line, 0, When::Sometime, found);
                Claim::Whole
            }
            None => Claim::No,
        }
    }
}

/// The length of a priority, `<6>`, or of `kern  :info  : `.
fn prefix(line: &[u8]) -> usize {
    if line.first() == Some(&b'<') {
        return line.iter().take(6).position(|b| *b == b'>').map_or(0, |n| n + 1);
    }
    let facilities = [&b"kern  :"[..], b"user  :", b"daemon:", b"syslog:"];
    if !facilities.iter().any(|f| line.starts_with(f)) {
        return 0;
    }
    match line.get(7..17).and_then(|level| level.iter().position(|b| *b == b':')) {
        Some(colon) if line.get(7 + colon + 1) == Some(&b' ') => 7 + colon + 2,
        _ => 0,
    }
}

/// `[ 1234.567890] `, also with who printed it, `[ T4761] `: milliseconds since boot, and the length.
pub(super) fn stamp(text: &[u8]) -> Option<(u64, usize)> {
    let inner = text.strip_prefix(b"[")?;
    let blanks = inner.iter().take_while(|b| **b == b' ').count();
    let (ms, length) = time::unix(&inner[blanks..])?;
    let is_stamp = inner.get(blanks..blanks + length)?.contains(&b'.');
    let mut end = 1 + blanks + length;
    if !is_stamp || text.get(end) != Some(&b']') {
        return None;
    }
    end += 1;
    // CONFIG_PRINTK_CALLER.
    if let Some(caller) = text[end..].strip_prefix(b"[") {
        let close = caller.iter().position(|b| *b == b']').filter(|n| *n < 16)?;
        end += close + 2;
    }
    (text.get(end) == Some(&b' ')).then_some(())?;
    Some((u64::try_from(ms).ok()?, end + 1))
}

/// What a message names, from its place in the line on; whether nothing else of it counts.
pub(super) fn message(line: &[u8], start: usize, when: When, found: &mut Vec<Mention>) -> bool {
    let text = line.get(start..).unwrap_or_default();
    let mut process = |at: usize| {
        if let Some((pid, length)) = leading_pid(line.get(at..).unwrap_or_default()) {
            found.push(Mention::new(What::Pid(pid), at..at + length, when));
        }
    };
    if text.starts_with(b"oom-kill:") {
        victim(text, start, when, found);
        return true;
    }
    let after = |word: &[u8]| memchr::memmem::find(text, word).map(|at| start + at + word.len());
    // A process's name in the line, 15 bytes at most, can't have these in it with a PID and what follows.
    let kills: [(&[u8], &[&[u8]]); 3] = [
        (b"Killed process ", &[b" (", b", UID "]),
        (b"Kill process ", &[b" ("]),
        (b"reaped process ", &[b" ("]),
    ];
    for (word, follows) in kills {
        let is_it = |at: &usize| {
            leading_pid(&line[*at..])
                .is_some_and(|(_, n)| follows.iter().any(|f| line[*at + n..].starts_with(f)))
        };
        if let Some(at) = after(word).filter(is_it) {
            process(at);
            return false;
        }
    }
    // dump_stack(): `CPU: 1 PID: 4761 Comm: sleep ...`, with the UID in between since 6.12.
    if text.starts_with(b"CPU: ")
        && let Some(at) = after(b" PID: ").filter(|_| after(b" Comm: ").is_some())
    {
        process(at);
        return false;
    }
    // The hung task detector: `INFO: task NAME:4761 blocked for more than`.
    if text.starts_with(b"INFO: task ")
        && let Some(end) = memchr::memmem::find(text, b" blocked for more than ")
        && let Some(colon) = memchr::memrchr(b':', &text[..end])
    {
        process(start + colon + 1);
        return false;
    }
    if text.starts_with(b"audit: type=")
        && let Some(stamp) = after(b"audit(")
    {
        super::audit::record(line, stamp, found);
        return false;
    }
    let task = task_row(text).or_else(|| named(text));
    if let Some(at) = task {
        process(start + at);
    }
    false
}

/// Whom a kill for want of memory hit: `...,task_memcg=/docker/x,task=sleep,pid=4761,uid=0`. The cgroups and
/// the name may have anything in them, keys too, so that the PID is the last one, and the cgroup counts
/// only if its end and its beginning can't be others. cpuset and oom_memcg are of whoever asked for
/// memory, and of the limit that was reached.
fn victim(text: &[u8], start: usize, when: When, found: &mut Vec<Mention>) {
    let Some(at) = memchr::memmem::rfind(text, b",pid=") else { return };
    let digits = at + 5;
    let Some((pid, length)) = leading_pid(&text[digits..]) else { return };
    let is_end = text[digits + length..]
        .strip_prefix(b",uid=")
        .is_some_and(|uid| !uid.is_empty() && uid.iter().all(u8::is_ascii_digit));
    if !is_end {
        return;
    }
    let place = start + digits..start + digits + length;
    found.push(Mention::new(What::Pid(pid), place, when));
    let only = |key: &[u8]| {
        let mut all = memchr::memmem::find_iter(&text[..at], key);
        all.next().filter(|_| all.next().is_none())
    };
    if let (Some(memcg), Some(task)) = (only(b",task_memcg="), only(b",task="))
        && memcg + 12 < task
    {
        let cgroup = start + memcg + 12..start + task;
        found.push(Mention::new(What::Cgroup, cgroup, when));
    }
}

/// A row of the list of tasks in a report: `[   4761]     0  4761 ...`.
fn task_row(text: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"[")?;
    let close = inner.iter().position(|b| *b == b']').filter(|n| *n < 16)?;
    let digits = inner[..close].iter().position(|b| *b != b' ')?;
    pid(&inner[digits..close])?;
    let rest: Vec<_> = words(&inner[close + 1..]).take(4).collect();
    let is_number = |word: &std::ops::Range<usize>| {
        inner[close + 1..][word.clone()].iter().all(u8::is_ascii_digit)
    };
    (rest.len() == 4 && rest.iter().all(is_number)).then_some(1 + digits)
}

/// `NAME[4761]: segfault at ...`, `traps: NAME[4761] general protection ...`.
fn named(text: &[u8]) -> Option<usize> {
    let (skipped, text) = match text.strip_prefix(b"traps: ") {
        Some(rest) => (7, rest),
        None => (0, text),
    };
    let near = &text[..text.len().min(64)];
    // A name may have such a number in it itself: of two nothing tells which is the one.
    let opens = memchr::memchr_iter(b'[', near).take_while(|open| *open <= 16);
    let mut all = opens.filter(|open| {
        let Some(close) = memchr::memchr(b']', &near[*open..]).map(|n| open + n) else {
            return false;
        };
        let follows = &text[close + 1..];
        let is_fault = (skipped == 0 && follows.starts_with(b": "))
            || (skipped > 0 && (follows.starts_with(b" ") || follows.starts_with(b": ")));
        *open > 0 && is_fault && pid(&near[open + 1..close]).is_some()
    });
    let open = all.next()?;
    all.next().is_none().then_some(skipped + open + 1)
}
