//! `/proc/PID/cmdline` (proc_pid_cmdline(5)).

use bstr::BString;

/// Splits the arguments. Each ends with a NUL; a last one without it (a program that wrote over
/// its arguments) counts too. Trailing padding of NULs, left by programs that shorten their
/// title, is one end and not empty arguments; an argument that really is empty keeps its place.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<BString> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let body = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    // Two NULs and more at the end: padding, unless they are all there is.
    let trimmed = body.trim_end_with_nul();
    let padded = body.len() - trimmed.len();
    let body = if padded > 1 { trimmed } else { body };
    body.split(|b| *b == 0).map(BString::from).collect()
}

trait TrimNul {
    fn trim_end_with_nul(&self) -> &[u8];
}

impl TrimNul for [u8] {
    fn trim_end_with_nul(&self) -> &[u8] {
        let end = self.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        &self[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn arguments_keep_their_bytes() {
        assert_eq!(parse(b"sleep\x0010\0"), ["sleep", "10"]);
        assert_eq!(parse(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(parse(b"echo\0\0"), ["echo", ""]);
        assert_eq!(parse(b"x\n\x1b[m\xff\0")[0], b"x\n\x1b[m\xff"[..]);
    }

    #[test]
    fn titles_and_their_padding_are_one_argument() {
        assert_eq!(parse(b"nginx: worker process"), ["nginx: worker process"]);
        assert_eq!(parse(b"postgres: idle\0\0\0\0\0"), ["postgres: idle"]);
        assert!(parse(b"").is_empty());
        assert_eq!(parse(b"\0"), [""]);
    }
}
