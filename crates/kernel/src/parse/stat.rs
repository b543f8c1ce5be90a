//! `/proc/PID/stat` (proc_pid_stat(5)).

use bstr::BString;

use super::decimal;
use crate::error::Malformed;

/// `PF_KTHREAD` of the kernel's include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of `stat` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 1: the process id in the reader's PID namespace.
    pub pid: u32,
    /// Field 2 without its parentheses: up to 15 bytes for user processes, any byte but NUL.
    pub comm: BString,
    /// Field 3: the kernel's state letter.
    pub state: u8,
    /// Field 4: the parent; 0 when it lies outside the reader's PID namespace.
    pub ppid: u32,
    /// Field 6: the session leader.
    pub session: u32,
    /// Field 7: the controlling terminal's device number, 0 for none.
    pub tty_nr: i32,
    /// Field 9: the kernel's task flags.
    pub flags: u64,
    /// Fields 14 and 15, clock ticks.
    pub utime: u64,
    /// See [`Stat::utime`].
    pub stime: u64,
    /// Field 19, -20 to 19.
    pub nice: i32,
    /// Field 20.
    pub threads: u64,
    /// Field 22: start time after boot in clock ticks; with the PID it identifies a process.
    pub start_ticks: u64,
    /// Field 23, bytes.
    pub vsize: u64,
}

impl Stat {
    /// Whether the task is a kernel thread.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether the process has exited: a zombie, or on its way out of the table.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.has_exited() && self.threads <= 1
    }

    /// Whether the main thread has ended and others go on, as after pthread_exit(3) in `main`: ps shows
    /// `Zl`.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.has_exited() && self.threads > 1
    }

    fn has_exited(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Parses `stat`. The name ends at the *last* `)`, since it may itself hold any byte.
///
/// # Errors
/// [`Malformed`] names the first part that is not as the kernel writes it.
pub fn parse(bytes: &[u8]) -> Result<Stat, Malformed> {
    let open = super::find(b'(', bytes).ok_or(Malformed("stat has no name"))?;
    let close = super::find_last(b')', bytes).filter(|c| *c > open);
    let close = close.ok_or(Malformed("stat's name does not end"))?;
    let pid = bytes[..open].strip_suffix(b" ").and_then(super::decimal32);
    let pid = pid.ok_or(Malformed("stat's pid is no number"))?;
    let mut rest = super::words(bytes[close + 1..].trim_ascii());
    let mut next = |what| rest.next().ok_or(Malformed(what));
    let state = match next("stat's state is missing")? {
        [letter] if letter.is_ascii_alphabetic() => *letter,
        _ => return Err(Malformed("stat's state is no letter")),
    };
    let mut fields = [&b""[..]; 20]; // fields 4 to 23
    for slot in &mut fields {
        *slot = next("stat is cut short")?;
    }
    let unsigned = |n: usize| decimal(fields[n - 4]).ok_or(Malformed("stat holds a bad number"));
    let small = |n: usize| super::decimal32(fields[n - 4]);
    Ok(Stat {
        pid,
        comm: bytes[open + 1..close].into(),
        state,
        ppid: small(4).ok_or(Malformed("stat's ppid is no number"))?,
        session: small(6).unwrap_or(0), // -1 while the task is leaving the table
        tty_nr: signed(fields[7 - 4]).ok_or(Malformed("stat's tty is no number"))?,
        flags: unsigned(9)?,
        utime: unsigned(14)?,
        stime: unsigned(15)?,
        nice: signed(fields[19 - 4]).ok_or(Malformed("stat's nice is no number"))?,
        threads: unsigned(20)?,
        start_ticks: unsigned(22)?,
        vsize: unsigned(23)?,
    })
}

/// Field 22 alone, without an allocation.
#[must_use]
pub fn start_ticks(bytes: &[u8]) -> Option<u64> {
    let close = super::find_last(b')', bytes)?;
    // Field 3 is the first word after the name.
    super::words(bytes[close + 1..].trim_ascii()).nth(22 - 3).and_then(decimal)
}

/// A decimal number with an optional minus, in 32 bits.
fn signed(bytes: &[u8]) -> Option<i32> {
    let (negative, digits) = match bytes.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, bytes),
    };
    let n = i64::try_from(decimal(digits)?).ok()?;
    i32::try_from(if negative { -n } else { n }).ok()
}

#[cfg(test)]
mod tests {
    use super::{Stat, parse, start_ticks};

    const LINE: &[u8] = b"4761 (sleep) S 4740 4761 4761 34816 4761 4194560 105 0 0 0 7 3 0 0 20 \
-5 2 0 181243 1314816 221 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    fn with_name(name: &[u8]) -> Stat {
        let line: Vec<u8> = [&b"7 ("[..], name, &LINE[b"4761 (sleep".len()..]].concat();
        parse(&line).unwrap()
    }

    #[test]
    fn reads_every_used_field() {
        let stat = parse(LINE).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.state), (4761, 4740, b'S'));
        assert_eq!(stat.comm, "sleep");
        assert_eq!((stat.session, stat.tty_nr, stat.flags), (4761, 34816, 4_194_560));
        assert_eq!((stat.utime, stat.stime, stat.nice, stat.threads), (7, 3, -5, 2));
        assert_eq!((stat.start_ticks, stat.vsize), (181_243, 1_314_816));
        assert!(!stat.is_kernel_thread() && !stat.is_dead());
        assert_eq!(start_ticks(LINE), Some(181_243));
    }

    #[test]
    fn a_name_may_hold_anything() {
        for name in [&b") S 1 2 ("[..], b"", b"a)b", b"\n\x1b[31m", b"\xff\xfe", b"((("] {
            let stat = with_name(name);
            assert_eq!(stat.comm, name);
            assert_eq!((stat.state, stat.ppid), (b'S', 4740));
        }
    }

    #[test]
    fn refuses_what_is_cut_short_or_no_number() {
        for cut in 0..LINE.len() - 130 {
            assert!(parse(&LINE[..cut]).is_err(), "{cut}");
        }
        assert!(parse(b"x (a) S 1 1 1").is_err());
        assert!(
            parse(&LINE.iter().map(|b| if *b == b'S' { b'?' } else { *b }).collect::<Vec<_>>())
                .is_err()
        );
    }
}
