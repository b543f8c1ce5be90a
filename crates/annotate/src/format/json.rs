//! JSON and NDJSON: objects that have a PID get a member more, right behind it.

use std::ops::Range;

use super::{Around, Claim, Format, Mention, Way, What, When};
use crate::time;
use crate::words::pid;

pub(super) struct Json;

/// Keys of a PID, in any case.
const PIDS: [&[u8]; 7] =
    [b"pid", b"_pid", b"tgid", b"process_id", b"processid", b"host_pid", b"proc.pid"];
/// Keys of a moment.
const TIMES: [&[u8]; 6] =
    [b"__realtime_timestamp", b"time", b"timestamp", b"ts", b"@timestamp", b"datetime"];
/// Keys of a cgroup's path.
const CGROUPS: [&[u8]; 3] = [b"_systemd_cgroup", b"cgroup", b"cgroup_path"];
/// The key that is added, and the one for objects that have such a member.
const KEYS: [&str; 2] = ["owner", "whose"];
/// Deepest nesting.
const DEPTH: usize = 64;

impl Format for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn line(&self, line: &[u8], around: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let start = line.iter().take_while(|b| b" \t,\x1e".contains(b)).count();
        match line.get(start) {
            Some(b'{' | b'[') => {
                let before = found.len();
                let mut reader = Reader { line, at: start, around, found };
                if reader.value(0).is_some() && reader.is_end() {
                    return Claim::Whole;
                }
                found.truncate(before);
                Claim::No
            }
            Some(b'"') => member(line, start, found),
            _ => Claim::No,
        }
    }
}

/// A line of an indented document: `"pid": 4761,` and nothing else.
fn member(line: &[u8], start: usize, found: &mut Vec<Mention>) -> Claim {
    let rest = &line[start + 1..];
    let Some(close) = memchr::memchr(b'"', rest) else { return Claim::No };
    if !PIDS.iter().any(|key| key.eq_ignore_ascii_case(&rest[..close])) {
        return Claim::No;
    }
    let skip =
        |at: usize| at + line[at.min(line.len())..].iter().take_while(|b| **b == b' ').count();
    let colon = skip(start + 1 + close + 1);
    if line.get(colon) != Some(&b':') {
        return Claim::No;
    }
    let value = skip(colon + 1);
    let end = line[value..]
        .iter()
        .position(|b| matches!(b, b',' | b' '))
        .map_or(line.len(), |n| value + n);
    let Some(number) = number(&line[value..end]) else { return Claim::No };
    // journald's records are of the past, and the moment stands in another line.
    let is_journal = rest[..close].eq_ignore_ascii_case(b"_pid");
    let when = if is_journal { When::Sometime } else { When::Now };
    if !line[end..].iter().all(|b| matches!(b, b',' | b' ')) {
        return Claim::No;
    }
    found.push(Mention { way: Way::Member(KEYS[0]), when, ..Mention::pid(number, value..end) });
    Claim::Whole
}

/// A number, or the text of one: journald writes all values as texts.
fn number(value: &[u8]) -> Option<u32> {
    let inner = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    pid(inner.unwrap_or(value))
}

/// What an object has, as far as it was read.
#[derive(Default)]
struct Object {
    pid: Option<(u32, Range<usize>)>,
    /// When it was so; `Sometime` by a moment that can't be read.
    time: Option<When>,
    boot: Option<bool>,
    /// With its quotes.
    cgroup: Option<Range<usize>>,
    has_owner: bool,
}

struct Reader<'l, 'a, 'f> {
    line: &'l [u8],
    at: usize,
    around: Around<'a>,
    found: &'f mut Vec<Mention>,
}

impl Reader<'_, '_, '_> {
    fn peek(&mut self) -> Option<u8> {
        while self.line.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
        self.line.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Nothing but commas between elements of a larger list is left.
    fn is_end(&mut self) -> bool {
        while self.peek() == Some(b',') {
            self.at += 1;
        }
        self.peek().is_none()
    }

    fn value(&mut self, depth: usize) -> Option<Range<usize>> {
        if depth > DEPTH {
            return None;
        }
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => self.string()?,
            _ => {
                let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                let length = self.line[start..].iter().take_while(|b| is_plain(b)).count();
                self.at += length;
                (length > 0).then_some(())?;
            }
        }
        Some(start..self.at)
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.line.get(self.at..)?)?;
            let escaped = self.line[self.at] == b'\\';
            self.at += if escaped { 2 } else { 1 };
            if !escaped {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take(b']').is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.take(b'{')?;
        let first = self.found.len();
        let mut object = Object::default();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.peek()?;
            let start = self.at;
            self.string()?;
            let key = start + 1..self.at - 1;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            self.note(&mut object, &self.line[key], value);
            if self.take(b'}').is_some() {
                break;
            }
            self.take(b',')?;
        }
        self.tell(object, first);
        Some(())
    }

    fn note(&self, object: &mut Object, key: &[u8], value: Range<usize>) {
        let is = |keys: &[&[u8]]| keys.iter().any(|k| k.eq_ignore_ascii_case(key));
        let text = &self.line[value.clone()];
        let inner = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
        if object.pid.is_none() && is(&PIDS) {
            object.pid = number(text).map(|pid| (pid, value));
        } else if is(&TIMES) {
            object.time = match (object.time, self.moment(inner.unwrap_or(text))) {
                // Of several the earliest one counts: whoever wrote a log's message may have added another.
                (Some(When::At(known)), Some(at)) => Some(When::At(known.min(at))),
                (_, Some(at)) => Some(When::At(at)),
                (known, None) => known.or(Some(When::Sometime)),
            };
        } else if is(&[b"_boot_id"]) {
            object.boot = inner.map(|id| (self.around.is_this_boot)(id));
        } else if is(&CGROUPS) && inner.is_some() {
            object.cgroup = Some(value);
        }
        object.has_owner |= key == KEYS[0].as_bytes();
    }

    /// Seconds, or milli-, micro- or nanoseconds, by how many digits they have; or a date.
    fn moment(&self, text: &[u8]) -> Option<i64> {
        let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits >= 9 && (digits == text.len() || text[digits] == b'.') {
            // Milliseconds since 1970 have 13 digits until 2286.
            return if digits < 13 {
                time::unix(text).map(|(at, _)| at)
            } else {
                time::unix(&text[..13]).map(|(at, _)| at / 1000)
            };
        }
        time::iso(text, self.around.zone).map(|(at, _)| at)
    }

    /// An object was read; what is in it was found since `first`.
    fn tell(&mut self, object: Object, first: usize) {
        let when = match (object.boot, object.time) {
            (Some(false), _) => When::Ended,
            (_, time) => time.unwrap_or(When::Now),
        };
        // What says no moment itself is of the moment of what it is part of.
        let is_open = |m: &&mut Mention| m.when == When::Now || when == When::Ended;
        for inner in self.found[first..].iter_mut().filter(is_open) {
            inner.when = when;
        }
        let Some((pid, at)) = object.pid else { return };
        let way = Way::Member(KEYS[usize::from(object.has_owner)]);
        // The text as it was before it became a member.
        let cgroup = object.cgroup.and_then(|at| serde_json::from_slice(&self.line[at]).ok());
        self.found.push(Mention { way, cgroup, ..Mention::new(What::Pid(pid), at, when) });
    }
}
