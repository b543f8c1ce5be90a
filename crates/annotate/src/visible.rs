//! What of a line shows on a terminal: its bytes without escape sequences.

/// Longest operating system command (a window title, a link) that is passed over, bytes.
const LONGEST_COMMAND: usize = 4096;
/// Change the set of characters, and show nothing.
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;
/// What ends a colour, as ncurses and everyone else writes it.
const RESETS: [&[u8]; 3] = [b"\x1b[m", b"\x1b[0m", b"\x1b(B"];

/// A line without its escape sequences, and where each byte stands in the line. The buffers are used
/// again for the next line.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    text: Vec<u8>,
    /// Where each byte of the text is; empty where the line has no escape sequence.
    places: Vec<u32>,
}

impl Visible {
    /// Takes a line of less than 4 GiB.
    pub(crate) fn set(&mut self, line: &[u8]) {
        self.text.clear();
        self.places.clear();
        if memchr::memchr(0x1b, line).is_none() {
            return self.text.extend_from_slice(line);
        }
        let mut at = 0;
        let mut draws = false;
        while at < line.len() {
            if line[at] == 0x1b {
                if line[at..].starts_with(b"\x1b(") {
                    draws = line.get(at + 2) == Some(&b'0');
                }
                at += sequence(&line[at..]);
            } else if matches!(line[at], SHIFT_OUT | SHIFT_IN) {
                at += 1;
            } else {
                self.text.push(if draws { drawn(line[at]) } else { line[at] });
                self.places.push(u32::try_from(at).unwrap_or(u32::MAX));
                at += 1;
            }
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The place in the line right after the text up to `end`, and after what ends its colour.
    pub(crate) fn after(&self, line: &[u8], end: usize) -> usize {
        if self.places.is_empty() {
            return end;
        }
        let mut place = match end.checked_sub(1).and_then(|last| self.places.get(last)) {
            Some(last) => *last as usize + 1,
            None => 0,
        };
        while let Some(reset) = RESETS.iter().find(|r| line[place..].starts_with(r)) {
            place += reset.len();
        }
        place
    }

    /// The place in the line right before the text from `start` on, and before its colour begins.
    pub(crate) fn before(&self, start: usize) -> usize {
        if self.places.is_empty() {
            return start;
        }
        let last = start.checked_sub(1).and_then(|last| self.places.get(last));
        last.map_or(0, |last| *last as usize + 1)
    }

    /// The place in the line of a byte of the text.
    pub(crate) fn at(&self, index: usize) -> usize {
        self.places.get(index).map_or(index, |place| *place as usize)
    }
}

/// What a letter draws in the VT100's set of lines, in ASCII as pstree has it.
fn drawn(byte: u8) -> u8 {
    match byte {
        b'q' => b'-',
        b'x' | b't' => b'|',
        b'm' => b'`',
        b'w' => b'+',
        other => other,
    }
}

/// The length of the escape sequence that begins here (ECMA-48), 1 at least.
fn sequence(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(b'[') => {
            let body = bytes[2..].iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
            let is_whole = bytes.get(2 + body).is_some_and(|b| matches!(b, 0x40..=0x7e));
            2 + body + usize::from(is_whole)
        }
        Some(b']') => {
            let body = &bytes[2..bytes.len().min(LONGEST_COMMAND)];
            match body.iter().position(|b| matches!(b, 0x07 | 0x1b)) {
                Some(end) if body[end] == 0x07 => 2 + end + 1,
                Some(end) => 2 + end + 1 + usize::from(body.get(end + 1) == Some(&b'\\')),
                None => 2,
            }
        }
        Some(b'(' | b')' | b'#') => bytes.len().min(3),
        Some(0x30..=0x7e) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::Visible;

    #[test]
    fn escapes_are_no_text() {
        let line = b"\x1b[1m  12\x1b[7m34\x1b[0m \x1b]0;title\x07web\x1b(B\x1b[m";
        let mut visible = Visible::default();
        visible.set(line);
        assert_eq!(visible.text(), b"  1234 web");
        // After the number and the end of its colour, before the blank.
        let place = visible.after(line, 6);
        assert_eq!(&line[place..=place], b" ");
        assert_eq!(visible.before(2), 6);
        assert_eq!(&line[visible.at(2)..=visible.at(2)], b"1");
        assert_eq!(visible.before(0), 0);
        assert_eq!(visible.after(line, 10), line.len());
        visible.set(b"plain");
        assert_eq!((visible.after(b"plain", 3), visible.before(3), visible.at(3)), (3, 3, 3));
    }

    #[test]
    fn unfinished_ones_hide_nothing_more() {
        let mut visible = Visible::default();
        for (line, text) in [
            (&b"\x1b"[..], &b""[..]),
            (b"\x1b[", b""),
            (b"\x1b[31", b""),
            (b"\x1b]title", b"title"),
            (b"\x1b]8;;x\x1b\\y", b"y"),
            (b"\x1b\xffa", b"\xffa"),
            (b"a\x1b=b", b"ab"),
            (b"\x1b(0\x0ftq\x1b(B", b"|-"),
            (b"a\x1b(0qwq\x1b(Bq", b"a-+-q"),
        ] {
            visible.set(line);
            assert_eq!(visible.text(), text, "{line:?}");
        }
    }
}
