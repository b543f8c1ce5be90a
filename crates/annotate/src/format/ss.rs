//! `ss -p` of iproute2.

use std::ops::Range;

use super::{Around, Claim, Format, Mention};
use crate::words::{leading_pid, words};

pub(super) struct Ss;

/// What the list of a socket's users begins with.
const USERS: &[u8] = b"users:((";
/// Longest context of a security module that is looked at, bytes.
const LONGEST: usize = 512;
/// Bytes of a process's name, at most (`TASK_COMM_LEN` of the kernel's include/linux/sched.h, less the end);
/// and where that leaves no way to read a list, as long as one may be that was made longer.
const NAMES: [usize; 2] = [15, 64];

impl Format for Ss {
    fn name(&self) -> &'static str {
        "ss"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        // Most lines have no bracket, which is sooner known.
        memchr::memchr(b'(', line).map_or(Claim::No, |_| processes(line, found))
    }
}

/// Whom the lists of a line name.
fn processes(line: &[u8], found: &mut Vec<Mention>) -> Claim {
    let mut lists = memchr::memmem::find_iter(line, USERS).map(|at| at + USERS.len() - 1);
    let Some(first) = lists.next() else { return Claim::No };
    if let Some((users, end)) = users(line, first)
        // The path of a socket may look like such a list. A number follows it, and of two nothing
        // tells which is the one.
        && lists.all(|at| at < end)
        && !words(&line[end..]).any(|word| line[end..][word].iter().all(u8::is_ascii_digit))
    {
        found.extend(users.into_iter().map(|(pid, at)| Mention::pid(pid, at)));
    }
    Claim::Shared
}

/// A process, and where its PID stands.
type User = (u32, Range<usize>);

/// `("sshd",pid=761,fd=3),(...))`, from the first bracket on, and where the list ends. A name may have
/// anything in it, so that an end of a name counts only where the rest of the list is one too. `None`
/// when it can be read in two ways.
fn users(line: &[u8], start: usize) -> Option<(Vec<User>, usize)> {
    let mut ends: Vec<End> = Vec::new();
    for quote in memchr::memmem::find_iter(&line[start..], b"\",pid=") {
        ends.extend(End::at(line, start + quote));
    }
    for longest in NAMES {
        let (ways, mut at) = match read(&ends, start, longest) {
            (ways, (Ways::One, first)) => (ways, first),
            (_, (Ways::None, _)) => continue,
            (_, (Ways::Several, _)) => return None,
        };
        let mut found = Vec::new();
        let mut close = start;
        while let Some(end) = ends.get(at) {
            found.push((end.pid, end.digits.clone()));
            close = end.close;
            at = ways[at].1;
        }
        return Some((found, close));
    }
    None
}

/// In how many ways a list goes on behind each end, and by which one next; and how it begins.
fn read(ends: &[End], start: usize, longest: usize) -> (Vec<(Ways, usize)>, (Ways, usize)) {
    let mut ways: Vec<(Ways, usize)> = vec![(Ways::None, 0); ends.len()];
    for at in (0..ends.len()).rev() {
        ways[at] = match ends[at].next {
            Some(next) => goes_on(ends, &ways, at + 1, next, longest),
            None => (Ways::One, ends.len()),
        };
    }
    let first = goes_on(ends, &ways, 0, start, longest);
    (ways, first)
}

/// In how many ways a list can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    None,
    One,
    Several,
}

/// The ways of a list from the bracket of one of its processes on, and which end that process has. Only
/// the ends from `first` on are behind it.
fn goes_on(
    ends: &[End],
    ways: &[(Ways, usize)],
    first: usize,
    bracket: usize,
    longest: usize,
) -> (Ways, usize) {
    // `("` comes before the name.
    let name = bracket + 2;
    let near = ends[first..].iter().take_while(|end| end.quote <= name + longest);
    let mut found = (Ways::None, 0);
    for at in near.enumerate().filter(|(_, end)| end.quote >= name).map(|(n, _)| first + n) {
        found = match (found.0, ways[at].0) {
            (_, Ways::None) => found,
            (Ways::None, Ways::One) => (Ways::One, at),
            _ => (Ways::Several, at),
        };
    }
    found
}

/// What comes behind the name of one process.
struct End {
    quote: usize,
    pid: u32,
    digits: Range<usize>,
    close: usize,
    /// Where another process follows.
    next: Option<usize>,
}

impl End {
    /// `",pid=761,fd=3)` with a thread's number and contexts in between, and then what may follow.
    fn at(line: &[u8], quote: usize) -> Option<Self> {
        let start = quote + 6;
        let (pid, length) = leading_pid(line.get(start..)?)?;
        let digits = start..start + length;
        let mut at = digits.end;
        if let Some(length) = number(&line[at..], b",tid=") {
            at += length;
        }
        let near = |at: usize| &line[at..line.len().min(at + LONGEST)];
        if line[at..].starts_with(b",proc_ctx=") {
            at += memchr::memmem::find(near(at), b",fd=")?;
        }
        at += number(&line[at..], b",fd=")?;
        if line[at..].starts_with(b",sock_ctx=") {
            at += memchr::memchr(b')', near(at))?;
        }
        let is_plain = |b: &u8| !b"\"()".contains(b);
        if !line[digits.end..at].iter().all(is_plain) {
            return None;
        }
        let rest = line[at..].strip_prefix(b")")?;
        let close = at + 1;
        let next = rest.starts_with(b",(\"").then_some(close + 1);
        let is_last = rest.first() == Some(&b')') && matches!(rest.get(1), None | Some(b' '));
        (next.is_some() || is_last).then_some(Self { quote, pid, digits, close, next })
    }
}

/// The length of a key and its number.
fn number(text: &[u8], key: &[u8]) -> Option<usize> {
    let digits = text.strip_prefix(key)?.iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0).then_some(key.len() + digits)
}

#[cfg(test)]
mod tests {
    use super::users;

    fn pids(list: &str) -> Option<Vec<u32>> {
        let (found, end) = users(list.as_bytes(), 0)?;
        assert_eq!(end, list.len() - 1);
        Some(found.into_iter().map(|(pid, _)| pid).collect())
    }

    #[test]
    fn names_say_nothing() {
        for (list, expected) in [
            (r#"("a",pid=12,fd=3),("b(",pid=34,fd=4))"#, Some(vec![12, 34])),
            (r#"("a",pid=99999,fd=3",pid=4761,fd=3))"#, Some(vec![4761])),
            (r#"("a",pid=9,fd=3)",pid=4761,fd=3))"#, Some(vec![4761])),
            (r#"("",pid=9,fd=3),(",pid=4761,fd=3),("b",pid=5,fd=3))"#, Some(vec![4761, 5])),
            (r#"("a name too long to be",pid=4761,fd=3))"#, Some(vec![4761])),
            (r#"("a name too long",pid=9,fd=3),("b",pid=4,fd=3))"#, Some(vec![9, 4])),
            (
                r#"("a",pid=1,fd=3",pid=47,fd=3),("",pid=2,fd=3),(",pid=48,fd=3))"#,
                Some(vec![47, 48]),
            ),
            (r#"("a",pid=12,tid=13,fd=3))"#, Some(vec![12])),
            (r#"("a",pid=12,proc_ctx=a:b:s0:c1,c2,fd=3,sock_ctx=a:b:s0:c1,c2))"#, Some(vec![12])),
            (r#"("a",pid=12,proc_ctx="b",pid=4,fd=3))"#, Some(vec![4])),
            (r#"("a",pid=12,fd=3"#, None),
            (r#"("a",pid=12,fd=x))"#, None),
            (r#"("a",pid=x))"#, None),
            ("(", None),
        ] {
            assert_eq!(pids(list), expected, "{list}");
        }
    }
}
