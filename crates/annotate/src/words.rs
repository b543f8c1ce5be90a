//! Words of a line: what stands between blanks.

use std::ops::Range;

use bstr::ByteSlice;
use whose_render::text::width;

/// Most PIDs that Linux can give (`PID_MAX_LIMIT` of the kernel's include/linux/threads.h).
const MOST_PIDS: u32 = 1 << 22;

/// The words of a line, by their places.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line[at..].iter().position(|b| !is_blank(*b))?;
        let length = line[start..].iter().position(|b| is_blank(*b));
        at = length.map_or(line.len(), |length| start + length);
        Some(start..at)
    })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A PID: decimal digits without a leading zero, at most the kernel's limit.
pub(crate) fn pid(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 7 || text[0] == b'0' {
        return None;
    }
    let mut number = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u32::from(byte - b'0');
    }
    (number <= MOST_PIDS).then_some(number)
}

/// The digits that a text begins with, as a PID, and how many they are.
pub(crate) fn leading_pid(text: &[u8]) -> Option<(u32, usize)> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    Some((pid(&text[..digits])?, digits))
}

/// The column of a terminal in which a place of a line stands.
pub(crate) fn column(line: &[u8], place: usize) -> usize {
    let before = &line[..place.min(line.len())];
    if before.is_ascii() { before.len() } else { width(&before.to_str_lossy()) }
}

/// The place in a line that stands in a column of a terminal; the line's end where it is shorter.
pub(crate) fn place(line: &[u8], column: usize) -> usize {
    if line.is_ascii() {
        return column.min(line.len());
    }
    let mut used = 0;
    for (start, _, c) in line.char_indices() {
        if used >= column {
            return start;
        }
        used += width(c.encode_utf8(&mut [0; 4]));
    }
    line.len()
}

/// The word that covers a place of a line.
pub(crate) fn word_at(line: &[u8], place: usize) -> Option<Range<usize>> {
    if line.get(place).is_none_or(|b| is_blank(*b)) {
        return None;
    }
    let start = line[..place].iter().rposition(|b| is_blank(*b)).map_or(0, |blank| blank + 1);
    let end = line[place..].iter().position(|b| is_blank(*b)).map_or(line.len(), |n| place + n);
    Some(start..end)
}

/// Whether a text stands in a line as a word of its own.
pub(crate) fn has_word(line: &[u8], word: &str) -> bool {
    words(line).any(|w| line[w] == *word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{column, leading_pid, pid, place, word_at, words};

    #[test]
    fn words_are_what_is_between_blanks() {
        let line = b"  a  bc\td";
        assert_eq!(words(line).collect::<Vec<_>>(), [2..3, 5..7, 8..9]);
        assert_eq!(words(b"").count() + words(b"   ").count(), 0);
        assert_eq!(word_at(line, 6), Some(5..7));
        assert_eq!(word_at(line, 4), None);
        assert_eq!(word_at(line, 99), None);
    }

    #[test]
    fn pids_are_small_numbers() {
        assert_eq!(pid(b"4761"), Some(4761));
        assert_eq!(pid(b"4194304"), Some(4_194_304));
        for none in [&b""[..], b"0", b"007", b"4194305", b"12345678", b"1.5", b"-1", b"1a"] {
            assert_eq!(pid(none), None, "{none:?}");
        }
        assert_eq!(leading_pid(b"12/x"), Some((12, 2)));
        assert_eq!(leading_pid(b"x"), None);
    }

    #[test]
    fn columns_are_a_terminals() {
        let line = "größe 日本 x".as_bytes();
        let x = line.len() - 1;
        assert_eq!(column(line, x), 11);
        assert_eq!(place(line, 11), x);
        assert_eq!(place(b"abc", 9), 3);
    }
}
