//! System-wide small files: `btime` of `/proc/stat`, `/proc/uptime`, `/proc/loadavg`, the boot id.

use super::decimal;
use crate::error::Malformed;

/// The boot time from `/proc/stat`, seconds since 1970.
///
/// # Errors
/// [`Malformed`] when there is no `btime` line with a number.
pub fn parse_btime(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut lines = bytes.split(|b| *b == b'\n');
    let value = lines.find_map(|l| l.strip_prefix(b"btime "));
    value.and_then(|v| decimal(v.trim_ascii())).ok_or(Malformed("no btime"))
}

/// The first number of `/proc/uptime`, in hundredths of a second.
///
/// # Errors
/// [`Malformed`] when it is not `SECONDS.HUNDREDTHS`.
pub fn parse_uptime(bytes: &[u8]) -> Result<u64, Malformed> {
    let bad = Malformed("bad uptime");
    let first = super::words(bytes.trim_ascii()).next().ok_or(bad)?;
    let dot = super::find(b'.', first).ok_or(bad)?;
    let (seconds, hundredths) = (decimal(&first[..dot]), decimal(&first[dot + 1..]));
    let hundredths = hundredths.filter(|h| *h < 100 && first.len() == dot + 3);
    let total = seconds.and_then(|s| s.checked_mul(100)).zip(hundredths);
    total.and_then(|(s, h)| s.checked_add(h)).ok_or(bad)
}

/// How many tasks there are, threads counted one by one: the second number of the fourth field of
/// `/proc/loadavg`.
///
/// # Errors
/// [`Malformed`] when the field is not `RUNNING/ALL`.
pub fn parse_task_count(bytes: &[u8]) -> Result<u64, Malformed> {
    let field = super::words(bytes.trim_ascii()).nth(3);
    let slash = field.and_then(|f| Some((f, super::find(b'/', f)?)));
    let both = slash.and_then(|(f, at)| Some((decimal(&f[..at])?, decimal(&f[at + 1..])?)));
    both.map(|(_, all)| all).ok_or(Malformed("loadavg has no number of tasks"))
}

/// Parses the PID that was given to a task last in the reader's PID namespace: the last field of
/// `/proc/loadavg`.
///
/// # Errors
/// When there is no number.
pub fn parse_newest_pid(bytes: &[u8]) -> Result<u32, Malformed> {
    let field = super::words(bytes.trim_ascii()).nth(4);
    field.and_then(super::decimal32).ok_or(Malformed("loadavg has no newest PID"))
}

/// The boot id: a lower-case UUID of 36 characters.
///
/// # Errors
/// [`Malformed`] when it is anything else.
pub fn parse_boot_id(bytes: &[u8]) -> Result<String, Malformed> {
    let text = bytes.trim_ascii();
    let well_formed = text.len() == 36
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(b),
        });
    if well_formed {
        Ok(String::from_utf8_lossy(text).into_owned())
    } else {
        Err(Malformed("not a boot id"))
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_boot_id, parse_btime, parse_newest_pid, parse_task_count, parse_uptime};

    #[test]
    fn reads_each_file() {
        assert_eq!(parse_btime(b"cpu 1 2\nbtime 1700000000\nprocesses 7\n"), Ok(1_700_000_000));
        assert_eq!(parse_uptime(b"350735.47 234388.90\n"), Ok(35_073_547));
        let loadavg = b"0.20 0.18 0.12 1/80 11206\n";
        assert_eq!((parse_task_count(loadavg), parse_newest_pid(loadavg)), (Ok(80), Ok(11206)));
        let id = "0f0a7b0e-8d5c-4f6e-9d56-4a3c2b1a0f9e";
        assert_eq!(parse_boot_id(format!("{id}\n").as_bytes()).as_deref(), Ok(id));
    }

    #[test]
    fn refuses_anything_else() {
        assert!(parse_btime(b"btime x\n").is_err());
        for bad in ["", "1", "1.", "1.5", "x.00", "1.234"] {
            assert!(parse_uptime(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "0.20 0.18 0.12", "0 0 0 80", "0 0 0 1/", "0 0 0 1/-8"] {
            assert!(parse_task_count(bad.as_bytes()).is_err(), "{bad}");
            assert!(parse_newest_pid(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_boot_id(b"\x1b[31m").is_err());
    }
}
