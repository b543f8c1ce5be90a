//! From bytes to what a terminal may be shown.

use std::fmt::Write as _;

use bstr::ByteSlice;
use unicode_width::UnicodeWidthChar;

/// Text that is safe on a terminal and in one line: control characters, escapes, invisible and
/// direction-changing characters and bytes that are no UTF-8 are written as escapes. A container
/// chooses its own names and arguments.
#[must_use]
pub fn sanitise(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_sanitised(&mut out, bytes);
    out
}

/// Adds the text that [`sanitise`] makes of bytes.
pub fn push_sanitised(out: &mut String, bytes: &[u8]) {
    let plain = bytes.iter().all(|b| matches!(b, b' '..=b'~'));
    if let (true, Ok(text)) = (plain, std::str::from_utf8(bytes)) {
        return out.push_str(text);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Adds a number.
pub fn push_decimal(out: &mut String, n: u64) {
    let _ = write!(out, "{n}");
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\\' => out.push('\\'),
        c if c.is_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if is_deceiving(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Characters that show nothing or change the direction of what follows: Unicode's format
/// characters, separators, fillers, variation selectors, tags and private use.
fn is_deceiving(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff
        | 0xffa0 | 0xfff0..=0xfffb | 0xe000..=0xf8ff | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
        | 0xe0000..=0x10ffff)
}

/// Columns a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.len();
    }
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text cut to `columns`, with `…` in place of what is cut off.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Arguments as one line a shell would take back: quoted where they hold anything but plain
/// characters. Safe on a terminal.
#[must_use]
pub fn command_line(args: &[impl AsRef<[u8]>]) -> String {
    let mut out = String::new();
    for arg in args {
        let arg = arg.as_ref();
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&sanitise(arg));
    }
    out
}

/// Bytes in powers of 1024, three digits at most: `884K`, `1.3M`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    let mut whole = n;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit > 0 && whole < 10 {
        return format!("{whole}.{}{}", rest * 10 / 1024, UNITS[unit]);
    }
    format!("{whole}{}", UNITS[unit])
}

/// A duration in ps's form: `[[DD-]HH:]MM:SS`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (m, s) = (seconds / 60 % 60, seconds % 60);
    let (d, h) = (seconds / 86_400, seconds / 3600 % 24);
    match (d, h) {
        (0, 0) => format!("{m:02}:{s:02}"),
        (0, h) => format!("{h:02}:{m:02}:{s:02}"),
        (d, h) => format!("{d}-{h:02}:{m:02}:{s:02}"),
    }
}

/// A duration in words, two units at most: `3 min`, `2 h 5 min`, `41 d 3 h`.
#[must_use]
pub fn ago(seconds: u64) -> String {
    let pair = |a: u64, unit: &str, b: u64, small: &str| match b {
        0 => format!("{a} {unit}"),
        b => format!("{a} {unit} {b} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => pair(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A moment as the contract writes it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::new(),
    }
}

/// Text for JSON: lossy where the bytes are no UTF-8; the flag says whether it is.
#[must_use]
pub fn lossy(bytes: &[u8]) -> (String, bool) {
    let text = bytes.to_str_lossy();
    let changed = text.as_bytes() != bytes;
    (text.into_owned(), changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, proptest};

    use super::{ago, bytes, cut, duration, lossy, sanitise, time, width};

    #[test]
    fn nothing_that_moves_the_cursor_gets_through() {
        assert_eq!(sanitise(b"a\x1b[31mb\nc\td\x07"), "a\\x1b[31mb\\nc\\td\\x07");
        assert_eq!(sanitise("x\u{202e}y\u{200b}\u{9b}".as_bytes()), "x\\u{202e}y\\u{200b}\\x9b");
        assert_eq!(sanitise(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(sanitise("größe 日本".as_bytes()), "größe 日本");
    }

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello", 4), "hel…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(width(&cut("日本語", 4)), 3);
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 1023, 1024, 905_216, 10 << 20].map(bytes),
            ["0", "1023", "1.0K", "884K", "10M"]
        );
        assert_eq!(
            [0, 61, 3661, 90_061].map(duration),
            ["00:00", "01:01", "01:01:01", "1-01:01:01"]
        );
        assert_eq!([5, 180, 7500, 3_553_200].map(ago), ["5 s", "3 min", "2 h 5 min", "41 d 3 h"]);
        assert_eq!(time(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_printable_line(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = sanitise(&input);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(width(&cut(&text, 10)) <= 10);
            prop_assert!(lossy(&input).1 == std::str::from_utf8(&input).is_err());
        }
    }
}
