//! `systemd-cgtop -b`, which writes no header.

use super::{Around, Claim, Format, Mention, What, When};
use crate::words::words;

pub(super) struct Cgtop;

/// Columns behind the path: tasks, CPU, memory, input, output.
const BEHIND: usize = 5;

impl Format for Cgtop {
    fn name(&self) -> &'static str {
        "systemd-cgtop"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        match path(line) {
            Some(at) => {
                found.push(Mention::new(What::Cgroup, at, When::Now));
                Claim::Whole
            }
            None => Claim::No,
        }
    }
}

/// The path, which may have blanks in it: what is before the five columns of figures.
fn path(line: &[u8]) -> Option<std::ops::Range<usize>> {
    if line.first() != Some(&b'/') {
        return None;
    }
    let all: Vec<_> = words(line).collect();
    let last = all.len().checked_sub(BEHIND + 1)?;
    let is = |word: &std::ops::Range<usize>, units: &[u8]| {
        let text = &line[word.clone()];
        let figure = text.strip_suffix(units).unwrap_or(text);
        let figure = match figure.split_last() {
            Some((unit, figure)) if units == b"B" && b"KMGTPEB".contains(unit) => figure,
            _ => figure,
        };
        let digit = |b: &u8| b.is_ascii_digit() || *b == b'.';
        text == b"-" || (!figure.is_empty() && figure.iter().all(digit))
    };
    let [tasks, cpu, memory, input, output] = &all[last + 1..] else { return None };
    let fits =
        is(tasks, b"") && is(cpu, b"") && [memory, input, output].iter().all(|w| is(w, b"B"));
    fits.then(|| all[0].start..all[last].end)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn paths_may_have_blanks() {
        assert_eq!(
            path(b"/docker/0123           3    0.1     1.2M        -        -"),
            Some(0..12)
        );
        assert_eq!(path(b"/a b  3  -  316.0K  0B 4.0M"), Some(0..4));
        for line in [&b"/usr/bin/a 1 2 3 4 x"[..], b"/a - - -", b"a - - - - -", b"/a b c 1 2 3"] {
            assert_eq!(path(line), None);
        }
    }
}
