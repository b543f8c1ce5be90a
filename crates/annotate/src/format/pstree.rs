//! `pstree -p`, with the signs of every locale, and with `-a`. Other lines have such signs and brackets too: a
//! process only counts when it is called so.

use super::{Around, Claim, Format, Mention, What, When};
use crate::words::leading_pid;

pub(super) struct Pstree;

/// The signs between processes, in UTF-8, VT100 and ASCII.
const SIGNS: [&str; 10] = ["├─", "└─", "─┬─", "───", "│", "|-", "`-", "-+-", "---", "|"];

impl Format for Pstree {
    fn name(&self) -> &'static str {
        "pstree"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let before = found.len();
        let mut at = signs(line, 0);
        while let Some((mention, end)) = node(line, at) {
            found.push(mention);
            let next = signs(line, end);
            if next == end || line[end] == b' ' {
                // The end, or the arguments of -a.
                if end == line.len() || line[end] == b' ' || line[end] == b',' {
                    return Claim::Shared;
                }
                break;
            }
            at = next;
        }
        found.truncate(before);
        Claim::No
    }
}

/// The end of the signs and blanks that begin here.
fn signs(line: &[u8], mut at: usize) -> usize {
    loop {
        let rest = &line[at.min(line.len())..];
        let sign = SIGNS.iter().find(|sign| rest.starts_with(sign.as_bytes()));
        match (sign, rest.first()) {
            (Some(sign), _) => at += sign.len(),
            (None, Some(b' ')) => at += 1,
            _ => return at,
        }
    }
}

/// `NAME(4761)`, of a thread `{NAME}(4761)`, or with -a `NAME,4761`: the mention, the end.
fn node(line: &[u8], at: usize) -> Option<(Mention, usize)> {
    let rest = line.get(at..)?;
    // A name has 15 bytes at most, each of which may be an escape of four; threads have braces.
    let near = &rest[..rest.len().min(80)];
    for (open, byte) in near.iter().enumerate().filter(|(_, b)| matches!(b, b'(' | b',')) {
        let digits = at + open + 1;
        let Some((pid, length)) = leading_pid(&line[digits..]) else { continue };
        let end = digits + length;
        let closes = match byte {
            // With -u, -g and the like more comes behind the PID.
            b'(' => match line.get(end) {
                Some(b')') => end + 1,
                Some(b',') => end + 1 + memchr::memchr(b')', &line[end..])?,
                _ => continue,
            },
            _ if matches!(line.get(end), None | Some(b' ' | b',')) => end,
            _ => continue,
        };
        if open == 0 {
            return None;
        }
        let is_thread = open > 2 && near[0] == b'{' && near[open - 1] == b'}';
        let name = if is_thread { at + 1..at + open - 1 } else { at..at + open };
        return Some((Mention::new(What::Comm(pid, name), digits..end, When::Now), closes));
    }
    None
}
